from __future__ import annotations

import numpy as np

from haops.checkers.models import Judged, Model, judge
from haops.history.record import NIL, Kind, Outcome, read_back

from ...histories import history, op

SEEN = history(
    op(1, key=1001),
    op(2, key=2001),
    op(3, key=3001, outcome=Outcome.INFO),
    op(4, key=4001, outcome=Outcome.FAIL),
    op(5, key=7, value=1),  # a register
    op(6, key=7, value=2),
)
ELEMENTS = np.array([1001, 2001, 3001, 4001])


def test_a_drills_history_is_judged_as_a_set_by_the_look_afterwards() -> None:
    assert judge(read_back(SEEN, ELEMENTS, {1001, 2001, 3001}), Model.SET).verdict is Judged.VALID
    lost = judge(read_back(SEEN, ELEMENTS, {1001}), Model.SET)
    assert lost.verdict is Judged.VIOLATED
    assert [f.text for f in lost.findings if f.breach] == ["1 elements are lost: 2001"]
    back = judge(read_back(SEEN, ELEMENTS, {1001, 2001, 4001}), Model.SET)
    assert [f.text for f in back.findings if f.breach] == [
        "1 elements are there although adding them had failed: 4001"
    ]


def test_without_a_look_at_every_element_a_loss_cannot_be_told() -> None:
    assert judge(SEEN, Model.SET).verdict is Judged.UNKNOWN
    assert judge(read_back(SEEN, ELEMENTS[1:], {2001}), Model.SET).verdict is Judged.UNKNOWN
    early = history(op(0, key=1001, kind=Kind.READ, value=NIL), op(1, key=1001))
    assert judge(early, Model.SET).verdict is Judged.UNKNOWN


def test_the_same_look_tells_the_register_checker_of_a_loss() -> None:
    assert judge(read_back(SEEN, ELEMENTS, {1001, 2001}), Model.REGISTER).verdict is Judged.VALID
    assert judge(read_back(SEEN, ELEMENTS, {1001}), Model.REGISTER).verdict is Judged.VIOLATED

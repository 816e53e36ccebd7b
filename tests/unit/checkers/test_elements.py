from __future__ import annotations

from collections.abc import Collection

from hypothesis import given
from hypothesis import strategies as st

from haops.checkers.elements import Elements, check_elements
from haops.history.record import NIL, History, Kind, Outcome

from ...histories import history, op

keys = st.sets(st.integers(0, 10**12), max_size=60)


def writes(ok: Collection[int], info: Collection[int] = (), fail: Collection[int] = ()) -> History:
    rows = (
        [(k, Outcome.OK) for k in ok] + [(k, Outcome.INFO) for k in info] + [(k, Outcome.FAIL) for k in fail]
    )
    return history(*(op(i, key=key, outcome=outcome) for i, (key, outcome) in enumerate(rows)))


@given(keys, st.data())
def test_every_planted_loss_is_found_and_none_is_invented(acked: set[int], data: st.DataObject) -> None:
    planted = data.draw(st.sets(st.sampled_from(sorted(acked)))) if acked else set()
    found = check_elements(writes(acked), acked - planted)
    assert found.lost == tuple(sorted(planted))
    assert found.acked == len(acked)
    assert (found.resurrected, found.duplicated, found.unknown) == ((), (), 0)


@given(keys, st.data())
def test_each_write_is_judged_by_what_its_client_was_told(all_keys: set[int], data: st.DataObject) -> None:
    told = {k: data.draw(st.sampled_from([Outcome.OK, Outcome.INFO, Outcome.FAIL])) for k in sorted(all_keys)}
    there = data.draw(st.sets(st.sampled_from(sorted(all_keys)))) if all_keys else set()
    ok, info, fail = (
        {k for k, o in told.items() if o is wanted} for wanted in (Outcome.OK, Outcome.INFO, Outcome.FAIL)
    )
    assert check_elements(writes(ok, info, fail), there) == Elements(
        acked=len(ok),
        lost=tuple(sorted(ok - there)),
        unknown=len(info),
        appeared=len(info & there),
        resurrected=tuple(sorted(fail & there)),
        duplicated=(),
        missed=0,
    )


def test_an_unknown_write_is_never_a_loss_whatever_became_of_it() -> None:
    for there in (set(), {1}):
        found = check_elements(writes(set(), info={1}), there)
        assert (found.lost, found.unknown, found.appeared) == ((), 1, len(there))


def test_a_failed_write_that_is_there_is_told() -> None:
    assert check_elements(writes(set(), fail={1, 2}), {2}).resurrected == (2,)


def test_a_key_that_was_acknowledged_twice_is_told_and_counted_once() -> None:
    found = check_elements(history(op(1, key=5), op(2, key=5), op(3, key=6)), {5, 6})
    assert (found.acked, found.duplicated, found.lost) == (2, (5,), ())


def test_reads_that_missed_are_counted_and_reads_are_no_writes() -> None:
    seen = history(
        op(1, key=1),
        op(2, key=1, kind=Kind.READ, value=NIL),
        op(3, key=9, kind=Kind.READ),
        op(4, key=8, kind=Kind.READ, outcome=Outcome.FAIL),
    )
    found = check_elements(seen, {1, 8})
    assert (found.acked, found.lost, found.missed, found.resurrected) == (1, (), 1, ())


def test_keys_that_nobody_wrote_are_not_judged() -> None:
    assert check_elements(writes({1}), {1, 99}).lost == ()


def test_an_empty_history_has_no_findings() -> None:
    assert check_elements(history(), set()) == Elements(0, (), 0, 0, (), (), 0)

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.checkers.elements import Elements
from haops.drills.result import Budget, DrillVerdict, combine
from haops.drills.verdict import Figures, judge

CLEAN = Elements(acked=1000, lost=(), unknown=3, appeared=1, resurrected=(), duplicated=(), missed=0)
GOOD = Figures(
    write_outage_ms=100,
    read_outage_ms=50,
    reads=500,
    elements=CLEAN,
    harness_lag_ms=1,
    offered_ops=1000,
    sent_ops=999,
    done_before=1000,
    failed_before=0,
    rejoined=True,
)
BUDGET = Budget(write_outage_ms=200, read_outage_ms=200, lost=0, harness_lag_ms=25)

LOSS = {"elements": replace(CLEAN, lost=(7,))}
RESURRECTED = {"elements": replace(CLEAN, resurrected=(7,))}
LAG = {"harness_lag_ms": 25.1}
SLOW = {"sent_ops": 949}
UNSTEADY = {"failed_before": 11}
OVERRUN = {"write_outage_ms": 200.5}
READ_OVERRUN = {"read_outage_ms": 201.0}
NEVER_BACK = {"write_outage_ms": None}
NOT_REJOINED = {"rejoined": False}

LOST = "1 acknowledged writes are lost; the budget is 0"
BEHIND = "the harness fell behind: p99 lag 25.1 ms, allowed 25 ms"
OUT = "writes were out for 200 ms; the budget is 200 ms"
LATE = "the cluster was not healthy again in time"

PASS, FAIL, UNKNOWN = DrillVerdict.PASS, DrillVerdict.FAIL, DrillVerdict.UNKNOWN


@pytest.mark.parametrize(
    ("changes", "verdict", "reasons"),
    [
        ([], PASS, []),
        ([LOSS], FAIL, [LOST]),
        ([RESURRECTED], FAIL, ["1 writes that had failed are there all the same"]),
        ([LAG], UNKNOWN, [BEHIND]),
        ([SLOW], UNKNOWN, ["only 949 of 1000 operations/s were done before the fault"]),
        ([UNSTEADY], UNKNOWN, ["11 of 1000 operations failed before the fault: no steady state"]),
        ([OVERRUN], FAIL, [OUT]),
        ([READ_OVERRUN], FAIL, ["reads were out for 201 ms; the budget is 200 ms"]),
        ([NEVER_BACK], FAIL, ["writes did not come back"]),
        ([NOT_REJOINED], FAIL, [LATE]),
        # What is certain beats doubt, and keeps the doubts as reasons; doubt hides an overrun.
        ([LOSS, LAG], FAIL, [LOST, BEHIND]),
        ([LOSS, OVERRUN], FAIL, [LOST, OUT]),
        ([LAG, OVERRUN], UNKNOWN, [BEHIND]),
        ([SLOW, NOT_REJOINED], FAIL, [LATE, "only 949 of 1000 operations/s were done before the fault"]),
        ([OVERRUN, NOT_REJOINED], FAIL, [LATE, OUT]),
    ],
)  # fmt: skip
def test_the_truth_table(changes: list[dict[str, object]], verdict: DrillVerdict, reasons: list[str]) -> None:
    figures = GOOD
    for change in changes:
        figures = replace(figures, **change)  # type: ignore[arg-type]
    assert judge(figures, BUDGET) == (verdict, tuple(reasons))


@pytest.mark.parametrize(("lost", "verdict"), [(0, PASS), (2, PASS), (3, FAIL)])
def test_losses_within_the_budget_pass(lost: int, verdict: DrillVerdict) -> None:
    figures = replace(GOOD, elements=replace(CLEAN, lost=tuple(range(lost))))
    assert judge(figures, replace(BUDGET, lost=2))[0] is verdict


def test_what_has_no_limit_is_not_judged_but_must_come_back() -> None:
    free = Budget(None, None, None, 25)
    figures = replace(GOOD, write_outage_ms=1e9, elements=replace(CLEAN, lost=(1, 2, 3)))
    assert judge(figures, free) == (PASS, ())
    assert judge(replace(figures, read_outage_ms=None), free) == (FAIL, ("reads did not come back",))


def test_a_load_without_reads_has_none_to_come_back() -> None:
    assert judge(replace(GOOD, reads=0, read_outage_ms=None), BUDGET) == (PASS, ())


def test_figures_exactly_on_their_limit_pass() -> None:
    edge = replace(
        GOOD, write_outage_ms=200, read_outage_ms=200, harness_lag_ms=25, sent_ops=950, failed_before=10
    )
    assert judge(edge, BUDGET) == (PASS, ())


figures = st.builds(
    Figures,
    write_outage_ms=st.none() | st.floats(0, 1000),
    read_outage_ms=st.none() | st.floats(0, 1000),
    reads=st.integers(0, 500),
    elements=st.builds(
        Elements,
        acked=st.integers(0, 1000),
        lost=st.lists(st.integers(), max_size=3).map(tuple),
        unknown=st.just(0),
        appeared=st.just(0),
        resurrected=st.lists(st.integers(), max_size=1).map(tuple),
        duplicated=st.just(()),
        missed=st.just(0),
    ),
    harness_lag_ms=st.floats(0, 50),
    offered_ops=st.just(1000.0),
    sent_ops=st.floats(900, 1000),
    done_before=st.integers(1, 1000),
    failed_before=st.integers(0, 20),
    rejoined=st.booleans(),
)


@given(figures)
def test_a_pass_has_no_reasons_and_everything_else_has_some(given_figures: Figures) -> None:
    verdict, reasons = judge(given_figures, BUDGET)
    assert (verdict is PASS) == (not reasons)
    if given_figures.elements.lost or given_figures.elements.resurrected:
        assert verdict is FAIL


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], UNKNOWN),
        ([PASS], PASS),
        ([PASS, PASS], PASS),
        ([PASS, UNKNOWN], UNKNOWN),
        ([PASS, UNKNOWN, FAIL], FAIL),
        ([FAIL, PASS], FAIL),
    ],
)
def test_a_failure_outweighs_doubt_and_doubt_outweighs_a_pass(
    verdicts: list[DrillVerdict], expected: DrillVerdict
) -> None:
    assert combine(verdicts) is expected

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haops.faults.catalogue import FaultKind
from haops.matrix.cells import CellTrial, Matrix, Recovery
from haops.matrix.diff import (
    Change,
    Judgement,
    Scale,
    design_effect,
    diff,
    difference_of_shares,
    wilson,
)
from haops.matrix.summary import Share

from ..report import matrix_fixture

COUNTS = st.lists(
    st.integers(1, 5_000).flatmap(lambda whole: st.tuples(st.integers(0, whole), st.just(whole))),
    min_size=1,
    max_size=6,
)


def made(trials: int, change: Callable[[CellTrial], CellTrial] = lambda t: t, seed: int = 5) -> Matrix:
    """A matrix of the first store's first mode, its trials changed."""
    full = matrix_fixture.matrix(trials, seed)
    cells = [c for c in full.cells if c.key.mode == "async"]
    return replace(full, cells=tuple(replace(c, trials=tuple(map(change, c.trials))) for c in cells))


def found(a: Matrix, b: Matrix, figure: str, fault: FaultKind = FaultKind.KILL) -> Change:
    return next(c for c in diff(a, b) if c.figure == figure and c.key.fault is fault)


def steady(t: CellTrial) -> CellTrial:
    """Trials that agree within a few percent."""
    total = 1_000.0 + 10 * t.number
    return replace(t, write_recovery=Recovery(total), write=replace(t.write, p50_ms=1 + t.number / 100))


def slower(factor: float) -> Callable[[CellTrial], CellTrial]:
    def change(t: CellTrial) -> CellTrial:
        calm = steady(t)
        return replace(calm, write_recovery=Recovery((calm.write_recovery.total_ms or 0.0) * factor))

    return change


@given(st.integers(1, 6), st.integers(0, 50))
@settings(max_examples=12, deadline=None)
def test_a_matrix_has_not_changed_against_itself(trials: int, seed: int) -> None:
    matrix = matrix_fixture.matrix(trials, seed)
    changes = diff(matrix, matrix)
    assert changes
    assert {c.judgement for c in changes} <= {Judgement.NO_CHANGE, Judgement.CANNOT_TELL}


@given(st.integers(3, 6), st.integers(0, 50), st.integers(0, 50))
@settings(max_examples=8, deadline=None)
def test_no_interval_is_upside_down_or_not_a_number(trials: int, one: int, two: int) -> None:
    for change in diff(matrix_fixture.matrix(trials, one), matrix_fixture.matrix(trials, two)):
        if change.low is not None and change.high is not None:
            assert change.low <= change.high
            assert not math.isnan(change.low)
            assert not math.isnan(change.high)


def test_the_same_runs_always_give_the_same_verdicts() -> None:
    a, b = made(4), made(4, seed=9)
    assert diff(a, b) == diff(a, b)


def test_a_cells_verdict_does_not_depend_on_the_other_cells() -> None:
    a, b = matrix_fixture.matrix(3), matrix_fixture.matrix(3, 9)
    alone = diff(replace(a, cells=a.cells[1:2]), b)
    assert alone == tuple(c for c in diff(a, b) if c.key == a.cells[1].key)


@pytest.mark.parametrize(
    ("factor", "judgement"),
    [
        (2.0, Judgement.REGRESSION),
        (0.5, Judgement.IMPROVEMENT),
        (1.03, Judgement.NO_CHANGE),
        (1.1, Judgement.CANNOT_TELL),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side_of_the_margin(
    factor: float, judgement: Judgement
) -> None:
    change = found(made(5, steady), made(5, slower(factor)), "write RTO")
    assert change.judgement is judgement
    assert change.scale is Scale.RATIO
    assert change.low is not None
    assert change.low <= factor <= (change.high or 0.0)


def test_two_trials_are_too_few_for_a_verdict() -> None:
    change = found(made(2, steady), made(5, slower(3.0)), "write RTO")
    assert change.judgement is Judgement.CANNOT_TELL
    assert change.why == "2 trials on one side; it takes 3"
    assert (change.low, change.high) == (None, None)


def test_three_trials_that_scatter_as_much_as_they_moved_are_no_regression() -> None:
    def scattered(shift: float) -> Callable[[CellTrial], CellTrial]:
        return lambda t: replace(t, write_recovery=Recovery(1_000.0 + 400 * (t.number - 1) + shift))

    few = found(made(3, scattered(0)), made(3, scattered(1_100)), "write RTO")
    assert few.low is not None
    assert few.low > 1.1
    assert few.judgement is Judgement.CANNOT_TELL
    assert (
        found(made(3, scattered(0)), made(3, scattered(4_000)), "write RTO").judgement is Judgement.REGRESSION
    )


def test_writes_that_no_longer_come_back_are_a_regression() -> None:
    change = found(made(3, steady), made(3, lambda t: replace(t, write_recovery=Recovery(None))), "write RTO")
    assert change.judgement is Judgement.REGRESSION
    assert change.b is None
    assert change.high == math.inf


def test_writes_that_never_came_back_in_either_run_have_not_changed() -> None:
    never = made(3, lambda t: replace(t, write_recovery=Recovery(None)))
    change = found(never, never, "write RTO")
    assert (change.a, change.b, change.judgement) == (None, None, Judgement.NO_CHANGE)


def test_times_in_doubt_are_left_out() -> None:
    late = made(5, lambda t: replace(steady(t), trouble="late") if t.number > 2 else steady(t))
    change = found(made(5, steady), late, "write RTO")
    assert change.trials == (5, 2)
    assert change.judgement is Judgement.CANNOT_TELL


def test_less_throughput_is_worse_and_is_compared_only_at_rest() -> None:
    a = made(3)
    quiet = a.cells[0]
    assert quiet.parts is not None
    fast = replace(a, cells=(replace(quiet, parts=replace(quiet.parts, throughput=(99.0, 100.0, 101.0))),))
    slow = replace(a, cells=(replace(quiet, parts=replace(quiet.parts, throughput=(49.0, 50.0, 51.0))),))
    assert found(fast, slow, "throughput", FaultKind.NONE).judgement is Judgement.REGRESSION
    assert found(slow, fast, "throughput", FaultKind.NONE).judgement is Judgement.IMPROVEMENT
    assert {c.key.fault for c in diff(a, a) if c.figure == "throughput"} == {FaultKind.NONE}
    assert FaultKind.NONE not in {c.key.fault for c in diff(a, a) if c.figure.endswith("RTO")}


def test_losses_in_every_trial_are_a_regression_and_one_burst_is_not() -> None:
    def losing(*counts: int) -> Matrix:
        return made(3, lambda t: replace(t, lost=counts[t.number - 1], acked=1_400))

    none = losing(0, 0, 0)
    assert found(none, losing(70, 100, 140), "lost writes").judgement is Judgement.REGRESSION
    assert found(losing(70, 100, 140), none, "lost writes").judgement is Judgement.IMPROVEMENT
    assert found(none, losing(0, 0, 140), "lost writes").judgement is Judgement.CANNOT_TELL
    assert found(none, none, "lost writes").judgement is Judgement.NO_CHANGE


def test_a_cell_of_one_run_alone_is_not_compared() -> None:
    a = made(3)
    assert {c.key for c in diff(a, replace(a, cells=a.cells[1:2]))} == {a.cells[1].key}
    assert diff(a, replace(a, cells=tuple(replace(c, trials=()) for c in a.cells))) == ()


@pytest.mark.parametrize(
    ("some", "whole", "low", "high"),
    # By hand from the closed form with z = 1.959964.
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (1, 100, 0.0018, 0.0545)],
)
def test_wilsons_interval(some: int, whole: int, low: float, high: float) -> None:
    assert wilson(some, whole) == pytest.approx((low, high), abs=1e-4)


def test_newcombes_interval_is_that_of_his_paper() -> None:
    # Newcombe 1998, table II, 56/70 against 48/80, method 10: 0.0524 to 0.3339.
    low, high = difference_of_shares(Share(((48, 80),)), Share(((56, 70),)))
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_bursts_have_a_design_effect_and_even_losses_have_none() -> None:
    assert design_effect(Share(((10, 1_000), (10, 1_000), (10, 1_000)))) == 1.0
    assert design_effect(Share(((0, 1_000), (0, 1_000), (30, 1_000)))) == pytest.approx(30.3, abs=0.1)
    assert design_effect(Share(((0, 9), (0, 9)))) == 1.0


@given(COUNTS, COUNTS)
def test_the_interval_of_a_difference_holds_it_and_turns_with_the_runs(
    one: list[tuple[int, int]], two: list[tuple[int, int]]
) -> None:
    a, b = Share(tuple(one)), Share(tuple(two))
    low, high = difference_of_shares(a, b)
    assert -1 <= low <= (b.value or 0) - (a.value or 0) <= high <= 1
    assert difference_of_shares(b, a) == pytest.approx((-high, -low))

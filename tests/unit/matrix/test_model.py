from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haops.cluster.spec import StoreName
from haops.drills.result import Spread
from haops.faults.catalogue import FaultKind
from haops.matrix.cells import Matrix, Recovery
from haops.matrix.failover import HEARTBEATS
from haops.matrix.model import FORMULAS, predict
from haops.matrix.prediction import Prediction
from haops.matrix.replication import beyond, kth_of

from ..report import matrix_fixture

MATRIX = matrix_fixture.matrix()
TIMES = st.floats(0, 1e5)
SPREADS = st.tuples(TIMES, TIMES, TIMES).map(lambda v: Spread(sorted(v)[1], min(v), max(v)))


def of(formula: str, store: StoreName, mode: str | None = None, matrix: Matrix = MATRIX) -> Prediction:
    return next(
        p
        for p in predict(matrix).predictions
        if p.formula == formula and p.store is store and mode in (None, p.mode)
    )


def reason(formula: str, store: StoreName, matrix: Matrix = MATRIX) -> str:
    return next(o.reason for o in predict(matrix).left_out if (o.formula, o.store) == (formula, store))


def without(matrix: Matrix, mode: str, fault: FaultKind) -> Matrix:
    return replace(matrix, cells=tuple(c for c in matrix.cells if (c.key.mode, c.key.fault) != (mode, fault)))


def test_every_formula_speaks_of_every_store_or_says_why_not() -> None:
    found = predict(MATRIX)
    said = {(p.formula, p.store) for p in found.predictions} | {(o.formula, o.store) for o in found.left_out}
    assert said == {(f.text, store) for f in FORMULAS for store in StoreName}
    assert all(p.why.endswith(".") and p.parts and p.meaning for p in found.predictions)
    assert len({f.text for f in FORMULAS}) == 9


def test_primary_and_replica_add_up() -> None:
    found = of("T = T_p + T_s", StoreName.REDIS)
    assert found.predicted == pytest.approx(0.42 + 0.31)
    assert found.measured == pytest.approx(0.78)
    assert found.ratio == pytest.approx(0.73 / 0.78)
    assert found.better is not None
    assert found.better.value == pytest.approx(0.42 + 0.22)


@pytest.mark.parametrize(
    ("store", "mode", "copies", "single"),
    [
        (StoreName.REDIS, "wait-1", 2, 0.42),
        (StoreName.REDIS, "wait-all", 3, 0.42),
        (StoreName.CASSANDRA, "quorum", 2, 1.2),
        (StoreName.CASSANDRA, "all", 3, 1.2),
    ],
)
def test_synchronous_copies_are_counted_one_after_another(
    store: StoreName, mode: str, copies: int, single: float
) -> None:
    found = of("T = n x T_w", store, mode)
    assert found.predicted == pytest.approx(copies * single)
    assert found.better is not None
    assert single < found.better.value < found.predicted


def test_the_slowest_of_all_copies_takes_longer_than_the_first_of_them() -> None:
    trip = Spread(0.22, 0.18, 0.66)
    assert kth_of(trip, 1, 2) < kth_of(trip, 2, 2)
    # With rate 1: the shortest of two is 1/2, the longest 1/2 + 1.
    unit = Spread(math.log(2), 0.0, 9.0)
    assert kth_of(unit, 1, 2) == pytest.approx(0.5)
    assert kth_of(unit, 2, 2) == pytest.approx(1.5)
    assert kth_of(unit, 1, 1) == pytest.approx(1.0)


@given(SPREADS, st.integers(1, 8), st.integers(0, 8))
def test_an_order_statistic_grows_with_its_rank(spread: Spread, k: int, more: int) -> None:
    n = k + more
    assert spread.low <= kth_of(spread, k, n) <= kth_of(spread, n, n) + 1e-9
    assert math.isfinite(kth_of(spread, n, n))


@given(SPREADS, TIMES)
def test_odds_of_a_longer_delay_are_odds(spread: Spread, wait: float) -> None:
    assert 0 <= beyond(spread, wait) <= 1
    assert beyond(spread, wait) >= beyond(spread, wait + 1)


def test_half_of_all_delays_are_longer_than_the_median() -> None:
    assert beyond(Spread(3.0, 1.0, 9.0), 3.0) == pytest.approx(0.5)
    assert beyond(Spread(3.0, 1.0, 9.0), 0.5) == 1.0
    assert beyond(Spread(0.0, 0.0, 9.0), 1.0) == 0.0


def test_heartbeats_are_those_of_the_configuration() -> None:
    assert {s: round(h.interval_ms + h.timeout_ms) for s, h in HEARTBEATS.items()} == {
        StoreName.REDIS: 2_000,
        StoreName.ZOOKEEPER: 2_750,
        StoreName.CASSANDRA: 19_421,
    }
    # A fault at a random moment: the first of three PINGs; half an interval since the last sign of life.
    assert {s: round(h.expected_ms) for s, h in HEARTBEATS.items()} == {
        StoreName.REDIS: 1_250,
        StoreName.ZOOKEEPER: 2_375,
        StoreName.CASSANDRA: 17_921,
    }


def test_silence_is_held_against_a_pause_and_only_else_against_a_kill() -> None:
    assert of("T_h = T_hi + T_ho", StoreName.REDIS).fault is FaultKind.PAUSE
    killed = replace(MATRIX, cells=tuple(c for c in MATRIX.cells if c.key.fault is not FaultKind.PAUSE))
    found = of("T_h = T_hi + T_ho", StoreName.REDIS, matrix=killed)
    assert found.fault is FaultKind.KILL
    assert "broken connections" in found.why


def test_failover_leaves_detection_out_and_the_sum_of_all_parts_does_not() -> None:
    found = of("T_s = T_p + T_r", StoreName.ZOOKEEPER)
    assert found.ratio is not None
    assert found.ratio < 0.6
    assert found.better is not None
    assert found.better.name == "detect + decide + promote + reconnect"
    assert found.better.ratio == pytest.approx(1.0, abs=0.1)


def test_load_transfer_counts_the_clients_one_after_another() -> None:
    found = of("T_t = n x T_p + T_d", StoreName.REDIS)
    n, connect, served = (part.value for part in found.parts)
    assert found.predicted == pytest.approx(n * connect + served)
    assert found.better is not None
    assert found.better.value == pytest.approx(connect + served)


def test_pbs_is_held_against_cassandra_one_undisturbed_alone() -> None:
    named = [p for p in predict(MATRIX).predictions if p.better and "N" in p.better.name]
    assert [(p.store, p.mode, p.fault) for p in named] == [(StoreName.CASSANDRA, "one", FaultKind.NONE)]
    assert named[0].better is not None
    # Two of three replicas may be asked that have it not yet; delay median 0.9 ms, from 0, trip 0.22 ms.
    assert named[0].better.value == pytest.approx(1 - 2 / 3 * 2 ** (-0.22 / 0.9))


def test_missing_parts_are_named() -> None:
    assert reason("T = T_p + T_s", StoreName.CASSANDRA).startswith("it has no primary")
    assert "async/none was not run" in reason(
        "T = T_p + T_s", StoreName.REDIS, without(MATRIX, "async", FaultKind.NONE)
    )
    assert "promotion" in reason("T_t = n x T_p + T_d", StoreName.CASSANDRA)


def test_of_nothing_nothing_is_predicted() -> None:
    assert predict(matrix_fixture.bare()).predictions == ()


def test_a_recovery_without_times_leaves_its_formulas_out() -> None:
    silent = replace(
        MATRIX,
        cells=tuple(
            replace(
                c, trials=tuple(replace(t, write_recovery=Recovery(None), all_back_ms=None) for t in c.trials)
            )
            for c in MATRIX.cells
        ),
    )
    formulas = {p.formula for p in predict(silent).predictions}
    assert not formulas & {
        "T_h = T_hi + T_ho",
        "T_t = T_r + T_p + T_d",
        "T_s = T_p + T_r",
        "T_t = n x T_p + T_d",
    }


@given(st.integers(1, 5), st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_ratios_are_finite(trials: int, seed: int) -> None:
    for found in predict(matrix_fixture.matrix(trials, seed)).predictions:
        for ratio in (found.ratio, found.better.ratio if found.better else None):
            assert ratio is None or (math.isfinite(ratio) and ratio >= 0)
        assert math.isfinite(found.predicted)
        assert math.isfinite(found.measured)


def test_a_whole_of_nothing_has_no_ratio() -> None:
    cells = []
    for cell in MATRIX.cells:
        parts = cell.parts
        if parts and cell.key.mode == "wait-1":
            parts = replace(parts, single_write_ms=Spread(0.0, 0.0, 0.0))
        cells.append(replace(cell, parts=parts))
    assert of("T = T_p + T_s", StoreName.REDIS, matrix=replace(MATRIX, cells=tuple(cells))).ratio is None

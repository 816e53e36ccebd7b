"""Replay, sweep and advice."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haops.errors import BadInput
from haops.health.advise import advise
from haops.health.beat import Beat, Detector, Evidence
from haops.health.heartbeat import Heartbeat
from haops.health.lifeguard import Lifeguard
from haops.health.phi import PhiAccrual, PhiSettings, Shape
from haops.health.replay import Gaps, Outcome, rate_bound, replay
from haops.health.sweep import ADAPTIVE, FIXED, HEARTBEAT, PHI, PHI_EXPONENTIAL, Grid, sweep
from haops.health.timeout import AdaptiveSettings, AdaptiveTimeout, FixedTimeout
from haops.health.trace import Interval, Trace, Truth

from .traces import MS, S, answered, as_trace, refused, regular, sequential, silent

GRID = Grid(silences=(1, 2, 3), limits_s=(0.1, 0.3), ks=(4, 64), phis=(1, 4))


def one(outcomes: tuple[Outcome, ...], detector: str, threshold: float) -> Outcome:
    return next(o for o in outcomes if (o.detector, o.threshold) == (detector, threshold))


def noisy(seed: int, count: int, lost: float = 0.05, closed: float = 0.02) -> Trace:
    rng = random.Random(seed)
    kinds = []
    for _ in range(count):
        draw = rng.random()
        if draw < lost:
            kinds.append((Evidence.SILENT, 150 * MS))
        elif draw < lost + closed:
            kinds.append((Evidence.REFUSED, MS))
        else:
            kinds.append((Evidence.ANSWERED, int(rng.expovariate(1 / (5 * MS)))))
    return as_trace(sequential([*kinds, (Evidence.ANSWERED, MS)]))


def with_outage(kind: Callable[[int], Beat], truth: Truth) -> Trace:
    """200 probes, 1 s of trouble from 10 ms after the last answer, 200 probes."""
    before = regular(200)
    begin = before[-1].known_ns + 10 * MS
    lost, at = [], begin
    while at < begin + S:
        lost.append(kind(at))
        at = max(at + 20 * MS, lost[-1].known_ns)
    after = regular(200, start=at)
    return as_trace([*before, *lost, *after], [Interval(truth, begin, begin + S)])


def makers(grid: Grid) -> list[tuple[str, float, Callable[[], Detector]]]:
    made: list[tuple[str, float, Callable[[], Detector]]] = []
    made += [(HEARTBEAT, n, lambda n=n: Heartbeat(silences=n)) for n in grid.silences]
    made += [(FIXED, limit, lambda limit=limit: FixedTimeout(limit)) for limit in grid.limits_s]
    adaptive = AdaptiveSettings(floor_s=0.05)
    made += [(ADAPTIVE, k, lambda k=k: AdaptiveTimeout(replace(adaptive, k=k))) for k in grid.ks]
    for name, shape in ((PHI, Shape.NORMAL), (PHI_EXPONENTIAL, Shape.EXPONENTIAL)):
        made += [
            (name, phi, lambda phi=phi, shape=shape: PhiAccrual(PhiSettings(threshold=phi, shape=shape)))
            for phi in grid.phis
        ]
    return made


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.integers(30, 300))
def test_the_sweep_says_what_the_detectors_themselves_say(seed: int, count: int) -> None:
    trace = noisy(seed, count)
    swept = sweep(trace, GRID)
    for name, threshold, make in makers(GRID):
        quick, exact = one(swept, name, threshold), replay(trace, make, name=name, cuts=0)
        assert quick.mistakes == exact.mistakes, (name, threshold)
        assert quick.accuracy == pytest.approx(exact.accuracy, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "threshold", "make"), makers(GRID), ids=lambda v: str(v) if not callable(v) else ""
)
def test_assumed_deaths_are_seen_as_the_detector_itself_sees_them(
    name: str, threshold: float, make: Callable[[], Detector]
) -> None:
    trace = noisy(7, 3000, lost=0.0, closed=0.0)
    quick, exact = one(sweep(trace, GRID), name, threshold), replay(trace, make, name=name, cuts=200)
    # The same measure over other moments: as close as the time between two probes.
    assert quick.silent.median_s == pytest.approx(exact.silent.median_s, abs=0.02)
    assert quick.silent.worst_s == pytest.approx(exact.silent.worst_s, abs=0.04)


def test_a_limit_above_the_longest_gap_makes_no_mistake() -> None:
    trace = noisy(3, 2000)
    answers = trace.known[trace.evidence == 0]
    longest = float(np.diff(answers).max()) / 1e9
    grid = replace(GRID, limits_s=(longest * 0.99, longest * 1.01), refusals=100)
    below, above = (one(sweep(trace, grid), FIXED, limit) for limit in grid.limits_s)
    assert (below.mistakes, above.mistakes, above.accuracy) == (1, 0, 1.0)


def test_a_real_death_without_a_word_is_detected_after_the_limit() -> None:
    outcome = one(sweep(with_outage(silent, Truth.DOWN), GRID), FIXED, 0.3)
    assert outcome.real is not None
    assert outcome.real.deaths == 1 and outcome.real.missed == 0
    assert outcome.real.median_s == pytest.approx(0.29)
    assert outcome.mistakes == 0


def test_a_refused_death_is_detected_by_everybody_at_the_second_probe() -> None:
    for outcome in sweep(
        with_outage(refused, Truth.DOWN), replace(GRID, limits_s=(0.3,), silences=(2,), ks=(64,), phis=(4,))
    ):
        assert outcome.real is not None
        assert outcome.real.median_s < 0.03, outcome


def test_a_pause_is_no_death() -> None:
    outcomes = sweep(with_outage(silent, Truth.PAUSED), replace(GRID, limits_s=(0.3, 2.0)))
    hasty, tolerant = one(outcomes, FIXED, 0.3), one(outcomes, FIXED, 2.0)
    assert hasty.real is None
    assert (hasty.mistakes, tolerant.mistakes) == (1, 0)
    assert hasty.mistake_s == pytest.approx(0.75, abs=0.1)


def test_a_death_that_nobody_notices_is_missed() -> None:
    outcome = one(sweep(with_outage(silent, Truth.DOWN), replace(GRID, limits_s=(5.0,))), FIXED, 5.0)
    assert outcome.real is not None
    assert (outcome.real.missed, outcome.real.median_s) == (1, math.inf)


def test_an_observer_that_was_frozen_errs_without_lifeguard_and_not_with_it() -> None:
    before = regular(200)
    after = regular(200, start=before[-1].known_ns + 5 * S)
    trace = as_trace([*before, *after])
    plain = replay(trace, lambda: FixedTimeout(0.3), name="plain")
    guarded = replay(trace, lambda: Lifeguard(FixedTimeout(0.3)), name="guarded")
    assert (plain.mistakes, guarded.mistakes) == (1, 0)


def test_higher_thresholds_are_slower_and_err_less() -> None:
    outcomes = sweep(noisy(11, 5000, closed=0.0))
    for name in (HEARTBEAT, FIXED, PHI, PHI_EXPONENTIAL):
        own = [o for o in outcomes if o.detector == name]
        medians = [o.silent.median_s for o in own]
        mistakes = [o.mistakes for o in own]
        assert medians == sorted(medians) and mistakes == sorted(mistakes, reverse=True), name


def test_the_bound_without_a_mistake_is_the_rule_of_three() -> None:
    assert rate_bound(0, 2.0) == pytest.approx(2.996 / 2, rel=1e-3)
    # Garwood's exact limits for 1, 10 and 100 events.
    assert rate_bound(1, 1.0) == pytest.approx(4.744, rel=1e-3)
    assert rate_bound(10, 1.0) == pytest.approx(16.96, rel=1e-3)
    assert rate_bound(100, 1.0) == pytest.approx(118.08, rel=1e-3)
    assert rate_bound(0, 0.0) == math.inf


def test_advice_is_the_fastest_within_the_budget() -> None:
    advice = advise(noisy(5, 5000, closed=0.0))
    assert advice.chosen is not None and advice.chosen.mistakes == 0
    faster = [o for o in advice.outcomes if o.silent.median_s < advice.chosen.silent.median_s]
    assert faster and all(o.per_hour > advice.budget_per_hour for o in faster)


def test_advice_says_that_a_short_trace_proves_nothing() -> None:
    advice = advise(as_trace(regular(500)))
    assert advice.chosen is not None and not advice.proven
    assert any("too short to prove 1 mistake in 24 h" in w for w in advice.words)
    assert any("3 days without a mistake would prove it" in w for w in advice.words)


def test_advice_says_when_a_trace_is_long_enough() -> None:
    advice = advise(as_trace(regular(5000)), budget_per_hour=200.0)
    assert advice.proven
    assert any("long enough" in w for w in advice.words)


def test_advice_says_when_nothing_is_good_enough() -> None:
    kinds = [(Evidence.ANSWERED, MS)] * 50 + [(Evidence.SILENT, 150 * MS)] * 100
    advice = advise(as_trace(sequential(kinds * 4 + kinds[:1])), grid=GRID)
    assert advice.chosen is None
    assert advice.words[0].startswith("No setting erred at most 1 mistake in 24 h")


def test_a_trace_without_answers_is_refused() -> None:
    for beats in ([], [silent(S), silent(2 * S)], [answered(S)]):
        with pytest.raises(BadInput, match="fewer than two answers"):
            sweep(as_trace(beats))
        with pytest.raises(BadInput):
            Gaps.of_trace(as_trace(beats))


def test_a_negative_budget_is_refused() -> None:
    with pytest.raises(BadInput):
        advise(as_trace(regular(100)), budget_per_hour=-1)


def test_a_long_trace_is_swept_quickly() -> None:
    trace = as_trace(regular(100_000))
    begun = time.process_time()
    sweep(trace)
    # 0.7 s on a 2-core machine; the limit only tells of something quadratic.
    assert time.process_time() - begun < 10

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.drills import measure
from haops.drills.result import Latency, Spread
from haops.history.record import NIL, History, Kind, Outcome

from ...histories import MS, histories, history, op

FAULT = 1000 * MS


# ---- outage


def test_an_outage_is_the_gap_from_the_last_success_before_the_fault_to_the_first_after_it() -> None:
    seen = history(op(980), op(995, took_ms=2), op(1400, took_ms=3), op(1410))
    found = measure.outage(seen, Kind.WRITE, FAULT)
    assert found == measure.Outage(gap_ms=406.0, recovery_ms=403.0)


def test_a_later_and_longer_gap_is_the_outage() -> None:
    seen = history(op(999, took_ms=1), op(1010), op(1500), op(1510))
    found = measure.outage(seen, Kind.WRITE, FAULT)
    assert found is not None
    assert found.gap_ms == 490.0
    assert found.recovery_ms == 11.0


def test_a_gap_before_the_fault_is_no_outage() -> None:
    seen = history(op(0), op(900), op(999), op(1001))
    found = measure.outage(seen, Kind.WRITE, FAULT)
    assert found is not None
    assert found.gap_ms == 2.0


def test_a_success_that_was_sent_before_the_fault_is_no_recovery() -> None:
    seen = history(op(990), op(999, took_ms=100))
    assert measure.outage(seen, Kind.WRITE, FAULT) is None
    seen = history(op(990), op(999, took_ms=100), op(1300))
    found = measure.outage(seen, Kind.WRITE, FAULT)
    assert found is not None
    assert found.recovery_ms == 301.0
    assert found.gap_ms == 202.0  # from the late answer on


def test_failures_and_unknowns_are_no_successes_but_a_miss_is_an_answer() -> None:
    failed = history(op(999), op(1100, outcome=Outcome.FAIL), op(1200, outcome=Outcome.INFO))
    assert measure.outage(failed, Kind.WRITE, FAULT) is None
    missed = history(op(999, kind=Kind.READ), op(1100, kind=Kind.READ, value=NIL))
    assert measure.outage(missed, Kind.READ, FAULT) is not None


def test_writes_and_reads_are_measured_apart() -> None:
    seen = history(op(999), op(1900), op(999, kind=Kind.READ), op(1049, kind=Kind.READ))
    writes, reads = (measure.outage(seen, k, FAULT) for k in (Kind.WRITE, Kind.READ))
    assert writes is not None
    assert reads is not None
    assert (writes.gap_ms, reads.gap_ms) == (901.0, 50.0)


def test_without_a_success_before_it_the_outage_begins_with_the_fault() -> None:
    found = measure.outage(history(op(1200)), Kind.WRITE, FAULT)
    assert found == measure.Outage(201.0, 201.0)


@given(histories(), st.integers(0, 6000))
def test_an_outage_is_never_negative_and_never_shorter_than_it_must_be(seen: History, fault_ms: int) -> None:
    fault = fault_ms * MS
    good = seen.of(Kind.WRITE, Outcome.OK)
    found = measure.outage(seen, Kind.WRITE, fault)
    assert (found is None) == (not (good.sent >= fault).any())
    if found is not None:
        assert found.gap_ms >= 0
        assert found.recovery_ms >= 0
        first_after = int(good.completed[good.sent >= fault].min())
        before = good.completed[good.completed <= fault]
        between = good.completed[(good.completed > fault) & (good.completed < first_after)]
        if not len(between):
            assert found.gap_ms >= (first_after - (before.max() if len(before) else fault)) / MS


@given(histories(), st.integers(0, 6000))
def test_more_failures_never_make_an_outage_shorter(seen: History, fault_ms: int) -> None:
    fault = fault_ms * MS
    outcome = np.where(np.arange(len(seen)) % 2 == 0, seen.outcome, Outcome.FAIL)
    fewer = replace(seen, outcome=outcome)
    before, after = (measure.outage(h, Kind.WRITE, fault) for h in (seen, fewer))
    if before is not None and after is not None:
        # Without a success before the fault the outage begins with the fault itself.
        good = fewer.of(Kind.WRITE, Outcome.OK)
        if (good.completed <= fault).any():
            assert after.gap_ms >= before.gap_ms


def test_the_worst_client_is_the_one_that_waited_longest() -> None:
    rows = [op(999, client=c) for c in (0, 1)]
    seen = history(*rows, op(1050, client=0), op(1300, client=1), op(1060, client=0))
    assert measure.worst_client_ms(seen, Kind.WRITE, FAULT) == 301.0
    together = measure.outage(seen, Kind.WRITE, FAULT)
    assert together is not None
    assert together.gap_ms == 240.0  # all clients together: from 1061 to 1301


def test_a_client_that_never_came_back_has_no_figure() -> None:
    seen = history(
        op(999, client=0), op(1050, client=0), op(999, client=1), op(1050, client=1, outcome=Outcome.FAIL)
    )
    assert measure.worst_client_ms(seen, Kind.WRITE, FAULT) is None


def test_a_history_without_operations_has_no_worst_client() -> None:
    assert measure.worst_client_ms(history(), Kind.WRITE, FAULT) is None


@given(histories(), st.integers(0, 6000))
def test_no_client_saw_a_shorter_outage_than_all_together(seen: History, fault_ms: int) -> None:
    fault = fault_ms * MS
    worst = measure.worst_client_ms(seen, Kind.WRITE, fault)
    together = measure.outage(seen, Kind.WRITE, fault)
    good = seen.of(Kind.WRITE, Outcome.OK)
    steady = set(good.process[good.completed <= fault].tolist()) == set(seen.process.tolist())
    if worst is not None:
        assert together is not None
        assert not steady or worst >= together.gap_ms


# ---- the harness itself


def test_a_client_that_is_free_and_late_is_the_harnesss_lag() -> None:
    seen = history(op(10, intended_ms=10), op(25, intended_ms=20))
    assert measure.harness_lag_ms(seen, percentile=100) == 5.0


def test_a_client_that_still_waits_for_the_store_is_not_the_harnesss_lag() -> None:
    seen = history(op(10, took_ms=300), op(310, intended_ms=20), op(311, intended_ms=30))
    assert measure.harness_lag_ms(seen, percentile=100) == 0.0


def test_one_clients_wait_does_not_excuse_another() -> None:
    seen = history(op(10, took_ms=300, client=0), op(310, intended_ms=20, client=1))
    assert measure.harness_lag_ms(seen, percentile=100) == 290.0


def test_an_empty_history_has_no_lag() -> None:
    assert measure.harness_lag_ms(history()) == 0.0


# ---- rates and latencies


def test_a_rate_counts_what_ended_inside_the_half_open_span() -> None:
    seen = history(*(op(t, took_ms=0) for t in (0, 100, 200, 300, 400)))
    assert measure.rate_between(seen, 100 * MS, 400 * MS) == pytest.approx(10.0)
    assert measure.rate_between(seen, 100 * MS, 100 * MS) == 0.0
    assert measure.rate_between(seen, 400 * MS, 100 * MS) == 0.0


def test_latency_counts_from_the_intended_start_and_successes_alone() -> None:
    seen = history(
        *(op(100 + i, intended_ms=100 + i - 10, took_ms=i) for i in range(1, 101)),
        op(500, took_ms=9000, outcome=Outcome.INFO),
    )
    found = measure.latency(seen)
    assert found.count == 100
    assert found.p50_ms == pytest.approx(60.5)
    assert found.p99_ms == pytest.approx(109.01)


def test_a_phase_without_successes_has_no_latency() -> None:
    assert measure.latency(history(op(1, outcome=Outcome.FAIL))) == Latency(0, None, None, None)


@given(histories())
def test_percentiles_are_ordered_and_never_negative(seen: History) -> None:
    found = measure.latency(seen)
    if found.count:
        assert found.p50_ms is not None
        assert found.p99_ms is not None
        assert found.p999_ms is not None
        assert 0 <= found.p50_ms <= found.p99_ms <= found.p999_ms


def test_phases_divide_operations_by_their_intended_start() -> None:
    rows = [op(t, key=t) for t in (50, 150, 950, 1000, 1100, 1500, 1900)]
    edges = (100 * MS, 1000 * MS, 1400 * MS, 1900 * MS)
    before, during, after = measure.phases(history(*rows), 0, edges)
    assert [p.name for p in (before, during, after)] == ["before", "during", "after"]
    assert [p.write.count for p in (before, during, after)] == [2, 2, 1]
    assert [p.read.count for p in (before, during, after)] == [0, 0, 0]
    assert [(p.start_s, p.end_s) for p in (before, during, after)] == [(0.1, 1.0), (1.0, 1.4), (1.4, 1.9)]


def test_an_operation_that_an_outage_held_up_belongs_to_the_outage() -> None:
    held = op(1400, intended_ms=1100, took_ms=5)
    _, during, after = measure.phases(history(held), 0, (0, 1000 * MS, 1402 * MS, 2000 * MS))
    assert (during.write.count, during.write.p50_ms, after.write.count) == (1, 305.0, 0)


# ---- timeline


def test_a_timeline_sorts_operations_into_buckets() -> None:
    seen = history(
        op(10),
        op(20, kind=Kind.READ),
        op(30, kind=Kind.READ, value=NIL),
        op(110, outcome=Outcome.FAIL, error="X"),
        op(120, outcome=Outcome.INFO, error="Y"),
        op(250, intended_ms=150, took_ms=5),
    )
    found = measure.timeline(seen, 0, 300 * MS)
    assert found.bucket_s == pytest.approx(0.1)
    assert found.ok_writes == (1, 0, 1)
    assert found.ok_reads == (2, 0, 0)
    assert found.failed == (0, 2, 0)
    # By intended start: the held-up operation shows where it was due.
    assert found.p99_ms[0] == pytest.approx(1.0)
    assert found.p99_ms[1:] == (pytest.approx(105.0), None)


@given(histories(), st.integers(1, 100_000))
def test_buckets_sum_to_the_operations_inside(seen: History, span_ms: int) -> None:
    found = measure.timeline(seen, 0, span_ms * MS)
    sizes = {len(found.ok_writes), len(found.ok_reads), len(found.failed), len(found.p99_ms)}
    assert len(sizes) == 1
    reach = found.bucket_s * sizes.pop() * 1e9
    assert reach >= span_ms * MS * (1 - 1e-9)
    total = sum(found.ok_writes) + sum(found.ok_reads) + sum(found.failed)
    inside = int((seen.completed < reach - 1).sum())
    at_the_edge = int((abs(seen.completed - reach) <= 1).sum())
    assert inside <= total <= inside + at_the_edge


@given(st.integers(1, 10_000_000))
def test_a_timeline_has_about_400_buckets_at_most(span_ms: int) -> None:
    assert len(measure.timeline(history(), 0, span_ms * MS).failed) <= 401


@given(histories(span_ms=2000))
def test_a_timeline_and_its_pieces_are_the_same_when_everything_is_shifted(seen: History) -> None:
    offset = 10**15
    moved = {n: getattr(seen, n) + offset for n in ("intended", "sent", "completed")}
    shifted = replace(seen, **moved)
    assert measure.timeline(shifted, offset, offset + 3000 * MS) == measure.timeline(seen, 0, 3000 * MS)


# ---- small things


def test_errors_are_counted_by_class_most_frequent_first() -> None:
    rows = [op(i, outcome=Outcome.FAIL, error=e) for i, e in enumerate(["A", "B", "B", "C", "B", "C"])]
    assert list(measure.error_counts(history(op(9), *rows)).items()) == [("B", 3), ("C", 2), ("A", 1)]


def test_a_spread_takes_the_figures_that_exist() -> None:
    assert measure.spread([None, 3.0, 1.0, None, 10.0]) == Spread(3.0, 1.0, 10.0)
    assert measure.spread([None, None]) is None
    assert measure.spread([]) is None


def test_the_load_is_back_when_its_last_client_is() -> None:
    rows = [op(999, client=0), op(1100, client=0), op(999, client=1), op(1600, client=1), op(1700, client=0)]
    back = measure.all_clients_back_ns(history(*rows), FAULT)
    assert back is not None
    assert 1600 * MS <= back < 1700 * MS


def test_the_load_is_not_back_while_one_client_is_out() -> None:
    seen = history(
        op(999, client=0), op(1100, client=0), op(999, client=1), op(1600, outcome=Outcome.FAIL, client=1)
    )
    assert measure.all_clients_back_ns(seen, FAULT) is None


def test_a_write_that_the_dying_node_still_answered_is_no_recovery() -> None:
    seen = history(op(999), op(1002), op(1500))
    found = measure.outage(seen, Kind.WRITE, FAULT, FAULT + 20 * MS)
    assert found is not None
    assert found.recovery_ms == pytest.approx(501, abs=1)
    assert measure.all_clients_back_ns(seen, FAULT + 20 * MS) == seen.completed.max()

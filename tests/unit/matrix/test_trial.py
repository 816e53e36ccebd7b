from __future__ import annotations

from dataclasses import replace

import pytest

from haops.drills.result import DrillVerdict, Latency, Phase, Timeline, Trial, TrialEvent
from haops.drills.trial import Marks, Record
from haops.faults.catalogue import FaultKind
from haops.history.record import NIL, Kind, Outcome
from haops.matrix.cells import Consistency
from haops.matrix.trial import availability, cell_trial, recovery

from ...histories import MS, history, op
from .trials import trial as hand_made

BEGAN = hand_made().began
NOTHING = Latency(0, None, None, None)
# The load begins at 0, the fault is at 1 s, its undo at 5 s.
MARKS = Marks(0, 500 * MS, 1000 * MS, 1000 * MS, 5000 * MS, 5500 * MS, 6000 * MS)


def event(at_ms: float, kind: str, node: str = "redis-2", text: str = "said so") -> TrialEvent:
    return TrialEvent(at_ms / 1000, kind, node, node, text)


def drilled(*events: TrialEvent, recovery_ms: float | None = 2000.0) -> Trial:
    fault = [TrialEvent(1.0, "fault", "redis-1", "haops", "SIGKILL"), event(5000, "restarted", "redis-1")]
    return Trial(
        number=1, node="redis-1", verdict=DrillVerdict.PASS, reasons=(), write_outage_ms=recovery_ms,
        read_outage_ms=None, write_recovery_ms=recovery_ms, read_recovery_ms=None, worst_client_outage_ms=None,
        detected_ms=None, promoted_ms=None, acked=10, lost=0, lost_ids=(), unknown=0, appeared=0, failed=0,
        stale_reads=0, harness_lag_ms=1.0, offered_ops=100.0, sent_ops=100.0,
        phases=(Phase("before", 0, 1, NOTHING, NOTHING),), events=(*fault, *events),
        timeline=Timeline(0.1, (), (), (), ()), errors={},
    )  # fmt: skip


def test_a_recovery_is_split_by_what_the_servers_said_and_its_parts_add_up() -> None:
    found = recovery(
        drilled(
            event(2000, "detected"),
            event(2200, "elected"),
            event(2300, "promoted"),
            event(2900, "advertised"),
        )
    )
    parts = (found.detect_ms, found.decide_ms, found.promote_ms, found.advertise_ms, found.reconnect_ms)
    assert parts == pytest.approx((1000, 200, 100, 600, 100))
    assert found.total_ms == pytest.approx(sum(p for p in parts if p is not None))


def test_a_word_that_came_after_the_first_success_has_no_part_in_it() -> None:
    found = recovery(drilled(event(2000, "detected"), event(3500, "advertised")))
    assert (found.detect_ms, found.advertise_ms, found.reconnect_ms) == (1000, None, 1000)


def test_without_a_success_there_is_no_recovery() -> None:
    assert recovery(drilled(recovery_ms=None)).total_ms is None


def test_availability_is_by_time_and_not_by_how_many_operations_were_tried() -> None:
    # From the fault at 1 s to the end at 6 s there are 20 slices. Writes work in the last ten, in which
    # all is made up for; a single one was tried in the ten before.
    late = [op(3500 + i, took_ms=1) for i in range(0, 2490, 10)]
    seen = history(op(1100, outcome=Outcome.INFO), op(500), *late)
    assert availability(seen, Kind.WRITE, MARKS) == pytest.approx(0.5)
    assert availability(seen, Kind.READ, MARKS) is None


def test_a_node_that_fails_its_third_counts_as_a_third() -> None:
    rows = [
        op(1000 + i, took_ms=1, kind=Kind.READ, outcome=Outcome.FAIL if i % 30 == 0 else Outcome.OK)
        for i in range(0, 4990, 10)
    ]
    assert availability(history(*rows), Kind.READ, MARKS) == pytest.approx(2 / 3, abs=0.02)


def test_losses_staleness_and_registers_are_judged_each_by_its_own_rows() -> None:
    seen = history(
        op(100, key=1001, node="redis-1"),
        op(1100, key=2001, node="redis-1"),
        op(200, key=1001, kind=Kind.READ, value=NIL, client=1),  # stale
        op(300, key=3, value=7),  # a register
        op(400, key=3, value=8, kind=Kind.READ, client=1),  # a value that nobody wrote
    )
    told = drilled(
        event(2300, "promoted", text="valid up to offset: 42"),
        replace(event(5200, "rejoined", "redis-1", "full resync"), source="redis-1"),
    )
    found = cell_trial(Record(told, seen, frozenset({1001}), MARKS), FaultKind.KILL, 2, BEGAN)
    assert (found.number, found.acked, found.lost, found.stale) == (2, 2, 1, 1)
    assert found.longest_stale_ms == pytest.approx(99)
    assert found.consistency is Consistency.VIOLATED
    assert "1 of 1 registers" in found.consistency_why
    first, last = found.lost_why
    assert first.startswith("redis-1 acknowledged 1 of them at 0.10 s after the fault")
    assert last == "redis-1 followed redis-2 from 4.20 s on, and gave up what only it had: full resync"


def test_an_undisturbed_trial_has_no_recovery_and_no_outage() -> None:
    found = cell_trial(
        Record(drilled(), history(op(100, key=1001)), frozenset({1001}), MARKS), FaultKind.NONE, 1, BEGAN
    )
    assert found.write_recovery.total_ms is None
    assert (found.write_outage_ms, found.all_back_ms, found.lost, found.lost_why) == (None, None, 0, ())

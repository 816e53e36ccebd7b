"""Hand-made trials of the matrix."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from haops.drills.result import Latency
from haops.matrix.cells import CellTrial, Consistency, Recovery

_ONE = CellTrial(
    number=1,
    node="redis-1",
    began=datetime(2025, 1, 2, tzinfo=UTC),
    rate=800.0,
    ops=800.0,
    write=Latency(100, 0.5, 1.0, 2.0),
    read=Latency(100, 0.4, 0.9, 1.5),
    write_recovery=Recovery(2000.0),
    read_recovery_ms=2000.0,
    write_outage_ms=2000.0,
    read_outage_ms=2000.0,
    all_back_ms=2100.0,
    acked=1000,
    lost=0,
    lost_why=(),
    lost_span_ms=None,
    unknown=3,
    reads=1000,
    stale=0,
    longest_stale_ms=None,
    write_availability=0.7,
    read_availability=0.7,
    consistency=Consistency.LINEARIZABLE,
    consistency_why="",
    window=(),
    sessions={},
    harness_lag_ms=1.0,
    trouble="",
)


def trial(number: int = 1, **figures: Any) -> CellTrial:
    """A trial in which nothing is remarkable but `figures`."""
    return replace(_ONE, number=number, **figures)

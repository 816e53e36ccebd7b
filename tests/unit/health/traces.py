"""Traces made by rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from haops.health.beat import Beat, Evidence
from haops.health.trace import CODES, Interval, Trace

MS = 1_000_000
S = 1_000_000_000


def answered(at: int, trip: int = MS) -> Beat:
    return Beat(at, at + trip, Evidence.ANSWERED)


def refused(at: int) -> Beat:
    return Beat(at, at + MS // 10, Evidence.REFUSED)


def silent(at: int, patience: int = 150 * MS) -> Beat:
    return Beat(at, at + patience, Evidence.SILENT)


def as_trace(beats: Sequence[Beat], truths: Sequence[Interval] = ()) -> Trace:
    return Trace(
        "redis-1",
        0.02,
        0.15,
        np.array([b.sent_ns for b in beats], dtype=np.int64),
        np.array([b.known_ns for b in beats], dtype=np.int64),
        np.array([CODES.index(b.evidence) for b in beats], dtype=np.int64),
        tuple(truths),
    )


def regular(count: int, *, start: int = S, interval: int = 20 * MS) -> list[Beat]:
    return [answered(start + i * interval) for i in range(count)]


def sequential(
    kinds: Sequence[tuple[Evidence, int]], *, start: int = S, interval: int = 20 * MS
) -> list[Beat]:
    """Probes of one loop: the next goes out an interval after the last, or at once if that took longer."""
    beats = []
    sent = start
    for evidence, trip in kinds:
        beats.append(Beat(sent, sent + trip, evidence))
        sent = max(sent + interval, sent + trip)
    return beats

"""From a history and a fault's time to figures; pure.

All times are monotonic ns; all figures are ms unless a name says otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from haops.drills.result import Latency, Phase, Spread, Timeline
from haops.history.record import History, Ints, Kind, Outcome

_MS: Final = 1e6
_S: Final = 1e9
# Enough points for a plot of any width, few enough for a report of several trials.
_BUCKETS: Final = 400
_BUCKET_S: Final = 0.1
_PHASES: Final = ("before", "during", "after")


@dataclass(frozen=True, slots=True)
class Outage:
    """One kind of operation around a fault.

    Args:
        gap_ms: The longest time between two successes, from the last one before the fault on.
        recovery_ms: From the fault to the first success that was sent after it.
    """

    gap_ms: float
    recovery_ms: float


def outage(history: History, kind: Kind, fault_ns: int, dead_ns: int | None = None) -> Outage | None:
    """The outage of all clients together; None if there was no success after the fault.

    Args:
        fault_ns: The fault's beginning, from which the outage counts.
        dead_ns: When it had certainly taken effect; a success counts as recovery only if it was
            sent after that. The beginning itself if not given.
    """
    tried = history.of(kind)
    successes = tried.of(kind, Outcome.OK)
    after = successes.sent >= (fault_ns if dead_ns is None else dead_ns)
    if not after.any():
        return None
    first = int(successes.completed[after].min())
    gap = _longest_gap(np.sort(successes.completed), fault_ns, int(tried.completed.max()))
    return Outage(gap / _MS, (first - fault_ns) / _MS)


def _longest_gap(completed: Ints, fault_ns: int, end_ns: int) -> int:
    """The longest gap between successes, starting with the last one before the fault.

    The time from the last success to the end of the load counts too: an outage
    that the load did not outlive is at least that long.
    """
    before = completed[completed <= fault_ns]
    start = before[-1:] if len(before) else np.array([fault_ns], dtype=np.int64)
    marks = np.concatenate([start, completed[completed > fault_ns], [max(end_ns, int(start[0]))]])
    return int(np.diff(marks).max())


def all_clients_back_ns(history: History, dead_ns: int) -> int | None:
    """When the last client had its first success, of each kind it tries, sent after a node's death.

    None if one client had none.
    """
    moments = []
    for kind in Kind:
        tried = history.of(kind)
        for client in np.unique(tried.process):
            mine = tried.select(tried.process == client).of(kind, Outcome.OK)
            back = mine.completed[mine.sent >= dead_ns]
            if not len(back):
                return None
            moments.append(int(back.min()))
    return max(moments, default=None)


def worst_client_ms(history: History, kind: Kind, fault_ns: int, dead_ns: int | None = None) -> float | None:
    """The longest gap that one client saw; None if some client never succeeded again. See `outage`."""
    tried = history.of(kind)
    gaps = []
    for client in np.unique(history.process):
        all_mine = tried.select(tried.process == client)
        mine = all_mine.of(kind, Outcome.OK)
        if not (mine.sent >= (fault_ns if dead_ns is None else dead_ns)).any():
            return None
        gaps.append(_longest_gap(np.sort(mine.completed), fault_ns, int(all_mine.completed.max())) / _MS)
    return max(gaps, default=None)


def harness_lag_ms(history: History, percentile: float = 99.0) -> float:
    """How late the harness sent operations while the client that should send them was free.

    A client that still waits for an answer is the store's delay, not the
    harness's: lateness counts from the later of the intended time and the end
    of the client's previous operation.
    """
    if not len(history):
        return 0.0
    order = np.lexsort((history.sent, history.process))
    process, sent = history.process[order], history.sent[order]
    completed, intended = history.completed[order], history.intended[order]
    free = np.full(len(sent), np.iinfo(np.int64).min)
    same = process[1:] == process[:-1]
    free[1:][same] = completed[:-1][same]
    late = sent - np.maximum(intended, free)
    return float(np.percentile(late, percentile)) / _MS


def rate_between(history: History, low_ns: int, high_ns: int) -> float:
    """Operations a second that succeeded between two moments."""
    seconds = (high_ns - low_ns) / _S
    good = history.outcome == Outcome.OK
    inside = good & (history.completed >= low_ns) & (history.completed < high_ns)
    return float(inside.sum()) / seconds if seconds > 0 else 0.0


def latency(history: History) -> Latency:
    """Percentiles of successes from their intended start."""
    good = history.ok
    if not len(good):
        return Latency(0, None, None, None)
    p50, p99, p999 = np.percentile((good.completed - good.intended) / _MS, (50, 99, 99.9))
    return Latency(len(good), float(p50), float(p99), float(p999))


def phases(history: History, start_ns: int, edges_ns: tuple[int, int, int, int]) -> tuple[Phase, ...]:
    """Before the fault, during the outage, after it; by intended start.

    Args:
        start_ns: Start of the load, from which the phases' seconds count.
        edges_ns: End of the warm-up, fault, end of the outage, end of the load.
    """
    found = []
    for name, (low, high) in zip(_PHASES, pairwise(edges_ns), strict=True):
        part = history.select((history.intended >= low) & (history.intended < high))
        found.append(
            Phase(
                name,
                (low - start_ns) / _S,
                (high - start_ns) / _S,
                write=latency(part.of(Kind.WRITE)),
                read=latency(part.of(Kind.READ)),
            )
        )
    return tuple(found)


def timeline(history: History, start_ns: int, end_ns: int) -> Timeline:
    """The trial in buckets: successes and failures by completion, latency by intended start."""
    span = max((end_ns - start_ns) / _S, _BUCKET_S)
    width = max(_BUCKET_S, span / _BUCKETS)
    count = int(np.ceil(span / width))
    good = history.outcome == Outcome.OK
    done = ((history.completed - start_ns) / (width * _S)).astype(np.int64)
    due = ((history.intended - start_ns) / (width * _S)).astype(np.int64)

    def per_bucket(mask: np.typing.NDArray[np.bool_]) -> tuple[int, ...]:
        inside = done[mask & (done >= 0) & (done < count)]
        return tuple(np.bincount(inside, minlength=count).tolist())

    waits = (history.completed - history.intended) / _MS
    p99 = tuple(
        float(np.percentile(chosen, 99)) if len(chosen := waits[good & (due == bucket)]) else None
        for bucket in range(count)
    )
    return Timeline(
        bucket_s=width,
        ok_writes=per_bucket(good & (history.kind == Kind.WRITE)),
        ok_reads=per_bucket(good & (history.kind == Kind.READ)),
        failed=per_bucket(~good),
        p99_ms=p99,
    )


def error_counts(history: History) -> dict[str, int]:
    """How often each class of error was met, most frequent first."""
    counts = Counter(history.errors[number] for number in history.error.tolist() if number)
    return dict(counts.most_common())


def spread(figures: Sequence[float | None]) -> Spread | None:
    """Median, lowest and highest of the figures that exist."""
    known = [f for f in figures if f is not None]
    if not known:
        return None
    return Spread(float(np.median(known)), min(known), max(known))

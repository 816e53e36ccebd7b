"""What a drill found; the shape of `result.json` (version 1).

Durations are in ms, times are seconds since the trial's start of load, so that
a reader can lay figures of several trials over each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from haops.cluster.spec import StoreName

RESULT_VERSION = 1


class DrillVerdict(StrEnum):
    """PASS within the budgets, FAIL outside, UNKNOWN where the drill could not tell."""

    PASS = "pass"  # noqa: S105 - not a password
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of the successful operations, from their intended start, in ms."""

    count: int
    p50_ms: float | None
    p99_ms: float | None
    p999_ms: float | None


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a trial: `before` the fault, `during` it until every client is back, `after` that.

    Args:
        start_s: Since the start of load.
        end_s: Since the start of load.
    """

    name: str
    start_s: float
    end_s: float
    write: Latency
    read: Latency


@dataclass(frozen=True, slots=True)
class TrialEvent:
    """Something that happened to the cluster: the fault, what servers said, the node's return.

    Args:
        at_s: Since the start of load.
        kind: fault, detected, elected, promoted, advertised, restarted, rejoined.
        source: Whose word it is: the node that logged it, or `haops`.
        text: The server's own words.
    """

    at_s: float
    kind: str
    node: str
    source: str
    text: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """The trial in buckets of equal width, for plots; lists of equal length.

    Args:
        bucket_s: Width of a bucket.
        ok_writes: Successful writes completed in each bucket.
        ok_reads: Successful reads completed in each bucket.
        failed: Operations that ended in an error or unknown in each bucket.
        p99_ms: p99 latency of successes by *intended* start; None where there was none.
    """

    bucket_s: float
    ok_writes: tuple[int, ...]
    ok_reads: tuple[int, ...]
    failed: tuple[int, ...]
    p99_ms: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault and its consequences.

    Args:
        write_outage_ms: The longest gap between two successful writes of any client, from the
            last success before the fault to the end of the load, so that a stall at the node's
            return counts too; None if writes never came back.
        write_recovery_ms: From the fault to the first successful write that was sent after it.
        worst_client_outage_ms: The longest such gap that a single client saw for its writes.
        detected_ms: From the fault to the first server's word that the node is gone.
        promoted_ms: From the fault to the successor's own word; None where no role moves.
        lost_ids: Acknowledged and not found afterwards; at most the first 1,000 are listed.
        unknown: Writes whose outcome the client could not tell.
        appeared: Unknown writes that were found afterwards.
        harness_lag_ms: p99 of how late the harness itself sent an operation.
        offered_ops: Operations a second that the schedule asked for.
        sent_ops: Operations a second that succeeded before the fault.
    """

    number: int
    node: str
    verdict: DrillVerdict
    reasons: tuple[str, ...]
    write_outage_ms: float | None
    read_outage_ms: float | None
    write_recovery_ms: float | None
    read_recovery_ms: float | None
    worst_client_outage_ms: float | None
    detected_ms: float | None
    promoted_ms: float | None
    acked: int
    lost: int
    lost_ids: tuple[int, ...]
    unknown: int
    appeared: int
    failed: int
    stale_reads: int
    harness_lag_ms: float
    offered_ops: float
    sent_ops: float
    phases: tuple[Phase, ...]
    events: tuple[TrialEvent, ...]
    timeline: Timeline
    errors: dict[str, int]


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the trials that have it."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Budget:
    """What a store may cost in this drill; None is no limit."""

    write_outage_ms: float | None
    read_outage_ms: float | None
    lost: int | None
    harness_lag_ms: float


@dataclass(frozen=True, slots=True)
class StoreResult:
    """All trials on one store."""

    store: StoreName
    cluster: str
    mode: str
    version: str
    nodes: int
    verdict: DrillVerdict
    reasons: tuple[str, ...]
    budget: Budget
    write_outage_ms: Spread | None
    read_outage_ms: Spread | None
    lost: int
    acked: int
    trials: tuple[Trial, ...]


@dataclass(frozen=True, slots=True)
class DrillResult:
    """One run of a playbook.

    Args:
        rate: Operations a second if they were asked for instead of the playbook's.
        interrupted: Whether the run was broken off; what was finished is here.
    """

    version: int
    run: str
    playbook: str
    title: str
    description: str
    started: datetime
    finished: datetime
    haops: str
    seed: int
    rate: int | None
    interrupted: bool
    verdict: DrillVerdict
    stores: dict[StoreName, StoreResult]


def combine(verdicts: list[DrillVerdict]) -> DrillVerdict:
    """A failure outweighs what could not be told; nothing at all is unknown."""
    if DrillVerdict.FAIL in verdicts:
        return DrillVerdict.FAIL
    if not verdicts or DrillVerdict.UNKNOWN in verdicts:
        return DrillVerdict.UNKNOWN
    return DrillVerdict.PASS

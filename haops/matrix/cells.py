"""What the matrix found; the shape of `matrix.json` (version 1).

Durations are in ms; a figure that could not be had is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from haops.checkers.register import Verdict
from haops.cluster.spec import StoreName
from haops.drills.result import Latency, Spread
from haops.faults.catalogue import FaultKind
from haops.stores.mode import Replication

MATRIX_VERSION = 1


# Whether the registers' histories could be ordered.
Consistency = Verdict


@dataclass(frozen=True, slots=True, order=True)
class CellKey:
    """Which cell: a store in a mode under a fault."""

    store: StoreName
    mode: str
    fault: FaultKind

    def __str__(self) -> str:
        return f"{self.store}/{self.mode}/{self.fault}"


@dataclass(frozen=True, slots=True)
class Recovery:
    """From the fault to the first success after it, and what that time went into.

    The parts follow one another and add up to `total_ms`, as far as servers told of them.

    Args:
        total_ms: From the fault to the first success that was sent after it; None if there was none.
        detect_ms: Until a server said that the node is gone.
        decide_ms: From there until a successor was chosen.
        promote_ms: From there until the successor had its role.
        advertise_ms: From there until clients were told.
        reconnect_ms: From the last of these until the first success: the clients' share.
    """

    total_ms: float | None
    detect_ms: float | None = None
    decide_ms: float | None = None
    promote_ms: float | None = None
    advertise_ms: float | None = None
    reconnect_ms: float | None = None


@dataclass(frozen=True, slots=True)
class WindowOperation:
    """One operation of the smallest window that cannot be ordered, for drawing.

    Args:
        process: Who asked.
        words: What it did and found, such as "read 7".
        node: Who was asked; empty if nobody is named.
        sent_ms: Since the window's first operation was sent.
        completed_ms: Likewise.
        outcome: ok, fail or info; an info may have taken effect later or never.
    """

    process: int
    words: str
    node: str
    sent_ms: float
    completed_ms: float
    outcome: str


@dataclass(frozen=True, slots=True)
class CellTrial:
    """One trial of a cell.

    Args:
        number: From 1.
        node: The node that was broken; the primary, leader or member that it would have been for `none`.
        began: UTC.
        rate: Operations a second that were offered.
        ops: Operations a second that succeeded before the fault.
        write: Latencies before the fault, from the intended start.
        read: Likewise.
        write_recovery: RTO for writes.
        read_recovery_ms: RTO for reads.
        write_outage_ms: The longest gap between successful writes from the fault on.
        read_outage_ms: The longest gap between successful reads from the fault on.
        all_back_ms: From the fault until every client had succeeded again with what it tries.
        acked: Acknowledged writes of elements.
        lost: Acknowledged and not found afterwards (RPO).
        lost_why: Who had acknowledged them, when, and what discarded them.
        lost_span_ms: From the first lost write's acknowledgement to the last one's: RPO as a time.
        unknown: Writes whose outcome the client could not tell; never counted as lost.
        reads: Reads of elements that were answered.
        stale: Of these, how many missed what had been acknowledged before they were sent.
        longest_stale_ms: The longest time after an acknowledgement at which a read still missed it.
        write_availability: Share of the time from the fault to the end for which writes worked, 0 to 1;
            see `trial.availability`.
        read_availability: Likewise for reads.
        consistency: Of the registers.
        consistency_why: The smallest window that cannot be ordered, in words; empty if there is none.
        window: Its operations; empty if there is none.
        sessions: Session guarantees that were broken: how often, by name.
        harness_lag_ms: p99 of how late the harness itself was.
        trouble: Why the trial's times should not be trusted; empty if they can.
    """

    number: int
    node: str
    began: datetime
    rate: float
    ops: float
    write: Latency
    read: Latency
    write_recovery: Recovery
    read_recovery_ms: float | None
    write_outage_ms: float | None
    read_outage_ms: float | None
    all_back_ms: float | None
    acked: int
    lost: int
    lost_why: tuple[str, ...]
    lost_span_ms: float | None
    unknown: int
    reads: int
    stale: int
    longest_stale_ms: float | None
    write_availability: float | None
    read_availability: float | None
    consistency: Consistency
    consistency_why: str
    window: tuple[WindowOperation, ...]
    sessions: dict[str, int]
    harness_lag_ms: float
    trouble: str


@dataclass(frozen=True, slots=True)
class Parts:
    """What was measured of a mode on an idle, healthy cluster, for the model and the table.

    Args:
        throughput: Operations a second that clients reached without a schedule (closed loop), a
            figure a measurement.
        clients: How many clients that were.
        round_trip_ms: The cheapest question to the node that takes writes, and back.
        single_write_ms: One client's write alone, acknowledged as the mode says.
        single_read_ms: One client's read alone.
        visible_ms: From a write's acknowledgement until another client's read saw it, at another copy
            where there is a way to ask one.
        connect_ms: A new client, from nothing to its first answer.
    """

    throughput: tuple[float, ...]
    clients: int
    round_trip_ms: Spread | None
    single_write_ms: Spread | None
    single_read_ms: Spread | None
    visible_ms: Spread | None
    connect_ms: Spread | None


@dataclass(frozen=True, slots=True)
class Cell:
    """A mode under a fault.

    Args:
        replication: The mode's kind.
        promise: The mode's own words.
        nodes: Servers of the cluster.
        trials: Those that are finished.
        parts: Measured in the cells without a fault.
        skipped: Why it could not be run; empty if it could.
        over_budget: Figures beyond the budget, in words.
    """

    key: CellKey
    replication: Replication
    promise: str
    nodes: int
    trials: tuple[CellTrial, ...]
    parts: Parts | None = None
    skipped: str = ""
    over_budget: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Matrix:
    """One run of the matrix.

    Args:
        asked: Trials asked for, for each cell.
        versions: The servers' versions by store.
        interrupted: Whether it was broken off; what was finished is here.
    """

    version: int
    run: str
    started: datetime
    finished: datetime
    haops: str
    seed: int
    asked: int
    interrupted: bool
    versions: dict[StoreName, str]
    cells: tuple[Cell, ...]

"""Heartbeats of a whole cluster: every node probed from a thread of its own, copies compared from another."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from haops.cluster.spec import Cluster, Node
from haops.errors import BadInput
from haops.health.beat import Beat, Detector, Evidence, Opinion
from haops.health.heartbeat import Heartbeat
from haops.health.lifeguard import Lifeguard, LifeguardSettings
from haops.health.phi import PhiAccrual
from haops.health.redundancy import Deviation, Redundancy
from haops.health.timeout import AdaptiveSettings, AdaptiveTimeout, FixedTimeout
from haops.health.trace import CODES, Trace, TraceWriter
from haops.stores.base import Store

SUFFIX: Final = ".jsonl.gz"


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how long is asked.

    Args:
        interval_s: Time between two probes of a node, s, default 0.05.
        patience_s: How long a probe waits for its answer, s, default 0.15.
        limit_s: The fixed time-out's limit, s, default 0.5.
        copies_every_s: Time between two readings of all copies, s, default 0.5.
        grace_s: How long copies may deviate, s, default 2: replication on a busy machine may
            lag for a second.

    Raises:
        BadInput: A time is not above 0, or the limit does not exceed the interval.
    """

    interval_s: float = 0.05
    patience_s: float = 0.15
    limit_s: float = 0.5
    copies_every_s: float = 0.5
    grace_s: float = 2.0

    def __post_init__(self) -> None:
        least = min(self.interval_s, self.patience_s, self.copies_every_s, self.grace_s)
        if least <= 0 or self.limit_s <= self.interval_s:
            raise BadInput(
                f"heartbeats cannot be paced so: {self}", hint="all above 0, and the limit above the interval"
            )


@dataclass(frozen=True, slots=True)
class NodePulse:
    """What the probes of one node came to.

    Args:
        trace: All probes.
        opinions: What each detector thought at the last probe.
        says: What the node last said against itself although it answers.
    """

    node: str
    trace: Trace
    opinions: Mapping[str, Opinion]
    says: str

    def count(self, evidence: Evidence) -> int:
        """Probes that came to this."""
        return int(np.count_nonzero(self.trace.evidence == CODES.index(evidence)))

    def trip_ms(self, percent: float) -> float | None:
        """A percentile of the round trips of answered probes, ms; None without any."""
        answered = self.trace.evidence == CODES.index(Evidence.ANSWERED)
        trips = (self.trace.known - self.trace.sent)[answered]
        return float(np.percentile(trips, percent)) / 1e6 if len(trips) else None

    @property
    def suspected(self) -> bool:
        """Whether any detector suspects the node."""
        return any(o.suspects for o in self.opinions.values())


@dataclass(frozen=True, slots=True)
class CopiesPulse:
    """What the readings of copies came to.

    Args:
        nodes: Whose copies were read.
        readings: How many in all.
        digests: How many of them had a digest.
    """

    nodes: tuple[str, ...]
    readings: int
    digests: int
    opinion: Opinion
    deviations: tuple[Deviation, ...]


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a cluster's heartbeats and copies told."""

    nodes: Sequence[NodePulse]
    copies: CopiesPulse

    @property
    def healthy(self) -> bool:
        """Whether nobody is suspected and all copies agree."""
        return not self.copies.opinion.suspects and not any(n.suspected for n in self.nodes)


@dataclass(slots=True)
class _Columns:
    sent: list[int] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    evidence: list[int] = field(default_factory=list)

    def append(self, beat: Beat) -> None:
        self.sent.append(beat.sent_ns)
        self.known.append(beat.known_ns)
        self.evidence.append(CODES.index(beat.evidence))

    def trace(self, target: str, pace: Pace) -> Trace:
        sent, known, evidence = (np.array(c, dtype=np.int64) for c in (self.sent, self.known, self.evidence))
        return Trace(target, pace.interval_s, pace.patience_s, sent, known, evidence)


def detectors(pace: Pace) -> dict[str, Lifeguard]:
    """One of each at its defaults; each trusts this observer less while it is late itself.

    The adaptive time-out allows two probes to stay silent in any case, as the
    heartbeat's threshold does: one lost reply is no evidence.
    """
    usual = AdaptiveSettings()
    floor_s = max(usual.floor_s, 2 * pace.patience_s + pace.interval_s)
    adaptive = AdaptiveSettings(floor_s=floor_s, ceiling_s=max(usual.ceiling_s, floor_s))
    plain: dict[str, Detector] = {
        "heartbeat": Heartbeat(),
        "fixed": FixedTimeout(pace.limit_s),
        "adaptive": AdaptiveTimeout(adaptive),
        "phi": PhiAccrual(),
    }
    rule = LifeguardSettings(patience_s=pace.patience_s)
    return {name: Lifeguard(detector, rule) for name, detector in plain.items()}


def listen(cluster: Cluster, store: Store, for_s: float, pace: Pace, record: Path | None = None) -> Pulse:
    """Probe all nodes and compare their copies for so long.

    Args:
        for_s: How long, s; a probe that is under way is waited for.
        record: Folder for a trace a node; none is kept without it.

    Raises:
        EnvironmentTrouble: A trace cannot be written.
    """
    over = threading.Event()
    with ThreadPoolExecutor(max_workers=len(cluster.nodes) + 1) as pool:
        copies = pool.submit(_compare, cluster, store, pace, over)
        nodes = [pool.submit(_probe, cluster, n, store, pace, over, record) for n in cluster.nodes]
        try:
            # A full disk ends a thread early: then there is no use in the others going on.
            end = time.monotonic() + for_s
            while time.monotonic() < end and not (copies.done() or any(f.done() for f in nodes)):
                over.wait(min(0.1, max(end - time.monotonic(), 0)))
        finally:
            over.set()
        return Pulse([f.result() for f in nodes], copies.result())


def _probe(
    cluster: Cluster, node: Node, store: Store, pace: Pace, over: threading.Event, record: Path | None
) -> NodePulse:
    minds, columns, probe = detectors(pace), _Columns(), store.probe(node)
    with ExitStack() as stack:
        stack.callback(probe.close)
        writer = stack.enter_context(_writer(cluster, node, pace, record)) if record else None
        due = time.monotonic_ns()
        while not over.is_set():
            beat = probe.probe(pace.patience_s)
            columns.append(beat)
            if writer:
                writer.append(beat)
            for mind in minds.values():
                mind.feed(beat)
            # Probes that fell out are not made up for: a burst would tell nothing new.
            due = max(due + round(pace.interval_s * 1e9), time.monotonic_ns())
            over.wait((due - time.monotonic_ns()) / 1e9)
            _own_up(minds, due, over)
    # The last probe's moment, not the last thread's: waiting for others is no silence of this node.
    now = columns.known[-1] if columns.known else time.monotonic_ns()
    opinions = {name: mind.opinion(now) for name, mind in minds.items()}
    return NodePulse(node.name, columns.trace(f"{cluster.name}/{node.name}", pace), opinions, probe.says)


def _own_up(minds: Mapping[str, Lifeguard], due_ns: int, over: threading.Event) -> None:
    """Tell the detectors how late this thread woke up."""
    now = time.monotonic_ns()
    if not over.is_set() and now > due_ns:
        for mind in minds.values():
            mind.late(now, now - due_ns)


def _writer(cluster: Cluster, node: Node, pace: Pace, folder: Path) -> TraceWriter:
    return TraceWriter(
        folder / f"{node.name}{SUFFIX}",
        f"{cluster.name}/{node.name}",
        interval_s=pace.interval_s,
        patience_s=pace.patience_s,
        origin_ns=time.monotonic_ns(),
    )


def _compare(cluster: Cluster, store: Store, pace: Pace, over: threading.Event) -> CopiesPulse:
    judge, nodes, readings, digests = Redundancy(pace.grace_s), set(), 0, 0
    with store.copies(cluster) as reader:
        while not over.is_set():
            for reading in reader.read():
                judge.feed(reading)
                nodes.add(reading.node)
                readings += 1
                digests += reading.digest is not None
            over.wait(pace.copies_every_s)
    now = time.monotonic_ns()
    opinion, deviations = judge.opinion(now), judge.deviations(now)
    return CopiesPulse(tuple(sorted(nodes)), readings, digests, opinion, deviations)

"""One immutable picture of a cluster at one moment, and its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from haops.cluster.spec import StoreName


class FindingKind(StrEnum):
    """What can be wrong with a cluster."""

    NODE = "node"
    NO_PRIMARY = "no-primary"
    SPLIT_BRAIN = "split-brain"
    NO_WRITES = "no-writes"
    PAUSED_WRITES = "paused-writes"
    NO_MAJORITY = "no-majority"
    QUORUM_AT_RISK = "quorum-at-risk"
    SENTINEL_DISAGREES = "sentinel-disagrees"
    SENTINEL_STALE = "sentinel-stale"
    SENTINEL_SUSPECTS = "sentinel-suspects"
    FAILOVER_RUNS = "failover-runs"
    WRONG_UPSTREAM = "wrong-upstream"
    LAG = "lag"
    BACKLOG = "backlog"
    OUT_OF_SYNC = "out-of-sync"
    CONFIGURATION = "configuration"
    REPLICATION_FACTOR = "replication-factor"
    SCHEMA = "schema"
    MEMBERSHIP = "membership"
    HINTS = "hints"
    PARTITION = "partition"
    CUT_OFF = "cut-off"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that speaks against a cluster, in words, and what kind of thing it is.

    Args:
        about: What tells it from others of its kind and node, such as a setting's name; its
            words cannot, for they hold figures that move.
    """

    kind: FindingKind
    text: str
    node: str | None = None
    about: str = ""


class Verdict(StrEnum):
    """What to think of a cluster; ordered from good to bad by `rank`."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    DOWN = "down"
    UNKNOWN = "unknown"


class Role(StrEnum):
    """What a node is to its cluster right now."""

    PRIMARY = "primary"
    REPLICA = "replica"
    SENTINEL = "sentinel"
    LEADER = "leader"
    FOLLOWER = "follower"
    OBSERVER = "observer"
    MEMBER = "member"
    UNKNOWN = "unknown"


class NodeState(StrEnum):
    """How a node is doing.

    UP answers and is in sync; SYNCING answers but has not caught up;
    NOT_SERVING answers that it serves nobody; UNREACHABLE has a running
    container but no answer; PARTITIONED is lost by the observer, but its sisters
    reach it; the others are the container's own state.
    """

    UP = "up"
    SYNCING = "syncing"
    NOT_SERVING = "not-serving"
    UNREACHABLE = "unreachable"
    PARTITIONED = "partitioned"
    PAUSED = "paused"
    STOPPED = "stopped"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a copy is behind; None where the store has no such figure.

    Args:
        bytes: Replication offset behind the primary's (Redis).
        seconds: Time since the last word from the primary (Redis).
        zxid: Transactions behind the leader (ZooKeeper).
        hints: Hints that other members keep for this node (Cassandra).
    """

    bytes: int | None = None
    seconds: float | None = None
    zxid: int | None = None
    hints: int | None = None


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node as it was seen.

    Args:
        why: Why the state is not UP, in the server's or the socket's own words.
        ownership: Share of the data this node keeps a copy of, 0 to 1 (Cassandra).
        version: The server's version.
        detail: What else the store says, for `-o wide`.
        position: How far the node's copy has got: replication offset in bytes (Redis),
            last zxid (ZooKeeper).
        priority: A replica's priority for promotion, lower first; 0 is never (Redis).
        zone: Where it stands, if `up` was told.
        follows: The node that a replica copies from, or that a Sentinel takes for the primary.
    """

    name: str
    role: Role
    state: NodeState
    host: str
    port: int
    lag: Lag | None = None
    why: str | None = None
    ownership: float | None = None
    version: str | None = None
    detail: str = ""
    position: int | None = None
    priority: int | None = None
    zone: str | None = None
    follows: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A cluster at one moment: its nodes, and a verdict with what speaks against it."""

    name: str
    store: StoreName
    mode: str
    taken: datetime
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    nodes: tuple[NodeView, ...] = field(default_factory=tuple)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The findings in words."""
        return tuple(f.text for f in self.findings)

    def with_role(self, *roles: Role) -> tuple[NodeView, ...]:
        """The nodes that are up and have one of `roles`."""
        return tuple(
            n for n in self.nodes if n.role in roles and n.state in (NodeState.UP, NodeState.SYNCING)
        )

    def plus(self, *findings: Finding) -> Snapshot:
        """The same with further findings (one at least): no longer healthy."""
        worse = Verdict.DEGRADED if self.verdict is Verdict.HEALTHY else self.verdict
        return replace(self, verdict=worse, findings=(*self.findings, *findings))


def verdict_of(findings: Sequence[Finding], *, serving: bool, blind: bool = False) -> Verdict:
    """What the findings against a cluster amount to; the same for every store.

    Args:
        serving: Whether the cluster can take writes, as far as can be seen.
        blind: Whether the observer reaches nobody and nobody refused: its own path may be cut.
    """
    if blind:
        return Verdict.UNKNOWN
    if not serving:
        return Verdict.DOWN
    return Verdict.DEGRADED if findings else Verdict.HEALTHY


def not_up(nodes: Sequence[NodeView]) -> tuple[Finding, ...]:
    """A finding for each node that is not up."""
    return tuple(
        Finding(
            FindingKind.PARTITION if n.state is NodeState.PARTITIONED else FindingKind.NODE,
            f"{n.name} is {n.state}" + (f": {n.why}" if n.why else ""),
            n.name,
        )
        for n in nodes
        if n.state is not NodeState.UP
    )

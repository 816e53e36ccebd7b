"""What the answers of a ZooKeeper ensemble amount to; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from haops.cluster.snapshot import (
    Finding,
    FindingKind,
    Lag,
    NodeState,
    NodeView,
    Role,
    Snapshot,
    not_up,
    verdict_of,
)
from haops.cluster.spec import Cluster, Node
from haops.stores.base import Unanswered, blind, now

# The low half of a zxid counts the transactions of an epoch, which stands in the high half.
_COUNTER_BITS: Final = 32
# A follower that is further behind has missed what the leader keeps for a quick catch-up
# (`zookeeper.commitLogCount`, 500).
LAG_ZXID: Final = 500
# A tenth of what a server takes before it throttles its clients (`zookeeper.globalOutstandingLimit`, 1000).
OUTSTANDING: Final = 100


@dataclass(frozen=True, slots=True)
class ServerReport:
    """A server's own `srvr` and `mntr`.

    Args:
        zxid: Its last processed transaction.
        synced: Followers that a leader counts as synced; None at others.
        outstanding: Requests that wait.
        shared: The lines of its configuration that all servers must have alike.
    """

    role: Role
    zxid: int
    version: str
    synced: int | None
    outstanding: int
    connections: int
    shared: tuple[str, ...] = ()


Report = ServerReport | Unanswered
Reports = Mapping[str, Report]


def judge(cluster: Cluster, reports: Reports) -> Snapshot:
    """The snapshot that these answers amount to; pure."""
    servers = {name: r for name, r in reports.items() if isinstance(r, ServerReport)}
    leaders = [name for name, r in servers.items() if r.role is Role.LEADER]
    newest = max((r.zxid for r in servers.values()), default=0)
    views = tuple(_view(node, reports[node.name], newest) for node in cluster.nodes)
    views = _partitioned(cluster, views, servers, leaders)
    # Followers serve only under a leader: if it runs and is not seen, it is lost from here alone.
    runs = any(v.state in (NodeState.UNREACHABLE, NodeState.PARTITIONED) for v in views)
    led = bool(leaders) or (runs and _followers_serve(cluster, servers))
    findings = [
        *_leader_findings(cluster, servers, leaders, led=led),
        *_copy_findings(servers, views),
        *_differing(servers),
        *not_up(views),
    ]
    serving = led and len(servers) >= majority(cluster)
    verdict = verdict_of(findings, serving=serving, blind=blind(reports.values()))
    return Snapshot(cluster.name, cluster.store, cluster.mode, now(), verdict, tuple(findings), views)


def _followers_serve(cluster: Cluster, servers: Mapping[str, ServerReport]) -> bool:
    return sum(r.role is Role.FOLLOWER for r in servers.values()) >= majority(cluster)


def _partitioned(
    cluster: Cluster,
    views: tuple[NodeView, ...],
    servers: Mapping[str, ServerReport],
    leaders: Sequence[str],
) -> tuple[NodeView, ...]:
    """Those that the observer has lost, but their sisters have not.

    A leader counts its followers in sync, and followers serve only under a leader. Neither
    names the other, so this can be told only where all that are lost are meant.
    """
    lost = [v.name for v in views if v.state is NodeState.UNREACHABLE]
    others = ""
    if len(leaders) == 1:
        followers = sum(r.role is Role.FOLLOWER for r in servers.values())
        if (servers[leaders[0]].synced or 0) - followers >= len(lost):
            others = f"but the leader {leaders[0]} counts it in sync"
    elif not leaders and len(lost) == 1 and _followers_serve(cluster, servers):
        others = f"but {', '.join(servers)} serve under it"
    if not others:
        return views
    return tuple(
        replace(v, state=NodeState.PARTITIONED, why=f"lost from here ({v.why}), {others}")
        if v.name in lost
        else v
        for v in views
    )


def _copy_findings(servers: Mapping[str, ServerReport], views: Sequence[NodeView]) -> list[Finding]:
    """Servers that lag, or have more to do than they get done."""
    found = [
        Finding(FindingKind.LAG, f"{v.name} is {v.lag.zxid:,} transactions behind (limit {LAG_ZXID})", v.name)
        for v in views
        if v.lag and v.lag.zxid is not None and v.lag.zxid > LAG_ZXID
    ]
    return found + [
        Finding(FindingKind.BACKLOG, f"{r.outstanding:,} requests wait at {name} (limit {OUTSTANDING})", name)
        for name, r in servers.items()
        if r.outstanding > OUTSTANDING
    ]


def _differing(servers: Mapping[str, ServerReport]) -> list[Finding]:
    """Settings that all servers of an ensemble must have alike."""
    settings = {
        name: {k: v for k, _, v in (line.partition("=") for line in r.shared)}
        for name, r in servers.items()
        if r.shared
    }
    found = []
    for key in sorted({key for held in settings.values() for key in held}):
        values = {name: held.get(key) for name, held in settings.items()}
        if len(set(values.values())) > 1:
            said = ", ".join(f"{name} has {value or 'none'}" for name, value in values.items())
            text = f"configurations differ in {key}: {said}"
            found.append(Finding(FindingKind.CONFIGURATION, text, about=key))
    return found


def transactions_behind(zxid: int, newest: int) -> int | None:
    """How many transactions lie between two zxids; None across epochs, where they cannot be counted."""
    if zxid >> _COUNTER_BITS != newest >> _COUNTER_BITS:
        return 0 if zxid >= newest else None
    return max(newest - zxid, 0)


def _view(node: Node, report: Report, newest: int) -> NodeView:
    if isinstance(report, Unanswered):
        return NodeView(
            node.name,
            Role.UNKNOWN,
            report.state,
            node.host,
            node.host_port,
            why=report.why,
            zone=node.params.get("zone"),
        )
    detail = f"zxid 0x{report.zxid:x}, {report.connections} connections, {report.outstanding} outstanding"
    return NodeView(
        node.name,
        report.role,
        NodeState.UP,
        node.host,
        node.host_port,
        lag=Lag(zxid=transactions_behind(report.zxid, newest)),
        version=report.version,
        detail=detail,
        position=report.zxid,
        zone=node.params.get("zone"),
    )


def majority(cluster: Cluster) -> int:
    """Servers that must agree before a write is acknowledged."""
    return len(cluster.servers) // 2 + 1


def _leader_findings(
    cluster: Cluster, servers: Mapping[str, ServerReport], leaders: Sequence[str], *, led: bool
) -> list[Finding]:
    total, needed = len(cluster.servers), majority(cluster)
    if not led:
        text = f"no server leads; {len(servers)} of {total} serve, a majority is {needed}"
        return [Finding(FindingKind.NO_PRIMARY, text)]
    found = []
    if not leaders:
        text = f"the leader is not seen from here, but {', '.join(servers)} serve under one"
        found.append(Finding(FindingKind.PARTITION, text))
    if len(servers) < needed:
        text = f"{len(servers)} of {total} serve, a majority is {needed}: no write can be acknowledged"
        found.append(Finding(FindingKind.NO_MAJORITY, text))
    if len(leaders) > 1:
        found.append(_split(servers, leaders))
    for name in leaders:
        synced = servers[name].synced
        if synced is not None and synced < total - 1:
            text = f"{name} counts {synced} of {total - 1} followers in sync"
            found.append(Finding(FindingKind.OUT_OF_SYNC, text, name))
    if len(servers) == needed < total:
        text = "quorum at risk: no server may be lost any more"
        found.append(Finding(FindingKind.QUORUM_AT_RISK, text))
    return found


def _split(servers: Mapping[str, ServerReport], leaders: Sequence[str]) -> Finding:
    """Two leaders: the one under the older epoch has been left, and steps down by itself."""
    text = f"split brain: {' and '.join(leaders)} all say that they lead"
    for name in leaders:
        report = servers[name]
        text += f"; {name}: epoch {report.zxid >> _COUNTER_BITS}, {report.synced or 0} followers in sync"
    return Finding(FindingKind.SPLIT_BRAIN, text)

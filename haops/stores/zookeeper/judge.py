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
from haops.stores.zookeeper.topology import is_observer, majority, observers, voters

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
        watched: Observers that a leader counts as synced; None at others.
    """

    role: Role
    zxid: int
    version: str
    synced: int | None
    outstanding: int
    connections: int
    shared: tuple[str, ...] = ()
    watched: int | None = None


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
    mute = {v.name for v in views if v.state in (NodeState.UNREACHABLE, NodeState.PARTITIONED)}
    runs = any(n.name in mute for n in voters(cluster))
    led = bool(leaders) or (runs and _followers_serve(cluster, servers))
    findings = [
        *_leader_findings(cluster, servers, leaders, led=led),
        *_copy_findings(servers, views),
        *_differing(servers),
        *not_up(views),
    ]
    serving = led and len(_voting(cluster, servers)) >= majority(cluster)
    verdict = verdict_of(findings, serving=serving, blind=blind(reports.values()))
    return Snapshot(cluster.name, cluster.store, cluster.mode, now(), verdict, tuple(findings), views)


def _voting(cluster: Cluster, servers: Mapping[str, ServerReport]) -> list[str]:
    """The voters among those that answer: observers never make a majority."""
    return [n.name for n in voters(cluster) if n.name in servers]


def _followers_serve(cluster: Cluster, servers: Mapping[str, ServerReport]) -> bool:
    return sum(r.role is Role.FOLLOWER for r in servers.values()) >= majority(cluster)


def _partitioned(
    cluster: Cluster,
    views: tuple[NodeView, ...],
    servers: Mapping[str, ServerReport],
    leaders: Sequence[str],
) -> tuple[NodeView, ...]:
    """Those that are lost from here, but not by their sisters.

    A leader counts its followers and its observers in sync, and followers serve only under a
    leader. Neither names the other, so this can be told only where all that are lost are meant.
    """
    gone = {v.name for v in views if v.state is NodeState.UNREACHABLE}
    found: dict[str, str] = {}
    for nodes, role in ((voters(cluster), Role.FOLLOWER), (observers(cluster), Role.OBSERVER)):
        lost = [n.name for n in nodes if n.name in gone]
        if len(leaders) == 1:
            leader = servers[leaders[0]]
            counted = (leader.watched if role is Role.OBSERVER else leader.synced) or 0
            if counted - sum(r.role is role for r in servers.values()) >= len(lost):
                found |= dict.fromkeys(lost, f"but the leader {leaders[0]} counts it in sync")
        elif not leaders and role is Role.FOLLOWER and len(lost) == 1 and _followers_serve(cluster, servers):
            found[lost[0]] = f"but {', '.join(_voting(cluster, servers))} serve under it"
    return tuple(
        replace(v, state=NodeState.PARTITIONED, why=f"lost from here ({v.why}), {found[v.name]}")
        if v.name in found
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
            # That it has no vote is certain by the record; whether a voter leads, only it can say.
            Role.OBSERVER if is_observer(node) else Role.UNKNOWN,
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


def _leader_findings(
    cluster: Cluster, servers: Mapping[str, ServerReport], leaders: Sequence[str], *, led: bool
) -> list[Finding]:
    voting = _voting(cluster, servers)
    total, needed = len(voters(cluster)), majority(cluster)
    if not led:
        text = f"no server leads; {len(voting)} of {total} serve, a majority is {needed}"
        return [Finding(FindingKind.NO_PRIMARY, text)]
    found = []
    if not leaders:
        text = f"the leader is not seen from here, but {', '.join(voting)} serve under one"
        found.append(Finding(FindingKind.PARTITION, text))
    if len(voting) < needed:
        text = f"{len(voting)} of {total} serve, a majority is {needed}: no write can be acknowledged"
        found.append(Finding(FindingKind.NO_MAJORITY, text))
    if len(leaders) > 1:
        found.append(_split(servers, leaders))
    for name in leaders:
        found += _missing(name, servers[name], total - 1, len(observers(cluster)))
    if len(voting) == needed < total:
        text = "quorum at risk: no server may be lost any more"
        found.append(Finding(FindingKind.QUORUM_AT_RISK, text))
    return found


def _missing(leader: str, report: ServerReport, followers: int, watchers: int) -> list[Finding]:
    """Those whom a leader should count in sync, and does not."""
    return [
        Finding(
            FindingKind.OUT_OF_SYNC, f"{leader} counts {has} of {wanted} {what} in sync", leader, about=about
        )
        for has, wanted, what, about in (
            (report.synced, followers, "followers", ""),
            (report.watched, watchers, "observers", "observers"),
        )
        if has is not None and has < wanted
    ]


def _split(servers: Mapping[str, ServerReport], leaders: Sequence[str]) -> Finding:
    """Two leaders: the one under the older epoch has been left, and steps down by itself."""
    text = f"split brain: {' and '.join(leaders)} all say that they lead"
    for name in leaders:
        report = servers[name]
        text += f"; {name}: epoch {report.zxid >> _COUNTER_BITS}, {report.synced or 0} followers in sync"
    return Finding(FindingKind.SPLIT_BRAIN, text)

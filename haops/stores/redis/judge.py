"""What the answers of a Redis replica set and its Sentinels amount to; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from haops.cluster.spec import AddressMap, Cluster, Node, NodeKind
from haops.stores.base import Unanswered, blind, now

# A healthy replica is some kilobytes behind; a sixth of the backlog (64 MB) is on its way to a full copy.
LAG_BYTES: Final = 10 * 1024 * 1024
# The primary pings its replicas every second (repl-ping-replica-period 1).
SILENT_S: Final = 4.0
# Whoever had a word from a node two of those pings ago or later still reaches it.
HEARD_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class ServerReport:
    """A server's own INFO, as far as replication goes.

    Args:
        offset: Replication offset in bytes: produced by a primary, processed by a replica.
        upstream: Whom a replica follows, by container address.
        link_up: Whether a replica's link to it stands.
        silent_s: Seconds since a replica last heard from it.
        replicas: Replicas that a primary counts as online.
        priority: A replica's priority for promotion, lower first; 0 is never.
        needs: Replicas without which it refuses writes (`min-replicas-to-write`).
        good: Replicas that count for that: online, and heard of lately.
        paused: Whether it holds writes back (`CLIENT PAUSE`); servers before Redis 8.2 do not tell.
        pause_left_s: Seconds until it lets them pass again.
        heard: Replicas, by container address, of which a primary heard lately.
    """

    is_primary: bool
    offset: int
    version: str
    upstream: tuple[str, int] | None = None
    link_up: bool = True
    syncing: bool = False
    silent_s: float = 0.0
    replicas: int = 0
    priority: int = 100
    needs: int = 0
    good: int = 0
    paused: bool = False
    pause_left_s: float = 0.0
    heard: tuple[tuple[str, int], ...] = ()

    @property
    def takes_writes(self) -> bool:
        """Whether a client's write would be accepted."""
        return self.is_primary and self.good >= self.needs


@dataclass(frozen=True, slots=True)
class SentinelReport:
    """One Sentinel's opinion."""

    primary: tuple[str, int]
    flags: tuple[str, ...]
    replicas: int
    sentinels: int
    quorum: int
    epoch: int
    version: str = ""
    down_after_ms: int = 0

    @property
    def suspects(self) -> bool:
        """Whether it holds the primary for dead."""
        return "s_down" in self.flags or "o_down" in self.flags


Report = ServerReport | SentinelReport | Unanswered
Reports = Mapping[str, Report]


def judge(cluster: Cluster, reports: Reports) -> Snapshot:
    """The snapshot that these answers amount to; pure."""
    servers = {n.name: r for n in cluster.servers if isinstance(r := reports[n.name], ServerReport)}
    opinions = {n.name: r for n in cluster.sentinels if isinstance(r := reports[n.name], SentinelReport)}
    primaries = [name for name, r in servers.items() if r.is_primary]
    # Without a primary the most advanced copy is the measure: a failover must not leave it behind.
    leading = max(
        (servers[p].offset for p in primaries),
        default=max((r.offset for r in servers.values()), default=None),
    )
    views = tuple(_view(cluster, node, reports, leading) for node in cluster.nodes)
    followed = {name: _upstream(cluster, r) for name, r in servers.items() if not r.is_primary}
    named = {name: _called(cluster, o.primary) for name, o in opinions.items()}
    findings = [
        *_split(primaries, followed, named),
        *_primary_findings(servers, primaries, views),
        *_lost_by_others(cluster, servers, primaries, opinions),
        *_replica_findings(cluster, servers, primaries),
        *_sentinel_findings(cluster, opinions, named, primaries),
        *_differing(cluster, opinions),
        *not_up(views),
    ]
    reached = any(v.state is NodeState.PARTITIONED for v in views)
    serving = any(servers[p].takes_writes for p in primaries) or (not primaries and reached)
    verdict = verdict_of(findings, serving=serving, blind=blind(reports.values()))
    return Snapshot(cluster.name, cluster.store, cluster.mode, now(), verdict, tuple(findings), views)


def _called(cluster: Cluster, address: tuple[str, int]) -> str:
    """A node's name, or a stranger's address."""
    node = AddressMap(cluster).node_at(address[0])
    return node.name if node else address[0]


def _upstream(cluster: Cluster, report: ServerReport) -> str:
    return _called(cluster, report.upstream) if report.upstream else "nobody"


def _view(cluster: Cluster, node: Node, reports: Reports, leading: int | None) -> NodeView:
    report = reports[node.name]
    if isinstance(report, Unanswered):
        return _unanswered_view(node, report, reports)
    if isinstance(report, SentinelReport):
        seen = AddressMap(cluster).node_at(report.primary[0])
        return NodeView(
            node.name,
            Role.SENTINEL,
            NodeState.UP,
            node.host,
            node.host_port,
            detail=f"watches {_called(cluster, report.primary)}, epoch {report.epoch}",
            zone=node.params.get("zone"),
            follows=seen.name if seen else None,
        )
    if report.is_primary:
        return NodeView(
            node.name,
            Role.PRIMARY,
            NodeState.UP,
            node.host,
            node.host_port,
            lag=Lag(bytes=0, seconds=0.0),
            version=report.version,
            detail=f"{report.replicas} replicas online",
            position=report.offset,
            zone=node.params.get("zone"),
        )
    return _replica_view(cluster, node, report, leading)


def _unanswered_view(node: Node, report: Unanswered, reports: Reports) -> NodeView:
    role = Role.SENTINEL if node.kind is NodeKind.SENTINEL else Role.UNKNOWN
    state, why = report.state, report.why
    if state is NodeState.UNREACHABLE and (others := _who_reach(node, reports)):
        state, why = NodeState.PARTITIONED, f"lost from here ({why}), reached by {', '.join(others)}"
    return NodeView(node.name, role, state, node.host, node.host_port, why=why, zone=node.params.get("zone"))


def _replica_view(cluster: Cluster, node: Node, report: ServerReport, leading: int | None) -> NodeView:
    upstream = AddressMap(cluster).node_at(report.upstream[0]) if report.upstream else None
    name = _upstream(cluster, report)
    why = None
    if not report.link_up:
        why = f"copying from {name}" if report.syncing else f"its link to {name} is down"
    behind = None if leading is None else max(leading - report.offset, 0)
    return NodeView(
        node.name,
        Role.REPLICA,
        NodeState.UP if report.link_up else NodeState.SYNCING,
        node.host,
        node.host_port,
        lag=Lag(bytes=behind, seconds=report.silent_s),
        why=why,
        version=report.version,
        detail=f"follows {name}",
        position=report.offset,
        priority=report.priority,
        zone=node.params.get("zone"),
        follows=upstream.name if upstream else None,
    )


def _who_reach(node: Node, reports: Reports) -> list[str]:
    """Servers that hear from a node which the observer has lost: its replicas, or its primary."""
    address = (node.address, node.port)
    return [
        name
        for name, r in reports.items()
        if isinstance(r, ServerReport)
        and ((r.upstream == address and r.link_up and r.silent_s <= HEARD_S) or address in r.heard)
    ]


def _split(primaries: Sequence[str], followed: Mapping[str, str], named: Mapping[str, str]) -> list[Finding]:
    """Two primaries: who of them is whose, for the writes to the other will be lost."""
    if len(primaries) < 2:
        return []
    text = f"split brain: {' and '.join(primaries)} all say that they are the primary"
    for name in primaries:
        sentinels = [s for s, primary in named.items() if primary == name]
        replicas = [r for r, upstream in followed.items() if upstream == name]
        text += f"; {name}: named by {_listed(sentinels, 'no Sentinel')}, followed by "
        text += _listed(replicas, "nobody")
    right = [p for p in primaries if 2 * sum(n == p for n in named.values()) > len(named)]
    if right:
        text += f"; the Sentinels turn the other back, what it took meanwhile is lost: write to {right[0]}"
    return [Finding(FindingKind.SPLIT_BRAIN, text)]


def _listed(names: Sequence[str], nobody: str) -> str:
    return ", ".join(names) or nobody


def _primary_findings(
    servers: Mapping[str, ServerReport], primaries: Sequence[str], views: Sequence[NodeView]
) -> list[Finding]:
    if not primaries:
        if any(v.state is NodeState.PARTITIONED for v in views):
            return []
        text = "no server that answers is a primary: nothing takes writes"
        return [Finding(FindingKind.NO_PRIMARY, text)]
    found = []
    for name in primaries:
        report = servers[name]
        if not report.takes_writes:
            text = (
                f"{name} refuses writes: {report.good} of the {report.needs} replicas that it needs are there"
                " (min-replicas-to-write)"
            )
            found.append(Finding(FindingKind.NO_WRITES, text, name))
        if report.paused:
            left = f", for {report.pause_left_s:g} s more" if report.pause_left_s else ""
            text = f"{name} holds writes back (CLIENT PAUSE{left})"
            found.append(Finding(FindingKind.PAUSED_WRITES, text, name))
    return found


def _lost_by_others(
    cluster: Cluster,
    servers: Mapping[str, ServerReport],
    primaries: Sequence[str],
    opinions: Mapping[str, SentinelReport],
) -> list[Finding]:
    """A primary that answers the observer, but none of the replicas that follow it."""
    found = []
    for name in primaries:
        links = {
            n: r.link_up for n, r in servers.items() if not r.is_primary and _upstream(cluster, r) == name
        }
        lost = [n for n, up in links.items() if not up]
        lost += [n for n, o in opinions.items() if o.suspects and _called(cluster, o.primary) == name]
        if links and not any(links.values()):
            text = f"{name} answers from here, but {', '.join(lost)} have lost it"
            found.append(Finding(FindingKind.PARTITION, text, name))
    return found


def _replica_findings(
    cluster: Cluster, servers: Mapping[str, ServerReport], primaries: Sequence[str]
) -> list[Finding]:
    """Replicas that follow the wrong server, or lag."""
    found = []
    leading = max((servers[p].offset for p in primaries), default=None)
    for name, report in servers.items():
        if report.is_primary or report.upstream is None:
            continue
        called = _upstream(cluster, report)
        if primaries and called not in primaries:
            text = f"{name} follows {called}, not {' or '.join(primaries)}"
            if called in servers:
                text += f": a chain, which ends if {called} does"
            found.append(Finding(FindingKind.WRONG_UPSTREAM, text, name))
        behind = max(leading - report.offset, 0) if leading is not None else 0
        if behind > LAG_BYTES:
            text = f"{name} is {behind:,} B behind (limit {LAG_BYTES:,} B)"
            found.append(Finding(FindingKind.LAG, text, name))
        elif report.link_up and report.silent_s > SILENT_S:
            text = f"{name} has heard nothing from {called} for {report.silent_s:g} s (limit {SILENT_S:g} s)"
            found.append(Finding(FindingKind.LAG, text, name))
    return found


def _sentinel_findings(
    cluster: Cluster,
    opinions: Mapping[str, SentinelReport],
    named: Mapping[str, str],
    primaries: Sequence[str],
) -> list[Finding]:
    found = []
    majority = len(cluster.sentinels) // 2 + 1
    if len(opinions) < majority:
        text = f"{len(opinions)} of {len(cluster.sentinels)} Sentinels answer: no majority can fail over"
        found.append(Finding(FindingKind.NO_MAJORITY, text))
    expected = primaries or [n for n in named.values() if 2 * list(named.values()).count(n) > len(named)][:1]
    newest = max((o.epoch for o in opinions.values()), default=0)
    for name, opinion in opinions.items():
        if expected and named[name] not in expected:
            truth = f"it is {' and '.join(primaries)}" if primaries else f"the others take {expected[0]}"
            text = f"{name} takes {named[name]} for the primary, but {truth}"
            found.append(Finding(FindingKind.SENTINEL_DISAGREES, text, name))
        if opinion.epoch < newest:
            text = f"{name} is stale: it knows epoch {opinion.epoch}, others know {newest}"
            found.append(Finding(FindingKind.SENTINEL_STALE, text, name))
        if opinion.suspects:
            text = f"{name} holds {named[name]} for dead"
            found.append(Finding(FindingKind.SENTINEL_SUSPECTS, text, name))
        if "failover_in_progress" in opinion.flags:
            found.append(Finding(FindingKind.FAILOVER_RUNS, f"{name} runs a failover", name))
    return found


def _differing(cluster: Cluster, opinions: Mapping[str, SentinelReport]) -> list[Finding]:
    """Settings that should be the same at every Sentinel, and Sentinels that are no more."""
    found = []
    settings = {
        "quorum": {n: o.quorum for n, o in opinions.items()},
        "down-after-milliseconds": {n: o.down_after_ms for n, o in opinions.items()},
        "number of known Sentinels": {n: o.sentinels for n, o in opinions.items()},
        "number of known replicas": {n: o.replicas for n, o in opinions.items()},
    }
    for what, values in settings.items():
        if len(set(values.values())) > 1:
            said = ", ".join(f"{n} has {v}" for n, v in values.items())
            text = f"the Sentinels differ in {what}: {said}"
            found.append(Finding(FindingKind.CONFIGURATION, text, about=what))
    total = len(cluster.sentinels)
    for name, opinion in opinions.items():
        if opinion.sentinels > total:
            text = (
                f"{name} counts {opinion.sentinels} Sentinels, but there are {total}: dead ones raise the"
                f" majority that a failover needs; SENTINEL RESET there forgets them"
            )
            found.append(Finding(FindingKind.CONFIGURATION, text, name, "dead Sentinels"))
    return found

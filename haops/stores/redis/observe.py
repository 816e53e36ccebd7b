"""One look at a Redis replica set: INFO of the servers, the Sentinels' opinions, a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from haops.cluster.snapshot import Lag, NodeState, NodeView, Role, Snapshot, not_up, verdict_of
from haops.cluster.spec import AddressMap, Cluster, Node, NodeKind
from haops.parallel import ask_all
from haops.runtime.port import Container
from haops.stores.base import ANSWER_S, Unanswered, not_running, now, unreachable
from haops.stores.redis.connect import connect_node
from haops.stores.redis.topology import SERVICE


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

    @property
    def suspects(self) -> bool:
        """Whether it holds the primary for dead."""
        return "s_down" in self.flags or "o_down" in self.flags


Report = ServerReport | SentinelReport | Unanswered
Reports = Mapping[str, Report]


def parse_info(info: Mapping[str, Any]) -> ServerReport:
    """INFO as redis-py parses it."""
    version = str(info.get("redis_version", ""))
    if info["role"] == "master":
        online = sum(1 for k, v in info.items() if k.startswith("slave") and _online(v))
        return ServerReport(
            is_primary=True, offset=int(info["master_repl_offset"]), version=version, replicas=online
        )
    return ServerReport(
        is_primary=False,
        offset=int(info.get("slave_repl_offset", 0)),
        version=version,
        upstream=(str(info["master_host"]), int(info["master_port"])),
        link_up=info.get("master_link_status") == "up",
        syncing=bool(info.get("master_sync_in_progress")),
        silent_s=float(max(info.get("master_last_io_seconds_ago", -1), 0)),
        priority=int(info.get("slave_priority", 100)),
    )


def _online(value: object) -> bool:
    return isinstance(value, dict) and value.get("state") == "online"


def parse_sentinel(state: Mapping[str, Any]) -> SentinelReport:
    """One entry of SENTINEL MASTERS as redis-py parses it."""
    flags = state["flags"]
    names = flags if isinstance(flags, (set, frozenset, list, tuple)) else str(flags).split(",")
    return SentinelReport(
        primary=(str(state["ip"]), int(state["port"])),
        flags=tuple(sorted(names)),
        replicas=int(state["num-slaves"]),
        sentinels=int(state["num-other-sentinels"]) + 1,
        quorum=int(state["quorum"]),
        epoch=int(state["config-epoch"]),
    )


def ask(node: Node) -> ServerReport | SentinelReport:
    """One node's answer. Raises RedisError, OSError, or LookupError for a Sentinel without a primary."""
    client = connect_node(node, ANSWER_S)
    try:
        if node.kind is NodeKind.SERVER:
            return parse_info(client.info("server") | client.info("replication"))
        states: dict[str, dict[str, Any]] = client.sentinel_masters()  # type: ignore[assignment]
        return parse_sentinel(states[SERVICE])
    finally:
        client.close()


def gather(cluster: Cluster, containers: Mapping[str, Container]) -> Reports:
    """Every node's answer, or why there is none."""

    def one(node: Node) -> Report:
        try:
            return not_running(node, containers) or ask(node)
        except (RedisError, OSError, LookupError) as error:
            return unreachable(error)

    return dict(zip((n.name for n in cluster.nodes), ask_all(one, cluster.nodes), strict=True))


def judge(cluster: Cluster, reports: Reports) -> Snapshot:
    """The snapshot that these answers amount to; pure."""
    servers = {n.name: r for n in cluster.servers if isinstance(r := reports[n.name], ServerReport)}
    primaries = [name for name, r in servers.items() if r.is_primary]
    # Without a primary the most advanced copy is the measure: a failover must not leave it behind.
    leading = max(
        (servers[p].offset for p in primaries),
        default=max((r.offset for r in servers.values()), default=None),
    )
    views = tuple(_view(cluster, node, reports[node.name], leading) for node in cluster.nodes)
    reasons = [
        *_primary_reasons(primaries),
        *_sentinel_reasons(cluster, reports, primaries),
        *not_up(views),
    ]
    verdict = verdict_of(reasons, serving=bool(primaries))
    return Snapshot(cluster.name, cluster.store, cluster.mode, now(), verdict, tuple(reasons), views)


def _view(cluster: Cluster, node: Node, report: Report, leading: int | None) -> NodeView:
    if isinstance(report, Unanswered):
        role = Role.SENTINEL if node.kind is NodeKind.SENTINEL else Role.UNKNOWN
        return NodeView(node.name, role, report.state, node.host, node.host_port, why=report.why)
    if isinstance(report, SentinelReport):
        seen = AddressMap(cluster).node_at(report.primary[0])
        detail = f"watches {seen.name if seen else report.primary[0]}, epoch {report.epoch}"
        return NodeView(
            node.name,
            Role.SENTINEL,
            NodeState.UP,
            node.host,
            node.host_port,
            detail=detail,
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


def _replica_view(cluster: Cluster, node: Node, report: ServerReport, leading: int | None) -> NodeView:
    upstream = AddressMap(cluster).node_at(report.upstream[0]) if report.upstream else None
    name = upstream.name if upstream else (report.upstream or ("nobody", 0))[0]
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


def _primary_reasons(primaries: Sequence[str]) -> list[str]:
    if not primaries:
        return ["no server that answers is a primary: nothing takes writes"]
    if len(primaries) > 1:
        return [f"split brain: {' and '.join(primaries)} all say that they are the primary"]
    return []


def _sentinel_reasons(cluster: Cluster, reports: Reports, primaries: Sequence[str]) -> list[str]:
    opinions = {n.name: r for n in cluster.sentinels if isinstance(r := reports[n.name], SentinelReport)}
    reasons = []
    majority = len(cluster.sentinels) // 2 + 1
    if len(opinions) < majority:
        reasons.append(
            f"{len(opinions)} of {len(cluster.sentinels)} Sentinels answer: no majority can fail over"
        )
    addresses = AddressMap(cluster)
    for name, opinion in opinions.items():
        seen = addresses.node_at(opinion.primary[0])
        called = seen.name if seen else opinion.primary[0]
        if primaries and called not in primaries:
            reasons.append(f"{name} takes {called} for the primary, but it is {' and '.join(primaries)}")
        if opinion.suspects:
            reasons.append(f"{name} holds {called} for dead")
    return reasons


def observe(cluster: Cluster, containers: Mapping[str, Container]) -> Snapshot:
    """Ask every node once and judge."""
    return judge(cluster, gather(cluster, containers))

"""One look at a Cassandra ring: every member's own tables, what the members think of each other, a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cassandra import DriverException, OperationTimedOut, RequestExecutionException
from cassandra.cluster import NoHostAvailable
from cassandra.protocol import ErrorMessage

from haops.cluster.snapshot import Lag, NodeState, NodeView, Role, Snapshot, not_up, verdict_of
from haops.cluster.spec import AddressMap, Cluster, Node
from haops.parallel import ask_all
from haops.runtime.port import Container
from haops.stores.base import ANSWER_S, Unanswered, not_running, now, unreachable
from haops.stores.cassandra.connect import connect
from haops.stores.cassandra.topology import replication

# What servers answer with (overloaded, bootstrapping, ...) is an ErrorMessage, which no other covers.
TROUBLE: Final = (
    DriverException,
    ErrorMessage,
    OperationTimedOut,
    RequestExecutionException,
    NoHostAvailable,
    OSError,
)

_LOCAL: Final = "SELECT host_id, schema_version, release_version, tokens FROM system.local"
_PEERS: Final = "SELECT host_id, schema_version FROM system.peers_v2"
_HINTS: Final = "SELECT address, files FROM system_views.pending_hints"
_RING: Final = 2**64


@dataclass(frozen=True, slots=True)
class MemberReport:
    """A member's own view.

    Args:
        tokens: The tokens it owns.
        schema: Its schema version.
        peers: How many other members it knows.
        hints: For each member it keeps hints for (by container address), the files of hints.
    """

    version: str
    tokens: tuple[int, ...]
    schema: str
    peers: int
    hints: Mapping[str, int]


Report = MemberReport | Unanswered
Reports = Mapping[str, Report]


def ask(session: Any, host: Any) -> MemberReport:
    """One member's answer, from that very member. Raises one of TROUBLE."""

    def rows(query: str) -> list[Any]:
        return list(session.execute(query, host=host, timeout=ANSWER_S))

    local = rows(_LOCAL)[0]
    return MemberReport(
        version=local.release_version,
        tokens=tuple(int(t) for t in local.tokens),
        schema=str(local.schema_version),
        peers=len(rows(_PEERS)),
        hints={row.address: row.files for row in rows(_HINTS)},
    )


def gather(cluster: Cluster, containers: Mapping[str, Container]) -> Reports:
    """Every member's answer, or why there is none."""
    gone = {n.name: why for n in cluster.nodes if (why := not_running(n, containers))}
    running = [n for n in cluster.nodes if n.name not in gone]
    return {**gone, **_ask_running(running)}


def _ask_running(nodes: Sequence[Node]) -> Reports:
    if not nodes:
        return {}
    try:
        with connect(nodes, timeout_s=ANSWER_S, metadata=False) as session:
            hosts = {(h.endpoint.address, h.endpoint.port): h for h in session.cluster.metadata.all_hosts()}

            def one(node: Node) -> Report:
                try:
                    return ask(session, hosts[node.host, node.host_port])
                except KeyError:
                    return unreachable("the other members do not know it")
                except TROUBLE as error:
                    return unreachable(error)

            return dict(zip((n.name for n in nodes), ask_all(one, nodes), strict=True))
    except TROUBLE as error:
        return {n.name: unreachable(error) for n in nodes}


def judge(cluster: Cluster, reports: Reports) -> Snapshot:
    """The snapshot that these answers amount to; pure."""
    members = {name: r for name, r in reports.items() if isinstance(r, MemberReport)}
    hints = _hints_for(cluster, members)
    owned = ownership(cluster)
    views = tuple(
        _view(node, reports[node.name], hints[node.name], owned[node.name]) for node in cluster.nodes
    )
    lost = _ranges_without_quorum(cluster, members)
    reasons = [*lost, *_member_reasons(cluster, members, hints), *not_up(views)]
    verdict = verdict_of(reasons, serving=bool(members) and not lost)
    return Snapshot(cluster.name, cluster.store, cluster.mode, now(), verdict, tuple(reasons), views)


def ownership(cluster: Cluster) -> Mapping[str, float]:
    """Share of the data that each node keeps a copy of: its own range and those of RF - 1 before it."""
    ring = sorted(cluster.servers, key=lambda n: int(n.params["token"]))
    tokens = [int(n.params["token"]) for n in ring]
    # With one token the range before it is the whole ring, which the modulus would make empty.
    spans = [(t - tokens[i - 1]) % _RING or _RING for i, t in enumerate(tokens)]
    copies = replication(len(ring))
    return {node.name: sum(spans[i - back] for back in range(copies)) / _RING for i, node in enumerate(ring)}


def _ranges_without_quorum(cluster: Cluster, members: Mapping[str, MemberReport]) -> list[str]:
    ring = sorted(cluster.servers, key=lambda n: int(n.params["token"]))
    copies = replication(len(ring))
    quorum = copies // 2 + 1
    lost = 0
    for i in range(len(ring)):
        holders = [ring[(i + step) % len(ring)] for step in range(copies)]
        lost += sum(h.name in members for h in holders) < quorum
    if not lost:
        return []
    return [
        f"{lost} of {len(ring)} token ranges have fewer than {quorum} of {copies} copies: QUORUM fails there"
    ]


def _hints_for(cluster: Cluster, members: Mapping[str, MemberReport]) -> Mapping[str, int]:
    addresses = AddressMap(cluster)
    total = dict.fromkeys((n.name for n in cluster.nodes), 0)
    for report in members.values():
        for address, files in report.hints.items():
            if node := addresses.node_at(address):
                total[node.name] += files
    return total


def _member_reasons(
    cluster: Cluster, members: Mapping[str, MemberReport], hints: Mapping[str, int]
) -> list[str]:
    reasons = []
    schemas = {r.schema for r in members.values()}
    if len(schemas) > 1:
        reasons.append(f"{len(schemas)} schema versions among {len(members)} members")
    for name, report in members.items():
        if report.peers < len(cluster.servers) - 1:
            reasons.append(f"{name} knows {report.peers} of {len(cluster.servers) - 1} other members")
    reasons += [f"hints wait for {name}: {files} files" for name, files in hints.items() if files]
    return reasons


def _view(node: Node, report: Report, hints: int, owned: float) -> NodeView:
    lag = Lag(hints=hints)
    if isinstance(report, Unanswered):
        return NodeView(
            node.name, Role.MEMBER, report.state, node.host, node.host_port, lag, report.why, ownership=owned
        )
    return NodeView(
        node.name,
        Role.MEMBER,
        NodeState.UP,
        node.host,
        node.host_port,
        lag,
        ownership=owned,
        version=report.version,
        detail=f"token {node.params['token']}, knows {report.peers} others",
    )


def observe(cluster: Cluster, containers: Mapping[str, Container]) -> Snapshot:
    """Ask every member once and judge."""
    return judge(cluster, gather(cluster, containers))

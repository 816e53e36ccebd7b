"""One look at a ZooKeeper ensemble: `mntr` of every server, a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from haops.cluster.snapshot import Lag, NodeState, NodeView, Role, Snapshot, not_up, verdict_of
from haops.cluster.spec import Cluster, Node
from haops.parallel import ask_all
from haops.runtime.port import Container
from haops.stores.base import ANSWER_S, Unanswered, not_running, now, unreachable
from haops.stores.zookeeper.connect import four_letter

_ROLES = {
    "leader": Role.LEADER,
    "standalone": Role.LEADER,
    "follower": Role.FOLLOWER,
    "observer": Role.OBSERVER,
}
# The low half of a zxid counts the transactions of an epoch, which stands in the high half.
_COUNTER_BITS = 32
_CUT_OFF = "its answer was cut off"


class NotServing(OSError):
    """The server runs but has no leader to serve under."""


@dataclass(frozen=True, slots=True)
class ServerReport:
    """A server's own `srvr` and `mntr`.

    Args:
        zxid: Its last processed transaction.
        synced: Followers that a leader counts as synced; None at others.
        outstanding: Requests that wait.
    """

    role: Role
    zxid: int
    version: str
    synced: int | None
    outstanding: int
    connections: int


Report = ServerReport | Unanswered
Reports = Mapping[str, Report]


def parse_mntr(text: str, zxid: int) -> ServerReport:
    """`mntr` as the server prints it: a key, a tab, a value a line.

    Raises:
        NotServing: The server says that it does not serve requests.
    """
    values = dict(line.split("\t", 1) for line in text.splitlines() if "\t" in line)
    if "zk_server_state" not in values:
        raise NotServing(text.strip() or "closed the connection without an answer")
    synced = values.get("zk_synced_followers")
    try:
        return ServerReport(
            role=_ROLES.get(values["zk_server_state"], Role.UNKNOWN),
            zxid=zxid,
            version=values.get("zk_version", "").partition("-")[0],
            synced=int(float(synced)) if synced is not None else None,
            outstanding=int(float(values.get("zk_outstanding_requests", "0"))),
            connections=int(float(values.get("zk_num_alive_connections", "0"))),
        )
    except (ValueError, OverflowError):
        raise NotServing(_CUT_OFF) from None


def parse_zxid(srvr: str) -> int:
    """The `Zxid:` line of `srvr`.

    Raises:
        NotServing: There is none.
    """
    for line in srvr.splitlines():
        if line.startswith("Zxid:"):
            try:
                return int(line.split()[1], 16)
            except (IndexError, ValueError):
                raise NotServing(_CUT_OFF) from None
    raise NotServing(srvr.strip() or "closed the connection without an answer")


def ask(node: Node) -> ServerReport:
    """One server's answer. Raises OSError."""
    zxid = parse_zxid(four_letter(node, "srvr", ANSWER_S))
    return parse_mntr(four_letter(node, "mntr", ANSWER_S), zxid)


def gather(cluster: Cluster, containers: Mapping[str, Container]) -> Reports:
    """Every node's answer, or why there is none."""

    def one(node: Node) -> Report:
        try:
            return not_running(node, containers) or ask(node)
        except OSError as error:
            return unreachable(error)

    return dict(zip((n.name for n in cluster.nodes), ask_all(one, cluster.nodes), strict=True))


def judge(cluster: Cluster, reports: Reports) -> Snapshot:
    """The snapshot that these answers amount to; pure."""
    servers = {name: r for name, r in reports.items() if isinstance(r, ServerReport)}
    leaders = [name for name, r in servers.items() if r.role is Role.LEADER]
    newest = max((r.zxid for r in servers.values()), default=0)
    views = tuple(_view(node, reports[node.name], newest) for node in cluster.nodes)
    reasons = [*_leader_reasons(cluster, servers, leaders), *not_up(views)]
    verdict = verdict_of(reasons, serving=bool(leaders) and len(servers) >= majority(cluster))
    return Snapshot(cluster.name, cluster.store, cluster.mode, now(), verdict, tuple(reasons), views)


def transactions_behind(zxid: int, newest: int) -> int | None:
    """How many transactions lie between two zxids; None across epochs, where they cannot be counted."""
    if zxid >> _COUNTER_BITS != newest >> _COUNTER_BITS:
        return 0 if zxid >= newest else None
    return max(newest - zxid, 0)


def _view(node: Node, report: Report, newest: int) -> NodeView:
    if isinstance(report, Unanswered):
        return NodeView(node.name, Role.UNKNOWN, report.state, node.host, node.host_port, why=report.why)
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
    )


def majority(cluster: Cluster) -> int:
    """Servers that must agree before a write is acknowledged."""
    return len(cluster.servers) // 2 + 1


def _leader_reasons(cluster: Cluster, servers: Mapping[str, ServerReport], leaders: list[str]) -> list[str]:
    total, needed = len(cluster.servers), majority(cluster)
    if not leaders:
        return [f"no server leads; {len(servers)} of {total} serve, a majority is {needed}"]
    reasons = []
    if len(servers) < needed:
        reasons.append(
            f"{len(servers)} of {total} serve, a majority is {needed}: no write can be acknowledged"
        )
    if len(leaders) > 1:
        reasons.append(f"split brain: {' and '.join(leaders)} all say that they lead")
    for name in leaders:
        synced = servers[name].synced
        if synced is not None and synced < len(cluster.servers) - 1:
            reasons.append(f"{name} counts {synced} of {len(cluster.servers) - 1} followers in sync")
    if len(servers) == needed < total:
        reasons.append("quorum at risk: no server may be lost any more")
    return reasons


def observe(cluster: Cluster, containers: Mapping[str, Container]) -> Snapshot:
    """Ask every node once and judge."""
    return judge(cluster, gather(cluster, containers))

"""One look at a ZooKeeper ensemble: `srvr`, `mntr` and `conf` of every server, a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from haops.cluster.snapshot import NodeState, Role, Snapshot
from haops.cluster.spec import Cluster, Node
from haops.parallel import ask_all
from haops.runtime.port import Container
from haops.stores.base import ANSWER_S, Unanswered, first_line, not_running, unreachable
from haops.stores.zookeeper.connect import four_letter
from haops.stores.zookeeper.judge import (
    Report,
    Reports,
    ServerReport,
    judge,
    transactions_behind,
)
from haops.stores.zookeeper.topology import majority

__all__ = [
    "NotServing",
    "Report",
    "Reports",
    "ServerReport",
    "ask",
    "gather",
    "judge",
    "majority",
    "observe",
    "transactions_behind",
]

_ROLES: Final = {
    "leader": Role.LEADER,
    "standalone": Role.LEADER,
    "follower": Role.FOLLOWER,
    "observer": Role.OBSERVER,
}
_CUT_OFF: Final = "its answer was cut off"
# What must be the same at every server of an ensemble, as `conf` prints it.
_SHARED: Final = ("tickTime", "initLimit", "syncLimit", "server.")


class NotServing(OSError):
    """The server runs but has no leader to serve under."""


def parse_mntr(text: str, zxid: int) -> ServerReport:
    """`mntr` as the server prints it: a key, a tab, a value a line.

    Raises:
        NotServing: The server says that it does not serve requests.
    """
    values = dict(line.split("\t", 1) for line in text.splitlines() if "\t" in line)
    if "zk_server_state" not in values:
        raise NotServing(text.strip() or "closed the connection without an answer")

    def count(key: str) -> int | None:
        return int(float(values[key])) if key in values else None

    try:
        return ServerReport(
            role=(role := _ROLES.get(values["zk_server_state"], Role.UNKNOWN)),
            zxid=zxid,
            version=values.get("zk_version", "").partition("-")[0],
            synced=count("zk_synced_followers"),
            outstanding=count("zk_outstanding_requests") or 0,
            connections=count("zk_num_alive_connections") or 0,
            # A follower that other observers are fed by would count those alone.
            watched=count("zk_synced_observers") if role is Role.LEADER else None,
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
    report = parse_mntr(four_letter(node, "mntr", ANSWER_S), zxid)
    return replace(report, shared=parse_conf(four_letter(node, "conf", ANSWER_S)))


def parse_conf(text: str) -> tuple[str, ...]:
    """The lines of `conf` that all servers of an ensemble must have alike, sorted."""
    return tuple(sorted(line.strip() for line in text.splitlines() if line.startswith(_SHARED)))


def gather(cluster: Cluster, containers: Mapping[str, Container]) -> Reports:
    """Every node's answer, or why there is none."""

    def one(node: Node) -> Report:
        try:
            return not_running(node, containers) or ask(node)
        except NotServing as error:
            return Unanswered(NodeState.NOT_SERVING, first_line(error))
        except OSError as error:
            return unreachable(error)

    return dict(zip((n.name for n in cluster.nodes), ask_all(one, cluster.nodes), strict=True))


def observe(cluster: Cluster, containers: Mapping[str, Container]) -> Snapshot:
    """Ask every node once and judge."""
    return judge(cluster, gather(cluster, containers))

"""One look at a Cassandra ring: every member's own tables, what the members think of each other, a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from cassandra import ConsistencyLevel, OperationTimedOut
from cassandra.cluster import NoHostAvailable
from cassandra.query import SimpleStatement

from haops.cluster.snapshot import NodeState, Snapshot
from haops.cluster.spec import Cluster, Node
from haops.parallel import ask_all
from haops.runtime.port import Container
from haops.stores.base import ANSWER_S, Unanswered, not_running, unreachable
from haops.stores.cassandra.connect import TROUBLE, answers_options, connect
from haops.stores.cassandra.judge import Heartbeat, MemberReport, Report, Reports, judge, ownership
from haops.stores.cassandra.topology import KEYSPACE

__all__ = [
    "TROUBLE",
    "Heartbeat",
    "MemberReport",
    "Report",
    "Reports",
    "ask",
    "gather",
    "gather_from",
    "judge",
    "observe",
    "ownership",
]

_LOCAL: Final = "SELECT host_id, schema_version, release_version, tokens FROM system.local"
_PEERS: Final = "SELECT peer FROM system.peers_v2"
_HINTS: Final = "SELECT address, files FROM system_views.pending_hints"
_KEYSPACE: Final = f"SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = '{KEYSPACE}'"
_GOSSIP: Final = "SELECT address, generation, heartbeat FROM system_views.gossip_info"
# The table that readiness makes, with a row of each member in it.
_PROOF: Final = f"{KEYSPACE}.ready"
# What a member's sisters are asked when it does not answer us: a read of its range with all copies
# taking part. It takes a few milliseconds, and fails at once if they hold the member for dead.
_REACH_S: Final = 0.2
# A contact point may freeze while it is used; a second one costs a look another time-out.
_CONTACTS: Final = 2


def ask(session: Any, host: Any) -> MemberReport:
    """One member's answer, from that very member. Raises one of TROUBLE."""
    queries = (_LOCAL, _PEERS, _HINTS, _KEYSPACE, _GOSSIP)
    asked = [session.execute_async(query, host=host, timeout=ANSWER_S) for query in queries]
    (local,), peers, hints, keyspaces, gossip = (list(answer.result()) for answer in asked)
    return MemberReport(
        version=local.release_version,
        tokens=tuple(int(t) for t in local.tokens),
        schema=str(local.schema_version),
        peers=len(peers),
        hints={row.address: row.files for row in hints},
        copies=next((_copies(row.replication) for row in keyspaces), None),
        known=frozenset(row.peer for row in peers),
        heard={row.address: Heartbeat(row.generation, row.heartbeat) for row in gossip},
    )


def _copies(options: Mapping[str, str]) -> int:
    """Copies in all data centres together."""
    return sum(int(value) for name, value in options.items() if name != "class" and value.isdigit())


def gather(cluster: Cluster, containers: Mapping[str, Container]) -> Reports:
    """Every member's answer, or why there is none."""
    gone = {n.name: why for n in cluster.nodes if (why := not_running(n, containers))}
    return {**gone, **gather_from(cluster, [n for n in cluster.nodes if n.name not in gone])}


def gather_from(cluster: Cluster, running: Sequence[Node]) -> Reports:
    """The same of members whose containers run."""
    if not running:
        return {}
    # The driver does not tell whether a lost member refused or was silent, and a silent contact
    # point costs it a whole time-out: it begins with the first member that answers a knock.
    asked: Reports = {}
    with ThreadPoolExecutor(max_workers=len(running)) as pool:
        knocks = {pool.submit(_knock, node): node for node in running}
        answering = (knocks[done] for done in as_completed(knocks) if done.result() is None)
        for contact in islice(answering, _CONTACTS):
            asked = _ask_running(cluster, contact, running)
            if any(isinstance(report, MemberReport) for report in asked.values()):
                break
        closed = {node.name: why for done, node in knocks.items() if (why := done.result())}
    lost = {name: why for name, why in closed.items() if not isinstance(asked.get(name), MemberReport)}
    return {**asked, **lost}


def _knock(node: Node) -> Unanswered | None:
    try:
        return None if answers_options(node, ANSWER_S) else unreachable("it does not speak CQL")
    except OSError as error:
        return unreachable(error)


def _ask_running(cluster: Cluster, contact: Node, nodes: Sequence[Node]) -> dict[str, Report]:
    try:
        with connect([contact], timeout_s=ANSWER_S, metadata=False) as session:
            hosts = {(h.endpoint.address, h.endpoint.port): h for h in session.cluster.metadata.all_hosts()}

            def one(node: Node) -> Report:
                try:
                    return ask(session, hosts[node.host, node.host_port])
                except KeyError:
                    return unreachable("the other members do not know it")
                except TROUBLE as error:
                    return _lost(error)

            found = dict(zip((n.name for n in nodes), ask_all(one, nodes), strict=True))
            lost = [n for n in nodes if isinstance(found[n.name], Unanswered)]
            return _corroborated(cluster, session, hosts, found, lost) if lost else found
    except TROUBLE as error:
        return {n.name: _lost(error) for n in nodes}


def _lost(error: Exception) -> Unanswered:
    """The driver's error without its connections; a time-out among them is no evidence of death."""
    causes = (
        [error, *getattr(error, "errors", {}).values()] if isinstance(error, NoHostAvailable) else [error]
    )
    if any(isinstance(cause, OperationTimedOut) for cause in causes):
        return Unanswered(
            NodeState.UNREACHABLE, "its port answers, but no CQL request does in time", silent=True
        )
    return unreachable(causes[-1])


def _corroborated(
    cluster: Cluster,
    session: Any,
    hosts: Mapping[tuple[str, int], Any],
    found: Mapping[str, Report],
    lost: Sequence[Node],
) -> dict[str, Report]:
    """The same, with what the members that answer say of those that do not."""

    def one(name: str) -> Report:
        report = found[name]
        if isinstance(report, Unanswered):
            return report
        node = cluster.node(name)
        host = hosts[node.host, node.host_port]
        return replace(report, reaches=tuple(n.name for n in lost if _reads_with(cluster, session, host, n)))

    return dict(zip(found, ask_all(one, found), strict=True))


def _reads_with(cluster: Cluster, session: Any, host: Any, lost: Node) -> bool:
    """Whether `host` gets the rows of another's range with that one taking part."""
    tokens = sorted(int(n.params["token"]) for n in cluster.servers)
    token = int(lost.params["token"])
    first = tokens.index(token) == 0  # its range begins at the last token and goes over the ring's end
    bounds = f"token(name) > {tokens[tokens.index(token) - 1]}"
    bounds += "" if first else f" AND token(name) <= {token}"
    query = f"SELECT name FROM {_PROOF} WHERE {bounds} LIMIT 1"
    statement = SimpleStatement(query, consistency_level=ConsistencyLevel.ALL)
    try:
        session.execute(statement, host=host, timeout=_REACH_S)
    except TROUBLE:
        return False
    return True


def observe(cluster: Cluster, containers: Mapping[str, Container]) -> Snapshot:
    """Ask every member once and judge."""
    return judge(cluster, gather(cluster, containers))

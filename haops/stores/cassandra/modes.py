"""Replication modes of Cassandra: how many copies a write waits for, and how many a read asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cassandra import ConsistencyLevel

from haops.cluster.snapshot import FindingKind
from haops.cluster.spec import Cluster, Node
from haops.parallel import ask_all
from haops.stores.base import first_line
from haops.stores.cassandra.connect import TROUBLE, connect
from haops.stores.cassandra.judge import judge
from haops.stores.cassandra.observe import gather_from
from haops.stores.cassandra.topology import KEYSPACE, copies_by_dc, replication_options
from haops.stores.mode import Fact, Mode, Modes, Replication

_ANSWER_S: Final = 2.0
_KEYSPACE: Final = f"SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = '{KEYSPACE}'"
_HANDOFF: Final = "hinted_handoff_enabled"
_SETTING: Final = f"SELECT value FROM system_views.settings WHERE name = '{_HANDOFF}'"
# What the other members, or the member itself, say against it as a keeper of copies.
_AGAINST: Final = (FindingKind.NODE, FindingKind.PARTITION, FindingKind.MEMBERSHIP)

_LAST_WINS: Final = (
    "no order of writes: of two to one row the one with the later time stamp stays, by the clocks of their "
    "clients, and the other is gone though it was acknowledged; a write that timed out may still show up"
)


@dataclass(frozen=True, slots=True)
class Way:
    """What a client of a mode sends.

    Args:
        write: Consistency level of a write; with `serial`, that of its commit.
        read: Consistency level of a read.
        serial: Whether writes are light-weight transactions (Paxos).
    """

    write: int
    read: int
    serial: bool = False


MODES: Final = (
    Mode(
        "quorum",
        Replication.SYNCHRONOUS,
        "INSERT at QUORUM: acknowledged by more than half of all copies",
        "SELECT at QUORUM: the newest among more than half of all copies",
        "every read asks a copy that has the last acknowledged write",
        _LAST_WINS,
    ),
    Mode(
        "all",
        Replication.SYNCHRONOUS,
        "INSERT at ALL: acknowledged by every copy",
        "SELECT at ONE: any single copy, as R + W > N (1 + N) holds already",
        "an acknowledged write is on every copy, so any one of them has it",
        f"with one copy away no write of its rows is acknowledged; a server that is killed forgets what it took in its "
        "last moments (CASSANDRA-13987), and a read at ONE there misses that until a repair; "
        f"{_LAST_WINS}, on one copy and not on another",
    ),
    Mode(
        "one",
        Replication.ASYNCHRONOUS,
        "INSERT at ONE: acknowledged by the first copy; the others get it at the same time, or by a hint",
        "SELECT at ONE: any single copy",
        "writes and reads go on while one copy is there; copies become equal by hints, which are kept for 3 h, "
        "by reads at higher levels and by repair",
        f"a read may miss an acknowledged write, and one that only a lost disk had is lost; {_LAST_WINS}",
    ),
    Mode(
        "each-quorum",
        Replication.SYNCHRONOUS,
        "INSERT at EACH_QUORUM: acknowledged by more than half of the copies of each data centre",
        "SELECT at LOCAL_QUORUM: more than half of the copies of the coordinator's data centre",
        "reads stay in one data centre and see the last acknowledged write, whichever it is",
        f"with the majority of one data centre away no write is acknowledged anywhere; {_LAST_WINS}",
        dcs=2,
        main=False,
    ),
    Mode(
        "lwt",
        Replication.SYNCHRONOUS,
        "INSERT IF NOT EXISTS, or UPDATE IF EXISTS of a row made before: Paxos at SERIAL, committed at QUORUM",
        "SELECT at SERIAL: finishes what others have begun, then reads",
        "writes and reads of one partition have one order that all clients see (linearizable)",
        "four round trips for a write; clients of one partition get into each other's way, and a write that lost "
        "its way, or timed out, may have been applied",
        ("serial",),
    ),
)
_WAYS: Final[Mapping[str, Way]] = {
    "quorum": Way(ConsistencyLevel.QUORUM, ConsistencyLevel.QUORUM),
    "all": Way(ConsistencyLevel.ALL, ConsistencyLevel.ONE),
    "one": Way(ConsistencyLevel.ONE, ConsistencyLevel.ONE),
    "each-quorum": Way(ConsistencyLevel.EACH_QUORUM, ConsistencyLevel.LOCAL_QUORUM),
    "lwt": Way(ConsistencyLevel.QUORUM, ConsistencyLevel.SERIAL, serial=True),
}


def way(mode: str) -> Way:
    """How a client of a mode writes and reads."""
    return _WAYS[mode]


def trouble(cluster: Cluster, mode: Mode) -> tuple[str, str] | None:
    """Whether there are two data centres where each has a say.

    Copies that no node could keep cannot come up here: the replication factor follows the
    number of nodes, and `ask` has the servers confirm it.
    """
    if way(mode.name).write == ConsistencyLevel.EACH_QUORUM and len(copies_by_dc(cluster)) < 2:
        return "it has only one data centre", "a ring of two: haops up cassandra --dcs 2 --nodes 6"
    return None


def settle(cluster: Cluster, mode: Mode) -> tuple[str, ...]:
    """Nothing: the level goes with each request, and the servers are the same for all."""
    return ()


def ask(cluster: Cluster, mode: Mode) -> tuple[Fact, ...]:
    """Every member's place in the ring, its idea of the keyspace, and whether it keeps hints."""
    snapshot = judge(cluster, gather_from(cluster, cluster.servers))
    against = {
        node.name: "; ".join(f.text for f in snapshot.findings if f.node == node.name and f.kind in _AGAINST)
        for node in cluster.servers
    }
    standing = [node for node in cluster.servers if not against[node.name]]
    told = _settings(cluster, standing or cluster.servers)
    facts = []
    for node in cluster.servers:
        words = against[node.name] or "up"
        facts.append(Fact(node.name, "member", "up, and known to all others", words, words == "up"))
        facts += told.get(node.name, [])
    return tuple(facts)


def _settings(cluster: Cluster, nodes: tuple[Node, ...] | list[Node]) -> Mapping[str, list[Fact]]:
    try:
        with connect(nodes, timeout_s=_ANSWER_S, metadata=False) as session:
            hosts = {(h.endpoint.address, h.endpoint.port): h for h in session.cluster.metadata.all_hosts()}

            def one(node: Node) -> list[Fact]:
                host = hosts.get((node.host, node.host_port))
                if host is None:
                    return [_silent(node, OSError("the other members do not know it"))]
                return _facts(cluster, session, node, host)

            return dict(zip((n.name for n in nodes), ask_all(one, nodes), strict=True))
    except TROUBLE as error:
        return {n.name: [_silent(n, error)] for n in nodes}


def _facts(cluster: Cluster, session: Any, node: Node, host: Any) -> list[Fact]:
    """What one member says of the keyspace and of hints, from that very member."""
    try:
        keyspaces = list(session.execute(_KEYSPACE, host=host, timeout=_ANSWER_S))
        settings = list(session.execute(_SETTING, host=host, timeout=_ANSWER_S))
    except TROUBLE as error:
        return [_silent(node, error)]
    has = {k: v for row in keyspaces for k, v in row.replication.items() if k != "class"}
    wanted = replication_options(cluster)
    handoff = next((str(row.value) for row in settings), "not there")
    return [
        Fact(node.name, "replication", _options(wanted), _options(has) or "no keyspace", has == wanted),
        Fact(node.name, _HANDOFF, "true", handoff, handoff == "true"),
    ]


def _silent(node: Node, error: Exception) -> Fact:
    return Fact(node.name, "answer", "an answer", first_line(error), holds=False)


def _options(replication: Mapping[str, str]) -> str:
    return ", ".join(f"{dc}: {copies}" for dc, copies in sorted(replication.items()))


STORE_MODES: Final = Modes(MODES, trouble, settle, ask)

"""Replication modes of Redis: how many copies a write waits for, and where reads ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from redis.exceptions import RedisError

from haops.cluster.spec import Cluster, Node
from haops.errors import ClusterUnhealthy
from haops.parallel import ask_all
from haops.stores.base import first_line
from haops.stores.mode import Fact, Mode, Modes, Replication
from haops.stores.redis.connect import connect_node

_ANSWER_S: Final = 2.0
_FENCE_FROM: Final = 3  # servers; with two, a fence would make one loss an outage

_AT_PRIMARY: Final = "GET at the primary that the Sentinels name"
_AT_REPLICAS: Final = "GET at any replica that the Sentinels know"
_NOT_CONSENSUS: Final = (
    "WAIT is no consensus: a write that was not confirmed in time is there all the same and may stay; and an "
    "election may still choose a replica without a confirmed write, if it is not among those that confirmed it"
)


@dataclass(frozen=True, slots=True)
class Way:
    """What a client of a mode sends.

    Args:
        copies: Replicas that must confirm a write; all of them where it is -1, 0 is none.
        on_disk: Whether confirmed means fsynced to the AOF there, and at the primary too (WAITAOF).
        reads_replicas: Whether reads go to replicas.
    """

    copies: int = 0
    on_disk: bool = False
    reads_replicas: bool = False

    def confirmations(self, cluster: Cluster) -> int:
        """Replicas that must confirm."""
        return len(cluster.servers) - 1 if self.copies == _ALL else self.copies


_ALL: Final = -1
_REPLICA_READS: Final = "async-replica-reads"

ASYNC: Final = Mode(
    "async",
    Replication.ASYNCHRONOUS,
    "SET; acknowledged by the primary alone",
    _AT_PRIMARY,
    "what the primary acknowledged is there as long as the primary is",
    "whatever the replicas had not yet got when the primary was lost or cut off is lost; "
    "min-replicas-to-write bounds the time that a primary cut off takes writes, not the loss of one write",
    elsewhere=_REPLICA_READS,
)
MODES: Final = (
    ASYNC,
    Mode(
        "wait-1",
        Replication.SYNCHRONOUS,
        "SET, then WAIT 1: its count must be 1 or more",
        _AT_PRIMARY,
        "an acknowledged write is in the memory of the primary and of one replica",
        _NOT_CONSENSUS,
        elsewhere=_REPLICA_READS,
    ),
    Mode(
        "wait-all",
        Replication.SYNCHRONOUS,
        "SET, then WAIT for all replicas: its count must be their number",
        _AT_REPLICAS,
        "an acknowledged write is in the memory of every copy, whichever is promoted or read",
        "with one copy away no write is acknowledged; and what was not acknowledged may be seen by a reader",
    ),
    Mode(
        "waitaof",
        Replication.SYNCHRONOUS,
        "SET, then WAITAOF 1 1: fsynced at the primary and at one replica",
        _AT_PRIMARY,
        "an acknowledged write survives that both lose their memory, or one of them its disk",
        f"{_NOT_CONSENSUS}; servers that fsync once a second make a write wait for that",
        elsewhere=_REPLICA_READS,
    ),
    Mode(
        _REPLICA_READS,
        Replication.ASYNCHRONOUS,
        ASYNC.writer,
        _AT_REPLICAS,
        "reads spread over the replicas, and go on without a primary",
        f"{ASYNC.limits}; a read may miss what was acknowledged a moment ago",
        main=False,
    ),
)
_WAYS: Final[Mapping[str, Way]] = {
    "async": Way(),
    "wait-1": Way(copies=1),
    "wait-all": Way(copies=_ALL, reads_replicas=True),
    "waitaof": Way(copies=1, on_disk=True),
    _REPLICA_READS: Way(reads_replicas=True),
}


def way(mode: str) -> Way:
    """How a client of a mode writes and reads."""
    return _WAYS[mode]


def trouble(cluster: Cluster, mode: Mode) -> tuple[str, str] | None:
    """Whether there are replicas enough."""
    chosen, replicas = way(mode.name), len(cluster.servers) - 1
    needed = max(chosen.copies, int(chosen.reads_replicas or chosen.copies == _ALL))
    if needed <= replicas:
        return None
    few = f"{needed} replica{'s' if needed > 1 else ''} must confirm or answer, and it has {replicas}"
    return few, f"allowed here: async; or a larger set: haops up redis --nodes {needed + 1}"


def wanted(cluster: Cluster, mode: Mode) -> Mapping[str, str]:
    """The settings that every server must have."""
    settings = {"appendonly": "yes", "appendfsync": "always" if way(mode.name).on_disk else "everysec"}
    if len(cluster.servers) >= _FENCE_FROM:
        settings |= {"min-replicas-to-write": "1", "min-replicas-max-lag": "3"}
    return settings


def settle(cluster: Cluster, mode: Mode) -> tuple[str, ...]:
    """CONFIG SET what differs on every server, and have it written down there.

    Raises:
        ClusterUnhealthy: A server does not answer or refuses.
    """
    changed = []
    for node in cluster.servers:
        try:
            with connect_node(node, _ANSWER_S) as client:
                has = client.config_get(*wanted(cluster, mode))
                differs = {k: v for k, v in wanted(cluster, mode).items() if has.get(k) != v}
                if differs:
                    client.config_set(*(part for pair in differs.items() for part in pair))
                    client.config_rewrite()
        except RedisError as error:
            raise ClusterUnhealthy(
                f"the mode {mode.name} cannot be set",
                node=node.name,
                detail=first_line(error),
                hint=f"see: haops status {cluster.name}",
            ) from error
        changed += [f"{node.name}: {name} {value}" for name, value in differs.items()]
    return tuple(changed)


def ask(cluster: Cluster, mode: Mode) -> tuple[Fact, ...]:
    """Every server's settings, and the number of replicas at the primary."""
    answers = ask_all(lambda node: _facts(cluster, mode, node), cluster.servers)
    return tuple(fact for facts in answers for fact in facts)


def _facts(cluster: Cluster, mode: Mode, node: Node) -> list[Fact]:
    needs = wanted(cluster, mode)
    try:
        with connect_node(node, _ANSWER_S) as client:
            has = client.config_get(*needs)
            role = client.info("replication")
    except RedisError as error:
        return [Fact(node.name, "answer", "an answer", first_line(error), holds=False)]
    facts = [Fact(node.name, k, v, str(has.get(k, "not there")), has.get(k) == v) for k, v in needs.items()]
    if role["role"] == "master":
        copies, needed = int(role["connected_slaves"]), way(mode.name).confirmations(cluster)
        facts.append(
            Fact(node.name, "connected replicas", f"{needed} or more", str(copies), copies >= needed)
        )
    return facts


STORE_MODES: Final = Modes(MODES, trouble, settle, ask)

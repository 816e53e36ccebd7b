"""When a Cassandra ring may be used: all members answer and know each other, RF copies of a write are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from cassandra import ConsistencyLevel
from cassandra.query import SimpleStatement

from haops.cluster.spec import Cluster, Node
from haops.stores.base import ANSWER_S, Readiness, first_line
from haops.stores.cassandra.connect import answers_options, connect
from haops.stores.cassandra.observe import TROUBLE
from haops.stores.cassandra.topology import DATACENTER, KEYSPACE, replication
from haops.stores.parallel import ask_all

_SCHEMA_S: Final = 10.0


class CassandraReadiness:
    """Polls the ports; then keeps one session to make the keyspace and to write at ALL."""

    def __init__(self, cluster: Cluster, stack: ExitStack) -> None:
        self._cluster = cluster
        self._stack = stack
        self._session: Any = None
        self._schema_made = False

    def pending(self) -> Mapping[str, str]:
        """What each node waits for."""
        answers = ask_all(self._waits_for, self._cluster.nodes)
        waiting = {n.name: w for n, w in zip(self._cluster.nodes, answers, strict=True) if w}
        if waiting:
            return waiting
        try:
            return self._ring() or self._prove()
        except TROUBLE as error:
            return {self._cluster.nodes[0].name: f"a client's first write ({first_line(error)})"}

    def _waits_for(self, node: Node) -> str | None:
        try:
            return None if answers_options(node, ANSWER_S) else "CQL"
        except OSError as error:
            return f"CQL ({first_line(error)})"

    def _ring(self) -> Mapping[str, str]:
        if self._session is None:
            self._session = self._stack.enter_context(
                connect(self._cluster, timeout_s=_SCHEMA_S, level=ConsistencyLevel.ALL)
            )
        metadata = self._session.cluster.metadata
        up = {(h.endpoint.address, h.endpoint.port) for h in metadata.all_hosts() if h.is_up}
        return {
            n.name: "its place in the ring" for n in self._cluster.nodes if (n.host, n.host_port) not in up
        }

    def _prove(self) -> Mapping[str, str]:
        if not self._schema_made:
            copies = replication(len(self._cluster.servers))
            self._session.execute(
                f"CREATE KEYSPACE IF NOT EXISTS {KEYSPACE} WITH replication = "
                f"{{'class': 'NetworkTopologyStrategy', '{DATACENTER}': {copies}}}"
            )
            self._session.execute(f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.ready (name text PRIMARY KEY)")
            self._schema_made = True
        level = ConsistencyLevel.ALL
        name = (self._cluster.name,)
        self._session.execute(
            SimpleStatement(f"INSERT INTO {KEYSPACE}.ready (name) VALUES (%s)", consistency_level=level), name
        )
        self._session.execute(
            SimpleStatement(f"SELECT name FROM {KEYSPACE}.ready WHERE name = %s", consistency_level=level),
            name,  # noqa: S608
        )
        return {}


@contextmanager
def readiness(cluster: Cluster) -> Iterator[Readiness]:
    """A checker for one `up`."""
    with ExitStack() as stack:
        yield CassandraReadiness(cluster, stack)

"""When a Cassandra ring may be used: all members answer and know each other, RF copies of a write are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from cassandra import ConsistencyLevel
from cassandra.query import SimpleStatement

from haops.cluster.spec import Cluster, Node
from haops.parallel import ask_all
from haops.stores.base import ANSWER_S, Readiness, first_line
from haops.stores.cassandra.connect import TROUBLE, answers_options, connect
from haops.stores.cassandra.topology import KEYSPACE, replication_options

_SCHEMA_S: Final = 10.0
_TABLE: Final = f"{KEYSPACE}.ready"


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
            self._make_schema()
        except TROUBLE as error:
            return {self._cluster.nodes[0].name: f"a keyspace ({first_line(error)})"}
        answers = ask_all(self._prove, self._cluster.nodes)
        return {n.name: w for n, w in zip(self._cluster.nodes, answers, strict=True) if w}

    def _waits_for(self, node: Node) -> str | None:
        try:
            return None if answers_options(node, ANSWER_S) else "CQL"
        except OSError as error:
            return f"CQL ({first_line(error)})"

    def _make_schema(self) -> None:
        if self._session is None:
            self._session = self._stack.enter_context(connect(self._cluster.nodes, timeout_s=_SCHEMA_S))
        if self._schema_made:
            return
        copies = ", ".join(f"'{dc}': {number}" for dc, number in replication_options(self._cluster).items())
        self._session.execute(
            f"CREATE KEYSPACE IF NOT EXISTS {KEYSPACE} WITH replication = "
            f"{{'class': 'NetworkTopologyStrategy', {copies}}}"
        )
        self._session.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE} (name text PRIMARY KEY)")
        self._schema_made = True

    def _prove(self, node: Node) -> str | None:
        """Write and read with this very node as coordinator, and all copies taking part."""
        hosts = self._session.cluster.metadata.all_hosts()
        host = next(
            (h for h in hosts if (h.endpoint.address, h.endpoint.port) == (node.host, node.host_port)), None
        )
        if host is None:
            return "its place in the ring"
        try:
            for query in (
                f"INSERT INTO {_TABLE} (name) VALUES (%s)",
                f"SELECT name FROM {_TABLE} WHERE name = %s",
            ):
                statement = SimpleStatement(query, consistency_level=ConsistencyLevel.ALL)
                self._session.execute(statement, (node.name,), host=host)
        except TROUBLE as error:
            return f"a write to all copies ({first_line(error)})"
        return None


@contextmanager
def readiness(cluster: Cluster) -> Iterator[Readiness]:
    """A checker for one `up`."""
    with ExitStack() as stack:
        yield CassandraReadiness(cluster, stack)

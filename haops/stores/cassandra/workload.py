"""A drill's load on Cassandra: INSERT and SELECT of unique rows at QUORUM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from cassandra import ConsistencyLevel, InvalidRequest, Unavailable
from cassandra.connection import ConnectionException
from cassandra.protocol import IsBootstrappingErrorMessage, OverloadedErrorMessage
from cassandra.query import SimpleStatement

from haops.cluster.spec import Cluster
from haops.errors import ClusterUnhealthy
from haops.stores.base import OperationFailed, OutcomeUnknown, first_line
from haops.stores.cassandra.connect import connect
from haops.stores.cassandra.observe import TROUBLE
from haops.stores.cassandra.topology import KEYSPACE

_SLOW_S: Final = 15.0
_PAGE: Final = 5000
_REFUSED: Final = (Unavailable, InvalidRequest, OverloadedErrorMessage, IsBootstrappingErrorMessage)


class CassandraClient:
    """One application thread; the threads of a process share its session, as the driver wants."""

    def __init__(self, session: Any, insert: Any, select: Any, number: int) -> None:
        self._session = session
        self._insert = insert
        self._select = select
        self._number = number

    def write(self, key: int) -> None:
        """INSERT at QUORUM, once."""
        try:
            self._session.execute(self._insert, (self._number, key))
        except _REFUSED as error:  # before any copy was written
            raise OperationFailed(type(error).__name__) from error
        except (*TROUBLE, ConnectionException) as error:
            raise OutcomeUnknown(type(error).__name__) from error

    def read(self, key: int) -> bool:
        """SELECT at QUORUM."""
        try:
            return self._session.execute(self._select, (self._number, key)).one() is not None
        except (*TROUBLE, ConnectionException) as error:
            raise OperationFailed(type(error).__name__) from error

    def close(self) -> None:
        """The session belongs to the process."""


class CassandraWorkload:
    """Unique rows in one table a run, one partition a client."""

    def __init__(self, cluster: Cluster, run: str, timeout_s: float) -> None:
        self._cluster = cluster
        self._table = f"{KEYSPACE}.drill_{run.replace('-', '_')}"
        self._timeout_s = timeout_s
        self._stack = ExitStack()
        self._shared: tuple[Any, Any, Any] | None = None

    def prepare(self, clients: int) -> None:
        """Make the table."""
        with self._patient_session() as session:
            session.execute(
                f"CREATE TABLE IF NOT EXISTS {self._table} (client int, key bigint, PRIMARY KEY (client, key))"
            )

    def client(self, number: int) -> CassandraClient:
        """A client on this process's session."""
        if self._shared is None:
            session = self._stack.enter_context(connect(self._cluster.nodes, timeout_s=self._timeout_s))
            self._shared = (
                session,
                session.prepare(f"INSERT INTO {self._table} (client, key) VALUES (?, ?)"),
                session.prepare(f"SELECT key FROM {self._table} WHERE client = ? AND key = ?"),
            )
        return CassandraClient(*self._shared, number)

    def close(self) -> None:
        """Shut the shared session down."""
        self._stack.close()

    def read_back(self, clients: int) -> set[int]:
        """Read every partition at ALL, so that no copy is left unasked."""
        query = SimpleStatement(
            f"SELECT key FROM {self._table} WHERE client = %s",
            consistency_level=ConsistencyLevel.ALL,
            fetch_size=_PAGE,
        )
        with self._patient_session() as session:
            return {row.key for number in range(clients) for row in session.execute(query, (number,))}

    def clean(self) -> None:
        """Drop the run's table."""
        with self._patient_session() as session:
            session.execute(f"DROP TABLE IF EXISTS {self._table}")

    @contextmanager
    def _patient_session(self) -> Iterator[Any]:
        try:
            with connect(self._cluster.nodes, timeout_s=_SLOW_S) as session:
                yield session
        except TROUBLE as error:
            words = first_line(error)
            raise ClusterUnhealthy("the ring broke off the drill's own session", detail=words) from error

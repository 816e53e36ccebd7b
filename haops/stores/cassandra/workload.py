"""A drill's load on Cassandra: registers and unique rows, written and read at the levels of the mode."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from cassandra import ConsistencyLevel, InvalidRequest, Unavailable
from cassandra.connection import ConnectionException
from cassandra.protocol import IsBootstrappingErrorMessage, OverloadedErrorMessage
from cassandra.query import SimpleStatement

from haops.cluster.spec import Cluster
from haops.errors import ClusterUnhealthy
from haops.stores.base import FIRST_ELEMENT, REGISTERS, OperationFailed, OutcomeUnknown, first_line
from haops.stores.cassandra.connect import connect
from haops.stores.cassandra.modes import Way, way
from haops.stores.cassandra.observe import TROUBLE
from haops.stores.cassandra.topology import KEYSPACE

_SLOW_S: Final = 15.0
_PAGE: Final = 5000
# A member that has just come back takes some seconds until a read at ALL is answered.
_READ_BACK_S: Final = 60.0
_AGAIN_S: Final = 0.5
_REFUSED: Final = (Unavailable, InvalidRequest, OverloadedErrorMessage, IsBootstrappingErrorMessage)


def partition(key: int) -> int:
    """The partition of a key: an element's is its client's, a register has one of its own.

    Transactions of one partition wait for each other, whatever rows they are of.
    """
    return key % FIRST_ELEMENT if key >= FIRST_ELEMENT else -1 - key


@dataclass(frozen=True, slots=True)
class Statements:
    """What a mode's clients send, prepared.

    Args:
        element: Writes a row that nobody else writes: partition, key, value.
        register: Writes a row whatever it holds: value, partition, key.
        select: Reads a row's value: partition, key.
        serial: Whether writes say if they were applied.
    """

    element: Any
    register: Any
    select: Any
    serial: bool


def prepare_statements(session: Any, table: str, chosen: Way) -> Statements:
    """The statements of a mode, with its levels."""
    element, register = f"INSERT INTO {table} (client, key, value) VALUES (?, ?, ?)", f"UPDATE {table}"
    register += " SET value = ? WHERE client = ? AND key = ?"
    if chosen.serial:
        element, register = f"{element} IF NOT EXISTS", f"{register} IF EXISTS"
    made = Statements(
        session.prepare(element),
        session.prepare(register),
        session.prepare(f"SELECT value FROM {table} WHERE client = ? AND key = ?"),
        chosen.serial,
    )
    for statement in (made.element, made.register):
        statement.consistency_level = chosen.write
        if chosen.serial:
            statement.serial_consistency_level = ConsistencyLevel.SERIAL
    made.select.consistency_level = chosen.read
    return made


class CassandraClient:
    """One application thread; the threads of a process share its session, as the driver wants."""

    def __init__(self, session: Any, statements: Statements, names: dict[tuple[str, int], str]) -> None:
        self._session = session
        self._statements = statements
        self._names = names
        self.node = ""

    def write(self, key: int, value: int) -> None:
        """Write once, at the level of the mode."""
        try:
            if key < FIRST_ELEMENT:
                rows = self._execute(self._statements.register, (value, partition(key), key))
            else:
                rows = self._execute(self._statements.element, (partition(key), key, value))
        except _REFUSED as error:
            if self._statements.serial and _may_be_agreed(error):
                raise OutcomeUnknown(f"{type(error).__name__}AtCommit") from error
            raise OperationFailed(type(error).__name__) from error  # before any copy was written
        except (*TROUBLE, ConnectionException) as error:
            raise OutcomeUnknown(type(error).__name__) from error
        if self._statements.serial and not rows.was_applied:
            raise OperationFailed("NotApplied")

    def read(self, key: int) -> int | None:
        """Read at the level of the mode."""
        try:
            row = self._execute(self._statements.select, (partition(key), key)).one()
        except (*TROUBLE, ConnectionException) as error:
            raise OperationFailed(type(error).__name__) from error
        return None if row is None or row.value is None else int(row.value)

    def _execute(self, statement: Any, values: tuple[int, ...]) -> Any:
        future = self._session.execute_async(statement, values)
        try:
            return future.result()
        finally:
            # Without an answer only the driver's own note tells whom it was sent to.
            host = future.coordinator_host or future._current_host  # noqa: SLF001
            here = host and (host.endpoint.address, host.endpoint.port)
            self.node = self._names.get(here, "") if here else ""

    def close(self) -> None:
        """The session belongs to the process."""


def _may_be_agreed(error: Exception) -> bool:
    """Whether a transaction was perhaps refused only at its commit: Paxos has agreed then, and finishes it.

    Copies that are missing before are missing for SERIAL, at the commit for its own level; a
    member that is overloaded (with hints, at the commit) does not say when it found that out.
    """
    if isinstance(error, Unavailable):
        return bool(error.consistency != ConsistencyLevel.SERIAL)
    return isinstance(error, OverloadedErrorMessage)


class CassandraWorkload:
    """One table a run, one partition a client and a register."""

    def __init__(self, cluster: Cluster, run: str, timeout_s: float) -> None:
        self._cluster = cluster
        self._table = f"{KEYSPACE}.drill_{run.replace('-', '_')}"
        self._timeout_s = timeout_s
        self._way = way(cluster.mode)
        self._stack = ExitStack()
        self._shared: tuple[Any, Statements] | None = None

    def prepare(self, clients: int) -> None:
        """Make the table; and for transactions the registers, as an UPDATE wants a row to be there."""
        with self._patient_session() as session:
            session.execute(
                f"CREATE TABLE IF NOT EXISTS {self._table} "
                "(client int, key bigint, value bigint, PRIMARY KEY (client, key))"
            )
            for key in range(REGISTERS) if self._way.serial else ():
                # By a transaction too: a plain write among them would have no place in their order.
                statement = SimpleStatement(
                    f"INSERT INTO {self._table} (client, key) VALUES (%s, %s) IF NOT EXISTS",
                    consistency_level=self._way.write,
                    serial_consistency_level=ConsistencyLevel.SERIAL,
                )
                session.execute(statement, (partition(key), key))

    def client(self, number: int) -> CassandraClient:
        """A client on this process's session."""
        if self._shared is None:
            session = self._stack.enter_context(connect(self._cluster.nodes, timeout_s=self._timeout_s))
            self._shared = session, prepare_statements(session, self._table, self._way)
        names = {(n.host, n.host_port): n.name for n in self._cluster.nodes}
        return CassandraClient(*self._shared, names)

    def close(self) -> None:
        """Shut the shared session down."""
        self._stack.close()

    def read_back(self, clients: int) -> set[int]:
        """Read every client's partition at ALL, so that no copy is left unasked."""
        query = SimpleStatement(
            f"SELECT key FROM {self._table} WHERE client = %s",
            consistency_level=ConsistencyLevel.ALL,
            fetch_size=_PAGE,
        )
        end_s = time.monotonic() + _READ_BACK_S
        with self._patient_session() as session:
            return {key for number in range(clients) for key in _read_all(session, query, number, end_s)}

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


def _read_all(session: Any, query: SimpleStatement, number: int, end_s: float) -> Iterator[int]:
    """A partition's keys, page by page; a page that fails is asked for again, and at no lower level.

    Raises one of TROUBLE when the time is up.
    """
    place = None
    while True:
        try:
            rows = session.execute(query, (number,), paging_state=place)
        except TROUBLE:
            if time.monotonic() > end_s:
                raise
            time.sleep(_AGAIN_S)
            continue
        yield from (row.key for row in rows.current_rows)
        if not rows.has_more_pages:
            return
        place = rows.paging_state

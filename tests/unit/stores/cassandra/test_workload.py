from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from cassandra import ConsistencyLevel, OperationTimedOut, Unavailable, WriteTimeout, WriteType
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionShutdown
from cassandra.protocol import ErrorMessage, OverloadedErrorMessage

from haops.cluster.spec import Cluster
from haops.errors import ClusterUnhealthy
from haops.stores.base import REGISTERS, OperationFailed, OutcomeUnknown
from haops.stores.cassandra.workload import CassandraClient, CassandraWorkload, partition

from ....fakes import make_cluster

workload = sys.modules["haops.stores.cassandra.workload"]

MODES = ("quorum", "all", "one", "each-quorum", "lwt")


class Rows:
    """A result as the driver has it."""

    def __init__(self, rows: Sequence[Any] = (), place: bytes | None = None, applied: bool = True) -> None:
        self.current_rows = list(rows)
        self.paging_state = place
        self.has_more_pages = place is not None
        self.was_applied = applied

    def one(self) -> Any:
        return self.current_rows[0] if self.current_rows else None


class Session:
    """Takes down what it is sent, and answers as told."""

    def __init__(self, cluster: Cluster) -> None:
        self.sent: list[tuple[Any, tuple[int, ...]]] = []
        self.ddl: list[str] = []
        self.answer: Rows | Exception = Rows()
        self.pages: list[Rows | Exception] = []
        self.places: list[bytes | None] = []
        self.answered = True
        node = cluster.servers[1]
        self.host = SimpleNamespace(endpoint=SimpleNamespace(address=node.host, port=node.host_port))

    def prepare(self, query: str) -> Any:
        return SimpleNamespace(query=query, consistency_level=None, serial_consistency_level=None)

    def execute_async(self, statement: Any, values: tuple[int, ...]) -> Any:
        self.sent.append((statement, values))

        def result() -> Rows:
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return SimpleNamespace(
            result=result,
            coordinator_host=self.host if self.answered else None,
            _current_host=self.host,
        )

    def execute(self, statement: Any, values: Any = None, paging_state: bytes | None = None) -> Rows:
        if isinstance(statement, str):
            self.ddl.append(statement)
            return Rows()
        self.sent.append((statement, values))
        self.places.append(paging_state)
        page = self.pages.pop(0) if self.pages else Rows()
        if isinstance(page, Exception):
            raise page
        return page


def made(mode: str, monkeypatch: pytest.MonkeyPatch) -> tuple[CassandraWorkload, Session]:
    cluster = make_cluster("cassandra", 4, dcs=2, mode=mode)
    session = Session(cluster)

    @contextmanager
    def connect(nodes: Any, **_: Any) -> Iterator[Session]:
        yield session

    monkeypatch.setattr(workload, "connect", connect)
    monkeypatch.setattr(workload, "_AGAIN_S", 0.0)
    return CassandraWorkload(cluster, "run-1", 0.5), session


def started(mode: str, monkeypatch: pytest.MonkeyPatch) -> tuple[CassandraClient, Session]:
    load, session = made(mode, monkeypatch)
    return load.client(0), session


@pytest.mark.parametrize(("key", "place"), [(1000, 0), (1007, 7), (5007, 7), (0, -1), (15, -16)])
def test_an_element_is_in_its_clients_partition_and_a_register_in_its_own(key: int, place: int) -> None:
    assert partition(key) == place


@pytest.mark.parametrize(
    ("mode", "write", "read"),
    [
        ("quorum", ConsistencyLevel.QUORUM, ConsistencyLevel.QUORUM),
        ("all", ConsistencyLevel.ALL, ConsistencyLevel.ONE),
        ("one", ConsistencyLevel.ONE, ConsistencyLevel.ONE),
        ("each-quorum", ConsistencyLevel.EACH_QUORUM, ConsistencyLevel.LOCAL_QUORUM),
        ("lwt", ConsistencyLevel.QUORUM, ConsistencyLevel.SERIAL),
    ],
)
def test_requests_have_the_levels_of_the_mode(
    mode: str, write: int, read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, session = started(mode, monkeypatch)
    client.write(2003, 2003)
    client.write(3, 8)
    client.read(3)
    (element, at), (register, to), (select, where) = session.sent
    assert [element.consistency_level, register.consistency_level, select.consistency_level] == [
        write,
        write,
        read,
    ]
    assert (at, to, where) == ((3, 2003, 2003), (8, -4, 3), (-4, 3))
    serial = ConsistencyLevel.SERIAL if mode == "lwt" else None
    assert [element.serial_consistency_level, register.serial_consistency_level] == [serial, serial]
    assert ("IF NOT EXISTS" in element.query, "IF EXISTS" in register.query) == (mode == "lwt",) * 2
    assert "haops.drill_run_1" in element.query


@pytest.mark.parametrize(("mode", "rows"), [(m, REGISTERS if m == "lwt" else 0) for m in MODES])
def test_registers_are_made_beforehand_only_for_transactions_and_by_them(
    mode: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, session = made(mode, monkeypatch)
    load.prepare(2)
    assert "client int, key bigint, value bigint" in session.ddl[0]
    assert [values for _, values in session.sent] == [(partition(k), k) for k in range(rows)]
    for statement, _ in session.sent:
        assert statement.query_string.endswith("IF NOT EXISTS")
        assert statement.serial_consistency_level == ConsistencyLevel.SERIAL


@pytest.mark.parametrize(
    ("rows", "value"),
    [(Rows(), None), (Rows([SimpleNamespace(value=None)]), None), (Rows([SimpleNamespace(value=7)]), 7)],
)
def test_a_row_without_a_value_is_as_good_as_none(
    rows: Rows, value: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, session = started("lwt", monkeypatch)
    session.answer = rows
    assert client.read(3) == value


UNAVAILABLE = Unavailable("no", ConsistencyLevel.QUORUM, 2, 1)
CAS = WriteTimeout("late", write_type=WriteType.CAS, consistency=ConsistencyLevel.SERIAL)
CAS_UNKNOWN = ErrorMessage(0x1700, "CAS operation result is unknown", None)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("key", [3, 1003])
@pytest.mark.parametrize(
    "error", [CAS, CAS_UNKNOWN, OperationTimedOut(), NoHostAvailable("none", {}), ConnectionShutdown("gone")]
)
def test_a_write_that_may_have_happened_is_unknown(
    mode: str, key: int, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, session = started(mode, monkeypatch)
    session.answer = error
    with pytest.raises(OutcomeUnknown, match=type(error).__name__):
        client.write(key, 1)


@pytest.mark.parametrize("mode", MODES[:4])
@pytest.mark.parametrize("error", [UNAVAILABLE, OverloadedErrorMessage(0x1001, "busy", None)])
def test_a_write_that_is_refused_beforehand_has_certainly_failed(
    mode: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, session = started(mode, monkeypatch)
    session.answer = error
    with pytest.raises(OperationFailed, match=type(error).__name__):
        client.write(1003, 1003)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Unavailable("before", ConsistencyLevel.SERIAL, 2, 1), OperationFailed),
        (Unavailable("at the commit", ConsistencyLevel.QUORUM, 2, 1), OutcomeUnknown),
        (OverloadedErrorMessage(0x1001, "busy", None), OutcomeUnknown),
    ],
)
def test_a_transaction_has_failed_only_if_paxos_had_not_agreed(
    error: Exception, outcome: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, session = started("lwt", monkeypatch)
    session.answer = error
    with pytest.raises(outcome):
        client.write(3, 1)


@pytest.mark.parametrize("key", [3, 1003])
def test_a_transaction_that_was_not_applied_has_failed(key: int, monkeypatch: pytest.MonkeyPatch) -> None:
    client, session = started("lwt", monkeypatch)
    session.answer = Rows(applied=False)
    with pytest.raises(OperationFailed, match="NotApplied"):
        client.write(key, 1)


@pytest.mark.parametrize("error", [UNAVAILABLE, CAS, OperationTimedOut()])
def test_a_read_without_an_answer_has_failed(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    client, session = started("lwt", monkeypatch)
    session.answer = error
    with pytest.raises(OperationFailed, match=type(error).__name__):
        client.read(3)


@pytest.mark.parametrize("answered", [True, False])
def test_the_coordinator_is_told_though_it_did_not_answer(
    answered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, session = started("quorum", monkeypatch)
    assert client.node == ""
    session.answered = answered
    if not answered:
        session.answer = OperationTimedOut()
    with pytest.raises(OutcomeUnknown) if not answered else nothing_raised():
        client.write(3, 1)
    assert client.node == "cassandra-2"


@contextmanager
def nothing_raised() -> Iterator[None]:
    yield


def keys(*found: int) -> list[Any]:
    return [SimpleNamespace(key=k) for k in found]


def test_a_read_back_goes_on_with_the_page_that_failed_and_never_at_a_lower_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load, session = made("one", monkeypatch)
    session.pages = [
        Rows(keys(1000), b"p1"),
        OperationTimedOut(),
        UNAVAILABLE,
        Rows(keys(2000)),
        Rows(keys(1001)),
    ]
    assert load.read_back(2) == {1000, 2000, 1001}
    assert session.places == [None, b"p1", b"p1", b"p1", None]
    assert {s.consistency_level for s, _ in session.sent} == {ConsistencyLevel.ALL}
    assert [values for _, values in session.sent] == [(0,)] * 4 + [(1,)]


def test_a_read_back_that_stays_impossible_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    load, session = made("one", monkeypatch)
    monkeypatch.setattr(workload, "_READ_BACK_S", -1.0)
    session.pages = [UNAVAILABLE]
    with pytest.raises(ClusterUnhealthy, match="broke off"):
        load.read_back(1)


def test_the_clients_of_a_process_share_its_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    load, session = made("quorum", monkeypatch)
    load.client(0).write(1000, 1000)
    load.client(1).write(1001, 1001)
    assert session.sent[0][0] is session.sent[1][0]

"""Tables read whole, as raw pages: by token ranges, a few at a time, at a level or from one copy alone."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, Final, TypeVar

from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT
from cassandra.protocol import ProtocolHandler, ResultMessage
from cassandra.query import BoundStatement

from haops.cluster.spec import Cluster
from haops.stores.cassandra.connect import TROUBLE, connect
from haops.stores.cassandra.placement import Span
from haops.stores.cassandra.rows import Column, Page, Shape, quoted

# The driver has no name for it; a server takes it with -Dcassandra.enable_nodelocal_queries=true.
NODE_LOCAL: Final = 11

_REQUEST_S: Final = 30.0
# A member that has just come back, or compacts, may not answer at ALL at once.
_AGAIN_S: Final = 0.5
_PATIENCE_S: Final = 60.0
# Pages are made as large as this, so that wide rows take no more memory than narrow ones.
_PAGE_BYTES: Final = 512 * 1024
_FIRST_PAGE: Final = 500
_MOST_ROWS: Final = 10_000
# A range is read in so many parts, so that three of them can be under way whatever the ring's size.
PIECES: Final = 4
_AHEAD: Final = 2
_WORKERS: Final = 3
_WINDOW: Final = 64

Item = TypeVar("Item")


class _RawResult(ResultMessage):  # type: ignore[misc]
    """Rows as one page of bytes, in place of the driver's tuples: decoding would take most of the time."""

    def recv_results_rows(
        self, f: Any, protocol_version: int, user_type_map: Any, result_metadata: Any, policy: Any
    ) -> None:
        del protocol_version, policy
        self.recv_results_metadata(f, user_type_map)
        columns = self.column_metadata or result_metadata
        self.column_names = [c[2] for c in columns]
        self.column_types = [c[3] for c in columns]
        rows = int.from_bytes(f.read(4), "big")
        self.parsed_rows = [Page(rows, f.read(), time.time_ns() // 1_000_000)]


class _RawHandler(ProtocolHandler):  # type: ignore[misc]
    message_types_by_opcode: Final = {**ProtocolHandler.message_types_by_opcode, 0x08: _RawResult}


def _as_they_are(_names: object, rows: object) -> object:
    return rows


@contextmanager
def sessions(cluster: Cluster) -> Iterator[tuple[Any, Any]]:
    """A session that decodes what it is told, and one whose rows come as raw pages."""
    with connect(cluster.servers, timeout_s=_REQUEST_S) as session:
        raw = session.cluster.connect(wait_for_all_pools=True)
        raw.client_protocol_handler = _RawHandler
        yield session, raw


@dataclass(frozen=True, slots=True)
class Way:
    """How a table is read.

    Args:
        level: The consistency level.
        copy: Which of each row's holders is asked, and no other; None asks any coordinator.
    """

    level: int = ConsistencyLevel.ALL
    copy: int | None = None


class Reader:
    """Reads tables through a raw session; counts what came."""

    def __init__(self, cluster: Cluster, raw: Any) -> None:
        self._raw = raw
        self._profile = raw.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=_as_they_are)
        self._hosts = hosts_of(cluster, raw)
        self._prepared: dict[tuple[Shape, str], Any] = {}
        self.moved = 0

    def pages(self, shape: Shape, spans: Sequence[Span], way: Way) -> Iterator[Page]:
        """A table's pages in the order of their tokens; a few ranges are read ahead.

        Raises:
            one of TROUBLE: A page did not come within a minute.
        """
        statement = self._statement(shape, "range")
        readers = deque[_Ahead]()
        try:
            left = deque(spans)
            while left or readers:
                while left and len(readers) < _WORKERS:
                    readers.append(_Ahead(self._range(statement, left.popleft(), way)))
                for page in readers[0].pages():
                    self.moved += len(page.body)
                    yield page
                readers.popleft()
        finally:
            for reader in readers:
                reader.stop()

    def rows(
        self, shape: Shape, kind: str, keys: Iterable[tuple[tuple[bytes, ...], Span | None]], way: Way
    ) -> Iterator[Page]:
        """The rows with these primary keys, a page each, in the keys' order; a page without rows if not there."""
        statement = self._statement(shape, kind)

        def send(item: tuple[tuple[bytes, ...], Span | None]) -> Any:
            key, span = item
            bound = raw_bound(statement, key, way.level)
            host = self._host(span, way) if span else None
            return self._raw.execute_async(bound, execution_profile=self._profile, host=host)

        for answer in windowed(send, keys):
            page = _taken(answer)
            self.moved += len(page.body)
            yield page

    def _statement(self, shape: Shape, what: str) -> Any:
        if (shape, what) not in self._prepared:
            self._prepared[shape, what] = self._raw.prepare(select(shape, what))
        return self._prepared[shape, what]

    def _host(self, span: Span, way: Way) -> Any:
        if not span.holders:
            return None
        number = way.copy if way.copy is not None else abs(span.end) % len(span.holders)
        return self._hosts.get(span.holders[number % len(span.holders)])

    def _range(self, statement: Any, span: Span, way: Way) -> Iterator[Page]:
        place, size = None, _FIRST_PAGE
        while True:
            bound = statement.bind((span.start, span.end))
            bound.consistency_level, bound.fetch_size = way.level, size
            answer = self._patiently(bound, place, self._host(span, way))
            page, place = _taken(answer), answer.paging_state
            if page.rows:
                size = max(1, min(_MOST_ROWS, _PAGE_BYTES * page.rows // max(len(page.body), 1)))
                yield page
            if not place:
                return

    def _patiently(self, bound: Any, place: bytes | None, host: Any) -> Any:
        end = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return self._raw.execute(
                    bound, execution_profile=self._profile, paging_state=place, host=host
                )
            except TROUBLE:
                if time.monotonic() > end:
                    raise
                time.sleep(_AGAIN_S)


class _Ahead:
    """A thread that reads a range a little ahead of whoever takes its pages."""

    def __init__(self, pages: Iterator[Page]) -> None:
        self._queue: Queue[Page | Exception | None] = Queue(_AHEAD)
        self._stop = Event()
        Thread(target=self._run, args=(pages,), daemon=True).start()

    def stop(self) -> None:
        self._stop.set()

    def pages(self) -> Iterator[Page]:
        while (found := self._queue.get()) is not None:
            if isinstance(found, Exception):
                raise found
            yield found

    def _run(self, pages: Iterator[Page]) -> None:
        try:
            for page in pages:
                if not self._put(page):
                    return
            self._put(None)
        except Exception as error:
            self._put(error)

    def _put(self, item: Page | Exception | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.2)
            except Full:
                continue
            return True
        return False


def _taken(answer: Any) -> Page:
    """An answer's page, which it then has no more.

    The driver keeps each answer until its request's time-out would have come: half a minute of pages.
    """
    page: Page = answer.current_rows.pop()
    return page


def raw_bound(statement: Any, values: Sequence[bytes | None], level: int) -> Any:
    """A prepared statement with values that are serialized already: the driver would serialize them again."""
    bound = BoundStatement(statement)
    bound.values = list(values)
    bound.consistency_level = level
    return bound


def windowed(send: Callable[[Item], Any], items: Iterable[Item], window: int = _WINDOW) -> Iterator[Any]:
    """Requests, so many under way at a time; their answers in the requests' order. Raises what a request raises."""
    flying = deque[Any]()
    for item in items:
        flying.append(send(item))
        if len(flying) >= window:
            yield flying.popleft().result()
    while flying:
        yield flying.popleft().result()


def hosts_of(cluster: Cluster, session: Any) -> Mapping[str, Any]:
    """The driver's own object for each node, by the node's name."""
    known = {(h.endpoint.address, h.endpoint.port): h for h in session.cluster.metadata.all_hosts()}
    return {n.name: known[n.host, n.host_port] for n in cluster.servers if (n.host, n.host_port) in known}


def select(shape: Shape, what: str) -> str:
    """The query for a range of tokens (`range`), a row or a partition's static part."""
    partition = ", ".join(quoted(c.name) for c in shape.of_kind("partition_key"))
    query = f"SELECT {', '.join(shape.selected)} FROM {quoted(shape.keyspace)}.{quoted(shape.table)} WHERE "
    if what == "range":
        return f"{query}token({partition}) > ? AND token({partition}) <= ?"
    columns: Sequence[Column] = shape.key if what == "r" else shape.of_kind("partition_key")
    return query + " AND ".join(f"{quoted(c.name)} = ?" for c in columns) + " LIMIT 1"

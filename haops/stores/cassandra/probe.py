"""OPTIONS as a heartbeat; the same rows read at every single replica as a comparison of copies."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from cassandra import ConsistencyLevel
from cassandra.query import SimpleStatement

from haops.cluster.spec import Cluster, Node
from haops.health.redundancy import CopyReading
from haops.parallel import ask_all
from haops.stores.base import Probe, SocketProbe
from haops.stores.cassandra.connect import connect
from haops.stores.cassandra.observe import TROUBLE
from haops.stores.cassandra.topology import KEYSPACE, copies_of

SAMPLE: Final = 64
_TABLES: Final = 4
_ANSWER_S: Final = 0.2
_CONNECT_S: Final = 1.0
_LOWEST: Final = -(2**63)

# A frame of the native protocol: version, flags, stream, opcode OPTIONS, no body.
_OPTIONS: Final = b"\x05\x00\x00\x00\x05\x00\x00\x00\x00"
_HEADER: Final = 9
_SUPPORTED: Final = 0x06


def probe(node: Node) -> Probe:
    """OPTIONS, as a driver's heartbeat asks; needs no session."""
    return SocketProbe(node, _OPTIONS, _complete, _against)


def _complete(answer: bytes) -> bool:
    return len(answer) >= _HEADER and len(answer) >= _HEADER + int.from_bytes(answer[5:9], "big")


def _against(answer: bytes) -> str:
    return "" if answer[4] == _SUPPORTED else f"answers OPTIONS with opcode {answer[4]:#04x}"


class CassandraCopies:
    """Rows from a random place of each table on, read at ONE from each member as coordinator.

    A coordinator that has a copy reads its own.  So rows are compared only where
    every member has a copy of everything.
    """

    def __init__(self, cluster: Cluster, stack: ExitStack) -> None:
        self._nodes = cluster.servers
        self._whole = copies_of(cluster) == len(self._nodes)
        self._stack = stack
        self._session: Any = None
        # Table: the token from which on its rows are read.
        self._starts: dict[str, int] = {}

    def read(self) -> tuple[CopyReading, ...]:
        """What each member says that answers."""
        try:
            if self._session is None:
                self._session = self._stack.enter_context(connect(self._nodes, timeout_s=_CONNECT_S))
            if not self._starts:
                self._starts = self._choose()
        except TROUBLE:
            return ()
        readings = ask_all(self._one, self._nodes)
        return tuple(sorted((r for r in readings if r is not None), key=lambda r: r.at_ns))

    def _one(self, node: Node) -> CopyReading | None:
        host = self._host(node)
        if host is None:
            return None
        made, end = hashlib.blake2b(digest_size=16), time.monotonic() + 2 * _ANSWER_S
        try:
            for table, start in self._starts.items():
                if time.monotonic() > end:
                    return None
                made.update(f"{table} {self._rows(table, start, host)!r}\n".encode())
        except TROUBLE:
            return None
        digest = made.hexdigest() if self._whole and self._starts else None
        return CopyReading(node.name, time.monotonic_ns(), None, digest)

    def _host(self, node: Node) -> Any:
        known = self._session.cluster.metadata.all_hosts()
        return next(
            (h for h in known if (h.endpoint.address, h.endpoint.port) == (node.host, node.host_port)), None
        )

    def _choose(self) -> dict[str, int]:
        """At most four tables, each from a random token on, or whole if there is little behind that token."""
        keyspace = self._session.cluster.metadata.keyspaces.get(KEYSPACE)
        tables = sorted(keyspace.tables)[:_TABLES] if keyspace else []
        starts = {}
        for table in tables:
            start = random.randrange(_LOWEST, 0)
            rows = self._rows(table, start, None)
            starts[table] = start if len(rows) == SAMPLE // _TABLES else _LOWEST
        return starts

    def _rows(self, table: str, start: int, host: Any) -> list[tuple[Any, ...]]:
        columns = self._session.cluster.metadata.keyspaces[KEYSPACE].tables[table].partition_key
        key = ", ".join(f'"{c.name}"' for c in columns)
        query = f'SELECT * FROM {KEYSPACE}."{table}" WHERE token({key}) >= {start} LIMIT {SAMPLE // _TABLES}'
        statement = SimpleStatement(query, consistency_level=ConsistencyLevel.ONE)
        return [tuple(row) for row in self._session.execute(statement, host=host, timeout=_ANSWER_S)]


@contextmanager
def copies(cluster: Cluster) -> Iterator[CassandraCopies]:
    """A reader of all members' copies; connects at the first reading."""
    with ExitStack() as stack:
        yield CassandraCopies(cluster, stack)

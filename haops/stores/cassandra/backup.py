"""Backup of a ring: the schema, a snapshot's files of every node, and on demand the rows themselves."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final

from cassandra import ConsistencyLevel

from haops.cluster.loans import Loan
from haops.cluster.spec import Cluster
from haops.errors import BadInput, HaopsError
from haops.parallel import ask_all
from haops.runtime.port import Runtime
from haops.stores.backup import Backing, BackupFailed, BackupTools, BackupWish, Facts, Form, Part, Source
from haops.stores.base import first_line
from haops.stores.cassandra import schema, sstables
from haops.stores.cassandra.connect import TROUBLE
from haops.stores.cassandra.nodetool import Nodetool
from haops.stores.cassandra.placement import members, pieces, spans
from haops.stores.cassandra.reader import PIECES, Reader, Way, hosts_of, sessions
from haops.stores.cassandra.restore import restorer
from haops.stores.cassandra.ring import answers
from haops.stores.cassandra.rows import Shape
from haops.stores.cassandra.schema import Entry, Only
from haops.stores.cassandra.sstables import ROWS, SCHEMA_PART, SNAPSHOT, STAGED, STAGING, UNTIL, Snapped
from haops.stores.cassandra.stream import stream

_DATA: Final = "-Data.db"
# A write has its time from its client, and may be on its way for so long (write_request_timeout).
_ON_THE_WAY_US: Final = 2_000_000
_DIGEST: Final = "-Digest.crc32"
# A snapshot is links, and its removal is their removal.
_SNAPSHOT_S: Final = 600.0
_LOCAL: Final = "SELECT release_version, schema_version, data_center, rack, tokens FROM system.local"


@contextmanager
def source(cluster: Cluster, tools: BackupTools, wish: BackupWish) -> Iterator[Source]:
    """A backup of all nodes.

    The snapshot stays when the backup breaks off, so that it can be resumed at the same point; it is a
    loan, and `release` or `haops heal` removes it.

    Raises:
        BackupFailed: A node is down, or refuses.
        BadInput: The wish is one that a ring cannot fulfil.
    """
    _check(wish)
    down = [n.name for n in cluster.servers if not answers(n)]
    if down:
        raise BackupFailed(
            f"{', '.join(down)} does not answer: a backup has the copies of every node",
            hint=f"bring it back first: haops heal {cluster.name}",
        )
    try:
        with sessions(cluster) as (session, raw):
            yield CassandraSource(cluster, tools, wish, session, raw)
    except TROUBLE as error:
        raise BackupFailed("the ring broke off the backup", detail=first_line(error)) from error


def _check(wish: BackupWish) -> None:
    if wish.pitr:
        raise BadInput(
            "cassandra has no backup up to a moment here: its commit logs are not archived",
            hint="leave --pitr out",
        )
    if wish.node is not None:
        raise BadInput(
            "a ring's backup is read from every node: each has copies that the others lack",
            hint="leave --node out",
        )


class CassandraSource:
    """One backup in progress."""

    def __init__(
        self, cluster: Cluster, tools: BackupTools, wish: BackupWish, session: Any, raw: Any
    ) -> None:
        self._cluster = cluster
        self._tools = tools
        self._tag = wish.id
        self._logical = wish.logical
        self._session = session
        self._reader = Reader(cluster, raw)
        self._tool = Nodetool(cluster, tools.runtime)
        self._entries: tuple[Entry, ...] = ()
        self._shapes: tuple[Shape, ...] = ()
        self._taken_ns: int | None = None
        self._until_us = _begun_us(wish.id)
        self._parts: tuple[Part, ...] = ()

    def parts(self) -> Sequence[Part]:
        """The schema, then every node's files, then the rows of each table."""
        if self._parts:
            return self._parts
        self._entries = schema.describe(self._session, sorted(schema.keyspaces(self._session)))
        self._shapes = schema.shapes(self._session, Only(), timed=True)
        files = self._snapshot()
        self._taken_ns = min((t for f in files if (t := sstables.taken_ns(f))), default=None)
        tables = {shape.name for shape in self._shapes}  # files of views are left where they are
        kept = ([f for f in found if f"{f.keyspace}.{f.table}" in tables] for found in files)
        names = [n.name for n in self._cluster.servers]
        self._parts = (
            Part(SCHEMA_PART, "", Form.PHYSICAL, size=len(schema.written(self._entries))),
            *chain.from_iterable(sstables.parts(n, f) for n, f in zip(names, kept, strict=True)),
            *(Part(f"{ROWS}{shape.name}", "", Form.LOGICAL) for shape in self._in_rows()),
        )
        return self._parts

    def _in_rows(self) -> Iterator[Shape]:
        return iter(self._shapes if self._logical else ())

    def _snapshot(self) -> list[tuple[Snapped, ...]]:
        """Every node's files of the snapshot; one that is there and whole is kept."""
        names = [n.name for n in self._cluster.servers]
        tables = [shape.name for shape in self._shapes]
        found = self._listed()
        if tables and all(sstables.is_whole(files, tables) for files in found):
            return found
        self._clear_others()
        if any(found):
            ask_all(lambda name: clear(self._tool, name, self._tag), names)
        for name in names:
            self._tools.loans.take(Loan(name, SNAPSHOT, self._tag))
        self._until_us = time.time_ns() // 1000 - _ON_THE_WAY_US
        try:
            ask_all(self._take, names)
        except HaopsError as error:
            raise BackupFailed("a snapshot was refused", node=error.node, detail=error.detail) from error
        found = self._listed()
        for name, files in zip(names, found, strict=True):
            if not sstables.is_whole(files, tables):
                raise BackupFailed(
                    "its snapshot lacks tables: some were made or dropped meanwhile",
                    node=name,
                    hint="try again when the schema is at rest",
                )
        return found

    def _take(self, node: str) -> None:
        words = ("snapshot", "-t", self._tag, "--", *sorted({e.keyspace for e in self._entries}))
        self._tool.finish(node, f"snapshot-{self._tag}", *words, deadline_s=_SNAPSHOT_S)

    def _listed(self) -> list[tuple[Snapped, ...]]:
        runtime, names = self._tools.runtime, [n.name for n in self._cluster.servers]
        return ask_all(
            lambda name: sstables.snapped(runtime.files(self._cluster, name, sstables.DATA), self._tag), names
        )

    def _clear_others(self) -> None:
        """What an earlier backup left behind goes first: a node keeps one snapshot at a time."""
        for loan in self._tools.loans.open():
            if loan.setting == SNAPSHOT and loan.was != self._tag:
                give_back(self._cluster, self._tools.runtime, loan)
                self._tools.loans.strike(loan)

    def read(self, part: Part) -> Iterator[bytes]:
        """A part's bytes; an SSTable's data is checked against the server's own checksum of it."""
        if part.name == SCHEMA_PART:
            return iter((schema.written(self._entries),))
        if part.name.startswith(ROWS):
            return self._rows(next(s for s in self._shapes if f"{ROWS}{s.name}" == part.name))
        return self._file(part)

    def _rows(self, shape: Shape) -> Iterator[bytes]:
        options = schema.keyspaces(self._session)[shape.keyspace]
        ranges = pieces(spans(members(self._cluster), options), PIECES)
        try:
            yield from stream(shape, self._reader.pages(shape, ranges, Way(ConsistencyLevel.ALL)))
        except TROUBLE as error:
            raise BackupFailed(
                f"the rows of {shape.name} could not be read from all copies", detail=first_line(error)
            ) from error

    def _file(self, part: Part) -> Iterator[bytes]:
        path, size, sum_ = sstables.where(self._tag, part), 0, 0
        wanted = self._checksum(part.node, path) if path.endswith(_DATA) else None
        for block in self._tools.runtime.read_file(self._cluster, part.node, path):
            size += len(block)
            if wanted is not None:
                sum_ = zlib.crc32(block, sum_)
            yield block
        if size != part.size:
            raise BackupFailed(f"{path} has {size} bytes, not {part.size}", node=part.node)
        if wanted is not None and sum_ != wanted:
            raise BackupFailed(
                f"{path} is damaged on the node's disk",
                node=part.node,
                detail=f"its checksum is {sum_}, the server wrote {wanted}",
                hint=f"haops node repair {self._cluster.name} {part.node}",
            )

    def _checksum(self, node: str, path: str) -> int | None:
        beside = path.removesuffix(_DATA) + _DIGEST
        if not any(where == beside for where in self._digests(node)):
            return None
        words = b"".join(self._tools.runtime.read_file(self._cluster, node, beside))
        return int(words) if words.isdigit() else None

    def _digests(self, node: str) -> Iterator[str]:
        return (
            sstables.where(self._tag, p) for p in self._parts if p.node == node and p.name.endswith(_DIGEST)
        )

    def facts(self) -> Facts:
        """Versions, places and what is left out."""
        hosts = hosts_of(self._cluster, self._session)
        seen = {name: self._session.execute(_LOCAL, host=host).one() for name, host in hosts.items()}
        first = next(iter(seen.values()))
        at = datetime.fromtimestamp(self._taken_ns / 1e9, UTC) if self._taken_ns else datetime.now(UTC)
        return Facts(
            version=first.release_version,
            position=f"schema {first.schema_version}",
            latest=at,
            nodes={
                m.name: {
                    "token": str(m.token),
                    "dc": m.dc,
                    "rack": seen[m.name].rack if m.name in seen else "",
                }
                for m in members(self._cluster)
            },
            left_out=self._left_out(),
            details={
                "formats": " ".join(sstables.formats(sstables.stored(self._parts, hosts))),
                UNTIL: str(self._until_us),
            },
        )

    def _left_out(self) -> tuple[str, ...]:
        found = ["the servers' own keyspaces (system…), with roles and permissions"]
        if seen := schema.views(self._entries):
            found.append(f"rows of materialized views, which are built anew: {', '.join(seen)}")
        counters = [s.name for s in self._shapes if s.counts]
        if self._logical and counters:
            found.append(
                f"from what rows can restore: {', '.join(counters)}; a counter cannot be set to a value"
            )
        if self._logical and any(not s.counts for s in self._shapes):
            found.append(
                "from what rows can restore, and from a comparison with them: a row's own write time and "
                "life; it is taken to end with the last of its values, and never if it has none"
            )
        if self._logical and any(c.several for s in self._shapes for c in s.columns):
            found.append("from what rows can restore: each collection element's own write time and life")
        return tuple(found)

    def release(self) -> None:
        """Remove the snapshot from every node."""
        names = [n.name for n in self._cluster.servers]
        ask_all(lambda name: clear(self._tool, name, self._tag), names)
        for name in names:
            self._tools.loans.strike(Loan(name, SNAPSHOT, self._tag))


def _begun_us(backup: str) -> int:
    """Up to which write time a snapshot that is there already has everything (Unix µs), by its backup's id.

    The id begins with the moment when the backup was begun; 0 if it does not.
    """
    try:
        begun = datetime.strptime(backup.partition("-")[0], "%Y%m%dT%H%M%S%z")
    except ValueError:
        return 0
    return int(begun.timestamp()) * 1_000_000 - _ON_THE_WAY_US


def clear(tool: Nodetool, node: str, tag: str) -> None:
    """Remove a snapshot; one that is not there is fine."""
    tool.finish(node, f"clearsnapshot-{tag}", "clearsnapshot", "-t", tag, deadline_s=_SNAPSHOT_S)


def give_back(cluster: Cluster, runtime: Runtime, loan: Loan) -> str:
    """Remove what a backup or a restore that died left on a node's disk.

    Raises:
        HaopsError: The node does not run, or refuses.
    """
    if loan.setting == SNAPSHOT:
        clear(Nodetool(cluster, runtime), loan.node, loan.was)
        return f"{loan.node}: removed snapshot {loan.was}"
    if loan.setting == STAGED and loan.was.startswith(f"{STAGING}/") and ".." not in loan.was:
        runtime.execute(cluster, loan.node, ["rm", "-rf", loan.was])
        return f"{loan.node}: removed {loan.was}"
    raise BadInput(f"cassandra lends no {loan.setting!r}", node=loan.node)


BACKING: Final = Backing(source=source, restorer=restorer, give_back=give_back)

"""A ring, one copy of it, or a backup's rows, as one side of a comparison.

Compared are a row's values, and which of them expire. Write times are not: in Cassandra nothing can be
written into the past, so a side that was mended could never be equal again.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from blake3 import blake3
from cassandra.metadata import Murmur3Token
from numpy.typing import NDArray

from haops.cluster.spec import Cluster
from haops.errors import ClusterUnhealthy
from haops.stores.backup import Archive, NotRestorable
from haops.stores.base import first_line
from haops.stores.cassandra import schema
from haops.stores.cassandra.connect import TROUBLE
from haops.stores.cassandra.placement import Span, holder_of, members, pieces, spans
from haops.stores.cassandra.reader import PIECES, Reader, Way
from haops.stores.cassandra.rows import ROW, Cell, Row, Shape, Walker, aged, joined_key, prefix, split_key
from haops.stores.cassandra.schema import Only
from haops.stores.cassandra.shown import shown_cells
from haops.stores.cassandra.sstables import ROWS, UNTIL
from haops.stores.cassandra.stream import PageStream
from haops.stores.compare import UNTOLD, Record, Survey
from haops.stores.gathered import Gathered

# Three copies are three sides: their digests, the driver and the pages read ahead need the 200 MB.
_KEYS_IN_MEMORY: Final = 1024 * 1024
_KINDS: Final = {ROW: "row", "s": "static"}
# The kind of all rows of a table that counts.
COUNTER: Final = "counter"
EXPIRES: Final = "with a TTL"
_BARE: Final = "its key alone"
_FOR_EVER: Final = 2**63


class RowsSide(ABC):
    """What a ring and a backup have in common as a side."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._gathered: Gathered | None = None

    @property
    def label(self) -> str:
        """Its name in reports."""
        return self._label

    @property
    @abstractmethod
    def moved(self) -> int:
        """Bytes that were read so far."""

    @abstractmethod
    def _pairs(self) -> Iterator[tuple[bytes, int]]:
        """Every record's key and digest."""

    @abstractmethod
    def full(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, Shape | None, Row | None]]:
        """These records whole, with write times, in any order; None where nothing is.

        Raises:
            HaopsError: They cannot be read.
        """

    def survey(self) -> Survey:
        """Fingerprints; everything is read, since a server cannot hash it."""
        self._gathered = None  # the last one's memory goes before the next one's is taken
        self._gathered = Gathered.of(self._pairs(), in_memory=_KEYS_IN_MEMORY)
        return self._gathered.survey()

    def _all(self) -> Gathered:
        if self._gathered is None:
            self.survey()
        assert self._gathered is not None
        return self._gathered

    def digests(self, buckets: frozenset[int]) -> NDArray[np.uint64]:
        """The digests in these buckets, as the last survey found them."""
        return self._all().digests(buckets)

    def keys(self, digests: NDArray[np.uint64]) -> Sequence[bytes]:
        """The keys of records with these digests, as the last survey found them."""
        return self._all().keys(digests)

    def describe(self, keys: Sequence[bytes]) -> Mapping[bytes, Record | None]:
        """What is there under these keys now; a backup: then."""
        return {key: record_of(shape, row) for key, shape, row in self.full(keys)}


class RingSide(RowsSide):
    """A ring read at a level, or one copy of everything in it."""

    def __init__(
        self, cluster: Cluster, sessions: tuple[Any, Any], only: Only, way: Way, *, label: str
    ) -> None:
        super().__init__(label)
        self.cluster = cluster
        self.session, raw = sessions
        self._only = only
        self._way = way
        self._reader = Reader(cluster, raw)
        self._ring = members(cluster)

    @property
    def moved(self) -> int:
        """Bytes of rows that came from the servers."""
        return self._reader.moved

    def _spans(self) -> Mapping[str, tuple[Span, ...]]:
        return {name: spans(self._ring, o) for name, o in schema.keyspaces(self.session).items()}

    def _pairs(self) -> Iterator[tuple[bytes, int]]:
        try:
            by_keyspace = self._spans()
            for shape in schema.shapes(self.session, self._only, timed=False):
                walker = Walker(shape)
                ranges = pieces(by_keyspace[shape.keyspace], PIECES)
                for page in self._reader.pages(shape, ranges, self._way):
                    yield from walker.pairs(page)
        except TROUBLE as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> ClusterUnhealthy:
        return ClusterUnhealthy(
            f"{self._label} cannot be read whole",
            detail=first_line(error),
            hint=f"all its nodes must be up: haops status {self.cluster.name}",
        )

    def full(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, Shape | None, Row | None]]:
        """These records as they are now."""
        try:
            found = {s.name: s for s in schema.shapes(self.session, Only(), timed=True)}
            by_keyspace = self._spans()
            for (table, kind), group in _grouped(keys).items():
                shape = found.get(table)
                if shape is None or prefix(shape, kind) != _head(group[0]):
                    yield from ((key, None, None) for key in group)
                else:
                    yield from self._some(shape, kind, group, by_keyspace[shape.keyspace])
        except TROUBLE as error:
            raise self._unreadable(error) from error

    def _some(
        self, shape: Shape, kind: str, keys: Sequence[bytes], ring: Sequence[Span]
    ) -> Iterator[tuple[bytes, Shape | None, Row | None]]:
        values = [split_key(key)[3] for key in keys]
        partition = len(shape.of_kind("partition_key"))
        wanted = ((v, Span(0, 0, holder_of(ring, token(v[:partition])))) for v in values)
        pages = self._reader.rows(shape, kind, wanted, self._way)
        for key, page in zip(keys, pages, strict=True):
            yield key, shape, next((r for r in Walker(shape).rows(page) if r.kind == kind), None)

    def shape(self, table: str) -> Shape | None:
        """A table as it is now."""
        return next(iter(schema.shapes(self.session, schema.parse_only(table), timed=True)), None)


class BackupSide(RowsSide):
    """The rows in a backup."""

    def __init__(self, archive: Archive, only: Only) -> None:
        super().__init__(f"backup {archive.id}")
        self._archive = archive
        names = [p.name.removeprefix(ROWS) for p in archive.parts if p.name.startswith(ROWS)]
        if not names:
            raise NotRestorable(
                f"backup {archive.id} has files of tables only, and no rows to compare",
                hint="make it with --logical; or compare by restoring it: haops backup verify --by-restore",
            )
        self._names = [n for n in sorted(names) if only.takes(*n.split(".", 1))]
        self._until_us = int(archive.facts.details.get(UNTIL, _FOR_EVER))

    @property
    def moved(self) -> int:
        """Nothing comes from servers."""
        return 0

    def _pairs(self) -> Iterator[tuple[bytes, int]]:
        for name in self._names:
            stream = PageStream(self._archive.read(f"{ROWS}{name}"))
            # What expired since is in no ring any more, and would be told as missing.
            walker = Walker(stream.shape(), _now_ms())
            for page in stream.pages():
                yield from walker.pairs(page)

    def describe(self, keys: Sequence[bytes]) -> Mapping[bytes, Record | None]:
        """What was there under these keys; of what was written meanwhile files and rows may have different states.

        A row that was deleted meanwhile cannot be told from one that was never there; nor, where all its values are
        over by now, whether it lives on by its key alone.
        """
        found: dict[bytes, Record | None] = {}
        for key, shape, whole in self.full(keys):
            row = aged(whole, _now_ms()) if whole else None
            if whole and row is None and whole.kind == ROW:
                bare = record_of(shape, replace(whole, cells=tuple(Cell(None) for _ in whole.cells)))
                found[key] = bare and replace(bare, perhaps=True)
                continue
            found[key] = UNTOLD if row and _newest_us(row) > self._until_us else record_of(shape, row)
        return found

    def full(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, Shape | None, Row | None]]:
        """These records as they were, with what has expired since; each table is read once."""
        for name in {split_key(key)[0] for key in keys} - set(self._names):
            yield from ((key, None, None) for key in keys if split_key(key)[0] == name)
        for name in self._names:
            wanted = {key for key in keys if split_key(key)[0] == name}
            if wanted:
                yield from self._found(name, wanted)

    def _found(self, name: str, wanted: set[bytes]) -> Iterator[tuple[bytes, Shape | None, Row | None]]:
        stream = PageStream(self._archive.read(f"{ROWS}{name}"))
        shape = stream.shape()
        walker, keys = Walker(shape), Walker(shape)
        for page in stream.pages():
            # Keys are cheap to walk; whole rows are made of pages that have a wanted one only.
            here = {key for key, _ in keys.pairs(page)} & wanted
            if not here:
                continue
            for row in walker.rows(page):
                if (key := joined_key(shape, row)) in wanted:
                    wanted.discard(key)
                    yield key, shape, row
        yield from ((key, shape, None) for key in wanted)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _newest_us(row: Row) -> int:
    return max((cell.written for cell in row.cells if cell.written is not None), default=0)


def token(partition: Sequence[bytes]) -> int:
    """Murmur3's token of a partition key's raw values."""
    if len(partition) == 1:
        return int(Murmur3Token.from_key(partition[0]).value)
    joined = b"".join(len(v).to_bytes(2, "big") + v + b"\0" for v in partition)
    return int(Murmur3Token.from_key(joined).value)


def _head(key: bytes) -> bytes:
    table, kind, types, _ = key.split(b"\0", 3)
    return b"\0".join((table, kind, types, b""))


def _grouped(keys: Sequence[bytes]) -> Mapping[tuple[str, str], list[bytes]]:
    found: dict[tuple[str, str], list[bytes]] = {}
    for key in keys:
        table, kind, _, _ = split_key(key)
        found.setdefault((table, kind), []).append(key)
    return found


def record_of(shape: Shape | None, row: Row | None) -> Record | None:
    """A row in words: its values' digest, their beginning, and whether any expires."""
    if shape is None or row is None:
        return None
    columns = shape.of_kind("regular" if row.kind == ROW else "static")
    made = blake3(" ".join(f"{c.name} {c.type}" for c in shape.columns).encode())
    for cell in row.cells:
        made.update(b"-" if cell.value is None else b"+%d " % len(cell.value) + cell.value)
        made.update(b"t" if cell.ttl is not None else b"")
    expires = EXPIRES if any(c.ttl is not None for c in row.cells) else ""
    preview = shown_cells(columns, [c.value for c in row.cells]) or _BARE
    return Record(COUNTER if shape.counts else _KINDS[row.kind], made.hexdigest(length=16), preview, expires)

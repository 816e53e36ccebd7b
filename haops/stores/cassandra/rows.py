"""Rows as the servers send them, left as bytes: walked, fingerprinted and kept without being decoded.

Values of every type, user-defined ones too, so come through exactly. What a row's cells are
is told by its table's `Shape`; a page is any number of rows, one after the other, each cell with its
length in four bytes before it (-1 for null).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from blake3 import blake3

Kind = Literal["partition_key", "clustering", "regular", "static"]

ROW: Final = "r"
STATIC: Final = "s"
COUNTER: Final = "counter"
_LENGTH: Final = struct.Struct(">i")
_NULL: Final = b"\xff\xff\xff\xff"
# Types of one cell; what else has no brackets is user-defined, and if not frozen of several cells.
_NATIVE: Final = frozenset(
    (
        "ascii",
        "bigint",
        "blob",
        "boolean",
        "counter",
        "date",
        "decimal",
        "double",
        "duration",
        "empty",
        "float",
        "inet",
        "int",
        "smallint",
        "text",
        "time",
        "timestamp",
        "timeuuid",
        "tinyint",
        "uuid",
        "varchar",
        "varint",
    )
)
_SEVERAL: Final = ("list<", "set<", "map<")
_ONE: Final = ("frozen<", "tuple<", "vector<", "'")


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column; `type` in CQL's words."""

    name: str
    type: str
    kind: Kind

    @property
    def several(self) -> bool:
        """Whether it has a cell for each element, each with a time of its own."""
        if self.type.startswith(_SEVERAL):
            return True
        return self.type not in _NATIVE and not self.type.startswith(_ONE)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a table's rows consist of, and in which order they are asked for.

    Args:
        columns: The key's in its own order, partition first; then regular ones, then static ones, by name.
        timed: Whether each value's write time comes too.
    """

    keyspace: str
    table: str
    columns: tuple[Column, ...]
    timed: bool = False

    def of_kind(self, *kinds: Kind) -> tuple[Column, ...]:
        """The columns of these kinds, in order."""
        return tuple(c for c in self.columns if c.kind in kinds)

    @property
    def name(self) -> str:
        """`keyspace.table`."""
        return f"{self.keyspace}.{self.table}"

    @property
    def key(self) -> tuple[Column, ...]:
        """The primary key's columns."""
        return self.of_kind("partition_key", "clustering")

    @property
    def counts(self) -> bool:
        """Whether it is a table of counters: those have neither TTL nor a write time that can be asked for."""
        return any(c.type == COUNTER for c in self.columns)

    @property
    def selected(self) -> tuple[str, ...]:
        """The expressions that a SELECT of it asks for."""
        return (
            *(quoted(c.name) for c in self.key),
            *self._asked(self.of_kind("regular")),
            *self._asked(self.of_kind("static")),
        )

    def _asked(self, columns: Sequence[Column]) -> Iterator[str]:
        yield from (quoted(c.name) for c in columns)
        if self.counts:
            return
        yield from (f"TTL({quoted(c.name)})" for c in columns)
        if self.timed:
            yield from (f"{'MAX' if c.several else ''}WRITETIME({quoted(c.name)})" for c in columns)


@dataclass(frozen=True, slots=True)
class Page:
    """Rows as they came; `read_ms` is when (Unix ms): what is left of a TTL counts from then."""

    rows: int
    body: bytes
    read_ms: int


@dataclass(frozen=True, slots=True)
class Cell:
    """A value, what is left of its life in s (None: no end), and its write time in µs where that was asked for.

    Of a collection whose elements have times of their own: the longest life, the latest write.
    """

    value: bytes | None
    ttl: int | None = None
    written: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row, or the static part of a partition (`kind`); `cells` as the shape orders its columns of that kind."""

    kind: str
    key: tuple[bytes, ...]
    cells: tuple[Cell, ...]
    read_ms: int


def is_over(ttl: int | None, read_ms: int, now_ms: int) -> bool:
    """Whether a value that had `ttl` seconds to live at `read_ms` (Unix ms) has no whole second left."""
    return ttl is not None and ttl <= max(now_ms - read_ms, 0) // 1000


def aged(row: Row, now_ms: int) -> Row | None:
    """A row as it is by now: without the values whose life is over; None if it had others and all are."""
    if not any(is_over(c.ttl, row.read_ms, now_ms) for c in row.cells):
        return row
    cells = tuple(
        Cell(None, None, c.written) if is_over(c.ttl, row.read_ms, now_ms) else c for c in row.cells
    )
    return replace(row, cells=cells) if any(c.value is not None for c in cells) else None


def quoted(name: str) -> str:
    """A name as CQL takes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def prefix(shape: Shape, kind: str) -> bytes:
    """What a record's key begins with: table, kind and the types of what follows, so that it can be shown."""
    columns = shape.key if kind == ROW else shape.of_kind("partition_key")
    return f"{shape.name}\0{kind}\0{'|'.join(c.type for c in columns)}\0".encode()


def split_key(key: bytes) -> tuple[str, str, tuple[str, ...], tuple[bytes, ...]]:
    """A record's key: its table, its kind, its columns' types and values."""
    table, kind, types, rest = key.split(b"\0", 3)
    cells, at = [], 0
    while at < len(rest):
        (length,) = _LENGTH.unpack_from(rest, at)
        cells.append(rest[at + 4 : at + 4 + max(length, 0)])
        at += 4 + max(length, 0)
    return table.decode(), kind.decode(), tuple(types.decode().split("|")), tuple(cells)


def joined_key(shape: Shape, row: Row) -> bytes:
    """The record's key of a row."""
    return prefix(shape, row.kind) + b"".join(_LENGTH.pack(len(v)) + v for v in row.key)


def _skip(body: bytes, at: int, cells: int) -> int:
    unpack = _LENGTH.unpack_from
    for _ in range(cells):
        (length,) = unpack(body, at)
        at += 4 + length if length > 0 else 4
    return at


def _cells(body: bytes, at: int, cells: int) -> tuple[list[bytes | None], int]:
    found: list[bytes | None] = []
    for _ in range(cells):
        (length,) = _LENGTH.unpack_from(body, at)
        at += 4
        found.append(None if length < 0 else body[at : at + length])
        at += max(length, 0)
    return found, at


def longest(ttl: bytes | None, *, several: bool) -> int | None:
    """What is left of a value's life: a number, or of `several` cells a list of them, one of which may be endless."""
    if ttl is None:
        return None
    if not several:
        return int.from_bytes(ttl, "big")
    found, _ = _cells(ttl, 4, int.from_bytes(ttl[:4], "big"))
    left = [int.from_bytes(t, "big") for t in found if t is not None]
    return max(left) if len(left) == len(found) and left else None


class Walker:
    """Goes through the pages of one table in their order; a partition's static part counts once.

    Args:
        now_ms: Until when the values of `pairs` have aged since they were read, Unix ms; None: not at all.
    """

    def __init__(self, shape: Shape, now_ms: int | None = None) -> None:
        self._shape = shape
        self._now_ms = now_ms
        self._partition = len(shape.of_kind("partition_key"))
        self._clustering = len(shape.of_kind("clustering"))
        self._regular = len(shape.of_kind("regular"))
        self._static = len(shape.of_kind("static"))
        self._last = b""
        # For each TTL that comes whether it is a list.
        regular, static = (() if shape.counts else shape.of_kind(k) for k in ("regular", "static"))
        self._many = {ROW: tuple(c.several for c in regular), STATIC: tuple(c.several for c in static)}
        # Columns by name and type: tables of other columns have no equal rows.
        words = json.dumps([(c.name, c.type, c.kind) for c in shape.columns])
        self._seeds = {kind: blake3(prefix(shape, kind) + words.encode()).digest() for kind in (ROW, STATIC)}

    def _extra(self, columns: int) -> tuple[int, int]:
        """How many TTLs and how many write times follow so many values."""
        if self._shape.counts:
            return 0, 0
        return columns, columns if self._shape.timed else 0

    def pairs(self, page: Page) -> Iterator[tuple[bytes, int]]:
        """Each record's key and digest: values, and which of them expire. Write times are no part of it."""
        body, at = page.body, 0
        row_prefix, static_prefix = prefix(self._shape, ROW), prefix(self._shape, STATIC)
        ttls, times = self._extra(self._regular)
        nulls, row_seed, times_end = _NULL * ttls, self._seeds[ROW], times
        partition, clustering, regular, static = (
            self._partition, self._clustering, self._regular, self._static,
        )  # fmt: skip
        for _ in range(page.rows):
            start = at
            middle = _skip(body, at, partition)
            key_end = _skip(body, middle, clustering)
            end = _skip(body, key_end, regular)
            values: bytes | None = body[key_end:end]
            flags = b""
            if body.startswith(nulls, end):
                at = end + len(nulls)
            else:
                values, flags, at = self._living(body, key_end, end, page.read_ms, ROW)
            at = _skip(body, at, times_end)
            if values is not None and (not clustering or body[middle : middle + 4] != _NULL):
                made = blake3(row_seed + body[start:key_end] + values + flags).digest(8)
                yield row_prefix + body[start:key_end], int.from_bytes(made, "big")
            if static:
                digest, at = self._static_part(body, at, body[start:middle], page.read_ms)
                if digest is not None:
                    yield static_prefix + body[start:middle], digest

    def _living(
        self, body: bytes, at: int, end: int, read_ms: int, kind: str
    ) -> tuple[bytes | None, bytes, int]:
        """The values between `at` and `end` that live still, None if all are over; which expire; the lives' end."""
        many = self._many[kind]
        found, after = _cells(body, end, len(many))
        lives = [longest(ttl, several=several) for ttl, several in zip(found, many, strict=True)]
        values: bytes | None = body[at:end]
        if (now := self._now_ms) is not None and any(is_over(ttl, read_ms, now) for ttl in lives):
            cells, _ = _cells(body, at, len(many))
            cells = [None if is_over(t, read_ms, now) else v for v, t in zip(cells, lives, strict=True)]
            lives = [ttl if v is not None else None for v, ttl in zip(cells, lives, strict=True)]
            values = b"".join(_NULL if v is None else _LENGTH.pack(len(v)) + v for v in cells)
            values = None if all(v is None for v in cells) else values
        flags = bytes(ttl is not None for ttl in lives)
        return values, flags if any(flags) else b"", after

    def _static_part(self, body: bytes, at: int, partition: bytes, read_ms: int) -> tuple[int | None, int]:
        _, times = self._extra(self._static)
        end = _skip(body, at, self._static)
        nothing = _NULL * self._static
        values, flags, at = self._living(body, at, end, read_ms, STATIC)
        at = _skip(body, at, times)
        if partition == self._last or values is None or values == nothing:
            return None, at
        self._last = partition
        made = blake3(self._seeds[STATIC] + partition + values + flags).digest(8)
        return int.from_bytes(made, "big"), at

    def rows(self, page: Page) -> Iterator[Row]:
        """Each record in full."""
        body, at = page.body, 0
        for _ in range(page.rows):
            key, at = _cells(body, at, self._partition + self._clustering)
            cells, at = self._values(body, at, self._regular, self._many[ROW])
            if None not in key:
                yield Row(ROW, tuple(v for v in key if v is not None), cells, page.read_ms)
            if self._static:
                cells, at = self._values(body, at, self._static, self._many[STATIC])
                partition = tuple(v for v in key[: self._partition] if v is not None)
                mark = b"".join(_LENGTH.pack(len(v)) + v for v in partition)
                if mark != self._last and any(c.value is not None for c in cells):
                    self._last = mark
                    yield Row(STATIC, partition, cells, page.read_ms)

    def _values(
        self, body: bytes, at: int, columns: int, many: tuple[bool, ...]
    ) -> tuple[tuple[Cell, ...], int]:
        ttls, times = self._extra(columns)
        values, at = _cells(body, at, columns)
        lives, at = _cells(body, at, ttls)
        written, at = _cells(body, at, times)
        return tuple(
            Cell(
                value,
                longest(lives[i], several=many[i]) if ttls else None,
                int.from_bytes(when, "big") if times and (when := written[i]) is not None else None,
            )
            for i, value in enumerate(values)
        ), at

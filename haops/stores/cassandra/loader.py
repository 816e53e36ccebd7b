"""Rows written as they were read: raw values, with their own write times and what is left of their lives."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from cassandra import ConsistencyLevel

from haops.stores.cassandra.connect import TROUBLE
from haops.stores.cassandra.reader import raw_bound, windowed
from haops.stores.cassandra.rows import ROW, Cell, Column, Row, Shape, is_over, quoted

_WINDOW: Final = 128
_PATIENCE_S: Final = 60.0
_AGAIN_S: Final = 0.5
_ENDLESS: Final = 0


@dataclass(frozen=True, slots=True)
class Write:
    """One statement: the columns it sets (by their place in the shape) at one time, for one life.

    Args:
        insert: Whether the row itself is made; else only its columns are set.
        columns: Empty where a row has nothing but its key.
        values: Theirs; None removes what is there.
        at_us: Write time, Unix µs.
        ttl: Seconds; 0 is for ever.
    """

    kind: str
    insert: bool
    key: tuple[bytes, ...]
    columns: tuple[int, ...]
    values: tuple[bytes | None, ...]
    at_us: int
    ttl: int = _ENDLESS


@dataclass(frozen=True, slots=True)
class Removal:
    """A row, or a partition's static part, taken away with all that was written up to `at_us`."""

    kind: str
    key: tuple[bytes, ...]
    at_us: int


def left_of(cell: Cell, row: Row, now_ms: int) -> int | None:
    """Seconds that a value has to live now; 0 is for ever, None is over."""
    if cell.ttl is None:
        return _ENDLESS
    if is_over(cell.ttl, row.read_ms, now_ms):
        return None
    return cell.ttl - max(now_ms - row.read_ms, 0) // 1000


def as_it_was(row: Row, now_ms: int) -> list[Write]:
    """The statements that write a row with its own times; none if its life is over.

    One statement has one time and one life, so a row takes as many as it has of those. The one whose
    values live longest makes the row: an INSERT's row lives as long as its values. No query tells how
    long a row lives by its key alone, so one whose values are all over counts as over with them.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    had = False
    for i, cell in enumerate(row.cells):
        if cell.value is None:
            continue
        had = True
        if (left := left_of(cell, row, now_ms)) is not None:
            written = cell.written if cell.written is not None else row.read_ms * 1000
            groups.setdefault((left, written), []).append(i)
    if not groups:
        if had or row.kind != ROW:
            return []
        return [Write(row.kind, insert=True, key=row.key, columns=(), values=(), at_us=row.read_ms * 1000)]
    order = sorted(groups, key=lambda g: (g[0] != _ENDLESS, -g[0], g[1]))
    return [
        Write(
            row.kind,
            place == 0 or row.kind != ROW,
            row.key,
            tuple(groups[life, at]),
            tuple(row.cells[i].value for i in groups[life, at]),
            at,
            life,
        )
        for place, (life, at) in enumerate(order)
    ]


def in_place_of(row: Row, at_us: int, now_ms: int) -> list[Write | Removal]:
    """The statements that make a row what it is whatever stands there: all columns, also the empty ones.

    Empty columns go with the values that live longest, which make the row: it must not outlive them.
    A row whose values are all over loses them and is not removed: no query tells whether it still
    lives by its key alone. A static part has no life but that of its values.
    """
    groups: dict[int, list[int]] = {}
    empty = []
    for i, cell in enumerate(row.cells):
        left = None if cell.value is None else left_of(cell, row, now_ms)
        if left is None:
            empty.append(i)
        else:
            groups.setdefault(left, []).append(i)
    if not groups and any(cell.value is not None for cell in row.cells):
        if row.kind != ROW:
            return [Removal(row.kind, row.key, at_us)]
        return [
            Write(ROW, insert=False, key=row.key, columns=(*empty,), values=(None,) * len(empty), at_us=at_us)
        ]
    order = sorted(groups, key=lambda life: (life != _ENDLESS, -life)) or [_ENDLESS]
    made: list[Write | Removal] = []
    for place, life in enumerate(order):
        living, gone = groups.get(life, []), empty if place == 0 else []
        values = (*(row.cells[i].value for i in living), *(None for _ in gone))
        insert = place == 0 or row.kind != ROW
        made.append(Write(row.kind, insert, row.key, (*living, *gone), values, at_us, life))
    return made


def newest(row: Row | None) -> int:
    """The latest write time in a row, Unix µs; 0 if none is known."""
    return max((c.written for c in row.cells if c.written is not None), default=0) if row else 0


class Loader:
    """Writes one table's rows through a session, at ALL: a copy that misses a row would be found different."""

    def __init__(self, session: Any, shape: Shape) -> None:
        self._session = session
        self._shape = shape
        self._prepared: dict[str, Any] = {}

    def write(self, writes: Iterable[Write | Removal]) -> Iterator[int]:
        """Carry statements out, many under way at a time; yields 1 for each that is done.

        Raises:
            one of TROUBLE: A statement was refused for a minute.
        """

        def send(write: Write | Removal) -> _Flight:
            bound = self._bound(write)
            return _Flight(self._session, bound, self._session.execute_async(bound))

        for _ in windowed(send, writes, _WINDOW):
            yield 1

    def _bound(self, write: Write | Removal) -> Any:
        """A statement with raw values, as the driver would have made them."""
        values: list[bytes | None]
        at = write.at_us.to_bytes(8, "big", signed=True)
        if isinstance(write, Removal):
            text, values = removal(self._shape, write.kind), [at, *write.key]
        else:
            life = write.ttl.to_bytes(4, "big")
            text = statement(self._shape, write)
            values = (
                [*write.key, *write.values, at, life]
                if write.insert
                else [at, life, *write.values, *write.key]
            )
        if text not in self._prepared:
            self._prepared[text] = self._session.prepare(text)
        return raw_bound(self._prepared[text], values, ConsistencyLevel.ALL)


class _Flight:
    """A statement under way; repeated when it fails, which does no harm: its time is in it."""

    def __init__(self, session: Any, bound: Any, future: Any) -> None:
        self._session = session
        self._bound = bound
        self._future = future

    def result(self) -> None:
        end = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self._future.result()
                return
            except TROUBLE:
                if time.monotonic() > end:
                    raise
                time.sleep(_AGAIN_S)
                self._future = self._session.execute_async(self._bound)


def _table(shape: Shape) -> str:
    return f"{quoted(shape.keyspace)}.{quoted(shape.table)}"


def _key(shape: Shape, kind: str) -> tuple[Column, ...]:
    return shape.key if kind == ROW else shape.of_kind("partition_key")


def statement(shape: Shape, write: Write) -> str:
    """A write's CQL."""
    others = shape.of_kind("regular" if write.kind == ROW else "static")
    key = [quoted(c.name) for c in _key(shape, write.kind)]
    columns = [quoted(others[i].name) for i in write.columns]
    if write.insert:
        names = [*key, *columns]
        return (
            f"INSERT INTO {_table(shape)} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "
            "USING TIMESTAMP ? AND TTL ?"
        )
    sets = ", ".join(f"{c} = ?" for c in columns)
    where = " AND ".join(f"{k} = ?" for k in key)
    return f"UPDATE {_table(shape)} USING TIMESTAMP ? AND TTL ? SET {sets} WHERE {where}"


def removal(shape: Shape, kind: str) -> str:
    """A removal's CQL."""
    what = "" if kind == ROW else ", ".join(quoted(c.name) for c in shape.of_kind("static")) + " "
    where = " AND ".join(f"{quoted(c.name)} = ?" for c in _key(shape, kind))
    return f"DELETE {what}FROM {_table(shape)} USING TIMESTAMP ? WHERE {where}"

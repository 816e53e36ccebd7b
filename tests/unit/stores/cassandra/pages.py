"""Pages of rows as a server would send them, made by hand for tests."""

from __future__ import annotations

from collections.abc import Sequence

from haops.stores.cassandra.rows import ROW, Column, Page, Row, Shape

Raw = bytes | None

PLAIN = Shape(
    "shop", "items", (Column("id", "bigint", "partition_key"), Column("value", "blob", "regular")), timed=True
)
WIDE = Shape(
    "odd",
    "Mixed",
    (
        Column("a", "int", "partition_key"),
        Column("b", "text", "clustering"),
        Column("l", "list<int>", "regular"),
        Column("v", "text", "regular"),
        Column("fixed", "text", "static"),
    ),
    timed=True,
)
COUNTERS = Shape(
    "odd", "hits", (Column("name", "text", "partition_key"), Column("n", "counter", "regular")), timed=True
)


def cell(value: Raw) -> bytes:
    return b"\xff\xff\xff\xff" if value is None else len(value).to_bytes(4, "big") + value


def number(value: int | None, size: int) -> Raw:
    return None if value is None else value.to_bytes(size, "big")


def listed(values: Sequence[int | None]) -> bytes:
    """A list of numbers as TTL() of a collection answers."""
    return len(values).to_bytes(4, "big") + b"".join(cell(number(v, 4)) for v in values)


def page(
    shape: Shape, rows: Sequence[tuple[Sequence[Raw], Row | None, Row | None]], read_ms: int = 0
) -> Page:
    """Rows by their key's values, their regular and their static part."""
    body = b""
    for key, regular, static in rows:
        body += b"".join(map(cell, key))
        body += part(shape, regular, len(shape.of_kind("regular")))
        body += part(shape, static, len(shape.of_kind("static")))
    return Page(len(rows), body, read_ms)


def part(shape: Shape, row: Row | None, columns: int) -> bytes:
    if row is None:
        return cell(None) * (columns * (1 if shape.counts else 3 if shape.timed else 2))
    of = shape.of_kind("regular" if row.kind == ROW else "static")
    made = b"".join(cell(c.value) for c in row.cells)
    if shape.counts:
        return made
    for c, column in zip(row.cells, of, strict=True):
        if column.several:
            made += cell(None if c.value is None else listed([c.ttl]))
        else:
            made += cell(number(c.ttl, 4))
    if shape.timed:
        made += b"".join(cell(number(c.written, 8)) for c in row.cells)
    return made

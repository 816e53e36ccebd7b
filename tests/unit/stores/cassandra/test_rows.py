"""Rows as bytes: walked, fingerprinted, kept in a stream and read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.stores.cassandra.rows import (
    ROW,
    STATIC,
    Cell,
    Column,
    Page,
    Row,
    Shape,
    Walker,
    aged,
    joined_key,
    longest,
    split_key,
)
from haops.stores.cassandra.shown import show
from haops.stores.cassandra.stream import PageStream, RowsDamaged, stream

from .pages import COUNTERS, PLAIN, WIDE, listed, page

values = st.one_of(st.none(), st.binary(max_size=12))
lives = st.one_of(st.none(), st.integers(1, 10**8))


@st.composite
def cells(draw: st.DrawFn) -> Cell:
    value = draw(values)
    if value is None:
        return Cell(None)
    return Cell(value, draw(lives), draw(st.integers(0, 2**60)))


@st.composite
def partitions(draw: st.DrawFn) -> list[tuple[list[bytes | None], Row | None, Row | None]]:
    """A table's partitions as a server sends them: each row with its partition's static part."""
    made: list[tuple[list[bytes | None], Row | None, Row | None]] = []
    for number in range(draw(st.integers(0, 4))):
        key = number.to_bytes(4, "big")
        fixed = draw(cells())
        static = Row(STATIC, (key,), (fixed,), 0)
        names = draw(st.lists(st.binary(max_size=3), unique=True, max_size=4))
        if not names and fixed.value is not None:
            made.append(([key, None], None, static))
        for name in names:
            row = Row(ROW, (key, name), (draw(cells()), draw(cells())), 0)
            made.append(([key, name], row, static))
    return made


def expected(sent: Sequence[tuple[list[bytes | None], Row | None, Row | None]]) -> list[Row]:
    found: list[Row] = []
    for _, row, static in sent:
        if row is not None:
            found.append(row)
        if static is not None and static.cells[0].value is not None and static not in found:
            found.append(static)
    return found


@given(partitions(), st.integers(0, 8))
def test_rows_come_through_whole_wherever_a_page_ends(
    sent: list[tuple[list[bytes | None], Row | None, Row | None]], cut: int
) -> None:
    pages = [page(WIDE, sent[:cut]), page(WIDE, sent[cut:])]
    walker, keys = Walker(WIDE), Walker(WIDE)
    found = [row for p in pages for row in walker.rows(p)]
    assert found == expected(sent)
    assert [k for p in pages for k, _ in keys.pairs(p)] == [joined_key(WIDE, r) for r in found]


@given(partitions())
def test_every_record_has_one_key(sent: list[tuple[list[bytes | None], Row | None, Row | None]]) -> None:
    keys = [key for key, _ in Walker(WIDE).pairs(page(WIDE, sent))]
    assert len(keys) == len(set(keys))


def digest(shape: Shape, row: Row) -> int:
    ((_, made),) = Walker(shape).pairs(page(shape, [(row.key, row, None)]))
    return made


@given(st.binary(max_size=9), st.binary(max_size=9), lives, lives, st.integers(0, 9), st.integers(0, 9))
def test_a_digest_tells_values_and_whether_they_expire_but_not_when_they_were_written(
    one: bytes, other: bytes, ttl: int | None, life: int | None, before: int, after: int
) -> None:
    first = Row(ROW, (b"k",), (Cell(one, ttl, before),), 0)
    second = Row(ROW, (b"k",), (Cell(other, life, after),), 0)
    equal = one == other and (ttl is None) == (life is None)
    assert (digest(PLAIN, first) == digest(PLAIN, second)) == equal


short_lives = st.builds(Cell, values, st.one_of(st.none(), st.integers(1, 20)), st.integers(0, 9)).map(
    lambda c: c if c.value is not None else Cell(None)
)
short_rows = st.tuples(short_lives, short_lives, short_lives).map(
    lambda c: (
        Row(ROW, (b"\0\0\0\1", b"b"), (c[0], c[1]), 5000),
        Row(STATIC, (b"\0\0\0\1",), (c[2],), 5000),
    )
)


@given(short_rows, st.integers(0, 30_000))
def test_a_page_that_has_aged_tells_what_its_aged_rows_tell(parts: tuple[Row, Row], now_ms: int) -> None:
    row, static = parts
    made = page(WIDE, [(row.key, row, static)], 5000)
    left, kept = aged(row, now_ms), aged(static, now_ms)
    fresh = []
    if left is not None or kept is not None:
        fresh = [(row.key if left else (row.key[0], None), left, kept)]
    if kept is None and left is None:
        assert list(Walker(WIDE, now_ms).pairs(made)) == []
        return
    assert list(Walker(WIDE, now_ms).pairs(made)) == list(Walker(WIDE).pairs(page(WIDE, fresh)))


def test_a_value_that_is_over_does_not_count_as_one_that_expires() -> None:
    row = Row(ROW, (b"\0\0\0\1", b"b"), (Cell(b"v", 1, 1), Cell(b"w", None, 1)), 0)
    rest = replace(row, cells=(Cell(None), row.cells[1]))
    pairs = list(Walker(WIDE, 5000).pairs(page(WIDE, [(row.key, row, None)])))
    assert pairs == list(Walker(WIDE).pairs(page(WIDE, [(rest.key, rest, None)])))


@given(short_rows, st.integers(0, 30_000))
def test_values_that_are_over_are_gone_and_a_row_of_nothing_else_too(
    parts: tuple[Row, Row], now_ms: int
) -> None:
    row, _ = parts
    passed_s = max(now_ms - row.read_ms, 0) // 1000
    living = [c.value if c.ttl is None or c.ttl > passed_s else None for c in row.cells]
    found = aged(row, now_ms)
    if found is None:
        assert living == [None, None] != [c.value for c in row.cells]
    else:
        assert [c.value for c in found.cells] == living
        assert any(v is not None for v in living) or living == [c.value for c in row.cells]


def test_an_empty_value_is_not_null() -> None:
    rows = [Row(ROW, (b"k",), (Cell(value, None, 1),), 0) for value in (b"", None)]
    assert digest(PLAIN, rows[0]) != digest(PLAIN, rows[1])


def test_the_digest_is_the_same_whether_write_times_were_read_or_not() -> None:
    row = Row(ROW, (b"k",), (Cell(b"v", 5, 9),), 0)
    assert digest(PLAIN, row) == digest(replace(PLAIN, timed=False), row)


def test_tables_of_other_columns_have_no_equal_rows() -> None:
    other = replace(PLAIN, columns=(PLAIN.columns[0], Column("value", "text", "regular")))
    row = Row(ROW, (b"k",), (Cell(b"v", None, 1),), 0)
    assert digest(PLAIN, row) != digest(other, row)


def test_counters_have_neither_ttl_nor_write_time() -> None:
    assert COUNTERS.selected == ('"name"', '"n"')
    row = Row(ROW, (b"page",), (Cell((5).to_bytes(8, "big")),), 0)
    assert list(Walker(COUNTERS).rows(page(COUNTERS, [(row.key, row, None)]))) == [row]


def test_collections_are_asked_for_their_latest_write() -> None:
    assert 'MAXWRITETIME("l")' in WIDE.selected
    assert 'WRITETIME("v")' in WIDE.selected
    assert WIDE.selected.index('"fixed"') > WIDE.selected.index('WRITETIME("v")'), "static parts come last"


@pytest.mark.parametrize(
    ("type_", "several"),
    [
        ("list<int>", True),
        ("frozen<list<int>>", False),
        ("place", True),
        ("frozen<place>", False),
        ("tuple<int, int>", False),
        ("vector<float, 3>", False),
        ("'org.apache.cassandra.db.marshal.ReversedType'", False),
        ("text", False),
    ],
)
def test_unfrozen_collections_and_types_of_users_have_several_cells(type_: str, several: bool) -> None:
    assert Column("c", type_, "regular").several is several


@pytest.mark.parametrize(
    ("raw", "left"),
    [(None, None), (listed([]), None), (listed([5, 9]), 9), (listed([5, None]), None)],
)
def test_a_collection_lives_as_long_as_its_last_element(raw: bytes | None, left: int | None) -> None:
    assert longest(raw, several=True) == left


PAGES = [Page(1, b"one", 1), Page(2, b"", 2), Page(3, b"three", 3)]


@given(st.integers(1, 50))
def test_a_stream_comes_back_as_it_was_whatever_its_blocks(size: int) -> None:
    whole = b"".join(stream(WIDE, PAGES))
    read = PageStream(whole[at : at + size] for at in range(0, len(whole), size))
    assert read.shape() == WIDE
    assert list(read.pages()) == PAGES


def test_a_stream_can_be_read_on_from_behind_any_page() -> None:
    whole = b"".join(stream(WIDE, PAGES))
    read = PageStream(iter([whole]))
    read.shape()
    for done, _ in enumerate(read.pages(), start=1):
        assert list(PageStream(iter([whole[read.at :]]), read.at).pages()) == PAGES[done:]


@given(st.data())
def test_a_stream_that_was_cut_off_is_never_taken_for_whole(data: st.DataObject) -> None:
    whole = b"".join(stream(WIDE, PAGES))
    read = PageStream(iter([whole[: data.draw(st.integers(0, len(whole) - 1))]]))
    with pytest.raises(RowsDamaged):
        assert read.shape()
        list(read.pages())


def test_a_stream_that_lacks_a_page_is_damaged() -> None:
    whole = b"".join(stream(WIDE, PAGES))
    third = b"".join(stream(WIDE, PAGES[:2]))
    with pytest.raises(RowsDamaged, match="2 pages, not 3"):
        read = PageStream(iter([third[:-16] + whole[-16:]]))
        read.shape()
        list(read.pages())


@given(st.lists(st.binary(max_size=5), min_size=2, max_size=2))
def test_a_key_is_taken_apart_as_it_was_joined(parts: list[bytes]) -> None:
    key = joined_key(WIDE, Row(ROW, tuple(parts), (), 0))
    assert split_key(key) == ("odd.Mixed", ROW, ("int", "text"), tuple(parts))


def test_keys_are_shown_as_table_and_primary_key() -> None:
    number = (7).to_bytes(4, "big")
    assert show(joined_key(WIDE, Row(ROW, (number, b"it's"), (), 0))) == 'odd.Mixed(7, "it\'s")'
    assert show(joined_key(WIDE, Row(STATIC, (number,), (), 0))) == "odd.Mixed(7) static"
    assert show(joined_key(WIDE, Row(ROW, (b"odd", b""), (), 0))) == "odd.Mixed(7300196, '')".replace(
        "7300196", str(int.from_bytes(b"odd", "big"))
    )

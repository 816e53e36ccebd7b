"""Rows written as they were, or in place of others: which statements that takes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.errors import BadInput
from haops.stores.cassandra.loader import Removal, Write, as_it_was, in_place_of, newest, removal, statement
from haops.stores.cassandra.mend import mend, writes_for
from haops.stores.cassandra.rows import ROW, STATIC, Cell, Row, joined_key

from .pages import PLAIN, WIDE

NOW_MS = 10_000_000

cells = st.builds(
    Cell,
    st.one_of(st.none(), st.binary(max_size=4)),
    st.one_of(st.none(), st.integers(1, 5000)),
    st.integers(1, 3),
)
rows = st.builds(
    Row,
    st.sampled_from([ROW, STATIC]),
    st.just((b"k",)),
    st.lists(cells, min_size=1, max_size=4).map(tuple),
    st.integers(NOW_MS - 3_000_000, NOW_MS),
)


def lives(row: Row, cell: Cell) -> bool:
    return cell.value is not None and (cell.ttl is None or cell.ttl > (NOW_MS - row.read_ms) // 1000)


@given(rows)
def test_each_living_value_is_written_once_with_its_own_time_and_life(row: Row) -> None:
    writes = as_it_was(row, NOW_MS)
    found = {i: (value, w.at_us, w.ttl) for w in writes for i, value in zip(w.columns, w.values, strict=True)}
    assert len(found) == sum(len(w.columns) for w in writes)
    assert found == {
        i: (c.value, c.written, 0 if c.ttl is None else c.ttl - (NOW_MS - row.read_ms) // 1000)
        for i, c in enumerate(row.cells)
        if lives(row, c)
    }


@given(rows)
def test_the_row_itself_lives_as_long_as_its_last_value(row: Row) -> None:
    writes = as_it_was(row, NOW_MS)
    if row.kind != ROW or not writes:
        return
    made = [w for w in writes if w.insert]
    assert len(made) == 1
    assert made[0].ttl == 0 or made[0].ttl == max(w.ttl for w in writes)
    assert made[0].ttl == 0 or all(w.ttl for w in writes)


def test_of_values_that_all_end_the_longest_lived_makes_the_row() -> None:
    row = Row(ROW, (b"k",), (Cell(b"a", 10, 1), Cell(b"b", 900, 1), Cell(b"c", 50, 1)), NOW_MS)
    assert [(w.insert, w.ttl) for w in as_it_was(row, NOW_MS)] == [(True, 900), (False, 50), (False, 10)]


def test_a_row_that_is_only_a_key_is_made_and_one_whose_life_is_over_is_not() -> None:
    bare = Row(ROW, (b"k",), (Cell(None),), 5)
    assert as_it_was(bare, NOW_MS) == [Write(ROW, True, (b"k",), (), (), 5000)]
    over = Row(ROW, (b"k",), (Cell(b"v", 10, 1),), NOW_MS - 11_000)
    assert as_it_was(over, NOW_MS) == []


@given(rows, st.integers(1, 10**15))
def test_what_takes_a_rows_place_sets_every_column_at_one_time(row: Row, at_us: int) -> None:
    writes = in_place_of(row, at_us, NOW_MS)
    assert {w.at_us for w in writes} == {at_us}
    if any(c.value is not None for c in row.cells) and not any(lives(row, c) for c in row.cells):
        all_, none = tuple(range(len(row.cells))), (None,) * len(row.cells)
        values_only = Write(ROW, False, row.key, all_, none, at_us)
        assert writes == [values_only if row.kind == ROW else Removal(row.kind, row.key, at_us)]
        return
    made = [w for w in writes if isinstance(w, Write)]
    found = {i: v for w in made for i, v in zip(w.columns, w.values, strict=True)}
    assert len(made) == len(writes)
    assert sum(len(w.columns) for w in made) == len(row.cells)
    assert found == {i: c.value if lives(row, c) else None for i, c in enumerate(row.cells)}


@given(rows)
def test_what_takes_a_rows_place_lives_as_long_as_its_last_value(row: Row) -> None:
    for write in in_place_of(row, 1, NOW_MS):
        if isinstance(write, Write):
            values = [c for i, c in enumerate(row.cells) if i in write.columns and lives(row, c)]
            left = {0 if c.ttl is None else c.ttl - (NOW_MS - row.read_ms) // 1000 for c in values}
            assert left == {write.ttl} or (not left and not write.ttl), (
                "empty columns are no life of their own"
            )


def test_a_row_that_ends_gets_no_everlasting_mark_from_its_empty_columns() -> None:
    row = Row(ROW, (b"k",), (Cell(b"a", 10, 1), Cell(None), Cell(b"c", 900, 1)), NOW_MS)
    assert in_place_of(row, 7, NOW_MS) == [
        Write(ROW, True, (b"k",), (2, 1), (b"c", None), 7, 900),
        Write(ROW, False, (b"k",), (0,), (b"a",), 7, 10),
    ]
    bare = replace(row, cells=(Cell(None),))
    assert in_place_of(bare, 7, NOW_MS) == [Write(ROW, True, (b"k",), (0,), (None,), 7)]


def test_a_mended_row_is_written_after_whatever_stands_there() -> None:
    future = 2**61
    there = Row(ROW, (b"k",), (Cell(b"new", None, future),), 0)
    truth = replace(there, cells=(Cell(b"old", None, 1),))
    key = joined_key(PLAIN, truth)
    (write,) = writes_for(PLAIN, (key, PLAIN, truth), there)
    assert write.at_us == future + 1
    (gone,) = writes_for(PLAIN, (key, PLAIN, None), there)
    assert gone == Removal(ROW, (b"k",), future + 1)
    assert newest(None) == 0


OVER = Row(ROW, (b"k",), (Cell(b"v", 10, 1),), NOW_MS)


def test_a_row_whose_values_are_all_over_loses_those_and_keeps_its_key() -> None:
    there = replace(OVER, cells=(Cell(b"back", None, 2**61),))
    (write,) = writes_for(PLAIN, (joined_key(PLAIN, OVER), PLAIN, OVER), there)
    assert write == Write(ROW, False, (b"k",), (0,), (None,), 2**61 + 1)
    assert statement(PLAIN, write).startswith("UPDATE"), "neither made nor removed"


@pytest.mark.parametrize("there", [None, replace(OVER, cells=(Cell(None),))])
def test_a_row_whose_values_are_all_over_is_left_where_it_has_none(there: Row | None) -> None:
    assert writes_for(PLAIN, (joined_key(PLAIN, OVER), PLAIN, OVER), there) == []


def test_a_truth_of_other_columns_is_refused() -> None:
    row = Row(ROW, (b"k",), (Cell(b"v", None, 1),), 0)
    other = replace(PLAIN, columns=PLAIN.columns[:1])
    with pytest.raises(BadInput, match="other columns"):
        writes_for(PLAIN, (joined_key(PLAIN, row), other, row), None)


def test_only_rings_are_mended() -> None:
    with pytest.raises(BadInput):
        list(mend(object(), object(), []))  # type: ignore[arg-type]


def test_statements_name_their_columns_in_the_order_of_their_values() -> None:
    key = (b"a", b"b")
    made = Write(ROW, True, key, (1,), (b"v",), 1)
    assert statement(WIDE, made) == (
        'INSERT INTO "odd"."Mixed" ("a", "b", "v") VALUES (?, ?, ?) USING TIMESTAMP ? AND TTL ?'
    )
    set_ = replace(made, insert=False)
    assert statement(WIDE, set_) == (
        'UPDATE "odd"."Mixed" USING TIMESTAMP ? AND TTL ? SET "v" = ? WHERE "a" = ? AND "b" = ?'
    )
    static = Write(STATIC, True, (b"a",), (0,), (b"s",), 1)
    assert statement(WIDE, static).startswith('INSERT INTO "odd"."Mixed" ("a", "fixed")')
    assert removal(WIDE, STATIC) == 'DELETE "fixed" FROM "odd"."Mixed" USING TIMESTAMP ? WHERE "a" = ?'
    assert removal(WIDE, ROW) == 'DELETE FROM "odd"."Mixed" USING TIMESTAMP ? WHERE "a" = ? AND "b" = ?'

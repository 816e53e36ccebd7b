from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from haops.errors import BadInput, EnvironmentTrouble
from haops.history import files
from haops.history.files import batches, load, save, save_batches, slices
from haops.history.record import COLUMNS, TYPES, History, Kind, Outcome

from ...histories import history, op
from .samples import history_of, recorded, records


@given(seen=recorded())
def test_a_saved_history_is_read_back_whole(seen: History, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("run") / "h.parquet"
    save(seen, path)
    again = load(path)
    assert records(again) == records(seen)
    assert again.nodes[0] == again.errors[0] == ""
    assert all(getattr(again, name).dtype.itemsize == getattr(seen, name).dtype.itemsize for name in COLUMNS)
    assert [p.name for p in path.parent.iterdir()] == ["h.parquet"]


@given(seen=recorded())
def test_batches_together_are_the_history(seen: History, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("run") / "h.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "GROUP_ROWS", 3)
        save(seen, path)
        parts = batches(path)
        assert [len(part) for part in parts] == [len(part) for part in slices(seen)]
        assert [row for part in parts for row in records(part)] == records(seen)
        assert records(load(path)) == records(seen)
        save_batches(parts, path.with_name("again.parquet"))
    assert records(load(path.with_name("again.parquet"))) == records(seen)


def test_an_empty_history_keeps_its_types(tmp_path: Path) -> None:
    save(history(), tmp_path / "h.parquet")
    seen = load(tmp_path / "h.parquet")
    assert len(seen) == 0
    assert {name: getattr(seen, name).dtype.itemsize for name in COLUMNS} == {
        name: {"q": 8, "i": 4, "h": 2, "b": 1}[TYPES[name]] for name in COLUMNS
    }


def test_other_programs_find_words_and_nulls(tmp_path: Path) -> None:
    seen = history_of(
        (0, Kind.WRITE, 7, 1, files.NIL, 1, 2, Outcome.INFO),
        (1, Kind.READ, 7, files.NIL, files.NIL, 3, 4, Outcome.OK),
        (2, Kind.LIST, 0, files.NIL, files.NIL, 5, 6, Outcome.OK, [7, 8]),
    )
    save(seen, tmp_path / "h.parquet")
    table = parquet.read_table(tmp_path / "h.parquet")
    assert table.schema.metadata[b"haops.history"] == b"1"
    assert table.column_names == [*COLUMNS, "items"]
    rows = table.to_pylist()
    assert [r["kind"] for r in rows] == ["write", "read", "list"]
    assert [r["outcome"] for r in rows] == ["info", "ok", "ok"]
    assert [r["value"] for r in rows] == [1, None, None]
    assert [r["items"] for r in rows] == [None, None, [7, 8]]
    assert pa.types.is_dictionary(table.schema.field("kind").type)


def test_rows_lie_in_groups_of_a_hundred_thousand_packed_with_zstd(tmp_path: Path) -> None:
    save(history(*(op(i / 100) for i in range(100_001))), tmp_path / "h.parquet")
    facts = parquet.ParquetFile(tmp_path / "h.parquet").metadata
    assert [facts.row_group(i).num_rows for i in range(facts.num_row_groups)] == [100_000, 1]
    assert {facts.row_group(0).column(i).compression for i in range(facts.num_columns)} == {"ZSTD"}


# ---- damaged files


def saved(path: Path, count: int = 30) -> bytes:
    save(history(*(op(i, key=i * 7919 % 1000, node="n", error="E" * (i % 2)) for i in range(count))), path)
    return path.read_bytes()


@given(data=st.data())
def test_no_truncated_history_is_taken_for_a_whole_one(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("run") / "h.parquet"
    whole = saved(path)
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(BadInput, match="cut off, damaged or another file"):
        load(path)


def test_rotten_bytes_are_found_or_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "h.parquet"
    whole = saved(path)
    good = records(load(path))
    found = 0
    for position in range(len(whole)):
        rotten = bytearray(whole)
        rotten[position] ^= 0xFF
        path.write_bytes(rotten)
        try:
            assert records(load(path)) == good, position
        except BadInput:
            found += 1
    assert found > len(whole) / 2


def test_a_missing_file_is_bad_input_that_says_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file") as caught:
        load(tmp_path / "none.parquet")
    assert "Parquet" in str(caught.value.hint)


def test_another_parquet_file_is_bad_input(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    with pytest.raises(BadInput, match="not a history of haops"):
        load(tmp_path / "x.parquet")


def test_a_history_of_another_version_is_bad_input(tmp_path: Path) -> None:
    table = pa.table({"a": [1]}, metadata={"haops.history": "2"})
    parquet.write_table(table.cast(pa.schema([pa.field("a", pa.int64())], metadata={"haops.history": "2"})),
                        tmp_path / "x.parquet")  # fmt: skip
    with pytest.raises(BadInput, match="a history of version 2"):
        load(tmp_path / "x.parquet")


def test_a_history_with_other_columns_is_bad_input_with_the_columns_that_are_wanted(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("key", pa.int64())], metadata={"haops.history": "1"})
    parquet.write_table(pa.table({"key": [1]}, schema=schema), tmp_path / "x.parquet")
    with pytest.raises(BadInput, match="other columns: key") as caught:
        load(tmp_path / "x.parquet")
    assert "process, kind, key" in str(caught.value.hint)


def test_a_word_that_there_is_not_is_bad_input(tmp_path: Path) -> None:
    saved(tmp_path / "x.parquet")
    table = parquet.read_table(tmp_path / "x.parquet")
    place = table.schema.get_field_index("kind")
    words = pa.array(["nap"] * len(table)).dictionary_encode()
    parquet.write_table(table.set_column(place, table.schema.field(place), words), tmp_path / "x.parquet")
    with pytest.raises(BadInput, match="cannot be read"):
        load(tmp_path / "x.parquet")


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "h.parquet"
    whole = saved(path)

    def broken() -> object:
        yield history(op(1))
        raise OSError(28, os.strerror(28))

    with pytest.raises(EnvironmentTrouble, match="cannot write"):
        save_batches(broken(), path)  # type: ignore[arg-type]
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.drills.history import COLUMNS, History, Kind, Outcome, Recorder, load, merge, save
from haops.errors import BadInput

from ...histories import Row, histories, history, op, rows_of

numbers = st.integers(-(2**63), 2**63 - 1)
rows = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(Kind),
        numbers,
        numbers,
        numbers,
        numbers,
        st.sampled_from(Outcome),
        st.sampled_from(["", "TimeoutError", "a,b", 'q"uote', "two\nlines", "é"]),
    ),
    max_size=30,
)


@given(rows)
def test_every_recorded_operation_is_in_the_merged_history_in_order_of_completion(
    given_rows: list[Row],
) -> None:
    seen = history(*given_rows)
    assert len(seen) == len(given_rows)
    assert sorted(rows_of(seen)) == sorted(given_rows)
    assert all(seen.completed[1:] >= seen.completed[:-1])


@given(given_rows=rows)
def test_a_saved_history_is_read_back_whole(
    given_rows: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("run") / "history.csv.gz"
    save(history(*given_rows), path)
    seen = load(path)
    assert sorted(rows_of(seen)) == sorted(given_rows)
    assert all(seen.completed[1:] >= seen.completed[:-1])
    assert seen.errors[0] == ""


def test_a_merge_of_nothing_is_an_empty_history() -> None:
    seen = merge([])
    assert len(seen) == 0
    assert all(getattr(seen, name).dtype == np.int64 for name in COLUMNS)
    assert len(merge([Recorder(1).export()])) == 0


def test_errors_of_several_clients_share_one_table() -> None:
    seen = history(
        op(1, client=0, outcome=Outcome.FAIL, error="A"),
        op(2, client=1, outcome=Outcome.FAIL, error="B"),
        op(3, client=1, outcome=Outcome.FAIL, error="A"),
    )
    assert [seen.errors[e] for e in seen.error] == ["A", "B", "A"]
    assert len(seen.errors) == 3


def test_operations_are_selected_by_kind_and_outcome() -> None:
    seen = history(
        op(1, key=1),
        op(2, key=2, kind=Kind.READ),
        op(3, key=3, outcome=Outcome.FAIL),
        op(4, key=4, outcome=Outcome.INFO),
        op(5, key=5, kind=Kind.READ, outcome=Outcome.MISS),
    )
    assert seen.of(Kind.WRITE).key.tolist() == [1, 3, 4]
    assert seen.of(Kind.WRITE, Outcome.OK, Outcome.INFO).key.tolist() == [1, 4]
    assert seen.of(Kind.READ, Outcome.MISS).key.tolist() == [5]
    assert seen.of(Kind.READ, Outcome.FAIL).key.tolist() == []


def test_a_saved_history_is_a_csv_that_people_can_read(tmp_path: Path) -> None:
    path = tmp_path / "history.csv.gz"
    save(history(op(1, key=7, outcome=Outcome.INFO, error="TimeoutError")), path)
    with gzip.open(path, "rt", newline="") as file:
        head, row = csv.reader(file)
    assert tuple(head) == COLUMNS
    assert dict(zip(head, row, strict=True)) | {
        "kind": "write",
        "outcome": "info",
        "error": "TimeoutError",
    } == dict(zip(head, row, strict=True))


# ---- damaged files


def saved(path: Path, count: int = 50) -> bytes:
    save(history(*(op(i, key=i * 7919 % 1000) for i in range(count))), path)
    return path.read_bytes()


def rewritten(path: Path, text: str) -> None:
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        file.write(text)


def test_a_truncated_history_is_bad_input_that_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "history.csv.gz"
    whole = saved(path)
    path.write_bytes(whole[: len(whole) - 20])
    with pytest.raises(BadInput, match="the history cannot be read on") as caught:
        load(path)
    line = int(caught.value.message.removeprefix(f"{path}:").split(":")[0])
    assert 1 <= line <= 52
    assert caught.value.detail


def test_an_empty_or_missing_file_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(BadInput, match=":1:1: not a history"):
        load(tmp_path / "empty")
    with pytest.raises(BadInput, match=":1:1: "):
        load(tmp_path / "missing")


def test_a_file_that_is_not_gzip_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text(",".join(COLUMNS))
    with pytest.raises(BadInput, match="Not a gzipped file"):
        load(tmp_path / "plain")


def test_another_table_is_bad_input_with_the_columns_that_are_wanted(tmp_path: Path) -> None:
    rewritten(tmp_path / "x", "a,b\n1,2\n")
    with pytest.raises(BadInput, match=":1:1: not a history") as caught:
        load(tmp_path / "x")
    assert "process,kind,key" in str(caught.value.hint)


GOOD = "0,write,1,1,1,1,ok,\n"


@pytest.mark.parametrize(
    "row",
    [
        "x,write,1,1,1,1,ok,",
        "0,writ,1,1,1,1,ok,",
        "0,write,1,1,1,1,okay,",
        "0,write",
        "0,write,1,1,1,1,ok,,9",
    ],
)
def test_a_row_of_another_shape_is_bad_input(tmp_path: Path, row: str) -> None:
    rewritten(tmp_path / "x", f"{','.join(COLUMNS)}\n{GOOD}{row}\n{GOOD}")
    with pytest.raises(BadInput, match="the history cannot be read on"):
        load(tmp_path / "x")


def test_a_row_of_another_shape_is_told_by_its_own_line(tmp_path: Path) -> None:
    rewritten(tmp_path / "x", f"{','.join(COLUMNS)}\n{GOOD}x,write,1,1,1,1,ok,\n{GOOD}")
    with pytest.raises(BadInput) as caught:
        load(tmp_path / "x")
    assert caught.value.message.startswith(f"{tmp_path / 'x'}:3:1: ")


def test_a_number_beyond_64_bits_is_bad_input(tmp_path: Path) -> None:
    rewritten(tmp_path / "x", f"{','.join(COLUMNS)}\n0,write,{2**64},1,1,1,ok,\n")
    with pytest.raises(BadInput):
        load(tmp_path / "x")


def test_a_history_whose_bytes_rotted_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "history.csv.gz"
    whole = bytearray(saved(path))
    head = whole.index(0, 10) + 1  # the file's name stands in the head and is not checked
    for position in range(head, len(whole)):
        rotten = bytearray(whole)
        rotten[position] ^= 0xFF
        path.write_bytes(rotten)
        with pytest.raises(BadInput):
            load(path)


@given(data=st.data(), seen=histories(max_size=10))
def test_no_truncated_history_is_taken_for_a_whole_one(
    data: st.DataObject, seen: History, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("run") / "history.csv.gz"
    save(seen, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(BadInput):
        load(path)

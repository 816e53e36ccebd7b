from __future__ import annotations

import json
from pathlib import Path

import pytest

from haops.checkers.models import Model
from haops.cli.history import Kept, ModelName, Written
from haops.cluster.state import StateDir
from haops.history.files import save
from haops.history.formats import WRITABLE, Format, read, write
from haops.history.record import NIL, History, Kind, Outcome
from haops.history.rows import Rows

from .conftest import Run


def history_of(*rows: tuple[int, Kind, int, int, int, int, Outcome], items: tuple[int, ...] = ()) -> History:
    """From (process, kind, key, value, sent, completed, outcome)."""
    built = Rows()
    for process, kind, key, value, sent, completed, outcome in rows:
        found = list(items) if kind is Kind.LIST else None
        built.add(process, kind, key, value, NIL, sent, sent, completed, outcome, "n1", items=found)
    return built.history()


OK = Outcome.OK
HISTORIES: dict[str, dict[str, History]] = {
    "register": {
        "valid": history_of((0, Kind.WRITE, 1, 5, 1, 2, OK), (1, Kind.READ, 1, 5, 3, 4, OK)),
        "violated": history_of((0, Kind.WRITE, 1, 5, 1, 2, OK), (1, Kind.READ, 1, 6, 3, 4, OK)),
        "unknown": history_of((0, Kind.ACQUIRE, 1, 5, 1, 2, OK)),
    },
    "set": {
        "valid": history_of((0, Kind.ADD, 7, NIL, 1, 2, OK), (1, Kind.LIST, 0, NIL, 3, 4, OK), items=(7,)),
        "violated": history_of((0, Kind.ADD, 7, NIL, 1, 2, OK), (1, Kind.LIST, 0, NIL, 3, 4, OK), items=(8,)),
        "unknown": history_of((0, Kind.ADD, 7, NIL, 1, 2, OK)),
    },
    "counter": {
        "valid": history_of((0, Kind.ADD, 1, 5, 1, 2, OK), (1, Kind.READ, 1, 5, 3, 4, OK)),
        "violated": history_of((0, Kind.ADD, 1, 5, 1, 2, OK), (1, Kind.READ, 1, 6, 3, 4, OK)),
        "unknown": history_of((0, Kind.ADD, 1, 5, 1, 2, OK)),
    },
    "lock": {
        "valid": history_of(
            (0, Kind.ACQUIRE, 1, 5, 1, 2, OK),
            (0, Kind.RELEASE, 1, 5, 3, 4, OK),
            (1, Kind.ACQUIRE, 1, 6, 5, 6, OK),
        ),
        "violated": history_of(
            (0, Kind.ACQUIRE, 1, 5, 1, 2, OK),
            (1, Kind.ACQUIRE, 1, 6, 5, 6, OK),
            (0, Kind.RELEASE, 1, 5, 9, 10, OK),
            (1, Kind.RELEASE, 1, 6, 11, 12, OK),
        ),
        "unknown": history_of((0, Kind.ACQUIRE, 1, 5, 1, 2, Outcome.INFO)),
    },
}
CODES = {"valid": 0, "violated": 1, "unknown": 4}
CASES = [(model, verdict) for model, of in HISTORIES.items() for verdict in of]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "h.parquet"
    save(HISTORIES["register"]["violated"], path)
    return path


@pytest.mark.parametrize(("model", "verdict"), CASES)
@pytest.mark.parametrize("suffix", ["parquet", "edn", "csv"])
def test_a_history_is_judged_in_every_format(
    run: Run, tmp_path: Path, model: str, verdict: str, suffix: str
) -> None:
    path = tmp_path / f"h.{suffix}"
    form = {"parquet": Format.PARQUET, "edn": Format.EDN, "csv": Format.CSV}[suffix]
    write([HISTORIES[model][verdict]], path, form)
    ended = run("history", "check", str(path), "--model", model, "-o", "json")
    assert ended.code == CODES[verdict], ended
    document = json.loads(ended.out)
    assert list(document) == ["version", "file", "model", "verdict", "operations", "findings"]
    assert (document["version"], document["file"], document["model"]) == (1, str(path), model)
    assert document["verdict"] == verdict
    assert document["operations"] == len(HISTORIES[model][verdict])
    assert [f["breach"] for f in document["findings"]] == {
        "valid": [],
        "violated": [True],
        "unknown": [False],
    }[verdict]
    assert all(f["text"] for f in document["findings"])


def test_a_violation_is_told_in_words_with_its_operations(run: Run, kept: Path) -> None:
    ended = run("history", "check", str(kept), "--model", "register")
    assert ended.code == 1
    assert "violated as a register: 2 operations" in ended.out
    assert "process 1 read 6" in ended.out
    assert "    row 1, process 1, kind read" in ended.out
    assert run("history", "check", str(kept), "--model", "register", "-o", "name").out == "violated\n"


def test_a_search_without_time_is_unknown(run: Run, tmp_path: Path) -> None:
    rows = [(p, Kind.WRITE, 1, p, 0, 90, OK) for p in range(30)]
    reads = [(40 + p, Kind.READ, 1, p, 100 + p, 100 + p, OK) for p in range(2)]
    save(history_of(*rows, *reads), tmp_path / "h.parquet")
    ended = run(
        "history", "check", str(tmp_path / "h.parquet"), "--model", "register", "--deadline", "0.001ms"
    )
    assert ended.code == 4, ended
    assert "unknown" in ended.out


@pytest.mark.parametrize("form", [f.value for f in WRITABLE])
def test_a_history_is_exported_to_stdout_and_into_a_file(
    run: Run, kept: Path, tmp_path: Path, form: str
) -> None:
    shown = run("history", "export", str(kept), "--format", form)
    assert shown.code == 0, shown
    target = tmp_path / "out" / "h"
    assert run("history", "export", str(kept), "--format", form, "--out", str(target)).code == 0
    assert target.read_text() == shown.out
    assert len(read(target, Format(form))) == 2
    assert run("history", "export", str(target), "--from", form, "--format", "csv").code == 0


def test_a_name_in_gz_is_compressed(run: Run, kept: Path, tmp_path: Path) -> None:
    target = tmp_path / "h.csv.gz"
    assert run("history", "export", str(kept), "--format", "csv", "--out", str(target)).code == 0
    assert target.read_bytes()[:2] == b"\x1f\x8b"
    assert len(read(target)) == 2


def test_an_export_that_cannot_be_written(run: Run, kept: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = run("history", "export", str(kept), "--format", "csv", "--out", str(tmp_path / "file" / "h.csv"))
    assert ended.code == 3
    assert "cannot write" in ended.err


def test_a_history_is_summed_up(run: Run, kept: Path) -> None:
    ended = run("history", "show", str(kept))
    assert ended.code == 0, ended
    assert "2 operations of 2 clients" in ended.out
    assert ["write", "1", "0", "0"] in [line.split() for line in ended.out.splitlines()]
    document = json.loads(run("history", "show", str(kept), "-o", "json").out)
    assert document["version"] == 1
    assert document["history"]["kinds"]["read"] == {"ok": 1, "fail": 0, "info": 0}
    assert document["history"]["nodes"] == {"n1": 2}
    assert (document["history"]["first_ns"], document["history"]["last_ns"]) == (1, 4)


def test_an_empty_history_is_summed_up(run: Run, tmp_path: Path) -> None:
    save(history_of(), tmp_path / "h.parquet")
    assert "0 operations of 0 clients" in run("history", "show", str(tmp_path / "h.parquet")).out


def test_a_run_is_named_in_the_place_of_its_only_history(run: Run, kept: Path) -> None:
    folder = StateDir().runs / "r1"
    folder.mkdir(parents=True)
    assert "has no histories" in run("history", "show", "r1").err
    (folder / "history-redis-1.parquet").write_bytes(kept.read_bytes())
    assert run("history", "check", "r1", "--model", "register").code == 1
    (folder / "history-redis-2.parquet").write_bytes(kept.read_bytes())
    ended = run("history", "check", "r1", "--model", "register")
    assert ended.code == 2
    assert "has 2 histories" in ended.err
    assert str(folder / "history-redis-2.parquet") in ended.err


def test_what_is_neither_a_file_nor_a_run_is_bad_input(run: Run, tmp_path: Path) -> None:
    ended = run("history", "check", "nobody", "--model", "set")
    assert ended.code == 2
    assert "no drill has been run yet" in ended.err
    (StateDir().runs / "r9").mkdir(parents=True)
    assert "the latest runs: r9" in run("history", "show", str(tmp_path)).err
    assert run("history", "show", "..").code == 2


def test_a_file_of_unknown_format_and_a_damaged_one_are_bad_input(
    run: Run, kept: Path, tmp_path: Path
) -> None:
    (tmp_path / "h.txt").write_text("x")
    ended = run("history", "check", str(tmp_path / "h.txt"), "--model", "set")
    assert ended.code == 2
    assert "known: .parquet" in ended.err
    ended = run("history", "check", str(tmp_path / "h.txt"), "--model", "set", "--format", "jsonl")
    assert ended.code == 2
    assert f"{tmp_path / 'h.txt'}:1:1: " in ended.err
    kept.write_bytes(kept.read_bytes()[:-9])
    assert run("history", "show", str(kept)).code == 2
    assert run("history", "check", str(kept), "--model", "nonsense").code == 2
    assert run("history", "check", str(kept), "--model", "set", "--deadline", "soon").code == 2


def test_the_command_line_names_what_the_library_knows() -> None:
    assert [k.value for k in Kept] == [f.value for f in Format]
    assert [w.value for w in Written] == [f.value for f in WRITABLE]
    assert [m.value for m in ModelName] == [m.value for m in Model]

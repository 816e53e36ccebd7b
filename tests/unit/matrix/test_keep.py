from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from haops.cluster.spec import StoreName
from haops.errors import BadInput
from haops.faults.catalogue import FaultKind
from haops.matrix.assemble import assemble
from haops.matrix.budget import read
from haops.matrix.cells import CellKey, Parts
from haops.matrix.keep import Asked, Line, append, lines, load_asked, save_asked

from .trials import trial

KEY = CellKey(StoreName.REDIS, "async", FaultKind.KILL)
IDLE = CellKey(StoreName.REDIS, "async", FaultKind.NONE)
NOW = datetime(2025, 1, 2, tzinfo=UTC)
ASKED = Asked("run-1", NOW, (IDLE, KEY), 2, None, 7, None)
PARTS = Parts((1000.0,), 8, None, None, None, None, None)


def test_what_was_asked_and_what_is_finished_come_back_as_they_were(tmp_path: Path) -> None:
    save_asked(tmp_path, ASKED)
    kept = [
        Line(KEY, "8.0.2", 3, trial=trial(1)),
        Line(IDLE, "8.0.2", 3, parts=PARTS),
        Line(KEY, "", 0, skipped="no"),
    ]
    for line in kept:
        append(tmp_path, line)
    assert load_asked(tmp_path) == ASKED
    assert list(lines(tmp_path)) == kept


def test_a_line_that_a_crash_cut_off_is_passed_over(tmp_path: Path) -> None:
    append(tmp_path, Line(KEY, "8.0.2", 3, trial=trial(1)))
    path = tmp_path / "trials.jsonl"
    whole = path.read_bytes()
    for size in range(len(whole) - 1):
        path.write_bytes(whole + whole[:size])
        assert len(list(lines(tmp_path))) == 1


@pytest.mark.parametrize("size", [0, 1, 100, -2])
def test_what_is_finished_after_a_crash_is_not_lost_with_the_line_that_it_cut_off(
    tmp_path: Path, size: int
) -> None:
    append(tmp_path, Line(KEY, "8.0.2", 3, trial=trial(1)))
    path = tmp_path / "trials.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:size])
    append(tmp_path, Line(KEY, "8.0.2", 3, trial=trial(2)))
    assert [line.trial.number for line in lines(tmp_path) if line.trial] == [1, 2]


def test_a_folder_without_a_run_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no run of the matrix"):
        load_asked(tmp_path)
    (tmp_path / "order.json").write_text("{}")
    with pytest.raises(BadInput, match=r"order\.json:1:1"):
        load_asked(tmp_path)
    assert list(lines(tmp_path / "nowhere")) == []


def test_a_matrix_has_every_cell_with_what_there_is_of_it() -> None:
    found = [
        Line(KEY, "8.0.2", 3, trial=trial(2)),
        Line(KEY, "8.0.2", 3, trial=trial(1, lost=4)),
        Line(IDLE, "8.0.2", 3, parts=PARTS),
    ]
    budget = read('cells: {"redis/*/kill": {lost: 3}}', "b.yaml")
    matrix = assemble(ASKED, found, budget, NOW, interrupted=True)
    idle, broken = matrix.cells
    assert (idle.key, idle.trials, idle.parts) == (IDLE, (), PARTS)
    assert [t.number for t in broken.trials] == [1, 2]
    assert broken.over_budget == ("4 acknowledged writes are lost; the budget is 3",)
    assert (matrix.interrupted, matrix.versions) == (True, {StoreName.REDIS: "8.0.2"})

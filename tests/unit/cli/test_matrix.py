from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from haops.cluster.state import StateDir
from haops.control.lifecycle import Lifecycle
from haops.matrix.cells import CellKey
from haops.matrix.keep import Line, append
from haops.matrix.order import MatrixOrder

from ..matrix.trials import trial
from .conftest import Run


@dataclass
class Made:
    """What the runner was asked for; it fills every cell, or breaks off."""

    orders: list[MatrixOrder]
    lost: int = 0
    breaks_off: bool = False

    def fill(self, order: MatrixOrder) -> None:
        self.orders.append(order)
        for number, key in enumerate(order.keys):
            if self.breaks_off and number:
                raise KeyboardInterrupt
            append(order.folder, _line(key, self.lost))


def _line(key: CellKey, lost: int) -> Line:
    return Line(key, "8.0.2", 3, trial=trial(1, lost=lost))


@pytest.fixture
def made(fake: Lifecycle, monkeypatch: pytest.MonkeyPatch) -> Made:
    made = Made([])

    class Runner:
        def __init__(self, haops: object, order: MatrixOrder, *_: object) -> None:
            self._order = order

        def run(self) -> None:
            made.fill(self._order)

    monkeypatch.setattr("haops.matrix.run.MatrixRun", Runner)
    monkeypatch.setattr("haops.cli.matrix.lifecycle", lambda: fake)
    monkeypatch.setenv("COLUMNS", "300")
    return made


def test_a_store_alone_is_a_run_of_its_main_modes(run: Run, made: Made) -> None:
    ended = run("matrix", "redis", "--faults", "none,kill")
    assert ended.code == 0, ended
    (order,) = made.orders
    assert [str(k) for k in order.keys] == [
        f"redis/{mode}/{fault}"
        for mode in ("async", "wait-1", "wait-all", "waitaof")
        for fault in ("none", "kill")
    ]
    assert "wait-all" in ended.out
    assert "report: " in ended.err
    page = (StateDir().runs / order.run / "matrix.html").read_text(encoding="utf-8")
    assert "wait-all" in page


def test_all_stores_and_faults_are_the_default(run: Run, made: Made) -> None:
    assert run("matrix", "-o", "name").out.split() == [made.orders[0].run]
    assert len({k.store for k in made.orders[0].keys}) == 3
    assert len({k.fault for k in made.orders[0].keys}) == 4


@pytest.mark.parametrize(
    ("arguments", "words", "hint"),
    [
        (("nope",), "unknown store 'nope'", "redis, zookeeper, cassandra"),
        (("redis", "--modes", "lwt"), "unknown mode 'lwt'", "redis: async"),
        (("redis", "--faults", "none,nope"), "unknown fault 'nope'", "none, kill, pause, partition"),
        (("redis", "--faults", ","), "no fault is named", "none, kill"),
        (("--resume", "nope"), "holds no run of the matrix", "haops matrix list"),
        (("show", "nope"), "holds no run of the matrix", "haops matrix list"),
    ],
)
def test_bad_input_is_told_with_what_is_allowed(
    run: Run, made: Made, arguments: tuple[str, ...], words: str, hint: str
) -> None:
    ended = run("matrix", *arguments)
    assert ended.code == 2
    assert words in ended.err
    assert hint in ended.err
    assert made.orders == []


@pytest.mark.parametrize(("lost", "code"), [(3, 1), (0, 0)])
def test_a_budget_that_is_overrun_fails_the_run(
    run: Run, made: Made, tmp_path: Path, lost: int, code: int
) -> None:
    budget = tmp_path / "b.yaml"
    budget.write_text('cells: {"redis/async/*": {lost: 0}}')
    made.lost = lost
    ended = run("matrix", "redis", "--budget", str(budget))
    assert ended.code == code
    told = "redis/async/kill: 3 acknowledged writes are lost; the budget is 0" in ended.err
    assert told is bool(lost)
    assert "redis/wait-1" not in "".join(line for line in ended.err.splitlines() if "budget" in line)


def test_a_budget_with_an_unknown_key_or_cell_runs_nothing(run: Run, made: Made, tmp_path: Path) -> None:
    budget = tmp_path / "b.yaml"
    for text, words in (
        ('cells: {"redis/async/*": {loss: 0}}', "unknown key"),
        ('cells: {"redis/acync/*": {lost: 0}}', "fits no cell"),
    ):
        budget.write_text(text)
        ended = run("matrix", "redis", "--budget", str(budget))
        assert (ended.code, words in ended.err) == (2, True)
    assert made.orders == []


def test_an_interrupted_run_says_how_to_go_on_and_goes_on(run: Run, made: Made) -> None:
    made.breaks_off = True
    ended = run("matrix", "redis", "--faults", "none")
    name = made.orders[0].run
    assert ended.code == 130
    assert f"haops matrix --resume {name}" in ended.err
    assert run("matrix", "list").out.split() == [name]
    made.breaks_off = False
    resumed = run("matrix", "--resume", name, "-o", "json")
    assert resumed.code == 0
    assert made.orders[1] == made.orders[0]
    document = json.loads(resumed.out)
    assert [len(cell["trials"]) for cell in document["cells"]] == [1, 1, 1, 1]


def test_cells_that_could_not_be_filled_leave_the_answer_open(run: Run, made: Made) -> None:
    assert run("matrix", "redis", "--trials", "2").code == 4


def test_the_list_of_runs_is_empty_at_first(run: Run, made: Made) -> None:
    ended = run("matrix", "list")
    assert (ended.code, ended.out) == (0, "")
    assert "begin one: haops matrix redis" in ended.err

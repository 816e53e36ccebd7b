from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from haops.cli.matrix_diff import matrix_diff, read_matrix
from haops.cli.model import model
from haops.cluster.spec import StoreName
from haops.errors import BadInput
from haops.matrix.cells import Matrix, Recovery
from haops.report import matrix_json

from ..report import matrix_fixture

Save = Callable[[str, Matrix], str]


@pytest.fixture
def save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Save:
    """Puts a matrix where runs live, under a name."""
    monkeypatch.setenv("HAOPS_STATE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")

    def put(name: str, matrix: Matrix) -> str:
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "matrix.json").write_text(matrix_json.dump(matrix), encoding="utf-8")
        return name

    return put


def run(command: Callable[..., None], *arguments: str) -> Any:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, arguments)


def measured(trials: int = 3) -> Matrix:
    """Of one store: tables of all take a second each."""
    made = matrix_fixture.matrix(trials)
    return replace(made, cells=tuple(c for c in made.cells if c.key.store is StoreName.REDIS))


def slower() -> Matrix:
    made = measured()
    cells = (
        replace(c, trials=tuple(replace(t, write_recovery=Recovery(99_000.0 + t.number)) for t in c.trials))
        for c in made.cells
    )
    return replace(made, cells=tuple(cells))


def test_a_run_is_found_by_name_folder_and_file(save: Save, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / save("one", matrix_fixture.matrix())
    for words in ("one", str(folder), str(folder / "matrix.json")):
        assert read_matrix(words) == matrix_fixture.matrix()


def test_an_unknown_run_is_told_of_the_known_ones(save: Save) -> None:
    save("one", matrix_fixture.matrix(1))
    with pytest.raises(BadInput, match="there is no run of the matrix 'two'") as caught:
        read_matrix("two")
    assert caught.value.hint == "the last ones: one"


def test_a_name_does_not_lead_out_of_the_folder_of_runs(save: Save, tmp_path: Path) -> None:
    save("one", matrix_fixture.matrix(1))
    (tmp_path / "matrix.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BadInput, match="there is no run"):
        read_matrix("one/../..")


def test_a_damaged_file_is_named_with_its_line(save: Save, tmp_path: Path) -> None:
    save("one", matrix_fixture.matrix(1))
    (tmp_path / "runs/one/matrix.json").write_text('{\n"version": 1,,', encoding="utf-8")
    with pytest.raises(BadInput, match=r"matrix\.json:2: not JSON"):
        read_matrix("one")


def test_a_regression_ends_with_1_and_stands_first(save: Save) -> None:
    ended = run(matrix_diff, save("a", measured()), save("b", slower()))
    assert ended.exit_code == 1
    assert "regression" in ended.stdout.splitlines()[1]
    assert "regression" in ended.stderr


def test_no_change_ends_with_0(save: Save) -> None:
    assert run(matrix_diff, save("a", measured()), "a").exit_code == 0


def test_too_few_trials_end_with_4(save: Save) -> None:
    save("a", measured(2))
    assert run(matrix_diff, "a", "a").exit_code == 4
    save("empty", matrix_fixture.bare())
    assert run(matrix_diff, "a", "empty").exit_code == 4


def test_changes_are_printed_for_programs(save: Save) -> None:
    save("a", measured())
    save("b", slower())
    document = json.loads(run(matrix_diff, "a", "b", "-o", "json").stdout)
    assert document["version"] == 1
    first = next(c for c in document["changes"] if c["figure"] == "write RTO")
    assert (first["store"], first["fault"], first["judgement"]) == ("redis", "kill", "regression")
    assert all(isinstance(c["low"], float | int | None) for c in document["changes"])
    assert yaml.safe_load(run(matrix_diff, "a", "b", "-o", "yaml").stdout) == document


def test_the_wide_table_has_what_did_not_change(save: Save) -> None:
    save("a", measured())
    assert "no change" not in run(matrix_diff, "a", "a").stdout
    assert "no change" in run(matrix_diff, "a", "a", "-o", "wide").stdout


def test_the_model_is_printed_with_reasons_and_what_it_left_out(save: Save) -> None:
    ended = run(model, save("a", matrix_fixture.matrix()))
    assert ended.exit_code == 0
    assert "T = n x T_w + T_d" in ended.stdout
    assert "The formula leaves out that the fault has to be noticed" in ended.stdout
    assert "left out: T_s = T_p + T_r of cassandra" in ended.stderr


def test_the_model_is_printed_for_programs(save: Save) -> None:
    save("a", matrix_fixture.matrix())
    document = json.loads(run(model, "a", "-o", "json").stdout)
    first = document["predictions"][0]
    assert first["formula"] == "T = T_p + T_s"
    assert first["parts"][0]["symbol"] == "T_p"
    assert first["fault"] is None
    assert yaml.safe_load(run(model, "a", "-o", "yaml").stdout) == document


def test_a_model_of_nothing_ends_with_4(save: Save) -> None:
    assert run(model, save("a", matrix_fixture.bare())).exit_code == 4


def test_hostile_words_are_no_markup(save: Save) -> None:
    made = matrix_fixture.matrix()
    odd = replace(made.cells[0], key=replace(made.cells[0].key, mode="[red]async[/red]"))
    save("a", replace(made, cells=(odd,)))
    assert "[red]async[/red]" in run(matrix_diff, "a", "a", "-o", "wide").stdout

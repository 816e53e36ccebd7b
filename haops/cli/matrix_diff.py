"""Two runs of the matrix against each other; and how a command finds a run."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from haops.cli import output as shapes
from haops.cli.output import Output, OutputOption
from haops.cluster.state import StateDir
from haops.errors import EXIT_FAILED, EXIT_OK, EXIT_UNKNOWN, BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from haops.matrix.cells import Matrix
    from haops.matrix.diff import Change

_FILE: Final = "matrix.json"
_STYLES: Final = {"regression": "bold red", "improvement": "green", "cannot tell": "magenta", "no change": ""}


def _complete_run(incomplete: str) -> list[str]:
    return [name for name in _run_names() if name.startswith(incomplete)]


def _run_names() -> list[str]:
    folder = StateDir().runs
    return sorted(path.parent.name for path in folder.glob(f"*/{_FILE}")) if folder.is_dir() else []


RunArgument = Annotated[
    str, typer.Argument(help="A run's name, its folder, or a matrix.json.", autocompletion=_complete_run)
]


def read_matrix(run: str) -> Matrix:
    """The matrix of a run's name, its folder, or a path to its file.

    Raises:
        BadInput: There is none, or it is not a matrix.
    """
    from haops.report import matrix_json

    path = _path_of(run)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}:1: cannot be read", detail=str(error)) from error
    return matrix_json.load(text, str(path))


def _path_of(run: str) -> Path:
    given = Path(run)
    candidates = [given, given / _FILE]
    if given.name == run:  # a name leads nowhere out of the folder of runs
        candidates.append(StateDir().runs / run / _FILE)
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        known = ", ".join(_run_names()[-5:])
        raise BadInput(
            f"there is no run of the matrix {run!r}",
            hint=f"the last ones: {known}" if known else "there is none yet; begin one: haops matrix redis",
        )
    return found


def matrix_diff(
    before: RunArgument,
    after: RunArgument,
    output: OutputOption = Output.TABLE,
) -> None:
    """Compare two runs figure by figure, each with a 95 % interval and a margin of 10 %.

    The table leaves out what did not change; `-o wide` has it too. Ends with 1 on a regression,
    4 where no figure can be judged, else 0. Five trials or more keep chance out of the verdicts.
    """
    from haops.matrix.diff import diff

    a, b = read_matrix(before), read_matrix(after)
    changes = diff(a, b)
    if output in (Output.JSON, Output.YAML):
        document = {
            "version": shapes.FORMAT,
            "before": a.run,
            "after": b.run,
            "changes": [_plain(change) for change in changes],
        }
        shapes.emit(document, output)
    elif output is Output.NAME:
        typer.echo("\n".join(f"{c.key} {c.figure}: {c.judgement}" for c in changes))
    else:
        _print(changes, everything=output is Output.WIDE)
    raise typer.Exit(_exit_code(changes))


def _plain(change: Change) -> dict[str, Any]:
    """A change for programs; an interval that has no end is null there."""
    document = asdict(change)
    key = document.pop("key")
    ends = {end: None if (v := document[end]) is None or math.isinf(v) else v for end in ("low", "high")}
    words = {name: str(document[name]) for name in ("scale", "judgement")}
    return {
        **{name: str(part) for name, part in key.items()},
        **document,
        **ends,
        **words,
        "trials": list(change.trials),
    }


def _print(changes: Sequence[Change], *, everything: bool) -> None:
    from haops.report.matrix_text import DIFF_COLUMNS, diff_rows, diff_summary

    rows = diff_rows(changes, everything=everything)
    if rows:
        table = shapes.table(*DIFF_COLUMNS)
        for row in rows:
            *cells, verdict, why = (shapes.plain(cell) for cell in row)
            style = _STYLES.get(verdict)
            table.add_row(*cells, f"[{style}]{verdict}[/]" if style else verdict, why)
        shapes.out().print(table)
    shapes.err().print(diff_summary(changes), markup=False)


def _exit_code(changes: Sequence[Change]) -> int:
    from haops.matrix.diff import Judgement

    found = {change.judgement for change in changes}
    if Judgement.REGRESSION in found:
        return EXIT_FAILED
    return EXIT_UNKNOWN if found <= {Judgement.CANNOT_TELL} else EXIT_OK

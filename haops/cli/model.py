"""The textbook's formulas against a run of the matrix."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from haops.cli import output as shapes
from haops.cli.matrix_diff import RunArgument, read_matrix
from haops.cli.output import Output, OutputOption
from haops.errors import EXIT_OK, EXIT_UNKNOWN

if TYPE_CHECKING:
    from haops.matrix.model import Model


def model(run: RunArgument, output: OutputOption = Output.TABLE) -> None:
    """Hold the textbook's formulas against what a run of the matrix measured.

    The ratio is predicted by measured. Ends with 4 where nothing could be predicted.
    """
    from haops.matrix.model import predict

    matrix = read_matrix(run)
    found = predict(matrix)
    if output in (Output.JSON, Output.YAML):
        document = {
            "version": shapes.FORMAT,
            "run": matrix.run,
            "predictions": _plain([asdict(prediction) for prediction in found.predictions]),
            "left_out": _plain([asdict(item) for item in found.left_out]),
        }
        shapes.emit(document, output)
    elif output is Output.NAME:
        typer.echo("\n".join(dict.fromkeys(prediction.formula for prediction in found.predictions)))
    else:
        _print(found)
    raise typer.Exit(EXIT_OK if found.predictions else EXIT_UNKNOWN)


def _plain(value: object) -> object:
    """Names of enums as plain words and tuples as lists, which YAML wants."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, str) else value


def _print(found: Model) -> None:
    from haops.report.matrix_text import MODEL_COLUMNS, left_out_lines, model_rows

    if found.predictions:
        table = shapes.table(*MODEL_COLUMNS)
        for row in model_rows(found.predictions):
            table.add_row(*(shapes.plain(cell) for cell in row))
        shapes.out().print(table)
        for reason in dict.fromkeys(f"{p.formula} of {p.store}: {p.why}" for p in found.predictions):
            shapes.out().print(reason, markup=False)
    for line in left_out_lines(found.left_out):
        shapes.err().print(f"left out: {line}", markup=False)

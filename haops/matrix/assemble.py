"""From the kept lines of a run to its matrix; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from haops import __version__
from haops.matrix.budget import BudgetFile, overruns
from haops.matrix.cells import MATRIX_VERSION, Cell, CellKey, Matrix
from haops.matrix.keep import Asked, Line, versions
from haops.matrix.order import mode_of


def assemble(
    asked: Asked,
    found: Sequence[Line],
    budget: BudgetFile | None,
    finished: datetime,
    *,
    interrupted: bool,
) -> Matrix:
    """The matrix as far as it is filled; cells that were not visited yet have no trials."""
    cells = [_cell(key, [line for line in found if line.key == key]) for key in asked.keys]
    if budget is not None:
        cells = [replace(cell, over_budget=overruns(budget, cell)) for cell in cells]
    return Matrix(
        version=MATRIX_VERSION,
        run=asked.run,
        started=asked.started,
        finished=finished,
        haops=__version__,
        seed=asked.seed,
        asked=asked.trials,
        interrupted=interrupted,
        versions=versions(line for line in found if line.version),
        cells=tuple(cells),
    )


def _cell(key: CellKey, mine: Sequence[Line]) -> Cell:
    mode = mode_of(key)
    trials = {line.trial.number: line.trial for line in mine if line.trial}
    return Cell(
        key=key,
        replication=mode.replication,
        promise=mode.promise,
        nodes=max((line.nodes for line in mine), default=0),
        trials=tuple(trials[number] for number in sorted(trials)),
        parts=next((line.parts for line in mine if line.parts), None),
        skipped=next((line.skipped for line in mine if line.skipped), ""),
    )

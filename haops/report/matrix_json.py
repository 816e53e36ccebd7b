"""`matrix.json`: a run of the matrix as JSON text, and back.

The keys are the field names of `Matrix` and its parts, in the order in which
`haops/matrix/cells.py` declares them:

- the run: version, run, started, finished, haops, seed, asked, interrupted, versions (by store), cells;
- a cell: key (store, mode, fault), replication, promise, nodes, trials, parts, skipped, over_budget;
- a trial: as `CellTrial`; `*_ms` in ms, shares from 0 to 1, `sessions` by name, sorted;
- parts: throughput (a second, a figure a measurement), clients, and spreads (median, low, high) in ms.

Times are ISO 8601 in UTC, a figure that does not exist is null. Unknown keys are
ignored, so that a later haops may add some without a new version.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from haops.matrix.cells import MATRIX_VERSION, Cell, Matrix
from haops.report.json_file import JsonFile
from haops.report.text import as_utc

_FILE: Final = JsonFile(
    Matrix,
    MATRIX_VERSION,
    "a run of the matrix",
    "give the matrix.json of a run, as `haops matrix` wrote it",
    mark="cells",
)


def dump(matrix: Matrix) -> str:
    """The text of `matrix.json`; the same matrix always gives the same text.

    Raises:
        ValueError: A figure is not a finite number, which is a bug of whoever measured it.
    """
    return _FILE.dump(_ordered(matrix))


def load(text: str, origin: str) -> Matrix:
    """Read what `dump` wrote.

    Args:
        text: The file's content.
        origin: Its name, for error messages.

    Raises:
        BadInput: It is no JSON, of another version, or not a run of the matrix.
    """
    return _FILE.load(text, origin)


def _ordered(matrix: Matrix) -> Matrix:
    cells = tuple(_ordered_cell(cell) for cell in matrix.cells)
    return replace(matrix, started=as_utc(matrix.started), finished=as_utc(matrix.finished), cells=cells)


def _ordered_cell(cell: Cell) -> Cell:
    trials = (
        replace(t, began=as_utc(t.began), sessions=dict(sorted(t.sessions.items()))) for t in cell.trials
    )
    return replace(cell, trials=tuple(trials))

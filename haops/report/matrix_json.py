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

import json
from dataclasses import replace
from functools import cache

from pydantic import TypeAdapter, ValidationError

from haops.errors import BadInput
from haops.matrix.cells import MATRIX_VERSION, Cell, Matrix
from haops.report.jsonio import line_of
from haops.report.text import as_utc

_HINT = "give the matrix.json of a run, as `haops matrix` wrote it"
_MAX_PROBLEMS = 5


def dump(matrix: Matrix) -> str:
    """The text of `matrix.json`; the same matrix always gives the same text.

    Raises:
        ValueError: A figure is not a finite number, which is a bug of whoever measured it.
    """
    plain = _adapter().dump_python(_ordered(matrix), mode="json")
    return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def load(text: str, origin: str) -> Matrix:
    """Read what `dump` wrote.

    Args:
        text: The file's content.
        origin: Its name, for error messages.

    Raises:
        BadInput: It is no JSON, of another version, or not a run of the matrix.
    """
    try:
        plain = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(f"{origin}:{error.lineno}: not JSON: {error.msg}", hint=_HINT) from None
    except RecursionError:
        raise BadInput(f"{origin}:1: not a matrix: nested too deeply", hint=_HINT) from None
    _check_version(plain, text, origin)
    try:
        return _adapter().validate_json(text, strict=True)
    except ValidationError as error:
        problems = [
            f"{origin}:{line_of(text, e['loc'])}: {'.'.join(str(part) for part in e['loc'])}: {e['msg']}"
            for e in error.errors(include_url=False)
        ]
    shown = problems[:_MAX_PROBLEMS]
    if len(problems) > len(shown):
        shown.append(f"and {len(problems) - len(shown)} more")
    raise BadInput(shown[0], detail="\n".join(shown[1:]) or None, hint=_HINT)


@cache
def _adapter() -> TypeAdapter[Matrix]:
    return TypeAdapter(Matrix)


def _ordered(matrix: Matrix) -> Matrix:
    cells = tuple(_ordered_cell(cell) for cell in matrix.cells)
    return replace(matrix, started=as_utc(matrix.started), finished=as_utc(matrix.finished), cells=cells)


def _ordered_cell(cell: Cell) -> Cell:
    trials = (
        replace(t, began=as_utc(t.began), sessions=dict(sorted(t.sessions.items()))) for t in cell.trials
    )
    return replace(cell, trials=tuple(trials))


def _check_version(plain: object, text: str, origin: str) -> None:
    if not isinstance(plain, dict) or "cells" not in plain:
        raise BadInput(f"{origin}:1: not a run of the matrix", hint=_HINT)
    version = plain.get("version")
    if version == MATRIX_VERSION and not isinstance(version, bool):
        return
    where = f"{origin}:{line_of(text, ['version'])}"
    if isinstance(version, int) and version > MATRIX_VERSION:
        raise BadInput(
            f"{where}: version {version} of the matrix is newer than this haops, which reads {MATRIX_VERSION}",
            hint="use the haops that wrote it, or a later one",
        )
    raise BadInput(f"{where}: version is {version!r}, expected {MATRIX_VERSION}", hint=_HINT)

"""What a cell may cost, from a YAML file, and which of its figures are beyond that; pure but for `read`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from pydantic import Field

from haops.drills.yaml_model import Duration, Frozen, milliseconds, read_model
from haops.errors import BadInput
from haops.faults.catalogue import FaultKind
from haops.matrix.cells import Cell, CellKey, CellTrial, Consistency

Figure = Callable[[CellTrial], float | None]


class CellBudget(Frozen):
    """Limits of a cell; what is not named has none.

    Outages, recoveries and staleness are limits for every trial; latencies for the median trial;
    losses for all trials together.
    """

    write_outage: Duration | None = None
    read_outage: Duration | None = None
    write_p50: Duration | None = None
    write_p99: Duration | None = None
    lost: int | None = Field(None, ge=0)
    stale: int | None = Field(None, ge=0)
    longest_stale: Duration | None = None
    write_availability: float | None = Field(None, ge=0, le=1)
    linearizable: bool | None = None


class BudgetFile(Frozen):
    """Budgets by cell: `store/mode/fault`, with `*` for any."""

    cells: Mapping[str, CellBudget] = Field(min_length=1)


def read(text: str, origin: str) -> BudgetFile:
    """Parse a budget file.

    Raises:
        BadInput: Names file, line and column of the first fault, and what is allowed there.
    """
    hint = 'for instance: cells: {"redis/wait-all/kill": {lost: 0, write_outage: 5s}}'
    return read_model(text, origin, BudgetFile, what="a budget", hint=hint)


def load(path: Path) -> tuple[str, str]:
    """A budget file's text and name, checked.

    Raises:
        BadInput: It is not there, or not a budget.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}:1:1: the budget cannot be read: {error}") from error
    read(text, str(path))
    return text, str(path)


def check_keys(budget: BudgetFile, keys: tuple[CellKey, ...], origin: str) -> None:
    """Raises BadInput where an entry fits none of the run's cells: it would never fail."""
    for pattern in budget.cells:
        if not any(fnmatchcase(str(key), pattern) for key in keys):
            raise BadInput(
                f"{origin}: {pattern!r} fits no cell of this run",
                hint=f"cells: {', '.join(str(k) for k in keys[:12])}{', ...' if len(keys) > 12 else ''}",
            )


def overruns(budget: BudgetFile, cell: Cell) -> tuple[str, ...]:
    """What is beyond the budget of a cell, in words."""
    limits = [limit for pattern, limit in budget.cells.items() if fnmatchcase(str(cell.key), pattern)]
    return tuple(words for limit in limits for words in _over(limit, cell))


def _over(limit: CellBudget, cell: Cell) -> Iterator[str]:
    trials = cell.trials
    broken = cell.key.fault is not FaultKind.NONE
    outages: tuple[tuple[str, timedelta | None, Figure], ...] = (
        ("writes", limit.write_outage, lambda t: t.write_outage_ms),
        ("reads", limit.read_outage, lambda t: t.read_outage_ms),
    )
    for what, most, outage in outages:
        yield from _each(trials, f"{what} were out for", most, outage)
        if broken and most is not None:
            yield from (f"trial {t.number}: {what} did not come back" for t in trials if outage(t) is None)
    yield from _each(trials, "a read was stale for", limit.longest_stale, lambda t: t.longest_stale_ms)
    yield from _median(trials, "write p50", limit.write_p50, lambda t: t.write.p50_ms)
    yield from _median(trials, "write p99", limit.write_p99, lambda t: t.write.p99_ms)
    lost, stale = sum(t.lost for t in trials), sum(t.stale for t in trials)
    if limit.lost is not None and lost > limit.lost:
        yield f"{lost} acknowledged writes are lost; the budget is {limit.lost}"
    if limit.stale is not None and stale > limit.stale:
        yield f"{stale} reads were stale; the budget is {limit.stale}"
    least = min((t.write_availability for t in trials if t.write_availability is not None), default=None)
    if limit.write_availability is not None and least is not None and least < limit.write_availability:
        yield f"{least:.3f} of the writes succeeded; the budget is {limit.write_availability:.3f}"
    if limit.linearizable and any(t.consistency is Consistency.VIOLATED for t in trials):
        yield "the registers' history cannot be ordered; the budget wants it linearizable"


def _each(trials: Sequence[CellTrial], what: str, limit: timedelta | None, figure: Figure) -> Iterator[str]:
    """What every trial must keep."""
    most = milliseconds(limit)
    for trial in trials:
        found = figure(trial)
        if most is not None and found is not None and found > most:
            yield f"trial {trial.number}: {what} {found:.0f} ms; the budget is {most:.0f} ms"


def _median(trials: Sequence[CellTrial], what: str, limit: timedelta | None, figure: Figure) -> Iterator[str]:
    most = milliseconds(limit)
    known = [found for trial in trials if (found := figure(trial)) is not None]
    if most is not None and known and (median := float(np.median(known))) > most:
        yield f"{what} is {median:.1f} ms; the budget is {most:.1f} ms"

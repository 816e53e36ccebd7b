"""A cell's trials summed up; what the table, the findings, the comparison and the model share."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from haops.drills.result import Spread
from haops.faults.catalogue import FaultKind
from haops.matrix.cells import Cell, CellTrial, Consistency, Recovery

PARTS = ("detect", "decide", "promote", "advertise", "reconnect")


@dataclass(frozen=True, slots=True)
class Share:
    """Some of a whole, counted in every trial on its own: `counts` has (some, whole) of each trial."""

    counts: tuple[tuple[int, int], ...]

    @property
    def some(self) -> int:
        """How many of all trials."""
        return sum(some for some, _ in self.counts)

    @property
    def whole(self) -> int:
        """Of how many."""
        return sum(whole for _, whole in self.counts)

    @property
    def value(self) -> float | None:
        """From 0 to 1; None of nothing."""
        return self.some / self.whole if self.whole else None


@dataclass(frozen=True, slots=True)
class Comeback:
    """How soon operations succeeded again.

    Args:
        spread: Over the trials in which they did, ms; None if they did in none.
        never: Trials in which they did not.
        trials: Trials whose times can be trusted.
    """

    spread: Spread | None
    never: int
    trials: int


def spread(values: Iterable[float | None]) -> Spread | None:
    """Median, lowest and highest of the values that exist."""
    known = [value for value in values if value is not None]
    return Spread(statistics.median(known), min(known), max(known)) if known else None


def median(values: Iterable[float | None]) -> float | None:
    """Median of the values that exist."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def trusted(cell: Cell) -> tuple[CellTrial, ...]:
    """The trials whose times can be trusted; counts are good in all of them."""
    return tuple(trial for trial in cell.trials if not trial.trouble)


def median_of(cell: Cell, figure: Callable[[CellTrial], float | None]) -> float | None:
    """Median of a figure over the trials whose times can be trusted."""
    return median(figure(trial) for trial in trusted(cell))


def parts_of(recovery: Recovery) -> tuple[tuple[str, float | None], ...]:
    """The parts of a recovery by name, in the order in which they happen, ms."""
    values = (
        recovery.detect_ms,
        recovery.decide_ms,
        recovery.promote_ms,
        recovery.advertise_ms,
        recovery.reconnect_ms,
    )
    return tuple(zip(PARTS, values, strict=True))


def medians_of_parts(cell: Cell) -> dict[str, float | None]:
    """Median of each part over the trials whose times can be trusted, ms."""
    rows = [dict(parts_of(trial.write_recovery)) for trial in trusted(cell)]
    return {name: median(row[name] for row in rows) for name in PARTS}


def writes_back(cell: Cell) -> Comeback | None:
    """RTO of writes; None where nothing was broken or no trial can be trusted."""
    return _comeback(cell, lambda trial: trial.write_recovery.total_ms)


def reads_back(cell: Cell) -> Comeback | None:
    """RTO of reads, likewise."""
    return _comeback(cell, lambda trial: trial.read_recovery_ms)


def _comeback(cell: Cell, figure: Callable[[CellTrial], float | None]) -> Comeback | None:
    values = [figure(trial) for trial in trusted(cell)]
    if cell.key.fault is FaultKind.NONE or not values:
        return None
    return Comeback(spread(values), values.count(None), len(values))


def lost(cell: Cell) -> Share:
    """Acknowledged writes that were gone afterwards, of those acknowledged (RPO)."""
    return Share(tuple((trial.lost, trial.acked) for trial in cell.trials))


def stale(cell: Cell) -> Share:
    """Reads that missed what had been acknowledged before they were sent, of those answered."""
    return Share(tuple((trial.stale, trial.reads) for trial in cell.trials))


def longest_stale_ms(cell: Cell) -> float | None:
    """The longest time after an acknowledgement at which a read still missed it, ms."""
    return max((t.longest_stale_ms for t in cell.trials if t.longest_stale_ms is not None), default=None)


def verdicts(cell: Cell) -> dict[Consistency, int]:
    """How many trials ended with each verdict on consistency."""
    return {kind: sum(trial.consistency is kind for trial in cell.trials) for kind in Consistency}


def sessions(cell: Cell) -> dict[str, int]:
    """Session guarantees that were broken, over all trials, by name."""
    names = sorted({name for trial in cell.trials for name in trial.sessions})
    totals = {name: sum(trial.sessions.get(name, 0) for trial in cell.trials) for name in names}
    return {name: count for name, count in totals.items() if count}

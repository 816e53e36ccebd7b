"""What a run of the matrix found, in a few plain sentences drawn from its figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from haops.cluster.spec import StoreName
from haops.faults.catalogue import FaultKind
from haops.matrix import summary
from haops.matrix.cells import Cell, Consistency, Matrix
from haops.matrix.summary import Share
from haops.report.matrix_text import FEW, percent
from haops.report.text import STORE_TITLES, format_ms, printable

_FAULTS: Final = (FaultKind.KILL, FaultKind.PAUSE, FaultKind.PARTITION)
_LISTED: Final = 3


def findings(matrix: Matrix) -> tuple[str, ...]:
    """Three to six sentences: loss, staleness, unavailability, consistency, speed, and what to doubt."""
    cells = [cell for cell in matrix.cells if cell.trials]
    if not cells:
        return ("No cell has a finished trial yet.",)
    found = (
        _loss(cells),
        _staleness(cells),
        _unavailable(cells),
        _disorder(cells),
        _speed(cells),
        _doubts(matrix),
    )
    return tuple(words for words in found if words)


def _loss(cells: Sequence[Cell]) -> str:
    def words(worst: Cell, share: Share) -> str:
        return f"lost {share.some:,} of {share.whole:,} acknowledged writes {_under(worst.key.fault)}"

    return _worst_of_each(cells, summary.lost, words, "lost", "acknowledged writes")


def _staleness(cells: Sequence[Cell]) -> str:
    def words(worst: Cell, share: Share) -> str:
        longest = summary.longest_stale_ms(worst)
        span = f", the longest for {format_ms(longest)}" if longest is not None else ""
        counts = f"{share.some:,} of {share.whole:,} reads"
        return f"missed an acknowledged write in {counts} {_under(worst.key.fault)}{span}"

    return _worst_of_each(cells, summary.stale, words, "missed", "reads")


def _worst_of_each(
    cells: Sequence[Cell],
    figure: Callable[[Cell], Share],
    words: Callable[[Cell, Share], str],
    verb: str,
    what: str,
) -> str:
    """Each store's worst cell and its modes without any; then the stores that have none at all."""
    parts, clean = [], []
    for store, mine in _by_store(cells):
        worst = max(mine, key=lambda cell: figure(cell).value or 0.0)
        if not figure(worst).some:
            clean.append((store, sum(figure(cell).whole for cell in mine)))
            continue
        text = f"{_name(worst)} {words(worst, figure(worst))}"
        spotless = [m for m in _modes(mine) if not any(figure(c).some for c in mine if c.key.mode == m)]
        if spotless:
            text += f"; {_and(printable(mode) for mode in spotless)} {verb} none"
        parts.append(text)
    if clean:
        whole = sum(count for _, count in clean)
        parts.append(f"{_and(STORE_TITLES[store] for store, _ in clean)} {verb} none of {whole:,} {what}")
    return ". ".join(parts) + "."


def _unavailable(cells: Sequence[Cell]) -> str:
    broken = [(cell, found) for cell in cells if (found := summary.writes_back(cell))]
    if not broken:
        return ""
    stuck = [(cell, found) for cell, found in broken if found.never]
    parts = []
    for name in dict.fromkeys(_name(cell) for cell, _ in stuck):
        mine = [(cell, found) for cell, found in stuck if _name(cell) == name]
        never, trials = sum(found.never for _, found in mine), sum(found.trials for _, found in mine)
        faults = _and(cell.key.fault.value for cell, _ in mine)
        parts.append(f"in {name} (in {never} of {trials} trials under {faults})")
    said = (
        f"Writes never came back {_some(parts)}" if parts else "Writes came back in every trial with a fault"
    )
    least = _least_available([cell for cell, found in broken if not found.never])
    which = "of the rest, " if parts else ""
    return f"{said}; {which}{least}." if least else f"{said}."


def _least_available(cells: Sequence[Cell]) -> str:
    """The cell whose writes worked for the least of the time: a mode may come back only with its node."""
    shares = [(summary.median_of(cell, lambda t: t.write_availability), cell) for cell in cells]
    ranked = [(share, cell) for share, cell in shares if share is not None]
    if not ranked:
        return ""
    share, cell = min(ranked, key=lambda pair: pair[0])
    return f"{_name(cell)} {_under(cell.key.fault)} took writes for the least of the time, {percent(share)}"


def _disorder(cells: Sequence[Cell]) -> str:
    counts = [(cell, summary.verdicts(cell)) for cell in cells]
    violated = [
        f"{_name(cell)} {_under(cell.key.fault)} ({found[Consistency.VIOLATED]} of {len(cell.trials)} trials)"
        for cell, found in sorted(counts, key=lambda pair: -pair[1][Consistency.VIOLATED])
        if found[Consistency.VIOLATED]
    ]
    if violated:
        return f"Registers were not linearizable in {_some(violated)}."
    unknown = sum(found[Consistency.UNKNOWN] for _, found in counts)
    if unknown:
        return f"No history of registers was out of order, and {unknown} could not be judged."
    return "Every history of registers was linearizable."


def _speed(cells: Sequence[Cell]) -> str:
    for fault in _FAULTS:
        ranked = sorted(
            (found.spread.median, _name(cell))
            for cell in cells
            if cell.key.fault is fault
            and (found := summary.writes_back(cell))
            and found.spread
            and not found.never
        )
        if len(ranked) > 1:
            (fast, first), (slow, last) = ranked[0], ranked[-1]
            return (
                f"{_under(fault).capitalize()}, writes were back soonest in {first} (median {format_ms(fast)}) "
                f"and latest in {last} ({format_ms(slow)})."
            )
    return ""


def _doubts(matrix: Matrix) -> str:
    parts = []
    filled = [cell for cell in matrix.cells if cell.trials]
    doubtful = sum(bool(trial.trouble) for cell in filled for trial in cell.trials)
    skipped = sum(bool(cell.skipped) for cell in matrix.cells)
    few = sum(len(cell.trials) < FEW for cell in filled)
    if doubtful:
        parts.append(f"the times of {doubtful} {_plural(doubtful, 'trial')} are in doubt and left out")
    if skipped:
        parts.append(f"{skipped} {_plural(skipped, 'cell')} could not be run")
    if few:
        parts.append(
            f"{few} {_plural(few, 'cell')} rest on fewer than {FEW} trials and show no more than what happened"
        )
    return f"With care: {_and(parts)}." if parts else ""


def _by_store(cells: Sequence[Cell]) -> list[tuple[StoreName, list[Cell]]]:
    stores = dict.fromkeys(cell.key.store for cell in cells)
    return [(store, [cell for cell in cells if cell.key.store is store]) for store in stores]


def _modes(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.key.mode for cell in cells))


def _name(cell: Cell) -> str:
    return f"{STORE_TITLES[cell.key.store]} {printable(cell.key.mode)}"


def _under(fault: FaultKind) -> str:
    return "undisturbed" if fault is FaultKind.NONE else f"under {fault.value}"


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"


def _some(parts: Sequence[str]) -> str:
    """The first few, and how many more."""
    more = len(parts) - _LISTED
    return _and([*parts[:_LISTED], f"{more} more"] if more > 0 else parts)


def _and(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last

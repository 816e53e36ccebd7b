"""The matrix, two of them against each other, and the model, as rows of words for tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from haops.drills.result import Spread
from haops.faults.catalogue import FaultKind
from haops.matrix import summary
from haops.matrix.cells import Cell, Consistency, Matrix
from haops.matrix.diff import Change, Judgement, Scale
from haops.matrix.prediction import LeftOut, Part, Prediction, Unit
from haops.matrix.summary import Comeback
from haops.report.text import NONE, format_count, format_ms, format_spread, printable
from haops.stores.mode import Replication

COLUMNS: Final = (
    "STORE",
    "MODE",
    "REPL",
    "FAULT",
    "TRIALS",
    "WRITE P50/P99/P99.9 MS",
    "OPS/S",
    "RTO W",
    "= DETECT+DECIDE+PROMOTE+ADVERTISE+RECONNECT MS",
    "RTO R",
    "LOST",
    "STALE",
    "AVAIL W/R",
    "CONSISTENCY",
)
DIFF_COLUMNS: Final = (
    "CELL",
    "FIGURE",
    "BEFORE",
    "AFTER",
    "CHANGE",
    "95 % INTERVAL",
    "TRIALS",
    "VERDICT",
    "WHY",
)
MODEL_COLUMNS: Final = (
    "FORMULA",
    "STORE",
    "MODE",
    "FAULT",
    "PARTS",
    "PREDICTED",
    "MEASURED",
    "RATIO",
    "BETTER",
)
REPLICATION: Final = {Replication.SYNCHRONOUS: "sync", Replication.ASYNCHRONOUS: "async"}
# With fewer, a median is one of two figures.
FEW: Final = 3
# Of the many figures of two runs, those that say something come first.
_URGENCY: Final = (Judgement.REGRESSION, Judgement.IMPROVEMENT, Judgement.CANNOT_TELL, Judgement.NO_CHANGE)


def rows(matrix: Matrix) -> tuple[tuple[str, ...], ...]:
    """One row a cell, in the order of the run; as many words as `COLUMNS`."""
    return tuple(_row(cell) for cell in matrix.cells)


def footnotes(matrix: Matrix) -> tuple[str, ...]:
    """What has to be known to read the table; a sentence each."""
    filled = [cell for cell in matrix.cells if cell.trials]
    notes = ["Medians of the trials, with the lowest and the highest; times from trials that can be trusted."]
    if any(len(cell.trials) < FEW for cell in filled):
        notes.append(f"Cells with fewer than {FEW} trials show what happened, not what is usual.")
    acked = [summary.lost(cell).whole for cell in filled if not summary.lost(cell).some]
    if (least := min(acked, default=0)) > 0:
        # Rule of three: Hanley and Lippman-Hand, JAMA 249, 1983, pages 1743-1745.
        notes.append(
            f"None lost of {least:,} still allows {3 / least:.2%} at 95 %, and more if losses come in bursts."
        )
    return tuple(notes)


def _row(cell: Cell) -> tuple[str, ...]:
    key = cell.key
    head = (key.store.value, printable(key.mode), REPLICATION[cell.replication], key.fault.value)
    if cell.skipped or not cell.trials:
        words = f"skipped: {printable(cell.skipped)}" if cell.skipped else "not run yet"
        # In the widest column; the others have nothing to say.
        return (*head, "0", "", "", "", words, *[""] * 5)
    return (
        *head,
        trials(cell),
        latencies(cell),
        throughput(cell),
        comeback(summary.writes_back(cell)),
        parts(cell),
        comeback(summary.reads_back(cell)),
        lost(cell),
        stale(cell),
        availability(cell),
        consistency(cell),
    )


def trials(cell: Cell) -> str:
    """How many, and how many of them have times that cannot be trusted."""
    doubtful = len(cell.trials) - len(summary.trusted(cell))
    return f"{len(cell.trials)} ({doubtful} in doubt)" if doubtful else str(len(cell.trials))


def latencies(cell: Cell) -> str:
    """Median p50, p99 and p99.9 of writes before the fault, in ms without a unit."""
    found = (
        summary.median_of(cell, lambda t: t.write.p50_ms),
        summary.median_of(cell, lambda t: t.write.p99_ms),
        summary.median_of(cell, lambda t: t.write.p999_ms),
    )
    return " / ".join(bare_ms(value) for value in found)


def bare_ms(value: float | None) -> str:
    """A number of ms to three digits, without its unit."""
    if value is None:
        return NONE
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def throughput(cell: Cell) -> str:
    """Median of what clients reach without a schedule, a second; only where nothing was broken."""
    found = summary.median(cell.parts.throughput) if cell.parts else None
    return format_count(found) if found is not None else NONE


def comeback(found: Comeback | None) -> str:
    """An RTO as `median (low-high)`, and in how many trials there was none."""
    if found is None:
        return NONE
    if found.spread is None:
        return f"never (in {found.trials} of {found.trials})"
    words = format_spread(found.spread)
    return f"{words}, never in {found.never} of {found.trials}" if found.never else words


def parts(cell: Cell) -> str:
    """What the RTO of writes went into, in ms; a part that nobody told of is a dash."""
    if cell.key.fault is FaultKind.NONE:
        return NONE
    found = summary.medians_of_parts(cell)
    if not any(value is not None for value in found.values()):
        return NONE
    return " + ".join(NONE if value is None else f"{value:,.0f}" for value in found.values())


def lost(cell: Cell) -> str:
    """Lost of acknowledged writes, over all trials."""
    share = summary.lost(cell)
    return f"{share.some:,}/{share.whole:,}"


def stale(cell: Cell) -> str:
    """How many reads were stale, and the longest time that one was."""
    share = summary.stale(cell)
    longest = summary.longest_stale_ms(cell)
    if not share.whole:
        return NONE
    return f"{share.some:,}, longest {format_ms(longest)}" if share.some else "0"


def availability(cell: Cell) -> str:
    """Median share of the writes and of the reads that succeeded from the fault on."""
    found = (
        summary.median_of(cell, lambda t: t.write_availability),
        summary.median_of(cell, lambda t: t.read_availability),
    )
    return " / ".join(percent(value) for value in found)


def percent(share: float | None) -> str:
    """A share as a percentage that says 100 only of all and 0 only of none."""
    if share is None:
        return NONE
    if share in (0.0, 1.0):
        return f"{share:.0%}"
    return f"{min(max(share * 100, 0.1), 99.9):.1f}%"


def consistency(cell: Cell) -> str:
    """The verdicts of the trials; the worst first."""
    found = summary.verdicts(cell)
    words = [
        f"{found[kind]} of {len(cell.trials)} {kind.value}"
        for kind in (Consistency.VIOLATED, Consistency.UNKNOWN, Consistency.LINEARIZABLE)
        if found[kind]
    ]
    return ", ".join(words[:2])


def diff_rows(changes: Sequence[Change], *, everything: bool = False) -> tuple[tuple[str, ...], ...]:
    """One row a figure, as many words as `DIFF_COLUMNS`; what became worse first.

    Args:
        everything: Also the figures that did not change.
    """
    shown = [c for c in changes if everything or c.judgement is not Judgement.NO_CHANGE]
    return tuple(_diff_row(c) for c in sorted(shown, key=lambda c: _URGENCY.index(c.judgement)))


def diff_summary(changes: Sequence[Change]) -> str:
    """How many figures ended with each verdict."""
    if not changes:
        return "the two runs have no cell with trials in common"
    counts = {kind: sum(c.judgement is kind for c in changes) for kind in _URGENCY}
    return f"{len(changes)} figures: " + ", ".join(f"{n} {kind.value}" for kind, n in counts.items() if n)


def _diff_row(change: Change) -> tuple[str, ...]:
    show = _shower(change)
    interval = NONE
    if change.low is not None and change.high is not None:
        interval = f"{_factor(change, change.low)} to {_factor(change, change.high)}"
    return (
        printable(str(change.key)),
        change.figure,
        show(change.a),
        show(change.b),
        _moved(change),
        interval,
        f"{change.trials[0]}, {change.trials[1]}",
        change.judgement.value,
        change.why,
    )


def _shower(change: Change) -> Callable[[float | None], str]:
    if change.unit == "share":
        return percent_fine
    if change.unit == "/s":
        return lambda value: f"{format_count(value)}/s"
    return lambda value: "never" if value is None else format_ms(value)


def percent_fine(share: float | None) -> str:
    """A share as a percentage with two decimals, for what is rare."""
    if share is None:
        return NONE
    return f"{share:.0%}" if share in (0.0, 1.0) else f"{share:.2%}"


def _moved(change: Change) -> str:
    if change.a is None or change.b is None:
        return NONE
    if change.scale is Scale.DIFFERENCE:
        return _factor(change, change.b - change.a)
    return _factor(change, change.b / change.a) if change.a > 0 else NONE


def _factor(change: Change, value: float) -> str:
    """A ratio as a signed percentage, a difference in percentage points."""
    if not math.isfinite(value):
        return "never"
    unit = " pp" if change.scale is Scale.DIFFERENCE else "%"
    moved = value if change.scale is Scale.DIFFERENCE else value - 1
    decimals = 2 if change.scale is Scale.DIFFERENCE else 0
    text = f"{abs(moved) * 100:.{decimals}f}"
    sign = "" if not float(text) else "+" if moved > 0 else "\u2212"
    return f"{sign}{text}{unit}"


def model_rows(predictions: Sequence[Prediction]) -> tuple[tuple[str, ...], ...]:
    """One row a prediction; as many words as `MODEL_COLUMNS`."""
    return tuple(
        (
            p.formula,
            p.store.value,
            printable(p.mode),
            p.fault.value if p.fault else NONE,
            ", ".join(f"{part.symbol} {part_value(part)}" for part in p.parts),
            quantity(p.predicted, p.unit),
            quantity(p.measured, p.unit),
            times(p.ratio),
            f"{p.better.name}: {quantity(p.better.value, p.unit)}, {times(p.better.ratio)}"
            if p.better
            else NONE,
        )
        for p in predictions
    )


def left_out_lines(left_out: Sequence[LeftOut]) -> tuple[str, ...]:
    """What could not be predicted, a line each."""
    return tuple(f"{item.formula} of {item.store}: {printable(item.reason)}" for item in left_out)


def part_value(part: Part) -> str:
    """A part in its unit."""
    return quantity(part.value, part.unit)


def quantity(value: float, unit: Unit) -> str:
    """A value in its unit."""
    if unit is Unit.SHARE:
        return percent_fine(value)
    return format_count(value) if unit is Unit.COUNT else format_ms(value)


def times(ratio: float | None) -> str:
    """Predicted by measured: x0.30."""
    if ratio is None:
        return NONE
    return f"\u00d7{ratio:.2f}" if ratio < 9.995 else f"\u00d7{ratio:,.0f}"


def span(spread: Spread | None) -> str:
    """A spread of ms in words."""
    return format_spread(spread)

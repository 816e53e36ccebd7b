"""A run of the matrix as one HTML file, without a script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from haops.faults.catalogue import FaultKind
from haops.matrix import summary
from haops.matrix.cells import Cell, Consistency, Matrix, Parts
from haops.matrix.model import Model, predict
from haops.matrix.prediction import LeftOut, Prediction
from haops.report import matrix_text as words
from haops.report import text
from haops.report.matrix_findings import findings
from haops.report.matrix_plots import (
    LETTERS,
    MEANINGS,
    drawn,
    latency_figures,
    outage_figures,
    window_figures,
)
from haops.report.page import policy, resource, template

_NO_PICTURE: Final = Markup()
# What is wrong in a figure, its sign for those who do not see the colour, and what it means.
KINDS: Final = (
    ("loss", "\u25bc", "acknowledged writes were lost"),
    ("stale", "\u25c6", "reads missed acknowledged writes"),
    ("down", "\u25a0", "writes or reads did not come back"),
    ("disorder", "\u2260", "registers were not linearizable"),
)
_SIGNS: Final = {kind: (sign, meaning) for kind, sign, meaning in KINDS}
HEADINGS: Final = (
    ("Trials", ""),
    ("Write latency, ms", "p50 / p99 / p99.9"),
    ("Closed loop", "operations/s"),
    ("RTO writes", "median, range"),
    ("RTO reads", "median, range"),
    ("Lost", "of acknowledged"),
    ("Stale reads", "longest"),
    ("Available", "writes / reads"),
    ("Registers", "worst, trials"),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure in the table.

    Args:
        kind: What is wrong with it; empty if nothing is.
        more: A second line.
    """

    value: str
    kind: str = ""
    more: str = ""

    @property
    def sign(self) -> str:
        """Of its kind."""
        return _SIGNS[self.kind][0] if self.kind else ""

    @property
    def meaning(self) -> str:
        """Of its kind, in words."""
        return _SIGNS[self.kind][1] if self.kind else ""


@dataclass(frozen=True, slots=True)
class Reason:
    """A sentence below a heading.

    Args:
        picture: What it speaks of; empty if that is not drawn.
        left_out: Operations of it that are not in the picture.
    """

    sentence: str
    picture: Markup = _NO_PICTURE
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class CellView:
    """A cell as it is shown.

    Args:
        empty: Why it has no figures; empty if it has.
        notes: Headings with reasons, each list not empty.
        idle: What was measured at rest: name, figure.
    """

    cell: Cell
    anchor: str
    figures: tuple[Shown, ...]
    empty: str
    notes: tuple[tuple[str, tuple[Reason, ...]], ...]
    idle: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ModeView:
    """A mode's cells."""

    mode: str
    replication: str
    promise: str
    cells: tuple[CellView, ...]


@dataclass(frozen=True, slots=True)
class StoreView:
    """A store's modes, and its outages by fault."""

    anchor: str
    title: str
    version: str
    modes: tuple[ModeView, ...]
    outages: tuple[tuple[str, Markup], ...]


@dataclass(frozen=True, slots=True)
class FormulaView:
    """A formula with what it predicted and what it could not."""

    formula: str
    meaning: str
    predictions: tuple[Prediction, ...]
    left_out: tuple[LeftOut, ...]


def render(matrix: Matrix) -> str:
    """The text of matrix.html; the same matrix always gives the same text."""
    style = resource("report.css") + resource("matrix.css")
    page = template(
        "matrix.html.j2",
        part=words.part_value,
        parts=summary.parts_of,
        quantity=words.quantity,
        times=words.times,
    )
    return page.render(
        matrix=matrix,
        style=Markup(style),  # noqa: S704 - this package's own files
        policy=policy(style),
        findings=findings(matrix),
        footnotes=words.footnotes(matrix),
        headings=HEADINGS,
        kinds=KINDS,
        stores=store_views(matrix),
        parts=[(name, LETTERS[name], meaning) for name, meaning in MEANINGS.items()],
        latency=latency_figures([cell for cell in matrix.cells if cell.trials]),
        formulas=formula_views(predict(matrix)),
    )


def store_views(matrix: Matrix) -> tuple[StoreView, ...]:
    """One view a store, in the order of the run."""
    numbered = [(cell, f"cell-{number}") for number, cell in enumerate(matrix.cells, 1)]
    found = []
    for store in dict.fromkeys(cell.key.store for cell in matrix.cells):
        mine = [(cell, anchor) for cell, anchor in numbered if cell.key.store is store]
        modes = dict.fromkeys(cell.key.mode for cell, _ in mine)
        found.append(
            StoreView(
                store.value,
                text.STORE_TITLES[store],
                matrix.versions.get(store, ""),
                tuple(_mode_view([pair for pair in mine if pair[0].key.mode == mode]) for mode in modes),
                _outages([cell for cell, _ in mine], store.value),
            )
        )
    return tuple(found)


def _outages(cells: Sequence[Cell], ident: str) -> tuple[tuple[str, Markup], ...]:
    found = []
    for fault in FaultKind:
        mine = [cell for cell in cells if cell.key.fault is fault]
        if fault is not FaultKind.NONE and any(cell.trials for cell in mine):
            found.append((fault.value, outage_figures(mine, f"{ident}-{fault.value}")))
    return tuple(found)


def _mode_view(cells: Sequence[tuple[Cell, str]]) -> ModeView:
    first = cells[0][0]
    views = tuple(_cell_view(cell, anchor) for cell, anchor in cells)
    return ModeView(first.key.mode, words.REPLICATION[first.replication], first.promise, views)


def _cell_view(cell: Cell, anchor: str) -> CellView:
    empty = ""
    if cell.skipped or not cell.trials:
        empty = f"skipped: {cell.skipped}" if cell.skipped else "not run yet"
    return CellView(
        cell, anchor, () if empty else _figures(cell), empty, _notes(cell, anchor), _idle(cell.parts)
    )


def _figures(cell: Cell) -> tuple[Shown, ...]:
    writes, reads = summary.writes_back(cell), summary.reads_back(cell)
    share = summary.median_of(cell, lambda t: t.write_availability)
    return (
        _shown(words.trials(cell)),
        Shown(words.latencies(cell)),
        Shown(words.throughput(cell)),
        _shown(words.comeback(writes), "down" if writes and writes.never else ""),
        _shown(words.comeback(reads), "down" if reads and reads.never else ""),
        Shown(words.lost(cell), "loss" if summary.lost(cell).some else ""),
        _shown(words.stale(cell), "stale" if summary.stale(cell).some else "", ", "),
        Shown(words.availability(cell), "down" if share == 0 else ""),
        _registers(cell),
    )


def _registers(cell: Cell) -> Shown:
    """The worst verdict, and how many trials ended with it."""
    found = summary.verdicts(cell)
    order = (Consistency.VIOLATED, Consistency.UNKNOWN, Consistency.LINEARIZABLE)
    worst = next(kind for kind in order if found[kind])
    kind = "disorder" if worst is Consistency.VIOLATED else ""
    return Shown(worst.value, kind, f"{found[worst]} of {len(cell.trials)}")


def _shown(value: str, kind: str = "", split: str = " (") -> Shown:
    """A figure whose first part stands alone and whose rest goes below it."""
    first, mark, rest = value.partition(split)
    return Shown(first, kind, (mark + rest).removeprefix(", ").strip())


def _notes(cell: Cell, anchor: str) -> tuple[tuple[str, tuple[Reason, ...]], ...]:
    def each(sentences: Sequence[tuple[int, str]]) -> tuple[Reason, ...]:
        return tuple(Reason(f"trial {number}: {sentence}") for number, sentence in sentences if sentence)

    broken = summary.sessions(cell).items()
    found = (
        ("Over the budget", tuple(Reason(sentence) for sentence in cell.over_budget)),
        ("Why writes were lost", each([(t.number, why) for t in cell.trials for why in t.lost_why])),
        ("Why the registers cannot be ordered", _disorder(cell, anchor)),
        ("Session guarantees broken", tuple(Reason(f"{name}: {count:,} times") for name, count in broken)),
        ("Times in doubt", each([(t.number, t.trouble) for t in cell.trials])),
    )
    return tuple((heading, reasons) for heading, reasons in found if reasons)


def _disorder(cell: Cell, anchor: str) -> tuple[Reason, ...]:
    """What is wrong with the registers, trial by trial, with the windows drawn."""
    key = cell.key
    where = f"{text.STORE_TITLES[key.store]} {key.mode} under {key.fault}"
    return tuple(
        Reason(
            f"trial {t.number}: {t.consistency_why}",
            window_figures(
                t.window,
                f"{anchor}-window-{index}",
                f"The smallest window that cannot be ordered: {where}, trial {t.number}",
            ),
            len(t.window) - len(drawn(t.window)),
        )
        for index, t in enumerate(cell.trials, 1)
        if t.consistency_why or t.window
    )


def _idle(parts: Parts | None) -> tuple[tuple[str, str], ...]:
    if parts is None:
        return ()
    spreads = (
        ("Round trip", parts.round_trip_ms),
        ("Single write", parts.single_write_ms),
        ("Single read", parts.single_read_ms),
        ("Visible to another client", parts.visible_ms),
        ("New client connects", parts.connect_ms),
    )
    rates = text.spread_of(parts.throughput)
    found = [(name, text.format_spread(spread)) for name, spread in spreads if spread]
    if rates:
        span = f"{text.format_count(rates.low)}{text.NONE}{text.format_count(rates.high)}"
        found.append((f"Closed loop, {parts.clients} clients", f"{text.format_rate(rates.median)} ({span})"))
    return tuple(found)


def formula_views(model: Model) -> tuple[FormulaView, ...]:
    """The predictions gathered by formula, in their order."""
    meanings = {p.formula: p.meaning for p in model.predictions}
    formulas = dict.fromkeys([*meanings, *(item.formula for item in model.left_out)])
    return tuple(
        FormulaView(
            formula,
            meanings.get(formula, ""),
            tuple(p for p in model.predictions if p.formula == formula),
            tuple(item for item in model.left_out if item.formula == formula),
        )
        for formula in formulas
    )

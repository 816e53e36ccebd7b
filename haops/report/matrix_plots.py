"""Drawings of the matrix: what outages went into, latencies side by side, and what cannot be ordered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from markupsafe import Markup

from haops.drills.result import Latency
from haops.faults.catalogue import FaultKind
from haops.matrix import summary
from haops.matrix.cells import Cell, CellTrial, Recovery, WindowOperation
from haops.report.scale import Linear, Log, decades, log_ticks, nice_ceiling, nice_ticks
from haops.report.svg import drawing, el, line, text, text_px
from haops.report.text import STORE_TITLES, format_ms, format_tick, printable

# Letters stand in the bars, so that nobody needs the colours.
LETTERS: Final = {
    "detect": "D",
    "decide": "C",
    "promote": "P",
    "advertise": "A",
    "reconnect": "R",
    "untold": "?",
}
MEANINGS: Final = {
    "detect": "until a server said that the node is gone",
    "decide": "until a successor was chosen",
    "promote": "until it had its role",
    "advertise": "until clients were told",
    "reconnect": "until a client's write succeeded",
    "untold": "nobody told what went on",
}
_BAR, _PITCH, _GAP, _HEAD, _AXIS, _RIGHT, _LETTER = 11, 15, 12, 6, 26, 104, 13
_ROW: Final = 22


@dataclass(frozen=True, slots=True)
class Size:
    """A width in px for which a picture is laid out; without a margin, names stand above their rows."""

    cls: str
    width: int
    left: int
    ticks: int


SIZES: Final = (Size("wide", 1080, 176, 10), Size("middle", 660, 166, 6), Size("narrow", 320, 0, 3))
# Here the store's name stands before the mode's.
_NAMED: Final = (Size("wide", 1080, 240, 10), Size("middle", 660, 0, 6), Size("narrow", 320, 0, 3))


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of an outage, from `start_ms` to `end_ms` after the fault."""

    name: str
    start_ms: float
    end_ms: float


def segments(recovery: Recovery) -> tuple[Segment, ...]:
    """The parts one after another, within the total; what they leave of it is `untold`."""
    total = recovery.total_ms
    if total is None or total <= 0:
        return ()
    found, at = [], 0.0
    for name, value in summary.parts_of(recovery):
        end = min(at + max(value or 0.0, 0.0), total)
        if end > at:
            found.append(Segment(name, at, end))
        at = end
    if at < total * (1 - 1e-6):
        found.append(Segment("untold", at, total))
    return tuple(found)


def outage_figures(cells: Sequence[Cell], ident: str) -> Markup:
    """The outages of writes of a store's modes under one fault, a bar a trial, in each of the sizes."""
    return Markup().join(_outages(cells, f"{ident}-{size.cls}", size) for size in SIZES)


def _outages(cells: Sequence[Cell], ident: str, size: Size) -> Markup:
    totals = [
        t.write_recovery.total_ms for c in cells for t in c.trials if t.write_recovery.total_ms is not None
    ]
    top = nice_ceiling(max(totals, default=1000.0), size.ticks)
    x = Linear(0.0, top, size.left + 0.5 if size.left else 6.0, size.width - _RIGHT)
    name_px = 0 if size.left else 18
    body, y = [], float(_HEAD)
    for cell in cells:
        body.append(_label(cell.key.mode, y + (_PITCH * max(len(cell.trials), 1)) / 2, y, size))
        y += name_px
        for trial in cell.trials:
            body.append(_bar(trial, x, y))
            y += _PITCH
        if not cell.trials:
            body.append(text(x.start + 4, y + 10, _why_empty(cell, size), "tick"))
            y += _PITCH
        y += _GAP
    bottom = y - _GAP + 6
    grid = [line(x(tick), _HEAD, x(tick), bottom, "grid") for tick in nice_ticks(top, size.ticks)]
    ticks = [text(x(t), bottom + 17, format_tick(t), "tick", "middle") for t in nice_ticks(top, size.ticks)]
    axis = line(x.start, bottom, x.end, bottom, "axis")
    first = cells[0].key
    title = f"Outages of writes of {STORE_TITLES[first.store]} under {first.fault.value}"
    everything = [*grid, *body, axis, *ticks]
    return drawing(ident, size.width, bottom + _AXIS, title, _describe(cells), f"plot {size.cls}", everything)


def _why_empty(cell: Cell, size: Size) -> str:
    words = f"skipped: {printable(cell.skipped)}" if cell.skipped else "not run yet"
    return _cut(words, int((size.width - size.left) / 7.5))


def _cut(words: str, most: int) -> str:
    return words if len(words) <= most else f"{words[: most - 1]}\u2026"


def _label(mode: str, middle: float, top: float, size: Size) -> Markup:
    words = _cut(printable(mode), int(size.left / 7) if size.left else 40)
    if not size.left:
        return text(2, top + 11, words, "panel-title")
    return text(size.left - 12, middle + 3, words, "panel-title", "end")


def _bar(trial: CellTrial, x: Linear, y: float) -> Markup:
    total = trial.write_recovery.total_ms
    doubt = ", in doubt" if trial.trouble else ""
    if total is None:
        arm = f"M{x.end - 4:g} {y + 2:g}l7 7m0 -7l-7 7"
        return el(
            "g",
            el("title", f"trial {trial.number}: writes never came back{doubt}"),
            line(x.start, y + _BAR / 2, x.end - 10, y + _BAR / 2, "never"),
            el("path", d=arm, cls="cross"),
            text(x.end + 10, y + 10, f"never{doubt}", "tick"),
        )
    drawn = [_segment(segment, x, y) for segment in segments(trial.write_recovery)]
    words = text(x(total) + 6, y + 10, f"{format_ms(total)}{doubt}", "tick")
    return el("g", el("title", f"trial {trial.number}: {_in_words(trial)}{doubt}"), *drawn, words)


def _segment(segment: Segment, x: Linear, y: float) -> Markup:
    left, right = x(segment.start_ms), x(segment.end_ms)
    box = el(
        "rect",
        x=left,
        y=float(y),
        width=max(right - left, 0.5),
        height=float(_BAR),
        cls=f"part {segment.name}",
    )
    if right - left < _LETTER:
        return box
    return el("g", box, text((left + right) / 2, y + 9.5, LETTERS[segment.name], "letter", "middle"))


def _in_words(trial: CellTrial) -> str:
    total = trial.write_recovery.total_ms
    told = ", ".join(
        f"{name} {format_ms(value)}" for name, value in summary.parts_of(trial.write_recovery) if value
    )
    return f"{format_ms(total)}: {told}" if told else format_ms(total)


def _describe(cells: Sequence[Cell]) -> str:
    parts = []
    for cell in cells:
        trials = (
            f"trial {t.number} " + ("never" if t.write_recovery.total_ms is None else _in_words(t))
            for t in cell.trials
        )
        parts.append(f"{printable(cell.key.mode)}: {'; '.join(trials) or 'no trial'}.")
    return printable(" ".join(parts))


def latency_figures(cells: Sequence[Cell], ident: str = "latency") -> Markup:
    """p50 to p99.9 of writes and of reads of the undisturbed cells, on a logarithmic axis, in each of the sizes."""
    rows = [
        (cell, *_quantiles(cell))
        for cell in cells
        if cell.key.fault is FaultKind.NONE and _quantiles(cell)[0]
    ]
    if not rows:
        return Markup()
    return Markup().join(_latencies(rows, f"{ident}-{size.cls}", size) for size in _NAMED)


_Quantiles = tuple[float, float, float] | None


def _quantiles(cell: Cell) -> tuple[_Quantiles, _Quantiles]:
    return _whole(cell, lambda t: t.write), _whole(cell, lambda t: t.read)


def _whole(cell: Cell, latency: Callable[[CellTrial], Latency]) -> _Quantiles:
    values = (
        summary.median_of(cell, lambda t: latency(t).p50_ms),
        summary.median_of(cell, lambda t: latency(t).p99_ms),
        summary.median_of(cell, lambda t: latency(t).p999_ms),
    )
    known = [value for value in values if value is not None and value > 0]
    return (known[0], known[1], known[2]) if len(known) == 3 else None


def _latencies(rows: Sequence[tuple[Cell, _Quantiles, _Quantiles]], ident: str, size: Size) -> Markup:
    values = [value for _, *both in rows for one in both if one for value in one]
    low, high = decades(min(values), max(values))
    name_px = 0 if size.left else 14
    x = Log(low, high, size.left + 0.5 if size.left else 8.0, size.width - 22)
    body, y, shown = [], float(_HEAD), ""
    for cell, writes, reads in rows:
        # A store's rows stand together.
        y += 8 if shown not in ("", cell.key.store) else 0
        shown = cell.key.store
        name = f"{STORE_TITLES[cell.key.store]} {cell.key.mode}"
        body.append(_label(name, y + _ROW / 2, y, size))
        y += name_px
        body += [_range(writes, x, y + 7, "writes", name), _range(reads, x, y + 15, "reads", name)]
        y += _ROW
    bottom = y + 2
    ticks = [(x(tick), format_tick(tick)) for tick in log_ticks(low, high, 8)]
    grid = [line(at, _HEAD, at, bottom, "grid") for at, _ in ticks]
    words = [text(at, bottom + 17, word, "tick", "middle") for at, word in ticks]
    described = " ".join(
        f"{printable(str(c.key))}: writes {', '.join(format_ms(v) for v in w)}." for c, w, _ in rows if w
    )
    everything = [*grid, *body, line(x.start, bottom, x.end, bottom, "axis"), *words]
    title = "Latency while nothing is broken: p50, p99 and p99.9"
    return drawing(ident, size.width, bottom + _AXIS, title, described, f"plot {size.cls}", everything)


def _range(found: _Quantiles, x: Log, y: float, cls: str, name: str) -> Markup:
    if found is None:
        return Markup()
    low, middle, high = (x(value) for value in found)
    diamond = f"M{middle - 4:.1f} {y:g}l4 -4l4 4l-4 4z"
    quantiles = zip(("p50", "p99", "p99.9"), found, strict=True)
    words = f"{printable(name)}, {cls}: " + ", ".join(
        f"{what} {format_ms(value)}" for what, value in quantiles
    )
    return el(
        "g",
        el("title", words),
        line(low, y, high, y, "reach"),
        line(high, y - 4, high, y + 4, "reach"),
        el("path", d=diamond, cls="dot"),
        el("circle", cx=low, cy=y, r=3.5, cls="dot"),
        cls=f"range {cls}",
    )


# Operations of a window that are drawn at most.
MOST: Final = 12
_LANES: Final = (Size("wide", 1080, 96, 10), Size("middle", 660, 92, 6), Size("narrow", 320, 0, 3))
_BOX, _THIN, _PAD, _LINE, _TAIL, _NODE_PX = 18, 6.0, 5.0, 17, 16, 10


@dataclass(frozen=True, slots=True)
class Bar:
    """An operation of a window as it is laid out, in px.

    Args:
        left: Of the bar; it reaches to `right`.
        first: Of the place that bar and words take; it reaches to `last`.
        at: Where the words begin, or end if they stand left of the bar.
        place: of the words: inside, right, left or above.
    """

    operation: WindowOperation
    left: float
    right: float
    first: float
    last: float
    at: float
    place: str
    words: str
    node: str


def drawn(window: Sequence[WindowOperation]) -> tuple[WindowOperation, ...]:
    """The operations that are drawn, in order of sending, with times from the first of them.

    Those that completed last stay, for the contradiction is there; of those of unknown outcome a few.
    """
    open_ended = [o for o in window if o.outcome == "info"]
    settled = sorted((o for o in window if o.outcome != "info"), key=lambda o: o.completed_ms)
    some = open_ended[: max(MOST // 3, MOST - len(settled))]
    kept = sorted([*settled[len(some) - MOST :], *some], key=lambda o: (o.sent_ms, o.completed_ms))
    begin = kept[0].sent_ms if kept else 0.0
    return tuple(replace(o, sent_ms=o.sent_ms - begin, completed_ms=o.completed_ms - begin) for o in kept)


def window_figures(window: Sequence[WindowOperation], ident: str, title: str) -> Markup:
    """A window that cannot be ordered, a lane a process and a bar an operation, in each of the sizes."""
    shown = drawn(window)
    if not shown:
        return Markup()
    described = f"{'; '.join(_told(o) for o in shown)}."
    return Markup().join(_window(shown, f"{ident}-{size.cls}", size, title, described) for size in _LANES)


def _window(shown: Sequence[WindowOperation], ident: str, size: Size, title: str, described: str) -> Markup:
    # What has no answer would stretch the axis to the client's time-out.
    ends = [o.sent_ms if o.outcome == "info" else o.completed_ms for o in shown]
    top = nice_ceiling(max(ends) or max(o.completed_ms for o in shown), size.ticks)
    x = Linear(0.0, top, size.left + 4.0, size.width - _TAIL - 6.0)
    body, y = [], float(_HEAD)
    for process in sorted({o.process for o in shown}):
        rows = _rows([_laid(o, x) for o in shown if o.process == process])
        heights = [_BOX + 5 + (_LINE if any(bar.place == "above" for bar in row) else 0) for row in rows]
        body.append(_label(f"process {process}", y + sum(heights) / 2 - 1, y, size))
        y += 0 if size.left else 18
        for row, height in zip(rows, heights, strict=True):
            y += height
            body += [_operation(bar, x, y - _BOX - 5) for bar in row]
        body.append(line(2, y + 2, size.width - 2, y + 2, "lane"))
        y += 9
    ticks = nice_ticks(top, size.ticks)
    grid = [line(x(tick), _HEAD - 4, x(tick), y, "grid") for tick in ticks]
    axis = [text(x(tick), y + 17, format_tick(tick), "tick", "middle") for tick in ticks]
    everything = [*grid, *body, line(x.start, y, x.end, y, "axis"), *axis]
    return drawing(
        ident, size.width, y + _AXIS, printable(title), described, f"plot window {size.cls}", everything
    )


def _laid(operation: WindowOperation, x: Linear) -> Bar:
    left = min(x(operation.sent_ms), x.end - _THIN)
    right = max(x(operation.completed_ms), left + _THIN)
    words, node = printable(operation.words), printable(operation.node)
    if _words_px(words, node) > x.end - x.start:
        node = _cut(node, 12)
        words = _cut(words, int((x.end - x.start - _words_px("", node)) / text_px("x")))
    wide = _words_px(words, node)
    if wide + 3 * _PAD <= right - left:
        at, place, first = left + 1.5 * _PAD, "inside", left
    elif right + _PAD + wide <= x.end:
        at, place, first = right + _PAD, "right", left
    elif left - _PAD - wide >= x.start:
        at, place, first = left - _PAD, "left", left - _PAD - wide
    else:
        at = first = max(min(left, x.end - wide), x.start)
        place = "above"
    last = x.end if operation.outcome == "info" else max(right, at + (0 if place == "left" else wide))
    return Bar(operation, left, right, min(first, left), last, at, place, words, node)


def _words_px(words: str, node: str) -> float:
    return text_px(words) + (_PAD + text_px(node) * _NODE_PX / 12 if node else 0)


def _rows(bars: Sequence[Bar]) -> list[list[Bar]]:
    """Rows in which no bar and no words touch another's, by time."""
    rows: list[list[Bar]] = []
    for bar in bars:
        row = next((r for r in rows if all(_apart(bar, other) for other in r)), [])
        if not row:
            rows.append(row)
        row.append(bar)
    return rows


def _apart(one: Bar, two: Bar) -> bool:
    return one.last + 2 * _PAD <= two.first or two.last + 2 * _PAD <= one.first


def _operation(bar: Bar, x: Linear, y: float) -> Markup:
    kind, middle = shape(bar.operation), y + _BOX / 2
    width, end = bar.right - bar.left, x.end + _TAIL
    if kind == "info":
        # Open at its end: nobody knows when it took effect, if it did.
        edge = f"M{bar.right:.1f} {y:g}H{bar.left:.1f}v{_BOX}H{bar.right:.1f}"
        arrow = el("path", d=f"M{end - 5:.1f} {middle - 4:g}l5 4l-5 4", cls="arrow")
        box = el("path", d=edge, cls="box") + line(bar.right, middle, end, middle, "tail") + arrow
    else:
        round_ = min(_BOX, width) / 2 if kind == "read" else 0.0
        box = el("rect", x=bar.left, y=y, width=width, height=_BOX, rx=round_, cls="box")
    node = el("tspan", f" {bar.node}", dx=_PAD - 3, cls="node") if bar.node else ""
    base, anchor = y - 6 if bar.place == "above" else y + 13, "end" if bar.place == "left" else None
    said = el("text", bar.words, node, x=bar.at, y=base, cls=f"words {bar.place}", text_anchor=anchor)
    return el("g", el("title", _told(bar.operation)), box, said, cls=f"op {kind}")


def shape(operation: WindowOperation) -> str:
    """How an operation is drawn: info if nobody knows whether it took effect, else read or write."""
    if operation.outcome == "info":
        return "info"
    return "read" if operation.words.startswith(("read", "did not find")) else "write"


def _told(operation: WindowOperation) -> str:
    where = f" at {operation.node}" if operation.node else ""
    sent, end = (f"{ms:,.1f} ms" for ms in (operation.sent_ms, operation.completed_ms))
    until = f"no answer until {end}" if operation.outcome == "info" else f"answered at {end}"
    return printable(f"process {operation.process} {operation.words}{where}, sent at {sent}, {until}")

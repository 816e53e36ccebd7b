"""The outages of all trials on one axis: do they agree, and do they keep the budget?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from haops.drills.result import StoreResult
from haops.report.scale import Linear, nice_ceiling, nice_ticks
from haops.report.svg import drawing, el, line, text, text_px
from haops.report.text import format_ms, format_tick

RADIUS = 5.0
# A row has the budget's words above its dots.
ROW, HEAD, DOTS, AXIS = 56, 4, 36, 26
NEVER = 24.0


@dataclass(frozen=True, slots=True)
class Strip:
    """One row of dots.

    Args:
        values: Outage of each trial in ms, with the trial's number; None never came back.
        limit_ms: The budget, if there is one.
    """

    name: str
    cls: str
    values: tuple[tuple[int, float | None], ...]
    limit_ms: float | None


@dataclass(frozen=True, slots=True)
class StripSize:
    """A width in px for which the picture is laid out."""

    cls: str
    width: int
    left: int
    ticks: int


SIZES = (StripSize("wide", 1080, 110, 10), StripSize("middle", 660, 104, 7), StripSize("narrow", 320, 62, 4))


def strip_figures(store: StoreResult, ident: str, title: str) -> Markup:
    """Write and read outage of every trial as dots, in each of the sizes."""
    rows = (
        Strip(
            "Writes",
            "writes",
            tuple((t.number, t.write_outage_ms) for t in store.trials),
            store.budget.write_outage_ms,
        ),
        Strip(
            "Reads",
            "reads",
            tuple((t.number, t.read_outage_ms) for t in store.trials),
            store.budget.read_outage_ms,
        ),
    )
    return Markup().join(_figure(rows, f"{ident}-{size.cls}", title, size) for size in SIZES)


def _figure(rows: Sequence[Strip], ident: str, title: str, size: StripSize) -> Markup:
    known = [v for row in rows for _, v in row.values if v is not None]
    limits = [row.limit_ms for row in rows if row.limit_ms is not None]
    top = nice_ceiling(max([*known, *limits], default=1000.0) * 1.02, size.ticks)
    lost = any(v is None for row in rows for _, v in row.values)
    # Trials that never came back have no place on the axis; they stand in a column of their own beyond it.
    right = size.width - (72 if lost else 22)
    x = Linear(0.0, top, size.left, right)
    bottom = HEAD + ROW * len(rows)
    body = []
    for tick in nice_ticks(top, size.ticks):
        at = x(tick)
        body += [
            line(at, HEAD, at, bottom, "grid"),
            text(at, bottom + 17, format_tick(tick), "tick", "middle"),
        ]
    if lost:
        body.append(text(size.width - NEVER, bottom + 17, "never", "tick", "middle"))
    for index, row in enumerate(rows):
        body.append(_row(row, x, HEAD + ROW * index, size))
    return drawing(ident, size.width, bottom + AXIS, title, _describe(rows), f"plot {size.cls}", body)


def _row(row: Strip, x: Linear, top: float, size: StripSize) -> Markup:
    middle = top + DOTS
    parts = [
        text(size.left - 14, middle + 4, row.name, "panel-title", "end"),
        line(size.left, top + ROW, x.end, top + ROW, "axis"),
    ]
    if row.limit_ms is not None:
        parts.append(_limit(row.limit_ms, x, top))
    taken: list[tuple[float, float]] = []
    for number, value in row.values:
        at = x(value) if value is not None else size.width - NEVER
        y = _free(at, middle, taken)
        taken.append((at, y))
        words = f"trial {number}: {format_ms(value) if value is not None else 'never came back'}"
        parts.append(_dot(at, y, words, row.cls) if value is not None else _cross(at, y, words))
    return el("g", *parts)


def _limit(limit_ms: float, x: Linear, top: float) -> Markup:
    at = x(limit_ms)
    words = f"budget {format_ms(limit_ms)}"
    flipped = at + 5 + text_px(words) > x.end + 16
    label = text(at - 5 if flipped else at + 5, top + 16, words, "limit-label", "end" if flipped else None)
    return el("g", line(at, top + 5, at, top + ROW, "limit"), label)


def _free(at: float, middle: float, taken: Sequence[tuple[float, float]]) -> float:
    """A height for a dot at `at` that covers none of the others; the middle if all are taken."""
    for offset in (0.0, -9.0, 9.0, -4.5, 4.5, -13.0, 13.0):
        y = middle + offset
        if all(abs(at - a) >= 2 * RADIUS or abs(y - b) >= 1.6 * RADIUS for a, b in taken):
            return y
    return middle


def _dot(at: float, y: float, words: str, cls: str) -> Markup:
    return el("circle", el("title", words), cx=at, cy=y, r=RADIUS, cls=f"dot {cls}")


def _cross(at: float, y: float, words: str) -> Markup:
    arm = RADIUS - 0.5
    path = f"M{at - arm:g} {y - arm:g}l{2 * arm:g} {2 * arm:g}m0 {-2 * arm:g}l{-2 * arm:g} {2 * arm:g}"
    return el("path", el("title", words), d=path, cls="cross")


def _describe(rows: Sequence[Strip]) -> str:
    parts = []
    for row in rows:
        values = ", ".join(f"trial {n} {format_ms(v) if v is not None else 'never'}" for n, v in row.values)
        parts.append(f"{row.name}: {values}.")
    return " ".join(parts)

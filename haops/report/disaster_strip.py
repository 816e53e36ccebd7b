"""The course of a disaster drill in time: what followed what, how long it took, what is lost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from haops.drills.disaster_result import DisasterTrial
from haops.report.disaster_text import format_s
from haops.report.scale import Linear, nice_step
from haops.report.svg import drawing, el, line, text, text_px
from haops.report.text import format_tick

ROW, BAR, LANE, AXIS = 26.0, 14.0, 22.0, 42.0
_NS: Final = 1e9


@dataclass(frozen=True, slots=True)
class Step:
    """A row: a part of the run, in seconds from the disaster.

    Args:
        cls: load, backup, gone, rebuild or restore; its colour.
    """

    name: str
    cls: str
    begin_s: float
    end_s: float

    @property
    def words(self) -> str:
        """Its length."""
        return format_s(self.end_s - self.begin_s)


@dataclass(frozen=True, slots=True)
class Size:
    """A width in px for which the picture is laid out; `left` is for the rows' names."""

    cls: str
    width: int
    left: int
    ticks: int


SIZES: Final = (
    Size("wide", 1080, 118, 12),
    Size("middle", 660, 112, 8),
    Size("narrow", 320, 96, 4),
)


def steps(trial: DisasterTrial) -> tuple[Step, ...]:
    """The run's parts in their order; the disaster is at 0 s."""
    marks = trial.marks

    def since(moment: int) -> float:
        return (moment - marks.struck) / _NS

    return (
        Step("Load", "load", since(marks.start), since(marks.backup)),
        Step("Backup", "backup", since(marks.backup), since(marks.backed_up)),
        Step("More load", "load", since(marks.backed_up), 0.0),
        Step("Destruction", "gone", 0.0, since(marks.destroyed)),
        Step("Rebuild", "rebuild", since(marks.destroyed), since(marks.stands)),
        Step("Restore", "restore", since(marks.stands), since(marks.restored)),
    )


def course_figures(trial: DisasterTrial, ident: str, title: str) -> Markup:
    """The run's course, in each of the sizes; empty where its moments are in no order."""
    rows = steps(trial)
    if any(row.end_s < row.begin_s for row in rows) or rows[0].begin_s >= rows[-1].end_s:
        return Markup()
    return Markup().join(_figure(trial, rows, f"{ident}-{size.cls}", title, size) for size in SIZES)


def _figure(trial: DisasterTrial, rows: tuple[Step, ...], ident: str, title: str, size: Size) -> Markup:
    low, high = rows[0].begin_s, rows[-1].end_s
    x = Linear(low, high, size.left, size.width - 14)
    lost_s = trial.survival.recovery_point_s
    top = 2 * LANE + 4
    bottom = top + ROW * len(rows)
    body = [
        _span(
            x, size, 0, (0.0, high), f"recovery time {format_s(trial.recovery_time_s)}", "recovering", bottom
        )
    ]
    if lost_s > 0:
        words = f"recovery point {format_s(lost_s)}"
        body.append(_span(x, size, 1, (-lost_s, 0.0), words, "lost", bottom))
    body += _axis(x, low, high, size, top, bottom)
    body.append(line(x(0.0), LANE * 2, x(0.0), bottom, "struck"))
    body += [_row(row, x, top + ROW * i, size) for i, row in enumerate(rows)]
    return drawing(
        ident, size.width, bottom + AXIS, title, _describe(trial, rows), f"plot course {size.cls}", body
    )


def _span(
    x: Linear, size: Size, lane: int, between: tuple[float, float], words: str, cls: str, bottom: float
) -> Markup:
    """A stretch of time, shaded down to the axis, with its words above it where they fit."""
    begin, end = (x(moment) for moment in between)
    half = text_px(words) / 2
    middle = min(max((begin + end) / 2, half + 2), size.width - half - 2)
    level = LANE * lane + 19.0
    return el(
        "g",
        el("rect", x=begin, y=level, width=end - begin, height=bottom - level, cls="shade"),
        line(begin, level, end, level, "brace"),
        text(middle, level - 6, words, "span-label", "middle"),
        cls=cls,
    )


def _axis(x: Linear, low: float, high: float, size: Size, top: float, bottom: float) -> Iterator[Markup]:
    step = nice_step(high - low, size.ticks)
    for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1):
        at = x(i * step)
        yield line(at, top, at, bottom, "grid")
        words = ("\u2212" if i < 0 else "+" if i else "") + format_tick(abs(i) * step * 1000)
        if at + text_px(words) / 2 <= size.width:
            yield text(at, bottom + 17, words, "tick", "middle")
    yield line(size.left, bottom, x.end, bottom, "axis")
    yield text((size.left + x.end) / 2, bottom + 35, "time from the disaster", "tick", "middle")


def _row(row: Step, x: Linear, top: float, size: Size) -> Markup:
    begin, end = x(row.begin_s), x(row.end_s)
    base = top + ROW / 2 + 4
    width = text_px(row.words) + 6
    if end + width <= size.width:
        label = text(end + 6, base, row.words, "took", None)
    elif begin - width >= size.left:
        label = text(begin - 6, base, row.words, "took", "end")
    else:
        label = text(end - 6, base, row.words, "took inside", "end")
    # What took no time that could be seen still has to be seen.
    bar = el(
        "rect",
        el("title", f"{row.name}: {row.words}"),
        x=begin,
        y=top + (ROW - BAR) / 2,
        width=max(end - begin, 2.0),
        height=BAR,
        cls=f"bar {row.cls}",
    )
    return el("g", text(size.left - 10, base, row.name, "panel-title", "end"), bar, label)


def _describe(trial: DisasterTrial, rows: tuple[Step, ...]) -> str:
    parts = [f"{row.name}: {row.words}." for row in rows]
    lost = trial.survival.recovery_point_s
    if lost > 0:
        parts.append(f"The first lost write was acknowledged {format_s(lost)} before the disaster.")
    return " ".join([*parts, f"Recovery time: {format_s(trial.recovery_time_s)}."])

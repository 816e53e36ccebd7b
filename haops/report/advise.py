"""Detection time against mistakes of every detector: one HTML file that needs nothing else, and a plain table.

Colours and sizes are those of the drill's report (`templates/report.css`).
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from markupsafe import Markup

from haops.health.advise import Advice
from haops.health.replay import Outcome
from haops.report.scale import Log, decades, log_ticks
from haops.report.svg import drawing, el, line, number, text, text_px
from haops.report.text import NONE, format_count, format_ms, format_tick, printable

# Classes of the style sheet; each detector has its own dash too, for those who do not see the colour.
_CLASSES: Final = ("one", "two", "three", "four", "five")
_STYLE: Final = """
.plot .curve { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.plot .point { stroke: var(--page); stroke-width: 1; }
.plot .one, .legend .one { --c: var(--writes); } .plot .two, .legend .two { --c: var(--failed); }
.plot .three, .legend .three { --c: var(--reads); } .plot .four, .legend .four { --c: var(--p99); }
.plot .five, .legend .five { --c: var(--soft); }
.plot .curve, .legend line { stroke: var(--c); } .plot .point { fill: var(--c); }
.two.curve, .legend .two line { stroke-dasharray: 8 3; } .three.curve, .legend .three line { stroke-dasharray: 2 3; }
.four.curve, .legend .four line { stroke-dasharray: 10 3 2 3; }
.five.curve, .legend .five line { stroke-dasharray: 5 5; }
.plot .none { fill: var(--raised); } .plot .ring { fill: none; stroke: var(--ink); stroke-width: 2; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 22px; padding: 0; margin: 20px 0 0; list-style: none; }
.legend { font-size: 13.5px; }
.legend svg { width: 34px; height: 10px; margin-right: 7px; } .legend line { stroke-width: 2.4; }
table.data tr.chosen th, table.data tr.chosen td { font-weight: 650; }
.scroll { overflow-x: auto; }
.scroll table.data { margin-top: 8px; white-space: nowrap; }
"""
TOP, ROW, LANE, AXIS = 26, 56, 9, 44


@dataclass(frozen=True, slots=True)
class Size:
    """A width in px for which the picture is laid out."""

    cls: str
    width: int
    height: int
    left: int
    ticks: int


SIZES: Final = (
    Size("wide", 1080, 430, 84, 12),
    Size("middle", 660, 380, 78, 8),
    Size("narrow", 320, 330, 56, 4),
)


def render(advice: Advice) -> str:
    """The page's text; the same advice always gives the same text."""
    style = files("haops.report").joinpath("templates", "report.css").read_text(encoding="utf-8") + _STYLE
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    title = f"Failure detectors for {printable(advice.target)}"
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    head = [
        Markup('<meta charset="utf-8">'),
        Markup('<meta http-equiv="Content-Security-Policy" content="{}">').format(policy),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        el("title", title),
        el("style", Markup(style)),  # noqa: S704 - this package's own text
    ]
    header = el("header", el("h1", title), *(el("p", w, cls="description") for w in advice.words))
    page = el("html", el("head", *head), el("body", header, el("main", *_sections(advice))), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def table(advice: Advice) -> str:
    """The best setting of each detector as lines of text; the chosen one has a star."""
    rows = [("", *HEADINGS), *(("*" if o is advice.chosen else "", *_cells(o)) for o in best(advice))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join([*(shown.rstrip() for shown in lines), "", *advice.words])


HEADINGS: Final = ("DETECTOR", "SETTING", "DETECTED", "WORST", "MISTAKES", "PER HOUR", "AT MOST (95 %)")


def best(advice: Advice) -> tuple[Outcome, ...]:
    """Of each detector the fastest setting within the budget, else the one with the fewest mistakes."""
    return tuple(_best_of(advice, name) for name in _names(advice))


def _best_of(advice: Advice, name: str) -> Outcome:
    if advice.chosen is not None and advice.chosen.detector == name:
        return advice.chosen
    own = [o for o in advice.outcomes if o.detector == name]
    within = [o for o in own if o.per_hour <= advice.budget_per_hour]
    if within:
        return min(within, key=lambda o: (o.silent.median_s, o.silent.worst_s))
    return min(own, key=lambda o: (o.mistakes, o.silent.median_s))


def _names(advice: Advice) -> tuple[str, ...]:
    return tuple(dict.fromkeys(o.detector for o in advice.outcomes))


def _cells(outcome: Outcome) -> tuple[str, ...]:
    return (
        outcome.detector,
        outcome.words,
        _seconds(outcome.silent.median_s),
        _seconds(outcome.silent.worst_s),
        format_count(outcome.mistakes),
        _rate(outcome.per_hour),
        _rate(outcome.bound_per_hour),
    )


def _seconds(seconds: float) -> str:
    return format_ms(seconds * 1000) if math.isfinite(seconds) else "never"


def _rate(per_hour: float) -> str:
    if not math.isfinite(per_hour):
        return NONE
    return "0" if per_hour == 0 else f"{per_hour:,.0f}" if per_hour >= 100 else f"{per_hour:.2g}"


def _sections(advice: Advice) -> list[Markup]:
    figures = Markup().join(_figure(advice, size) for size in SIZES)
    caption = (
        "One point a setting. Left is faster: the median time until a death without a word is suspected, the "
        "trace being cut at many points as if the target had died there. Low is better: suspicions of a target "
        f"that lived, in {advice.hours * 60:,.3g} min of healthy recording. The ring is the advice."
    )
    return [
        el("section", _legend(advice), el("figure", figures, el("figcaption", caption))),
        el("section", el("h2", "Best setting of each detector"), _html_table(best(advice), advice)),
        el(
            "section",
            el("details", el("summary", "All settings tried"), _html_table(advice.outcomes, advice)),
        ),
    ]


def _legend(advice: Advice) -> Markup:
    def item(name: str, cls: str) -> Markup:
        stroke = el("svg", line(1, 5, 33, 5, "stroke"), viewBox="0 0 34 10", aria_hidden="true")
        return el("li", stroke, name, cls=cls)

    return el("ul", *(item(n, c) for n, c in zip(_names(advice), _CLASSES, strict=False)), cls="legend")


def _html_table(outcomes: Sequence[Outcome], advice: Advice) -> Markup:
    heads = [
        el("th", h.capitalize(), scope="col", cls="num" if i > 1 else None) for i, h in enumerate(HEADINGS)
    ]
    rows = []
    for outcome in outcomes:
        name, *cells = _cells(outcome)
        body = [el("td", c, cls="num" if i else None) for i, c in enumerate(cells)]
        cls = "chosen" if outcome is advice.chosen else None
        rows.append(el("tr", el("th", name, scope="row"), *body, cls=cls))
    inner = el("table", el("thead", el("tr", *heads)), el("tbody", *rows), cls="data")
    return el("div", inner, cls="scroll", tabindex="0", role="region", aria_label="Table of settings")


@dataclass(frozen=True, slots=True)
class _Axes:
    """Where figures lie in a picture, px."""

    size: Size
    x: Log
    y: Log
    none: float
    names: tuple[str, ...]

    def place(self, outcome: Outcome) -> tuple[float, float]:
        """The point of an outcome; without a mistake it lies in its detector's lane of the row below the scale."""
        lane = self.none + LANE * (self.names.index(outcome.detector) - (len(self.names) - 1) / 2)
        height = self.y(outcome.per_hour) if outcome.mistakes else lane
        return self.x(max(outcome.silent.median_s * 1000, 1.0)), height


def _axes(advice: Advice, size: Size) -> _Axes:
    times = [max(o.silent.median_s * 1000, 1.0) for o in _shown(advice)] or [1.0, 1000.0]
    rates = [o.per_hour for o in _shown(advice) if o.mistakes] or [1.0]
    low, high = decades(min(rates), max(rates))
    bottom = size.height - AXIS - ROW
    x = Log(min(times) * 0.85, max(times) * 1.15, size.left, size.width - 18)
    return _Axes(size, x, Log(low, high, bottom - 8, TOP), bottom + ROW / 2, _names(advice))


def _shown(advice: Advice) -> list[Outcome]:
    return [o for o in advice.outcomes if math.isfinite(o.silent.median_s)]


def _figure(advice: Advice, size: Size) -> Markup:
    axes = _axes(advice, size)
    body = [*_grid(advice, axes), *_budget(advice, axes)]
    for name, cls in zip(_names(advice), _CLASSES, strict=False):
        own = [o for o in _shown(advice) if o.detector == name]
        points = [axes.place(o) for o in own]
        path = "L".join(f"{number(x)} {number(y)}" for x, y in points)
        if path:
            body.append(el("path", d=f"M{path}", cls=f"curve {cls}"))
        body += [_point(o, *at, cls) for o, at in zip(own, points, strict=True)]
    if advice.chosen is not None and math.isfinite(advice.chosen.silent.median_s):
        body += _ring(advice.chosen, axes)
    title = "Detection time against mistakes an hour"
    return drawing(
        f"advise-{size.cls}", size.width, size.height, title, _describe(advice), f"plot {size.cls}", body
    )


def _grid(advice: Advice, axes: _Axes) -> list[Markup]:
    size, bottom = axes.size, axes.none + ROW / 2
    right = size.width - 18
    span = float(right - size.left)
    parts = [el("rect", x=float(size.left), y=bottom - ROW, width=span, height=float(ROW), cls="none")]
    for tick in _ticks(axes.x, size.ticks):
        parts += [
            line(axes.x(tick), TOP, axes.x(tick), bottom, "grid"),
            text(axes.x(tick), bottom + 17, format_tick(tick), "tick", "middle"),
        ]
    for tick in log_ticks(axes.y.low, axes.y.high, 7):
        parts += [
            line(size.left, axes.y(tick), right, axes.y(tick), "grid"),
            text(size.left - 8, axes.y(tick) + 4, f"{tick:,g}", "tick", "end"),
        ]
    longest = max((o.hours for o in advice.outcomes), default=0.0)
    bound = f"\u2264 {_rate(2.996 / longest)}" if longest > 0 else ""
    return [
        *parts,
        text(size.left - 8, axes.none, "0", "tick", "end"),
        text(size.left - 8, axes.none + 14, bound, "tick", "end"),
        line(size.left, bottom, right, bottom, "axis"),
        text(size.left, TOP - 12, "mistakes an hour", "panel-title"),
        text(right, bottom + 35, "median time until a silent death is suspected", "panel-title", "end")
        if size.width > 400
        else text(right, bottom + 35, "time until suspected", "panel-title", "end"),
    ]


def _ticks(scale: Log, count: int) -> list[float]:
    """1, 2 and 5 times powers of ten within the scale, or powers alone where there is little room."""
    powers = range(math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [f * 10.0**p for p in powers for f in factors if scale.low <= f * 10.0**p <= scale.high]
        if len(ticks) <= count:
            break
    return ticks


def _budget(advice: Advice, axes: _Axes) -> list[Markup]:
    budget = advice.budget_per_hour
    if not axes.y.low <= budget <= axes.y.high:
        return []
    right = axes.size.width - 18
    return [
        line(axes.size.left, axes.y(budget), right, axes.y(budget), "limit"),
        text(right, axes.y(budget) - 5, f"budget {_rate(budget)}/h", "limit-label", "end"),
    ]


def _point(outcome: Outcome, x: float, y: float, cls: str) -> Markup:
    words = (
        f"{outcome.detector}, {outcome.words}: {_seconds(outcome.silent.median_s)}, "
        f"{_rate(outcome.per_hour)} mistakes an hour"
    )
    return el("circle", el("title", words), cx=x, cy=y, r=4.0, cls=f"point {cls}")


def _ring(chosen: Outcome, axes: _Axes) -> list[Markup]:
    x, y = axes.place(chosen)
    words = f"{chosen.detector}, {chosen.words}"
    flipped = x + 12 + text_px(words) > axes.size.width - 18
    at = x - 12 if flipped else x + 12
    # Above the points of its own row, and of the other detectors' lanes.
    above = axes.none - ROW / 2 - 5 if not chosen.mistakes else y - 10
    return [
        el("circle", cx=x, cy=y, r=8.0, cls="ring"),
        text(at, above, words, "limit-label", "end" if flipped else None),
    ]


def _describe(advice: Advice) -> str:
    return " ".join(
        f"{o.detector}: {o.words}, suspected after {_seconds(o.silent.median_s)} with "
        f"{_rate(o.per_hour)} mistakes an hour."
        for o in best(advice)
    )

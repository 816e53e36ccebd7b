"""The picture of one trial: small panels above each other that share one time axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from haops.drills.result import Timeline, Trial, TrialEvent
from haops.report.scale import Linear, Log, decades, log_ticks, nice_ceiling, nice_step, nice_ticks
from haops.report.svg import Label, drawing, el, line, place_labels, step_area, step_line, text, text_px
from haops.report.text import format_count, format_ms, format_since, format_tick, printable

LEFT, RIGHT = 58, 14
LANE, TITLE, GAP, AXIS = 17, 21, 8, 40
# Beyond this, labels would push the plot off the screen; the table of events has them all.
MAX_LABELS = 12
MAX_WORDS = 20


@dataclass(frozen=True, slots=True)
class Size:
    """A width in px for which the picture is laid out; the style sheet shows the one that fits."""

    cls: str
    width: int
    panel: int
    buckets: int


SIZES = (Size("wide", 1080, 88, 500), Size("middle", 660, 76, 300), Size("narrow", 320, 64, 130))


@dataclass(frozen=True, slots=True)
class Series:
    """A timeline as rates, with buckets merged so that none is narrower than a pixel.

    Args:
        edges: Borders of the buckets in s; one more than values.
        writes: Successful writes a second.
        reads: Successful reads a second.
        failed: Failed or unknown operations a second.
        p99_ms: The highest p99 among the merged buckets; None where there was no success.
    """

    edges: tuple[float, ...]
    writes: tuple[float, ...]
    reads: tuple[float, ...]
    failed: tuple[float, ...]
    p99_ms: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One of the stacked plots."""

    name: str
    cls: str
    values: tuple[float | None, ...]
    scale: Linear | Log
    ticks: tuple[float, ...]
    duration: bool


def merge(timeline: Timeline, limit: int) -> Series:
    """Merge neighbouring buckets evenly until at most `limit` are left."""
    count = len(timeline.ok_writes)
    every = max(1, math.ceil(count / limit))
    starts = range(0, count, every)

    def rate(counts: Sequence[int]) -> tuple[float, ...]:
        # The last group may be shorter, and must not look as if the load had dropped.
        return tuple(
            sum(part) / (len(part) * timeline.bucket_s) for part in (counts[i : i + every] for i in starts)
        )

    def highest(values: Sequence[float | None]) -> tuple[float | None, ...]:
        groups = ([v for v in values[i : i + every] if v is not None] for i in starts)
        return tuple(max(group, default=None) for group in groups)

    edges = (*(i * timeline.bucket_s for i in starts), count * timeline.bucket_s)
    return Series(
        edges,
        rate(timeline.ok_writes),
        rate(timeline.ok_reads),
        rate(timeline.failed),
        highest(timeline.p99_ms),
    )


def fault_at(trial: Trial) -> float | None:
    """When the fault was made, in s since the start of load."""
    return min((e.at_s for e in trial.events if e.kind == "fault"), default=None)


def outage_span(trial: Trial) -> tuple[float, float] | None:
    """Begin and end of the outage in s since the start of load: the phase `during`.

    Without that phase it reaches from the fault to the writes' recovery, or to
    the end of the record if they never came back.
    """
    for phase in trial.phases:
        if phase.name == "during":
            return phase.start_s, phase.end_s
    fault = fault_at(trial)
    if fault is None:
        return None
    if trial.write_recovery_ms is not None:
        return fault, fault + trial.write_recovery_ms / 1000
    if trial.write_outage_ms is None:
        return fault, trial.timeline.bucket_s * len(trial.timeline.ok_writes)
    return None


def has_timeline(trial: Trial) -> bool:
    """Whether there is anything to draw."""
    return bool(trial.timeline.ok_writes) and trial.timeline.bucket_s > 0


def timeline_figures(trial: Trial, ident: str, title: str) -> Markup:
    """The picture in each of the sizes; empty if no timeline was recorded.

    Args:
        ident: Prefix of the ids in the document; unique in it.
    """
    if not has_timeline(trial):
        return Markup()
    return Markup().join(_figure(trial, f"{ident}-{size.cls}", title, size) for size in SIZES)


def _figure(trial: Trial, ident: str, title: str, size: Size) -> Markup:
    series = merge(trial.timeline, size.buckets)
    x = Linear(0.0, series.edges[-1], LEFT, size.width - RIGHT)
    labels = _labels(trial, x, size)
    head = LANE * (1 + max((a.lane for a in labels), default=-1)) + 4
    pitch = TITLE + size.panel + GAP
    panels = _panels(series, size)
    bottom = head + pitch * len(panels) - GAP
    # Marks come before the panels, so that no line runs through a panel's words.
    body = [_shade(trial, x, head, bottom), *(_marker(a, bottom) for a in labels)]
    body += [_panel(p, series, x, head + i * pitch + TITLE, size) for i, p in enumerate(panels)]
    body += [_time_axis(x, bottom, size), _gap_words(trial, x, head + TITLE + size.panel / 2)]
    # The script moves this line under the pointer; without a script it stays out of sight.
    body.append(line(LEFT, head, LEFT, bottom, "cursor"))
    return drawing(ident, size.width, bottom + AXIS, title, _describe(trial), f"plot {size.cls}", body)


def _panels(series: Series, size: Size) -> list[Panel]:
    # Writes and reads share a scale so that they can be compared.
    top = nice_ceiling(max((*series.writes, *series.reads)), 3)
    failed_top = nice_ceiling(max(series.failed), 3)
    known = [v for v in series.p99_ms if v is not None and v > 0]
    low, high = decades(min(known), max(known)) if known else (1.0, 10.0)

    def counts(name: str, cls: str, values: tuple[float, ...], high: float) -> Panel:
        return Panel(
            name, cls, values, Linear(0.0, high, size.panel, 0.0), tuple(nice_ticks(high, 3)), duration=False
        )

    return [
        counts("Successful writes a second", "writes", series.writes, top),
        counts("Successful reads a second", "reads", series.reads, top),
        counts("Failed or unknown a second", "failed", series.failed, failed_top),
        Panel(
            "p99 latency (log scale)",
            "p99",
            series.p99_ms,
            Log(low, high, size.panel, 0.0),
            tuple(log_ticks(low, high, 4)),
            duration=True,
        ),
    ]


def _panel(panel: Panel, series: Series, x: Linear, top: float, size: Size) -> Markup:
    right = size.width - RIGHT
    parts = [text(LEFT, top - 7, panel.name, "panel-title")]
    for tick in panel.ticks:
        y = panel.scale(tick)
        words = format_tick(tick) if panel.duration else _short(tick)
        parts += [
            line(LEFT, top + y, right, top + y, "grid"),
            text(LEFT - 7, top + y + 4, words, "tick", "end"),
        ]
    known = [v for v in panel.values if v is not None]
    if panel.duration:
        path, cls = step_line(series.edges, panel.values, x, panel.scale), "line"
    else:
        path, cls = step_area(series.edges, known, x, panel.scale), "area"
    data = [el("path", d=path, cls=f"{cls} {panel.cls}")]
    if not any(known):
        words = "no success, so no latency" if panel.duration else "none"
        data.append(text(right - 4, size.panel - 6, words, "note", "end"))
    return el(
        "g",
        *parts,
        el("g", *data, transform=f"translate(0 {top:g})"),
        line(LEFT, top + size.panel, right, top + size.panel, "axis"),
    )


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 10_000 else f"{value:,g}" if value < 1 else format_count(value)


def _shade(trial: Trial, x: Linear, top: float, bottom: float) -> Markup:
    span = outage_span(trial)
    if span is None:
        return Markup()
    left, right = x(span[0]), x(span[1])
    return el(
        "rect", x=left, y=float(top), width=max(right - left, 1.0), height=float(bottom - top), cls="outage"
    )


def _gap_words(trial: Trial, x: Linear, y: float) -> Markup:
    """The outage's length written into the empty stretch of the writes, if there is room for it."""
    span = outage_span(trial)
    if span is None:
        return Markup()
    room, middle = x(span[1]) - x(span[0]) - 12, (x(span[0]) + x(span[1])) / 2
    figure = format_ms(trial.write_outage_ms)
    options = (
        ("writes never came back", "no writes")
        if trial.write_outage_ms is None
        else (f"{figure} without a write", figure)
    )
    for words in options:
        if text_px(words) <= room:
            return text(middle, y + 4, words, "gap", "middle")
    return Markup()


def _labels(trial: Trial, x: Linear, size: Size) -> list[Label]:
    fault = fault_at(trial)
    wanted = []
    for events in _groups(trial, x.high * 0.02)[:MAX_LABELS]:
        first = events[0]
        kind = printable(first.kind)[:MAX_WORDS]
        words = kind if len(events) == 1 else f"{kind} \u00d7{len(events)}"
        if size.cls != "narrow" and fault is not None and first.kind != "fault":
            words += f" {format_since(first.at_s - fault)}"
        wanted.append((x(first.at_s), words))
    return place_labels(wanted, size.width - RIGHT)


def _groups(trial: Trial, near_s: float) -> list[list[TrialEvent]]:
    """Events by time; those of one kind that follow each other at once share a label."""
    groups: list[list[TrialEvent]] = []
    for event in sorted(trial.events, key=lambda e: e.at_s):
        last = groups[-1] if groups else None
        if last and last[0].kind == event.kind and event.at_s - last[0].at_s <= near_s:
            last.append(event)
        else:
            groups.append([event])
    return groups


def _marker(label: Label, bottom: float) -> Markup:
    y = label.lane * LANE + 13
    cls = "fault" if label.words == "fault" else "event"
    end = label.left if not label.flipped else label.right
    return el(
        "g",
        line(label.x, y - 10, label.x, bottom, "mark"),
        text(end, y, label.words, "mark-label", "end" if label.flipped else None),
        cls=cls,
    )


def _time_axis(x: Linear, y: float, size: Size) -> Markup:
    step = nice_step(x.high, 12 if size.cls == "wide" else 8 if size.cls == "middle" else 5)
    parts = []
    for i in range(math.floor(x.high / step * (1 + 1e-9)) + 1):
        at = i * step
        parts += [line(x(at), y, x(at), y + 4, "axis"), text(x(at), y + 17, f"{at:g}", "tick", "middle")]
    words = "seconds since the start of load"
    return el("g", *parts, text((LEFT + size.width - RIGHT) / 2, y + 34, words, "tick", "middle"))


def _describe(trial: Trial) -> str:
    fault, span = fault_at(trial), outage_span(trial)
    parts = ["Successful writes, successful reads, failed or unknown operations and p99 latency over time."]
    if fault is not None:
        parts.append(f"Fault at {fault:.2f} s on {printable(trial.node)}.")
    if span is not None:
        parts.append(f"Outage from {span[0]:.2f} s to {span[1]:.2f} s.")
    parts.append(
        f"Write outage {format_ms(trial.write_outage_ms)}, read outage {format_ms(trial.read_outage_ms)}."
    )
    return " ".join(parts)

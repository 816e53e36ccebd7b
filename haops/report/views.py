"""What the HTML report shows, worked out beforehand so that the template only lays it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from haops.drills.result import DrillResult, DrillVerdict, Phase, StoreResult, Trial, TrialEvent
from haops.report.strip import strip_figures
from haops.report.text import (
    NONE,
    STORE_TITLES,
    format_count,
    format_ms,
    format_rate,
    format_since,
    missing,
    why_no_reads,
    why_no_writes,
)
from haops.report.timeline import LEFT, RIGHT, fault_at, merge, outage_span, timeline_figures

# What the script reads out under the pointer; finer than anybody can point.
_READOUT_BUCKETS = 600


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a trial, formatted, with its explanation."""

    name: str
    value: str
    meaning: str


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """A budget against what was measured in the worst trial.

    Args:
        state: within, over, unmeasured or unlimited; also the words for it.
    """

    name: str
    measured: str
    limit: str
    state: str


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event, and how far it is from the fault."""

    event: TrialEvent
    since: str


@dataclass(frozen=True, slots=True)
class TrialView:
    """One trial as it is shown.

    Args:
        readout: Data for the script: borders in s, the rates between them, the plot's margins in px.
        opened: Shown without a click: the worst trial.
    """

    trial: Trial
    anchor: str
    opened: bool
    headline: str
    figures: tuple[Figure, ...]
    plot: Markup
    readout: dict[str, object]
    outage: str
    phases: tuple[Phase, ...]
    events: tuple[EventRow, ...]
    errors: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class StoreView:
    """One store as it is shown."""

    store: StoreResult
    title: str
    budgets: tuple[BudgetRow, ...]
    strip: Markup
    trials: tuple[TrialView, ...]


def store_views(result: DrillResult) -> tuple[StoreView, ...]:
    """One view a store, in the order of the run."""
    return tuple(_store_view(store) for store in result.stores.values())


def verdict_sentence(result: DrillResult) -> str:
    """The verdict in words, naming the stores it rests on."""
    words = {
        DrillVerdict.FAIL: "went over a budget",
        DrillVerdict.UNKNOWN: "could not be judged",
        DrillVerdict.PASS: "kept every budget",
    }
    parts = []
    for verdict, phrase in words.items():
        names = [STORE_TITLES[s.store] for s in result.stores.values() if s.verdict is verdict]
        if names:
            parts.append(f"{_and(names)} {phrase}")
    return "; ".join(parts) + "." if parts else "No store was run."


def worst_trial(store: StoreResult) -> Trial | None:
    """The trial to look at first: the worst verdict, then the most lost, then the longest outage."""
    severity = {DrillVerdict.PASS: 0, DrillVerdict.UNKNOWN: 1, DrillVerdict.FAIL: 2}

    def badness(trial: Trial) -> tuple[int, int, float, int]:
        outage = float("inf") if trial.write_outage_ms is None else trial.write_outage_ms
        return severity[trial.verdict], trial.lost, outage, -trial.number

    return max(store.trials, key=badness, default=None)


def _store_view(store: StoreResult) -> StoreView:
    title = STORE_TITLES[store.store]
    several, worst = len(store.trials) > 1, worst_trial(store)
    strip = strip_figures(store, f"{store.store.value}-strip", f"{title}: outage of each trial")
    return StoreView(
        store=store,
        title=title,
        budgets=_budgets(store),
        strip=strip if several else Markup(),
        trials=tuple(_trial_view(store, t, opened=t is worst) for t in store.trials),
    )


def _budgets(store: StoreResult) -> tuple[BudgetRow, ...]:
    trials, budget = store.trials, store.budget
    lost = None if budget.lost is None else format_count(budget.lost)
    lost_state = "unmeasured" if not store.acked else "unlimited" if budget.lost is None else "within"
    if budget.lost is not None and store.lost > budget.lost:
        lost_state = "over"
    lag = max((t.harness_lag_ms for t in trials), default=None)
    return (
        _outage_budget(
            "Write outage", [(t.write_outage_ms, why_no_writes(t)) for t in trials], budget.write_outage_ms
        ),
        _outage_budget(
            "Read outage", [(t.read_outage_ms, why_no_reads(t)) for t in trials], budget.read_outage_ms
        ),
        BudgetRow(
            "Lost writes",
            format_count(store.lost) if trials else missing("no trial"),
            lost or "no limit",
            lost_state,
        ),
        _outage_budget("Harness lag", [(lag, "no trial")] if lag is not None else [], budget.harness_lag_ms),
    )


def _outage_budget(name: str, figures: Sequence[tuple[float | None, str]], limit: float | None) -> BudgetRow:
    """The worst of the trials decides: one that never came back is worse than any duration."""
    shown = "no limit" if limit is None else format_ms(limit)
    reasons = [why for value, why in figures if value is None]
    known = [value for value, _ in figures if value is not None]
    never = "never came back" in reasons
    if never or not known:
        measured = missing("never came back" if never else reasons[0] if reasons else "no trial")
    else:
        measured = format_ms(max(known))
    if limit is None:
        state = "unlimited"
    elif never:
        state = "over"
    elif not known:
        state = "unmeasured"
    else:
        state = "over" if max(known) > limit else "within"
    return BudgetRow(name, measured, shown, state)


def _trial_view(store: StoreResult, trial: Trial, *, opened: bool) -> TrialView:
    anchor = f"{store.store.value}-{trial.number}"
    fault, span = fault_at(trial), outage_span(trial)
    write = format_ms(trial.write_outage_ms) if trial.write_outage_ms is not None else why_no_writes(trial)
    title = f"{STORE_TITLES[store.store]}, trial {trial.number}: what clients saw"
    events = sorted(trial.events, key=lambda e: e.at_s)
    return TrialView(
        trial=trial,
        anchor=anchor,
        opened=opened,
        headline=f"write outage {write}, {format_count(trial.lost)} lost",
        figures=_figures(trial),
        plot=timeline_figures(trial, anchor, title),
        readout=_readout(trial, fault),
        outage=f"{span[0]:.2f}{NONE}{span[1]:.2f} s" if span else "",
        phases=trial.phases,
        events=tuple(
            EventRow(e, format_since(e.at_s - fault) if fault is not None else NONE) for e in events
        ),
        errors=tuple(sorted(trial.errors.items(), key=lambda item: (-item[1], item[0]))),
    )


def _readout(trial: Trial, fault: float | None) -> dict[str, object]:
    if not trial.timeline.ok_writes or trial.timeline.bucket_s <= 0:
        return {}
    series = merge(trial.timeline, _READOUT_BUCKETS)
    return {
        "edges": [round(e, 3) for e in series.edges],
        "writes": [round(v, 1) for v in series.writes],
        "reads": [round(v, 1) for v in series.reads],
        "failed": [round(v, 1) for v in series.failed],
        "p99": [None if v is None else round(v, 2) for v in series.p99_ms],
        "fault": fault,
        "margins": [LEFT, RIGHT],
    }


def _figures(trial: Trial) -> tuple[Figure, ...]:
    return (*_durations(trial), *_counts(trial))


def _durations(trial: Trial) -> tuple[Figure, ...]:
    def ms(value: float | None, why: str) -> str:
        return missing(why) if value is None else format_ms(value)

    no_write, no_read = why_no_writes(trial), why_no_reads(trial)
    return (
        Figure(
            "Write outage", ms(trial.write_outage_ms, no_write), "Longest gap between two successful writes."
        ),
        Figure("Read outage", ms(trial.read_outage_ms, no_read), "Longest gap between two successful reads."),
        Figure(
            "Write recovery",
            ms(trial.write_recovery_ms, no_write),
            "From the fault to the first successful write that was sent after it.",
        ),
        Figure(
            "Read recovery",
            ms(trial.read_recovery_ms, no_read),
            "From the fault to the first successful read that was sent after it.",
        ),
        Figure(
            "Worst client",
            ms(trial.worst_client_outage_ms, no_write),
            "The longest gap that a single client saw between its own writes.",
        ),
        Figure("Detected", ms(trial.detected_ms, "not seen"), "First server's word that the node is gone."),
        Figure(
            "Promoted", ms(trial.promoted_ms, "no role moved"), "The successor's own word that it took over."
        ),
    )


def _counts(trial: Trial) -> tuple[Figure, ...]:
    return (
        Figure("Acknowledged", format_count(trial.acked), "Writes that the store confirmed."),
        Figure("Lost", format_count(trial.lost), "Confirmed writes that were not found afterwards."),
        Figure(
            "Unknown / appeared",
            f"{format_count(trial.unknown)} / {format_count(trial.appeared)}",
            "Writes without a clear answer, and how many of them were found afterwards.",
        ),
        Figure("Failed", format_count(trial.failed), "Operations that the store refused or that broke."),
        Figure(
            "Stale reads",
            format_count(trial.stale_reads),
            "Reads that missed a write confirmed to the same client.",
        ),
        Figure(
            "Harness lag", format_ms(trial.harness_lag_ms), "How late haops itself sent operations (p99)."
        ),
        Figure(
            "Load sent / asked for",
            f"{format_rate(trial.sent_ops)} / {format_rate(trial.offered_ops)}",
            "Operations a second before the fault, against the schedule.",
        ),
    )


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

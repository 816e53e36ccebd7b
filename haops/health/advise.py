"""Which detector to set, and how: the fastest that errs seldom enough, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from haops.errors import BadInput
from haops.health.replay import Outcome, rate_bound
from haops.health.sweep import Grid, sweep
from haops.health.trace import Trace

# One false alarm a day.
BUDGET_PER_HOUR: Final = 1 / 24


@dataclass(frozen=True, slots=True)
class Advice:
    """What a trace says about detectors.

    Args:
        target: Who was probed.
        hours: Healthy time in the trace.
        budget_per_hour: Mistakes an hour that are allowed.
        outcomes: Everything that was tried, by detector and threshold.
        chosen: The fastest within the budget; None if there is none.
        proven: Whether the trace is long enough to prove the budget at 95 % confidence.
        words: The advice in sentences, with what the trace cannot tell.
    """

    target: str
    hours: float
    budget_per_hour: float
    outcomes: tuple[Outcome, ...]
    chosen: Outcome | None
    proven: bool
    words: tuple[str, ...]


def advise(trace: Trace, budget_per_hour: float = BUDGET_PER_HOUR, grid: Grid | None = None) -> Advice:
    """Try everything on a trace and pick.

    Fastest is the least median time until a silent death is suspected; what
    refuses probes is noticed equally fast at all settings.

    Args:
        budget_per_hour: Mistakes an hour that are allowed, default one a day.

    Raises:
        BadInput: The budget is below 0, or the trace has fewer than two answers.
    """
    if budget_per_hour < 0:
        raise BadInput(
            f"a budget of {budget_per_hour} mistakes an hour cannot be met", hint="allowed: from 0"
        )
    outcomes = sweep(trace, grid)
    hours = outcomes[0].hours if outcomes else 0.0
    within = [o for o in outcomes if o.per_hour <= budget_per_hour]
    # Equal medians: the better worst case wins, then the one that erred less.
    chosen = min(within, key=lambda o: (o.silent.median_s, o.silent.worst_s, o.mistakes), default=None)
    proven = chosen is not None and chosen.bound_per_hour <= budget_per_hour
    words = _words(chosen, hours, budget_per_hour, proven=proven)
    return Advice(trace.target, hours, budget_per_hour, outcomes, chosen, proven, words)


def _words(chosen: Outcome | None, hours: float, budget: float, *, proven: bool) -> tuple[str, ...]:
    if chosen is None:
        return (
            f"No setting erred at most {_rate(budget)} in this trace of {_long(hours)}.",
            "Allow more mistakes, or find out what holds the target or this observer up.",
        )
    seen = "no mistake" if chosen.mistakes == 0 else _plural(chosen.mistakes, "mistake")
    lead = "Set" if proven else "The fastest within the budget in this trace is to set"
    first = (
        f"{lead} {chosen.detector} to {chosen.words}: a silent death is suspected after {chosen.silent.median_s:.2f} s "
        f"(worst {chosen.silent.worst_s:.2f} s), with {seen} in {_long(hours)}."
    )
    if proven:
        return (
            first,
            f"The trace is long enough to say so: at 95 % confidence at most {_rate(chosen.bound_per_hour)}.",
        )
    second = (
        f"The trace is too short to prove {_rate(budget)}: at 95 % confidence it only rules out more than "
        f"{_rate(chosen.bound_per_hour)}."
    )
    if budget <= 0:
        return (first, second)
    need = rate_bound(0, 1.0) / budget
    return (first, second, f"{_long(need)} without a mistake would prove it.")


def _rate(per_hour: float) -> str:
    if per_hour <= 0:
        return "0 mistakes an hour"
    if per_hour >= 0.995:
        return f"{per_hour:,.3g} mistakes an hour"
    return f"1 mistake in {_long(1 / per_hour)}"


def _long(hours: float) -> str:
    if hours >= 48:
        return f"{hours / 24:.3g} days"
    if hours >= 1:
        return f"{hours:.3g} h"
    return f"{hours * 60:.3g} min" if hours * 60 >= 1 else f"{hours * 3600:.3g} s"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"

"""A trial's verdict: its figures against its budget, three-valued; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from haops.checkers.elements import Elements
from haops.drills.result import Budget, DrillVerdict

# A load that ran below this share of its rate before the fault proves nothing about the fault.
_MIN_RATE: Final = 0.95
# A healthy cluster answers nearly every operation of the steady state.
_MAX_FAILED_SHARE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Figures:
    """What a verdict rests on; ms and operations a second.

    Args:
        reads: Reads that were tried; a load of writes alone has none to come back.
    """

    write_outage_ms: float | None
    read_outage_ms: float | None
    reads: int
    elements: Elements
    harness_lag_ms: float
    offered_ops: float
    sent_ops: float
    done_before: int
    failed_before: int
    rejoined: bool


def judge(figures: Figures, budget: Budget) -> tuple[DrillVerdict, tuple[str, ...]]:
    """Pass, fail or unknown, with the reasons for what is not a pass.

    A loss beyond the budget, and what never came back, is a failure whatever the
    harness did. Times are judged only if the harness kept up: otherwise the drill
    cannot tell.
    """
    certain = [*_losses(figures.elements, budget), *_never_back(figures)]
    doubts = _doubts(figures, budget)
    if certain:
        return DrillVerdict.FAIL, (*certain, *(doubts or _overruns(figures, budget)))
    if doubts:
        return DrillVerdict.UNKNOWN, tuple(doubts)
    overruns = _overruns(figures, budget)
    if overruns:
        return DrillVerdict.FAIL, tuple(overruns)
    return DrillVerdict.PASS, ()


def _losses(elements: Elements, budget: Budget) -> list[str]:
    found = []
    if budget.lost is not None and len(elements.lost) > budget.lost:
        found.append(f"{len(elements.lost)} acknowledged writes are lost; the budget is {budget.lost}")
    if elements.resurrected:
        found.append(f"{len(elements.resurrected)} writes that had failed are there all the same")
    return found


def _doubts(figures: Figures, budget: Budget) -> list[str]:
    found = []
    if figures.harness_lag_ms > budget.harness_lag_ms:
        found.append(
            f"the harness fell behind: p99 lag {figures.harness_lag_ms:.1f} ms, allowed {budget.harness_lag_ms:g} ms"
        )
    if figures.sent_ops < _MIN_RATE * figures.offered_ops:
        found.append(
            f"only {figures.sent_ops:.0f} of {figures.offered_ops:.0f} operations/s were done before the fault"
        )
    if figures.failed_before > _MAX_FAILED_SHARE * figures.done_before:
        failed = f"{figures.failed_before} of {figures.done_before} operations"
        found.append(f"{failed} failed before the fault: no steady state")
    return found


def _overruns(figures: Figures, budget: Budget) -> list[str]:
    found = []
    limits = (
        ("writes", figures.write_outage_ms, budget.write_outage_ms),
        ("reads", figures.read_outage_ms, budget.read_outage_ms),
    )
    for what, outage, limit in limits:
        if outage is not None and limit is not None and outage > limit:
            found.append(f"{what} were out for {outage:.0f} ms; the budget is {limit:.0f} ms")
    return found


def _never_back(figures: Figures) -> list[str]:
    found = []
    if figures.write_outage_ms is None:
        found.append("writes did not come back")
    if figures.reads and figures.read_outage_ms is None:
        found.append("reads did not come back")
    if not figures.rejoined:
        found.append("the cluster was not healthy again in time")
    return found

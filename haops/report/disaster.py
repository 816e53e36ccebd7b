"""A disaster drill's result as one HTML file, without a script."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from haops.drills.disaster_result import DisasterResult, DisasterTrial
from haops.drills.result import DrillVerdict
from haops.report import disaster_text as words
from haops.report.disaster_strip import course_figures
from haops.report.page import policy, resource, template
from haops.report.text import NONE, STORE_TITLES, Term, format_count
from haops.report.views import BudgetRow, Figure

# "5.20 s / 1 min 28 s" may break at the slash, never between number and unit.
_JOINT: Final = re.compile(r"(?<=\w) (?=/)|(?<=\d) (?=[^\W\d])|(?<=min) (?=\d)|(?<= h) (?=\d)")


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure of the summary; `bad` is what may not be."""

    term: Term
    value: str
    bad: bool


@dataclass(frozen=True, slots=True)
class StoreView:
    """One store as it is shown.

    Args:
        answer: The drill's answer for it, in one sentence.
        course: The picture of the run; empty if it cannot be drawn.
        why: Said where there are no reasons.
        compared: What the comparison with the backup found, in a sentence.
    """

    trial: DisasterTrial
    title: str
    verdict: str
    cells: tuple[Cell, ...]
    answer: str
    why: str
    budgets: tuple[BudgetRow, ...]
    course: Markup
    figures: tuple[Figure, ...]
    lost: str
    compared: str


def render(result: DisasterResult) -> str:
    """The text of report.html; the same result always gives the same text."""
    style = resource("report.css") + resource("disaster.css")
    return template("disaster.html.j2").render(
        result=result,
        style=Markup(style),  # noqa: S704 - this package's own files
        policy=policy(style),
        sentence=words.verdict_sentence(result),
        glossary=words.GLOSSARY,
        stores=[_view(trial, row) for trial, row in zip(result.stores, words.rows(result), strict=True)],
    )


def _view(trial: DisasterTrial, row: words.DisasterRow) -> StoreView:
    title = STORE_TITLES[trial.store]
    passed = trial.verdict is DrillVerdict.PASS
    return StoreView(
        trial=trial,
        title=title,
        verdict=row.verdict,
        cells=_cells(trial, row),
        answer=words.sentence(trial),
        why="Nothing is missing that the backup should have, and every figure is within its budget."
        if passed
        else "No reason was given.",
        budgets=_budgets(trial),
        course=course_figures(trial, f"{trial.store.value}-course", f"{title}: the run in time"),
        figures=_figures(trial),
        lost=_lost(trial),
        compared=_compared(trial),
    )


def _cells(trial: DisasterTrial, row: words.DisasterRow) -> tuple[Cell, ...]:
    bad = {"lost_before": trial.survival.lost_before > 0, "compared": trial.proof.differences > 0}
    return tuple(
        Cell(term, _JOINT.sub("\u00a0", getattr(row, term.key)), bad.get(term.key, False))
        for term in words.GLOSSARY
    )


def _budgets(trial: DisasterTrial) -> tuple[BudgetRow, ...]:
    point = trial.survival.recovery_point_s if trial.survival.acked else None
    return (
        _budget("Recovery time", trial.recovery_time_s, trial.budget.recovery_time_s),
        _budget("Recovery point", point, trial.budget.recovery_point_s),
        _zero("Lost from backup", trial.survival.lost_before, known=bool(trial.survival.acked_before)),
        _zero(
            "Differences",
            trial.proof.differences,
            known=bool(trial.proof.records) and not trial.proof.trouble,
        ),
    )


def _budget(name: str, measured_s: float | None, limit_s: float | None) -> BudgetRow:
    limit = "no limit" if limit_s is None else words.format_s(limit_s)
    if measured_s is None:
        state = "unmeasured"
    elif limit_s is None:
        state = "unlimited"
    else:
        state = "over" if measured_s > limit_s else "within"
    return BudgetRow(name, words.format_s(measured_s), limit, state)


def _zero(name: str, count: int, *, known: bool) -> BudgetRow:
    """What may not be at all; a count above 0 stands, whatever else is not known."""
    if count:
        return BudgetRow(name, format_count(count), "0", "over")
    return BudgetRow(name, "0" if known else NONE, "0", "within" if known else "unmeasured")


def _figures(trial: DisasterTrial) -> tuple[Figure, ...]:
    survived, seconds = trial.survival, words.format_s
    share = words.format_share(trial.p_recovered) if survived.acked else NONE
    return (
        Figure("Recovery time", seconds(trial.recovery_time_s), "From the disaster to a healthy cluster."),
        Figure("Recovery point", words.point_words(trial), "Newest acknowledged data that are gone."),
        Figure("P_r = 1 \u2212 P_l", share, "Share of the acknowledged writes that came back."),
        Figure("Destroy", seconds(trial.destroy_s), "Until every node and volume was gone."),
        Figure("Rebuild", seconds(trial.rebuild_s), "Until an empty cluster took writes."),
        Figure("Restore", seconds(trial.restore_s), "Until the backup was in and the cluster healthy."),
        Figure(
            "Backup",
            f"{words.format_bytes(trial.bytes)} in {seconds(trial.backup_s)}",
            "Made while clients were writing.",
        ),
        Figure("Acknowledged", format_count(survived.acked), "Writes confirmed before the disaster."),
        Figure(
            "Before the backup", format_count(survived.acked_before), "Of them, confirmed before it began."
        ),
        Figure("Lost", format_count(survived.lost), "Confirmed and not found after the restore."),
        Figure(
            "Unknown", format_count(survived.unknown), "Writes without a clear answer; never counted as lost."
        ),
    )


def _lost(trial: DisasterTrial) -> str:
    survived = trial.survival
    if not survived.acked:
        return "No write was acknowledged before the disaster, so none could be lost."
    if not survived.lost:
        return (
            f"Nothing: all {format_count(survived.acked)} acknowledged writes were found after the restore."
        )
    after = survived.lost - survived.lost_before
    parts = []
    if after:
        parts.append(
            f"{format_count(after)} {_were(after)} acknowledged after the backup had begun: a restore can only bring "
            "back what the backup has, so how often backups are made decides how many these are"
        )
    if survived.lost_before:
        parts.append(
            f"{format_count(survived.lost_before)} {_were(survived.lost_before)} acknowledged before the backup "
            "began and should be in it: the backup or the restore is at fault"
        )
    return (
        f"{format_count(survived.lost)} of {format_count(survived.acked)} acknowledged writes were not found "
        f"after the restore. {'. '.join(parts)}."
    )


def _compared(trial: DisasterTrial) -> str:
    proof = trial.proof
    if proof.differences:
        return (
            f"The restored cluster differs from the backup in {format_count(proof.differences)} of "
            f"{format_count(proof.records)} records."
        )
    if proof.trouble:
        return f"It could not be told whether they are equal: {proof.trouble}"
    if not proof.records:
        return "The backup had no record to compare with."
    return (
        f"They are equal: all {format_count(proof.records)} records of the backup are there, and no others"
        + (
            f", but for {format_count(proof.untold)} that were written while it was made."
            if proof.untold
            else "."
        )
        + (
            f" {format_count(proof.copies)} are not the same in all copies yet; a repair makes them so."
            if proof.copies
            else ""
        )
    )


def _were(count: int) -> str:
    return "was" if count == 1 else "were"

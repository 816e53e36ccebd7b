"""A disaster drill in words: figures that the report and the command line share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from haops.drills.disaster_result import DisasterResult, DisasterTrial, Proof
from haops.drills.result import DrillVerdict
from haops.report.text import NONE, STORE_TITLES, Term, format_count, format_ms, verdict_words

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_SHARE_DIGITS: Final = 4

GLOSSARY: Final = (
    Term(
        "recovery_time",
        "Recovery time",
        "From the moment the destruction began until the restored cluster was healthy (often called RTO).",
    ),
    Term(
        "parts",
        "Destroy / rebuild / restore",
        "The three parts of the recovery time: until every node and volume was gone, until an empty cluster "
        "took writes, and until the backup was in it and the cluster healthy.",
    ),
    Term(
        "point",
        "Recovery point",
        "How much of the newest data is gone: the acknowledged writes that were lost, and the time from the "
        "first of them to the disaster (often called RPO).",
    ),
    Term(
        "p_recovered",
        "P_r",
        "The share of the acknowledged writes that were found after the restore. P_r = 1 \u2212 P_l, and P_l is "
        "the lost writes divided by the acknowledged ones.",
    ),
    Term("acked", "Acknowledged", "Writes that the store confirmed to a client before the disaster."),
    Term("lost", "Lost", "Acknowledged writes that were not found after the restore."),
    Term(
        "lost_before",
        "Lost from backup",
        "Lost writes that were acknowledged before the backup began. The backup should have them, so a "
        "single one fails the drill.",
    ),
    Term("backup", "Backup", "Its size, and how long it took to make while clients were writing."),
    Term(
        "compared",
        "Compared",
        "How many records of the backup were compared with the restored cluster, and how many were missing, "
        "extra or unequal. Any difference fails the drill.",
    ),
)


@dataclass(frozen=True, slots=True)
class DisasterRow:
    """One store's line of the summary; every field is ready to be shown."""

    store: str
    verdict: str
    recovery_time: str
    parts: str
    point: str
    p_recovered: str
    acked: str
    lost: str
    lost_before: str
    backup: str
    compared: str


def rows(result: DisasterResult) -> tuple[DisasterRow, ...]:
    """One row a store, in the order of the run."""
    return tuple(_row(trial) for trial in result.stores)


def sentence(trial: DisasterTrial) -> str:
    """The answer in one sentence: how long, how much was lost, and the share that came back."""
    back = (
        f"{STORE_TITLES[trial.store]} was healthy again {format_s(trial.recovery_time_s)} after the "
        "destruction of all its nodes and volumes began"
    )
    survived = trial.survival
    if not survived.acked:
        return f"{back}, but no write had been acknowledged, so what a disaster loses is not known."
    share = f"P_r = 1 \u2212 P_l = {format_share(trial.p_recovered)}"
    of = f"of {format_count(survived.acked)} acknowledged {_writes(survived.acked)}"
    if not survived.lost:
        return f"{back}, and {of} none was lost ({share})."
    lost = f"{format_count(survived.lost)} {'was' if survived.lost == 1 else 'were'} lost"
    last = f"all from the last {format_s(survived.recovery_point_s)} before the disaster"
    early = (
        f", {format_count(survived.lost_before)} of them from before the backup"
        if survived.lost_before
        else ""
    )
    return f"{back}; {of} {lost}, {last}{early} ({share})."


def verdict_sentence(result: DisasterResult) -> str:
    """The verdict in words, naming the stores it rests on."""
    phrases = {
        DrillVerdict.FAIL: "did not come back as it should",
        DrillVerdict.UNKNOWN: "could not be judged",
        DrillVerdict.PASS: "came back within its budgets",
    }
    parts = []
    for verdict, phrase in phrases.items():
        names = [STORE_TITLES[t.store] for t in result.stores if t.verdict is verdict]
        if names:
            parts.append(f"{_and(names)} {phrase if len(names) == 1 else _plural(phrase)}")
    return "; ".join(parts) + "." if parts else "No store was run to its end."


def format_s(seconds: float | None) -> str:
    """A duration of `seconds` in the unit that people would choose."""
    return format_ms(None if seconds is None else seconds * 1000)


def format_share(share: float) -> str:
    """A share from 0 to 1; only all is shown as 1, and only nothing as 0."""
    if share in (0.0, 1.0):
        return f"{share:.0f}"
    lowest = 10**-_SHARE_DIGITS
    if share < lowest:
        return f"<{lowest:.{_SHARE_DIGITS}f}"
    # Cut off, not rounded: 0.99996 is not 1, and a share is never shown better than it is.
    return (
        f"{math.floor(share / lowest + 1e-9) * lowest:.{_SHARE_DIGITS}f}" if share < 1 - lowest else "0.9999"
    )


def format_bytes(count: int) -> str:
    """A size in bytes with three digits, in powers of 1024: 1.42 MiB."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    if unit == 0:
        return f"{count} B"
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:,.{digits}f} {_UNITS[unit]}"


def proof_words(proof: Proof) -> str:
    """What the comparison found, in a few words."""
    if proof.trouble and not (proof.differences or proof.copies):
        return f"{NONE} (could not tell)"
    found = f"{format_count(proof.differences)} {'difference' if proof.differences == 1 else 'differences'}"
    words = f"{format_count(proof.records)} {'record' if proof.records == 1 else 'records'}, {found}"
    words += f"; {format_count(proof.copies)} differ between copies" if proof.copies else ""
    return f"{words}; {format_count(proof.untold)} written meanwhile" if proof.untold else words


def _row(trial: DisasterTrial) -> DisasterRow:
    survived = trial.survival
    return DisasterRow(
        store=STORE_TITLES[trial.store],
        verdict=verdict_words(trial.verdict),
        recovery_time=format_s(trial.recovery_time_s),
        parts=" / ".join(format_s(s) for s in (trial.destroy_s, trial.rebuild_s, trial.restore_s)),
        point=point_words(trial),
        p_recovered=format_share(trial.p_recovered) if survived.acked else NONE,
        acked=format_count(survived.acked),
        lost=format_count(survived.lost),
        lost_before=format_count(survived.lost_before),
        backup=f"{format_bytes(trial.bytes)} in {format_s(trial.backup_s)}",
        compared=proof_words(trial.proof),
    )


def point_words(trial: DisasterTrial) -> str:
    """The recovery point in writes and seconds."""
    survived = trial.survival
    if not survived.acked:
        return f"{NONE} (nothing acknowledged)"
    if not survived.lost:
        return "0 writes; 0 s"
    lost = f"{format_count(survived.lost)} {_writes(survived.lost)}"
    return f"{lost}; {format_s(survived.recovery_point_s)}"


def _writes(count: int) -> str:
    return "write" if count == 1 else "writes"


def _plural(phrase: str) -> str:
    return phrase.replace("as it should", "as they should").replace("its budgets", "their budgets")


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

"""What a disaster drill found, and its verdict; pure. The shape of its `result.json` (version 1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from haops.cluster.spec import StoreName
from haops.drills.result import DrillVerdict
from haops.history.record import History, Kind, Outcome
from haops.stores.base import FIRST_ELEMENT

DISASTER_VERSION: Final = 1
_LISTED_IDS: Final = 1000
# What was written shortly before a backup began may be in it or not, too: so stores say, and clocks differ.
_BEFORE_NS: Final = 5_000_000_000


@dataclass(frozen=True, slots=True)
class DisasterBudget:
    """Limits in seconds; None is none."""

    recovery_time_s: float | None = None
    recovery_point_s: float | None = None


@dataclass(frozen=True, slots=True)
class Marks:
    """The drill's own moments, monotonic ns.

    Args:
        start: When the load began.
        backup: When the backup began: what was acknowledged before is in it.
        backed_up: When it was complete.
        struck: When the destruction began: the zero of the recovery time.
        destroyed: When the last node and volume was gone.
        stands: When the empty cluster took writes.
        restored: When the restored cluster was healthy.
    """

    start: int
    backup: int
    backed_up: int
    struck: int
    destroyed: int
    stands: int
    restored: int


@dataclass(frozen=True, slots=True)
class Survival:
    """What became of the acknowledged writes.

    Args:
        acked: Acknowledged before the disaster.
        acked_before: Of them, acknowledged before the backup began.
        lost: Acknowledged and not found after the restore.
        lost_before: Of them, acknowledged before the backup began: the backup is not what it says.
        recovery_point_s: From the first lost acknowledgement to the disaster; 0 where nothing is lost.
        unknown: Writes that were sent before the disaster and whose client could not tell.
        during: Keys, registers among them, that were written while the backup was made or shortly before.
    """

    acked: int
    acked_before: int
    lost: int
    lost_before: int
    lost_ids: tuple[int, ...]
    recovery_point_s: float
    unknown: int
    during: int = 0

    @property
    def p_loss(self) -> float:
        """P_l: the share of the acknowledged writes that is lost."""
        return self.lost / self.acked if self.acked else 0.0

    @property
    def p_recovered(self) -> float:
        """P_r = 1 - P_l."""
        return 1.0 - self.p_loss


@dataclass(frozen=True, slots=True)
class Proof:
    """What the comparison of the restored cluster with the backup found.

    Args:
        records: How many the backup has.
        differences: How many are missing, extra or unequal.
        examples: Some of them, in words.
        trouble: Why the comparison could not tell; empty if it could.
        untold: Records that were written while the backup was made: it may have either state of them.
        copies: Records that are not the same in all copies of the restored cluster: where several servers
            were backed up, their snapshots are not of one moment.
    """

    records: int
    differences: int
    examples: tuple[str, ...] = ()
    trouble: str = ""
    untold: int = 0
    copies: int = 0


@dataclass(frozen=True, slots=True)
class DisasterTrial:
    """One store's disaster; durations in seconds.

    Args:
        backup_s: What the backup took, under load.
        bytes: Of the backup.
        destroy_s: Until every node and volume was gone.
        rebuild_s: Until an empty cluster stood.
        restore_s: Until the backup was in and the cluster healthy.
        recovery_time_s: The sum of the three: from the disaster until the cluster is healthy again.
        marks: The moments behind them; only their distances mean anything.
    """

    store: StoreName
    cluster: str
    mode: str
    version: str
    nodes: int
    verdict: DrillVerdict
    reasons: tuple[str, ...]
    budget: DisasterBudget
    backup: str
    backup_s: float
    bytes: int
    destroy_s: float
    rebuild_s: float
    restore_s: float
    recovery_time_s: float
    survival: Survival
    p_loss: float
    p_recovered: float
    proof: Proof
    marks: Marks


@dataclass(frozen=True, slots=True)
class DisasterResult:
    """A run of a disaster playbook."""

    version: int
    run: str
    playbook: str
    title: str
    started: datetime
    finished: datetime
    haops: str
    seed: int
    interrupted: bool
    verdict: DrillVerdict
    stores: tuple[DisasterTrial, ...]
    troubles: tuple[str, ...] = ()


def survival(history: History, found: frozenset[int], marks: Marks) -> Survival:
    """Which acknowledged writes came back; what was acknowledged after the disaster began does not count."""
    writes = history.select((history.kind == Kind.WRITE) & (history.key >= FIRST_ELEMENT))
    acked = writes.select((writes.outcome == Outcome.OK) & (writes.completed < marks.struck))
    there = np.isin(acked.key, np.fromiter(found, np.int64, len(found)))
    lost = acked.select(~there)
    before = acked.completed < marks.backup
    first_lost = int(lost.completed.min()) if len(lost) else marks.struck
    return Survival(
        acked=len(acked),
        acked_before=int(before.sum()),
        lost=len(lost),
        lost_before=int((lost.completed < marks.backup).sum()),
        lost_ids=tuple(int(k) for k in np.sort(lost.key)[:_LISTED_IDS]),
        recovery_point_s=(marks.struck - first_lost) / 1e9,
        unknown=int(((writes.outcome == Outcome.INFO) & (writes.sent < marks.struck)).sum()),
        during=_written_during(history, marks),
    )


def _written_during(history: History, marks: Marks) -> int:
    open_then = (history.sent <= marks.backed_up) & (history.completed >= marks.backup - _BEFORE_NS)
    return len(np.unique(history.key[(history.kind == Kind.WRITE) & open_then]))


def judge(
    survived: Survival, proof: Proof, recovery_time_s: float, budget: DisasterBudget
) -> tuple[DrillVerdict, tuple[str, ...]]:
    """Pass, fail or unknown, with the reasons for what is not a pass.

    A drill that lost nothing has shown nothing about its recovery point only if nothing was
    written before or after the backup: then it is unknown. So is a restored cluster that could
    not be compared, or a comparison with an empty backup.
    """
    if failures := tuple(_failures(survived, proof, recovery_time_s, budget)):
        return DrillVerdict.FAIL, failures
    doubts = tuple(_doubts(survived, proof))
    return (DrillVerdict.UNKNOWN, doubts) if doubts else (DrillVerdict.PASS, ())


def _failures(
    survived: Survival, proof: Proof, recovery_time_s: float, budget: DisasterBudget
) -> Iterator[str]:
    if survived.lost_before:
        yield f"{survived.lost_before} writes are lost that were acknowledged before the backup began"
    if proof.differences:
        yield f"the restored cluster differs from the backup in {proof.differences} of {proof.records} records"
    if proof.copies > survived.during:
        yield (
            f"{proof.copies} records are not the same in all copies of the restored cluster, "
            f"though only {survived.during} were written while the backup was made"
        )
    if budget.recovery_time_s is not None and recovery_time_s > budget.recovery_time_s:
        yield f"recovery took {recovery_time_s:.1f} s; the budget is {budget.recovery_time_s:g} s"
    point = survived.recovery_point_s
    if budget.recovery_point_s is not None and point > budget.recovery_point_s:
        yield f"{point:.1f} s of writes are lost; the budget is {budget.recovery_point_s:g} s"


def _doubts(survived: Survival, proof: Proof) -> Iterator[str]:
    if not survived.acked_before or survived.acked_before == survived.acked:
        yield "nothing was acknowledged before the backup, or nothing after it"
    if proof.trouble:
        yield f"the restored cluster could not be compared with the backup: {proof.trouble}"
    elif not proof.records:
        yield "there was nothing in the backup to compare the restored cluster with"
    elif proof.untold > survived.during:
        yield (
            f"the backup may have either state of {proof.untold} records that differ, "
            f"though only {survived.during} were written while it was made"
        )

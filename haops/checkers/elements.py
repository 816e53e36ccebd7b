"""The set checker: was every acknowledged element found, and what became of the doubtful ones?"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from haops.drills.history import History, Kind, Outcome


@dataclass(frozen=True, slots=True)
class Elements:
    """What became of a run's unique writes.

    Args:
        acked: Acknowledged writes.
        lost: Acknowledged and not found afterwards, sorted.
        unknown: Writes whose outcome the client could not tell; never counted as lost.
        appeared: Unknown writes that were found.
        resurrected: Writes that had certainly failed and were found all the same, sorted.
        duplicated: Keys acknowledged more than once, sorted: the load never repeats a key.
        missed: Reads that did not see a write acknowledged before to the same client.
    """

    acked: int
    lost: tuple[int, ...]
    unknown: int
    appeared: int
    resurrected: tuple[int, ...]
    duplicated: tuple[int, ...]
    missed: int


def check_elements(history: History, found: Collection[int]) -> Elements:
    """Compare a history's writes with the keys that a read-back found."""
    there = np.fromiter(found, dtype=np.int64, count=len(found))
    acked = history.of(Kind.WRITE, Outcome.OK).key
    unknown = history.of(Kind.WRITE, Outcome.INFO).key
    failed = history.of(Kind.WRITE, Outcome.FAIL).key
    unique, counts = np.unique(acked, return_counts=True)
    return Elements(
        acked=len(unique),
        lost=tuple(np.setdiff1d(unique, there).tolist()),
        unknown=len(unknown),
        appeared=int(np.isin(unknown, there).sum()),
        resurrected=tuple(np.intersect1d(failed, there).tolist()),
        duplicated=tuple(unique[counts > 1].tolist()),
        missed=len(history.of(Kind.READ, Outcome.MISS)),
    )

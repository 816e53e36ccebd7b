"""Counters: every read must lie between what had certainly been added and what could have been."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from haops.history.record import NIL, History, Ints, Kind, Outcome

_EVIDENCE: Final = 10


@dataclass(frozen=True, slots=True)
class WrongRead:
    """A read that no set of additions explains.

    Args:
        key: The counter.
        process: Who read.
        node: Who answered; empty if nobody is named.
        value: What it read.
        low: The least that was possible.
        high: The most that was possible.
        sent: When the read was sent, ns.
        completed: When it was answered, ns.
    """

    key: int
    process: int
    node: str
    value: int
    low: int
    high: int
    sent: int
    completed: int


@dataclass(frozen=True, slots=True)
class Counters:
    """What reads of counters say.

    Args:
        keys: Counters that were read.
        reads: Reads that were answered.
        wrong: Those out of bounds.
        evidence: The first ten of them, by when they were answered.
    """

    keys: int
    reads: int
    wrong: int
    evidence: tuple[WrongRead, ...]


def check_counters(history: History, *, initial: int = 0) -> Counters:
    """Compare READs with the ADDs of the same key; an ADD's `value` is what it adds.

    An acknowledged addition that ended before the read was sent counts in full. One
    that was under way meanwhile, and an unknown one sent before the read was
    answered, may count or not: negative ones widen the bounds below, positive ones
    above. A failed one never counts.

    Args:
        initial: What a counter held first, and what a read that found nothing means.
    """
    reads = np.flatnonzero((history.kind == Kind.READ) & (history.outcome == Outcome.OK))
    adds = np.flatnonzero((history.kind == Kind.ADD) & (history.outcome != Outcome.FAIL))
    keys = np.unique(history.key[reads])
    low, high = np.empty(len(reads), dtype=np.int64), np.empty(len(reads), dtype=np.int64)
    reads = reads[np.argsort(history.key[reads], kind="stable")]
    adds = adds[np.argsort(history.key[adds], kind="stable")]
    read_key, add_key = history.key[reads], history.key[adds]
    for key in keys:
        here = slice(*np.searchsorted(read_key, [key, key + 1]))
        mine = adds[slice(*np.searchsorted(add_key, [key, key + 1]))]
        low[here], high[here] = _bounds(history, reads[here], mine)
    value = np.where(history.value[reads] == NIL, initial, history.value[reads])
    wrong = np.flatnonzero((value < low + initial) | (value > high + initial))
    wrong = wrong[np.argsort(history.completed[reads[wrong]], kind="stable")]
    evidence = tuple(
        WrongRead(
            key=int(history.key[row]),
            process=int(history.process[row]),
            node=history.nodes[history.node[row]],
            value=int(value[i]),
            low=int(low[i]) + initial,
            high=int(high[i]) + initial,
            sent=int(history.sent[row]),
            completed=int(history.completed[row]),
        )
        for i, row in ((int(i), int(reads[i])) for i in wrong[:_EVIDENCE])
    )
    return Counters(len(keys), len(reads), len(wrong), evidence)


def _bounds(history: History, reads: Ints, adds: Ints) -> tuple[Ints, Ints]:
    """The least and the most that each read of one counter may find, without the initial value."""
    sure = adds[history.outcome[adds] == Outcome.OK]
    sent, answered = history.sent[reads], history.completed[reads]
    down, up = (
        # What could have counted by the answer; what certainly had ended before is taken out of it.
        _sum_before(history.sent[adds], np.clip(history.value[adds], *limits), answered, side="right")
        - _sum_before(history.completed[sure], np.clip(history.value[sure], *limits), sent, side="left")
        for limits in ((None, 0), (0, None))
    )
    certain = _sum_before(history.completed[sure], history.value[sure], sent, side="left")
    return certain + down, certain + up


def _sum_before(at: Ints, amounts: Ints, moments: Ints, *, side: str) -> Ints:
    """The sum of what happened before each moment, with `side` right also at it."""
    order = np.argsort(at, kind="stable")
    sums = np.concatenate([[0], np.cumsum(amounts[order])])
    places = np.searchsorted(at[order], moments, side="right" if side == "right" else "left")
    return np.asarray(sums[places])

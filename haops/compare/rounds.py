"""Comparing in rounds: what goes away was lag, what stays is divergence, what moves is neither.

A key is called different only if it was seen different at every look and nothing about it
changed between the looks on either side. One that was ever seen equal is not different.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np

from haops.compare.differences import Difference, Kind, alive, aspects, difference
from haops.compare.reconcile import Found, describe, reconcile
from haops.errors import EXIT_FAILED, EXIT_UNHEALTHY, EXIT_UNKNOWN, HaopsError
from haops.parallel import ask_all
from haops.stores.compare import Side, Survey
from haops.wait import REAL_CLOCK, Clock

# A backup that was made under load has some records of which either state is right: that is no fault.
# But what cannot be told is not equal either: with more than one in so many, too little is proved.
_ONE_UNTOLD_IN: Final = 10


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Verdict(StrEnum):
    """What a comparison says."""

    EQUAL = "equal"
    DIFFERENT = "different"
    UNKNOWN = "unknown"
    """A side could not be read, what differs is still moving, or a backup cannot tell what it should be."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How to compare.

    Args:
        limit: Differences that are described; the rest is counted.
        rounds: Looks at a key that differs before it is called different, and passes over everything at most.
        pause_s: Seconds between two looks: replicas that lag more than `(rounds - 1) * pause_s` look different.
        now_ms: The wall clock, Unix ms.
        hear: Is told what is being done.
    """

    limit: int = 10_000
    rounds: int = 3
    pause_s: float = 1.0
    clock: Clock = REAL_CLOCK
    now_ms: Callable[[], int] = _now_ms
    hear: Callable[[str], None] = field(default=lambda _: None)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two sides have that is not the same.

    Args:
        differences: Those that stayed, and stayed as they were.
        unsettled: Those that were never seen equal, but changed between the looks.
        transient: Keys that differed and then did not: lag, or their time was over.
        elusive: Buckets of records, or records, that changed faster than they could be looked at.
        unlisted: At least so many more keys differ.
        untold: Keys that differ, but were written while the backup was made: it may have either state.
        moved: Bytes that came from both sides.
        seconds: How long it took.
        rounds: Looks that were taken, over all passes.
        trouble: Why a side could not be read; empty if both could.
    """

    left: str
    right: str
    records_left: int = 0
    records_right: int = 0
    differences: tuple[Difference, ...] = ()
    unsettled: tuple[Difference, ...] = ()
    transient: int = 0
    elusive: int = 0
    unlisted: int = 0
    untold: int = 0
    moved: int = 0
    seconds: float = 0.0
    rounds: int = 0
    trouble: str = ""

    @property
    def verdict(self) -> Verdict:
        """Equal only if nothing is left open, but for what a backup cannot tell of one record in ten."""
        if self.trouble:
            return Verdict.UNKNOWN
        if self.differences:
            return Verdict.DIFFERENT
        vague = self.untold * _ONE_UNTOLD_IN > max(self.records_left, self.records_right)
        moving = self.unsettled or self.elusive or self.unlisted
        return Verdict.UNKNOWN if moving or vague else Verdict.EQUAL

    @property
    def rate(self) -> float:
        """Records of the larger side compared a second."""
        return max(self.records_left, self.records_right) / self.seconds if self.seconds > 0 else 0.0


@dataclass(slots=True)
class _Trace:
    """A key that has been different at every look so far."""

    last: Difference
    changed: bool = False


def compare(
    left: Side, right: Side, manner: Manner, surveys: tuple[Survey, Survey] | None = None
) -> Comparison:
    """Compare two sides.

    Args:
        surveys: Their fingerprints, if they were just taken.

    Raises:
        HaopsError: Only for bad input, trouble of the environment and an interruption; a server that does
            not answer or a damaged backup makes the verdict unknown.
    """
    return _Pair(left, right, manner, _Spent(0.0, left.moved + right.moved)).run(surveys)


def compare_all(sides: Sequence[Side], manner: Manner) -> tuple[Comparison, ...]:
    """Compare each side with the first one; all of them are read at the same time.

    Raises:
        HaopsError: As `compare`.
    """
    manner.hear(f"reading {len(sides)} copies")
    began = manner.clock.monotonic()
    surveys = ask_all(_try_survey, sides)
    took = manner.clock.monotonic() - began
    first, *others = zip(sides, surveys, strict=True)
    found: list[Comparison] = []
    for other in others:
        # What the first side moved counts once, in the first pair.
        before = first[0].moved if found else 0
        found.append(_compare_with_first(first, other, manner, _Spent(took, before)))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Spent:
    """What a pair took before it began (seconds), and what its sides had moved that is not its own (bytes)."""

    seconds: float
    moved: int


_Surveyed = tuple[Side, Survey | HaopsError]


def _compare_with_first(first: _Surveyed, other: _Surveyed, manner: Manner, spent: _Spent) -> Comparison:
    (left, here), (right, there) = first, other
    if isinstance(here, Survey) and isinstance(there, Survey):
        return _Pair(left, right, manner, spent).run((here, there))
    trouble = "\n".join(str(answer) for answer in (here, there) if isinstance(answer, HaopsError))
    moved = left.moved + right.moved - spent.moved
    return Comparison(left.label, right.label, moved=moved, seconds=spent.seconds, trouble=trouble)


def _try_survey(side: Side) -> Survey | HaopsError:
    try:
        return side.survey()
    except HaopsError as error:
        if unreadable(error):
            return error
        raise


def unreadable(error: HaopsError) -> bool:
    """Whether an error says that a side could not be read: then nothing is known, not even that they differ."""
    return error.exit_code in (EXIT_FAILED, EXIT_UNHEALTHY, EXIT_UNKNOWN)


class _Pair:
    """One comparison while it goes on."""

    def __init__(self, left: Side, right: Side, manner: Manner, spent: _Spent) -> None:
        self._sides = (left, right)
        self._manner = manner
        self._began = manner.clock.monotonic() - spent.seconds
        self._moved = spent.moved
        self._looks = 0
        self._transient: set[bytes] = set()
        self._found = Found(0, 0)
        self._traces: dict[bytes, _Trace] = {}
        self._doubtful: tuple[bytes, ...] = ()

    def run(self, surveys: tuple[Survey, Survey] | None) -> Comparison:
        trouble = ""
        try:
            self._passes(surveys)
        except HaopsError as error:
            if not unreadable(error):
                raise
            trouble = str(error)
        return self._result(trouble)

    def _passes(self, surveys: tuple[Survey, Survey] | None) -> None:
        """Pass over everything until nothing is open, or a difference is certain."""
        before: Found | None = None
        for number in range(self._manner.rounds):
            if number:
                self._pause()
            self._manner.hear("reading both sides" if not number else "reading both sides again")
            self._reconcile(None if number else surveys, whole=number > 0)
            found, differed = self._found, len(self._traces)
            self._look_again()
            gone = differed - len(self._traces)
            if before is not None or self._manner.rounds == 1:
                self._doubt(before or found)
            certain = any(not trace.changed for trace in self._traces.values())
            # What differed and no longer does is called equal after a pass that finds nothing; or, where writes
            # go on, after a whole one in which all that differs by digest is equal when it is looked at.
            clean = not (found.agreed or gone or found.vanished)
            whole = found.whole and not (self._traces or self._doubtful)
            if certain or ((clean or whole) and not (found.unlisted or found.elusive)):
                return
            before = found

    def _doubt(self, before: Found) -> None:
        """Equal whenever it is looked at, or never found, and yet a digest differs: the second time it is no lag."""
        found = self._found
        stays = np.intersect1d(found.lone, before.lone)
        known = before.agreed if len(stays) else {}
        same = ((key, mark) for key, mark in found.agreed.items() if mark is not None)
        self._doubtful = tuple(key for key, mark in same if known.get(key) == mark)
        if found.vanished and len(stays):
            named = ask_all(lambda side: side.keys(stays), self._sides)
            found.elusive += max(0, len(stays) - sum(map(len, named)))

    def _reconcile(self, surveys: tuple[Survey, Survey] | None, *, whole: bool) -> None:
        manner = self._manner
        self._found = reconcile(
            *self._sides, limit=manner.limit, now_ms=manner.now_ms(), surveys=surveys, whole=whole
        )
        self._looks += 1
        self._traces = {
            key: _Trace(found, changed=key in self._transient)
            for key, found in self._found.differences.items()
        }
        self._transient.update(self._found.agreed)
        self._found.differences = {}

    def _look_again(self) -> None:
        for _ in range(self._manner.rounds - 1):
            if not self._traces:
                return
            self._manner.hear(f"{len(self._traces):,} keys differ; looking again")
            self._pause()
            now_ms = self._manner.now_ms()
            for key, left, right in describe(self._sides, list(self._traces)):
                self._retrace(key, difference(key, alive(left, now_ms), alive(right, now_ms)))
            self._looks += 1

    def _retrace(self, key: bytes, now: Difference | None) -> None:
        if now is None:
            del self._traces[key]
            self._transient.add(key)
            return
        trace = self._traces[key]
        if aspects(trace.last.left, now.left) or aspects(trace.last.right, now.right):
            trace.changed = True
        trace.last = now

    def _pause(self) -> None:
        self._manner.clock.sleep(self._manner.pause_s)

    def _result(self, trouble: str) -> Comparison:
        left, right = self._sides
        traces = [trace for _, trace in sorted(self._traces.items())]
        sure = [t.last for t in traces if not t.changed and not trouble]
        open_ = [t.last for t in traces if t.changed or trouble]
        unseen = [Difference(key, (Kind.UNSEEN,), None, None) for key in self._doubtful]
        gone = self._transient - self._traces.keys() - set(self._doubtful)
        return Comparison(
            left=left.label,
            right=right.label,
            records_left=self._found.records_left,
            records_right=self._found.records_right,
            differences=tuple(sure),
            unsettled=(*open_, *unseen),
            transient=len(gone) + self._found.lapsed,
            elusive=self._found.elusive,
            unlisted=self._found.unlisted,
            untold=self._found.untold,
            moved=left.moved + right.moved - self._moved,
            seconds=self._manner.clock.monotonic() - self._began,
            rounds=self._looks,
            trouble=trouble,
        )

"""Repair: what a comparison found is made like the side named as the truth, and compared again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from haops.cluster.spec import Cluster
from haops.compare.differences import Difference, Kind
from haops.compare.rounds import Comparison, Manner, Verdict, compare, compare_all
from haops.runtime.port import Runtime
from haops.stores.compare import Comparing, Record, Side, never_barred

# Keys given to the store in one go: it reads some backups from end to end for them.
BATCH: Final = 10_000
# Differences that a pass deals with: each reads both sides anew. About 100 MB of records.
PASS: Final = 100_000
# Passes over more differences than one comparison lists.
_PASSES: Final = 1000


class Truth(StrEnum):
    """Which side is right."""

    LEFT = "left"
    RIGHT = "right"


@dataclass(frozen=True, slots=True)
class Kept:
    """A key that differs and stays as it is, and why nothing makes it equal."""

    key: bytes
    why: str


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """What will be written and deleted on the target so that it is like the truth.

    Args:
        truth: The label of the side that is right.
        target: The label of the side that is changed.
        unlisted: At least so many more keys differ; they come in later passes.
        kept: What cannot be made equal.
    """

    truth: str
    target: str
    write: tuple[bytes, ...]
    delete: tuple[bytes, ...]
    unlisted: int = 0
    kept: tuple[Kept, ...] = ()

    @property
    def keys(self) -> tuple[bytes, ...]:
        """All of them in the order in which they are dealt with."""
        return self.delete + self.write


@dataclass(frozen=True, slots=True)
class Tally:
    """Keys that were written and deleted on the target so far."""

    written: int = 0
    deleted: int = 0

    @property
    def done(self) -> int:
        """All of them."""
        return self.written + self.deleted

    def __str__(self) -> str:
        return f"{self.written:,} written, {self.deleted:,} deleted"


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did.

    Args:
        plans: One a pass; the first is what the dry run shows.
        after: How the sides compare now.
        kept: What differs now and cannot be made equal.
    """

    plans: tuple[RepairPlan, ...]
    tally: Tally
    after: Comparison
    kept: tuple[Kept, ...] = ()

    @property
    def done(self) -> int:
        """Keys that were written or deleted."""
        return self.tally.done


@dataclass(frozen=True, slots=True)
class RepairOrder:
    """What a repair needs.

    Args:
        comparing: The store's way to write.
        open_sides: Opens both sides anew, the left one first: a side may keep what it once read.
        truth: Which of them is right.
        manner: How to compare after each pass; `limit` is how many keys one deals with.
        hear: Is told what is done, and how many keys that will be in the end, or more.
    """

    comparing: Comparing
    open_sides: Callable[[], AbstractContextManager[tuple[Side, Side]]]
    truth: Truth
    manner: Manner
    hear: Callable[[Tally, int], None] = field(default=lambda _tally, _of: None)


def plan(
    comparison: Comparison,
    truth: Truth,
    barred: Callable[[Record | None, Record | None], str] = never_barred,
) -> RepairPlan:
    """What would be done; keys that are still moving are left alone.

    A path comes before its children where it is written, and after them where it is deleted.

    Args:
        barred: The store's word on what cannot be made equal.
    """
    absent = Kind.EXTRA if truth is Truth.LEFT else Kind.MISSING
    kept, due = [], []
    for found in comparison.differences:
        sides = (found.left, found.right)
        if why := barred(*(sides if truth is Truth.LEFT else sides[::-1])):
            kept.append(Kept(found.key, why))
        else:
            due.append(found)
    delete = tuple(sorted((d.key for d in due if absent in d.kinds), reverse=True))
    write = tuple(sorted(d.key for d in due if absent not in d.kinds))
    names = (comparison.left, comparison.right)
    right, target = names if truth is Truth.LEFT else names[::-1]
    return RepairPlan(right, target, write, delete, comparison.unlisted, tuple(kept))


def repair(order: RepairOrder, comparison: Comparison) -> Repaired:
    """Carry out what `comparison` asks for, and compare again; as often as more comes to light than was listed.

    Raises:
        HaopsError: A server refused; what was done so far stays, and the repair may be repeated.
    """
    plans: list[RepairPlan] = []
    tally = Tally()
    wanted = plan(comparison, order.truth, order.comparing.barred)
    while wanted.keys and len(plans) < _PASSES:
        plans.append(wanted)
        tally = _carry_out(order, wanted, tally)
        with order.open_sides() as sides:
            comparison = compare(*sides, order.manner)
        wanted = plan(comparison, order.truth, order.comparing.barred)
        stayed = len(set(wanted.delete).intersection(plans[-1].delete))
        tally = replace(tally, deleted=max(0, tally.deleted - stayed))
        # A pass that made nothing equal would do as little again. After one that did, what had to stay is tried
        # again: it may go once what was below it is gone.
        if not plans[-1].unlisted or set(wanted.keys).issuperset(plans[-1].keys):
            break
    return Repaired(tuple(plans), tally, comparison, wanted.kept)


def _carry_out(order: RepairOrder, wanted: RepairPlan, before: Tally) -> Tally:
    tally, of = before, before.done + len(wanted.keys) + wanted.unlisted
    with order.open_sides() as (left, right):
        sides = (left, right) if order.truth is Truth.LEFT else (right, left)
        for done in _mend(order.comparing, sides, wanted.delete):
            tally = replace(before, deleted=before.deleted + done)
            order.hear(tally, of)
        before = tally
        for done in _mend(order.comparing, sides, wanted.write):
            tally = replace(before, written=before.written + done)
            order.hear(tally, of)
    return tally


def _mend(comparing: Comparing, sides: tuple[Side, Side], keys: Sequence[bytes]) -> Iterator[int]:
    """Yields how many of all these are done."""
    done = 0
    for start in range(0, len(keys), BATCH):
        before = done
        for finished in comparing.mend(*sides, keys[start : start + BATCH]):
            done = before + finished
            yield done


def wrong_copies(comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """The copies that are not like the first one for certain."""
    return tuple(c.right for c in comparisons if c.verdict is Verdict.DIFFERENT)


def repair_replicas(
    comparing: Comparing, cluster: Cluster, runtime: Runtime, manner: Manner, nodes: Sequence[str]
) -> tuple[Comparison, ...]:
    """Make copies like the first-named node's by the store's own means, and compare again.

    Args:
        nodes: The node whose copy is right, then those that are to be like it.

    Raises:
        HaopsError: A server refused.
    """
    for words in comparing.mend_replicas(cluster, runtime, nodes):
        manner.hear(words)
    with comparing.replicas(cluster, runtime) as sides:
        return compare_all(sides, manner)


def kinds_of(differences: Sequence[Difference]) -> dict[Kind, int]:
    """How often each kind of difference occurs; those that do not occur are left out."""
    counted = dict.fromkeys(Kind, 0)
    for difference in differences:
        for kind in difference.kinds:
            counted[kind] += 1
    return {kind: times for kind, times in counted.items() if times}

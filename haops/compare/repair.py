"""Repair: what a comparison found is made like the side named as the truth, and compared again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from haops.cluster.spec import Cluster
from haops.compare.differences import Difference, Kind
from haops.compare.rounds import Comparison, Manner, Verdict, compare, compare_all
from haops.runtime.port import Runtime
from haops.stores.compare import Comparing, Side

# Keys given to the store in one go: it reads some backups from end to end for them.
BATCH: Final = 10_000
# Passes over more differences than one comparison lists.
_PASSES: Final = 1000


class Truth(StrEnum):
    """Which side is right."""

    LEFT = "left"
    RIGHT = "right"


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """What will be written and deleted on the target so that it is like the truth.

    Args:
        truth: The label of the side that is right.
        target: The label of the side that is changed.
        unlisted: At least so many more keys differ; they come in later passes.
    """

    truth: str
    target: str
    write: tuple[bytes, ...]
    delete: tuple[bytes, ...]
    unlisted: int = 0

    @property
    def keys(self) -> tuple[bytes, ...]:
        """All of them in the order in which they are dealt with."""
        return self.delete + self.write


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did.

    Args:
        plans: One a pass; the first is what the dry run shows.
        done: Keys that were made equal.
        after: How the sides compare now.
    """

    plans: tuple[RepairPlan, ...]
    done: int
    after: Comparison


@dataclass(frozen=True, slots=True)
class RepairOrder:
    """What a repair needs.

    Args:
        comparing: The store's way to write.
        open_sides: Opens both sides anew, the left one first: a side may keep what it once read.
        truth: Which of them is right.
        hear: Is told how many keys are done, and of how many.
    """

    comparing: Comparing
    open_sides: Callable[[], AbstractContextManager[tuple[Side, Side]]]
    truth: Truth
    manner: Manner
    hear: Callable[[int, int], None] = field(default=lambda _done, _of: None)


def plan(comparison: Comparison, truth: Truth) -> RepairPlan:
    """What would be done; keys that are still moving are left alone.

    A path comes before its children where it is written, and after them where it is deleted.
    """
    absent = Kind.EXTRA if truth is Truth.LEFT else Kind.MISSING
    delete = tuple(sorted((d.key for d in comparison.differences if absent in d.kinds), reverse=True))
    write = tuple(sorted(d.key for d in comparison.differences if absent not in d.kinds))
    names = (comparison.left, comparison.right)
    right, target = names if truth is Truth.LEFT else names[::-1]
    return RepairPlan(right, target, write, delete, comparison.unlisted)


def repair(order: RepairOrder, comparison: Comparison) -> Repaired:
    """Carry out what `comparison` asks for, and compare again; as often as more comes to light than was listed.

    Raises:
        HaopsError: A server refused; what was done so far stays, and the repair may be repeated.
    """
    plans: list[RepairPlan] = []
    done = 0
    for _ in range(_PASSES):
        if comparison.verdict is not Verdict.DIFFERENT:
            break
        plans.append(plan(comparison, order.truth))
        done += _carry_out(order, plans[-1].keys)
        with order.open_sides() as sides:
            comparison = compare(*sides, order.manner)
        # A key that differs again although it was just written will do so after one more pass, too.
        again = {d.key for d in comparison.differences}.intersection(plans[-1].keys)
        if again or not plans[-1].unlisted:
            break
    return Repaired(tuple(plans), done, comparison)


def _carry_out(order: RepairOrder, keys: Sequence[bytes]) -> int:
    done = 0
    with order.open_sides() as (left, right):
        truth, target = (left, right) if order.truth is Truth.LEFT else (right, left)
        for start in range(0, len(keys), BATCH):
            batch, before = keys[start : start + BATCH], done
            for finished in order.comparing.mend(truth, target, batch):
                done = before + finished
                order.hear(done, len(keys))
    return done


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

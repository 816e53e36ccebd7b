"""The view of others: a node that one observer cannot reach may serve everybody else.

The rule is orchestrator's "holistic" one: a primary is dead only if the
observer cannot reach it and its replicas have lost it too
(https://github.com/openark/orchestrator/blob/master/docs/failure-detection.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from haops.health.beat import Opinion

REPLICA: Final = "replica"


class Reach(StrEnum):
    """Whether a witness reaches the node.

    A witness that does not answer is CANNOT_SAY, never LOST: its silence
    tells of the witness.
    """

    REACHED = "reached"
    LOST = "lost"
    CANNOT_SAY = "cannot say"


@dataclass(frozen=True, slots=True)
class Witness:
    """What one other node says.

    Args:
        group: What it is to the node: "replica", "sentinel", "member".
        why: Its words, or why there are none.
    """

    name: str
    group: str
    reach: Reach
    why: str


class Standing(StrEnum):
    """What observer and witnesses make of a node together."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    PARTITIONED = "partitioned"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Conclusion:
    """A standing and why."""

    state: Standing
    why: str


def conclude(own: Opinion, witnesses: Sequence[Witness], *, majorities: Mapping[str, int]) -> Conclusion:
    """Weigh the observer's opinion and what others say.

    DOWN needs the observer's suspicion, nobody who reaches the node, and in each
    group of `majorities` so many that have lost it. Without such a group one replica
    must have lost it, if there are replicas: the link of a frozen primary stays up
    for seconds, so replicas may have nothing to say where others can.  PARTITIONED is any disagreement
    on who reaches it.  SUSPECT is too little evidence: also where nobody else
    could say anything.

    Args:
        majorities: Witnesses that must have lost the node, by group.
    """
    reached = [w for w in witnesses if w.reach is Reach.REACHED]
    lost = [w for w in witnesses if w.reach is Reach.LOST]
    if not own.suspects:
        if not lost:
            return Conclusion(Standing.ALIVE, own.why)
        others = _voices("reaches it", reached) + _voices("lost it", lost)
        return Conclusion(Standing.PARTITIONED, "; ".join(["reached from here", *others]))
    if reached:
        others = _voices("reaches it", reached) + _voices("lost it", lost)
        return Conclusion(Standing.PARTITIONED, "; ".join([f"lost from here: {own.why}", *others]))
    if missing := _missing(witnesses, lost, majorities):
        silent = _voices("cannot say", [w for w in witnesses if w.reach is Reach.CANNOT_SAY])
        words = [own.why, *_voices("lost it", lost), *silent, *missing]
        return Conclusion(Standing.SUSPECT, "; ".join(words))
    return Conclusion(Standing.DOWN, "; ".join([own.why, *_voices("lost it", lost)]))


def _missing(
    witnesses: Sequence[Witness], lost: Sequence[Witness], majorities: Mapping[str, int]
) -> list[str]:
    """What still speaks against DOWN, given that nobody reaches the node."""
    missing = []
    for group, needed in sorted(majorities.items()):
        have = sum(w.group == group for w in lost)
        if have < needed:
            missing.append(f"{have} of the {needed} needed {group}s have lost it")
    replicas = any(w.group == REPLICA for w in witnesses)
    if replicas and not majorities and not any(w.group == REPLICA for w in lost):
        missing.append("no replica can confirm it")
    if not lost and not missing:
        missing.append("nobody else can confirm it")
    return missing


def _voices(verb: str, witnesses: Sequence[Witness]) -> list[str]:
    return [
        f"{w.name} ({w.group}) {verb}: {w.why}" if w.why else f"{w.name} ({w.group}) {verb}"
        for w in witnesses
    ]

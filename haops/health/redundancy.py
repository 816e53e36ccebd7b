"""Copies compared between nodes: a node can answer every probe and yet keep the wrong data.

A difference by itself is no failure: copies of a store under load differ for
as long as replication takes.  What outlasts that time is.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from haops.errors import BadInput
from haops.health.beat import Opinion, span

# Readings of different nodes meet at the same position only now and then, so a few digests are kept.
_KEPT: Final = 64


@dataclass(frozen=True, slots=True)
class CopyReading:
    """What one node said of its copy.

    Args:
        at_ns: When it was read, monotonic ns; not decreasing from reading to reading.
        position: How far the copy has got: replication offset (Redis), zxid (ZooKeeper);
            None where the store has none (Cassandra).
        digest: A hash of the data, or of an agreed sample, at `position`; None if not taken.
            Where there is no position, all nodes' digests must be of the same rows.
        linked: Whether the node's replication link is up; True for the node that others copy from.
    """

    node: str
    at_ns: int
    position: int | None
    digest: str | None
    linked: bool = True


@dataclass(frozen=True, slots=True)
class Deviation:
    """A node whose copy deviates.

    Args:
        since_ns: When the deviation was first read, monotonic ns.
        lasted_ns: From then to the node's last reading.
        why: In what it deviates, and from whom.
    """

    node: str
    since_ns: int
    lasted_ns: int
    why: str


class _Copy:
    """What is known of one node's copy."""

    __slots__ = ("digest_at", "digests", "faults", "last")

    def __init__(self, first: CopyReading) -> None:
        self.last = first
        self.digests: OrderedDict[int, str] = OrderedDict()
        # The newest position at which digests were compared: an older comparison says nothing more.
        self.digest_at: int | None = None
        # Kind of deviation: since when, and in what words.
        self.faults: dict[str, tuple[int, str]] = {}

    def set(self, kind: str, at_ns: int, why: str | None) -> None:
        """Note that a deviation is there, or (without `why`) that it is not."""
        if why is None:
            self.faults.pop(kind, None)
        else:
            self.faults[kind] = (self.faults[kind][0] if kind in self.faults else at_ns, why)


class Redundancy:
    """Suspects copies that deviate for longer than replication may take.

    Three things are deviations: a digest other than the others' at the same
    position, a position that stands still while another copy is ahead, and a
    link that is down.  A deviation is judged by readings alone: a node that
    nobody has read again is not accused of what lasted before.

    Args:
        grace_s: Time that the lag has to pass, s; a few times the usual lag. No default: it
            depends on the load.

    Raises:
        BadInput: `grace_s` is not above 0.
    """

    def __init__(self, grace_s: float) -> None:
        if grace_s <= 0:
            raise BadInput(f"a grace of {grace_s} s leaves no time for the lag", hint="allowed: above 0")
        self._grace_ns = round(grace_s * 1e9)
        self._copies: dict[str, _Copy] = {}

    def feed(self, reading: CopyReading) -> None:
        """Take in what one node said."""
        copy = self._copies.get(reading.node)
        if copy is None:
            copy = self._copies[reading.node] = _Copy(reading)
        moved = copy.last.position != reading.position
        copy.last = reading
        copy.set("link", reading.at_ns, None if reading.linked else "its replication link is down")
        self._place(reading, copy, moved=moved)
        if reading.digest is not None:
            self._compare(reading, copy)

    def deviations(self, now_ns: int) -> tuple[Deviation, ...]:
        """What has outlasted the grace, by node; at `now_ns`, monotonic ns."""
        return tuple(d for d in self._all() if d.lasted_ns >= self._grace_ns and d.since_ns <= now_ns)

    def opinion(self, now_ns: int) -> Opinion:
        """Whether any copy deviates; the words name each and say in what."""
        failed = self.deviations(now_ns)
        longest = max((d.lasted_ns for d in self._all()), default=0)
        level = longest / self._grace_ns
        if failed:
            why = "; ".join(f"{d.node}: {d.why}, for {span(d.lasted_ns)}" for d in failed)
            return Opinion(suspects=True, level=level, why=f"{why} (allowed {span(self._grace_ns)})")
        if pending := self._all():
            words = "; ".join(f"{d.node}: {d.why}, for {span(d.lasted_ns)} so far" for d in pending)
            return Opinion(suspects=False, level=level, why=f"{words} (allowed {span(self._grace_ns)})")
        words = f"{len(self._copies)} copies agree" if self._copies else "no copy was read yet"
        return Opinion(suspects=False, level=0.0, why=words)

    def _all(self) -> list[Deviation]:
        return [
            Deviation(node, since, max(copy.last.at_ns - since, 0), why)
            for node, copy in sorted(self._copies.items())
            for since, why in copy.faults.values()
        ]

    def _place(self, reading: CopyReading, copy: _Copy, *, moved: bool) -> None:
        """Who stands still behind another? The reading's node has perhaps moved; others it may have passed."""
        if reading.position is None:
            return
        if moved:
            copy.set("place", reading.at_ns, None)
        ahead = [
            other.last
            for node, other in self._copies.items()
            if node != reading.node and (other.last.position or 0) > reading.position
        ]
        copy.set("place", reading.at_ns, _behind(reading, ahead))
        for node, other in self._copies.items():
            theirs = other.last.position
            if node != reading.node and theirs is not None and theirs < reading.position:
                other.set("place", reading.at_ns, _behind(other.last, [reading]))

    def _compare(self, reading: CopyReading, copy: _Copy) -> None:
        """Digests of one position; the smaller part deviates."""
        if reading.position is None:
            recent = reading.at_ns - self._grace_ns
            group = {n: c.last.digest for n, c in self._copies.items() if c.last.at_ns >= recent}
        else:
            copy.digests[reading.position] = reading.digest or ""
            copy.digests.move_to_end(reading.position)
            if len(copy.digests) > _KEPT:
                copy.digests.popitem(last=False)
            group = {n: c.digests.get(reading.position) for n, c in self._copies.items()}
        digests = {node: digest for node, digest in group.items() if digest is not None}
        if len(digests) < 2:
            return
        words = _minority(digests, reading.position)
        for node in digests:
            other = self._copies[node]
            if reading.position is not None:
                if other.digest_at is not None and other.digest_at > reading.position:
                    continue
                other.digest_at = reading.position
            other.set("digest", reading.at_ns, words.get(node))


def _behind(reading: CopyReading, ahead: Sequence[CopyReading]) -> str | None:
    if not ahead:
        return None
    furthest = max(ahead, key=lambda r: r.position or 0)
    lacks = (furthest.position or 0) - (reading.position or 0)
    return f"its copy stands at {reading.position}, {lacks:,} behind {furthest.node}"


def _minority(digests: dict[str, str], position: int | None) -> dict[str, str]:
    """Who deviates and from whom; without a majority, everybody from everybody."""
    counts = Counter(digests.values())
    where = "" if position is None else f" at {position}"
    winner, votes = counts.most_common(1)[0]
    if votes == len(digests):
        return {}
    if 2 * votes > len(digests):
        many = _names(n for n, d in digests.items() if d == winner)
        return {n: f"its data{where} differ from those of {many}" for n, d in digests.items() if d != winner}
    return {
        node: f"its data{where} differ from those of {_names(n for n, d in digests.items() if d != own)}, "
        "and no majority says who is right"
        for node, own in digests.items()
    }


def _names(nodes: Iterable[str]) -> str:
    return " and ".join(sorted(nodes))

"""One pass over two sides: fingerprints, then digests of the buckets that differ, then keys, then records.

A range-based set reconciliation of one level: 256 buckets by the digest's highest byte. When
everything is equal, only the fingerprints move. Memory is bounded: digests are asked for in
groups of buckets, and only so many keys are looked at.

A record that is written while this goes on moves to another bucket, where nobody may look. So a pass over
buckets that differ finds differences, but proves nothing where something moves; a whole one, over the digests
of all records at one go, does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from haops.compare.differences import Difference, alive, aspects, difference
from haops.parallel import ask_all
from haops.stores.compare import BUCKETS, UNTOLD, Record, Side, Survey

Digests = NDArray[np.uint64]

_SHIFT: Final = np.uint64(56)
# Records whose digests one side sends in one go: 12 MB, and as much again for what finds their keys.
_GROUP: Final = 3 * 512 * 1024
# Keys described in one go: some backups are read from end to end for it. About 10 MB of records a side.
DESCRIBED: Final = 10_000
# Digests of each side whose keys are asked for, however many differ.
MAX_EXAMINED: Final = 100_000


@dataclass(slots=True)
class Found:
    """What one pass found.

    Args:
        differences: Keys whose records differed when they were looked at, `limit` at most.
        agreed: Keys whose digests differed, but whose records were equal when they were looked
            at; each with a number that is the same as long as the records are, None where they tell nothing.
        lapsed: Keys that differ only because their time is over.
        elusive: Buckets that differed, and did not when their digests were asked for.
        unlisted: At least so many more keys differ.
        untold: Keys of which a backup cannot say which state it should have.
        vanished: Digests whose keys were not found any more.
        lone: The digests that one side alone had, those that were looked at.
        whole: Whether all records were looked at, at one go.
    """

    records_left: int
    records_right: int
    differences: dict[bytes, Difference] = field(default_factory=dict)
    agreed: dict[bytes, int | None] = field(default_factory=dict)
    lapsed: int = 0
    elusive: int = 0
    unlisted: int = 0
    untold: int = 0
    vanished: int = 0
    lone: Digests = field(default_factory=lambda: np.zeros(0, np.uint64))
    whole: bool = False


def reconcile(
    left: Side,
    right: Side,
    *,
    limit: int,
    now_ms: int,
    surveys: tuple[Survey, Survey] | None = None,
    whole: bool = False,
) -> Found:
    """Compare two sides once.

    Args:
        limit: Differences that are described, at most.
        now_ms: The time, Unix ms; a record whose expiry is not later counts as gone.
        surveys: The sides' fingerprints, if they were just taken.
        whole: Where the fingerprints differ, look at all records and not only at the buckets that do.
    """
    here, there = surveys or _both(left, right)
    found = Found(int(here.counts.sum()), int(there.counts.sum()))
    differing = differing_buckets(here, there)
    asked = list(groups(here, there, range(BUCKETS) if whole and differing else differing))
    found.whole = whole and len(asked) <= 1
    examiner = _Examiner(found, (left, right), limit, now_ms)
    for group in asked:
        first, second = ask_all(lambda side: side.digests(group), (left, right))  # noqa: B023
        alone = lone_digests(first, second)
        if not found.whole:
            # A bucket that differed and does not any more has caught up, or lost a record to another bucket.
            still = set(np.unique(np.concatenate(alone) >> _SHIFT).tolist())
            found.elusive += len(group.intersection(differing) - still)
        examiner.examine(alone)
    examiner.end()
    return found


def _both(left: Side, right: Side) -> tuple[Survey, Survey]:
    first, second = ask_all(lambda side: side.survey(), (left, right))
    return first, second


def differing_buckets(left: Survey, right: Survey) -> tuple[int, ...]:
    """The buckets whose count or sum is not the same."""
    return tuple(np.flatnonzero((left.counts != right.counts) | (left.sums != right.sums)).tolist())


def groups(
    left: Survey, right: Survey, buckets: Iterable[int], most: int = _GROUP
) -> Iterator[frozenset[int]]:
    """The buckets, together as long as neither side sends more than `most` digests for them."""
    group: list[int] = []
    sizes = np.zeros(2, np.int64)
    for bucket in buckets:
        size = np.array([left.counts[bucket], right.counts[bucket]], np.int64)
        if group and (sizes + size).max() > most:
            yield frozenset(group)
            group, sizes = [], np.zeros(2, np.int64)
        group.append(bucket)
        sizes += size
    if group:
        yield frozenset(group)


def lone_digests(left: Digests, right: Digests) -> tuple[Digests, Digests]:
    """The digests that the other side has not, or not as often; sorted, each once."""
    first, first_times = np.unique(left, return_counts=True)
    second, second_times = np.unique(right, return_counts=True)
    return (
        first[~_present(first, first_times, second, second_times)],
        second[~_present(second, second_times, first, first_times)],
    )


def _present(
    digests: Digests, times: NDArray[np.intp], among: Digests, among_times: NDArray[np.intp]
) -> NDArray[np.bool_]:
    if not len(among):
        return np.zeros(len(digests), np.bool_)
    at = np.searchsorted(among, digests)
    at[at == len(among)] = 0
    present: NDArray[np.bool_] = (among[at] == digests) & (among_times[at] == times)
    return present


def describe(
    sides: tuple[Side, Side], keys: Sequence[bytes]
) -> Iterator[tuple[bytes, Record | None, Record | None]]:
    """What both sides have under these keys now; asked of both at once, a batch at a time."""
    for start in range(0, len(keys), DESCRIBED):
        batch = keys[start : start + DESCRIBED]
        here, there = _records(sides, batch)
        yield from ((key, here.get(key), there.get(key)) for key in batch)


def _records(
    sides: tuple[Side, Side], keys: Sequence[bytes]
) -> tuple[Mapping[bytes, Record | None], Mapping[bytes, Record | None]]:
    first, second = ask_all(lambda side: side.describe(keys), sides)
    return first, second


@dataclass(slots=True)
class _Examiner:
    """Looks at the keys behind digests that one side alone has, until `limit` differences are known."""

    found: Found
    sides: tuple[Side, Side]
    limit: int
    now_ms: int
    lone: list[int] = field(default_factory=lambda: [0, 0])
    explained: list[int] = field(default_factory=lambda: [0, 0])
    seen: set[bytes] = field(default_factory=set)
    cut: bool = False

    def examine(self, alone: tuple[Digests, Digests]) -> None:
        """Look at those that `digests` has just told, while the sides know their keys."""
        wanted = [digests[: max(0, MAX_EXAMINED - n)] for digests, n in zip(alone, self.lone, strict=True)]
        self.found.lone = np.concatenate((self.found.lone, *wanted))
        self.lone = [n + len(digests) for digests, n in zip(alone, self.lone, strict=True)]
        # A side that has to scan for keys does so once a batch.
        step = max(self.limit, DESCRIBED)
        for start in range(0, max(map(len, wanted)), step):
            if self.cut:
                return
            self._look_at([digests[start : start + step] for digests in wanted])

    def _look_at(self, batches: Sequence[Digests]) -> None:
        named = ask_all(lambda pair: pair[0].keys(pair[1]), zip(self.sides, batches, strict=True))
        self.found.vanished += sum(max(0, len(b) - len(n)) for b, n in zip(batches, named, strict=True))
        keys = [key for key in dict.fromkeys((*named[0], *named[1])) if key not in self.seen]
        self.seen.update(keys)
        for key, here, there in describe(self.sides, keys):
            if len(self.found.differences) >= self.limit:
                self.cut = True
                return
            self.explained[0] += here is not None
            self.explained[1] += there is not None
            _judge(self.found, key, (here, there), self.now_ms)

    def end(self) -> None:
        """Say how many are left."""
        if self.cut or max(self.lone) > MAX_EXAMINED:
            left = (n - known for n, known in zip(self.lone, self.explained, strict=True))
            self.found.unlisted = max(1, *left)


def _judge(found: Found, key: bytes, records: tuple[Record | None, Record | None], now_ms: int) -> None:
    if any(record is UNTOLD for record in records):
        found.untold += 1
        return
    here, there = (alive(record, now_ms) for record in records)
    if differs := difference(key, here, there):
        found.differences[key] = differs
    elif aspects(*records):
        found.lapsed += 1
    else:
        # Digests know of no `perhaps`: they may differ for ever.
        told = any(records) and not any(r and r.perhaps for r in records)
        found.agreed[key] = hash(records) if told else None

"""One pass over two sides: fingerprints, then digests of the buckets that differ, then keys, then records.

A range-based set reconciliation of one level: 256 buckets by the digest's highest byte. When
everything is equal, only the fingerprints move. Memory is bounded: digests are asked for in
groups of buckets, and only so many keys are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from haops.compare.differences import Difference, alive, aspects, difference
from haops.parallel import ask_all
from haops.stores.compare import UNTOLD, Record, Side, Survey

Digests = NDArray[np.uint64]

_SHIFT: Final = np.uint64(56)
# Records whose digests one side sends in one go: 32 MB.
_GROUP: Final = 4 * 1024 * 1024
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
            at; each with a number that is the same as long as the records are.
        lapsed: Keys that differ only because their time is over.
        elusive: Records that had changed again when their digest or key was asked for.
        unlisted: At least so many more keys differ.
        untold: Keys of which a backup cannot say which state it should have.
    """

    records_left: int
    records_right: int
    differences: dict[bytes, Difference] = field(default_factory=dict)
    agreed: dict[bytes, int] = field(default_factory=dict)
    lapsed: int = 0
    elusive: int = 0
    unlisted: int = 0
    untold: int = 0


@dataclass(slots=True)
class _Lone:
    """Digests that only one side has: the first of them, and how many there are."""

    kept: list[Digests] = field(default_factory=list)
    count: int = 0

    def add(self, digests: Digests) -> None:
        room = MAX_EXAMINED - min(self.count, MAX_EXAMINED)
        self.kept.append(digests[:room].copy())  # a slice alone would keep the whole
        self.count += len(digests)

    def all(self) -> Digests:
        return np.concatenate(self.kept) if self.kept else np.zeros(0, np.uint64)


def reconcile(
    left: Side, right: Side, *, limit: int, now_ms: int, surveys: tuple[Survey, Survey] | None = None
) -> Found:
    """Compare two sides once.

    Args:
        limit: Differences that are described, at most.
        now_ms: The time, Unix ms; a record whose expiry is not later counts as gone.
        surveys: The sides' fingerprints, if they were just taken.
    """
    here, there = surveys or _both(left, right)
    found = Found(int(here.counts.sum()), int(there.counts.sum()))
    lone = (_Lone(), _Lone())
    for group in groups(here, there):
        first, second = ask_all(lambda side: side.digests(group), (left, right))  # noqa: B023
        alone = lone_digests(first, second)
        # A bucket that differed and does not any more has caught up, or lost a record to another bucket.
        found.elusive += len(group) - len(np.unique(np.concatenate(alone) >> _SHIFT))
        for side, digests in zip(lone, alone, strict=True):
            side.add(digests)
    if lone[0].count or lone[1].count:
        _examine(found, (left, right), lone, limit, now_ms)
    return found


def _both(left: Side, right: Side) -> tuple[Survey, Survey]:
    first, second = ask_all(lambda side: side.survey(), (left, right))
    return first, second


def differing_buckets(left: Survey, right: Survey) -> tuple[int, ...]:
    """The buckets whose count or sum is not the same."""
    return tuple(np.flatnonzero((left.counts != right.counts) | (left.sums != right.sums)).tolist())


def groups(left: Survey, right: Survey, most: int = _GROUP) -> Iterator[frozenset[int]]:
    """The differing buckets, together as long as neither side sends more than `most` digests for them."""
    group: list[int] = []
    sizes = np.zeros(2, np.int64)
    for bucket in differing_buckets(left, right):
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


def _examine(
    found: Found, sides: tuple[Side, Side], lone: tuple[_Lone, _Lone], limit: int, now_ms: int
) -> None:
    """Look at the keys behind the lone digests until `limit` differences are known."""
    wanted = (lone[0].all(), lone[1].all())
    seen: set[bytes] = set()
    explained = [0, 0]
    start, cut = 0, False
    # A side that has to scan for keys does so once a batch.
    step = max(limit, DESCRIBED)
    while start < max(map(len, wanted)) and not cut:
        batches = [digests[start : start + step] for digests in wanted]
        named = ask_all(lambda pair: pair[0].keys(pair[1]), zip(sides, batches, strict=True))
        found.elusive += sum(max(0, len(b) - len(n)) for b, n in zip(batches, named, strict=True))
        keys = [key for key in dict.fromkeys((*named[0], *named[1])) if key not in seen]
        seen.update(keys)
        for key, here, there in describe(sides, keys):
            if cut := len(found.differences) >= limit:
                break
            explained[0] += here is not None
            explained[1] += there is not None
            _judge(found, key, (here, there), now_ms)
        start += step
    if cut or max(side.count for side in lone) > MAX_EXAMINED:
        found.unlisted = max(1, *(side.count - known for side, known in zip(lone, explained, strict=True)))


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
        found.agreed[key] = hash(records)

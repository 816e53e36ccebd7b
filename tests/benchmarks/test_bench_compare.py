"""Comparing a million records in memory: what haops itself costs, beside a plain comparison of two dicts."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from haops.compare.rounds import Comparison, Manner, compare
from haops.stores.compare import Record, Survey
from haops.stores.gathered import Gathered

RECORDS = 1_000_000
_MIX = 0x9E3779B97F4A7C15


@dataclass
class Numbered:
    """Keys 0 to n-1 of 40 bytes; every `wrong`-th has another value. Nothing of it is kept but digests and keys."""

    wrong: int | None
    label: str = "side"
    moved: int = 0

    def __post_init__(self) -> None:
        self.gathered = Gathered.of(self._pairs())

    def _changed(self, n: int) -> int:
        return int(self.wrong is not None and n % self.wrong == 0)

    def _pairs(self) -> Iterator[tuple[bytes, int]]:
        for n in range(RECORDS):
            yield b"%040d" % n, (2 * n + self._changed(n)) * _MIX % 2**64

    def survey(self) -> Survey:
        self.moved += 4096
        return self.gathered.survey()

    def digests(self, buckets: frozenset[int]) -> NDArray[np.uint64]:
        found = self.gathered.digests(buckets)
        self.moved += found.nbytes
        return found

    def keys(self, digests: NDArray[np.uint64]) -> Sequence[bytes]:
        return self.gathered.keys(digests)

    def describe(self, keys: Sequence[bytes]) -> Mapping[bytes, Record | None]:
        return {key: Record("string", str(self._changed(int(key)))) for key in keys}


def plain() -> float:
    """Two dicts compared, which must be in memory whole."""
    first = {b"%040d" % n: n for n in range(RECORDS)}
    second = {b"%040d" % n: n for n in range(RECORDS)}
    began = time.perf_counter()
    assert [key for key, value in first.items() if second.get(key) != value] == []
    return time.perf_counter() - began


@pytest.mark.timeout(300)
@pytest.mark.parametrize("wrong", [None, 100_000, 1000, 1])
def test_a_million_records_are_compared(wrong: int | None) -> None:
    began = time.perf_counter()
    left, right = Numbered(None), Numbered(wrong)
    read_s = time.perf_counter() - began
    manner = Manner(rounds=2, pause_s=0.001)
    began = time.perf_counter()
    found: Comparison = compare(left, right, manner)
    took = time.perf_counter() - began
    tracemalloc.start()
    compare(left, right, manner)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    differ = 0 if wrong is None else RECORDS // wrong
    print(
        f"\n{RECORDS:,} records, {differ:,} differ: both sides read in {read_s:.2f} s, compared in {took:.2f} s "
        f"({RECORDS / took:,.0f}/s), {found.moved:,} bytes moved, {most / 1e6:.0f} MB besides the sides; "
        f"two dicts: {plain():.2f} s"
    )
    assert len(found.differences) + found.unlisted == differ
    assert most < 100e6

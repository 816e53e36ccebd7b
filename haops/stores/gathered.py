"""A side of a comparison that has to read everything once: its digests and keys, kept small.

Twelve bytes a record stay in memory; the keys themselves do up to 32 MiB, and go to an
unnamed temporary file beyond that. Ten million records of 40-byte keys take about 160 MB.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from haops.errors import EnvironmentTrouble
from haops.stores.compare import BUCKETS, Survey

_BATCH: Final = 4096
# Records looked at in one go. A sum of as many 32-bit halves stays below 2**53, so floats hold it exactly.
_BLOCK: Final = 65536
_IN_MEMORY: Final = 32 * 1024 * 1024
_SHIFT: Final = np.uint64(56)
_HALF: Final = np.uint64(32)
_LOW: Final = np.uint64(0xFFFFFFFF)


def survey_of(digests: NDArray[np.uint64]) -> Survey:
    """The fingerprint of records with these digests; an array of any length, a digest an element."""
    counts, sums = np.zeros(BUCKETS, np.uint64), np.zeros(BUCKETS, np.uint64)
    for start in range(0, len(digests), _BLOCK):
        block = digests[start : start + _BLOCK]
        where = (block >> _SHIFT).astype(np.intp)
        counts += np.bincount(where, minlength=BUCKETS).astype(np.uint64)
        low = np.bincount(where, weights=block & _LOW, minlength=BUCKETS).astype(np.uint64)
        high = np.bincount(where, weights=block >> _HALF, minlength=BUCKETS).astype(np.uint64)
        sums += low + (high << _HALF)  # wraps around, as it must
    return Survey(counts, sums)


def add_surveys(surveys: Iterable[Survey]) -> Survey:
    """The fingerprint of several disjoint parts together."""
    counts, sums = np.zeros(BUCKETS, np.uint64), np.zeros(BUCKETS, np.uint64)
    for survey in surveys:
        counts += survey.counts
        sums += survey.sums
    return Survey(counts, sums)


def in_buckets(digests: NDArray[np.uint64], buckets: frozenset[int]) -> NDArray[np.uint64]:
    """Those digests that lie in these buckets."""
    if len(buckets) == BUCKETS:
        return digests
    wanted = np.zeros(BUCKETS, np.bool_)
    wanted[list(buckets)] = True
    found = [
        block[wanted[(block >> _SHIFT).astype(np.intp)]]
        for block in (digests[start : start + _BLOCK] for start in range(0, len(digests), _BLOCK))
    ]
    return np.concatenate(found) if found else np.zeros(0, np.uint64)


class _Heap:
    """Bytes that are only added to, and read back by position."""

    def __init__(self, in_memory: int) -> None:
        self._most = in_memory
        self._tail = bytearray()
        self._spooled = 0
        self._file: int | None = None

    def add(self, data: bytes) -> None:
        self._tail += data
        if len(self._tail) <= self._most:
            return
        try:
            self._spool()
        except OSError as error:
            raise EnvironmentTrouble(
                f"the keys compared do not fit into {tempfile.gettempdir()}", detail=str(error)
            ) from error

    def _spool(self) -> None:
        if self._file is None:
            self._file, name = tempfile.mkstemp(prefix="haops-keys-")
            weakref.finalize(self, os.close, self._file)
            Path(name).unlink()
        rest = memoryview(self._tail)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        self._spooled += len(self._tail)
        self._tail = bytearray()

    def read(self, start: int, end: int) -> bytes:
        if start >= self._spooled or self._file is None:
            return bytes(self._tail[start - self._spooled : end - self._spooled])
        # A batch is spooled as a whole, so a key is never half here and half there.
        return os.pread(self._file, end - start, start)


class Gathered:
    """Digests and keys of everything that a side holds.

    Args:
        digests: One a record, in the order in which they came.
        lengths: The keys' lengths in bytes, in the same order.
        heap: The keys, one after the other.
    """

    def __init__(self, digests: NDArray[np.uint64], lengths: NDArray[np.uint32], heap: _Heap) -> None:
        self._digests = digests
        self._lengths = lengths
        self._heap = heap

    @classmethod
    def of(cls, pairs: Iterable[tuple[bytes, int]], *, in_memory: int = _IN_MEMORY) -> Gathered:
        """Read pairs of a key and its record's digest (0 to 2**64 - 1), each key once.

        Args:
            in_memory: Bytes of keys that are kept out of the temporary file.

        Raises:
            EnvironmentTrouble: The disk of the temporary folder is full.
        """
        digests, lengths, heap = array("Q"), array("I"), _Heap(in_memory)
        source = iter(pairs)
        while batch := list(islice(source, _BATCH)):
            keys = [key for key, _ in batch]
            digests.extend([digest for _, digest in batch])
            lengths.extend(map(len, keys))
            heap.add(b"".join(keys))
        return cls(np.frombuffer(digests, np.uint64), np.frombuffer(lengths, np.uint32), heap)

    @property
    def count(self) -> int:
        """How many records there are."""
        return len(self._digests)

    def survey(self) -> Survey:
        """The fingerprint of everything."""
        return survey_of(self._digests)

    def digests(self, buckets: frozenset[int]) -> NDArray[np.uint64]:
        """The digests in these buckets."""
        return in_buckets(self._digests, buckets)

    def keys(self, digests: NDArray[np.uint64]) -> Sequence[bytes]:
        """The keys of the records with these digests; all of them where several share one."""
        return list(self._keys(np.sort(digests))) if len(digests) else []

    def _keys(self, wanted: NDArray[np.uint64]) -> Iterator[bytes]:
        base = 0
        for start in range(0, self.count, _BLOCK):
            block = self._digests[start : start + _BLOCK]
            lengths = self._lengths[start : start + _BLOCK].astype(np.int64)
            at = np.searchsorted(wanted, block)
            at[at == len(wanted)] = 0
            hits = np.flatnonzero(wanted[at] == block)
            if len(hits):
                ends = base + np.cumsum(lengths)
                for end, length in zip(ends[hits].tolist(), lengths[hits].tolist(), strict=True):
                    yield self._heap.read(end - length, end)
            base += int(lengths.sum())

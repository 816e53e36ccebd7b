"""Tests for what is made of the sums and digests that a server sends."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.spec import Node
from haops.stores.compare import BUCKETS
from haops.stores.gathered import survey_of
from haops.stores.redis import sides
from haops.stores.redis.digest import name_of, tag
from haops.stores.redis.sides import LiveSide

DIGESTS = st.lists(st.integers(0, 2**64 - 1), max_size=30)
SLICES = st.lists(DIGESTS, min_size=1, max_size=4)


def summed(digests: Sequence[int]) -> bytes:
    """What the script answers for a slice with these digests: for each bucket count (2 bytes) and sum (8)."""
    out = []
    for bucket in range(BUCKETS):
        mine = [digest for digest in digests if digest >> 56 == bucket]
        out.append(len(mine).to_bytes(2, "big") + (sum(mine) % 2**64).to_bytes(8, "big"))
    return b"".join(out)


class Told:
    """A connection to a server with one database, whose script answers so for one slice after the other."""

    def __init__(self, outputs: list[bytes]) -> None:
        self.left = list(enumerate(outputs, 1))
        self.last = len(outputs)

    def ask(self, *words: Any) -> Any:
        if words[0] == "INFO":
            return b"db0:keys=9,expires=0\r\n"
        if words[0] == "EVALSHA_RO":
            number, output = self.left.pop(0)
            return [b"0" if number == self.last else b"%d" % number, 1, 1, output, []]
        return b"OK"


def side_told(outputs: list[bytes]) -> LiveSide:
    """A side that hears these answers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sides, "Wire", lambda *_: Told(outputs))
        return LiveSide(object.__new__(Node), "one")


@given(SLICES)
def test_sums_of_slices_are_those_of_all_digests(slices: list[list[int]]) -> None:
    found = side_told([summed(part) for part in slices]).survey()
    expected = survey_of(np.array([digest for part in slices for digest in part], np.uint64))
    assert (found.counts == expected.counts).all()
    assert (found.sums == expected.sums).all()


def test_a_sum_past_64_bits_wraps_around() -> None:
    found = side_told([summed([2**64 - 1]), summed([2**64 - 1, 2**64 - 2])]).survey()
    assert found.counts[255] == 3
    assert int(found.sums[255]) == (3 * 2**64 - 4) % 2**64


def test_a_digest_that_is_told_twice_counts_once() -> None:
    told = [b"".join(struct.pack(">QI", digest, 7) for digest in part) for part in ([9, 5], [9])]
    assert side_told(told).digests(frozenset({0})).tolist() == [5, 9]


def test_a_record_that_has_changed_is_found_by_the_tag_of_its_key() -> None:
    keys = [b"user:%d" % n for n in range(200)]
    marks = [struct.pack(">QI", 1000 + n, tag(0, key)) for n, key in enumerate(keys)]
    names = [struct.pack(">I", tag(0, key)) + key for key in keys]
    side = side_told([b"".join(marks)])
    assert side.digests(frozenset(range(BUCKETS))).tolist() == list(range(1000, 1200))
    side.wire = Told([names])  # type: ignore[arg-type, list-item, assignment]
    assert list(side.keys(np.array([1003, 1190, 5], np.uint64))) == [
        name_of(0, b"user:3"),
        name_of(0, b"user:190"),
    ]


def test_before_any_digest_was_told_no_key_is_known() -> None:
    assert list(side_told([[]]).keys(np.array([7], np.uint64))) == []  # type: ignore[list-item]

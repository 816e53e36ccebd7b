"""A side that reads everything once: what it keeps, finds again, and sums up."""

from __future__ import annotations

import gc
import os
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.errors import EnvironmentTrouble
from haops.stores.compare import BUCKETS
from haops.stores.gathered import Gathered, add_surveys, in_buckets, survey_of

# Few digests, so that several keys share one.
PAIRS = st.dictionaries(
    st.binary(max_size=12), st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2**64 - 1, 2**56]))
)


def array_of(digests: list[int]) -> np.ndarray:
    return np.array(digests, np.uint64)


@given(PAIRS)
def test_the_survey_counts_and_sums_each_bucket_mod_2_to_the_64(pairs: dict[bytes, int]) -> None:
    survey = Gathered.of(pairs.items()).survey()
    for bucket in range(BUCKETS):
        inside = [d for d in pairs.values() if d >> 56 == bucket]
        assert int(survey.counts[bucket]) == len(inside)
        assert int(survey.sums[bucket]) == sum(inside) % 2**64


@given(PAIRS, st.frozensets(st.integers(0, 255), max_size=256))
def test_the_digests_of_buckets_are_those_and_no_others(
    pairs: dict[bytes, int], buckets: frozenset[int]
) -> None:
    got = Gathered.of(pairs.items()).digests(buckets)
    assert sorted(got.tolist()) == sorted(d for d in pairs.values() if d >> 56 in buckets)


@given(PAIRS, st.sets(st.integers(0, 2**64 - 1)), st.sampled_from([0, 20, 10**6]))
def test_keys_are_found_again_in_memory_and_in_the_file(
    pairs: dict[bytes, int], strangers: set[int], in_memory: int
) -> None:
    gathered = Gathered.of(pairs.items(), in_memory=in_memory)
    wanted = set(list(pairs.values())[::2]) | strangers
    got = gathered.keys(array_of(sorted(wanted)))
    assert sorted(got) == sorted(k for k, d in pairs.items() if d in wanted)
    assert gathered.count == len(pairs)


def test_keys_are_found_across_blocks_and_batches_partly_in_the_file() -> None:
    digest = 0x9E3779B97F4A7C15
    pairs = [(b"key:%d" % n * (n % 4), n * digest % 2**64) for n in range(150_000)]
    gathered = Gathered.of(pairs, in_memory=1_000_000)
    chosen = [0, 1, 65535, 65536, 131071, 131072, 149_999]
    got = gathered.keys(array_of([pairs[n][1] for n in chosen]))
    assert got == [pairs[n][0] for n in chosen]


def test_nothing_gathered_has_an_empty_survey() -> None:
    nothing = Gathered.of([])
    assert nothing.count == 0
    assert not nothing.survey().counts.any()
    assert len(nothing.digests(frozenset(range(256)))) == 0
    assert nothing.keys(array_of([1])) == []


@given(st.lists(st.lists(st.integers(0, 2**64 - 1))))
def test_surveys_of_parts_add_up_to_the_whole(parts: list[list[int]]) -> None:
    whole = survey_of(array_of([d for part in parts for d in part]))
    added = add_surveys(survey_of(array_of(part)) for part in parts)
    assert added.counts.tolist() == whole.counts.tolist()
    assert added.sums.tolist() == whole.sums.tolist()


def test_sums_stay_exact_over_many_digests_of_one_bucket() -> None:
    digests = np.full(200_000, 2**64 - 1, np.uint64)
    survey = survey_of(digests)
    assert int(survey.sums[255]) == 200_000 * (2**64 - 1) % 2**64
    assert int(survey.counts[255]) == 200_000


def test_all_buckets_are_given_without_a_copy() -> None:
    digests = array_of([1, 2, 3])
    assert in_buckets(digests, frozenset(range(256))) is digests


def test_200_000_keys_of_200_bytes_take_no_more_memory_than_allowed_and_12_bytes_each() -> None:
    def pairs() -> Iterator[tuple[bytes, int]]:
        for n in range(200_000):
            yield b"%0200d" % n, n

    tracemalloc.start()
    try:
        gathered = Gathered.of(pairs(), in_memory=4_000_000)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert gathered.count == 200_000
    assert most < 15e6


def test_the_temporary_file_has_no_name_and_is_closed_with_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gc.collect()  # what other tests left open must not be closed in between
    before = len(list(Path("/proc/self/fd").iterdir()))
    gathered = Gathered.of([(b"a", 1)], in_memory=0)
    assert list(tmp_path.iterdir()) == []
    assert gathered.keys(array_of([1])) == [b"a"]
    del gathered
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_full_disk_is_the_environments_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(EnvironmentTrouble, match="do not fit"):
        Gathered.of([(b"a", 1)], in_memory=0)

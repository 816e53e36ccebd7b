"""One pass: it finds exactly what differs, and moves little when little does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haops.compare import reconcile as module
from haops.compare.differences import Kind, alive, aspects
from haops.compare.reconcile import Found, differing_buckets, groups, lone_digests, reconcile
from haops.stores.compare import UNTOLD, Record
from haops.stores.gathered import survey_of

from ...compare_fakes import SURVEY_BYTES, FakeSide, digest, text

NOW = 1_700_000_000_000
WORDS = st.sampled_from(["", "a", "b"])
RECORDS = st.builds(Record, st.sampled_from(["string", "hash"]), WORDS, WORDS, WORDS, WORDS, WORDS)
KEYS = st.sampled_from([b"key:%d" % n for n in range(40)])
SIDES = st.dictionaries(KEYS, RECORDS)
DIGESTS = st.lists(st.one_of(st.integers(0, 5), st.integers(0, 2**64 - 1)))


def found(left: dict[bytes, Record], right: dict[bytes, Record], limit: int = 1000) -> Found:
    return reconcile(FakeSide(left), FakeSide(right), limit=limit, now_ms=NOW)


def differing(left: dict[bytes, Record], right: dict[bytes, Record]) -> set[bytes]:
    return {key for key in left.keys() | right.keys() if aspects(left.get(key), right.get(key))}


@given(SIDES, SIDES)
def test_exactly_the_keys_that_differ_are_found_with_both_records(
    left: dict[bytes, Record], right: dict[bytes, Record]
) -> None:
    got = found(left, right)
    assert set(got.differences) == differing(left, right)
    assert (got.records_left, got.records_right) == (len(left), len(right))
    assert (got.agreed, got.lapsed, got.elusive, got.unlisted) == ({}, 0, 0, 0)
    for key, difference in got.differences.items():
        assert (difference.left, difference.right) == (left.get(key), right.get(key))


@given(SIDES, SIDES, st.integers(1, 5))
def test_what_is_not_listed_is_counted_and_never_for_nothing(
    left: dict[bytes, Record], right: dict[bytes, Record], limit: int
) -> None:
    got = found(left, right, limit)
    wanted = differing(left, right)
    assert set(got.differences) <= wanted
    assert len(got.differences) == min(limit, len(wanted))
    assert (got.unlisted > 0) == (len(wanted) > limit)
    assert len(got.differences) + got.unlisted <= len(wanted)


@given(RECORDS, RECORDS)
def test_every_aspect_that_differs_is_named_and_no_other(left: Record, right: Record) -> None:
    fields = {"kind": "type", "value": "value", "expires": "expiry", "acl": "acl", "version": "version"}
    wanted = {word for name, word in fields.items() if getattr(left, name) != getattr(right, name)}
    assert {kind.value for kind in aspects(left, right)} == wanted


def test_one_side_alone_is_missing_or_extra() -> None:
    assert aspects(text("a"), None) == (Kind.MISSING,)
    assert aspects(None, text("a")) == (Kind.EXTRA,)
    assert aspects(None, None) == ()


@given(SIDES)
def test_equal_sides_are_asked_for_nothing_but_their_surveys(records: dict[bytes, Record]) -> None:
    left, right = FakeSide(dict(records)), FakeSide(dict(records))
    reconcile(left, right, limit=10, now_ms=NOW)
    assert left.asked == right.asked == ["survey"]
    assert left.moved == right.moved == SURVEY_BYTES


def test_one_difference_among_many_moves_few_digests() -> None:
    records = {b"key:%d" % n: text(str(n)) for n in range(20_000)}
    left, right = FakeSide(records), FakeSide({**records, b"key:7": text("other")})
    got = reconcile(left, right, limit=10, now_ms=NOW)
    assert set(got.differences) == {b"key:7"}
    # Two buckets of 256, eight bytes a digest.
    assert left.moved - SURVEY_BYTES < 20_000 * 8 * 3 / 256


@given(DIGESTS, DIGESTS)
def test_lone_digests_are_those_the_other_side_has_not_as_often(first: list[int], second: list[int]) -> None:
    left, right = lone_digests(np.array(first, np.uint64), np.array(second, np.uint64))
    assert left.tolist() == sorted(d for d in set(first) if first.count(d) != second.count(d))
    assert right.tolist() == sorted(d for d in set(second) if first.count(d) != second.count(d))


@given(DIGESTS, DIGESTS, st.integers(1, 20))
def test_groups_hold_each_differing_bucket_once_and_are_bounded(
    first: list[int], second: list[int], most: int
) -> None:
    left, right = survey_of(np.array(first, np.uint64)), survey_of(np.array(second, np.uint64))
    got = list(groups(left, right, differing_buckets(left, right), most))
    assert sorted(b for group in got for b in group) == list(differing_buckets(left, right))
    for group in got:
        if len(group) > 1:
            assert sum(d >> 56 in group for d in first) <= most
            assert sum(d >> 56 in group for d in second) <= most


def test_when_everything_differs_it_is_asked_in_one_go() -> None:
    left = FakeSide({b"%d" % n: text("a") for n in range(3000)})
    right = FakeSide({b"%d" % n: text("b") for n in range(3000)})
    got = reconcile(left, right, limit=3000, now_ms=NOW)
    assert len(got.differences) == 3000
    assert left.asked.count("digests") == left.asked.count("keys") == 1


def test_no_more_keys_are_looked_at_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EXAMINED", 100)
    monkeypatch.setattr(module, "DESCRIBED", 10)
    past = {b"%d" % n: text("a", expires="1") for n in range(500)}
    got = reconcile(FakeSide(past), FakeSide({}), limit=10, now_ms=NOW)
    assert got.lapsed == 100
    assert got.unlisted == 400


@settings(max_examples=30)
@given(st.integers(NOW - 2, NOW + 2))
def test_a_record_whose_time_is_over_counts_as_gone(expires: int) -> None:
    record = text("a", expires=str(expires))
    assert alive(record, NOW) == (record if expires > NOW else None)
    got = found({b"k": record}, {})
    assert (len(got.differences), got.lapsed) == ((1, 0) if expires > NOW else (0, 1))


def test_an_expiry_that_is_no_number_never_lapses() -> None:
    assert alive(text("a", expires="never"), NOW) is not None


def test_a_record_that_changed_between_the_questions_is_found_by_its_key() -> None:
    left = FakeSide({b"k": text("0")})

    def change(question: str) -> None:
        if question == "keys":
            left.records[b"k"] = text("1")

    left.before = change
    got = reconcile(left, FakeSide({}), limit=10, now_ms=NOW)
    assert (got.elusive, got.vanished, set(got.differences)) == (0, 0, {b"k"})


def test_a_key_that_is_gone_when_it_is_asked_for_is_counted() -> None:
    left = FakeSide({b"k": text("0"), b"l": text("0")})

    def remove(question: str) -> None:
        if question == "keys":
            left.records.pop(b"k", None)

    left.before = remove
    got = reconcile(left, FakeSide({}), limit=10, now_ms=NOW)
    assert (got.vanished, set(got.differences)) == (1, {b"l"})
    assert set(got.lone.tolist()) == {digest(b"k", text("0")), digest(b"l", text("0"))}


def test_a_whole_pass_finds_what_has_moved_out_of_the_buckets_that_differed() -> None:
    def moving() -> FakeSide:
        left = FakeSide({b"k": text("0"), **{b"%d" % n: text("same") for n in range(50)}})

        def move(question: str) -> None:
            if question == "digests":
                left.records[b"k"] = text("1")

        left.before = move
        return left

    right = {**moving().records, b"k": text("2")}
    buckets = [digest(b"k", text(v)) >> 56 for v in "012"]
    assert buckets[1] not in (buckets[0], buckets[2])
    right[b"k"] = text("3")
    assert digest(b"k", text("3")) >> 56 != buckets[1]
    got = reconcile(moving(), FakeSide(dict(right)), limit=10, now_ms=NOW, whole=True)
    assert (got.whole, got.elusive, set(got.differences)) == (True, 0, {b"k"})


@given(SIDES)
def test_a_whole_pass_over_equal_sides_moves_no_more_than_another(records: dict[bytes, Record]) -> None:
    left, right = FakeSide(dict(records)), FakeSide(dict(records))
    got = reconcile(left, right, limit=10, now_ms=NOW, whole=True)
    assert (got.whole, left.asked) == (True, ["survey"])


def test_a_pass_that_takes_several_readings_is_no_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "groups", lambda *_: [frozenset(range(128)), frozenset(range(128, 256))])
    got = reconcile(FakeSide({b"k": text("0")}), FakeSide({}), limit=10, now_ms=NOW, whole=True)
    assert (got.whole, set(got.differences)) == (False, {b"k"})


@given(SIDES, SIDES, st.sets(KEYS))
def test_what_a_backup_cannot_tell_is_counted_and_is_no_difference(
    left: dict[bytes, Record], right: dict[bytes, Record], meanwhile: set[bytes]
) -> None:
    class Backup(FakeSide):
        def describe(self, keys: Sequence[bytes]) -> Mapping[bytes, Record | None]:
            return {k: UNTOLD if k in meanwhile else v for k, v in super().describe(keys).items()}

    got = reconcile(Backup(left), FakeSide(right), limit=1000, now_ms=NOW)
    wanted = differing(left, right)
    assert set(got.differences) == wanted - meanwhile
    assert got.untold == len(wanted & meanwhile)
    assert got.agreed == {}

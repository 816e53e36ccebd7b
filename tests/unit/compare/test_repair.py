"""Repair: the wrong side becomes like the right one, and nothing else happens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haops.compare.differences import Kind, difference
from haops.compare.repair import (
    Kept,
    RepairOrder,
    Tally,
    Truth,
    kinds_of,
    plan,
    repair,
    repair_replicas,
    wrong_copies,
)
from haops.compare.rounds import Comparison, Manner, Verdict, compare, compare_all
from haops.errors import HaopsError
from haops.stores.compare import Record, Side

from ...compare_fakes import FakeSide, comparing, text
from ...fakes import FakeClock, FakeRuntime, make_cluster

Records = dict[bytes, Record]
KEYS = st.sampled_from([b"key:%d" % n for n in range(30)])
SIDES = st.dictionaries(KEYS, st.sampled_from([text("a"), text("b"), text("b", expires="5000")]))


def manner(limit: int = 1000) -> Manner:
    return Manner(limit, rounds=2, clock=FakeClock().clock, now_ms=lambda: 1000)


def order_for(left: FakeSide, right: FakeSide, truth: Truth, limit: int = 1000) -> RepairOrder:
    @contextmanager
    def opened() -> Iterator[tuple[Side, Side]]:
        yield left, right

    return RepairOrder(comparing({}), opened, truth, manner(limit))


def found(left: FakeSide, right: FakeSide, limit: int = 1000) -> Comparison:
    return compare(left, right, manner(limit))


@settings(max_examples=50)
@given(SIDES, SIDES, st.sampled_from(Truth), st.integers(1, 40))
def test_the_target_becomes_the_truth_and_the_truth_stays(
    first: Records, second: Records, truth: Truth, limit: int
) -> None:
    left, right = FakeSide(dict(first)), FakeSide(dict(second))
    done = repair(order_for(left, right, truth, limit), found(left, right, limit))
    wanted = first if truth is Truth.LEFT else second
    assert left.records == right.records == wanted
    assert done.after.verdict is Verdict.EQUAL
    assert done.done == len([k for k in first.keys() | second.keys() if first.get(k) != second.get(k)])


@pytest.mark.parametrize(
    ("truth", "write", "delete", "target"),
    [(Truth.LEFT, (b"gone", b"other"), (b"more",), "r"), (Truth.RIGHT, (b"more", b"other"), (b"gone",), "l")],
)
def test_the_plan_says_what_is_written_and_deleted_on_the_target(
    truth: Truth, write: tuple[bytes, ...], delete: tuple[bytes, ...], target: str
) -> None:
    left = FakeSide({b"gone": text("1"), b"other": text("1"), b"same": text("1")}, label="l")
    right = FakeSide({b"more": text("1"), b"other": text("2"), b"same": text("1")}, label="r")
    wanted = plan(found(left, right), truth)
    assert (sorted(wanted.write), wanted.delete, wanted.target) == (sorted(write), delete, target)


def test_parents_are_written_before_their_children_and_deleted_after_them() -> None:
    paths = [b"/a", b"/a/b", b"/a/b/c", b"/a-b"]
    left, right = FakeSide({p: text("1") for p in paths}), FakeSide({b"/z" + p: text("1") for p in paths})
    wanted = plan(found(left, right), Truth.LEFT)
    assert wanted.write.index(b"/a") < wanted.write.index(b"/a/b") < wanted.write.index(b"/a/b/c")
    assert wanted.delete.index(b"/z/a/b/c") < wanted.delete.index(b"/z/a/b") < wanted.delete.index(b"/z/a")


def test_a_plan_alone_changes_nothing() -> None:
    left, right = FakeSide({b"k": text("1")}), FakeSide({})
    plan(found(left, right), Truth.LEFT)
    assert right.records == {}


def test_keys_that_are_still_moving_are_left_alone() -> None:
    moving = difference(b"k", text("1"), None)
    assert moving
    assert plan(Comparison("l", "r", unsettled=(moving,)), Truth.LEFT).keys == ()


def test_equal_sides_are_not_touched() -> None:
    left, right = FakeSide({b"k": text("1")}), FakeSide({b"k": text("1")})
    first = found(left, right)
    done = repair(order_for(left, right, Truth.LEFT), first)
    assert (done.plans, done.done, done.after) == ((), 0, first)


def test_keys_go_to_the_store_in_batches_with_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haops.compare.repair.BATCH", 100)
    left, right = FakeSide({b"%d" % n: text("1") for n in range(205)}), FakeSide({})
    heard: list[tuple[int, int]] = []
    order = replace(
        order_for(left, right, Truth.LEFT, 10_000), hear=lambda tally, of: heard.append((tally.done, of))
    )
    first = found(left, right, 10_000)
    left.asked.clear()
    repair(order, first)
    total = 205
    assert heard == [(n, total) for n in range(1, total + 1)]
    assert left.asked.count("describe") == 3  # once a batch


def test_a_repair_that_does_not_help_ends_and_says_so() -> None:
    left, right = FakeSide({b"%d" % n: text("1") for n in range(20)}), FakeSide({})
    right.before = lambda _: right.records.clear()
    done = repair(order_for(left, right, Truth.LEFT, 5), found(left, right, 5))
    assert done.after.verdict is Verdict.DIFFERENT
    assert len(done.plans) == 1


def test_keys_that_cannot_be_made_equal_do_not_end_a_repair_that_has_more_to_do() -> None:
    stubborn = sorted(b"key:%d" % n for n in range(40))[:3]
    left, right = FakeSide({b"key:%d" % n: text("1") for n in range(40)}), FakeSide({})

    def forget(_: str) -> None:
        for key in stubborn:
            right.records.pop(key, None)

    right.before = forget
    done = repair(order_for(left, right, Truth.LEFT, 10), found(left, right, 10))
    assert right.records.keys() == left.records.keys() - set(stubborn)
    assert [d.key for d in done.after.differences] == stubborn


def test_what_has_to_wait_for_a_later_pass_is_tried_again() -> None:
    """As a node with children: it goes when they have gone, and those may not have been listed with it."""

    def mend(_truth: Side, target: Side, keys: Sequence[bytes]) -> Iterator[int]:
        assert isinstance(target, FakeSide)
        for number, key in enumerate(keys, start=1):
            if not any(other.startswith(key + b"/") for other in target.records):
                target.records.pop(key, None)
            yield number

    paths = [b"/%d" % n + child for n in range(10) for child in (b"", b"/a", b"/b")]
    left, right = FakeSide({}), FakeSide({path: text("1") for path in paths})
    order = order_for(left, right, Truth.LEFT, 12)
    done = repair(replace(order, comparing=replace(order.comparing, mend=mend)), found(left, right, 12))
    assert (right.records, done.after.verdict) == ({}, Verdict.EQUAL)
    assert done.tally == Tally(deleted=30), "each counts once, when it is gone"


def test_what_could_not_be_deleted_does_not_count() -> None:
    left, right = FakeSide({}), FakeSide({b"a": text("1"), b"b": text("1")})
    right.before = lambda _: right.records.update({b"a": text("1")})
    done = repair(order_for(left, right, Truth.LEFT), found(left, right))
    assert (done.tally, [d.key for d in done.after.differences]) == (Tally(deleted=1), [b"a"])


def test_what_was_written_and_what_was_deleted_are_told_apart_and_out_of_how_many() -> None:
    left = FakeSide({b"new:%d" % n: text("1") for n in range(7)})
    right = FakeSide({b"old:%d" % n: text("1") for n in range(4)})
    heard: list[tuple[Tally, int]] = []
    order = replace(order_for(left, right, Truth.LEFT, 5), hear=lambda tally, of: heard.append((tally, of)))
    done = repair(order, found(left, right, 5))
    assert done.tally == heard[-1][0] == Tally(written=7, deleted=4)
    assert str(done.tally) == "7 written, 4 deleted"
    counts = [tally.done for tally, _ in heard]
    assert counts == list(range(1, 12)), "over all passes"
    assert heard[0][1] > 5, "what is not listed yet counts, too"
    assert heard[-1][1] == 11


@pytest.mark.parametrize("truth", Truth)
def test_what_the_store_cannot_make_equal_is_told_and_left_and_the_rest_is_done(truth: Truth) -> None:
    def barred(wanted: Record | None, has: Record | None) -> str:
        return "it has been sealed" if has and has.value == "sealed" else ""

    right_one = FakeSide({b"a": text("1"), b"b": text("1"), b"c": text("sealed")}, label="right one")
    wrong = FakeSide({b"a": text("sealed"), b"b": text("2"), b"c": text("3")}, label="wrong")
    pair = (right_one, wrong) if truth is Truth.LEFT else (wrong, right_one)
    order = order_for(*pair, truth)
    order = replace(order, comparing=replace(order.comparing, barred=barred))
    first = found(*pair)
    kept = (Kept(b"a", "it has been sealed"),)
    assert (plan(first, truth, barred).kept, plan(first, truth, barred).write) == (kept, (b"b", b"c"))
    done = repair(order, first)
    assert (done.done, done.kept, done.after.verdict) == (2, kept, Verdict.DIFFERENT)
    assert wrong.records == {b"a": text("sealed"), b"b": text("1"), b"c": text("sealed")}


def test_a_refusal_in_the_middle_leaves_what_was_done() -> None:
    def refusing(truth: Side, target: Side, keys: object) -> Iterator[int]:
        assert isinstance(target, FakeSide)
        target.records[b"a"] = text("1")
        yield 1
        raise HaopsError("READONLY")

    left, right = FakeSide({b"a": text("1"), b"b": text("1")}), FakeSide({})
    order = order_for(left, right, Truth.LEFT)
    broken = replace(order, comparing=replace(order.comparing, mend=refusing))
    with pytest.raises(HaopsError, match="READONLY"):
        repair(broken, found(left, right))
    assert set(right.records) == {b"a"}


def test_copies_are_made_like_the_first_and_compared_again(runtime: FakeRuntime) -> None:
    sides = [FakeSide({b"k": text(word)}, label=f"redis-{n}") for n, word in enumerate("112", start=1)]
    store = comparing({}, sides)
    wrong = wrong_copies(compare_all(sides, manner()))
    assert wrong == ("redis-3",)
    after = repair_replicas(store, make_cluster(), runtime, manner(), ["redis-1", *wrong])
    assert {c.verdict for c in after} == {Verdict.EQUAL}
    assert sides[2].records == {b"k": text("1")}


def test_kinds_are_counted() -> None:
    found = [
        difference(b"a", text("1"), None),
        difference(b"b", text("1"), text("2", expires="7")),
        difference(b"c", text("1"), text("2")),
    ]
    assert kinds_of([d for d in found if d]) == {Kind.MISSING: 1, Kind.VALUE: 2, Kind.EXPIRY: 1}

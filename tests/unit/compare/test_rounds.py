"""Rounds: lag goes away, divergence stays, and what moves is neither."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from haops.compare.differences import Difference, Kind
from haops.compare.rounds import Comparison, Manner, Verdict, compare, compare_all
from haops.errors import BadInput, ClusterUnhealthy, EnvironmentTrouble, HaopsError
from haops.stores.compare import UNTOLD, Record

from ...compare_fakes import SURVEY_BYTES, FakeSide, text
from ...fakes import FakeClock

Records = dict[bytes, Record]


def manner(clock: FakeClock, **changes: int) -> Manner:
    return Manner(**{"rounds": 3, "limit": 100, **changes}, clock=clock.clock, now_ms=lambda: 1000)  # type: ignore[arg-type]


def after(clock: FakeClock, seconds: float, act: Callable[[], None]) -> Callable[[str], None]:
    """Does something once, `seconds` from now, before the next question."""
    due = [clock.now + seconds]

    def look(_: str) -> None:
        if due and clock.now >= due[0]:
            due.clear()
            act()

    return look


def test_equal_sides_take_one_look_and_no_pause(clock: FakeClock) -> None:
    found = compare(FakeSide({b"a": text("1")}), FakeSide({b"a": text("1")}), manner(clock))
    assert found.verdict is Verdict.EQUAL
    assert (found.rounds, clock.slept, found.moved) == (1, [], 2 * SURVEY_BYTES)


def test_empty_sides_are_equal(clock: FakeClock) -> None:
    assert compare(FakeSide({}), FakeSide({}), manner(clock)).verdict is Verdict.EQUAL


def test_what_stays_is_different_after_all_looks(clock: FakeClock) -> None:
    found = compare(
        FakeSide({b"a": text("1"), b"b": text("1")}),
        FakeSide({b"a": text("2"), b"c": text("1")}),
        manner(clock),
    )
    assert found.verdict is Verdict.DIFFERENT
    assert [(d.key, d.kinds) for d in found.differences] == [
        (b"a", (Kind.VALUE,)),
        (b"b", (Kind.MISSING,)),
        (b"c", (Kind.EXTRA,)),
    ]
    assert (found.rounds, clock.slept, found.transient) == (3, [1.0, 1.0], 0)


@given(
    st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)), st.sampled_from([0.5, 1.5]), st.integers(3, 5)
)
def test_lag_is_told_from_divergence(lagging: set[int], wrong: set[int], lag_s: float, rounds: int) -> None:
    clock = FakeClock()
    truth = {b"%d" % n: text("new") for n in range(31)}
    copy = {k: text("old") if int(k) in lagging | wrong else r for k, r in truth.items()}
    right = FakeSide(dict(copy))

    def catch_up() -> None:
        right.records.update({b"%d" % n: text("new") for n in lagging - wrong})

    right.before = after(clock, lag_s, catch_up)
    found = compare(FakeSide(truth), right, manner(clock, rounds=rounds))
    assert {int(d.key) for d in found.differences} == wrong
    assert found.transient == len(lagging - wrong)
    assert found.verdict is (Verdict.DIFFERENT if wrong else Verdict.EQUAL)


def test_a_hot_key_that_was_once_seen_equal_is_no_difference(clock: FakeClock) -> None:
    left, right = FakeSide({b"k": text("0")}), FakeSide({b"k": text("x")})
    looks = 0

    def count(question: str) -> None:
        nonlocal looks
        if question == "describe":
            looks += 1
            left.records[b"k"] = text(str(looks))
            right.records[b"k"] = text(str(looks) if looks == 2 else "x")

    left.before = count
    found = compare(left, right, manner(clock))
    assert (found.differences, found.transient) == ((), 1)


def test_a_key_that_changes_between_looks_is_unsettled_not_different(clock: FakeClock) -> None:
    left, right = FakeSide({b"k": text("0"), b"still": text("0")}), FakeSide({b"still": text("0")})

    def count(question: str) -> None:
        if question == "describe":
            left.records[b"k"] = text(str(int(left.records[b"k"].value) + 1))

    left.before = count
    found = compare(left, right, manner(clock))
    assert found.verdict is Verdict.UNKNOWN
    assert [d.key for d in found.unsettled] == [b"k"]
    assert found.differences == ()


def test_a_change_of_the_right_side_alone_is_seen_too(clock: FakeClock) -> None:
    left, right = FakeSide({b"k": text("0")}), FakeSide({b"k": text("1")})
    right.before = after(clock, 0.5, lambda: right.records.update({b"k": text("2")}))
    found = compare(left, right, manner(clock))
    assert (found.differences, [d.key for d in found.unsettled]) == ((), [b"k"])


def test_a_moving_key_does_not_hide_a_difference(clock: FakeClock) -> None:
    left, right = FakeSide({b"k": text("0"), b"d": text("0")}), FakeSide({b"k": text("1")})
    right.before = after(clock, 0.5, lambda: right.records.update({b"k": text("2")}))
    found = compare(left, right, manner(clock))
    assert found.verdict is Verdict.DIFFERENT
    assert [d.key for d in found.differences] == [b"d"]
    assert [d.key for d in found.unsettled] == [b"k"]


def test_one_round_calls_different_what_it_sees(clock: FakeClock) -> None:
    found = compare(FakeSide({b"k": text("0")}), FakeSide({}), manner(clock, rounds=1))
    assert (found.verdict, clock.slept) == (Verdict.DIFFERENT, [])


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_digests_that_differ_for_ever_under_equal_records_are_not_called_equal(
    clock: FakeClock, rounds: int
) -> None:
    blind = frozenset({b"k"})
    left = FakeSide({b"k": text("0")}, blind=blind)
    right = FakeSide({b"k": text("1")}, blind=blind)
    found = compare(left, right, manner(clock, rounds=rounds))
    assert found.verdict is Verdict.UNKNOWN
    assert [(d.key, d.kinds) for d in found.unsettled] == [(b"k", (Kind.UNSEEN,))]
    assert found.transient == 0


def test_lag_that_ended_before_the_first_look_is_confirmed_by_a_second_pass(clock: FakeClock) -> None:
    left, right = FakeSide({b"k": text("1")}), FakeSide({b"k": text("0")})

    def catch_up(question: str) -> None:
        if question == "describe":
            right.records[b"k"] = text("1")

    right.before = catch_up
    found = compare(left, right, manner(clock))
    assert found.verdict is Verdict.EQUAL
    assert (found.transient, left.asked.count("survey")) == (1, 2)


def test_such_lag_beside_a_difference_is_not_called_unseen(clock: FakeClock) -> None:
    left, right = FakeSide({b"k": text("1"), b"d": text("1")}), FakeSide({b"k": text("0")})

    def catch_up(question: str) -> None:
        if question == "describe":
            right.records[b"k"] = text("1")

    right.before = catch_up
    found = compare(left, right, manner(clock))
    assert [d.key for d in found.differences] == [b"d"]
    assert (found.unsettled, found.transient) == ((), 1)


def test_more_differences_than_listed_that_were_lag_are_looked_at_again(clock: FakeClock) -> None:
    truth = {b"%d" % n: text("new") for n in range(50)}
    right = FakeSide({})
    right.before = after(clock, 0.5, lambda: right.records.update(truth))
    found = compare(FakeSide(truth), right, manner(clock, limit=10))
    assert (found.verdict, found.unlisted) == (Verdict.EQUAL, 0)


def test_more_differences_than_listed_are_counted(clock: FakeClock) -> None:
    found = compare(FakeSide({b"%d" % n: text("") for n in range(50)}), FakeSide({}), manner(clock, limit=10))
    assert (len(found.differences), found.unlisted) == (10, 40)


def test_records_that_change_faster_than_they_are_looked_at_leave_it_unknown(clock: FakeClock) -> None:
    left, right = FakeSide({b"k": text("0")}), FakeSide({b"k": text("0")})

    def count(side: FakeSide, step: int) -> Callable[[str], None]:
        def change(_: str) -> None:
            side.records[b"k"] = text(str(int(side.records[b"k"].value) + step))

        return change

    left.before, right.before = count(left, 1), count(right, -1)
    found = compare(left, right, manner(clock))
    assert found.verdict is Verdict.UNKNOWN
    assert [d.key for d in found.unsettled] == [b"k"]


class Replicated:
    """Two sides of which the second gets what is written to the first some questions later.

    Args:
        calm: Whether all that is on the way arrives before somebody looks at single keys.
    """

    def __init__(self, keys: int, lag: int, *, calm: bool) -> None:
        records = {b"%d" % n: text("0") for n in range(keys)}
        self.left, self.right = FakeSide(dict(records)), FakeSide(dict(records))
        self.left.before = self.right.before = self.asked
        self.lag, self.calm = lag, calm
        self.steps = 0
        self.on_the_way: list[tuple[int, bytes, Record | None]] = []
        self.wrong: dict[bytes, Record | None] = {}
        self.lock = Lock()

    def asked(self, question: str) -> None:
        with self.lock:
            if question == "describe" and self.calm:
                self.arrive(self.steps + self.lag)
            else:
                self.write()

    def write(self) -> None:
        """Write a few, remove or make one, and let through what is due."""
        self.steps += 1
        written = [b"%d" % ((self.steps * 7 + number) % 50) for number in range(3)]
        fresh: dict[bytes, Record | None] = dict.fromkeys(written, text(str(self.steps)))
        fresh[b"now and then"] = text(str(self.steps)) if self.steps % 2 else None
        for key, record in fresh.items():
            _put(self.left, key, record)
            self.on_the_way.append((self.steps + self.lag, key, record))
        self.arrive(self.steps)

    def arrive(self, until: int) -> None:
        while self.on_the_way and self.on_the_way[0][0] <= until:
            _, key, record = self.on_the_way.pop(0)
            _put(self.right, key, record)
        for key, record in self.wrong.items():
            _put(self.right, key, record)


def _put(side: FakeSide, key: bytes, record: Record | None) -> None:
    if record is None:
        side.records.pop(key, None)
    else:
        side.records[key] = record


@pytest.mark.parametrize("lag", [2, 3, 7])
def test_copies_of_what_is_written_all_the_time_are_told_to_be_equal(clock: FakeClock, lag: int) -> None:
    pair = Replicated(50, lag, calm=True)
    found = compare(pair.left, pair.right, manner(clock))
    assert (found.verdict, found.elusive, found.unsettled) == (Verdict.EQUAL, 0, ())
    assert pair.left.asked.count("digests") == 2


@given(
    st.integers(0, 2),
    st.sampled_from([b"3", b"17", b"60", b"now and then"]),
    st.sampled_from([None, text("wrong")]),
    st.integers(2, 5),
)
def test_what_is_wrong_in_a_copy_is_never_called_equal_however_much_is_written(
    lag: int, key: bytes, wrong: Record | None, rounds: int
) -> None:
    clock = FakeClock()
    pair = Replicated(100, lag, calm=False)
    if wrong is None and key == b"now and then":
        return  # it may be gone on the other side, too, whenever somebody looks
    pair.wrong = {key: wrong}
    pair.write()
    found = compare(pair.left, pair.right, manner(clock, rounds=rounds))
    assert found.verdict is not Verdict.EQUAL
    if key == b"60":
        assert b"60" in [d.key for d in found.differences]


def test_keys_that_come_and_go_do_not_leave_it_unknown(clock: FakeClock) -> None:
    left, right = FakeSide({b"k": text("0")}), FakeSide({b"k": text("0")})

    def flicker(question: str) -> None:
        if question == "keys":
            left.records.pop(b"short", None)
        elif question == "digests":
            left.records[b"short"] = text(str(len(left.asked)))
            right.records[b"k"] = text(str(len(left.asked)))
        elif question == "describe":
            left.records[b"k"] = right.records[b"k"]

    left.before = flicker
    found = compare(left, right, manner(clock))
    assert (found.verdict, found.elusive) == (Verdict.EQUAL, 0)


def test_a_key_that_was_there_for_a_moment_twice_does_not_leave_it_unknown(clock: FakeClock) -> None:
    left = FakeSide({})

    def flicker(question: str) -> None:
        left.records = {} if question == "describe" else {b"job": text("the same")}

    left.before = flicker
    assert compare(left, FakeSide({}), manner(clock)).verdict is Verdict.EQUAL


def test_a_record_whose_key_is_never_found_is_not_equal(clock: FakeClock) -> None:
    class Nameless(FakeSide):
        def keys(self, digests: NDArray[np.uint64]) -> Sequence[bytes]:
            return []

    for rounds in (1, 2, 3):
        found = compare(Nameless({b"k": text("0")}), FakeSide({}), manner(clock, rounds=rounds))
        assert (found.verdict, found.elusive) == (Verdict.UNKNOWN, 1)


class Busy(FakeSide):
    """A backup of records that were all written while it was made."""

    def describe(self, keys: Sequence[bytes]) -> Mapping[bytes, Record | None]:
        return dict.fromkeys(keys, UNTOLD)


@pytest.mark.parametrize(
    ("records", "untold", "verdict"),
    [
        (1000, 0, Verdict.EQUAL),
        (100, 10, Verdict.EQUAL),
        (100, 11, Verdict.UNKNOWN),
        (9, 1, Verdict.UNKNOWN),
        (20, 2, Verdict.EQUAL),
        (3, 3, Verdict.UNKNOWN),
    ],
)
def test_what_a_backup_cannot_tell_is_equal_up_to_one_record_in_ten(
    clock: FakeClock, records: int, untold: int, verdict: Verdict
) -> None:
    backup = Busy({b"%d" % n: text("new") for n in range(records)})
    restored = FakeSide({k: text("old") if int(k) < untold else r for k, r in backup.records.items()})
    found = compare(backup, restored, manner(clock, limit=10_000))
    assert (found.verdict, found.untold, found.differences, found.unsettled) == (verdict, untold, (), ())


def test_all_that_is_missing_and_cannot_be_told_is_not_equal(clock: FakeClock) -> None:
    found = compare(Busy({b"k": text("new")}), FakeSide({}), manner(clock))
    assert (found.verdict, found.untold) == (Verdict.UNKNOWN, 1)


def test_a_difference_is_certain_whatever_cannot_be_told() -> None:
    certain = (Difference(b"k", (Kind.VALUE,), text("a"), text("b")),)
    found = Comparison("a", "b", records_left=5, records_right=5, differences=certain, untold=4)
    assert found.verdict is Verdict.DIFFERENT


def test_expired_in_the_meantime_is_no_difference(clock: FakeClock) -> None:
    backup = FakeSide({b"k": text("0", expires="999"), b"a": text("1")})
    found = compare(backup, FakeSide({b"a": text("1")}), manner(clock))
    assert (found.verdict, found.transient, clock.slept) == (Verdict.EQUAL, 1, [])


@pytest.mark.parametrize("question", ["survey", "digests", "keys", "describe"])
@pytest.mark.parametrize("error", [HaopsError("gone"), ClusterUnhealthy("gone")])
def test_a_side_that_cannot_be_read_makes_it_unknown(
    clock: FakeClock, question: str, error: HaopsError
) -> None:
    left, right = FakeSide({b"k": text("0")}), FakeSide({})

    def fail(asked: str) -> None:
        if asked == question:
            raise error

    right.before = fail
    found = compare(left, right, manner(clock))
    assert (found.verdict, found.trouble, found.differences) == (Verdict.UNKNOWN, "gone", ())


def test_a_side_lost_at_the_second_look_leaves_what_was_seen_unsettled(clock: FakeClock) -> None:
    left, right = FakeSide({b"k": text("0")}), FakeSide({})

    def gone() -> None:
        raise HaopsError("gone")

    right.before = after(clock, 0.5, gone)
    found = compare(left, right, manner(clock))
    assert (found.verdict, found.differences, len(found.unsettled)) == (Verdict.UNKNOWN, (), 1)


@pytest.mark.parametrize("error", [BadInput("no"), EnvironmentTrouble("no")])
def test_bad_input_and_trouble_of_the_machine_are_told_as_such(clock: FakeClock, error: HaopsError) -> None:
    def fail(_: str) -> None:
        raise error

    with pytest.raises(type(error)):
        compare(FakeSide({}, before=fail), FakeSide({}), manner(clock))
    with pytest.raises(type(error)):
        compare_all([FakeSide({}, before=fail), FakeSide({})], manner(clock))


def copies(*records: Records) -> list[FakeSide]:
    return [FakeSide(dict(r), label=f"copy-{n}") for n, r in enumerate(records, start=1)]


def verdicts(found: tuple[Comparison, ...]) -> dict[tuple[str, str], Verdict]:
    return {(c.left, c.right): c.verdict for c in found}


def test_each_copy_is_compared_with_the_first_and_read_once(clock: FakeClock) -> None:
    sides = copies({b"k": text("0")}, {b"k": text("0")}, {b"k": text("1")})
    found = compare_all(sides, manner(clock))
    assert verdicts(found) == {
        ("copy-1", "copy-2"): Verdict.EQUAL,
        ("copy-1", "copy-3"): Verdict.DIFFERENT,
    }
    assert [side.asked.count("survey") for side in sides] == [1, 1, 1]


def test_the_bytes_of_all_pairs_add_up_to_those_of_all_copies(clock: FakeClock) -> None:
    sides = copies({b"k": text("0")}, {b"k": text("1")}, {b"k": text("2")})
    found = compare_all(sides, manner(clock))
    assert sum(c.moved for c in found) == sum(side.moved for side in sides)


def test_a_copy_that_cannot_be_read_spoils_only_its_own_pair(clock: FakeClock) -> None:
    sides = copies({}, {}, {b"k": text("0")})

    def fail(_: str) -> None:
        raise HaopsError("gone")

    sides[1].before = fail
    assert list(verdicts(compare_all(sides, manner(clock))).values()) == [Verdict.UNKNOWN, Verdict.DIFFERENT]


def test_without_the_first_copy_nothing_is_known(clock: FakeClock) -> None:
    sides = copies({}, {}, {})

    def fail(_: str) -> None:
        raise HaopsError("gone")

    sides[0].before = fail
    assert set(verdicts(compare_all(sides, manner(clock))).values()) == {Verdict.UNKNOWN}


def test_the_rate_is_that_of_the_larger_side() -> None:
    assert Comparison("a", "b", records_left=100, records_right=300, seconds=2.0).rate == 150
    assert Comparison("a", "b", records_left=100).rate == 0

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haops.checkers.counter import Counters, WrongRead, check_counters
from haops.history.record import NIL, History, Kind, Outcome

from .fake_store import Book, Mode, fake_counter

seeds = st.integers(0, 2**32)


def bounds_one_by_one(seen: History) -> list[tuple[int, int, int]]:
    """Each answered read's value and bounds, addition by addition."""
    adds = [
        (int(seen.value[i]), int(seen.sent[i]), int(seen.completed[i]), seen.outcome[i] == Outcome.OK)
        for i in range(len(seen))
        if seen.kind[i] == Kind.ADD and seen.outcome[i] != Outcome.FAIL
    ]
    judged = []
    for i in range(len(seen)):
        if seen.kind[i] != Kind.READ or seen.outcome[i] != Outcome.OK:
            continue
        low = high = 0
        for delta, sent, completed, sure in adds:
            if sure and completed < seen.sent[i]:
                low, high = low + delta, high + delta
            elif sent <= seen.completed[i]:
                low, high = low + min(delta, 0), high + max(delta, 0)
        judged.append((int(seen.value[i]), low, high))
    return judged


def test_a_correct_counter_is_never_blamed() -> None:
    for seed in range(1000):
        seen, _ = fake_counter(seed, Mode.CORRECT)
        assert check_counters(seen).wrong == 0, seed


@pytest.mark.parametrize("mode", [Mode.LOSING, Mode.DUPLICATING])
@settings(max_examples=80, deadline=None)
@given(seed=seeds)
def test_a_lost_or_doubled_addition_is_caught_once_it_shows(mode: Mode, seed: int) -> None:
    seen, wrong_at_last = fake_counter(seed, mode)
    found = check_counters(seen)
    expected = [v for v in bounds_one_by_one(seen) if not v[1] <= v[0] <= v[2]]
    assert found.wrong == len(expected)
    assert [(w.value, w.low, w.high) for w in found.evidence] == expected[:10]
    if wrong_at_last:
        assert found.wrong > 0


def test_an_addition_under_way_may_count_or_not_and_one_that_ended_must() -> None:
    book = Book()
    book.add(1, Kind.ADD, 4, 10, 0, 5)
    book.add(1, Kind.ADD, 4, 3, 6, 30)
    book.add(1, Kind.ADD, 4, -2, 7, 9, Outcome.INFO)
    book.add(1, Kind.ADD, 4, 100, 8, 9, Outcome.FAIL)
    for i, value in enumerate((8, 10, 11, 13, 7, 14)):
        book.add(2 + i, Kind.READ, 4, value, 10, 20, node=f"n{i}")
    found = check_counters(book.history())
    assert (found.keys, found.reads, found.wrong) == (1, 6, 2)
    assert found.evidence == (
        WrongRead(key=4, process=6, node="n4", value=7, low=8, high=13, sent=10, completed=20),
        WrongRead(key=4, process=7, node="n5", value=14, low=8, high=13, sent=10, completed=20),
    )


def test_an_addition_sent_after_the_answer_cannot_count() -> None:
    book = Book()
    book.add(1, Kind.READ, 4, 1, 0, 5)
    book.add(2, Kind.ADD, 4, 1, 6, 7)
    assert check_counters(book.history()).wrong == 1


def test_counters_are_judged_apart_and_nothing_is_the_initial_value() -> None:
    book = Book()
    book.add(1, Kind.ADD, 1, 5, 0, 1)
    book.add(1, Kind.READ, 1, 105, 2, 3)
    book.add(1, Kind.READ, 2, NIL, 4, 5)
    assert check_counters(book.history(), initial=100).wrong == 0
    assert check_counters(book.history()).wrong == 1


def test_an_empty_history_has_no_counters() -> None:
    assert check_counters(Book().history()) == Counters(0, 0, 0, ())

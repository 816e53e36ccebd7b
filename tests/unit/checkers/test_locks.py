from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from haops.checkers.locks import Hold, Locks, Overlap, Regression, check_locks
from haops.history.record import NIL, Kind, Outcome

from .fake_store import Book, Mode, fake_lock


def test_a_correct_lock_is_never_blamed() -> None:
    for seed in range(1000):
        assert check_locks(fake_lock(seed, Mode.CORRECT).history).kept, seed


@pytest.mark.parametrize("mode", [Mode.DUPLICATING, Mode.REORDERING, Mode.STALE])
@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_a_faulty_lock_did_is_counted(mode: Mode, seed: int) -> None:
    run = fake_lock(seed, mode)
    assume(run.overlaps or run.tokens or run.fenced)
    found = check_locks(run.history)
    assert (found.overlaps, found.tokens, found.fenced) == (run.overlaps, run.tokens, run.fenced)


def test_two_holders_at_once_are_shown_with_their_times() -> None:
    book = Book()
    book.add(1, Kind.ACQUIRE, 7, 1, 0, 10, node="a")
    book.add(2, Kind.ACQUIRE, 7, 2, 5, 20, node="b")
    book.add(1, Kind.RELEASE, 7, NIL, 30, 35)
    book.add(2, Kind.RELEASE, 7, NIL, 40, 45)
    found = check_locks(book.history())
    first = Hold(key=7, process=1, node="a", token=1, begin=10, end=30, released=True)
    second = Hold(key=7, process=2, node="b", token=2, begin=20, end=40, released=True)
    assert found.overlap_evidence == (Overlap(first, second, 30),)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_release_ends_a_hold_when_it_is_sent_whatever_came_of_it(outcome: Outcome) -> None:
    book = Book()
    book.add(1, Kind.ACQUIRE, 7, NIL, 0, 10)
    book.add(1, Kind.RELEASE, 7, NIL, 12, 50, outcome)
    book.add(2, Kind.ACQUIRE, 7, NIL, 11, 20)
    assert check_locks(book.history()).kept


def test_an_unknown_acquire_proves_nothing() -> None:
    book = Book()
    book.add(1, Kind.ACQUIRE, 7, NIL, 0, 10)
    book.add(2, Kind.ACQUIRE, 7, NIL, 11, 12, Outcome.INFO)
    book.add(1, Kind.RELEASE, 7, NIL, 20, 21)
    found = check_locks(book.history())
    assert (found.kept, found.acquisitions) == (True, 1)


def test_a_hold_without_a_release_lasts_as_long_as_its_holder_did_something() -> None:
    for last, overlaps in ((15, 0), (25, 1)):
        book = Book()
        book.add(1, Kind.ACQUIRE, 7, NIL, 0, 10)
        book.add(1, Kind.WRITE, 7, NIL, last - 1, last)
        book.add(2, Kind.ACQUIRE, 7, NIL, 11, 20)
        book.add(1, Kind.ACQUIRE, 7, NIL, 30, 40, Outcome.FAIL)  # does not believe that it has it
        assert check_locks(book.history()).overlaps == overlaps


def test_the_same_client_may_have_it_again_and_locks_are_apart() -> None:
    book = Book()
    book.add(1, Kind.ACQUIRE, 7, 1, 0, 10)
    book.add(1, Kind.ACQUIRE, 7, 2, 11, 12)
    book.add(1, Kind.RELEASE, 7, NIL, 20, 21)
    book.add(2, Kind.ACQUIRE, 8, 1, 13, 14)
    book.add(2, Kind.RELEASE, 8, NIL, 15, 16)
    assert check_locks(book.history()).kept


@pytest.mark.parametrize("token", [4, 5])
def test_a_token_that_does_not_rise_is_shown(token: int) -> None:
    book = Book()
    book.add(1, Kind.ACQUIRE, 7, 5, 0, 10)
    book.add(1, Kind.RELEASE, 7, NIL, 11, 12)
    book.add(2, Kind.ACQUIRE, 7, token, 13, 14, node="b")
    assert check_locks(book.history()).regressions == (
        Regression(7, Kind.ACQUIRE, 5, 1, 10, token, 2, 13, "b"),
    )


def test_a_token_given_out_twice_at_once_is_told_and_two_different_ones_are_not() -> None:
    for second, tokens in ((5, 1), (4, 0)):
        book = Book()
        book.add(1, Kind.ACQUIRE, 7, 5, 0, 10)
        book.add(2, Kind.ACQUIRE, 7, second, 5, 12)
        assert check_locks(book.history()).tokens == tokens


def test_a_write_with_an_old_token_may_be_refused_or_concurrent_but_not_accepted_later() -> None:
    for sent, outcome, fenced in (
        (30, Outcome.OK, 1),
        (30, Outcome.FAIL, 0),
        (30, Outcome.INFO, 0),
        (20, Outcome.OK, 0),
    ):
        book = Book()
        book.add(1, Kind.ACQUIRE, 7, 1, 0, 1)
        book.add(2, Kind.ACQUIRE, 7, 2, 2, 3)
        book.add(2, Kind.WRITE, 7, 2, 15, 25)
        book.add(2, Kind.WRITE, 7, 2, 26, 27)
        book.add(1, Kind.WRITE, 7, 1, sent, 40, outcome)
        assert check_locks(book.history()).fenced == fenced


def test_an_empty_history_has_no_locks() -> None:
    assert check_locks(Book().history()) == Locks(0, 0, 0, 0, (), ())

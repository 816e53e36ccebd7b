from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from haops.checkers.sessions import Anomaly, Guarantee, Sessions, check_sessions
from haops.history.record import NIL, Kind, Outcome

from .fake_store import Book, FakeSet, Mode


def test_a_correct_set_keeps_every_session() -> None:
    for seed in range(1000):
        run = FakeSet(seed, Mode.CORRECT).run()
        assert check_sessions(run.history, run.found) == Sessions(0, 0, 0, ()), seed


@pytest.mark.parametrize("mode", [Mode.STALE, Mode.REORDERING, Mode.LOSING])
@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_visible_breach_is_counted_and_none_is_invented(mode: Mode, seed: int) -> None:
    run = FakeSet(seed, mode).run()
    assume(run.own_missed or run.taken_back or run.overtaken)
    found = check_sessions(run.history, run.found)
    counted = (found.read_your_writes, found.monotonic_reads, found.monotonic_writes)
    assert counted == (run.own_missed, run.taken_back, len(run.overtaken))
    assert not found.kept
    named = {a.key for a in found.evidence if a.guarantee is Guarantee.MONOTONIC_WRITES}
    assert named <= run.overtaken


def test_a_read_that_misses_its_own_clients_write_is_told_with_both_nodes() -> None:
    book = Book()
    book.add(1, Kind.WRITE, 7, 7, 0, 10, node="a")
    book.add(1, Kind.READ, 7, NIL, 20, 25, node="b")
    book.add(2, Kind.READ, 7, NIL, 20, 25, node="b")
    found = check_sessions(book.history(), {7})
    assert found.evidence == (Anomaly(Guarantee.READ_YOUR_WRITES, 1, 7, 10, "a", 20, "b", 7),)


def test_a_read_that_loses_what_its_client_had_read_is_told() -> None:
    book = Book()
    book.add(1, Kind.WRITE, 7, 7, 0, 10)
    book.add(2, Kind.READ, 7, 7, 11, 12, node="a")
    book.add(2, Kind.READ, 7, NIL, 13, 14, node="b")
    found = check_sessions(book.history())
    assert found.evidence == (Anomaly(Guarantee.MONOTONIC_READS, 2, 7, 12, "a", 13, "b", 7),)


def test_a_reader_that_saw_the_later_write_first_is_told() -> None:
    book = Book()
    book.add(1, Kind.WRITE, 7, 7, 0, 10)
    book.add(1, Kind.WRITE, 8, 8, 11, 20)
    book.add(2, Kind.READ, 8, 8, 30, 31)
    book.add(2, Kind.READ, 7, NIL, 32, 33, node="b")
    book.add(3, Kind.READ, 7, NIL, 34, 35)  # did not see the later one
    found = check_sessions(book.history())
    assert found.evidence == (Anomaly(Guarantee.MONOTONIC_WRITES, 1, 7, 10, "n1", 32, "b", 8),)


def test_writes_of_two_clients_have_no_order() -> None:
    book = Book()
    book.add(1, Kind.WRITE, 7, 7, 0, 10)
    book.add(2, Kind.WRITE, 8, 8, 11, 20)
    book.add(3, Kind.READ, 8, 8, 30, 31)
    book.add(3, Kind.READ, 7, NIL, 32, 33)
    assert check_sessions(book.history(), {8}).kept


def test_a_hole_in_what_a_client_wrote_shows_in_the_read_back() -> None:
    book = Book()
    for i, key in enumerate((7, 8, 9)):
        book.add(1, Kind.WRITE, key, key, 10 * i, 10 * i + 5)
    assert check_sessions(book.history(), {7, 8}).kept  # the tail was lost, in order
    found = check_sessions(book.history(), {7, 9})
    assert found.evidence == (Anomaly(Guarantee.MONOTONIC_WRITES, 1, 8, 15, "n1", -1, "", 9),)


def test_evidence_is_limited_and_counts_are_not() -> None:
    book = Book()
    for key in range(30):
        book.add(1, Kind.WRITE, key, key, 10 * key, 10 * key + 1)
        book.add(1, Kind.READ, key, NIL, 10 * key + 2, 10 * key + 3)
    found = check_sessions(book.history())
    assert (found.read_your_writes, len(found.evidence)) == (30, 10)
    assert [a.key for a in found.evidence] == list(range(10))


def test_what_a_client_was_not_told_binds_nobody() -> None:
    book = Book()
    book.add(1, Kind.WRITE, 7, 7, 0, 10, Outcome.INFO)
    book.add(1, Kind.READ, 7, NIL, 20, 25)
    book.add(1, Kind.READ, 7, 7, 30, 35, Outcome.INFO)
    book.add(1, Kind.READ, 7, NIL, 40, 45)
    assert check_sessions(book.history(), set()).kept


def test_an_empty_history_keeps_everything() -> None:
    assert check_sessions(Book().history(), set()) == Sessions(0, 0, 0, ())

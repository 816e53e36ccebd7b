from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from haops.checkers.elements import StaleRead, check_elements
from haops.history.record import NIL, History, Kind, Outcome

from .fake_store import Book, FakeSet, Mode

seeds = st.integers(0, 2**32)


def test_a_correct_set_is_never_blamed() -> None:
    for seed in range(1000):
        run = FakeSet(seed, Mode.CORRECT).run()
        found = check_elements(run.history, run.found)
        blamed = (found.lost, found.stale_reads, found.stale, found.resurrected, found.duplicated)
        assert blamed == ((), 0, (), (), ()), seed


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_what_a_losing_set_forgot_is_found_and_is_not_called_late(seed: int) -> None:
    run = FakeSet(seed, Mode.LOSING).run()
    assume(run.lost)
    found = check_elements(run.history, run.found)
    assert found.lost == tuple(sorted(run.lost))
    assert not {s.key for s in found.stale} & run.lost


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_every_read_from_a_replica_that_lagged_visibly_is_found(seed: int) -> None:
    run = FakeSet(seed, Mode.STALE).run()
    assume(run.stale)
    found = check_elements(run.history, run.found)
    lengths = {key: sent - run.acked[key] for key, sent in run.stale.items()}
    assert (found.stale_reads, found.stale_keys) == (run.stale_reads, len(run.stale))
    assert found.longest_stale_ns == max(lengths.values())
    assert [s.stale_ns for s in found.stale] == sorted(lengths.values(), reverse=True)[:10]
    assert all(lengths[s.key] == s.stale_ns and s.node == "replica" for s in found.stale)
    assert found.lost == ()


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_what_was_acknowledged_twice_is_found(seed: int) -> None:
    run = FakeSet(seed, Mode.DUPLICATING).run()
    assert check_elements(run.history, run.found).duplicated == tuple(sorted(run.duplicated))


def test_a_stale_read_says_who_wrote_who_missed_where_and_since_when() -> None:
    book = Book()
    book.add(1, Kind.WRITE, 1000, 1000, 0, 10)
    book.add(2, Kind.READ, 1000, NIL, 20, 25, node="redis-2")
    book.add(3, Kind.READ, 1000, NIL, 40, 45, node="redis-3")
    book.add(3, Kind.READ, 1000, 1000, 50, 55, node="redis-3")
    found = check_elements(book.history(), {1000})
    assert found.stale == (StaleRead(key=1000, writer=1, reader=3, node="redis-3", sent=40, acked_at=10),)
    assert (found.stale_reads, found.stale_keys, found.longest_stale_ns) == (2, 1, 30)


def test_a_read_that_was_sent_before_the_acknowledgement_may_miss() -> None:
    book = Book()
    book.add(1, Kind.WRITE, 1000, 1000, 0, 10)
    book.add(2, Kind.READ, 1000, NIL, 10, 25)
    book.add(3, Kind.READ, 1000, NIL, 20, 25, Outcome.INFO)
    assert check_elements(book.history(), {1000}).stale_reads == 0


def test_acknowledged_writes_that_no_read_found_are_counted() -> None:
    book = Book()
    for key in (1, 2, 3):
        book.add(1, Kind.WRITE, key, key, 10 * key, 10 * key + 1)
    book.add(2, Kind.READ, 2, 2, 50, 51)
    book.add(2, Kind.READ, 3, NIL, 52, 53)
    found = check_elements(book.history(), {1, 2, 3})
    assert (found.seen, found.never_read) == (1, 2)


def test_a_failed_write_that_a_read_found_has_come_back_though_it_is_gone_again() -> None:
    book = Book()
    book.add(1, Kind.WRITE, 5, 5, 0, 1, Outcome.FAIL)
    book.add(2, Kind.READ, 5, 5, 2, 3)
    assert check_elements(book.history(), set()).resurrected == (5,)


def listing(*lists: list[int], adds: dict[int, Outcome] | None = None) -> History:
    """Elements added at once, ended at 10 and later; lists 100 apart."""
    book = Book()
    adds = {1: Outcome.OK, 2: Outcome.OK, 3: Outcome.OK} if adds is None else adds
    for i, (key, outcome) in enumerate(adds.items()):
        book.add(i, Kind.ADD, key, key, 0, 10 + i, outcome)
    for i, _ in enumerate(lists):
        book.add(50, Kind.LIST, 0, i, 100 * (i + 1), 100 * (i + 1) + 10, node=f"n{i}")
    return replace(book.history(), lists=tuple(np.array(found, dtype=np.int64) for found in lists))


def test_an_element_that_the_last_lists_miss_is_lost() -> None:
    found = check_elements(listing([1, 2, 3], [1, 3], [3, 1]))
    assert (found.lost, found.stale_reads, found.seen) == ((2,), 0, 3)


def test_without_a_read_back_and_without_lists_nothing_is_called_lost() -> None:
    assert check_elements(listing()).lost == ()


def test_an_element_that_comes_back_in_a_later_list_was_late() -> None:
    found = check_elements(listing([1, 2, 3], [1, 3], [1, 3], [1, 2, 3]))
    assert found.lost == ()
    assert found.stale == (StaleRead(key=2, writer=1, reader=50, node="n2", sent=300, acked_at=11),)
    assert (found.stale_reads, found.longest_stale_ns) == (2, 289)


def test_an_unknown_element_counts_from_the_first_list_that_held_it() -> None:
    unknown = {1: Outcome.INFO}
    assert check_elements(listing([], [], adds=unknown)).lost == ()
    assert check_elements(listing([1], [], adds=unknown)).lost == (1,)
    back = check_elements(listing([], [1], [], [1], adds=unknown))
    assert (back.lost, back.stale_reads, back.longest_stale_ns) == ((), 1, 90)


def test_what_the_read_back_found_is_not_lost_whatever_the_last_list_said() -> None:
    found = check_elements(listing([1, 2, 3], [1, 3]), {1, 2, 3})
    assert (found.lost, found.stale_keys) == ((), 1)


def test_a_list_that_holds_an_element_twice_is_told() -> None:
    assert check_elements(listing([1, 2, 2, 3])).duplicated == (2,)


def test_a_failed_element_in_a_list_has_come_back() -> None:
    assert check_elements(listing([1], adds={1: Outcome.FAIL})).resurrected == (1,)

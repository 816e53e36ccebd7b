from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from haops.checkers.loss import ClusterEvent, explain, rows_of_lost
from haops.history.record import History, Kind, Outcome

from .fake_store import Book

S = 1_000_000_000
FAULT = 100 * S
EVENTS = (
    ClusterEvent(FAULT + round(1.9 * S), "promoted", "redis-2", "offset 12345"),
    ClusterEvent(FAULT, "isolated", "redis-1", ""),
)


def acked(*rows: tuple[float, str]) -> History:
    """Writes acknowledged at seconds after the fault."""
    book = Book()
    for key, (at, node) in enumerate(rows):
        done = FAULT + round(at * S)
        book.add(key % 5, Kind.WRITE, key, key, done - 1000, done, node=node)
    return book.history()


def test_losses_are_told_by_node_and_by_what_had_happened() -> None:
    lost = acked((0.1, "redis-1"), (1.5, "redis-1"), (2.0, "redis-1"), (3.2, "redis-1"), (3.0, "redis-3"))
    assert explain(lost, EVENTS, FAULT) == (
        "redis-1 acknowledged 2 of them from 0.10 s to 1.50 s after the fault; "
        "redis-1 had been isolated at 0.00 s",
        "redis-1 acknowledged 2 of them from 2.00 s to 3.20 s after the fault; "
        "redis-2 had been promoted at 1.90 s (offset 12345)",
        "redis-3 acknowledged 1 of them at 3.00 s after the fault; "
        "redis-2 had been promoted at 1.90 s (offset 12345)",
    )


def test_times_before_the_fault_are_told_as_such() -> None:
    before = acked((-0.5, "redis-1"), (-0.2, "redis-1"))
    assert explain(before, EVENTS, FAULT) == (
        "redis-1 acknowledged 2 of them from 0.50 s to 0.20 s before the fault; nothing had happened yet",
    )
    assert explain(acked((-0.5, ""), (0.2, "")), (), FAULT) == (
        "a node that is not named acknowledged 2 of them from 0.50 s before the fault "
        "to 0.20 s after the fault; nothing had happened yet",
    )
    early = (ClusterEvent(FAULT - S, "paused", "", ""),)
    assert explain(acked((0.0, "a")), early, FAULT) == (
        "a acknowledged 1 of them at 0.00 s after the fault; the cluster had been paused 1.00 s before the fault",
    )


@given(st.lists(st.tuples(st.integers(-50, 50), st.sampled_from(["a", "b", "c", "d", "e"])), max_size=60))
def test_every_lost_write_is_in_exactly_one_sentence(rows: list[tuple[int, str]]) -> None:
    events = [ClusterEvent(FAULT + at * S, "stopped", "a", "") for at in (-20, 0, 20)]
    told = explain(acked(*((float(at), node) for at, node in rows)), events, FAULT)
    counts = [int(t.partition(" acknowledged ")[2].split()[0]) for t in told if " of them " in t]
    rest = [int(t.split()[0]) for t in told if " more are " in t]
    assert sum(counts) + sum(rest) == len(rows)
    assert len(told) <= 11


def test_what_is_left_of_many_small_groups_is_summed_up() -> None:
    told = explain(acked(*((1.0, f"n{i % 12}") for i in range(23))), (), FAULT)
    assert (len(told), told[-1]) == (11, "3 more are in 2 smaller groups of node and time")


def test_the_rows_of_lost_keys_are_their_acknowledgements() -> None:
    book = Book()
    book.add(1, Kind.WRITE, 1, 1, 0, 1)
    book.add(1, Kind.WRITE, 2, 2, 2, 3)
    book.add(1, Kind.WRITE, 3, 3, 4, 5, Outcome.INFO)
    book.add(1, Kind.READ, 1, 1, 6, 7)
    assert rows_of_lost(book.history(), {1, 3}).key.tolist() == [1]


def test_nothing_lost_needs_no_words() -> None:
    assert explain(acked(), EVENTS, FAULT) == ()

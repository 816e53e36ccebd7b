"""Copies compared between nodes."""

from __future__ import annotations

import pytest

from haops.errors import BadInput
from haops.health.redundancy import CopyReading, Redundancy

from .traces import S


def feed_rounds(
    redundancy: Redundancy, seconds: range, **copies: tuple[int | None, str | None] | bool
) -> None:
    """One round of readings a second; False is a link that is down."""
    for at in seconds:
        for node, copy in copies.items():
            position, digest = copy if isinstance(copy, tuple) else (at, None)
            reading = CopyReading(node, at * S, position, digest, linked=copy is not False)
            redundancy.feed(reading)


def deviating(redundancy: Redundancy, at: int) -> list[str]:
    return [d.node for d in redundancy.deviations(at * S)]


def test_equal_copies_agree() -> None:
    redundancy = Redundancy(2)
    feed_rounds(redundancy, range(10), a=(5, "x"), b=(5, "x"), c=(5, "x"))
    opinion = redundancy.opinion(10 * S)
    assert (opinion.suspects, opinion.level, opinion.why) == (False, 0.0, "3 copies agree")


def test_the_minority_is_named_only_when_the_lag_had_time_to_pass() -> None:
    redundancy = Redundancy(3)
    feed_rounds(redundancy, range(3), a=(5, "x"), b=(5, "x"), c=(5, "y"))
    opinion = redundancy.opinion(3 * S)
    assert not opinion.suspects and 0 < opinion.level < 1
    feed_rounds(redundancy, range(3, 6), a=(5, "x"), b=(5, "x"), c=(5, "y"))
    assert deviating(redundancy, 6) == ["c"]
    opinion = redundancy.opinion(6 * S)
    assert opinion.suspects
    assert "c: its data at 5 differ from those of a and b, for 5.0 s (allowed 3.0 s)" in opinion.why


def test_without_a_majority_all_deviate_and_the_words_say_so() -> None:
    redundancy = Redundancy(1)
    feed_rounds(redundancy, range(5), a=(5, "x"), b=(5, "y"))
    assert deviating(redundancy, 5) == ["a", "b"]
    assert "no majority says who is right" in redundancy.opinion(5 * S).why


def test_digests_of_different_positions_are_not_compared() -> None:
    redundancy = Redundancy(1)
    for at in range(1, 9):
        redundancy.feed(CopyReading("a", at * S, at + 1, f"d{at + 1}"))
        redundancy.feed(CopyReading("b", at * S, at, f"d{at}"))
    assert deviating(redundancy, 9) == []


def test_a_position_that_both_had_at_different_times_is_compared() -> None:
    redundancy = Redundancy(1)
    for at in range(1, 9):
        redundancy.feed(CopyReading("a", at * S, at + 1, f"d{at + 1}"))
        redundancy.feed(CopyReading("b", at * S, at, f"wrong{at}"))
    assert deviating(redundancy, 9) == ["a", "b"]


def test_a_copy_that_agrees_again_is_forgiven() -> None:
    redundancy = Redundancy(2)
    feed_rounds(redundancy, range(5), a=(5, "x"), b=(5, "x"), c=(5, "y"))
    feed_rounds(redundancy, range(5, 6), a=(6, "z"), b=(6, "z"), c=(6, "z"))
    assert deviating(redundancy, 6) == []


def test_rows_without_a_position_are_compared_as_they_were_last_read() -> None:
    redundancy = Redundancy(2)
    feed_rounds(redundancy, range(5), a=(None, "x"), b=(None, "x"), c=(None, "y"))
    assert deviating(redundancy, 5) == ["c"]
    feed_rounds(redundancy, range(5, 6), a=(None, "x"), b=(None, "x"), c=(None, "x"))
    assert deviating(redundancy, 6) == []


def test_a_copy_that_stands_still_while_others_go_on_is_behind() -> None:
    redundancy = Redundancy(3)
    for at in range(8):
        for node, position in (("a", 100 + at), ("b", 100 + at), ("c", 100)):
            redundancy.feed(CopyReading(node, at * S, position, None))
    assert deviating(redundancy, 8) == ["c"]
    assert "its copy stands at 100, 7 behind a" in redundancy.opinion(8 * S).why


def test_a_copy_that_lags_but_moves_is_no_failure() -> None:
    redundancy = Redundancy(2)
    for at in range(10):
        redundancy.feed(CopyReading("a", at * S, 1000 + at, None))
        redundancy.feed(CopyReading("b", at * S, 10 + at, None))
    assert deviating(redundancy, 10) == []


def test_copies_that_all_stand_still_are_no_failure() -> None:
    redundancy = Redundancy(1)
    feed_rounds(redundancy, range(10), a=(7, None), b=(7, None))
    assert deviating(redundancy, 10) == []


def test_a_link_that_stays_down_is_a_failure() -> None:
    redundancy = Redundancy(2)
    feed_rounds(redundancy, range(2), a=True, b=False)
    assert deviating(redundancy, 2) == []
    feed_rounds(redundancy, range(2, 5), a=True, b=False)
    assert deviating(redundancy, 5) == ["b"]
    assert "its replication link is down" in redundancy.opinion(5 * S).why


def test_a_node_that_nobody_read_again_is_not_accused() -> None:
    redundancy = Redundancy(2)
    feed_rounds(redundancy, range(1), a=(5, "x"), b=(5, "x"), c=(5, "y"))
    assert deviating(redundancy, 100) == []


def test_memory_stays_bounded() -> None:
    redundancy = Redundancy(2)
    for at in range(1000):
        redundancy.feed(CopyReading("a", at * S, at, str(at)))
    assert len(redundancy._copies["a"].digests) == 64


def test_a_grace_of_nothing_is_refused() -> None:
    with pytest.raises(BadInput):
        Redundancy(0)

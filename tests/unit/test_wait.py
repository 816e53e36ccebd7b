from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from haops.errors import DeadlineExceeded
from haops.wait import wait_until


def test_what_was_waited_for_is_returned_without_a_sleep_too_many(clock: FakeClock) -> None:
    looks = iter([1, 2, 3, 4])
    seen = wait_until(
        lambda: next(looks), lambda n: n == 3, what="three", deadline_s=10, interval_s=0.5, clock=clock.clock
    )
    assert seen == 3
    assert clock.slept == [0.5, 0.5]


def test_a_wait_without_need_does_not_sleep(clock: FakeClock) -> None:
    assert wait_until(lambda: "x", bool, what="x", deadline_s=0, clock=clock.clock) == "x"
    assert clock.slept == []


def test_the_deadline_tells_what_was_waited_for_and_what_was_seen_last(clock: FakeClock) -> None:
    looks: Iterator[int] = iter(range(100))
    with pytest.raises(DeadlineExceeded) as caught:
        wait_until(
            lambda: next(looks),
            lambda n: False,
            what="a leader",
            deadline_s=1.5,
            interval_s=0.5,
            describe=lambda n: f"look {n}",
            clock=clock.clock,
        )
    assert caught.value.message == "waited 1.5 s for a leader"
    assert caught.value.detail == "last seen: look 3"
    assert caught.value.exit_code == 5


@given(st.floats(0, 60), st.floats(0.01, 5))
def test_a_wait_ends_within_one_interval_of_its_deadline(deadline: float, interval: float) -> None:
    clock = FakeClock()
    with pytest.raises(DeadlineExceeded):
        wait_until(lambda: 0, bool, what="x", deadline_s=deadline, interval_s=interval, clock=clock.clock)
    assert deadline - 1e-6 <= sum(clock.slept) <= deadline + interval + 1e-6


def test_an_error_of_the_look_is_not_waited_away(clock: FakeClock) -> None:
    def look() -> int:
        raise LookupError("x")

    with pytest.raises(LookupError):
        wait_until(look, bool, what="x", deadline_s=5, clock=clock.clock)
    assert clock.slept == []

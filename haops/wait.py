"""The one way to wait: a deadline, an interval, and the last thing seen in the error."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from haops.errors import DeadlineExceeded

Seen = TypeVar("Seen")


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and sleep, injected so that tests need neither."""

    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


REAL_CLOCK = Clock()


def wait_until(
    look: Callable[[], Seen],
    done: Callable[[Seen], bool],
    *,
    what: str,
    deadline_s: float,
    interval_s: float = 0.1,
    describe: Callable[[Seen], str] = str,
    clock: Clock = REAL_CLOCK,
) -> Seen:
    """Look until `done` likes what it sees, and return that.

    Raises:
        DeadlineExceeded: After `deadline_s` seconds; says what was seen last.
    """
    end = clock.monotonic() + deadline_s
    while True:
        seen = look()
        if done(seen):
            return seen
        if clock.monotonic() >= end:
            raise DeadlineExceeded(
                f"waited {deadline_s:g} s for {what}", detail=f"last seen: {describe(seen)}"
            )
        clock.sleep(interval_s)

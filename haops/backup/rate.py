"""A limit on bytes a second."""

from __future__ import annotations

from typing import Final

from haops.errors import BadInput
from haops.wait import REAL_CLOCK, Clock

# Shorter naps are put off: a sleep costs more than it is long.
_NAP_S: Final = 0.02

_UNITS: Final = {"B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}


class Throttle:
    """Makes its caller wait, so that no more than `rate` bytes a second go through.

    A virtual scheduling bucket without credit (ITU-T I.371's generic cell rate algorithm): time that
    was not used is not made up for later, or a server that stalls would be overrun after it.

    Args:
        rate: Bytes a second; None is no limit.
    """

    def __init__(self, rate: int | None, clock: Clock = REAL_CLOCK) -> None:
        self._rate = rate
        self._clock = clock
        self._free_at = clock.monotonic()

    def take(self, size: int) -> None:
        """Wait until `size` bytes may go."""
        if self._rate is None:
            return
        now = self._clock.monotonic()
        self._free_at = max(self._free_at, now) + size / self._rate
        if self._free_at - now > _NAP_S:
            self._clock.sleep(self._free_at - now)


def parse_rate(text: str) -> int:
    """Bytes a second, such as `50MB/s` or `512KB/s` (powers of 1024).

    Raises:
        BadInput: It is no rate, or 0.
    """
    number = text.strip().upper().replace(" ", "").removesuffix("/S")
    unit = number.lstrip("0123456789.")
    try:
        rate = int(float(number.removesuffix(unit)) * _UNITS[unit or "B"])
    except (KeyError, ValueError, OverflowError):
        rate = 0
    if rate <= 0:
        raise BadInput(f"{text!r} is not a rate", hint="write for instance 50MB/s or 512KB/s")
    return rate

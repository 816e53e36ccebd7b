"""Scales of a plot: values to pixels, and the ticks that people expect."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

# What is smaller is nothing in a picture, and its power of ten may be 0.
_LEAST: Final = 1e-300


@dataclass(frozen=True, slots=True)
class Linear:
    """Maps `low`..`high` evenly to the pixels `start`..`end`; values outside are held at the ends."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of `value`."""
        if self.high <= self.low:
            return self.start
        share = min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Log:
    """Maps `low`..`high`, both above 0, to pixels so that each factor of ten is as long as the next."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of `value`; what is not above 0 lies at the low end."""
        if value <= self.low:
            return self.start
        inner = Linear(math.log10(self.low), math.log10(self.high), self.start, self.end)
        return inner(math.log10(value))


def nice_step(span: float, count: int) -> float:
    """A step of 1, 2 or 5 times a power of ten that divides `span` into at most `count` parts."""
    raw = span / count if count >= 1 else 0.0
    if raw < _LEAST:
        return 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    # The tolerance keeps 5 / 5 from becoming a step of 2 through rounding.
    return next((f * power for f in (1, 2, 5) if f * power >= raw * (1 - 1e-9)), 10 * power)


def nice_ticks(high: float, count: int) -> list[float]:
    """Ticks from 0 to at most `high`, about `count` of them."""
    step = nice_step(high, count)
    # Multiples rather than sums: sums of 0.1 drift.
    return [i * step for i in range(math.floor(high / step * (1 + 1e-9)) + 1)]


def nice_ceiling(value: float, count: int) -> float:
    """The lowest end of an axis from 0 that holds `value` and lies on one of about `count` ticks."""
    if value <= 0:
        return 1.0
    step = nice_step(value, count)
    return math.ceil(value / step * (1 - 1e-9)) * step


def decades(low: float, high: float) -> tuple[float, float]:
    """The powers of ten around `low`..`high`; at least one decade."""
    bottom = math.floor(math.log10(low) + 1e-9)
    top = math.ceil(math.log10(high) - 1e-9)
    return 10.0**bottom, 10.0 ** max(top, bottom + 1)


def log_ticks(low: float, high: float, count: int) -> list[float]:
    """Powers of ten from `low` to `high`, thinned evenly to at most `count`."""
    bottom, top = round(math.log10(low)), round(math.log10(high))
    every = max(1, math.ceil((top - bottom + 1) / max(count, 1)))
    return [10.0**e for e in range(bottom, top + 1, every)]

"""The phi accrual failure detector: suspicion as a scale instead of a yes or no.

N. Hayashibara, X. Defago, R. Yared, T. Katayama, "The phi accrual failure
detector", SRDS 2004: phi(t) = -log10 P(the next answer comes later than t
after the last), from the gaps between answers so far.  At threshold phi, a
gap like those seen is taken for a failure once in 10^phi.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from haops.errors import BadInput
from haops.health.beat import Beat, Evidence, Opinion, span
from haops.health.heartbeat import REFUSALS, Streak, at_least_one, refusals_in_words

_LN10 = math.log(10)
# From here on erfc comes near the end of what a float can hold; its asymptotic series is exact to 1e-11.
_FAR = 20.0
# As many gaps before their deviation is believed.
_ENOUGH = 10


class Shape(StrEnum):
    """How gaps are taken to be distributed.

    NORMAL is the paper's and Akka's; EXPONENTIAL is Cassandra's, which knows
    the mean only.
    """

    NORMAL = "normal"
    EXPONENTIAL = "exponential"


@dataclass(frozen=True, slots=True)
class PhiSettings:
    """How phi is counted.

    Args:
        threshold: Suspicion begins at this phi, default 8 (Akka `threshold`, Cassandra
            `phi_convict_threshold`; 10 to 12 on noisy machines).
        window: Gaps remembered, default 1000 (the paper; Akka `max-sample-size`; Cassandra).
        min_deviation_s: The standard deviation is never taken for less, s, default 0.1 (Akka
            `min-std-deviation`): a very regular past must not make every stumble a failure.
        pause_s: Silence beyond the usual that is always accepted, s, default 0. Akka's
            `acceptable-heartbeat-pause` is 3 s, with heartbeats every second and no failover
            in under a second in mind.
        longest_gap_s: A longer gap is an outage, not a sample, s, default 2 (Cassandra's
            `fd_max_interval_ms`).
        first_gap_s: The gap assumed before enough are seen, s, default 1 (Akka
            `heartbeat-interval`), with a quarter of it as deviation.
        shape: The distribution.
        refusals: Refused probes in a row that suffice without waiting, default 2 as in `Heartbeat`.

    Raises:
        BadInput: A setting is out of range.
    """

    threshold: float = 8.0
    window: int = 1000
    min_deviation_s: float = 0.1
    pause_s: float = 0.0
    longest_gap_s: float = 2.0
    first_gap_s: float = 1.0
    shape: Shape = Shape.NORMAL
    refusals: int = REFUSALS

    def __post_init__(self) -> None:
        at_least_one("refusals", self.refusals)
        at_least_one("window", self.window)
        positive = min(self.threshold, self.min_deviation_s, self.longest_gap_s, self.first_gap_s)
        if positive <= 0 or self.pause_s < 0:
            raise BadInput(f"phi settings are out of range: {self}", hint="pause_s from 0, others above 0")


class PhiAccrual:
    """Suspects when phi reaches its threshold, or after refusals."""

    def __init__(self, settings: PhiSettings | None = None) -> None:
        self._settings = settings or PhiSettings()
        self._streak = Streak()
        self._gaps: deque[int] = deque(maxlen=self._settings.window)
        # Whole numbers: sums of a million gaps neither drift nor cancel.
        self._sum = 0
        self._squares = 0

    def feed(self, beat: Beat) -> None:
        """Take in one probe."""
        before = self._streak.seen_ns
        self._streak.feed(beat)
        if beat.evidence is not Evidence.ANSWERED or before is None:
            return
        gap = beat.known_ns - before
        if gap > self._settings.longest_gap_s * 1e9:
            return
        if len(self._gaps) == self._settings.window:
            oldest = self._gaps[0]
            self._sum -= oldest
            self._squares -= oldest * oldest
        self._gaps.append(gap)
        self._sum += gap
        self._squares += gap * gap

    @property
    def fit(self) -> tuple[float, float]:
        """(mean, standard deviation) of the gaps as phi counts with them, ns."""
        settings, count = self._settings, len(self._gaps)
        if count < min(_ENOUGH, settings.window):
            return settings.first_gap_s * 1e9, max(settings.first_gap_s / 4, settings.min_deviation_s) * 1e9
        deviation = math.sqrt(count * self._squares - self._sum * self._sum) / count
        return self._sum / count, max(deviation, settings.min_deviation_s * 1e9)

    def phi(self, now_ns: int) -> float:
        """Phi at `now_ns`; 0 before the first beat. Grows without end, it never becomes infinite."""
        since = self._streak.since_ns
        if since is None:
            return 0.0
        mean, deviation = self.fit
        late = max(now_ns - since, 0) - self._settings.pause_s * 1e9
        if self._settings.shape is Shape.EXPONENTIAL:
            return max(late, 0.0) / mean / _LN10
        return tail(mean, deviation, late)

    def opinion(self, now_ns: int) -> Opinion:
        """What to think at `now_ns`."""
        settings, streak = self._settings, self._streak
        if streak.since_ns is None:
            return Opinion(suspects=False, level=0.0, why="no probe yet")
        phi = self.phi(now_ns)
        refused = streak.refused / settings.refusals
        level = max(refused, phi / settings.threshold)
        if refused >= 1:
            why = f"{refusals_in_words(streak.refused, settings.refusals)}; {streak.seen(now_ns)}"
        else:
            over = "over" if level >= 1 else "of"
            mean, deviation = self.fit
            gaps = f"mean gap {span(mean)}"
            if settings.shape is Shape.NORMAL:
                gaps += f", deviation {span(deviation)}"
            why = f"phi {phi:.1f} {over} {settings.threshold:g}: {streak.seen(now_ns)}, {gaps}"
        return Opinion(level >= 1, level, why)


def tail(mean: float, deviation: float, value: float) -> float:
    """-log10 of the chance that a normal variable exceeds `value`; finite however far out.

    Beyond 28 deviations the chance itself is less than the least float, so
    its logarithm is taken from the asymptotic series of erfc
    (Abramowitz and Stegun, 7.1.23).
    """
    x = (value - mean) / deviation / math.sqrt(2)
    if x < 0:
        return -math.log1p(-0.5 * math.erfc(-x)) / _LN10
    if x < _FAR:
        return -math.log10(0.5 * math.erfc(x))
    u = 1 / (2 * x * x)
    series = -u * (1 - 3 * u * (1 - 5 * u * (1 - 7 * u)))
    return (x * x + math.log(2 * x * math.sqrt(math.pi)) - math.log1p(series)) / _LN10


@cache
def deviations(phi: float) -> float:
    """How many standard deviations above the mean phi is reached: the inverse of `tail`."""
    low, high = -40.0, 40.0
    while tail(0.0, 1.0, high) < phi:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(0.0, 1.0, middle) < phi else (low, middle)
    return high

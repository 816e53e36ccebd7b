"""Time-outs: silence longer than is allowed, by a fixed limit or by what round trips have been."""

from __future__ import annotations

from dataclasses import dataclass

from haops.errors import BadInput
from haops.health.beat import Beat, Evidence, Opinion, span
from haops.health.heartbeat import REFUSALS, Streak, at_least_one, refusals_in_words

# Gains of RFC 6298, section 2: srtt moves by 1/8 of the news, rttvar by 1/4.
_ALPHA = 1 / 8
_BETA = 1 / 4


class FixedTimeout:
    """Suspects when the last answer is longer ago than a limit, or after refusals.

    Args:
        limit_s: Silence allowed, s; must exceed the time between two probes. No default: it is
            what an operator decides (Sentinel's `down-after-milliseconds` is of this kind, 30 s).
        refusals: Refused probes in a row that suffice without waiting, default 2 as in `Heartbeat`.

    Raises:
        BadInput: The limit is not above 0, or `refusals` is below 1.
    """

    def __init__(self, limit_s: float, *, refusals: int = REFUSALS) -> None:
        if limit_s <= 0:
            raise BadInput(f"a limit of {limit_s} s allows nothing", hint="allowed: above 0")
        self._limit_ns = limit_s * 1e9
        self._refusals = at_least_one("refusals", refusals)
        self._streak = Streak()

    def feed(self, beat: Beat) -> None:
        """Take in one probe."""
        self._streak.feed(beat)

    def opinion(self, now_ns: int) -> Opinion:
        """What to think at `now_ns`."""
        return silence(self._streak, now_ns, self._limit_ns, self._refusals, "")


@dataclass(frozen=True, slots=True)
class AdaptiveSettings:
    """How an adaptive time-out follows the round trips; after RFC 6298.

    Args:
        k: Deviations of the round trip allowed above its mean, default 4 (RFC 6298, section 2).
        floor_s: Silence always allowed, s, default 0.2 (Linux' `TCP_RTO_MIN`; the RFC has 1 s,
            meant for the Internet). On a quiet network nothing else holds the limit up.
        ceiling_s: Silence never allowed beyond, s, default 3: whoever waits longer had better
            be told. The RFC allows a ceiling of 60 s and more, for it must not give up.
        refusals: Refused probes in a row that suffice without waiting, default 2 as in `Heartbeat`.

    Raises:
        BadInput: A setting is out of range.
    """

    k: float = 4.0
    floor_s: float = 0.2
    ceiling_s: float = 3.0
    refusals: int = REFUSALS

    def __post_init__(self) -> None:
        at_least_one("refusals", self.refusals)
        if self.k < 0 or not 0 < self.floor_s <= self.ceiling_s:
            raise BadInput(
                f"adaptive time-out settings are out of range: {self}",
                hint="k from 0; 0 < floor_s <= ceiling_s",
            )


class AdaptiveTimeout:
    """Suspects when an answer is later than round trips so far explain.

    Silence allowed since the last answer is the usual time between two probes
    plus srtt + k * rttvar, held between floor and ceiling.  Before the first
    answer it is the ceiling.
    """

    def __init__(self, settings: AdaptiveSettings | None = None) -> None:
        self._settings = settings or AdaptiveSettings()
        self._streak = Streak()
        self._srtt: float | None = None
        self._rttvar = 0.0
        self._pace: float | None = None
        self._sent_ns: int | None = None

    def feed(self, beat: Beat) -> None:
        """Take in one probe."""
        self._streak.feed(beat)
        if beat.evidence is not Evidence.ANSWERED:
            return
        trip = float(beat.known_ns - beat.sent_ns)
        if self._srtt is None or self._sent_ns is None:
            self._srtt, self._rttvar = trip, trip / 2
        else:
            self._rttvar += _BETA * (abs(self._srtt - trip) - self._rttvar)
            self._srtt += _ALPHA * (trip - self._srtt)
            step = float(beat.sent_ns - self._sent_ns)
            self._pace = step if self._pace is None else self._pace + _ALPHA * (step - self._pace)
        self._sent_ns = beat.sent_ns

    @property
    def fit(self) -> tuple[float, float] | None:
        """(usual, deviation) in ns: k deviations above usual are allowed; None before two answers."""
        if self._srtt is None or self._pace is None:
            return None
        return self._pace + self._srtt, self._rttvar

    def opinion(self, now_ns: int) -> Opinion:
        """What to think at `now_ns`."""
        settings, fit = self._settings, self.fit
        allowed, words = settings.ceiling_s * 1e9, ", too few answers to know its pace"
        if fit is not None:
            raw = fit[0] + settings.k * fit[1]
            allowed = min(max(raw, settings.floor_s * 1e9), settings.ceiling_s * 1e9)
            words = f", answers come every {span(fit[0])} with a deviation of {span(fit[1])}"
        return silence(self._streak, now_ns, allowed, settings.refusals, words)


def silence(streak: Streak, now_ns: int, allowed_ns: float, refusals: int, words: str) -> Opinion:
    """The opinion of a time-out: silence against what is allowed, unless refusals decide.

    Args:
        words: What is to be said beside the limit; begins with a comma.
    """
    if streak.since_ns is None:
        return Opinion(suspects=False, level=0.0, why="no probe yet")
    quiet = max(now_ns - streak.since_ns, 0)
    refused = streak.refused / refusals
    level = max(refused, quiet / allowed_ns)
    if refused >= 1:
        why = f"{refusals_in_words(streak.refused, refusals)}; {streak.seen(now_ns)}"
    else:
        why = f"silent for {span(quiet)}, allowed {span(allowed_ns)}{words}"
    return Opinion(level >= 1, level, why)

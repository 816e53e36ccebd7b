"""What a detector would have made of a recorded trace: how soon it sees a death, how often it errs.

The measures are those of W. Chen, S. Toueg, M. K. Aguilera, "On the quality
of service of failure detectors" (DSN 2000): detection time, mistake rate,
mistake duration, query accuracy.  A detector counts as asked at every moment.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from haops.errors import BadInput
from haops.health.beat import Beat, Detector, Evidence
from haops.health.lifeguard import Lifeguard
from haops.health.trace import CODES, Floats, Ints, Trace, Truth

CUTS: Final = 1000
# Nobody waits longer than this for a detector to notice a death.
_GIVE_UP_NS: Final = 120_000_000_000
_ANSWERED: Final = CODES.index(Evidence.ANSWERED)


@dataclass(frozen=True, slots=True)
class Detection:
    """How soon deaths were suspected, s.

    Args:
        deaths: How many there were.
        missed: How many were not suspected while they lasted; infinite in median and worst.
    """

    deaths: int
    missed: int
    median_s: float
    worst_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a detector at one setting would have done on a trace.

    Args:
        detector: Its name.
        threshold: The setting that a sweep varies.
        words: The setting as an operator writes it, for instance "limit 300 ms".
        silent: Detection of a death without a word (frozen machine, cut cable). The trace's
            healthy part is cut at many points, as if the target had died there.
        real: Detection of the deaths that the trace has marked; None if there are none.
        mistakes: Suspicions of a target that lived, short pauses included.
        hours: Healthy time watched.
        mistake_s: Mean length of a mistake, s; 0 without one.
        accuracy: Share of the healthy time without suspicion, 0 to 1.
    """

    detector: str
    threshold: float
    words: str
    silent: Detection
    real: Detection | None
    mistakes: int
    hours: float
    mistake_s: float
    accuracy: float

    @property
    def per_hour(self) -> float:
        """Mistakes an hour, as seen."""
        return self.mistakes / self.hours if self.hours > 0 else math.inf

    @property
    def bound_per_hour(self) -> float:
        """What the true rate does not exceed, at 95 % confidence."""
        return rate_bound(self.mistakes, self.hours)


def rate_bound(events: int, hours: float) -> float:
    """Upper 95 % bound for a rate, of which `events` were seen in `hours`; per hour.

    Exact for a Poisson process up to 50 events, and the Wilson-Hilferty
    approximation above.  Without an event it is the rule of three: 3 / hours.
    """
    if hours <= 0:
        return math.inf
    if events > 50:
        n = events + 1
        return n * (1 - 1 / (9 * n) + 1.6449 / (3 * math.sqrt(n))) ** 3 / hours
    low, high = 0.0, 3.0 + 3 * events + 10
    for _ in range(60):
        middle = (low + high) / 2
        seen = sum(math.exp(-middle + i * math.log(middle) - math.lgamma(i + 1)) for i in range(events + 1))
        low, high = (middle, high) if seen > 0.05 else (low, middle)
    return high / hours


@dataclass(frozen=True, slots=True, eq=False)
class Gaps:
    """A trace as the stretches between two answers.

    The first begins with the first probe, the last ends with the trace.

    Args:
        start: The answer that begins it was known, monotonic ns.
        end: The next answer was known.
        down: Whether the target was really down in a part of it.
        of: For each probe, the gap that it falls into; an answer begins its own.
        counts: For each probe, whether it is one that a detector counts as unanswered.
    """

    trace: Trace
    start: Ints
    end: Ints
    down: np.typing.NDArray[np.bool_]
    of: Ints
    counts: np.typing.NDArray[np.bool_]

    @classmethod
    def of_trace(cls, trace: Trace) -> Gaps:
        """Cut a trace into gaps. Raises BadInput if it has too few probes to say anything."""
        answered = trace.evidence == _ANSWERED
        if np.count_nonzero(answered) < 2:
            raise BadInput(
                f"the trace of {trace.target} has fewer than two answers", hint="record for longer"
            )
        start = np.concatenate((trace.sent[:1], trace.known[answered]))
        end = np.concatenate((start[1:], trace.known[-1:]))
        down = np.zeros(len(start), dtype=np.bool_)
        for interval in trace.truths:
            if interval.truth is Truth.DOWN:
                down |= (start < interval.end_ns) & (end > interval.start_ns)
        last_sent = np.maximum.accumulate(np.where(answered, trace.sent, -1))
        counts = ~answered & (trace.sent > last_sent)
        return cls(trace, start, end, down, np.cumsum(answered), counts)

    def count_onsets(self, refusals: int, silences: int | None) -> Floats:
        """When a row of unanswered probes reached its threshold in each gap, ns; infinite where it did not.

        Args:
            silences: None if silent probes do not count.
        """
        refused = self.counts & (self.trace.evidence == CODES.index(Evidence.REFUSED))
        silent = self.counts & ~refused
        weight = 0 if silences is None else refusals
        need = refusals * (silences or 1)
        steps = np.cumsum(refused * (silences or 1) + silent * weight)
        first = np.searchsorted(self.of, np.arange(len(self.start)))
        before = np.where(first > 0, steps[np.minimum(first, len(steps)) - 1], 0)
        hit = self.counts & (steps - before[self.of] >= need)
        where, at = np.unique(self.of[hit], return_index=True)
        onsets = np.full(len(self.start), np.inf)
        onsets[where] = self.trace.known[hit][at]
        return onsets

    def cuts(self, count: int) -> Ints:
        """Moments at which the target could have died: evenly over the trace, where it lived."""
        usable = self.start[1:][~self.down[1:]]
        if not len(usable):
            return np.array([], dtype=np.int64)
        # The first answers are left out: no detector knows its target by then.
        begin = self.start[1 + min(20, len(self.start) // 4)]
        moments = np.linspace(begin, self.trace.sent[-1], count + 2, dtype=np.int64)[1:-1]
        return np.asarray(moments[~self.down[self.gap_at(moments)]], dtype=np.int64)

    def gap_at(self, moments: Ints) -> Ints:
        """The gap that each moment falls into."""
        return np.searchsorted(self.start, moments, side="right") - 1

    def next_probe(self, moments: Ints) -> Ints:
        """When the first probe after each moment was sent, ns."""
        at = np.searchsorted(self.trace.sent, moments)
        return self.trace.sent[np.minimum(at, len(self.trace) - 1)]


def judge(
    gaps: Gaps, onsets: Floats, silent_s: Floats, *, detector: str, threshold: float, words: str
) -> Outcome:
    """Score suspicions.

    Args:
        onsets: When suspicion began in each gap, ns; infinite where it did not.
        silent_s: Detection times of the deaths that were assumed, s.
    """
    length = (gaps.end - gaps.start)[~gaps.down]
    wrong = np.maximum(gaps.end - onsets, 0.0)[~gaps.down]
    mistakes = int(np.count_nonzero(wrong))
    healthy = float(length.sum())
    deaths = [t for t in gaps.trace.truths if t.truth is Truth.DOWN]
    real = [_noticed(gaps, onsets, t.start_ns, t.end_ns) for t in deaths]
    return Outcome(
        detector=detector,
        threshold=threshold,
        words=words,
        silent=_detection(silent_s),
        real=_detection(np.array(real)) if deaths else None,
        mistakes=mistakes,
        hours=healthy / 3.6e12,
        mistake_s=float(wrong.sum()) / mistakes / 1e9 if mistakes else 0.0,
        accuracy=1 - float(wrong.sum()) / healthy if healthy else 0.0,
    )


def _noticed(gaps: Gaps, onsets: Floats, start_ns: int, end_ns: int) -> float:
    """Detection time of a real death, s: in the gap that it fills most."""
    overlap = np.minimum(gaps.end, end_ns) - np.maximum(gaps.start, start_ns)
    gap = int(np.argmax(overlap))
    if onsets[gap] >= gaps.end[gap]:
        return math.inf
    return max(float(onsets[gap]) - start_ns, 0.0) / 1e9


def _detection(times_s: Floats) -> Detection:
    if not len(times_s):
        return Detection(0, 0, math.inf, math.inf)
    ordered = np.sort(times_s)
    # Not np.median: the mean of a number and infinity is no middle.
    return Detection(
        deaths=len(ordered),
        missed=int(np.count_nonzero(np.isinf(ordered))),
        median_s=float(ordered[len(ordered) // 2]),
        worst_s=float(ordered[-1]),
    )


def replay(
    trace: Trace, make: Callable[[], Detector], *, name: str, words: str = "", cuts: int = 50
) -> Outcome:
    """Run a trace through a detector itself, beat by beat, and score it.

    Slower than `sweep`, but it takes any detector.  A `Lifeguard` is told how
    late each probe was sent, as from one loop that sends the next probe an
    interval after the last one, or at once if that took longer.

    Args:
        cuts: Deaths that are assumed, each played to a copy of the detector.

    Raises:
        BadInput: The trace has fewer than two answers.
    """
    gaps = Gaps.of_trace(trace)
    onsets = np.full(len(gaps.start), np.inf)
    moments = gaps.cuts(cuts).tolist()
    silent: list[float] = []
    player = _Player(make(), trace.interval_s)
    for beat, gap in zip(trace.beats(), gaps.of.tolist(), strict=True):
        while moments and moments[0] < beat.known_ns:
            died = moments.pop(0)
            silent.append(_dies(copy.deepcopy(player), died, max(beat.sent_ns, died), trace))
        before = gap - 1 if beat.evidence is Evidence.ANSWERED else gap
        onset = player.play(beat)
        if onset is not None:
            onsets[before] = min(onsets[before], onset)
    return judge(gaps, onsets, np.array(silent), detector=name, threshold=math.nan, words=words)


def _dies(player: _Player, died_ns: int, sent_ns: int, trace: Trace) -> float:
    """Seconds from a death until it is suspected, all probes being silent from then on."""
    patience, interval = round(trace.patience_s * 1e9), round(trace.interval_s * 1e9)
    while sent_ns - died_ns < _GIVE_UP_NS:
        onset = player.play(Beat(sent_ns, sent_ns + patience, Evidence.SILENT))
        if onset is not None:
            return max(onset - died_ns, 0) / 1e9
        sent_ns += max(patience, interval)
    return math.inf


class _Player:
    """Feeds a detector and finds out when it began to suspect."""

    def __init__(self, detector: Detector, interval_s: float) -> None:
        self._detector = detector
        self._interval_ns = round(interval_s * 1e9)
        self._last: Beat | None = None

    def play(self, beat: Beat) -> int | None:
        """Feed a beat; when suspicion stood from at the earliest since the last beat, ns; None if it did not."""
        asked = self._last.known_ns if self._last else beat.sent_ns
        if self._last and isinstance(self._detector, Lifeguard):
            due = max(self._last.known_ns, self._last.sent_ns + self._interval_ns)
            self._detector.late(beat.sent_ns, beat.sent_ns - due)
        onset = self._first(min(asked, beat.known_ns), beat.known_ns)
        self._detector.feed(beat)
        self._last = beat
        if onset is None and self._detector.opinion(beat.known_ns).suspects:
            return beat.known_ns
        return onset

    def _first(self, low: int, high: int) -> int | None:
        """The first moment of suspicion within `low`..`high`; between beats it only grows."""
        if not self._detector.opinion(high).suspects:
            return None
        while low < high:
            middle = (low + high) // 2
            if self._detector.opinion(middle).suspects:
                high = middle
            else:
                low = middle + 1
        return high

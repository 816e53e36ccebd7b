"""Every detector at many thresholds on one trace, in one pass over the beats for each detector.

What a time-out or phi allows is, after each answer, a fixed part plus a
deviation times something that depends on the threshold alone.  So the
detector itself is run once, and all thresholds are weighed on its columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from haops.health.beat import Evidence, span
from haops.health.heartbeat import REFUSALS
from haops.health.phi import PhiAccrual, PhiSettings, Shape, deviations
from haops.health.replay import CUTS, Gaps, Outcome, judge
from haops.health.timeout import AdaptiveSettings, AdaptiveTimeout
from haops.health.trace import Floats, Trace

HEARTBEAT: Final = "heartbeat"
FIXED: Final = "fixed time-out"
ADAPTIVE: Final = "adaptive time-out"
PHI: Final = "phi, normal"
PHI_EXPONENTIAL: Final = "phi, exponential"
DETECTORS: Final = (HEARTBEAT, FIXED, ADAPTIVE, PHI, PHI_EXPONENTIAL)


@dataclass(frozen=True, slots=True)
class Grid:
    """The thresholds that a sweep tries.

    Args:
        silences: Silent probes in a row.
        limits_s: Fixed time-outs, s.
        ks: Deviations of the adaptive time-out.
        phis: Thresholds of phi.
        refusals: Refused probes in a row that suffice, for all of them.
        adaptive: The adaptive time-out's other settings; its floor is that of the sweep.
        phi: Phi's other settings.
    """

    silences: Sequence[int] = (1, 2, 3, 4, 5, 6, 8, 10)
    limits_s: Sequence[float] = (
        0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0,
    )  # fmt: skip
    ks: Sequence[float] = (4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
    phis: Sequence[float] = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 24, 32)
    refusals: int = REFUSALS
    adaptive: AdaptiveSettings = field(default_factory=lambda: AdaptiveSettings(floor_s=0.05))
    phi: PhiSettings = field(default_factory=PhiSettings)


def sweep(trace: Trace, grid: Grid | None = None) -> tuple[Outcome, ...]:
    """Each detector at each threshold of the grid, in the order of `DETECTORS` and of the grid.

    Raises:
        BadInput: The trace has fewer than two answers.
    """
    return tuple(_Sweep(trace, grid or Grid()).outcomes())


class _Sweep:
    """One trace, its gaps, and the deaths assumed in it."""

    def __init__(self, trace: Trace, grid: Grid) -> None:
        self._trace = trace
        self._grid = grid
        self._gaps = Gaps.of_trace(trace)
        self._cuts = self._gaps.cuts(CUTS)
        self._cut_gaps = self._gaps.gap_at(self._cuts)
        self._refused = self._gaps.count_onsets(grid.refusals, None)

    def outcomes(self) -> Iterator[Outcome]:
        """All of them."""
        grid = self._grid
        for count in grid.silences:
            yield self._heartbeat(count)
        for limit in grid.limits_s:
            allowed = np.full(len(self._gaps.start), limit * 1e9)
            yield self._allowing(allowed, FIXED, limit, f"limit {span(limit * 1e9)}")
        fits = self._adaptive_fits()
        floor, ceiling = grid.adaptive.floor_s * 1e9, grid.adaptive.ceiling_s * 1e9
        for k in grid.ks:
            # Where nothing is known yet the ceiling holds: there the usual part is infinite.
            allowed = np.clip(fits[:, 0] + k * fits[:, 1], floor, ceiling)
            yield self._allowing(allowed, ADAPTIVE, k, f"k {k:g}")
        fits = self._phi_fits()
        pause = grid.phi.pause_s * 1e9
        for phi in grid.phis:
            allowed = pause + fits[:, 0] + deviations(phi) * fits[:, 1]
            yield self._allowing(allowed, PHI, phi, f"phi {phi:g}")
        for phi in grid.phis:
            allowed = pause + fits[:, 0] * (phi * math.log(10))
            yield self._allowing(allowed, PHI_EXPONENTIAL, phi, f"phi {phi:g}")

    def _heartbeat(self, silences: int) -> Outcome:
        onsets = self._gaps.count_onsets(self._grid.refusals, silences)
        patience = self._trace.patience_s * 1e9
        wait = patience + (silences - 1) * max(patience, self._trace.interval_s * 1e9)
        noticed = self._gaps.next_probe(self._cuts) + wait
        times = np.maximum(np.minimum(noticed, onsets_before(onsets, self._cut_gaps, self._cuts)), self._cuts)
        words = "1 silence" if silences == 1 else f"{silences} silences"
        return judge(
            self._gaps,
            onsets,
            (times - self._cuts) / 1e9,
            detector=HEARTBEAT,
            threshold=silences,
            words=words,
        )

    def _allowing(self, allowed: Floats, name: str, threshold: float, words: str) -> Outcome:
        """The outcome of a detector that allows so much silence in each gap, ns."""
        due = self._gaps.start + allowed
        # A detector learns that it is watching from its first probe's outcome.
        due[0] = max(due[0], self._trace.known[0])
        onsets = np.minimum(due, self._refused)
        earlier = onsets_before(self._refused, self._cut_gaps, self._cuts)
        times = np.maximum(np.minimum(due[self._cut_gaps], earlier), self._cuts)
        silent = (times - self._cuts) / 1e9
        return judge(self._gaps, onsets, silent, detector=name, threshold=threshold, words=words)

    def _adaptive_fits(self) -> Floats:
        detector = AdaptiveTimeout(self._grid.adaptive)
        return self._fits(detector.feed, lambda: detector.fit or (math.inf, 0.0))

    def _phi_fits(self) -> Floats:
        detector = PhiAccrual(replace(self._grid.phi, shape=Shape.NORMAL))
        return self._fits(detector.feed, lambda: detector.fit)

    def _fits(self, feed: Callable[..., None], fit: Callable[[], tuple[float, float]]) -> Floats:
        """What the detector knows in each gap."""
        rows = [fit()]
        for beat in self._trace.beats():
            feed(beat)
            if beat.evidence is Evidence.ANSWERED:
                rows.append(fit())
        return np.array(rows)


def onsets_before(
    onsets: Floats, gaps: np.typing.NDArray[np.int64], moments: np.typing.NDArray[np.int64]
) -> Floats:
    """For each moment, when its gap's suspicion began if that was before it; else infinite."""
    begun = onsets[gaps]
    return np.where(begun <= moments, begun, np.inf)

"""The Lifeguard rule: an observer that is late itself must not accuse others of it.

After A. Dadgar, J. Phillips, J. Currey, "Lifeguard: Local Health Awareness for
More Accurate Failure Detection" (2018), as in memberlist's `awareness.go`: a
score from 0 to 8 of the observer's own trouble multiplies its thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

from haops.errors import BadInput
from haops.health.beat import Beat, Detector, Evidence, Opinion, span


@dataclass(frozen=True, slots=True)
class LifeguardSettings:
    """How an observer's lateness lowers its trust in itself.

    Args:
        tolerance_s: A wake-up that is at most so late is punctual; s, default 0.05, above what the
            scheduler of a busy machine costs a sleeping process.
        unit_s: So much lateness adds 1 to the score; s, default 0.1.
        most: The score's upper end, default 8 as in memberlist (`AwarenessMaxMultiplier`):
            thresholds grow at most ninefold.
        recovery_s: Punctual time in which the score falls from `most` to 0; s, default 2.
        hold_s: After a late wake-up suspicion waits for a probe that was sent after it, but no
            longer than this; s, default 1 (memberlist's probe interval).
        patience_s: How long a probe waits for its answer, s. If given, a silent probe that
            took longer shows that the observer slept within it.

    Raises:
        BadInput: A setting is out of range.
    """

    tolerance_s: float = 0.05
    unit_s: float = 0.1
    most: float = 8.0
    recovery_s: float = 2.0
    hold_s: float = 1.0
    patience_s: float | None = None

    def __post_init__(self) -> None:
        if min(self.tolerance_s, self.most, self.hold_s) < 0 or min(self.unit_s, self.recovery_s) <= 0:
            raise BadInput(
                f"lifeguard settings are out of range: {self}",
                hint="unit_s and recovery_s above 0, all others from 0",
            )


class Lifeguard:
    """Wraps a detector and holds its suspicion back while the observer itself is late.

    It only ever holds back: it suspects at no moment at which the wrapped
    detector does not.  While the score is above 0, evidence must be
    (1 + score) times the threshold; and after a late wake-up nothing counts
    before a probe sent since then has failed, so that a freeze of the
    observer is no evidence by itself.
    """

    def __init__(self, inner: Detector, settings: LifeguardSettings | None = None) -> None:
        self._inner = inner
        self._settings = settings or LifeguardSettings()
        self._score = 0.0
        self._scored_ns = 0
        self._woke_ns: int | None = None
        self._late_ns = 0
        self._fresh = False

    def late(self, now_ns: int, by_ns: int) -> None:
        """The observer's own loop woke up at `now_ns`, `by_ns` after it should have; punctual wake-ups welcome."""
        if by_ns <= self._settings.tolerance_s * 1e9:
            return
        gained = by_ns / 1e9 / self._settings.unit_s
        self._score = min(self._score_at(now_ns) + gained, self._settings.most)
        self._scored_ns = self._woke_ns = now_ns
        self._late_ns = by_ns
        self._fresh = False

    def feed(self, beat: Beat) -> None:
        """Take in one probe."""
        patience = self._settings.patience_s
        if patience is not None and beat.evidence is Evidence.SILENT:
            self.late(beat.known_ns, beat.round_trip_ns - round(patience * 1e9))
        if self._woke_ns is not None and beat.sent_ns >= self._woke_ns:
            self._fresh = True
        self._inner.feed(beat)

    def trust(self, now_ns: int) -> float:
        """How much the observer trusts itself: 1 is fully, 1 / (1 + score) while it is late."""
        return 1 / (1 + self._score_at(now_ns))

    def opinion(self, now_ns: int) -> Opinion:
        """The wrapped detector's opinion, its level lowered by the observer's trust in itself."""
        inner = self._inner.opinion(now_ns)
        trust = self.trust(now_ns)
        stale = self._is_stale(now_ns)
        if not inner.suspects or (trust == 1 and not stale):
            return inner
        level = inner.level * trust
        if level >= 1 and not stale:
            return Opinion(suspects=True, level=level, why=f"{inner.why}; in spite of a trust of {trust:.1f}")
        held = min(level, 0.99)
        late = f"the observer itself woke up {span(self._late_ns)} late"
        rest = "no probe since then has failed yet" if stale else f"its trust is {trust:.1f}"
        return Opinion(
            suspects=False, level=held, why=f"{late}: {rest}, suspicion is held back ({inner.why})"
        )

    def _is_stale(self, now_ns: int) -> bool:
        if self._woke_ns is None or self._fresh:
            return False
        return now_ns - self._woke_ns < self._settings.hold_s * 1e9

    def _score_at(self, now_ns: int) -> float:
        passed = max(now_ns - self._scored_ns, 0) / 1e9
        return max(self._score - self._settings.most * passed / self._settings.recovery_s, 0.0)

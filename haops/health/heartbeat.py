"""Unanswered probes counted; the plainest detector, and what the others know of refusals."""

from __future__ import annotations

from haops.errors import BadInput
from haops.health.beat import Beat, Evidence, Opinion, span

# A server may close one idle or killed connection and live; the second refusal is a fresh connection's.
REFUSALS = 2
SILENCES = 2


class Streak:
    """Probes without an answer since the last one that had it.

    Only a probe sent after the last answered one counts: where several are
    out at once, an older one may run out of patience after a younger was answered.
    """

    __slots__ = ("_answered_sent", "first_ns", "refused", "seen_ns", "silent")

    def __init__(self) -> None:
        self.refused = 0
        self.silent = 0
        self.seen_ns: int | None = None
        self.first_ns: int | None = None
        self._answered_sent = -1

    def feed(self, beat: Beat) -> None:
        """Count one probe."""
        if self.first_ns is None:
            self.first_ns = beat.sent_ns
        if beat.evidence is Evidence.ANSWERED:
            self.refused = self.silent = 0
            self.seen_ns = beat.known_ns
            if beat.sent_ns > self._answered_sent:
                self._answered_sent = beat.sent_ns
        elif beat.sent_ns > self._answered_sent:
            if beat.evidence is Evidence.REFUSED:
                self.refused += 1
            else:
                self.silent += 1

    @property
    def since_ns(self) -> int | None:
        """Since when silence lasts: the last answer, else the first probe; None before any beat."""
        return self.first_ns if self.seen_ns is None else self.seen_ns

    def seen(self, now_ns: int) -> str:
        """When the node was last seen, in words."""
        return "never seen" if self.seen_ns is None else f"last seen {span(now_ns - self.seen_ns)} ago"


def at_least_one(name: str, value: int) -> int:
    """Return a threshold that counts probes. Raises BadInput if it is below 1."""
    if value < 1:
        raise BadInput(f"{name} is {value}", hint="allowed: 1 and more")
    return value


class Heartbeat:
    """Suspects after so many probes in a row without an answer.

    A refusal is worth 1 / `refusals`, a silence 1 / `silences`; together they
    must make 1, so that a mixed row counts too.

    Args:
        refusals: Refused probes in a row that suffice, default 2: a server may close one
            connection and live, but a fresh connection's refusal tells of the process.
        silences: Silent probes in a row that suffice, default 2: one lost reply is no evidence
            (memberlist and SWIM ask again before they suspect, too).

    Raises:
        BadInput: A threshold is below 1.
    """

    def __init__(self, *, refusals: int = REFUSALS, silences: int = SILENCES) -> None:
        self._refusals = at_least_one("refusals", refusals)
        self._silences = at_least_one("silences", silences)
        self._streak = Streak()

    @property
    def last_seen_ns(self) -> int | None:
        """When the last answer was known, monotonic ns; None if there was none."""
        return self._streak.seen_ns

    def feed(self, beat: Beat) -> None:
        """Take in one probe."""
        self._streak.feed(beat)

    def opinion(self, now_ns: int) -> Opinion:
        """What to think at `now_ns`; changes with beats only, time alone tells a counter nothing."""
        streak = self._streak
        # One division, so that for instance 1/3 + 2/3 cannot fall short of 1.
        share = streak.refused * self._silences + streak.silent * self._refusals
        level = share / (self._refusals * self._silences)
        parts = []
        if streak.refused:
            parts.append(refusals_in_words(streak.refused, self._refusals))
        if streak.silent:
            parts.append(_in_words(streak.silent, "silent", self._silences))
        why = " and ".join(parts) or "the last probe was answered"
        if streak.first_ns is None:
            why = "no probe yet"
        return Opinion(level >= 1, level, f"{why}; {streak.seen(now_ns)}" if parts else why)


def refusals_in_words(count: int, threshold: int) -> str:
    """So many refused probes, against the threshold."""
    return _in_words(count, "refused", threshold)


def _in_words(count: int, what: str, threshold: int) -> str:
    probes = "1 probe" if count == 1 else f"{count} probes in a row"
    return f"{probes} {what} (threshold {threshold})"

"""What a probe of a node came to, and what a detector makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Evidence(StrEnum):
    """What a probe came to.

    ANSWERED is a reply.  REFUSED is a closed door (RST, connection refused,
    EOF): evidence at once, for a kernel said so.  SILENT is no reply within
    the probe's patience: evidence only together with time.
    """

    ANSWERED = "answered"
    REFUSED = "refused"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Beat:
    """One probe; times are monotonic ns.

    Args:
        sent_ns: When the probe was sent.
        known_ns: When its outcome was known; not before `sent_ns`.
        evidence: What it came to.
    """

    sent_ns: int
    known_ns: int
    evidence: Evidence

    @property
    def round_trip_ns(self) -> int:
        """From sending to knowing, ns; a round trip only if the probe was answered."""
        return self.known_ns - self.sent_ns


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a detector thinks at a moment.

    Args:
        suspects: Whether the node is suspected to be gone; exactly where `level` is at least 1.
        level: The evidence as a multiple of the detector's threshold, from 0.
        why: The evidence and the threshold in words.
    """

    suspects: bool
    level: float
    why: str


class Detector(Protocol):
    """A pure state machine: beats go in, in the order in which they became known; opinions come out."""

    def feed(self, beat: Beat) -> None:
        """Take in one probe."""

    def opinion(self, now_ns: int) -> Opinion:
        """What to think at `now_ns`, monotonic ns, not before the last beat was known."""


def span(ns: float) -> str:
    """A length of time for people: 0.4 ms, 312 ms, 1.2 s."""
    if ns < 0:
        return "-" + span(-ns)
    if ns < 9.95e6:
        return f"{ns / 1e6:.1f} ms"
    return f"{ns / 1e6:.0f} ms" if ns < 999.5e6 else f"{ns / 1e9:.1f} s"

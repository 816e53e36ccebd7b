"""What Cassandra members log about each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from haops.runtime.port import LogLine
from haops.stores.base import EventKind, StoreEvent, match_events

_PATTERNS: Final = (
    (EventKind.DETECTED, r"InetAddress \S+ is now DOWN"),
    (EventKind.REJOINED, r"InetAddress \S+ is now UP"),
)


def events(lines: Sequence[LogLine]) -> tuple[StoreEvent, ...]:
    """Gossip's convictions and welcomes; no role moves in a ring."""
    return match_events(lines, _PATTERNS)

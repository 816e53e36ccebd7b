"""Role changes in the logs of Redis servers and Sentinels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from haops.runtime.port import LogLine
from haops.stores.base import EventKind, StoreEvent, match_events

_PATTERNS: Final = (
    (EventKind.DETECTED, r"\+sdown master"),
    (EventKind.DETECTED, r"\+odown master"),
    (EventKind.ELECTED, r"\+elected-leader master"),
    # Up to where the new primary shares the old one's history: what goes beyond is discarded.
    (EventKind.PROMOTED, r"valid up to offset: \d+"),
    (EventKind.PROMOTED, r"MASTER MODE enabled"),
    (EventKind.PROMOTED, r"\+promoted-slave"),
    (EventKind.ADVERTISED, r"\+switch-master"),
    (EventKind.REJOINED, r"MASTER <-> REPLICA sync: Finished with success"),
    (EventKind.REJOINED, r"Successful partial resynchronization with master"),
)


def events(lines: Sequence[LogLine]) -> tuple[StoreEvent, ...]:
    """Sentinels tell of detection and election, servers of promotion and resync."""
    return match_events(lines, _PATTERNS)

"""Role changes in the logs of ZooKeeper servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from haops.runtime.port import LogLine
from haops.stores.base import EventKind, StoreEvent, match_events

_PATTERNS: Final = (
    (EventKind.DETECTED, r"Exception when following the leader"),
    (EventKind.DETECTED, r"PeerState set to LOOKING"),
    (EventKind.PROMOTED, r"LEADING - LEADER ELECTION TOOK"),
    (EventKind.ADVERTISED, r"Have quorum of supporters"),
    (EventKind.REJOINED, r"FOLLOWING - LEADER ELECTION TOOK"),
)


def events(lines: Sequence[LogLine]) -> tuple[StoreEvent, ...]:
    """Followers tell that the leader is gone, the winner that it leads and has its quorum."""
    return match_events(lines, _PATTERNS)

"""How far a restore key by key has come for good: up to where every replica has it, too."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from haops.stores.redis.wire import Wire, info
from haops.wait import REAL_CLOCK, Clock

# Replicas acknowledge once a second; asking more often than this only costs the server time.
_EACH_S: Final = 0.2


def mark_of(run_id: str, keys: int) -> str:
    """`keys` were put into the server that ran as `run_id`: another run, or another server, may lack them."""
    return f"{run_id}:{keys}"


def keys_done(mark: str, run_id: str) -> int:
    """How many keys need not be put again; none where the mark is of another run of a server."""
    run, _, keys = mark.partition(":")
    return int(keys) if run == run_id and keys.isdigit() else 0


def acknowledged(replication: Mapping[str, str]) -> int:
    """The offset that every replica which is connected has; the server's own where none is."""
    told = [
        dict(part.split("=", 1) for part in text.split(","))
        for name, text in replication.items()
        if name.startswith("slave") and name[5:].isdigit()
    ]
    own = int(replication["master_repl_offset"])
    return min((int(r.get("offset", "0")) if r.get("state") == "online" else 0 for r in told), default=own)


class Marks:
    """Marks that may be written down.

    What WAIT would tell, without holding up the keys: each batch's offset is noted, and its mark
    given out when all replicas have acknowledged that much.

    Args:
        wire: To the primary, and not the one the keys go through.
        run_id: The primary's, as INFO has it.
    """

    def __init__(self, wire: Wire, run_id: str, clock: Clock = REAL_CLOCK) -> None:
        self._wire = wire
        self._run_id = run_id
        self._clock = clock
        self._next = 0.0
        self._waiting: deque[tuple[int, int]] = deque()

    def after(self, keys: int) -> str:
        """The mark that holds now that `keys` were acknowledged by the primary; empty where none is new."""
        now = self._clock.monotonic()
        if now < self._next:
            return ""
        self._next = now + _EACH_S
        told = info(self._wire, "replication")
        if told["role"] != "master":
            return ""
        self._waiting.append((int(told["master_repl_offset"]), keys))
        everywhere, found = acknowledged(told), ""
        while self._waiting and self._waiting[0][0] <= everywhere:
            found = mark_of(self._run_id, self._waiting.popleft()[1])
        return found

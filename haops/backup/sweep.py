"""Sweeps: `prune` removes chunks, and nobody who makes a backup leans on one that is about to go.

Who sweeps puts a marker up, and looks for backups then, before each of its batches. Who makes a backup writes into
its folder, and looks for markers then: one of the two sees the other. The backup waits, for the sweep gives way.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Final

from haops.backup.storage import Storage, StorageTrouble, StoredObject
from haops.errors import Busy, DeadlineExceeded
from haops.wait import Clock, wait_until

SWEEPS: Final = "sweeps/"
# How long a batch may go on; a removal that is under way then takes two minutes at most, retries included.
BATCH_S: Final = 10.0
# After this, who put the marker up is dead.
HOLDS: Final = timedelta(minutes=3)
_POLL_S: Final = 0.5


@contextmanager
def sweeping(storage: Storage) -> Iterator[Callable[[], None]]:
    """Yields what puts the marker up, or up anew; it is gone after the section."""
    key = f"{SWEEPS}{uuid.uuid4().hex}"

    def mark() -> None:
        # On a full disk nobody can begin a backup either, and room is to be made.
        with suppress(StorageTrouble):
            storage.put(key, b"")

    try:
        yield mark
    finally:
        with suppress(StorageTrouble):
            storage.delete(key)


def await_sweeps(storage: Storage, now: datetime, clock: Clock, say: Callable[[str], None]) -> None:
    """Wait until nobody removes chunks.

    Args:
        now: By the storage's clock: when the backup's folder was written into.

    Raises:
        Busy: They go on, though they should have seen the backup.
    """
    began = clock.monotonic()

    def look() -> list[StoredObject]:
        moment = now + timedelta(seconds=clock.monotonic() - began)
        return [mark for mark in storage.entries(SWEEPS) if moment - mark.modified <= HOLDS]

    if not look():
        return
    say("waiting for a prune that removes chunks")
    try:
        wait_until(
            look,
            lambda marks: not marks,
            what="a prune to give way",
            deadline_s=2 * HOLDS.total_seconds(),
            interval_s=_POLL_S,
            describe=lambda marks: ", ".join(mark.key for mark in marks),
            clock=clock,
        )
    except DeadlineExceeded as error:
        raise Busy(error.message, detail=error.detail, hint="run the same command again later") from error

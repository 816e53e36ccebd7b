"""Leases: a backup that is being restored is not pruned, until nothing was heard of its restore for a week.

A restore writes its lease again every hour while it is at work. One that was cut off does not, but wants its backup
when it is resumed; one whose machine died never comes back, and no longer than this may it hold the backup.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from haops.cluster.spec import Cluster
from haops.errors import HaopsError

# How long a lease holds that is not renewed. restic takes a lock for stale after six missed renewals (30 minutes,
# one each 5); here it is 168, for people resume what was cut off, and may do so after a weekend and a holiday.
LEASE_FOR: Final = timedelta(days=7)
RENEW_S: Final = 3600.0
# A renewal that is under way when the restore ends: a storage that hangs keeps nobody longer than this.
_LAST_S: Final = 30.0
_MINUTE: Final = timedelta(minutes=1)


def lessee(cluster: Cluster) -> str:
    """The name of a lease: clusters of several machines, or state directories, may be namesakes."""
    return f"{cluster.name}.{cluster.owner[:6]}"


def cluster_of(lessee: str) -> str:
    """The cluster in the name of a lease."""
    return lessee.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Lease:
    """A backup is being restored: from `since` (UTC) until the restore is complete.

    Args:
        holder: Who restores it, as user@host; empty if that is not known.
    """

    backup: str
    cluster: str
    since: datetime
    holder: str = ""


@dataclass(frozen=True, slots=True)
class Restoring:
    """A lease as it is found.

    Args:
        since: When the restore was begun; None where that cannot be read.
        heard: When it was last heard of, by the storage's clock; UTC.
        holds: Whether it still keeps the backup from being removed.
    """

    cluster: str
    holder: str
    since: datetime | None
    heard: datetime
    holds: bool

    def words(self, now: datetime) -> str:
        """What is known of it, for people."""
        by = f" by {self.holder}" if self.holder else ""
        since = f" since {self.since:%Y-%m-%d %H:%M} UTC" if self.since else ""
        told = f"into {self.cluster}{by}{since}, last heard of {ago(now - self.heard)}"
        if self.holds:
            return f"being restored {told}"
        return f"a restore {told}: after {LEASE_FOR.days} days it holds the backup no longer"


def holds(heard: datetime, now: datetime) -> bool:
    """Whether a lease that was written at one moment holds at another, both by the same clock if possible."""
    return now - heard <= LEASE_FOR


def ago(age: timedelta) -> str:
    """How long ago something was, in its largest unit; a clock that is ahead of another makes it `just now`."""
    return f"{span(age)} ago" if age >= _MINUTE else "just now"


def span(age: timedelta) -> str:
    """A span of time in its largest unit."""
    for name, unit in (("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", _MINUTE)):
        if age >= unit:
            return f"{age // unit} {name}{'s' * (age // unit > 1)}"
    return f"{age.total_seconds():g} s"


@contextmanager
def renewed(renew: Callable[[], object], every_s: float) -> Iterator[None]:
    """Call `renew` every so many seconds until the end of the section, however long a step in it takes."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(every_s):
            with suppress(HaopsError):  # it is tried again, long before the lease ends
                renew()

    thread = threading.Thread(target=run, daemon=True, name="lease")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_LAST_S)

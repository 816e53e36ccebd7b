"""What processes that died left half-done with a cluster: a reason against it, however well it serves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from haops.cluster.snapshot import Finding, FindingKind
from haops.control.half_restored import RestoreFile
from haops.control.journal import Journal, last_open, unfinished
from haops.errors import StateDamaged


def cut_off(name: str, folder: Path) -> Iterator[Finding]:
    """A restore or an operation without an end, with what finishes it; nobody is at work on the cluster.

    Args:
        name: The cluster's.
        folder: Its folder in the state directory.
    """
    try:
        if half := RestoreFile(folder).read():
            yield Finding(FindingKind.CUT_OFF, half.words(name), about="restore")
    except StateDamaged as error:
        text = f"a restore was cut off, and its record is damaged: {error.message}; {error.hint}"
        yield Finding(FindingKind.CUT_OFF, text, about="restore")
    if record := last_open(Journal(folder).read()):
        text = f"{unfinished(record)}: finish it or have it put back by: haops heal {name}"
        yield Finding(FindingKind.CUT_OFF, text, record.plan.source)

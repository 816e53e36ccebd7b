"""Leases of backups, and what a removal has to remark, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from haops.cli import backup_words as words
from haops.cli import output as shapes

if TYPE_CHECKING:
    from haops.backup.catalogue import Entry
    from haops.backup.leases import Restoring
    from haops.backup.prune import Pruned
    from haops.backup.repository import Repository


def leases_of(repository: Repository, entry: Entry) -> Sequence[Restoring]:
    """The restores that hold a backup, or did."""
    return repository.leases(entry.folder, datetime.now(UTC))


def lease_fields(leases: Sequence[Restoring]) -> list[dict[str, Any]]:
    """The documented shape of a backup's leases."""
    return [
        {
            "cluster": lease.cluster,
            "holder": lease.holder or None,
            "since": lease.since.isoformat(timespec="seconds") if lease.since else None,
            "heard": lease.heard.isoformat(timespec="seconds"),
            "holds": lease.holds,
        }
        for lease in leases
    ]


def print_leases(leases: Sequence[Restoring]) -> None:
    """A line for each."""
    for lease in leases:
        shapes.out().print(f"  {lease.words(datetime.now(UTC))}", markup=False, soft_wrap=True)


def removal_fields(pruned: Pruned, *, dry_run: bool) -> dict[str, Any]:
    """The documented shape of a removal."""
    return {**words.pruned_fields(pruned, dry_run=dry_run), "remarks": list(pruned.remarks)}


def print_removal(pruned: Pruned, *, dry_run: bool) -> None:
    """What goes and what stays; and a line for each remark, beside the table."""
    words.print_pruned(pruned, dry_run=dry_run)
    for text in pruned.remarks:
        shapes.err().print(text, markup=False, soft_wrap=True)

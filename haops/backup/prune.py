"""Removing backups that no rule keeps, and the chunks that no remaining backup needs.

A backup that is being restored stays, and so does one whose last verification found something wrong: it fills no
rule, and people decide what becomes of it.

A chunk goes only if every other backup can be read and none of them needs it, if it is older than the grace, and
if no backup is being made: that one may lean on any chunk. Documents go before chunks, so that a
crash between any two steps leaves chunks too many, never too few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from haops.backup.catalogue import BackupState, Entry, entries
from haops.backup.documents import Damaged, TooNew
from haops.backup.keys import ring
from haops.backup.repository import CHUNKS, Folder, Repository, chunk_key
from haops.backup.retention import Decision, Point, Rules, decide
from haops.backup.storage import UNFINISHED, ObjectMissing, StoredObject

GRACE: Final = timedelta(hours=1)
# Between so many removals of chunks it looks whether somebody began a backup.
_BATCH: Final = 256
_LEASED: Final = ("being restored",)
_MEANWHILE: Final = "another backup was begun meanwhile; run it again later"


@dataclass(frozen=True, slots=True)
class PruneOrder:
    """What to remove.

    Args:
        rules: What to keep; None keeps all that are complete.
        cluster: Only this cluster's backups are removed.
        grace: Nothing younger is removed, except by the rules.
        incomplete: Remove backups that were cut off, too.
        damaged: Remove backups whose documents are damaged, too; never those of a newer haops.
        dry_run: Only say what would be removed.
    """

    rules: Rules | None
    cluster: str | None = None
    grace: timedelta = GRACE
    incomplete: bool = False
    damaged: bool = False
    dry_run: bool = False
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed, or would be.

    Args:
        decision: On the complete backups; what holds one stands among its reasons.
        dropped: Incomplete and damaged backups that go as well.
        chunks: Objects no backup needs any more; `bytes` is what they take.
        chunks_stay: Why no chunk, or no further one, may be removed now; empty if all were.
    """

    decision: Decision
    dropped: tuple[str, ...]
    chunks: int
    bytes: int
    chunks_stay: str


def prune(repository: Repository, order: PruneOrder) -> Pruned:
    """Remove what the order lets go; may be repeated after a crash.

    Raises:
        StorageTrouble: The repository does not answer; what was removed is removed.
    """
    found = entries(repository)
    decision = _decide(found, order)
    dropped = tuple(e.id for e in found if _drops(e, order))
    going = {*decision.forget, *dropped}
    if not order.dry_run:
        for folder in repository.half_forgotten():
            repository.forget(folder)
        taken = {e.id for e in found if e.id in going and not repository.forget(e.folder)}
        folders = repository.folders() if taken else {}
        decision = _held_back(decision, {i: _held(folders[i]) or _LEASED for i in taken & folders.keys()})
        dropped = tuple(i for i in dropped if i not in taken)
        going -= taken
        _remove(repository, _old(repository.storage.entries(UNFINISHED), order))
    chunks, size, stay = _chunks(repository, going, order)
    return Pruned(decision, dropped, chunks, size, stay)


def _decide(found: Sequence[Entry], order: PruneOrder) -> Decision:
    whole = [e for e in found if e.state is BackupState.COMPLETE and order.cluster in (None, e.cluster)]
    points = [
        Point(e.id, (e.begun.owner, e.begun.cluster), e.created, _held(e.folder))
        for e in whole
        if e.begun and not e.failed
    ]
    failed = {e.id: ("its verification failed", *_held(e.folder)) for e in whole if e.failed}
    if order.rules is None:
        return Decision({p.id: ("no rule", *p.held) for p in points} | failed, ())
    return _held_back(decide(points, order.rules, order.now()), failed)


def _held_back(decision: Decision, held: Mapping[str, tuple[str, ...]]) -> Decision:
    """The same, but some stay, whatever the rules say."""
    return Decision({**decision.keep, **held}, tuple(i for i in decision.forget if i not in held))


def _held(folder: Folder) -> tuple[str, ...]:
    return tuple(f"being restored into {cluster}" for cluster in folder.restoring)


def _drops(entry: Entry, order: PruneOrder) -> bool:
    if order.cluster not in (None, entry.cluster) or entry.newer or _fresh(entry, order):
        return False
    if entry.folder.restoring:
        return False
    return (entry.state is BackupState.INCOMPLETE and order.incomplete) or (
        entry.state is BackupState.DAMAGED and order.damaged
    )


def _fresh(entry: Entry, order: PruneOrder) -> bool:
    """Whether somebody may be at work on it: who makes a backup writes into its folder twice a minute."""
    return order.now() - entry.folder.touched <= order.grace


def _is_made(folder: Folder, order: PruneOrder) -> bool:
    return folder.begun and not folder.complete and order.now() - folder.touched <= order.grace


def _chunks(repository: Repository, going: set[str], order: PruneOrder) -> tuple[int, int, str]:
    """Remove the chunks that nobody needs; how many, their bytes, and why none where none may be."""
    known = [e for e in entries(repository) if e.id not in going]
    if stay := _why_they_stay(known, order):
        return 0, 0, stay
    try:
        needed = {key for entry in known for key in _needs(repository, entry)}
    except (Damaged, TooNew, ObjectMissing) as error:
        return 0, 0, f"{error.message}: what it needs is not known"
    garbage = [o for o in _old(repository.storage.entries(CHUNKS), order) if o.key not in needed]
    if order.dry_run or not garbage:
        return len(garbage), sum(o.size for o in garbage), ""
    return _remove_chunks(repository, garbage, {e.id for e in known}, order)


def _remove_chunks(
    repository: Repository, garbage: Sequence[StoredObject], known: Set[str], order: PruneOrder
) -> tuple[int, int, str]:
    """Remove chunks until somebody begins a backup, or goes on with one: it may lean on any of them."""
    size = 0
    for first in range(0, len(garbage), _BATCH):
        folders = repository.folders()
        if folders.keys() - known or any(_is_made(f, order) for f in folders.values()):
            return first, size, _MEANWHILE
        batch = garbage[first : first + _BATCH]
        _remove(repository, batch)
        size += sum(o.size for o in batch)
    return len(garbage), size, ""


def _why_they_stay(known: Iterable[Entry], order: PruneOrder) -> str:
    for entry in known:
        if entry.newer:
            return f"{entry.id} was made by a newer haops: what it needs is not known"
        if entry.state is BackupState.DAMAGED:
            return f"{entry.id} is damaged: what it needs is not known; remove it: --damaged"
        if entry.state is BackupState.INCOMPLETE and _fresh(entry, order):
            return f"{entry.id} is being made, or was cut off less than {order.grace} ago"
    return ""


def _needs(repository: Repository, entry: Entry) -> Iterator[str]:
    if entry.begun is None:
        return
    if entry.summary:
        parts = iter(repository.manifest(entry.id).parts)
    else:
        parts = (record for _, record in repository.kept_parts(entry.folder))
    readers = ring(entry.begun.recipients)
    for part in parts:
        for chunk in part.chunks:
            yield chunk_key(chunk.id, readers)


def _old(found: Iterable[StoredObject], order: PruneOrder) -> Iterator[StoredObject]:
    before = order.now() - order.grace
    return (o for o in found if o.modified < before)


def _remove(repository: Repository, found: Iterable[StoredObject]) -> None:
    for item in list(found):
        repository.storage.delete(item.key)

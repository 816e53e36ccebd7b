"""Removing backups that no rule keeps, and the chunks that no remaining backup needs.

A backup that is being restored stays, as long as its lease says (see `leases`). One whose last verification found
something wrong fills no rule: it stays, for people to decide what becomes of it, until they say `damaged`; and then,
too, where its cluster has no other.

A chunk goes only if every other backup can be read and none of them needs it, if it is older than the grace, and
if no backup is being made: that one may lean on any chunk. Documents go before chunks, so that a
crash between any two steps leaves chunks too many, never too few.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from haops.backup.catalogue import BackupState, Entry, entries
from haops.backup.documents import Damaged, TooNew
from haops.backup.keys import ring
from haops.backup.leases import span
from haops.backup.repository import CHUNKS, Folder, Repository, chunk_key
from haops.backup.retention import Decision, Point, Rules, decide
from haops.backup.storage import UNFINISHED, ObjectMissing, StoredObject
from haops.backup.sweep import BATCH_S, SWEEPS, sweeping

GRACE: Final = timedelta(hours=1)
_LEASED: Final = ("being restored",)
_FAILED: Final = "its verification failed; to remove it: --damaged"
_NO_OTHER: Final = "its verification failed, but its cluster has no other"
_MEANWHILE: Final = "another backup was begun meanwhile; run it again later"


@dataclass(frozen=True, slots=True)
class PruneOrder:
    """What to remove.

    Args:
        rules: What to keep; None keeps all that are complete.
        cluster: Only this cluster's backups are removed.
        grace: Nothing younger is removed, except by the rules.
        incomplete: Remove backups that were cut off, too.
        damaged: Remove backups whose documents are damaged, too, never those of a newer haops; and those whose
            last verification failed, but not the newest where no other of its cluster is whole.
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
        dropped: Incomplete and damaged backups that go as well, and those whose verification failed.
        chunks: Objects no backup needs any more; `bytes` is what they take.
        chunks_stay: Why no chunk, or no further one, may be removed now; empty if all were.
        remarks: What people should know besides: leases that hold no longer, verifications that failed.
    """

    decision: Decision
    dropped: tuple[str, ...]
    chunks: int
    bytes: int
    chunks_stay: str
    remarks: tuple[str, ...] = ()


def prune(repository: Repository, order: PruneOrder) -> Pruned:
    """Remove what the order lets go; may be repeated after a crash.

    Raises:
        StorageTrouble: The repository does not answer; what was removed is removed.
    """
    found = entries(repository)
    decision = _decide(repository, found, order)
    dropped = tuple(e.id for e in found if _drops(e, order, decision))
    remarks = tuple(_remarks(repository, found, dropped, order))
    going = {*decision.forget, *dropped}
    if not order.dry_run:
        for folder in repository.half_forgotten():
            repository.forget(folder)
        taken = {e.id for e in found if e.id in going and not repository.forget(e.folder)}
        folders = repository.folders() if taken else {}
        held = {i: _held(repository, folders[i], order) or _LEASED for i in taken & folders.keys()}
        decision = _held_back(decision, held)
        dropped = tuple(i for i in dropped if i not in taken)
        going -= taken
        for leftovers in (UNFINISHED, SWEEPS):
            _remove(repository, _old(repository.storage.entries(leftovers), order))
    chunks, size, stay = _chunks(repository, going, order)
    return Pruned(decision, dropped, chunks, size, stay, remarks)


def _decide(repository: Repository, found: Sequence[Entry], order: PruneOrder) -> Decision:
    whole = [e for e in found if e.state is BackupState.COMPLETE and order.cluster in (None, e.cluster)]
    points = [
        Point(e.id, _series(e), e.created, _held(repository, e.folder, order)) for e in whole if not e.failed
    ]
    failed = _failed_that_stay(repository, whole, order)
    if order.rules is None:
        return Decision({p.id: ("no rule", *p.held) for p in points} | failed, ())
    return _held_back(decide(points, order.rules, order.now()), failed)


def _failed_that_stay(
    repository: Repository, whole: Sequence[Entry], order: PruneOrder
) -> dict[str, tuple[str, ...]]:
    """Those of the complete ones (the oldest first) whose verification failed and that stay, and why."""
    last = {_series(e): e.id for e in whole}
    for good in (e for e in whole if not e.failed):
        last.pop(_series(good), None)
    stay: dict[str, tuple[str, ...]] = {}
    for entry in (e for e in whole if e.failed):
        held = _held(repository, entry.folder, order)
        if not order.damaged:
            stay[entry.id] = (_FAILED, *held)
        elif entry.id in last.values():
            stay[entry.id] = (_NO_OTHER, *held)
        elif held:
            stay[entry.id] = held
    return stay


def _series(entry: Entry) -> tuple[str, str]:
    return (entry.begun.owner if entry.begun else "", entry.cluster)


def _remarks(
    repository: Repository, found: Sequence[Entry], dropped: Sequence[str], order: PruneOrder
) -> Iterator[str]:
    now = order.now()
    for entry in (e for e in found if order.cluster in (None, e.cluster)):
        for lease in repository.leases(entry.folder, now):
            if not lease.holds:
                yield f"{entry.id}: {lease.words(now)}"
        if entry.checked and entry.failed and entry.id in dropped:
            yield (
                f"{entry.id}: its last verification ({entry.checked.depth}, "
                f"{entry.checked.at:%Y-%m-%d %H:%M} UTC) failed"
            )


def _held_back(decision: Decision, held: Mapping[str, tuple[str, ...]]) -> Decision:
    """The same, but some stay, whatever the rules say."""
    return Decision({**decision.keep, **held}, tuple(i for i in decision.forget if i not in held))


def _held(repository: Repository, folder: Folder, order: PruneOrder) -> tuple[str, ...]:
    now = order.now()
    return tuple(lease.words(now) for lease in repository.leases(folder, now) if lease.holds)


def _drops(entry: Entry, order: PruneOrder, decision: Decision) -> bool:
    if order.cluster not in (None, entry.cluster) or entry.newer:
        return False
    if entry.failed:  # it is complete: nobody is at work on it, however young it is
        return entry.id not in decision.keep
    if _fresh(entry, order) or entry.folder.held(order.now()):
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
    unneeded = [o for o in repository.storage.entries(CHUNKS) if o.key not in needed]
    garbage = list(_old(unneeded, order))
    size = sum(o.size for o in garbage)
    stay = ""
    if young := len(unneeded) - len(garbage):
        rest = sum(o.size for o in unneeded) - size
        stay = f"{young:,} that no backup needs ({rest:,} bytes) are younger than {span(order.grace)}"
    if order.dry_run or not garbage:
        return len(garbage), size, stay
    count, size, broken_off = _remove_chunks(repository, garbage, {e.id for e in known}, order)
    return count, size, broken_off or stay


def _remove_chunks(
    repository: Repository, garbage: Sequence[StoredObject], known: Set[str], order: PruneOrder
) -> tuple[int, int, str]:
    """Remove chunks until somebody begins a backup, or goes on with one: it may lean on any of them."""
    left = deque(garbage)
    size = 0
    with sweeping(repository.storage) as mark:
        while left:
            mark()
            folders = repository.folders()
            if folders.keys() - known or any(_is_made(f, order) for f in folders.values()):
                return len(garbage) - len(left), size, _MEANWHILE
            until = time.monotonic() + BATCH_S
            while left:
                repository.storage.delete(left[0].key)
                size += left.popleft().size
                if time.monotonic() >= until:
                    break
    return len(garbage), size, ""


def _why_they_stay(known: Iterable[Entry], order: PruneOrder) -> str:
    for entry in known:
        if entry.newer:
            return f"{entry.id} was made by a newer haops: what it needs is not known"
        if entry.state is BackupState.DAMAGED:
            return f"{entry.id} is damaged: what it needs is not known; remove it: --damaged"
        if entry.state is BackupState.INCOMPLETE and _fresh(entry, order):
            return f"{entry.id} is being made, or was cut off less than {span(order.grace)} ago"
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

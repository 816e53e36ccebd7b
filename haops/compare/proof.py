"""The proof of a backup: restored into a throw-away cluster of its own shape, compared, timed, torn down."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from haops.backup.archive import ArchiveReader, open_archive
from haops.backup.catalogue import complete
from haops.backup.keys import Identities
from haops.backup.leases import lessee
from haops.backup.manifest import Shape
from haops.backup.repository import Repository
from haops.backup.restore import RestoreOrder, restore
from haops.cluster.spec import Cluster, ClusterSpec, StoreName
from haops.compare.rounds import Comparison, Verdict
from haops.compare.sides import compare_copies, compare_with_backup
from haops.control.lifecycle import Lifecycle
from haops.stores import load_comparing
from haops.stores.backup import Archive, NotRestorable

# What a proof that is killed leaves is removed by `haops gc` after this.
_TTL: Final = timedelta(hours=4)
_NAME: Final = "proof"
_EXAMPLES: Final = 5
# With more than one record in so many that is not the same in all copies, too little is proved.
_ONE_APART_IN: Final = 10


@dataclass(frozen=True, slots=True)
class Proof:
    """What became of a backup when it was restored.

    Args:
        ok: Whether the restored cluster has just what the backup has; None where that could not be told.
        took_s: In all, with the cluster's making and removal.
        restore_s: The restore alone, until the cluster was healthy.
        records: Compared.
        differences: Found.
        words: What else is to be said: examples, or what could not be compared and how many those are.
        untold: Records that were written while the backup was made: it may have either state of them.
    """

    backup: str
    cluster: str
    ok: bool | None
    took_s: float
    restore_s: float
    records: int
    differences: int
    words: tuple[str, ...] = ()
    untold: int = 0


def prove(
    haops: Lifecycle,
    repository: Repository,
    backup: str,
    identities: Identities,
    say: Callable[[str], None],
) -> Proof:
    """Restore a backup into a cluster made for it, and compare the two; the cluster is removed whatever happens.

    A backup without a logical form is compared with nothing but itself: whether all copies of what
    was restored are equal. That it cannot tell more stands in the proof's words.

    Raises:
        HaopsError: The backup cannot be read, or the cluster cannot be made.
    """
    archive = open_archive(repository, backup, identities)
    began = time.monotonic()
    spec = _spec(archive.store, complete(repository, backup).begun.shape)
    say(f"making {spec.name}: {spec.nodes} nodes of {spec.store}")
    with _throw_away(haops, spec) as cluster, _leased_no_longer(archive, cluster):
        say(f"restoring {archive.id} into {cluster.name}")
        reason = f"proof of {archive.id}"
        restored = restore(haops, cluster, archive, RestoreOrder(repository=repository.label, reason=reason))
        say(f"restored in {restored.took_s:.1f} s; comparing")
        found = _compared(haops, cluster, archive)
    whole = (found.whole,) if found.whole else ()
    blamed = (*whole, *(found.copies if found.one_moment else ()))
    return Proof(
        backup=archive.id,
        cluster=cluster.name,
        ok=_ok(found),
        took_s=time.monotonic() - began,
        restore_s=restored.took_s,
        records=max((c.records_left for c in (*whole, *found.copies)), default=0),
        differences=sum(len(c.differences) + len(c.unsettled) + c.unlisted for c in blamed),
        words=(*found.words(), *_words(blamed, archive.store)),
        untold=sum(c.untold for c in whole),
    )


def _spec(store: StoreName, shape: Shape) -> ClusterSpec:
    name = f"{_NAME}-{uuid.uuid4().hex[:8]}"
    return ClusterSpec(
        name, store, nodes=shape.nodes, observers=shape.observers, dcs=shape.dcs, mode=shape.mode, ttl=_TTL
    )


@contextlib.contextmanager
def _leased_no_longer(archive: ArchiveReader, cluster: Cluster) -> Iterator[None]:
    """A restore that was cut off keeps its backup from being pruned; this one nobody will go on with."""
    try:
        yield
    finally:
        archive.end_lease(lessee(cluster))


@contextlib.contextmanager
def _throw_away(haops: Lifecycle, spec: ClusterSpec) -> Iterator[Cluster]:
    try:
        yield haops.up(spec)
    finally:
        if spec.name in haops.state.names():
            haops.down(spec.name, keep_volumes=False)


@dataclass(frozen=True, slots=True)
class _Compared:
    """What the comparisons found.

    Args:
        whole: With the backup; None where it has nothing to be compared with.
        why: Why not.
        copies: Each copy of what was restored with the first.
        one_moment: Whether the backup is one server's. Snapshots of several are not of one moment: what
            was written then may be in some and not in others, and so it is restored.
    """

    whole: Comparison | None
    why: str
    copies: tuple[Comparison, ...]
    one_moment: bool

    @property
    def apart(self) -> int:
        """How many records are not the same in all copies, at least."""
        return len({d.key for c in self.copies for d in c.differences}) + sum(c.unlisted for c in self.copies)

    def words(self) -> Iterator[str]:
        """What people should know of it besides."""
        if self.whole is None:
            yield f"compared only copy with copy: {self.why}"
        if self.apart and not self.one_moment:
            yield (
                f"{self.apart:,} records are not the same in all copies: the servers' snapshots are not of one "
                "moment; after a restore: haops repair NAME --replicas"
            )


def _compared(haops: Lifecycle, cluster: Cluster, archive: Archive) -> _Compared:
    """Copies first: what reads the cluster as a whole may find in one copy what others lack, and mend these."""
    copies, one_moment = compare_copies(haops, cluster), len(archive.facts.nodes) <= 1
    try:
        return _Compared(compare_with_backup(haops, cluster, archive), "", copies, one_moment)
    except NotRestorable as error:
        return _Compared(None, error.message, copies, one_moment)


def _ok(found: _Compared) -> bool | None:
    """Whether the backup is proved good, or bad; copies that are equal to each other prove nothing about it."""
    whole = found.whole
    if (whole and whole.verdict is Verdict.DIFFERENT) or (found.apart and found.one_moment):
        return False
    if whole is None or whole.verdict is not Verdict.EQUAL or not whole.records_left:
        return None
    open_ = any(c.verdict is Verdict.UNKNOWN for c in found.copies)
    return None if open_ or found.apart * _ONE_APART_IN > whole.records_left else True


def _words(found: tuple[Comparison, ...], store: StoreName) -> Iterator[str]:
    show = load_comparing(store).show
    for comparison in found:
        if comparison.trouble:
            yield comparison.trouble
        if comparison.untold:
            yield f"{comparison.untold:,} records differ, but were written while the backup was made: no verdict"
        if comparison.elusive:
            yield f"{comparison.elusive:,} records changed too fast to be looked at"
        for difference in comparison.differences[:_EXAMPLES]:
            yield f"{show(difference.key)}: {', '.join(difference.kinds)}"

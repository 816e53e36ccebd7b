"""The proof of a backup: restored into a throw-away cluster of its own shape, compared, timed, torn down."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from haops.backup.archive import open_archive
from haops.backup.catalogue import complete
from haops.backup.keys import Identities
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
    with _throw_away(haops, spec) as cluster:
        say(f"restoring {archive.id} into {cluster.name}")
        reason = f"proof of {archive.id}"
        restored = restore(haops, cluster, archive, RestoreOrder(repository=repository.label, reason=reason))
        say(f"restored in {restored.took_s:.1f} s; comparing")
        found, words = _compared(haops, cluster, archive)
    return Proof(
        backup=archive.id,
        cluster=cluster.name,
        ok=_ok(found, whole=not words),
        took_s=time.monotonic() - began,
        restore_s=restored.took_s,
        records=max((c.records_left for c in found), default=0),
        differences=sum(len(c.differences) + len(c.unsettled) + c.unlisted for c in found),
        words=(*words, *_words(found, archive.store)),
        untold=sum(c.untold for c in found),
    )


def _spec(store: StoreName, shape: Shape) -> ClusterSpec:
    name = f"{_NAME}-{uuid.uuid4().hex[:8]}"
    return ClusterSpec(
        name, store, nodes=shape.nodes, observers=shape.observers, dcs=shape.dcs, mode=shape.mode, ttl=_TTL
    )


@contextlib.contextmanager
def _throw_away(haops: Lifecycle, spec: ClusterSpec) -> Iterator[Cluster]:
    try:
        yield haops.up(spec)
    finally:
        if spec.name in haops.state.names():
            haops.down(spec.name, keep_volumes=False)


def _compared(
    haops: Lifecycle, cluster: Cluster, archive: Archive
) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    """What the comparisons found, and what they could not tell.

    Copies first: what reads the cluster as a whole may find in one copy what others lack, and mend these.
    """
    copies = compare_copies(haops, cluster)
    try:
        return (compare_with_backup(haops, cluster, archive), *copies), ()
    except NotRestorable as error:
        return copies, (f"compared only copy with copy: {error.message}",)


def _ok(found: tuple[Comparison, ...], *, whole: bool) -> bool | None:
    """Whether the backup is proved good, or bad; copies that are equal to each other prove nothing about it."""
    verdicts = {c.verdict for c in found}
    if Verdict.DIFFERENT in verdicts:
        return False
    told = whole and verdicts == {Verdict.EQUAL} and all(c.records_left for c in found)
    return True if told else None


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

"""Restore of a ZooKeeper backup's tree into any ensemble: nodes, then the suffixes of their children, then quotas.

Quotas come last, or one that is enforced could refuse what it counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

from haops.cluster.spec import Cluster, StoreName
from haops.errors import ClusterUnhealthy
from haops.stores.backup import (
    Advance,
    Archive,
    BackupTools,
    NotRestorable,
    RestoreFailed,
    Restorer,
    RestoreWish,
    Stage,
)
from haops.stores.zookeeper.pipeline import Code, Link, exists
from haops.stores.zookeeper.reading import child_paths, ensemble, told_as, walk
from haops.stores.zookeeper.tree import (
    ROOT,
    Torn,
    TreeNode,
    UnknownForm,
    decode,
    is_limits,
    is_quota,
    is_system,
    limited,
    quota_of,
    within,
)
from haops.stores.zookeeper.writing import (
    CannotBecome,
    create_all,
    ensure_parents,
    raise_suffixes,
    remove_below,
    set_quotas,
)

TREE: Final = "tree"
QUOTA: Final = "quotas"
_NODES: Final = "nodes"
_SUFFIXES: Final = "suffixes"
_QUOTAS: Final = "quotas"
_FAILED: Final = "the ensemble did not take the backup"
_NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class Extent:
    """How much there is to do.

    Args:
        suffixes: Next suffixes beyond what creating the nodes themselves brings about.
    """

    nodes: int
    suffixes: int


def chosen_path(only: str | None) -> bytes:
    """The path that `--only` means.

    Raises:
        NotRestorable: It is none, or the ensemble's own.
    """
    if only is None or only == "/":
        return ROOT
    path = only.encode()
    if not only.startswith("/") or only.endswith("/") or "//" in only:
        raise NotRestorable(f"{only!r} is not a path", hint="a path looks like /app/config")
    if is_system(path):
        raise NotRestorable(
            "/zookeeper is the ensemble's own and in no backup, but for its quotas",
            hint="a quota is restored with the path that it is of",
        )
    return path


def selected(archive: Archive, only: bytes) -> Iterator[TreeNode]:
    """The nodes of a backup that are `only` or below it, parents first."""
    return (n for n in decode(archive.read(TREE)) if within(n.path, only))


def knows_quotas(archive: Archive) -> bool:
    """Whether a backup says which quotas there were; an older one does not."""
    return any(p.name == QUOTA for p in archive.parts)


def selected_quotas(archive: Archive, only: bytes) -> list[TreeNode]:
    """What the quotas of `only` and of paths below it are made of, parents first; none in an older backup."""
    if not knows_quotas(archive):
        return []
    top = quota_of(only)
    return [n for n in decode(archive.read(QUOTA)) if is_quota(n.path) and within(n.path, top)]


def measure(nodes: Iterator[TreeNode]) -> Extent:
    """Read once: every node but the topmost raises its parent's suffix by one when it is made."""
    count = suffixes = 0
    for node in nodes:
        count += 1
        suffixes += node.next
    return Extent(count, max(0, suffixes - max(0, count - 1)))


class TreeRestorer:
    """A restore by the tree; connects anew for each step, for people may think between two of them."""

    def __init__(self, cluster: Cluster, archive: Archive, wish: RestoreWish, only: bytes) -> None:
        self._cluster = cluster
        self._archive = archive
        self._wish = wish
        self._only = only
        self._extent, self._quotas = _measured(archive, only)

    def in_the_way(self) -> tuple[str, ...]:
        """The nodes below the root, or the subtree, and their quotas, unless they may stay."""
        if self._wish.merge:
            return ()
        with told_as(RestoreFailed, _FAILED), self._link() as link:
            quotas = self._there(link)
            if self._only != ROOT:
                found = [self._only] if link.ask(exists(self._only)).code == Code.OK else []
            else:
                found = sorted(p for p in child_paths(link, [ROOT]) if not is_system(p))
        found += [b"quota of " + p for p in quotas]
        named = [_name(p) for p in found[:_NAMED]]
        return (*named, f"and {len(found) - _NAMED} more") if len(found) > _NAMED else tuple(named)

    def _there(self, link: Link) -> list[bytes]:
        """The paths whose quotas are where this restore would set some."""
        if not knows_quotas(self._archive):
            return []
        return sorted(limited(n.path) for n in walk(link, quota_of(self._only)) if is_limits(n.path))

    def wipe(self) -> None:
        """Remove the subtree, or everything but the ensemble's own; and the quotas of it.

        Raises:
            RestoreFailed: The ensemble refuses; what is gone so far is gone.
        """
        with told_as(RestoreFailed, "the ensemble could not be emptied"), self._link() as link:
            if knows_quotas(self._archive):
                for path in list(child_paths(link, [quota_of(self._only)])):
                    remove_below(link, path)
            if self._only == ROOT or link.ask(exists(self._only)).code == Code.OK:
                remove_below(link, self._only)

    def stages(self) -> Sequence[Stage]:
        """The nodes, then the suffixes, if there are any to raise, and the quotas, if there are any."""
        all_of = (
            Stage(_NODES, "create nodes with data and access lists", self._extent.nodes, "nodes"),
            Stage(_SUFFIXES, "raise the next suffix of children", self._extent.suffixes, "suffixes"),
            Stage(_QUOTAS, "set quotas", len(self._quotas), "nodes"),
        )
        return tuple(stage for stage in all_of if stage.total or stage.name == _NODES)

    def perform(self, stage: Stage, mark: str) -> Iterator[Advance]:
        """Do a stage from a mark, which is the number of nodes that are done.

        Raises:
            RestoreFailed: A server refused or went away.
        """
        skipped = int(mark or "0")
        try:
            with ExitStack() as opened:
                opened.enter_context(told_as(RestoreFailed, _FAILED))
                if stage.name == _QUOTAS:
                    yield from self._limit(opened.enter_context(self._link()), skipped)
                    return
                # To a late mark it is a long way: no session waits for it.
                nodes = _begun(islice(selected(self._archive, self._only), skipped, None))
                link = opened.enter_context(self._link())
                if stage.name == _NODES:
                    ensure_parents(link, self._only)
                    for done in create_all(link, nodes):
                        yield Advance(skipped + done, str(skipped + done))
                else:
                    yield from self._raise(link, nodes, skipped)
        except CannotBecome as error:
            raise RestoreFailed(
                error.message, node=error.node, detail=error.detail, hint=error.hint
            ) from error

    def _raise(self, link: Link, nodes: Iterator[TreeNode], skipped: int) -> Iterator[Advance]:
        # Nothing but the ensemble says what was raised before the mark: progress is by nodes then.
        total, count = self._extent.suffixes, self._extent.nodes
        before = total * skipped // count
        for looked, raised in raise_suffixes(link, nodes):
            yield Advance(min(total, before + raised), str(skipped + looked))
        # A counter that stands higher in the ensemble already has nothing to raise.
        yield Advance(total, str(count))

    def _limit(self, link: Link, skipped: int) -> Iterator[Advance]:
        ensure_parents(link, self._quotas[0].path)
        for done in set_quotas(link, self._quotas[skipped:]):
            yield Advance(skipped + done, str(skipped + done))

    def _link(self) -> Link:
        try:
            return Link(self._cluster, ensemble(self._cluster).leader)
        except ClusterUnhealthy as error:
            raise RestoreFailed(error.message, hint=error.hint) from error


def _begun(nodes: Iterator[TreeNode]) -> Iterator[TreeNode]:
    """The same nodes, the first of which has been read."""
    return chain(list(islice(nodes, 1)), nodes)


def _measured(archive: Archive, only: bytes) -> tuple[Extent, list[TreeNode]]:
    try:
        extent = measure(selected(archive, only))
        quotas = selected_quotas(archive, only)
    except (UnknownForm, Torn) as error:
        raise NotRestorable(error.message, detail=error.detail, hint=error.hint) from error
    if not extent.nodes:
        raise NotRestorable(f"the backup has nothing at {_name(only)}")
    return extent, quotas


def _name(path: bytes) -> str:
    return path.decode("utf-8", errors="backslashreplace")


@contextmanager
def restorer(cluster: Cluster, tools: BackupTools, archive: Archive, wish: RestoreWish) -> Iterator[Restorer]:
    """Open a restore; reads the whole tree once, so that a damaged one is found before anything is touched.

    Raises:
        NotRestorable: Another store's backup, one without a tree or of an unknown form, or a moment is asked for.
    """
    if archive.store is not StoreName.ZOOKEEPER or cluster.store is not StoreName.ZOOKEEPER:
        raise NotRestorable(f"a backup of {archive.store} does not go into {cluster.store}")
    if wish.at is not None:
        raise NotRestorable("a ZooKeeper backup has one point in time", hint="leave --at out")
    if not any(p.name == TREE for p in archive.parts):
        raise NotRestorable("the backup has no tree in it", hint="make a backup with this haops")
    yield TreeRestorer(cluster, archive, wish, chosen_path(wish.only))

"""Restore of a ZooKeeper backup's tree into any ensemble: nodes first, then the suffixes of their children."""

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
from haops.stores.zookeeper.reading import child_paths, ensemble, told_as
from haops.stores.zookeeper.tree import (
    ROOT,
    Torn,
    TreeNode,
    UnknownForm,
    decode,
    is_system,
    within,
)
from haops.stores.zookeeper.writing import (
    CannotBecome,
    create_all,
    ensure_parents,
    raise_suffixes,
    remove_below,
)

TREE: Final = "tree"
_NODES: Final = "nodes"
_SUFFIXES: Final = "suffixes"
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
        raise NotRestorable("/zookeeper is the ensemble's own and in no backup")
    return path


def selected(archive: Archive, only: bytes) -> Iterator[TreeNode]:
    """The nodes of a backup that are `only` or below it, parents first."""
    return (n for n in decode(archive.read(TREE)) if within(n.path, only))


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
        self._extent = _measured(archive, only)

    def in_the_way(self) -> tuple[str, ...]:
        """The nodes below the root, or the subtree, unless they may stay."""
        if self._wish.merge:
            return ()
        with told_as(RestoreFailed, _FAILED), self._link() as link:
            if self._only != ROOT:
                there = link.ask(exists(self._only)).code == Code.OK
                return (_name(self._only),) if there else ()
            found = sorted(p for p in child_paths(link, [ROOT]) if not is_system(p))
        named = [_name(p) for p in found[:_NAMED]]
        return (*named, f"and {len(found) - _NAMED} more") if len(found) > _NAMED else tuple(named)

    def wipe(self) -> None:
        """Remove the subtree, or everything but the ensemble's own.

        Raises:
            RestoreFailed: The ensemble refuses; what is gone so far is gone.
        """
        with told_as(RestoreFailed, "the ensemble could not be emptied"), self._link() as link:
            if self._only == ROOT or link.ask(exists(self._only)).code == Code.OK:
                remove_below(link, self._only)

    def stages(self) -> Sequence[Stage]:
        """The nodes, then the suffixes, if there are any to raise."""
        nodes = Stage(_NODES, "create nodes with data and access lists", self._extent.nodes, "nodes")
        if not self._extent.suffixes:
            return (nodes,)
        return (
            nodes,
            Stage(_SUFFIXES, "raise the next suffix of children", self._extent.suffixes, "suffixes"),
        )

    def perform(self, stage: Stage, mark: str) -> Iterator[Advance]:
        """Do a stage from a mark, which is the number of nodes that are done.

        Raises:
            RestoreFailed: A server refused or went away.
        """
        skipped = int(mark or "0")
        try:
            with ExitStack() as opened:
                opened.enter_context(told_as(RestoreFailed, _FAILED))
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

    def _link(self) -> Link:
        try:
            return Link(self._cluster, ensemble(self._cluster).leader)
        except ClusterUnhealthy as error:
            raise RestoreFailed(error.message, hint=error.hint) from error


def _begun(nodes: Iterator[TreeNode]) -> Iterator[TreeNode]:
    """The same nodes, the first of which has been read."""
    return chain(list(islice(nodes, 1)), nodes)


def _measured(archive: Archive, only: bytes) -> Extent:
    try:
        extent = measure(selected(archive, only))
    except (UnknownForm, Torn) as error:
        raise NotRestorable(error.message, detail=error.detail, hint=error.hint) from error
    if not extent.nodes:
        raise NotRestorable(f"the backup has nothing at {_name(only)}")
    return extent


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

"""Comparing ZooKeeper trees: two ensembles, a backup and an ensemble, or the members of one.

ZooKeeper has no way to hash in the server that other ensembles could be compared by (`hash` is of one
ensemble's history), so a side is read whole, as a member's snapshot: what `moved` says is the whole tree.
Snapshots also tell containers and TTL nodes, which clients are not told; those are remembered for `describe`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from haops.cluster.spec import Cluster, Node, StoreName
from haops.errors import HaopsError
from haops.runtime.port import Runtime
from haops.stores.backup import Archive, NotRestorable
from haops.stores.compare import Comparing, Record, Side, Survey, readable
from haops.stores.gathered import Gathered
from haops.stores.zookeeper.pipeline import Link
from haops.stores.zookeeper.reading import ensemble, read_nodes, reading, told_as
from haops.stores.zookeeper.repair import NEXT, barred, mend, mend_replicas
from haops.stores.zookeeper.restore import TREE, chosen_path, selected
from haops.stores.zookeeper.tree import ROOT, Acl, Kind, TreeNode, fingerprint, is_system

_FAILED: Final = "the tree could not be read"
_PREVIEW: Final = 64
# Letters as zkCli prints them, by bit: read, write, create, delete, admin.
_RIGHTS: Final = "rwcda"


def as_record(node: TreeNode, *, exact: bool) -> Record:
    """What is compared about a node, for people; `exact` adds what only copies of one ensemble share."""
    told = "" if node.path == ROOT and not exact else f"{NEXT}{node.next}"
    history = (
        f", zxids {node.created:#x} {node.changed:#x} {node.children:#x}, "
        f"version {node.version}, access list's {node.aversion}"
        if exact
        else ""
    )
    data = node.data or b""
    return Record(
        kind=node.kind.name.lower(),
        value="" if node.data is None else blake3(data).hexdigest(16),
        preview=readable(data[:_PREVIEW]),
        expires=f"{node.ttl} ms after its last change" if node.ttl else "",
        acl=acl_words(node.acl),
        version=told + history,
    )


def acl_words(acl: Acl) -> str:
    """An access list as `scheme:id:rights`, sorted: its order has no meaning."""
    return ", ".join(
        sorted(
            f"{a.scheme.decode()}:{a.id.decode(errors='backslashreplace')}:"
            + "".join(letter for bit, letter in enumerate(_RIGHTS) if a.permissions >> bit & 1)
            for a in acl
        )
    )


class _Gathering:
    """A side that reads everything once and keeps digests and paths; the last survey counts."""

    label: str
    exact = False

    def __init__(self) -> None:
        self._gathered: Gathered | None = None

    def _nodes(self) -> Iterator[TreeNode]:
        raise NotImplementedError

    def survey(self) -> Survey:
        """Read the whole tree."""
        kept = (n for n in self._nodes() if self._counts(n) and not is_system(n.path))
        self._gathered = Gathered.of((n.path, fingerprint(n, exact=self.exact)) for n in kept)
        return self._gathered.survey()

    def _counts(self, node: TreeNode) -> bool:
        """Sessions' nodes are each ensemble's own, but one that only some members have is a divergence."""
        return self.exact or node.kind is not Kind.EPHEMERAL

    def digests(self, buckets: frozenset[int]) -> NDArray[np.uint64]:
        """Of the last survey."""
        return self._surveyed().digests(buckets)

    def keys(self, digests: NDArray[np.uint64]) -> Sequence[bytes]:
        """Paths of the last survey."""
        return self._surveyed().keys(digests)

    def _surveyed(self) -> Gathered:
        if self._gathered is None:
            self.survey()
        assert self._gathered is not None
        return self._gathered

    def fetch(self, keys: Iterable[bytes]) -> Iterator[tuple[bytes, TreeNode | None]]:
        """The nodes under these paths, parents first, then those that are not there, children first."""
        raise NotImplementedError

    def describe(self, keys: Sequence[bytes]) -> Mapping[bytes, Record | None]:
        """What is there under these paths."""
        return {
            path: None if node is None else as_record(node, exact=self.exact)
            for path, node in self.fetch(keys)
        }


class MemberSide(_Gathering):
    """One member's tree; a cluster is read at its leader."""

    def __init__(self, cluster: Cluster, node: Node, label: str, only: bytes, *, exact: bool) -> None:
        super().__init__()
        self.cluster = cluster
        self.node = node
        self.label = label
        self.exact = exact
        self._only = only
        self._moved = 0
        # By path: when it was made, and what it is. Few in any ensemble: the rest is persistent.
        self._special: dict[bytes, tuple[int, Kind, int]] = {}

    @property
    def moved(self) -> int:
        """Bytes that came from the server."""
        return self._moved

    def _nodes(self) -> Iterator[TreeNode]:
        special: dict[bytes, tuple[int, Kind, int]] = {}
        with told_as(HaopsError, _FAILED), reading(self.cluster, self.node, self._only) as tree:
            for node in tree.nodes:
                if node.kind in (Kind.CONTAINER, Kind.TTL):
                    special[node.path] = node.created, node.kind, node.ttl
                yield node
            self._moved += tree.moved()
        self._special = special

    def fetch(self, keys: Iterable[bytes]) -> Iterator[tuple[bytes, TreeNode | None]]:
        """As this member has them now; a session's node counts as none."""
        self._surveyed()  # for the kinds, which clients are not told
        absent = []
        with told_as(HaopsError, _FAILED), Link(self.cluster, self.node) as link:
            link.sync()
            for path, node in read_nodes(link, sorted(keys)):
                if node is not None and self._counts(node):
                    yield path, self._known(node)
                else:
                    absent.append(path)
            self._moved += link.moved
        yield from ((path, None) for path in reversed(absent))

    def _known(self, node: TreeNode) -> TreeNode:
        created, kind, ttl = self._special.get(node.path, (0, node.kind, 0))
        return node._replace(kind=kind, ttl=ttl) if created == node.created else node


class BackupSide(_Gathering):
    """A backup's tree."""

    moved = 0

    def __init__(self, archive: Archive, only: bytes) -> None:
        super().__init__()
        self.label = archive.id
        self._archive = archive
        self._only = only

    def _nodes(self) -> Iterator[TreeNode]:
        with told_as(HaopsError, _FAILED):
            yield from selected(self._archive, self._only)

    def fetch(self, keys: Iterable[bytes]) -> Iterator[tuple[bytes, TreeNode | None]]:
        """As the backup has them: one pass over all of it."""
        wanted = set(keys)
        for node in self._nodes():
            if node.path in wanted:
                wanted.discard(node.path)
                yield node.path, node
        yield from ((path, None) for path in sorted(wanted, reverse=True))


@contextmanager
def side(cluster: Cluster, runtime: Runtime, only: str | None) -> Iterator[Side]:
    """An ensemble, at its leader, after a sync.

    Raises:
        ClusterUnhealthy: Nobody leads.
        NotRestorable: `only` is no path.
    """
    yield MemberSide(cluster, ensemble(cluster).leader, cluster.name, chosen_path(only), exact=False)


@contextmanager
def of_backup(archive: Archive, only: str | None) -> Iterator[Side]:
    """A backup's tree.

    Raises:
        NotRestorable: It is another store's, or has no tree.
    """
    if archive.store is not StoreName.ZOOKEEPER or not any(p.name == TREE for p in archive.parts):
        raise NotRestorable(f"backup {archive.id} has no ZooKeeper tree in it")
    yield BackupSide(archive, chosen_path(only))


@contextmanager
def replicas(cluster: Cluster, runtime: Runtime) -> Iterator[Sequence[Side]]:
    """Every member that serves, read at itself, the leader first; they must agree in zxids and versions too."""
    who = ensemble(cluster)
    others = [n for n in who.serving if n.name != who.leader.name]
    yield [MemberSide(cluster, n, n.name, ROOT, exact=True) for n in (who.leader, *others)]


def _show(key: bytes) -> str:
    return key.decode("utf-8", errors="backslashreplace")


COMPARING: Final = Comparing(
    side=side,
    of_backup=of_backup,
    replicas=replicas,
    mend=mend,
    mend_replicas=mend_replicas,
    show=_show,
    barred=barred,
    picks="nodes at or below",
)

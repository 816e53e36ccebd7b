"""Reading a tree from the servers: a member's snapshot where it gives one, else node by node."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar

from haops.cluster.snapshot import Role
from haops.cluster.spec import Cluster, Node
from haops.errors import ClusterUnhealthy, HaopsError
from haops.parallel import ask_all
from haops.stores.zookeeper.admin import SnapshotRefused, SnapshotStream, snapshot_stream
from haops.stores.zookeeper.observe import ServerReport, ask
from haops.stores.zookeeper.pipeline import (
    Code,
    Link,
    LinkLost,
    Refused,
    Request,
    Stat,
    children,
    get,
    get_acl,
    multi_read,
)
from haops.stores.zookeeper.snapshot_file import SnapshotReader
from haops.stores.zookeeper.topology import is_observer
from haops.stores.zookeeper.tree import QUOTAS, ROOT, Acl, Kind, Torn, TreeNode, is_system, kind_of, within

# Nodes whose data may be in memory at once: 128 of the largest (1 MB) fit.
_AT_ONCE: Final = 128
# Reads in one request, and requests under way: a server builds an answer in its heap.
_DATA: Final = 16
_NAMES: Final = 64
_REQUESTS: Final = 8

Item = TypeVar("Item")


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one shorter."""
    source = iter(items)
    while found := list(islice(source, size)):
        yield found


@contextmanager
def told_as(error: Callable[..., HaopsError], what: str) -> Iterator[None]:
    """Tell what goes wrong with a server or a stream as another error, in the same words."""
    try:
        yield
    except (LinkLost, Refused, Torn) as cause:
        words = "; ".join(w for w in (cause.message, cause.detail) if w)
        raise error(what, node=cause.node, detail=words, hint=cause.hint) from cause


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Who serves at this moment.

    Args:
        zxid: The leader's, when it was asked.
    """

    leader: Node
    zxid: int
    version: str
    serving: tuple[Node, ...]

    def spare(self) -> Node:
        """A server to read from at the least cost: a follower that votes, else an observer, else the leader."""
        others = [n for n in self.serving if n.name != self.leader.name]
        return next((n for n in others if not is_observer(n)), next(iter(others), self.leader))


def ensemble(cluster: Cluster) -> Ensemble:
    """Ask every server once.

    Raises:
        ClusterUnhealthy: Not exactly one leads.
    """

    def one(node: Node) -> ServerReport | None:
        try:
            return ask(node)
        except OSError:
            return None

    reports = list(zip(cluster.servers, ask_all(one, cluster.servers), strict=True))
    serving = tuple((n, r) for n, r in reports if r and r.role is not Role.UNKNOWN)
    leaders = [(n, r) for n, r in serving if r.role is Role.LEADER]
    if len(leaders) != 1:
        names = " and ".join(n.name for n, _ in leaders) or "nobody"
        raise ClusterUnhealthy(f"{names} leads {cluster.name}", hint=f"see: haops status {cluster.name}")
    ((leader, report),) = leaders
    return Ensemble(leader, report.zxid, report.version, tuple(n for n, _ in serving))


def read_nodes(link: Link, paths: Iterable[bytes]) -> Iterator[tuple[bytes, TreeNode | None]]:
    """Nodes as they are at a server now, in the order of `paths`; None where there is none.

    Containers and TTL nodes come as persistent ones: clients are not told.

    Raises:
        Refused: The server does not let us read one.
        LinkLost: It is gone.
    """
    for some in chunks(paths, _AT_ONCE):
        found = {
            path: (data, stat) for path, data, stat, _ in _several(link, some, get, _DATA) if stat is not None
        }
        lists = {p: r.acl() for p, r in link.each(found, get_acl) if _there(link, r.code, p)}
        for path in some:
            yield path, _stand_of(path, *found[path], lists[path]) if path in lists else None


def child_paths(link: Link, paths: Iterable[bytes]) -> Iterator[bytes]:
    """The paths of the children of all these nodes; those that are gone have none."""
    for path, _, _, names in _several(link, paths, children, _NAMES):
        yield from (path.rstrip(b"/") + b"/" + name for name in names)


def _several(
    link: Link, paths: Iterable[bytes], request: Callable[[bytes], Request], size: int
) -> Iterator[tuple[bytes, bytes | None, Stat | None, list[bytes]]]:
    """Ask the same of many, `size` in a request: a request costs a server more than what is in it."""

    def together(some: list[bytes]) -> Request:
        return multi_read([request(p) for p in some])

    for some, reply in link.each(chunks(paths, size), together, window=_REQUESTS):
        if reply.code:
            raise Refused(link.node, reply.code, path=some[0])
        for path, (code, data, stat, names) in zip(some, reply.parts(), strict=True):
            if _there(link, code, path):
                yield path, data, stat, names


def _stand_of(path: bytes, data: bytes | None, stat: Stat, acl: Acl) -> TreeNode:
    """A node as its server told it to a client, which learns of sessions' nodes, but not of containers and TTLs.

    Source: DataNode.copyStat of 3.9 says owner 0 for those; only a snapshot has them.
    """
    kind, ttl = kind_of(stat.owner)
    return TreeNode(
        path, data, acl, kind, ttl, stat.next, stat.created, stat.changed, stat.children_changed,
        stat.ctime, stat.mtime, stat.version, stat.aversion,
    )  # fmt: skip


def _there(link: Link, code: int, path: bytes) -> bool:
    if code not in (Code.OK, Code.NO_NODE):
        raise Refused(link.node, code, path=path)
    return code == Code.OK


def walk(link: Link, start: bytes = ROOT) -> Iterator[TreeNode]:
    """Every node from `start` down, level by level; not one point in time. Of the ensemble's own, only quotas are
    looked into, where `start` is there.
    """
    waiting = deque([start])
    while waiting:
        some = [waiting.popleft() for _ in range(min(len(waiting), _AT_ONCE))]
        found = [node for _, node in read_nodes(link, some) if node]
        yield from found
        # An ephemeral node has no children: three reads a node become two for most of a lock's or queue's.
        inner = [n.path for n in found if n.kind is not Kind.EPHEMERAL and _looked_into(n.path)]
        waiting.extend(child_paths(link, inner))


def _looked_into(path: bytes) -> bool:
    return not is_system(path) or within(path, QUOTAS)


@dataclass(slots=True)
class Reading:
    """A whole tree as one server has it.

    Args:
        nodes: All of it, once; parents first. What the ensemble or sessions own may be among them.
        moved: Bytes that have come for it so far.
    """

    nodes: Iterator[TreeNode]
    moved: Callable[[], int]


@contextmanager
def reading(cluster: Cluster, node: Node, only: bytes = ROOT) -> Iterator[Reading]:
    """A server's tree, up to date with the leader when it begins.

    Raises:
        HaopsError: The server does not answer, or its snapshot is not whole.
    """
    with Link(cluster, node) as link:
        link.sync()
        try:
            with snapshot_stream(cluster, node) as stream:
                yield _selected(stream, only)
                return
        except SnapshotRefused:
            pass
    with Link(cluster, node) as link:
        yield Reading(walk(link, only), lambda: link.moved)


def _selected(stream: SnapshotStream, only: bytes) -> Reading:
    nodes = SnapshotReader(stream.blocks()).nodes()
    return Reading((n for n in nodes if within(n.path, only)), lambda: stream.moved)

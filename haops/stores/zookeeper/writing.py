"""Writing nodes into an ensemble: pipelined transactions, suffixes by creates and deletes, removal from below."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Final

from haops.errors import HaopsError
from haops.stores.zookeeper.pipeline import (
    Code,
    Link,
    Refused,
    Request,
    create,
    delete,
    exists,
    multi,
    set_acl,
    set_data,
)
from haops.stores.zookeeper.reading import child_paths, chunks, read_nodes
from haops.stores.zookeeper.tree import OPEN, ROOT, Kind, TreeNode, is_stats, is_system, parent

# A request is below 1 MB (jute.maxbuffer); small ones let the next be on its way while this one is synced.
_NODES: Final = 500
_BYTES: Final = 256 * 1024
_WINDOW: Final = 8
_PAIRS: Final = 500
_ATTEMPTS: Final = 3
# A child that comes and goes within one transaction: nobody ever sees it.
_PASSING: Final = b"/.haops-next-suffix"
# Kinds that the ensemble removes by itself, maybe between one request and the next.
_PASSING_KINDS: Final = frozenset({Kind.CONTAINER, Kind.TTL})
# What a transaction meets that was done before, or whose parent's transaction met that.
_DONE_BEFORE: Final = frozenset({Code.NODE_EXISTS, Code.NO_NODE})


class CannotBecome(HaopsError):
    """A node cannot be made what it must be without losing others."""


def batches(nodes: Iterable[TreeNode]) -> Iterator[list[TreeNode]]:
    """Groups in order, each one transaction's worth."""
    group: list[TreeNode] = []
    size = 0
    for node in nodes:
        weight = len(node.path) + len(node.data or b"") + 64 * len(node.acl) + 64
        if group and (len(group) >= _NODES or size + weight > _BYTES):
            yield group
            group, size = [], 0
        group.append(node)
        size += weight
    if group:
        yield group


def create_all(link: Link, nodes: Iterable[TreeNode]) -> Iterator[int]:
    """Create nodes, parents first; those that are there already become what they are here.

    Yields, each time a transaction is done, how many nodes are done from the first one on. A server
    keeps one session's requests in order, so a child's transaction cannot overtake its parent's.

    Raises:
        Refused: The server refuses one.
        CannotBecome: One is there as another kind of node and has children.
    """
    under_way: deque[list[TreeNode]] = deque()
    done = 0
    source = iter(nodes)
    first = next(source, None)
    if first is not None:  # the root, which every ensemble has: its transaction would always fail
        adjust(link, [first])
        yield (done := 1)

    def settle() -> Iterator[int]:
        nonlocal done
        group = under_way.popleft()
        reply = link.receive()
        if reply.code:
            # Those behind it may lack a parent now: see what became of them, then go through them in order.
            behind = [(later, link.receive()) for later in under_way]
            under_way.clear()
            for each, said in [(group, reply), *behind]:
                if said.code and said.code not in _DONE_BEFORE:
                    raise Refused(link.node, said.code, path=each[said.index].path)
                if said.code:
                    adjust(link, each)
                done += len(each)
                yield done
        else:
            done += len(group)
            yield done

    for group in batches(source):
        requests = [create(n) for n in group]
        # The largest nodes are just below jute.maxbuffer: around them there is no room for a transaction.
        link.send(multi(requests) if len(requests) > 1 else requests[0])
        under_way.append(group)
        if len(under_way) >= _WINDOW:
            yield from settle()
    while under_way:
        yield from settle()


def adjust(link: Link, nodes: Sequence[TreeNode], anew: frozenset[bytes] = frozenset()) -> None:
    """Make nodes what they are here, whatever is there; nothing is written that is equal.

    A session's node makes way. That one is a container, or has a time to live, clients are not told,
    so it is for the caller to say which are another kind.

    Args:
        anew: Paths to remove and to make again.

    Raises:
        CannotBecome: One of those has children.
        Refused: The server refuses one.
    """
    for attempt in range(_ATTEMPTS):
        last = attempt == _ATTEMPTS - 1
        steps, lists = _steps(dict(read_nodes(link, [n.path for n in nodes])), nodes, anew)
        code, path = _at_once(link, steps)
        if code == Code.NOT_EMPTY:
            raise CannotBecome(
                "it is there as another kind of node and has children",
                node=link.node.name,
                detail=path.decode("utf-8", errors="backslashreplace"),
                hint="remove it there first, or restore with --wipe",
            )
        if code and (last or code not in _DONE_BEFORE):
            raise Refused(link.node, code, path=path)
        if not code:
            _all_well(link, lists)
            return


def _at_once(link: Link, steps: Sequence[Request]) -> tuple[int, bytes]:
    """Do all of them or none: 0, or the refusal and its path."""
    if not steps:
        return 0, b""
    reply = link.ask(multi(steps) if len(steps) > 1 else steps[0])
    return reply.code, steps[reply.index].path


def _steps(
    there: Mapping[bytes, TreeNode | None], nodes: Sequence[TreeNode], anew: frozenset[bytes]
) -> tuple[list[Request], list[Request]]:
    """What a transaction has to do, and the access lists to set, which transactions cannot."""
    steps: list[Request] = []
    lists: list[Request] = []
    for node in nodes:
        have = there[node.path]
        if have is None:
            steps.append(create(node))
        elif node.path != ROOT and (have.kind is Kind.EPHEMERAL or node.path in anew):
            steps += [delete(node.path), create(node)]
        else:
            if have.data != node.data:
                steps.append(set_data(node.path, node.data))
            if sorted(have.acl) != sorted(node.acl):
                lists.append(set_acl(node.path, node.acl))
    return steps, lists


def _all_well(link: Link, requests: Iterable[Request]) -> int:
    count = 0
    for request, reply in link.each(requests, lambda r: r):
        if reply.code:
            raise Refused(link.node, reply.code, path=request.path)
        count += 1
    return count


def have_parents(link: Link, paths: Iterable[bytes]) -> None:
    """Make what is missing above any of these, which are all missing themselves."""
    above = {parent(p): p for p in paths}
    asked = list(link.each(sorted(above), exists))
    for path, reply in asked:
        if reply.code == Code.NO_NODE:
            ensure_parents(link, above[path])
        elif reply.code:
            raise Refused(link.node, reply.code, path=path)


def ensure_parents(link: Link, path: bytes) -> None:
    """Make the nodes above `path` that are missing: plain, without data."""
    above = []
    while (path := parent(path)) != ROOT:
        above.append(path)
    for each in reversed(above):
        plain = TreeNode(each, b"", OPEN, Kind.PERSISTENT, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        code = link.ask(create(plain)).code
        if code not in (Code.OK, Code.NODE_EXISTS):
            raise Refused(link.node, code, path=each)


def raise_suffixes(link: Link, nodes: Iterable[TreeNode]) -> Iterator[tuple[int, int]]:
    """Have the next sequential child of each node get the suffix that it gets here, or a higher one.

    No request sets the counter: each create of a child raises it by one (PrepRequestProcessor), so
    children come and go, unseen, 500 in a transaction. A container or TTL node that is gone by now is
    passed over. Yields (nodes looked at, suffixes raised).

    Raises:
        Refused: The server refuses one.
    """
    looked = raised = 0
    for some in chunks(nodes, _NODES):
        asked = list(link.each([n for n in some if n.next > 0], lambda n: exists(n.path)))
        for node, reply in asked:
            if reply.code == Code.NO_NODE and node.kind in _PASSING_KINDS:
                continue
            if reply.code:
                raise Refused(link.node, reply.code, path=node.path)
            missing = node.next - reply.stat().next
            for step in _raise(link, node, missing):
                raised += step
                yield looked, raised
        looked += len(some)
        yield looked, raised


def _raise(link: Link, node: TreeNode, missing: int) -> Iterator[int]:
    passing = node.path.rstrip(b"/") + _PASSING
    child = TreeNode(passing, b"", OPEN, Kind.PERSISTENT, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    pair = [create(child), delete(passing)]
    most = min(_PAIRS, _BYTES // sum(len(r.body) + 9 for r in pair))
    gone = False
    counts = (min(most, missing - done) for done in range(0, missing, most))
    wanted = takewhile(lambda _: not gone, counts)
    for count, reply in link.each(wanted, lambda n: multi(pair * n), window=_WINDOW):
        if reply.code == Code.NO_NODE and node.kind in _PASSING_KINDS:
            gone = True
            continue
        if reply.code:
            raise Refused(link.node, reply.code, path=passing)
        yield count


def set_quotas(link: Link, nodes: Sequence[TreeNode]) -> Iterator[int]:
    """Make the nodes that quotas are made of, parents first; yields how many are done.

    What is used of a quota is made anew where it is there: the server counts it when it is made, and at no other time.

    Raises:
        Refused: The server refuses one.
    """
    done = 0
    for group in batches(nodes):
        adjust(link, group, frozenset(n.path for n in group if is_stats(n.path)))
        yield (done := done + len(group))


def remove_below(link: Link, path: bytes) -> int:
    """Remove a node and all below it, of the root only what is below it; never the ensemble's own.

    Raises:
        Refused: Somebody goes on making nodes there.
    """
    for _ in range(_ATTEMPTS):
        found = _below(link, path)
        code = _remove(link, reversed(found))
        if not code:
            return len(found)
    raise Refused(link.node, code, path=path)


def _below(link: Link, path: bytes) -> list[bytes]:
    """Paths, parents first: the one list here that grows with the tree, at 100 bytes a node."""
    level = [path] if path != ROOT else [p for p in child_paths(link, [ROOT]) if not is_system(p)]
    found: list[bytes] = []
    while level:
        found += level
        level = list(child_paths(link, level))
    return found


def _remove(link: Link, paths: Iterable[bytes]) -> int:
    """Remove in this order; 0, or the first refusal that is not of one who came first."""
    trouble = 0
    asked = ((some, multi([delete(p) for p in some])) for some in chunks(paths, _NODES))
    failed = []
    for (some, _), reply in link.each(asked, lambda a: a[1], window=_WINDOW):
        if reply.code:
            failed.append(some)
    for some in failed:
        for _, reply in link.each(some, delete):
            if reply.code not in (Code.OK, Code.NO_NODE):
                trouble = trouble or reply.code
    return trouble


def remove_one(link: Link, path: bytes) -> None:
    """Remove a node unless it has children; one that is gone already is fine.

    Raises:
        Refused: The server refuses.
    """
    code = link.ask(delete(path)).code
    if code not in (Code.OK, Code.NO_NODE, Code.NOT_EMPTY):
        raise Refused(link.node, code, path=path)

"""Making one ensemble's tree like another's or a backup's, and one member's like its leader's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, Protocol, cast

from haops.cluster.spec import Cluster
from haops.errors import BadInput, DeadlineExceeded
from haops.runtime.port import Runtime
from haops.stores.backup import RestoreFailed
from haops.stores.compare import Record, Side
from haops.stores.zookeeper.pipeline import Link
from haops.stores.zookeeper.readiness import readiness
from haops.stores.zookeeper.reading import chunks, ensemble, told_as
from haops.stores.zookeeper.topology import voters
from haops.stores.zookeeper.tree import ROOT, TreeNode, parent
from haops.stores.zookeeper.writing import CannotBecome, adjust, have_parents, raise_suffixes, remove_one
from haops.wait import wait_until

_FAILED: Final = "the ensemble did not take the repair"
_SLICE: Final = 128
# Before the next suffix of a node in its record's version.
NEXT: Final = "next "
# What a server recovers from: snapshots and epochs in dataDir, transactions in dataLogDir. They go in this order:
# with a snapshot gone and its log still there a server refuses to start, rather than to start with a part.
_DISK: Final = ("/data/version-2", "/data/log/version-2")
# Held before its data goes, and killed by the same command: were it haops that kills it, and haops itself killed
# before that, the server would run on with files that nobody sees. -1 is all that runs in the container, but for
# its first process, which ends with the server.
_EMPTY: Final = f"""
kill -STOP -1
rm -rf {" ".join(_DISK)}
code=$?
(sleep 3; kill -KILL -1) >/dev/null 2>&1 &
exit $code
"""
_WHOLE_S: Final = 120.0


class _Truth(Protocol):
    """What a side of ours knows beyond the contract: whole nodes."""

    def fetch(self, keys: Iterable[bytes]) -> Iterator[tuple[bytes, TreeNode | None]]: ...


class _Target(_Truth, Protocol):
    """A side that is a cluster."""

    cluster: Cluster


def mend(first: Side, second: Side, keys: Sequence[bytes]) -> Iterator[int]:
    """Make the second's nodes under these paths like the first's; parents first, removals last, from below.

    A next suffix that is lower is raised; one that is higher stays, for nothing lowers it but making the
    node anew under its clients. Too high harms nobody; too low would give one name to two children.

    The paths may be a part of all that differ: what is missing above one is made first, and what must
    go but has children stays for a pass that has those too.

    Raises:
        RestoreFailed: The ensemble refuses, or a node is another kind there and has children.
        BadInput: The second side is no cluster.
    """
    if not hasattr(second, "cluster"):
        raise BadInput(f"{second.label} cannot be changed", hint="name a cluster as the side to repair")
    truth, target = cast(_Truth, first), cast(_Target, second)
    leader = ensemble(target.cluster).leader
    asked = frozenset(keys)
    done = 0
    try:
        with told_as(RestoreFailed, _FAILED), Link(target.cluster, leader) as link:
            for some in chunks(truth.fetch(_with_ancestors(asked)), _SLICE):
                _write(link, target, [n for _, n in some if n is not None], asked)
                for path in (p for p, n in some if n is None and p in asked):
                    remove_one(link, path)
                done += sum(p in asked for p, _ in some)
                yield done
    except CannotBecome as error:
        raise RestoreFailed(error.message, node=error.node, detail=error.detail, hint=error.hint) from error


def barred(wanted: Record | None, has: Record | None) -> str:
    """Why a node stays as it is: it has all that it should, but its next suffix is past the truth's."""
    if wanted is None or has is None or replace(wanted, version="") != replace(has, version=""):
        return ""
    due, given = (r.version.removeprefix(NEXT) for r in (wanted, has))
    lower = due.isdecimal() and given.isdecimal() and int(due) < int(given)
    return "a next sequence number cannot be lowered" if lower else ""


def _with_ancestors(keys: frozenset[bytes]) -> frozenset[bytes]:
    found = set(keys)
    for path in keys:
        while (path := parent(path)) != ROOT and path not in found:
            found.add(path)
    return frozenset(found)


def _write(link: Link, target: _Target, nodes: Sequence[TreeNode], asked: frozenset[bytes]) -> None:
    """Write those that were asked for, and of the others, which are above them, what is missing."""
    if not nodes:
        return
    there = dict(target.fetch([n.path for n in nodes]))
    due = [n for n in nodes if n.path in asked or there.get(n.path) is None]
    anew = frozenset(n.path for n in due if _must_go(there.get(n.path), n))
    coming = {n.path for n in nodes}
    missing = [n.path for n in due if there.get(n.path) is None]
    # The truth may be read from a path down only: what is above that is nowhere to be had.
    have_parents(link, [p for p in missing if parent(p) not in coming])
    adjust(link, due, anew)
    # A node that is new above the others has more children to come: its turn is when it is asked for.
    for _ in raise_suffixes(link, [n for n in due if n.path in asked]):
        pass


def _must_go(have: TreeNode | None, node: TreeNode) -> bool:
    """Whether no request makes the one into the other, because it is another kind."""
    if have is None or node.path == ROOT:
        return False
    return (have.kind, have.ttl) != (node.kind, node.ttl)


def mend_replicas(cluster: Cluster, runtime: Runtime, nodes: Sequence[str]) -> Iterator[str]:
    """Have members take their whole copy from the leader again, one after the other.

    A server trusts its disk: it asks its leader only for what came after. So it is held, its data is removed
    and its process killed (stopped in order it could write its memory down once more); when it starts,
    the leader sends a snapshot. Once that has begun it ends with a server that is down, whatever becomes of
    haops: `haops heal` starts it. Everybody else must be in sync before each, for the one that has lost its
    memory may vote for a history without writes that only it and an absent one have acknowledged.

    Raises:
        BadInput: The first-named does not lead, for members follow nobody else.
        RestoreFailed: The ensemble is not whole, or a member does not come back.
    """
    truth, *others = nodes
    leader = ensemble(cluster).leader.name
    if truth != leader:
        raise BadInput(
            f"members take their copies from the leader, and that is {leader}, not {truth}",
            hint=f"move the role first: haops switchover {cluster.name} --to {truth}",
        )
    if len(voters(cluster)) < 3:
        raise BadInput(
            f"{cluster.name} has no member to spare", hint="restore a backup into a new cluster instead"
        )
    for name in others or [n.name for n in cluster.servers if n.name != truth]:
        _await_whole(cluster)
        code, said = runtime.execute(cluster, name, ["sh", "-c", _EMPTY])
        runtime.stop(cluster, name, grace_s=1)  # it is held and hears nothing; having ended already is fine
        if code:
            raise RestoreFailed(
                "its data could not be removed; it is stopped",
                node=name,
                detail=said.strip() or None,
                hint=f"build it anew: haops recover {cluster.name} {name}",
            )
        runtime.start(cluster, name)
        _await_whole(cluster)
        yield f"{name} has its copy from {leader}"


def _await_whole(cluster: Cluster) -> None:
    try:
        with readiness(cluster) as checker:
            wait_until(
                checker.pending,
                lambda pending: not pending,
                what=f"all members of {cluster.name} to be in sync",
                deadline_s=_WHOLE_S,
                describe=lambda pending: "; ".join(f"{n} waits for {w}" for n, w in pending.items()),
            )
    except DeadlineExceeded as error:
        raise RestoreFailed(error.message, detail=error.detail) from error

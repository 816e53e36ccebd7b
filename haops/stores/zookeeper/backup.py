"""Backup of a ZooKeeper ensemble: one member's snapshot as it is, and its tree in a form that any takes.

All parts are of one and the same snapshot. A server cannot give the same one twice, so its bytes
are kept in a file without a name (in `TMPDIR`) while they go out, for the second pass that makes the tree.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import IO, Final

from haops.cluster.loans import Loan
from haops.cluster.spec import Cluster, Node
from haops.errors import BadInput, ClusterUnhealthy, EnvironmentTrouble
from haops.runtime.port import Runtime
from haops.stores.backup import Backing, BackupFailed, BackupTools, BackupWish, Facts, Form, Part, Source
from haops.stores.zookeeper.admin import SnapshotRefused, SnapshotStream, snapshot_stream
from haops.stores.zookeeper.observe import transactions_behind
from haops.stores.zookeeper.pipeline import Link
from haops.stores.zookeeper.reading import Ensemble, ensemble, told_as, walk
from haops.stores.zookeeper.restore import QUOTA, TREE, restorer
from haops.stores.zookeeper.snapshot_file import SnapshotReader
from haops.stores.zookeeper.tree import BLOCK, QUOTAS, Left, TreeNode, encode, is_limits

SNAPSHOT: Final = "snapshot"
_FAILED: Final = "the backup could not be read"
_KINDS: Final = (
    "which nodes are containers or have a time to live (clients are not told; they become persistent)"
)


class SnapshotSource:
    """A backup by a member's snapshot."""

    def __init__(self, who: Ensemble, node: Node, stream: SnapshotStream, spool: IO[bytes]) -> None:
        self._who = who
        self._node = node
        self._stream = stream
        self._arriving = stream.blocks()
        self._spool = spool
        self._kept = 0
        self._left: Left | None = None
        self._ended_at: int | None = None
        # The server had written the whole file when its answer began.
        self._latest = datetime.now(UTC)

    def parts(self) -> Sequence[Part]:
        """The snapshot, then the tree that is made from it, and the quotas, which are met on the way."""
        return (
            Part(SNAPSHOT, self._node.name, Form.PHYSICAL, size=self._stream.size),
            Part(TREE, self._node.name, Form.LOGICAL),
            Part(QUOTA, self._node.name, Form.LOGICAL),
        )

    def read(self, part: Part) -> Iterator[bytes]:
        """One part's bytes; the snapshot's checksums are looked at when the tree is read.

        Raises:
            BackupFailed: The server ended it, or it is not whole.
        """
        if part.name == SNAPSHOT:
            yield from self._snapshot()
            return
        if part.name == TREE:
            yield from encode(self._tree())
            return
        if self._left is None:
            deque(self._tree(), maxlen=0)
        yield from encode(self._met.quotas)

    def _tree(self) -> Iterator[TreeNode]:
        reader = SnapshotReader(self._snapshot())
        left = Left()
        with told_as(BackupFailed, _FAILED):
            yield from left.keep(reader.nodes())
        self._ended_at = reader.ended_at
        self._left = left

    @property
    def _met(self) -> Left:
        return self._left or Left()

    def _snapshot(self) -> Iterator[bytes]:
        """What has come already, then what still comes."""
        at = 0
        while at < self._kept:
            self._spool.seek(at)
            block = self._spool.read(min(BLOCK, self._kept - at))
            at += len(block)
            yield block
        for block in self._arriving:
            try:
                self._spool.seek(self._kept)
                self._spool.write(block)
            except OSError as error:
                raise EnvironmentTrouble(
                    "the snapshot cannot be kept for its second pass",
                    detail=error.strerror,
                    hint=f"{self._stream.size} bytes are needed; set TMPDIR to a folder with room",
                ) from error
            self._kept += len(block)
            yield block

    def facts(self) -> Facts:
        """Position, lag, and what was left out."""
        begun, ended = self._stream.zxid, self._ended_at
        during = () if ended in (None, begun) else (_unsettled(begun, ended or begun),)
        return Facts(
            version=self._who.version,
            position=f"zxid {begun:#x}",
            latest=self._latest,
            lag=_lag(self._who, begun),
            left_out=(*left_out(self._met), *during),
            details={
                **_counts(self._met),
                "zxid": f"{begun:#x}",
                "changed_until": f"{begun if ended is None else ended:#x}",
            },
        )

    def release(self) -> None:
        """The server's snapshot file is one of its own, and goes by its own purge."""


class WalkedSource:
    """A backup by reading node by node, where no server gives its snapshot: not one point in time."""

    def __init__(self, cluster: Cluster, who: Ensemble, node: Node) -> None:
        self._cluster = cluster
        self._who = who
        self._node = node
        self._left = Left()
        self._latest = datetime.now(UTC)
        self._ended = who

    def parts(self) -> Sequence[Part]:
        """The tree and the quotas."""
        return (Part(TREE, self._node.name, Form.LOGICAL), Part(QUOTA, self._node.name, Form.LOGICAL))

    def read(self, part: Part) -> Iterator[bytes]:
        """A part's bytes.

        Raises:
            BackupFailed: The server went away.
        """
        with told_as(BackupFailed, _FAILED), Link(self._cluster, self._node) as link:
            link.sync()
            if part.name == TREE:
                self._left = Left()
                yield from encode(self._left.keep(walk(link)))
            else:
                met = Left()
                deque(met.keep(walk(link, QUOTAS)), maxlen=0)
                self._left.quotas = met.quotas
                yield from encode(met.quotas)
        self._ended = ensemble(self._cluster)
        self._latest = datetime.now(UTC)

    def facts(self) -> Facts:
        """Position, and what was left out."""
        begun, ended = self._who.zxid, self._ended.zxid
        during = () if begun == ended else (_unsettled(begun, ended),)
        return Facts(
            version=self._who.version,
            position=f"zxid {begun:#x}",
            latest=self._latest,
            left_out=(*left_out(self._left), _KINDS, *during),
            details={**_counts(self._left), "zxid": f"{begun:#x}", "changed_until": f"{ended:#x}"},
        )

    def release(self) -> None:
        """Nothing is kept."""


def left_out(left: Left) -> tuple[str, ...]:
    """What is not in a tree on purpose, in words."""
    said = ["/zookeeper (the ensemble's own), but for its quotas"]
    if left.sessions:
        said.append(
            f"{left.sessions} ephemeral node{'s' * (left.sessions > 1)} (they live with their sessions)"
        )
    return tuple(said)


def _unsettled(begun: int, ended: int) -> str:
    return (
        f"some of the changes from zxid {begun:#x} to {ended:#x}, made while it was read: "
        "of these nodes either state may be in it"
    )


def _counts(left: Left) -> dict[str, str]:
    quotas = sum(is_limits(node.path) for node in left.quotas)
    return {
        "nodes": str(left.nodes),
        "bytes": str(left.bytes),
        "ttl_nodes": str(left.lasting),
        "quotas": str(quotas),
    }


def _lag(who: Ensemble, zxid: int) -> str:
    behind = transactions_behind(zxid, who.zxid)
    if behind is None:
        return f"it has not seen the epoch of {who.leader.name}"
    return f"{behind} transactions behind {who.leader.name}" if behind else ""


@contextmanager
def source(cluster: Cluster, tools: BackupTools, wish: BackupWish) -> Iterator[Source]:
    """Open a backup.

    Raises:
        BadInput: A wish that ZooKeeper cannot fulfil.
        BackupFailed: No leader, or no snapshot to be had.
    """
    if wish.pitr:
        raise BadInput(
            "a ZooKeeper backup has one point in time", hint="leave --pitr out, and back up more often"
        )
    try:
        who = ensemble(cluster)
    except ClusterUnhealthy as error:
        raise BackupFailed(error.message, hint=error.hint) from error
    node = cluster.node(wish.node) if wish.node else who.spare()
    with ExitStack() as opened:
        yield _open(cluster, who, node, wish, opened)


def _open(cluster: Cluster, who: Ensemble, node: Node, wish: BackupWish, opened: ExitStack) -> Source:
    with told_as(BackupFailed, _FAILED), Link(cluster, node) as link:
        link.sync()  # what was acknowledged before the backup began is in it, wherever it is read
    try:
        stream = opened.enter_context(snapshot_stream(cluster, node))
    except SnapshotRefused as error:
        if wish.logical:
            return WalkedSource(cluster, who, node)
        raise BackupFailed(
            error.message,
            node=error.node,
            detail=error.detail,
            hint=f"{error.hint}; or read node by node, which is no single point in time: --logical",
        ) from error
    return SnapshotSource(who, node, stream, opened.enter_context(_spool()))


def _spool() -> IO[bytes]:
    return tempfile.TemporaryFile()


def give_back(cluster: Cluster, runtime: Runtime, loan: Loan) -> str:
    """ZooKeeper's backups borrow no settings; an unknown loan is let go."""
    return f"{loan.node}: {loan.setting} is no setting that a ZooKeeper backup borrows; left as it is"


BACKING: Final = Backing(source=source, restorer=restorer, give_back=give_back)

"""A snapshot from a server's AdminServer, as a stream.

Source: SnapshotCommand of ZooKeeper 3.9. The server writes a snapshot file in its data folder, then
sends it; the file stays there until the server's own purge.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from haops.cluster.spec import Cluster, Node
from haops.stores.backup import BackupFailed
from haops.stores.base import first_line
from haops.stores.zookeeper.topology import superuser
from haops.stores.zookeeper.tree import BLOCK

_PATH: Final = "/commands/snapshot?streaming=true"
# The answer begins when the server has written its file: 1 GB at a slow disk's 50 MB/s takes 20 s.
_ANSWER_S: Final = 60.0
_WORDS: Final = 1 << 16
_BINARY: Final = "application/octet-stream"

_INSTEAD: Final = {
    401: "the server wants a password that this cluster's record does not have",
    403: "the superuser must have all rights on /, and admin.snapshot.enabled must not be off in zoo.cfg",
    404: "it takes ZooKeeper 3.9 or later with admin.enableServer=true",
    405: "it takes ZooKeeper 3.9 or later",
    429: "the server gives one snapshot in five minutes: set admin.rateLimiterIntervalInMS=0 in zoo.cfg, or wait",
    503: "the server does not serve: see haops status, then try again",
}


class SnapshotRefused(BackupFailed):
    """The AdminServer gives no snapshot."""


@dataclass(slots=True)
class SnapshotStream:
    """A snapshot on its way.

    Args:
        zxid: All changes up to this one are in it.
        size: Bytes that the server announced.
        moved: Bytes that came so far.
    """

    node: Node
    zxid: int
    size: int
    _answer: http.client.HTTPResponse
    moved: int = 0

    def blocks(self) -> Iterator[bytes]:
        """Its bytes, once.

        Raises:
            BackupFailed: It ended before its announced size.
        """
        try:
            while block := self._answer.read(BLOCK):
                self.moved += len(block)
                yield block
        except (OSError, http.client.HTTPException) as error:
            raise BackupFailed(
                "the server broke the snapshot off", node=self.node.name, detail=first_line(error)
            ) from error
        if self.moved != self.size:
            raise BackupFailed(
                f"the snapshot ended after {self.moved} of {self.size} bytes",
                node=self.node.name,
                hint="run the same command again",
            )


@contextmanager
def snapshot_stream(cluster: Cluster, node: Node) -> Iterator[SnapshotStream]:
    """Have a server take a snapshot and send it.

    Raises:
        SnapshotRefused: It does not, in its own words.
    """
    with ExitStack() as opened:
        link = http.client.HTTPConnection(node.host, node.admin_host_port, timeout=_ANSWER_S)
        opened.callback(link.close)
        try:
            link.request("GET", _PATH, headers={"Authorization": f"digest {superuser(cluster)}"})
            answer = link.getresponse()
            opened.callback(answer.close)
            stream = _opened(node, answer)
        except (OSError, http.client.HTTPException) as error:
            raise SnapshotRefused(
                "the AdminServer does not answer",
                node=node.name,
                detail=first_line(error),
                hint=f"see: haops status {cluster.name}",
            ) from error
        yield stream


def _opened(node: Node, answer: http.client.HTTPResponse) -> SnapshotStream:
    if answer.status == http.client.OK and answer.getheader("Content-Type", "").startswith(_BINARY):
        try:
            zxid = int(answer.getheader("last_zxid", ""), 16)
            return SnapshotStream(node, zxid, int(answer.getheader("snapshot_size", "")), answer)
        except ValueError:
            pass
    words = answer.read(_WORDS).decode("utf-8", errors="replace")
    # A server that does not know the command says so with status 200.
    hint = _INSTEAD.get(404 if answer.status == http.client.OK else answer.status, "see the server's log")
    raise SnapshotRefused(
        f"the AdminServer gives no snapshot (status {answer.status})",
        node=node.name,
        detail=_error_in(words),
        hint=hint,
    )


def _error_in(words: str) -> str:
    try:
        told = json.loads(words)
    except json.JSONDecodeError:
        told = None
    return first_line(told.get("error") or words) if isinstance(told, dict) else first_line(words)

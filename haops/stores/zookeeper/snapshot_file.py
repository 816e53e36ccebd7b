"""A server's snapshot as bytes: its nodes, its checksums, and whether the tree changed under its writer.

Source: FileSnap, SerializeUtils, DataTree and SnapStream of ZooKeeper 3.9. A snapshot is a header,
sessions, access lists and nodes (parents first, ended by the path `/`), then a seal: Adler-32 of all
bytes so far and the string `/`. Digest and last zxid may follow, each with a seal of its own.

A server goes on applying changes while it writes: the zxid in the file's name (`last_zxid` of the
AdminServer) is the first that may be missing nothing, the one at its end the last that may be in it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from haops.stores.zookeeper.tree import OPEN, ROOT, Acl, Reader, TreeNode, kind_of

MAGIC: Final = b"ZKSN"
VERSION: Final = 2
# A node's access list that was never set (DataTree of 3.9: OPEN_UNSAFE_ACL_ID).
_OPEN_LIST: Final = -1
_STAT = struct.Struct(">qqqqqiiiqq")
_SEAL: Final = struct.calcsize(">qi1s")
_DIGEST = struct.Struct(">qiq")
_ZXID = struct.Struct(">q")


class SnapshotReader(Reader):
    """Reads a snapshot once, in bounded memory.

    Args:
        blocks: Its bytes.

    `ended_at` is the zxid at its end after all nodes were read; None if the server writes none.
    """

    def __init__(self, blocks: Iterable[bytes]) -> None:
        super().__init__(blocks, "the snapshot")
        self._sum = 1
        self.ended_at: int | None = None

    def passed(self, gone: bytes) -> None:
        """Keep the running checksum."""
        self._sum = zlib.adler32(gone, self._sum)

    def nodes(self) -> Iterator[TreeNode]:
        """Every node, ephemeral ones and the ensemble's own included; parents first.

        Raises:
            Torn: It is damaged, cut off, or not a snapshot.
        """
        self._header()
        lists = self._lists()
        while (path := self.text()) != ROOT:
            data = self.text()
            number, created, changed, ctime, mtime, version, made, aversion, owner, children = self.fixed(
                _STAT
            )
            acl = lists.get(number)
            if acl is None or path is None:
                raise self.torn("a node has no path, or an access list that is not in it")
            kind, ttl = kind_of(owner)
            # In memory a server counts the creates below a node: the next suffix. Its clients are told
            # 2 x that - children (DataNode.copyStat).
            yield TreeNode(
                path or ROOT, data, acl, kind, ttl, made, created, changed, children, ctime, mtime,
                version, aversion,
            )  # fmt: skip
        self._end()

    def _header(self) -> None:
        if self.take(4) != MAGIC:
            raise self.torn("its beginning is not a snapshot's; a compressed one is not read")
        version, _ = self.number(), self.long()
        if version != VERSION:
            raise self.torn(f"it has format {version}, this haops reads {VERSION}")

    def _lists(self) -> dict[int, Acl]:
        for _ in range(self.number()):  # sessions and their time-outs
            self.long(), self.number()
        lists = {_OPEN_LIST: OPEN}
        for _ in range(self.number()):
            number = self.long()
            lists[number] = self.acl()
        return lists

    def _end(self) -> None:
        sealed = _SEAL
        left = len(self.rest(3 * sealed + _DIGEST.size + _ZXID.size))
        self._check_seal()
        if left - sealed >= _DIGEST.size + sealed:
            self.fixed(_DIGEST)
            self._check_seal()
            left -= _DIGEST.size + sealed
        if left - sealed == _ZXID.size + sealed:
            (self.ended_at,) = self.fixed(_ZXID)
            self._check_seal()
            left -= _ZXID.size + sealed
        if left != sealed:
            raise self.torn("its end is not a snapshot's")

    def _check_seal(self) -> None:
        told = zlib.adler32(self.buffer[: self.at], self._sum)
        if self.long() != told or self.text() != ROOT:
            raise self.torn("its checksum is another one")

"""ZooKeeper's tree as records: what every other module here reads, writes and compares.

A backup's `tree` part is a stream of them that depends on no server's version. Big-endian;
a string is its length (uint32) and its bytes:

    the line `haops-zookeeper-tree 1`
    1  access list:  count (uint32), then of each entry permissions (int32), scheme, id;
                     lists are numbered from 0 in the order in which they come
    2  node:         kind (uint8), time to live in ms (uint64), next suffix of its children (int64),
                     number of its access list (uint32), zxids of creation, change and of the last change
                     among its children (int64 each), times of creation and change (Unix ms, int64 each),
                     version and access list's version (int32 each), whether it has data (uint8), path, data
    0  end:          number of nodes (uint64)

A parent comes before its children. Nodes of sessions (ephemeral ones) are left out, and so is all
below `/zookeeper`, which is the ensemble's own. What is below `/zookeeper/quota` is in a part of its own, `quotas`, a
stream of the same form: a haops that knows of no such part restores the tree without it, and a backup without it is
one without quotas.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

from blake3 import blake3

from haops.errors import HaopsError

ROOT: Final = b"/"
SYSTEM: Final = b"/zookeeper"
# A quota of a path is a node `zookeeper_limits` below the same path here; what is used of it stands beside
# that, in `zookeeper_stats`, which the server counts anew when it is made (DataTree.createNode of 3.9).
QUOTAS: Final = SYSTEM + b"/quota"
_LIMITS: Final = b"/zookeeper_limits"
_STATS: Final = b"/zookeeper_stats"
HEADER: Final = b"haops-zookeeper-tree "
VERSION: Final = 1
# A node is 1 MB at most unless a server's jute.maxbuffer is raised; beyond this a length is damage.
LONGEST: Final = 1 << 28
BLOCK: Final = 1 << 18

_U32 = struct.Struct(">I")
_I32 = struct.Struct(">i")
_U64 = struct.Struct(">Q")
_I64 = struct.Struct(">q")
_NODE = struct.Struct(">BQqIqqqqqiiBI")
_END, _ACCESS, _RECORD = 0, 1, 2

# How a server marks what is not a session's in `ephemeralOwner` (EphemeralType of ZooKeeper 3.9).
_CONTAINER: Final = -(1 << 63)
_EXTENDED: Final = 0xFF << 56
_LIFETIME: Final = (1 << 40) - 1


class Torn(HaopsError):
    """A snapshot or a tree's stream that ends too early, is damaged, or is not one."""


class UnknownForm(HaopsError):
    """A tree's stream of a version that this haops does not read."""


class Kind(IntEnum):
    """What becomes of a node by itself: nothing, removal when empty, removal by age, end with its session."""

    PERSISTENT = 0
    CONTAINER = 1
    TTL = 2
    EPHEMERAL = 3


class Access(NamedTuple):
    """One entry of an access list, as the server keeps it (a digest is hashed already)."""

    permissions: int
    scheme: bytes
    id: bytes


Acl = tuple[Access, ...]
# world:anyone may do all: what a node has that nobody thought about.
OPEN: Final[Acl] = (Access(31, b"world", b"anyone"),)


class TreeNode(NamedTuple):
    """One node. A named tuple, not a dataclass: a million are made in a backup, at a fourth of the cost.

    Args:
        data: None is no data at all, which is not the same as empty.
        next: The suffix that its next sequential child gets.
        changed: The zxid of its last change; `children` that of the last one among its children.
        ttl: Life time in ms of a TTL node without children; else 0.
        ctime: Unix ms, as is `mtime`.
    """

    path: bytes
    data: bytes | None
    acl: Acl
    kind: Kind
    ttl: int
    next: int
    created: int
    changed: int
    children: int
    ctime: int
    mtime: int
    version: int
    aversion: int


def kind_of(owner: int) -> tuple[Kind, int]:
    """Kind and life time (ms) from a node's `ephemeralOwner`.

    Source: EphemeralType.get of ZooKeeper 3.9, with extended types allowed.
    """
    if owner == 0:
        return Kind.PERSISTENT, 0
    if owner == _CONTAINER:
        return Kind.CONTAINER, 0
    unsigned = owner & ((1 << 64) - 1)
    if unsigned & _EXTENDED == _EXTENDED and not unsigned & ~_EXTENDED & ~_LIFETIME:
        return Kind.TTL, unsigned & _LIFETIME
    return Kind.EPHEMERAL, 0


def is_system(path: bytes) -> bool:
    """Whether a node is the ensemble's own."""
    return path == SYSTEM or path.startswith(SYSTEM + b"/")


def within(path: bytes, only: bytes) -> bool:
    """Whether a node is `only` or below it."""
    return only == ROOT or path == only or path.startswith(only + b"/")


def is_quota(path: bytes) -> bool:
    """Whether a node is one of those that quotas are made of."""
    return path.startswith(QUOTAS + b"/")


def is_limits(path: bytes) -> bool:
    """Whether a node says how much may be below a path."""
    return is_quota(path) and path.endswith(_LIMITS)


def is_stats(path: bytes) -> bool:
    """Whether a node says how much is below a path that has a quota."""
    return is_quota(path) and path.endswith(_STATS)


def limited(path: bytes) -> bytes:
    """The path that a `zookeeper_limits` is the quota of."""
    return path[len(QUOTAS) : -len(_LIMITS)] or ROOT


def quota_of(path: bytes) -> bytes:
    """The node below which are the quotas of a path and of all below it."""
    return QUOTAS if path == ROOT else QUOTAS + path


def parent(path: bytes) -> bytes:
    """The path one up; the root's is the root."""
    return path.rpartition(b"/")[0] or ROOT


def fingerprint(node: TreeNode, *, exact: bool = False) -> int:
    """64 bits of BLAKE3 over everything that must be equal.

    Two ensembles agree when path, data, access list, kind and next suffix do; zxids, times and
    versions come from each one's own history. Copies in one ensemble must agree in those too: `exact`.
    The root's suffix is left out between ensembles: whoever looked whether one serves has raised it.
    """
    told = 0 if node.path == ROOT and not exact else node.next
    whole = b"".join(
        (
            _FINGER.pack(
                len(node.path), node.kind, node.ttl, told, len(node.data or b""), node.data is not None
            ),
            node.path,
            node.data or b"",
            pack_acl(tuple(sorted(node.acl))),
            _EXACT.pack(*node[6:]) if exact else b"",
        )
    )
    return int.from_bytes(blake3(whole).digest(8), "big")


_FINGER = struct.Struct(">IBQqIB")
_EXACT = struct.Struct(">qqqqqii")


def pack_acl(acl: Acl) -> bytes:
    """An access list as the stream has it, and as jute has it on the wire."""
    parts = [_U32.pack(len(acl))]
    for entry in acl:
        parts += [_I32.pack(entry.permissions), _U32.pack(len(entry.scheme)), entry.scheme]
        parts += [_U32.pack(len(entry.id)), entry.id]
    return b"".join(parts)


@dataclass(slots=True)
class Left:
    """What was read and left out of a tree, by kind; the nodes that quotas are made of are kept: they are few."""

    nodes: int = 0
    bytes: int = 0
    suffixes: int = 0
    sessions: int = 0
    system: int = 0
    lasting: int = 0
    quotas: list[TreeNode] = field(default_factory=list)

    def keep(self, nodes: Iterable[TreeNode]) -> Iterator[TreeNode]:
        """Pass on what belongs into a tree's stream, and count."""
        for node in nodes:
            if is_system(node.path):
                self.system += 1
                if is_quota(node.path) and node.kind is not Kind.EPHEMERAL:
                    self.quotas.append(node)
            elif node.kind is Kind.EPHEMERAL:
                self.sessions += 1
            else:
                self.nodes += 1
                self.bytes += len(node.data or b"")
                self.suffixes += node.next
                self.lasting += node.kind is Kind.TTL
                yield node


def encode(nodes: Iterable[TreeNode]) -> Iterator[bytes]:
    """The stream of these nodes, in blocks of about 256 kB."""
    known: dict[Acl, int] = {}
    out = bytearray(HEADER + b"%d\n" % VERSION)
    count = 0
    for node in nodes:
        number = known.get(node.acl)
        if number is None:
            number = known[node.acl] = len(known)
            out += bytes((_ACCESS,)) + pack_acl(node.acl)
        out.append(_RECORD)
        out += _NODE.pack(
            node.kind, node.ttl, node.next, number, *node[6:], node.data is not None, len(node.path)
        )
        out += node.path
        out += _U32.pack(len(node.data or b""))
        out += node.data or b""
        count += 1
        if len(out) >= BLOCK:
            yield bytes(out)
            out.clear()
    out += bytes((_END,)) + _U64.pack(count)
    yield bytes(out)


class Reader:
    """Takes numbers and strings out of blocks of bytes, and knows nothing of what they mean."""

    def __init__(self, blocks: Iterable[bytes], what: str) -> None:
        self._blocks = iter(blocks)
        self._what = what
        self.buffer = b""
        self.at = 0

    def passed(self, gone: bytes) -> None:
        """Told of the bytes that are let go, in order; for checksums."""

    def fill(self, count: int) -> None:
        """Have `count` bytes from `at` on. Raises Torn."""
        have = len(self.buffer) - self.at
        if have >= count:
            return
        self.passed(self.buffer[: self.at])
        parts = [self.buffer[self.at :]]
        while have < count:
            block = next(self._blocks, None)
            if block is None:
                raise self.torn("it ends too early")
            parts.append(block)
            have += len(block)
        self.buffer, self.at = b"".join(parts), 0

    def rest(self, limit: int) -> bytes:
        """Everything that is left. Raises Torn if that is more than `limit` bytes."""
        left = len(self.buffer) - self.at
        for block in self._blocks:
            self.passed(self.buffer[: self.at])
            self.buffer, self.at = self.buffer[self.at :] + block, 0
            left = len(self.buffer)
            if left > limit:
                break
        if left > limit:
            raise self.torn("there is more in it than its end")
        return self.buffer[self.at :]

    def fixed(self, form: struct.Struct) -> tuple[int, ...]:
        """Numbers of a fixed form."""
        self.fill(form.size)
        at = self.at
        self.at = at + form.size
        return form.unpack_from(self.buffer, at)

    def number(self) -> int:
        """An int32."""
        return self.fixed(_I32)[0]

    def long(self) -> int:
        """An int64."""
        return self.fixed(_I64)[0]

    def take(self, count: int) -> bytes:
        """`count` bytes."""
        if not 0 <= count <= LONGEST:
            raise self.torn("a length in it cannot be")
        self.fill(count)
        at = self.at
        self.at = at + count
        return self.buffer[at : self.at]

    def text(self) -> bytes | None:
        """A string with its length before it (int32); None where that is -1."""
        length = self.number()
        return None if length == -1 else self.take(length)

    def acl(self) -> Acl:
        """An access list."""
        count = self.number()
        if not -1 <= count <= LONGEST // 12:
            raise self.torn("a length in it cannot be")
        return tuple(
            Access(self.number(), self.text() or b"", self.text() or b"") for _ in range(max(count, 0))
        )

    def torn(self, why: str) -> Torn:
        """The error of this stream."""
        return Torn(f"{self._what} is not whole", detail=why)


def decode(blocks: Iterable[bytes]) -> Iterator[TreeNode]:
    """The nodes of a stream, in its order.

    Raises:
        Torn: It ends too early or is damaged.
        UnknownForm: Its version is not this haops's.
    """
    reader = Reader(blocks, "the tree of the backup")
    _check_header(reader)
    lists: list[Acl] = []
    count = 0
    while (mark := reader.take(1)[0]) != _END:
        if mark == _ACCESS:
            lists.append(reader.acl())
            continue
        if mark != _RECORD:
            raise reader.torn(f"a record's mark is {mark}")
        kind, ttl, following, number, *rest, has_data, length = reader.fixed(_NODE)
        path = reader.take(length)
        data = reader.take(reader.number())
        try:
            yield TreeNode(path, data if has_data else None, lists[number], Kind(kind), ttl, following, *rest)
        except (IndexError, ValueError):
            raise reader.torn("a node's kind or access list cannot be") from None
        count += 1
    if reader.fixed(_U64)[0] != count:
        raise reader.torn(f"{count} nodes came, another number was written")
    if reader.rest(1):
        raise reader.torn("something stands behind its end")


def _check_header(reader: Reader) -> None:
    if reader.take(len(HEADER)) != HEADER:
        raise reader.torn("its beginning is not a tree's")
    version = b""
    while (digit := reader.take(1)) != b"\n":
        version += digit
        if not digit.isdigit() or len(version) > 9:
            raise reader.torn("its beginning is not a tree's")
    if int(version or b"0") != VERSION:
        raise UnknownForm(
            f"the tree of the backup has form {version.decode()}, this haops reads {VERSION}",
            hint="use the haops that made the backup, or a later one",
        )

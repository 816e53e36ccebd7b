"""A connection to one server over which many requests are under way at once.

kazoo sends one request at a time through two threads and a pipe, knows neither TTL nor container
nodes in transactions, and picks its server: 2,300 creates/s here. A server answers one session's requests
in their order, so a plain socket with a window of requests needs no bookkeeping but a queue.
A thread sends pings, for whoever makes the requests may pause for longer than a session lives.

Source of the format: zookeeper.jute and ClientCnxn of ZooKeeper 3.9.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple, TypeVar

from haops.cluster.spec import Cluster, Node
from haops.errors import HaopsError
from haops.stores.base import first_line
from haops.stores.zookeeper.topology import superuser
from haops.stores.zookeeper.tree import ROOT, Acl, Kind, Reader, TreeNode, pack_acl

_I32 = struct.Struct(">i")
_CONNECT = struct.Struct(">iqiq")
_GRANTED = struct.Struct(">ii")
_HEADER = struct.Struct(">iqi")
_STAT = struct.Struct(">qqqqiiiqiiq")
_OPERATION = struct.Struct(">iBi")
# Longer than any server of ours grants (20 ticks of 500 ms); it gives what it allows.
_SESSION_MS: Final = 30_000
_ANSWER_S: Final = 30.0
# Requests under way at once: enough to hide a round trip and a disk's sync, few enough for any queue
# (a server stops reading at globalOutstandingLimit, 1000).
WINDOW: Final = 64
_LONGEST: Final = 1 << 30  # an answer to 128 reads of nodes beyond any jute.maxbuffer; more is no length

_CREATE, _DELETE, _EXISTS, _GET, _SET = 1, 2, 3, 4, 5
_GET_ACL, _SET_ACL, _CHILDREN, _SYNC, _MULTI, _MULTI_READ = 6, 7, 8, 9, 14, 22
_CREATE_CONTAINER, _CREATE_TTL, _AUTH, _CLOSE, _PING = 19, 21, 100, -11, 11
_TTL_FLAG, _CONTAINER_FLAG = 5, 4
_AUTH_XID, _PING_XID = -4, -2


class Code(IntEnum):
    """Errors that are acted on; KeeperException.Code."""

    OK = 0
    ROLLED_BACK = -2
    UNIMPLEMENTED = -6
    NO_NODE = -101
    NODE_EXISTS = -110
    NOT_EMPTY = -111
    INVALID_ACL = -114


_WORDS: Final = {
    -4: "connection lost",
    -6: "unimplemented",
    -101: "no such node",
    -102: "no right to do that",
    -108: "an ephemeral node has no children",
    -110: "the node exists",
    -111: "the node has children",
    -112: "session expired",
    -114: "it does not take this access list",
    -115: "authentication failed",
    -118: "session moved",
    -125: "quota exceeded",
    -127: "throttled",
}


class LinkLost(HaopsError):
    """The server's connection or session ended."""


class Refused(HaopsError):
    """A server refused a request.

    Args:
        code: As KeeperException has it.
        index: Which operation of a transaction it was; 0 for a single one.
    """

    def __init__(self, node: Node, code: int, index: int = 0, path: bytes = b"") -> None:
        where = f" ({path.decode('utf-8', errors='replace')})" if path else ""
        super().__init__(
            f"the server refused: {_WORDS.get(code, 'error')} ({code}){where}",
            node=node.name,
            hint="TTL nodes need -Dzookeeper.extendedTypesEnabled=true at every server"
            if code == Code.UNIMPLEMENTED
            else None,
        )
        self.code = code
        self.index = index


class Stat(NamedTuple):
    """A node's facts as a server tells clients."""

    created: int
    changed: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    owner: int
    length: int
    children: int
    children_changed: int

    @property
    def next(self) -> int:
        """The suffix of the next sequential child (DataNode.copyStat turned round)."""
        return (self.cversion + self.children) // 2


class Request(NamedTuple):
    """One request or one operation of a transaction."""

    type: int
    body: bytes
    path: bytes = b""


def _text(text: bytes) -> bytes:
    return _I32.pack(len(text)) + text


def _data(data: bytes | None) -> bytes:
    return b"\xff\xff\xff\xff" if data is None else _text(data)


def create(node: TreeNode) -> Request:
    """Make a node as what it is: persistent, container or TTL."""
    body = _text(node.path) + _data(node.data) + pack_acl(node.acl)
    if node.kind is Kind.CONTAINER:
        return Request(_CREATE_CONTAINER, body + _I32.pack(_CONTAINER_FLAG), node.path)
    if node.kind is Kind.TTL:
        return Request(_CREATE_TTL, body + struct.pack(">iq", _TTL_FLAG, node.ttl), node.path)
    return Request(_CREATE, body + _I32.pack(0), node.path)


def delete(path: bytes) -> Request:
    """Remove a node without children."""
    return Request(_DELETE, _text(path) + _I32.pack(-1), path)


def set_data(path: bytes, data: bytes | None) -> Request:
    """Replace a node's data."""
    return Request(_SET, _text(path) + _data(data) + _I32.pack(-1), path)


def set_acl(path: bytes, acl: Acl) -> Request:
    """Replace a node's access list; not possible in a transaction."""
    return Request(_SET_ACL, _text(path) + pack_acl(acl) + _I32.pack(-1), path)


def exists(path: bytes) -> Request:
    """A node's facts."""
    return Request(_EXISTS, _text(path) + b"\0", path)


def get(path: bytes) -> Request:
    """A node's data and facts."""
    return Request(_GET, _text(path) + b"\0", path)


def get_acl(path: bytes) -> Request:
    """A node's access list."""
    return Request(_GET_ACL, _text(path), path)


def children(path: bytes) -> Request:
    """The names of a node's children."""
    return Request(_CHILDREN, _text(path) + b"\0", path)


def multi(operations: Sequence[Request]) -> Request:
    """All of them or none."""
    return Request(_MULTI, _joined(operations))


def multi_read(operations: Sequence[Request]) -> Request:
    """Several of `get` and `children` at once, each with a result of its own."""
    return Request(_MULTI_READ, _joined(operations))


def _joined(operations: Sequence[Request]) -> bytes:
    parts = []
    for each in operations:
        parts += [_OPERATION.pack(each.type, 0, -1), each.body]
    parts.append(_OPERATION.pack(-1, 1, -1))
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's answer.

    Args:
        code: 0 if it did it.
        index: The operation of a transaction that was refused.
    """

    code: int
    body: bytes
    index: int = 0

    def stat(self) -> Stat:
        """The facts of an `exists`."""
        return Stat._make(_STAT.unpack_from(self.body))

    def acl(self) -> Acl:
        """The access list of a `get_acl`."""
        return Reader([self.body], "an answer").acl()

    def parts(self) -> Iterator[tuple[int, bytes | None, Stat | None, list[bytes]]]:
        """The results of a `multi_read`, in order: code, data and facts of a `get`, names of `children`."""
        reader = Reader([self.body], "an answer")
        while True:
            kind, done, code = reader.fixed(_OPERATION)
            if done:
                return
            if kind == _GET:
                data = reader.text()
                yield code, data, Stat._make(reader.fixed(_STAT)), []
            elif kind == _CHILDREN:
                yield code, None, None, [reader.text() or b"" for _ in range(reader.number())]
            else:
                yield reader.number(), None, None, []


Item = TypeVar("Item")


class Link:
    """One superuser's session at one server.

    Raises:
        LinkLost: From any method: the server is gone, or closed the session.
    """

    def __init__(self, cluster: Cluster, node: Node) -> None:
        self.node = node
        self.moved = 0
        self._waiting: deque[tuple[int, int]] = deque()
        self._next = 0
        self._sending = threading.Lock()
        self._ended = threading.Event()
        try:
            self._socket = socket.create_connection((node.host, node.host_port), timeout=_ANSWER_S)
        except OSError as error:
            raise self._lost(error) from error
        self._file = self._socket.makefile("rb", buffering=1 << 18)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._send_frame(_CONNECT.pack(0, 0, _SESSION_MS, 0) + _text(bytes(16)) + b"\0")
            granted_ms = _GRANTED.unpack_from(self._frame(_GRANTED.size))[1]
            login = _I32.pack(0) + _text(b"digest") + _text(superuser(cluster).encode())
            self._send_frame(_I32.pack(_AUTH_XID) + _I32.pack(_AUTH) + login)
            code = _HEADER.unpack_from(self._frame(_HEADER.size))[2]
            if code:
                raise Refused(node, code)
        except BaseException:
            self._file.close()
            self._socket.close()
            raise
        self._pinger = threading.Thread(target=self._ping, args=(granted_ms / 3000,), daemon=True)
        self._pinger.start()

    def _ping(self, every_s: float) -> None:
        # A third of the session's time, as ClientCnxn has it. The answers are passed over by `receive`.
        while not self._ended.wait(every_s):
            try:
                self._send_frame(_I32.pack(_PING_XID) + _I32.pack(_PING))
            except LinkLost:
                return  # the next request meets the same, where somebody hears of it

    def close(self) -> None:
        """End the session; whatever is under way is no longer waited for."""
        with contextlib.suppress(LinkLost, OSError):
            if not self._waiting:
                self._socket.settimeout(1.0)
                self.ask(Request(_CLOSE, b""))
        self._ended.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # a ping that waits for room ends with it
        self._pinger.join()
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, request: Request) -> None:
        """Send one; its answer comes after those of all before."""
        self._next = self._next % 0x7FFFFFFF + 1
        self._waiting.append((self._next, request.type))
        self._send_frame(_I32.pack(self._next) + _I32.pack(request.type) + request.body)

    def receive(self) -> Reply:
        """The answer to the oldest request without one."""
        xid, kind = self._waiting.popleft()
        latest = time.monotonic() + _ANSWER_S
        while True:
            frame = self._frame(_HEADER.size)
            got, _, code = _HEADER.unpack_from(frame)
            if got >= 0:  # below it are answers to pings, and watches, which nobody asked for
                break
            if time.monotonic() > latest:
                raise self._lost(f"it answers pings, but no request for {_ANSWER_S:.0f} s")
        if got != xid:
            raise self._lost(f"answer {got} where {xid} was due")
        body = frame[_HEADER.size :]
        if kind == _MULTI:
            return _of_multi(body, code)
        return Reply(code, body)

    def ask(self, request: Request) -> Reply:
        """One request and its answer, whatever it says; nothing else may be under way."""
        self.send(request)
        return self.receive()

    def sync(self) -> None:
        """Have the server catch up with the leader before the next read.

        Raises:
            Refused: It cannot.
        """
        reply = self.ask(Request(_SYNC, _text(ROOT)))
        if reply.code:
            raise Refused(self.node, reply.code)

    def each(
        self, items: Iterable[Item], request: Callable[[Item], Request], window: int = WINDOW
    ) -> Iterator[tuple[Item, Reply]]:
        """Ask the same of many, `window` at a time; answers in the items' order.

        The caller may not ask anything else over this link in between.
        """
        asked: deque[Item] = deque()
        for item in items:
            self.send(request(item))
            asked.append(item)
            if len(asked) >= window:
                yield asked.popleft(), self.receive()
        while asked:
            yield asked.popleft(), self.receive()

    def _send_frame(self, body: bytes) -> None:
        try:
            with self._sending:
                self._socket.sendall(_I32.pack(len(body)) + body)
        except OSError as error:
            raise self._lost(error) from error

    def _frame(self, least: int) -> bytes:
        try:
            head = self._file.read(4)
            length = _I32.unpack(head)[0] if len(head) == 4 else least
            body: bytes = self._file.read(length) if least <= length <= _LONGEST else b""
        except OSError as error:
            raise self._lost(error) from error
        if len(head) < 4 or len(body) < max(length, least):
            raise self._lost("it closed the connection, or sent what is no answer")
        self.moved += 4 + length
        return body

    def _lost(self, error: object) -> LinkLost:
        return LinkLost("the connection to the server ended", node=self.node.name, detail=first_line(error))


def _of_multi(body: bytes, code: int) -> Reply:
    """A transaction that failed has an error an operation: those before the guilty one say 0.

    Source: MultiResponse and DataTree.processTxn of 3.9.
    """
    if not body:
        return Reply(code, b"")
    kind, _, _ = _OPERATION.unpack_from(body)
    if kind != -1:
        return Reply(code, b"")
    step = _OPERATION.size + _I32.size
    for index, at in enumerate(range(0, len(body) - step, step)):
        error = _I32.unpack_from(body, at + _OPERATION.size)[0]
        if error not in (Code.OK, Code.ROLLED_BACK):
            return Reply(error, b"", index)
    return Reply(code, b"")

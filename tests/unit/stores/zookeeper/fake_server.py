"""A ZooKeeper server in memory that speaks enough of the wire for backups, and an AdminServer beside it.

Written from zookeeper.jute, apart from the code under test, so that the two can disagree.
"""

from __future__ import annotations

import contextlib
import http.server
import socketserver
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from haops.cluster.spec import Cluster
from haops.stores.zookeeper.topology import superuser

from ....fake_zookeeper import mntr, srvr
from ....fakes import make_cluster

ANYONE = ((31, b"world", b"anyone"),)
CONTAINER = -(1 << 63)
TTL = -(1 << 56)  # 0xff00… plus the milliseconds


@dataclass
class Znode:
    data: bytes | None = b""
    acl: tuple[tuple[int, bytes, bytes], ...] = ANYONE
    owner: int = 0
    creates: int = 0
    czxid: int = 0
    mzxid: int = 0
    pzxid: int = 0
    version: int = 0
    aversion: int = 0


class Trouble(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


def string(text: bytes | None) -> bytes:
    return struct.pack(">i", -1) if text is None else struct.pack(">i", len(text)) + text


def pack_acl(acl: tuple[tuple[int, bytes, bytes], ...]) -> bytes:
    return struct.pack(">i", len(acl)) + b"".join(
        struct.pack(">i", p) + string(s) + string(i) for p, s, i in acl
    )


class Input:
    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def number(self, form: str = ">i") -> Any:
        (value,) = struct.unpack_from(form, self.raw, self.at)
        self.at += struct.calcsize(form)
        return value

    def string(self) -> bytes | None:
        length = self.number()
        if length < 0:
            return None
        self.at += length
        return self.raw[self.at - length : self.at]

    def acl(self) -> tuple[tuple[int, bytes, bytes], ...]:
        return tuple(
            (self.number(), self.string() or b"", self.string() or b"") for _ in range(self.number())
        )


@dataclass
class FakeServer:
    """The tree, what it saw, and what it is told to do wrong.

    `dies_after` transactions the connection is closed without an answer; a session that says nothing for
    `session_ms` ends; one that is `mute` answers pings alone; `before` is called ahead of each transaction.
    """

    nodes: dict[bytes, Znode] = field(default_factory=lambda: {b"/": Znode(), b"/zookeeper": Znode()})
    zxid: int = 1
    transactions: int = 0
    dies_after: int | None = None
    admin: tuple[int, bytes] | None = None
    drift: int = 0
    cut_snapshot: int | None = None
    password: str = ""
    session_ms: int = 4000
    sessions: int = 0
    mute: bool = False
    before: Callable[[], object] = lambda: None

    def put(self, path: str, data: bytes | None = b"", **more: Any) -> Znode:
        """Make a node as a client would; more fields of it can be said."""
        self.create(path.encode(), data, more.pop("acl", ANYONE), more.pop("owner", 0))
        node = self.nodes[path.encode()]
        for name, value in more.items():
            setattr(node, name, value)
        return node

    def children(self, path: bytes) -> list[bytes]:
        start = path.rstrip(b"/") + b"/"
        return [
            p[len(start) :]
            for p in self.nodes
            if p.startswith(start) and p != path and b"/" not in p[len(start) :]
        ]

    def find(self, path: bytes) -> Znode:
        if path not in self.nodes:
            raise Trouble(-101)
        return self.nodes[path]

    def create(self, path: bytes, data: bytes | None, acl: Any, owner: int) -> bytes:
        above = self.find(path.rpartition(b"/")[0] or b"/")
        if path in self.nodes:
            raise Trouble(-110)
        if not acl or any(scheme == b"unknown" for _, scheme, _ in acl):
            raise Trouble(-114)
        self.zxid += 1
        above.creates += 1
        above.pzxid = self.zxid
        self.nodes[path] = Znode(data, acl, owner, 0, self.zxid, self.zxid, self.zxid)
        return path

    def delete(self, path: bytes) -> None:
        self.find(path)
        if self.children(path):
            raise Trouble(-111)
        del self.nodes[path]

    def stat(self, path: bytes) -> bytes:
        node = self.find(path)
        count = len(self.children(path))
        told = node.owner if node.owner > 0 else 0
        return struct.pack(
            ">qqqqiiiqiiq", node.czxid, node.mzxid, 0, 0, node.version, 2 * node.creates - count,
            node.aversion, told, len(node.data or b""), count, node.pzxid,
        )  # fmt: skip

    def do(self, kind: int, body: Input) -> tuple[int, bytes]:
        """One operation: the kind of its result, and the result."""
        path = body.string() or b""
        if kind in (1, 19, 21):
            data, acl, _ = body.string(), body.acl(), body.number()
            owner = {1: 0, 19: CONTAINER}.get(kind)
            made = self.create(path, data, acl, TTL + body.number(">q") if owner is None else owner)
            return kind, string(made) + (b"" if kind == 1 else self.stat(path))
        if kind == 2:
            body.number()
            self.delete(path)
            return kind, b""
        if kind in (3, 4, 8):
            body.at += 1
            stat = self.stat(path)
            if kind == 3:
                return kind, stat
            if kind == 4:
                return kind, string(self.nodes[path].data) + stat
            names = self.children(path)
            return kind, struct.pack(">i", len(names)) + b"".join(map(string, names))
        return kind, self._rest(kind, path, body)

    def _rest(self, kind: int, path: bytes, body: Input) -> bytes:
        if kind == 9:
            return string(path)
        node = self.find(path)
        self.zxid += kind in (5, 7)
        if kind == 5:
            node.data, node.version, node.mzxid = body.string(), node.version + 1, self.zxid
            body.number()
            return self.stat(path)
        if kind == 6:
            return pack_acl(node.acl) + self.stat(path)
        assert kind == 7
        node.acl, node.aversion = body.acl(), node.aversion + 1
        return self.stat(path)

    def multi(self, body: Input, *, reads: bool) -> bytes:
        before = {p: replace(n) for p, n in self.nodes.items()} if not reads else {}
        results: list[tuple[int, int, bytes]] = []
        failed = False
        while True:
            kind, done, _ = body.number(), body.number(">B"), body.number()
            if done:
                break
            try:
                if failed:
                    results.append((-1, -2, struct.pack(">i", -2)))
                    self._skip(kind, body)
                else:
                    kind, said = self.do(kind, body)
                    results.append((kind, 0, said))
            except Trouble as trouble:
                if not reads:
                    self._skip_rest(kind, body)
                    failed = True
                    results = [(-1, 0, struct.pack(">i", 0)) for _ in results]
                results.append((-1, trouble.code, struct.pack(">i", trouble.code)))
        if failed:
            self.nodes = before
        return b"".join(struct.pack(">iBi", k, 0, c) + s for k, c, s in results) + struct.pack(
            ">iBi", -1, 1, -1
        )

    def _skip(self, kind: int, body: Input) -> None:
        body.string()
        self._skip_rest(kind, body, fresh=True)

    def _skip_rest(self, kind: int, body: Input, *, fresh: bool = False) -> None:
        """What follows a path: a refused create or delete has been read already."""
        if not fresh:
            if kind == 5:
                body.string(), body.number()
            return
        if kind in (1, 19, 21):
            body.string(), body.acl(), body.number()
            if kind == 21:
                body.number(">q")
        elif kind == 2:
            body.number()
        elif kind == 5:
            body.string(), body.number()

    def snapshot(self) -> bytes:
        """The tree as a server writes it: in no order but parents first."""
        lists = list(dict.fromkeys(n.acl for n in self.nodes.values()))
        out = b"ZKSN" + struct.pack(">iq", 2, -1) + struct.pack(">iqi", 1, 77, 4000)
        out += struct.pack(">i", len(lists))
        for number, acl in enumerate(lists):
            out += struct.pack(">q", number) + pack_acl(acl)
        for path, node in self.nodes.items():
            out += string(b"" if path == b"/" else path) + string(node.data)
            out += struct.pack(
                ">qqqqqiiiqq", lists.index(node.acl), node.czxid, node.mzxid, 0, 0,
                node.version, node.creates, node.aversion, node.owner, node.pzxid,
            )  # fmt: skip
        out = seal(out + string(b"/"))
        out = seal(out + struct.pack(">qiq", self.zxid, 2, 99))
        return seal(out + struct.pack(">q", self.zxid + self.drift))


def seal(raw: bytes) -> bytes:
    return raw + struct.pack(">q", zlib.adler32(raw)) + string(b"/")


class _Wire(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        server: FakeServer = self.server.fake  # type: ignore[attr-defined]
        head = self.rfile.read(4)
        words = {
            b"srvr": srvr("standalone", server.zxid),
            b"mntr": mntr("standalone"),
            b"conf": "tickTime=500\n",
        }
        if head in words:
            self.wfile.write(words[head].encode())
            return
        with contextlib.suppress(ConnectionError, TimeoutError):
            self._session(server, head)

    def _session(self, server: FakeServer, head: bytes) -> None:
        self.rfile.read(struct.unpack(">i", head)[0])
        server.sessions += 1
        self.connection.settimeout(server.session_ms / 1000)
        self._send(struct.pack(">iiq", 0, server.session_ms, 77) + string(bytes(16)) + b"\0")
        while len(head := self.rfile.read(4)) == 4:
            body = Input(self.rfile.read(struct.unpack(">i", head)[0]))
            xid, kind = body.number(), body.number()
            if kind == 100:
                body.number(), body.string()
                good = body.string() == server.password.encode()
                self._send(struct.pack(">iqi", -4, 0, 0 if good else -115))
                continue
            if kind == 11:
                self._send(struct.pack(">iqi", -2, server.zxid, 0))
                continue
            if kind == -11:
                self._send(struct.pack(">iqi", xid, server.zxid, 0))
                return
            if kind == 14:
                server.before()
                server.transactions += 1
                if server.dies_after is not None and server.transactions > server.dies_after:
                    return
            if not server.mute:
                self._answer(server, xid, kind, body)

    def _answer(self, server: FakeServer, xid: int, kind: int, body: Input) -> None:
        try:
            if kind in (14, 22):
                said = server.multi(body, reads=kind == 22)
            else:
                said = server.do(kind, body)[1]
            code = 0
        except Trouble as trouble:
            said, code = b"", trouble.code
        self._send(struct.pack(">iqi", xid, server.zxid, code) + said)

    def _send(self, body: bytes) -> None:
        self.wfile.write(struct.pack(">i", len(body)) + body)


class _Admin(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: FakeServer = self.server.fake  # type: ignore[attr-defined]
        if self.headers.get("Authorization") != f"digest {server.password}":
            self._say(401, b'{"command": "snapshot", "error": "Auth info is missing"}', {})
        elif server.admin is not None:
            self._say(*server.admin, {})
        else:
            raw = server.snapshot()
            facts = {"last_zxid": f"{server.zxid:#x}", "snapshot_size": str(len(raw))}
            self._say(200, raw[: server.cut_snapshot], facts, "application/octet-stream")

    def _say(
        self, status: int, body: bytes, headers: Mapping[str, str], kind: str = "application/json"
    ) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextlib.contextmanager
def ensemble(server: FakeServer) -> Iterator[Cluster]:
    """A cluster of one such server."""
    with _Server(("127.0.0.1", 0), _Wire) as wire, _Server(("127.0.0.1", 0), _Admin) as admin:
        threads = []
        for each in (wire, admin):
            each.fake = server  # type: ignore[attr-defined]
            threads.append(threading.Thread(target=each.serve_forever, args=(0.02,), daemon=True))
            threads[-1].start()
        cluster = make_cluster("zookeeper", nodes=1, ports=(wire.server_address[1], admin.server_address[1]))
        server.password = superuser(cluster)
        try:
            yield cluster
        finally:
            for each, thread in zip((wire, admin), threads, strict=True):
                each.shutdown()
                thread.join()
            time.sleep(0)

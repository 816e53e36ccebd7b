"""A Redis server and Sentinel on loopback, just large enough for the clients in haops."""

from __future__ import annotations

import contextlib
import fnmatch
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from haops.cluster.spec import Cluster, ClusterSpec, StoreName
from haops.stores.redis.topology import SERVICE, layout, sentinel_id

from .fakes import answering, make_cluster


@dataclass
class RedisState:
    """What a fake server says; change it at will while it runs."""

    role: str = "master"
    keys: dict[str, str] = field(default_factory=dict)
    refuse_writes: str | None = None
    cut_off_writes: bool = False
    info: str = ""
    masters: list[dict[str, str]] = field(default_factory=list)
    replicas: list[dict[str, str]] = field(default_factory=list)
    copies: int = 0
    on_disk: tuple[int, int] = (0, 0)
    config: dict[str, str] = field(default_factory=dict)
    calls: list[list[str]] = field(default_factory=list)

    def watch(self, address: str, port: int) -> None:
        """Be a Sentinel that takes this server for the primary."""
        self.masters = [
            {
                "name": "mymaster",
                "ip": address,
                "port": str(port),
                "flags": "master",
                "num-slaves": "0",
                "num-other-sentinels": "2",
                "quorum": "2",
                "config-epoch": "0",
            }
        ]


class _Refused(Exception):
    pass


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, ValueError):
            while line := self.rfile.readline():
                words = []
                for _ in range(int(line[1:])):
                    size = int(self.rfile.readline()[1:])
                    words.append(self.rfile.read(size + 2)[:-2].decode())
                state = self.server.state  # type: ignore[attr-defined]
                if isinstance(state, Member):
                    state.handle(self, words)
                    continue
                if state.cut_off_writes and words[0].upper() == "SET":
                    return
                try:
                    self.wfile.write(_encode(_answer(state, words)))
                except _Refused as refusal:
                    self.wfile.write(f"-{refusal}\r\n".encode())


def _answer(state: RedisState, words: list[str]) -> Any:  # noqa: C901 - one case a command
    name, args = words[0].upper(), words[1:]
    state.calls.append(words)
    match name:
        case "HELLO":
            return {b"server": b"redis", b"version": b"8.0.2", b"proto": 3, b"role": state.role.encode()}
        case "CLIENT" | "SELECT":
            return "OK"
        case "PING":
            return "PONG"
        case "INFO":
            return state.info.encode()
        case "ROLE":
            return [b"master", 10, []] if state.role == "master" else [b"slave", b"10.0.0.1", 6379]
        case "SENTINEL" if args[0].upper() == "MASTERS":
            return [{k.encode(): v.encode() for k, v in entry.items()} for entry in state.masters]
        case "SET":
            if state.refuse_writes:
                raise _Refused(state.refuse_writes)
            state.keys[args[0]] = args[1]
            return "OK"
        case "GET":
            value = state.keys.get(args[0])
            return value.encode() if value is not None else None
        case "WAIT":
            return state.copies
        case "WAITAOF":
            return list(state.on_disk)
        case "CONFIG" if args[0].upper() == "GET":
            return {k.encode(): v.encode() for k, v in state.config.items() if k in args[1:]}
        case "CONFIG":
            state.config |= dict(zip(args[1::2], args[2::2], strict=True))
            return "OK"
        case "SENTINEL" if args[0].upper() in ("SLAVES", "REPLICAS"):
            return [{k.encode(): v.encode() for k, v in entry.items()} for entry in state.replicas]
        case "DEL" | "UNLINK":
            return sum(state.keys.pop(key, None) is not None for key in args)
        case "SCAN":
            pattern = args[args.index("MATCH") + 1]
            return [b"0", [k.encode() for k in state.keys if fnmatch.fnmatch(k, pattern)]]
    raise _Refused(f"ERR unknown command '{name}'")


def _encode(value: Any) -> bytes:
    """RESP3, which redis-py speaks by default."""
    if value is None:
        return b"_\r\n"
    if isinstance(value, bool | int):
        return b":%d\r\n" % value
    if isinstance(value, str):
        return f"+{value}\r\n".encode()
    if isinstance(value, bytes):
        return b"$%d\r\n%s\r\n" % (len(value), value)
    if isinstance(value, dict):
        return b"%%%d\r\n" % len(value) + b"".join(_encode(part) for pair in value.items() for part in pair)
    return b"*%d\r\n" % len(value) + b"".join(_encode(item) for item in value)


def _encode2(value: Any) -> bytes:
    """RESP2: no maps, null is a bulk of length -1."""
    if value is None:
        return b"$-1\r\n"
    if isinstance(value, dict):
        return _encode2([part for pair in value.items() for part in pair])
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(_encode2(item) for item in value)
    return _encode(value)


Address = tuple[str, int]


class Member:
    """A server or Sentinel of a `FakeSet`; its container address is its name on the wire.

    `silent` reads and never answers, like a frozen process, and `swallowed` says that it has done so;
    `reset` answers with a RST; `refuse` has what is answered to commands that begin so. `before` is
    called before a command acts.
    `calls` are the commands that came, without those of connecting.
    """

    def __init__(self) -> None:
        self.address: Address = ("", 0)
        self.calls: list[tuple[str, ...]] = []
        self.silent = False
        self.swallowed = False
        self.reset = False
        self.refuse: dict[str, str] = {}
        self.before: Callable[[tuple[str, ...]], None] = lambda words: None
        self.lock = threading.RLock()

    def handle(self, handler: socketserver.StreamRequestHandler, words: Sequence[str]) -> None:
        """Answer one command, or do what a sick process does."""
        if words[0].upper() == "HELLO":
            handler.resp3 = True  # type: ignore[attr-defined]
        encode = _encode if getattr(handler, "resp3", False) else _encode2
        if self.reset:
            linger = struct.pack("ii", 1, 0)
            handler.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.request.close()
            raise ConnectionResetError
        try:
            with self.lock:
                if words[0].upper() not in ("HELLO", "CLIENT") or words[1].upper() in (
                    "PAUSE",
                    "UNPAUSE",
                    "KILL",
                ):
                    self.calls.append(tuple(words))
                    self.before(tuple(words))
                if self.silent:
                    self.swallowed = True
                    return
                for start, words_of_refusal in self.refuse.items():
                    if " ".join(words).upper().startswith(start):
                        raise _Refused(words_of_refusal)
                handler.wfile.write(encode(self.answer(list(words))))
        except _Refused as refusal:
            handler.wfile.write(f"-{refusal}\r\n".encode())

    def answer(self, words: list[str]) -> Any:
        """What the process says."""
        match [words[0].upper(), *words[1:2]]:
            case ["HELLO", _]:
                return {b"server": b"redis", b"version": b"8.0.2", b"proto": 3}
            case ["PING"]:
                return "PONG"
            case ["CLIENT" | "SELECT", _]:
                return "OK"
        raise _Refused(f"ERR unknown command '{words[0]}'")

    def said(self, start: str) -> list[tuple[str, ...]]:
        """The commands that came and begin so."""
        return [c for c in self.calls if " ".join(c).upper().startswith(start.upper())]


class FakeServer(Member):
    """A server with replication as far as offsets, ids and roles go; what it follows it has at once."""

    def __init__(self, group: FakeSet) -> None:
        super().__init__()
        self.group = group
        self.upstream: Address | None = None
        self.link_up = True
        self.history = "a" * 40
        self.second_history = "0" * 40
        self.second_offset = -1
        self.offset = 1000
        self.stuck = False
        self.full_copies = 0
        self.paused = False
        self.priority = 100
        self.config = {"min-replicas-to-write": "1"}

    @property
    def replicas(self) -> list[FakeServer]:
        """Those that follow it."""
        return [s for s in self.group.servers.values() if s.upstream == self.address]

    def write(self, size: int) -> None:
        """Bytes that a client wrote here."""
        self.offset += size
        for replica in self.replicas:
            if not replica.stuck:
                replica.write(self.offset - replica.offset)

    def follow(self, upstream: Address | None) -> None:
        """REPLICAOF."""
        if upstream is None:
            if self.upstream is not None:
                self.second_history, self.second_offset = self.history, self.offset + 1
                self.history = f"{self.group.next_history():040x}"
                self.upstream = None
            return
        self.upstream = upstream
        source = self.group.at(upstream)
        if source is None or source.silent:
            self.link_up = False
            return
        common = self.history == source.history or (
            self.history == source.second_history and self.offset < source.second_offset
        )
        if not common or self.offset > source.offset:
            source.full_copies += 1
        self.link_up, self.history, self.offset = True, source.history, source.offset
        for replica in self.replicas:
            replica.history, replica.offset = self.history, self.offset

    def answer(self, words: list[str]) -> Any:
        match [w.upper() for w in words]:
            case ["INFO", *sections]:
                return self.info(sections).encode()
            case ["REPLICAOF", "NO", "ONE"]:
                self.follow(None)
                return "OK"
            case ["REPLICAOF", address, port]:
                self.follow((address, int(port)))
                return "OK"
            case ["CLIENT", "PAUSE", *_]:
                self.paused = True
                return "OK"
            case ["CLIENT", "UNPAUSE"]:
                self.paused = False
                return "OK"
            case ["CLIENT", "KILL", *_]:
                return 1
            case ["CONFIG", "REWRITE"]:
                return "OK"
            case ["CONFIG", "GET", name]:
                return {words[2].encode(): self.config[name.lower()].encode()}
            case ["CONFIG", "SET", name, value]:
                self.config[name.lower()] = value
                return "OK"
        return super().answer(words)

    def info(self, sections: Sequence[str]) -> str:
        """INFO's sections `server`, `stats` and `replication`."""
        if "STATS" in sections:
            return f"# Stats\r\nsync_full:{self.full_copies}\r\nsync_partial_ok:0\r\n"
        if "SERVER" in sections:
            return "# Server\r\nredis_version:8.0.2\r\n"
        lines = ["# Replication", f"role:{'slave' if self.upstream else 'master'}"]
        if self.upstream:
            link = "up" if self.link_up else "down"
            lines += [
                f"master_host:{self.upstream[0]}",
                f"master_port:{self.upstream[1]}",
                f"master_link_status:{link}",
                "master_last_io_seconds_ago:0",
                "master_sync_in_progress:0",
                f"slave_repl_offset:{self.offset}",
                f"slave_priority:{self.priority}",
            ]
        for number, replica in enumerate(self.replicas):
            lines.append(
                f"slave{number}:ip={replica.address[0]},port=6379,state=online,offset={replica.offset},lag=0"
            )
        lines += [
            f"master_replid:{self.history}",
            f"master_replid2:{self.second_history}",
            f"master_repl_offset:{self.offset}",
            f"second_repl_offset:{self.second_offset}",
        ]
        return "\r\n".join(lines) + "\r\n"


class FakeSentinel(Member):
    """A Sentinel's votes and hellos as in sentinel.c (sentinelVoteLeader, sentinelProcessHelloMessage)."""

    def __init__(self) -> None:
        super().__init__()
        self.id = ""
        self.others: dict[str, Address] = {}
        self.primary: Address = ("", 0)
        self.flags = "master"
        self.current_epoch = 0
        self.config_epoch = 0
        self.leader: str | None = None
        self.leader_epoch = 0
        self.heard: list[str] = []
        self.mistakes: list[str] = []

    def vote(self, run_id: str, epoch: int) -> None:
        """sentinelVoteLeader."""
        self.current_epoch = max(self.current_epoch, epoch)
        if self.leader_epoch < epoch and self.current_epoch <= epoch:
            self.leader, self.leader_epoch = run_id, self.current_epoch

    def hear(self, hello: str) -> None:
        """sentinelProcessHelloMessage; what a real one would choke on is a mistake."""
        self.heard.append(hello)
        fields = hello.split(",")
        if len(fields) != 8:
            self.mistakes.append(f"{len(fields)} fields: {hello}")
            return
        address, port, run_id, current, service, to, to_port, config = fields
        if service != SERVICE:
            self.mistakes.append(f"service {service}")
            return
        if run_id == self.id or self.others.get(run_id) != (address, int(port)):
            self.mistakes.append(f"it comes from {run_id} at {address}:{port}, which is no other Sentinel's")
            return
        self.current_epoch = max(self.current_epoch, int(current))
        if self.config_epoch < int(config):
            self.config_epoch, self.primary = int(config), (to, int(to_port))

    def answer(self, words: list[str]) -> Any:
        match [w.upper() for w in words]:
            case ["SENTINEL", "MASTER", _]:
                return self.master()
            case ["SENTINEL", "MASTERS"]:
                return [self.master()]
            case ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", _]:
                return [self.primary[0].encode(), str(self.primary[1]).encode()]
            case ["SENTINEL", "IS-MASTER-DOWN-BY-ADDR", address, port, epoch, _]:
                known = (address, int(port)) == self.primary
                if known and words[5] != "*":
                    self.vote(words[5], int(epoch))
                    return [0, (self.leader or "*").encode(), self.leader_epoch]
                return [0, b"*", 0]
            case ["PUBLISH", channel, _]:
                if channel.lower() != "__sentinel__:hello":
                    raise _Refused("ERR Only HELLO messages are accepted by Sentinel instances.")
                self.hear(words[2])
                return 1
        return super().answer(words)

    def master(self) -> dict[bytes, bytes]:
        """SENTINEL MASTER's fields, those that haops reads."""
        said = {
            "name": SERVICE,
            "ip": self.primary[0],
            "port": str(self.primary[1]),
            "flags": self.flags,
            "last-ping-sent": "0",
            "num-slaves": "2",
            "num-other-sentinels": str(len(self.others)),
            "quorum": "2",
            "config-epoch": str(self.config_epoch),
        }
        return {name.encode(): value.encode() for name, value in said.items()}


class FakeSet:
    """Servers and three Sentinels that know each other by container address, served on loopback."""

    def __init__(self, nodes: int) -> None:
        plans = layout(ClusterSpec("redis", StoreName.REDIS, nodes=nodes))
        self.servers = {p.name: FakeServer(self) for p in plans if p.name.startswith("redis")}
        self.sentinels = {p.name: FakeSentinel() for p in plans if p.name.startswith("sentinel")}
        self.members: dict[str, Member] = {**self.servers, **self.sentinels}
        self.cluster: Cluster = make_cluster(nodes=nodes)
        self._histories = 0xB0

    def settle_in(self, ports: Sequence[int]) -> None:
        """As `up` leaves a set: the first server is the primary."""
        self.cluster = make_cluster(nodes=len(self.servers), ports=ports, owner=self.cluster.owner)
        for node in self.cluster.nodes:
            self.members[node.name].address = (node.address, node.port)
        first = self.servers["redis-1"]
        for server in self.servers.values():
            server.upstream = None if server is first else first.address
        ids = {n.name: sentinel_id(self.cluster, n) for n in self.cluster.sentinels}
        for name, sentinel in self.sentinels.items():
            sentinel.id = ids[name]
            sentinel.primary = first.address
            sentinel.others = {ids[n]: s.address for n, s in self.sentinels.items() if n != name}

    def at(self, address: Address) -> FakeServer | None:
        """The server at a container address."""
        return next((s for s in self.servers.values() if s.address == address), None)

    def next_history(self) -> int:
        """A replication id that nobody had before."""
        self._histories += 1
        return self._histories

    @property
    def primaries(self) -> list[str]:
        """The servers that follow nobody."""
        return [name for name, s in self.servers.items() if s.upstream is None]

    @property
    def mistakes(self) -> list[str]:
        """What the Sentinels were told and could not have understood."""
        return [m for s in self.sentinels.values() for m in s.mistakes]

    def named(self) -> set[str | None]:
        """The servers to which the Sentinels send clients."""
        found = set()
        for sentinel in self.sentinels.values():
            server = self.at(sentinel.primary)
            found.add(next((n for n, s in self.servers.items() if s is server), None))
        return found


@contextlib.contextmanager
def serve_set(nodes: int = 3) -> Iterator[FakeSet]:
    """Run a fake set."""
    group = FakeSet(nodes)
    with contextlib.ExitStack() as stack:
        group.settle_in([stack.enter_context(serve(member)) for member in group.members.values()])
        yield group


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that vanish are part of the tests."""


@contextlib.contextmanager
def serve(state: RedisState | Member) -> Iterator[int]:
    """Run a fake; yields its port."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.state = state  # type: ignore[attr-defined]
        with answering(server) as port:
            yield port

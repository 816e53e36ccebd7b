"""A Redis server and Sentinel on loopback, just large enough for the clients in haops."""

from __future__ import annotations

import contextlib
import fnmatch
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class RedisState:
    """What a fake server says; change it at will while it runs."""

    role: str = "master"
    keys: dict[str, str] = field(default_factory=dict)
    refuse_writes: str | None = None
    cut_off_writes: bool = False
    info: str = ""
    masters: list[dict[str, str]] = field(default_factory=list)
    copies: int = 0

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
                state: RedisState = self.server.state  # type: ignore[attr-defined]
                if state.cut_off_writes and words[0].upper() == "SET":
                    return
                try:
                    self.wfile.write(_encode(_answer(state, words)))
                except _Refused as refusal:
                    self.wfile.write(f"-{refusal}\r\n".encode())


def _answer(state: RedisState, words: list[str]) -> Any:  # noqa: C901 - one case a command
    name, args = words[0].upper(), words[1:]
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


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that vanish are part of the tests."""


@contextlib.contextmanager
def serve(state: RedisState) -> Iterator[int]:
    """Run a fake; yields its port."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.state = state  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()

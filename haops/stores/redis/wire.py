"""A bare connection to a server: for commands by the thousand, and for streams that are no commands.

A client library makes an object of each command and each answer. That costs more than the
server's own work, where a restore sends 100,000 commands a second.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from typing import Any, Final

import hiredis

from haops.cluster.spec import Node
from haops.errors import HaopsError

_PIECE: Final = 256 * 1024


def pack(*words: bytes | str | int) -> bytes:
    """A command as the protocol has it (RESP arrays of bulk strings)."""
    out = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        out.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(out)


class Wire:
    """One socket to one node.

    Args:
        failure: What is raised where the server refuses, is silent for `timeout_s` seconds, or hangs up.
    """

    def __init__(self, node: Node, timeout_s: float, failure: type[HaopsError]) -> None:
        self.node = node
        self.received = 0
        self.sent = 0
        self.failure = failure
        self._reader = hiredis.Reader()
        try:
            self._socket = socket.create_connection((node.host, node.host_port), timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise failure("it cannot be reached", node=node.name, detail=str(error)) from error

    def send(self, data: bytes) -> None:
        """Bytes as they are."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self.failure(
                "the connection broke while sending", node=self.node.name, detail=str(error)
            ) from error
        self.sent += len(data)

    def read(self) -> bytes:
        """Whatever comes next; never empty. For streams: not to be mixed with `ask`."""
        try:
            data = self._socket.recv(_PIECE)
        except OSError as error:
            raise self.failure("it went silent", node=self.node.name, detail=str(error)) from error
        if not data:
            raise self.failure("it closed the connection", node=self.node.name)
        self.received += len(data)
        return data

    def answer(self) -> Any:
        """The next answer; a refusal is given back as hiredis' ReplyError, not raised."""
        while (found := self._reader.gets()) is False:
            self._reader.feed(self.read())
        return found

    def ask(self, *words: bytes | str | int) -> Any:
        """One command, one answer (bytes, numbers, lists). Raises `failure` with the server's words."""
        self.send(pack(*words))
        return self._good(self.answer(), str(words[0]))

    def ask_all(self, commands: Iterable[tuple[bytes | str | int, ...]]) -> list[Any]:
        """Many commands in one go; the first refusal is raised after all answers were read."""
        packed = [pack(*command) for command in commands]
        if not packed:
            return []
        self.send(b"".join(packed))
        answers = [self.answer() for _ in packed]
        return [self._good(answer, "a command") for answer in answers]

    def refusal(self, count: int) -> str:
        """Read the answers to `count` commands that were sent: the first refusal, or nothing."""
        refused = ""
        for _ in range(count):
            answer = self.answer()
            if isinstance(answer, hiredis.ReplyError) and not refused:
                refused = str(answer)
        return refused

    def carry_out(self, commands: Sequence[bytes]) -> None:
        """Send packed commands and read their answers. Raises `failure` with the first refusal."""
        self.send(b"".join(commands))
        if refused := self.refusal(len(commands)):
            raise self.failure("it refused a command", node=self.node.name, detail=refused)

    def _good(self, answer: Any, what: str) -> Any:
        if isinstance(answer, hiredis.ReplyError):
            raise self.failure(f"it refused {what}", node=self.node.name, detail=str(answer))
        return answer

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def info(wire: Wire, section: str) -> dict[str, str]:
    """A section of INFO, names and values as the server prints them."""
    text = wire.ask("INFO", section).decode(errors="replace")
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def setting(wire: Wire, name: str) -> str:
    """CONFIG GET of one setting; empty where the server has no such setting."""
    found = wire.ask("CONFIG", "GET", name)
    return found[1].decode(errors="replace") if found else ""

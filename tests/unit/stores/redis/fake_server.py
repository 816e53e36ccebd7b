"""A Redis of a few lines, for what restore and its loans ask: each answer is what the test says."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import hiredis

from haops.cluster.spec import Cluster, Node

Words = list[str]


def encoded(answer: Any) -> bytes:
    """An answer as the protocol has it; an exception is a refusal."""
    if isinstance(answer, Exception):
        return b"-%b\r\n" % str(answer).encode()
    if isinstance(answer, int):
        return b":%d\r\n" % answer
    if isinstance(answer, (list, tuple)):
        return b"*%d\r\n" % len(answer) + b"".join(encoded(part) for part in answer)
    data = str(answer).encode()
    return b"$%d\r\n%b\r\n" % (len(data), data)


@dataclass
class FakeServer:
    """Answers OK to what it does not know.

    Args:
        says: The first word of a command, in capitals, and what it answers to it.
        info: What INFO tells, whatever the section.
        settings: What CONFIG GET and SET work on.
    """

    says: dict[str, Callable[[Words], Any]] = field(default_factory=dict)
    info: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    heard: list[Words] = field(default_factory=list)

    def answer(self, words: Words) -> Any:
        self.heard.append(words)
        name = words[0].upper()
        if name in self.says:
            return self.says[name](words)
        if name == "INFO":
            return "".join(f"{k}:{v}\r\n" for k, v in self.info.items())
        if name == "CONFIG" and words[1] == "GET":
            return [words[2], self.settings[words[2]]] if words[2] in self.settings else []
        if name == "CONFIG":
            self.settings[words[2]] = words[3]
        return "OK"

    def told(self, *start: str) -> list[Words]:
        """The commands that begin so."""
        return [words for words in self.heard if words[: len(start)] == list(start)]

    def serve(self, link: socket.socket) -> None:
        reader = hiredis.Reader()
        with link, contextlib.suppress(OSError):
            while data := link.recv(65536):
                reader.feed(data)
                while (found := reader.gets()) is not False:
                    words = [bytes(word).decode(errors="replace") for word in found]
                    link.sendall(encoded(self.answer(words)))


@contextmanager
def listening(server: FakeServer) -> Iterator[int]:
    """Its port, while it can be reached."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = listener.accept()
                threading.Thread(target=server.serve, args=(link,), daemon=True).start()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


@contextmanager
def cluster_of(cluster: Cluster, servers: dict[str, FakeServer]) -> Iterator[Cluster]:
    """A cluster some of whose nodes answer."""
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(listening(server)) for name, server in servers.items()}
        nodes: list[Node] = [
            replace(n, host_port=ports[n.name]) if n.name in ports else n for n in cluster.nodes
        ]
        yield replace(cluster, nodes=tuple(nodes))

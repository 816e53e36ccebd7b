"""A ZooKeeper server's four-letter words on loopback, and what real servers answer to them."""

from __future__ import annotations

import contextlib
import socketserver
from collections.abc import Iterator, Mapping

from .fakes import answering

NOT_SERVING = "This ZooKeeper instance is not currently serving requests\n"


def srvr(mode: str = "follower", zxid: int = 0x100000002) -> str:
    """`srvr` of ZooKeeper 3.9."""
    return (
        "Zookeeper version: 3.9.5-f5b3b8a, built on 2025-01-01 00:00 UTC\n"
        "Latency min/avg/max: 0/0.5/12\nReceived: 120\nSent: 119\nConnections: 3\nOutstanding: 0\n"
        f"Zxid: 0x{zxid:x}\nMode: {mode}\nNode count: 7\n"
    )


def mntr(state: str = "follower", synced: int | None = None) -> str:
    """`mntr` of ZooKeeper 3.9, shortened."""
    lines = [
        "zk_version\t3.9.5-f5b3b8a, built on 2025-01-01 00:00 UTC",
        f"zk_server_state\t{state}",
        "zk_peer_state\t" + ("leading - broadcast" if state == "leader" else "following - broadcast"),
        "zk_num_alive_connections\t3",
        "zk_outstanding_requests\t0",
        "zk_znode_count\t7",
        "zk_avg_latency\t0.5",
    ]
    if synced is not None:
        lines += [f"zk_learners\t{synced}", f"zk_synced_followers\t{synced}"]
    return "\n".join(lines) + "\n"


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        word = self.request.recv(4).decode()
        answers: Mapping[str, str] = self.server.answers  # type: ignore[attr-defined]
        self.request.sendall(answers.get(word, "").encode())


@contextlib.contextmanager
def serve(answers: Mapping[str, str]) -> Iterator[int]:
    """Answer words as told; yields the port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        server.answers = answers  # type: ignore[attr-defined]
        with answering(server) as port:
            yield port

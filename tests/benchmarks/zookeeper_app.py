"""An application of ZooKeeper's: kazoo as it comes, a host string of all servers, short writes in a loop."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError

from haops.cluster.spec import Cluster

_PAUSE_S = 0.002
_ANSWER_S = 30.0


def hosts(cluster: Cluster) -> str:
    return ",".join(f"{n.host}:{n.host_port}" for n in cluster.servers)


@dataclass
class Writer:
    """One client with a session of its own; what it saw acknowledged, and when (seconds of wall clock)."""

    client: KazooClient
    parent: str
    at: list[float] = field(default_factory=list)
    acked: list[str] = field(default_factory=list)
    unknown: int = 0
    attempts: int = 0

    def write(self) -> None:
        self.attempts += 1
        name = f"n{self.attempts}"
        try:
            self.client.create(f"{self.parent}/{name}", b"x" * 32)
        except (KazooException, KazooTimeoutError):
            self.unknown += 1
        else:
            self.at.append(time.time())
            self.acked.append(name)
        time.sleep(_PAUSE_S)


class Application:
    """Writers in the background; at the end every acknowledged write is looked for and all are removed."""

    def __init__(self, cluster: Cluster, clients: int = 3) -> None:
        self._cluster = cluster
        self._root = f"/app-{time.time_ns()}"
        self._stop = threading.Event()
        self.writers = [
            Writer(KazooClient(hosts=hosts(cluster)), f"{self._root}/{number}") for number in range(clients)
        ]
        self._threads = [
            threading.Thread(target=self._run, args=(w,), daemon=True, name=w.parent) for w in self.writers
        ]
        self.lost: list[str] = []

    def __enter__(self) -> Application:
        for writer in self.writers:
            writer.client.start(timeout=_ANSWER_S)
            writer.client.ensure_path(writer.parent)
        for thread in self._threads:
            thread.start()
        time.sleep(1.0)
        return self

    def _run(self, writer: Writer) -> None:
        while not self._stop.is_set():
            writer.write()

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=_ANSWER_S)
        try:
            if kind is None:
                assert not any(t.is_alive() for t in self._threads), "a client hangs"
                self._read_back()
        finally:
            for writer in self.writers:
                writer.client.stop()
                writer.client.close()

    def _read_back(self) -> None:
        """A client of its own looks: what counts is what the servers have."""
        client = KazooClient(hosts=hosts(self._cluster))
        client.start(timeout=_ANSWER_S)
        try:
            for writer in self.writers:
                client.sync(writer.parent)
                there = client.get_children(writer.parent)
                self.lost += sorted(set(writer.acked) - set(there))
                for request in [client.delete_async(f"{writer.parent}/{name}") for name in there]:
                    request.get(timeout=_ANSWER_S)
                client.delete(writer.parent)
            client.delete(self._root)
        finally:
            client.stop()
            client.close()

    @property
    def acked(self) -> int:
        return sum(len(w.acked) for w in self.writers)

    def goes_on(self, within_s: float = 20) -> None:
        """Every client has a write acknowledged after now."""
        since, end = time.time(), time.monotonic() + within_s
        while not all(w.at and w.at[-1] > since for w in self.writers):
            assert time.monotonic() < end, "a client cannot write"
            time.sleep(0.02)

    def service_gap_ms(self, begin: float, end: float) -> float:
        """The longest time without an acknowledged write of any client that began in [begin, end)."""
        return longest_gap_ms([t for w in self.writers for t in w.at], begin, end)

    def client_gap_ms(self, begin: float, end: float) -> float:
        """The same for the client that was worst off."""
        return max(longest_gap_ms(w.at, begin, end) for w in self.writers)


def longest_gap_ms(times: list[float], begin: float, end: float) -> float:
    """The longest of the gaps that begin in [begin, end); so no gap counts in two spans."""
    ordered = sorted(times)
    gaps = [b - a for a, b in pairwise(ordered) if begin <= a < end]
    return max(gaps, default=0.0) * 1000

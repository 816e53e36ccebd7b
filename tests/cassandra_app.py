"""An application's load on Cassandra: the driver as its users set it up, 500 requests/s, every error counted.

Unlike a drill's load it retries as the driver does by itself: a request counts as
failed when the driver raises to the application. It is open loop: a request is sent
when it is due, whatever became of the ones before, and its latency counts from then.
"""

from __future__ import annotations

import contextlib
import copy
import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Self

import numpy as np

from haops.cluster.spec import Cluster

TABLE = "haops.app"
RATE = 500
_PROCESSES = 2
PARTITIONS = 200
# The application gives a request the driver's own default of 10 s; nothing may be out longer.
_SETTLE_S = 12.0


@dataclass(slots=True)
class Requests:
    """What became of the requests: times in seconds of CLOCK_MONOTONIC, one entry a request.

    Args:
        due: When it was to be sent.
        sent: When it was.
        done: When the driver answered.
        errors: What was raised, with the moment.
        acked: The numbers of the rows whose write was acknowledged.
    """

    due: list[float] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    done: list[float] = field(default_factory=list)
    errors: list[tuple[float, str]] = field(default_factory=list)
    acked: list[int] = field(default_factory=list)

    def add(self, due: float, sent: float, error: str | None, written: int | None) -> None:
        """Take one request in that has just ended."""
        done = time.monotonic()
        self.due.append(due)
        self.sent.append(sent)
        self.done.append(done)
        if error:
            self.errors.append((done, error))
        elif written is not None:
            self.acked.append(written)

    def merge(self, other: Requests) -> None:
        """Take another process's requests in."""
        self.due += other.due
        self.sent += other.sent
        self.done += other.done
        self.errors += other.errors
        self.acked += other.acked

    @property
    def failed(self) -> int:
        """Requests for which the driver raised to the application."""
        return len(self.errors)

    def p99_ms(self, begin: float, end: float) -> float:
        """Latency from the due time on, of the requests due between two moments."""
        due, done = np.array(self.due), np.array(self.done)
        chosen = (due >= begin) & (due <= end)
        return float(np.percentile(done[chosen] - due[chosen], 99) * 1000)

    def longest_gap_ms(self, begin: float, end: float) -> float:
        """The longest time without a request that ended well."""
        bad = {at for at, _ in self.errors}
        good = np.sort([t for t in self.done if begin <= t <= end and t not in bad])
        return float(np.diff(good).max() * 1000)

    def lag_p99_ms(self) -> float:
        """How late requests were sent: the harness's own fault."""
        return float(np.percentile(np.array(self.sent) - np.array(self.due), 99) * 1000)

    def kinds(self) -> str:
        """The errors by class."""
        return ", ".join(f"{n} {kind}" for kind, n in Counter(k for _, k in self.errors).most_common())


class Application:
    """Two processes with one driver session each; a context manager around the load."""

    def __init__(self, cluster: Cluster, rate: int = RATE, retry_policy: str = "RetryPolicy") -> None:
        self._cluster = cluster
        self._rate = rate
        self._retry_policy = retry_policy
        self._context = multiprocessing.get_context("spawn")
        self._ends: list[Connection] = []
        self._processes: list[Any] = []
        self._requests: Requests | None = None

    def __enter__(self) -> Self:
        make_table(self._cluster)
        points = [(n.host, n.host_port) for n in self._cluster.servers]
        for number in range(_PROCESSES):
            ours, theirs = self._context.Pipe()
            share = self._rate / _PROCESSES
            about = (theirs, points, share, number, self._retry_policy)
            process = self._context.Process(target=_run, args=about, daemon=True)
            process.start()
            self._ends.append(ours)
            self._processes.append(process)
        for end in self._ends:
            assert end.poll(60), "the application does not connect"
            assert end.recv() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def so_far(self) -> Requests:
        """What came of the requests that are answered by now; the load goes on."""
        return self._collect("tell")

    def _collect(self, word: str) -> Requests:
        for end in self._ends:
            end.send(word)
        requests = Requests()
        for end in self._ends:
            assert end.poll(_SETTLE_S + 20), "the application does not answer"
            requests.merge(end.recv())
        return requests

    def finish(self) -> Requests:
        """Stop the load and collect what came of it; again gives the same."""
        if self._requests is None:
            self._requests = self._collect("stop")
            for process in self._processes:
                process.join(timeout=10)
        return self._requests


def application_session(points: Sequence[tuple[str, int]], retry_policy: str = "RetryPolicy") -> Any:
    """The driver with its own defaults, but for the data centre, the level and the protocol's version."""
    from cassandra import ConsistencyLevel, policies
    from cassandra.cluster import EXEC_PROFILE_DEFAULT, ExecutionProfile
    from cassandra.cluster import Cluster as Driver
    from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy

    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(local_dc="dc1")),
        consistency_level=ConsistencyLevel.QUORUM,
        retry_policy=getattr(policies, retry_policy)(),
    )
    driver = Driver(
        contact_points=list(points),
        protocol_version=5,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
    )
    return driver.connect(wait_for_all_pools=True)


def make_table(cluster: Cluster) -> None:
    """The application's table."""
    session = application_session([(n.host, n.host_port) for n in cluster.servers])
    try:
        session.execute(
            f"CREATE TABLE IF NOT EXISTS {TABLE} (part int, id bigint, text text, PRIMARY KEY (part, id))"
        )
    finally:
        session.cluster.shutdown()


def _run(
    pipe: Connection, points: Sequence[tuple[str, int]], rate: float, number: int, retry_policy: str
) -> None:
    # An application has processors of its own; here it shares two with servers that start.
    with contextlib.suppress(PermissionError):
        os.nice(-10)
    client = _Client(application_session(points, retry_policy), number)
    pipe.send("ready")
    begin, count = time.monotonic(), 0
    while True:
        if pipe.poll():
            if pipe.recv() == "stop":
                break
            pipe.send(client.requests())
        due = begin + count / rate
        if (ahead := due - time.monotonic()) > 0:
            time.sleep(ahead)
        client.issue(due, count)
        count += 1
    client.settle()
    pipe.send(client.requests())
    client.session.cluster.shutdown()


class _Client:
    """One process's session: every other request is a write, which the next one reads."""

    def __init__(self, session: Any, number: int) -> None:
        self.session = session
        self._number = number
        self._insert = session.prepare(f"INSERT INTO {TABLE} (part, id, text) VALUES (?, ?, ?)")
        self._select = session.prepare(f"SELECT text FROM {TABLE} WHERE part = ? AND id = ?")
        self._insert.is_idempotent = self._select.is_idempotent = True
        self._lock = threading.Lock()
        self._requests = Requests()
        self._open = 0

    def requests(self) -> Requests:
        """What was answered by now."""
        with self._lock:
            return copy.deepcopy(self._requests)

    def issue(self, due: float, count: int) -> None:
        """Send a request and do not wait for its answer."""
        row = self._number + _PROCESSES * (count // 2)
        write = count % 2 == 0
        sent = time.monotonic()

        def end(kind: str | None) -> None:
            with self._lock:
                self._open -= 1
                self._requests.add(due, sent, kind, row if write else None)

        with self._lock:
            self._open += 1
        about = (self._insert, (row % PARTITIONS, row, f"row {row}"))
        if not write:
            about = (self._select, (row % PARTITIONS, row))
        try:
            future = self.session.execute_async(*about)
        except Exception as error:
            end(type(error).__name__)
            return
        future.add_callbacks(lambda _: end(None), lambda error: end(type(error).__name__))

    def settle(self) -> None:
        """Wait for what is under way; what never gets an answer has failed."""
        until = time.monotonic() + _SETTLE_S
        while self._open and time.monotonic() < until:
            time.sleep(0.05)
        with self._lock:
            self._requests.errors += [(time.monotonic(), "no answer at all")] * self._open

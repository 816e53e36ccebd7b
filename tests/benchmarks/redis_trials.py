"""Trials on a Redis set under load: clients' outage, what was lost, whether two primaries took writes at once."""

from __future__ import annotations

import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from redis.exceptions import RedisError

from haops.checkers.elements import check_elements
from haops.cluster.spec import Cluster
from haops.drills.load import LoadGenerator, LoadPlan
from haops.history.record import History, Kind, Outcome
from haops.stores import load as load_store
from haops.stores.redis.connect import connect_node

RATE = 1000
CLIENTS = 4
CLIENT_TIMEOUT_S = 0.2


@dataclass(frozen=True, slots=True)
class Accepted:
    """A write that one server took from a writer aimed at it, whatever the Sentinels say."""

    node: str
    sent: int
    completed: int


@dataclass(slots=True)
class Report:
    """What a series of trials came to; times in ms."""

    name: str
    outages: list[float] = field(default_factory=list)
    agreed: list[float] = field(default_factory=list)
    acked: int = 0
    lost: int = 0
    unknown: int = 0
    double: int = 0
    full_copies: int = 0
    remarks: list[str] = field(default_factory=list)

    def row(self) -> str:
        """A line of a markdown table."""
        spread = np.percentile(self.outages, (50, 95, 100)) if self.outages else (float("nan"),) * 3
        agreed = f"{max(self.agreed):.0f}" if self.agreed else "-"
        return (
            f"| {self.name} | {len(self.outages)} | {spread[0]:.0f} | {spread[1]:.0f} | {spread[2]:.0f} "
            f"| {self.lost} of {self.acked:,} | {self.unknown} | {self.double} | {agreed} | {self.full_copies} |"
        )


HEAD = (
    "| | trials | outage median, ms | p95 | max | acknowledged writes lost | unknown "
    "| writes taken by two at once | Sentinels agreed after, max ms | full copies |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def _aim(cluster: Cluster, stop: Any, pipe: Any) -> None:
    """A process of writers, one a server: the application that does not ask a Sentinel."""
    taken: list[Accepted] = []
    parent = multiprocessing.parent_process()

    def write(node: Any) -> None:
        client = connect_node(node, 0.25)
        while not stop.value and parent and parent.is_alive():
            sent = time.monotonic_ns()
            with suppress(RedisError, OSError):
                client.set(f"aimed:{node.name}", sent)
                taken.append(Accepted(node.name, sent, time.monotonic_ns()))
            time.sleep(0.002)
        client.close()

    threads = [threading.Thread(target=write, args=(n,), daemon=True) for n in cluster.servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pipe.send(taken)


@contextmanager
def aimed_writers(cluster: Cluster) -> Iterator[list[Accepted]]:
    """Writers at every server; what was taken is in the list at the end."""
    context = multiprocessing.get_context("spawn")
    stop = context.RawValue("b", 0)
    ours, theirs = context.Pipe()
    process = context.Process(target=_aim, args=(cluster, stop, theirs), daemon=True)
    process.start()
    found: list[Accepted] = []
    try:
        yield found
    finally:
        stop.value = 1
        if ours.poll(10):
            found += ours.recv()
        process.join(timeout=5)


def taken_by_two(taken: Sequence[Accepted]) -> int:
    """Writes that a server certainly took after another one had taken over and before it was primary again.

    A server holds the role from its first success to its last one before a
    different server's; a success that was sent after another server's success had
    completed, and followed by another of that server, lies in the other's reign.
    """
    count = 0
    reign, since = "", 0
    for write in sorted(taken, key=lambda w: w.completed):
        if write.node == reign:
            if write.sent < since:
                continue
        elif write.sent > since:
            reign, since = write.node, write.completed
            count += 1
        # Sent before the new reign was seen: it may have been executed before it began.
    return count


def doubles(taken: Sequence[Accepted], moves: int) -> int:
    """Changes of reign beyond one a move: each is a server that took writes in another's reign."""
    return max(taken_by_two(taken) - 1 - moves, 0)


@contextmanager
def loaded(cluster: Cluster, run: str, first_key: int) -> Iterator[LoadGenerator]:
    """1,000 writes/s from 4 redis-py clients."""
    plan = LoadPlan(
        RATE, CLIENTS, processes=1, writes=1.0, timeout_s=CLIENT_TIMEOUT_S, first_key=first_key, seed=1
    )
    with LoadGenerator(cluster, run, plan) as load:
        time.sleep(max(load.start() - time.monotonic_ns(), 0) / 1e9 + 1.0)
        yield load


def longest_gap_ms(history: History, low: int, high: int) -> float:
    """The longest time between two successful writes of any client that touches [low, high] ns."""
    done = np.sort(history.of(Kind.WRITE, Outcome.OK).completed)
    first = max(int(np.searchsorted(done, low)) - 1, 0)
    last = min(int(np.searchsorted(done, high)) + 1, len(done))
    around = done[first:last]
    return float(np.diff(around).max() / 1e6) if len(around) > 1 else (high - low) / 1e6


def series(
    cluster: Cluster,
    report: Report,
    trials: int,
    act: Callable[[int], object],
    *,
    window_s: float,
    first_key: int,
    settled: Callable[[], bool],
) -> Report:
    """`trials` times: act under load, watch `window_s`, wait until settled."""
    run = f"bench-{report.name.replace(' ', '-')}-{first_key}"
    workload = load_store(cluster.store).workload(cluster, run, CLIENT_TIMEOUT_S)
    marks = []
    with aimed_writers(cluster) as taken, loaded(cluster, run, first_key) as load:
        for number in range(trials):
            began = time.monotonic_ns()
            act(number)
            while time.monotonic_ns() < began + window_s * 1e9:
                time.sleep(0.01)
            marks.append((began, time.monotonic_ns()))
            _await(settled)
            time.sleep(0.5)
        history = load.finish()
    _await(settled)
    elements = check_elements(history, workload.read_back(CLIENTS))
    workload.clean()
    report.outages += [longest_gap_ms(history, low, high) for low, high in marks]
    report.acked += elements.acked
    report.lost += len(elements.lost)
    report.unknown += elements.unknown
    report.double += doubles(taken, trials)
    return report


def _await(settled: Callable[[], bool], within_s: float = 60.0) -> None:
    end = time.monotonic() + within_s
    while not settled():
        if time.monotonic() > end:
            raise AssertionError(f"not settled after {within_s:g} s")
        time.sleep(0.1)


def median(values: Sequence[float]) -> float:
    """For the asserts."""
    return statistics.median(values)

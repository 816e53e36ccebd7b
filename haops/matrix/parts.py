"""What a mode costs on an idle, healthy cluster: single operations, visibility, throughput."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from haops.cluster.spec import Cluster
from haops.drills.load import LoadGenerator, LoadPlan
from haops.drills.measure import rate_between, spread
from haops.drills.result import Spread
from haops.errors import ClusterUnhealthy
from haops.matrix.cells import Parts
from haops.stores import load as load_store
from haops.stores.base import FIRST_ELEMENT, OperationFailed, OutcomeUnknown, Workload, WorkloadClient

_CLIENTS: Final = 8
_PROCESSES: Final = 2
_BURST_S: Final = 2.0
_SAMPLES: Final = 100
_SAMPLES_S: Final = 1.0
_CONNECTS: Final = 5
_SEEN_S: Final = 2.0


def measure_parts(cluster: Cluster, run: str, timeout_s: float, primary: str, bursts: int = 1) -> Parts:
    """Measure them; takes about five seconds and `bursts` times two more.

    Args:
        run: Under which nothing has been written yet.
        primary: The node that takes writes.

    Raises:
        ClusterUnhealthy: The cluster does not serve.
    """
    store = load_store(cluster.store)
    reading = replace(cluster, mode=store.modes.get(cluster.mode).elsewhere or cluster.mode)
    workload = store.workload(cluster, run, timeout_s)
    elsewhere = store.workload(reading, run, timeout_s)
    workload.prepare(_CLIENTS)
    try:
        throughput = tuple(_burst(cluster, run, timeout_s, number) for number in range(bursts))
        writer, reader = workload.client(0), elsewhere.client(1)
        try:
            writes, reads, visible = _operations(writer, reader)
        finally:
            writer.close()
            reader.close()
        connects = [_connect_ms(cluster, run, timeout_s) for _ in range(_CONNECTS)]
    except (OperationFailed, OutcomeUnknown) as error:
        raise ClusterUnhealthy(
            f"{cluster.name} does not serve while nothing is broken", detail=str(error)
        ) from error
    finally:
        workload.clean()
        workload.close()
        elsewhere.close()
    return Parts(
        throughput=throughput,
        clients=_CLIENTS,
        round_trip_ms=_round_trip(cluster, primary),
        single_write_ms=writes,
        single_read_ms=reads,
        visible_ms=visible,
        connect_ms=spread(connects),
    )


def _burst(cluster: Cluster, run: str, timeout_s: float, number: int) -> float:
    """Writes a second that clients reach without a schedule."""
    plan = LoadPlan(
        rate=0, clients=_CLIENTS, processes=_PROCESSES, writes=1.0, timeout_s=timeout_s,
        first_key=2_000_000 + number * 1_000_000, seed=number,
    )  # fmt: skip
    with LoadGenerator(cluster, run, plan) as load:
        start = load.start()
        warm = start + int(0.5e9)
        end = warm + int(_BURST_S * 1e9)
        time.sleep((end - time.monotonic_ns()) / 1e9)
        history = load.finish()
    return rate_between(history, warm, end)


def _operations(
    writer: WorkloadClient, reader: WorkloadClient
) -> tuple[Spread | None, Spread | None, Spread | None]:
    """A write alone, a read alone, and how long after the one another client's read sees it; ms."""
    writes: list[float | None] = []
    reads: list[float | None] = []
    visible: list[float | None] = []
    end = time.monotonic() + 3 * _SAMPLES_S
    for number in itertools.count(1):
        if number > _SAMPLES or time.monotonic() > end:
            break
        key = number * FIRST_ELEMENT
        try:
            writes.append(_timed(lambda key=key: writer.write(key, key)))  # type: ignore[misc]
        except OutcomeUnknown:  # one that was not confirmed in time is no figure
            continue
        acked = time.monotonic()
        while reader.read(key) is None and time.monotonic() - acked < _SEEN_S:
            pass
        visible.append((time.monotonic() - acked) * 1000)
        reads.append(_timed(lambda key=key: reader.read(key)))  # type: ignore[misc]
    # What is seen by the first read was there before it: that read's own time is not the copy's delay.
    alone = spread(reads)
    shortest = alone.median if alone else 0.0
    return spread(writes), alone, spread([max((v or 0.0) - shortest, 0.0) for v in visible])


def _timed(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return (time.monotonic() - began) * 1000


def _connect_ms(cluster: Cluster, run: str, timeout_s: float) -> float:
    """A client of its own, from nothing to its first answer."""
    workload: Workload = load_store(cluster.store).workload(cluster, run, timeout_s)
    began = time.monotonic()
    client = workload.client(2)
    try:
        client.read(FIRST_ELEMENT)
        return (time.monotonic() - began) * 1000
    finally:
        client.close()
        workload.close()


def _round_trip(cluster: Cluster, node: str) -> Spread | None:
    probe = load_store(cluster.store).probe(cluster.node(node))
    try:
        beats = [probe.probe(1.0) for _ in range(30)]
    finally:
        probe.close()
    return spread([(beat.known_ns - beat.sent_ns) / 1e6 for beat in beats])

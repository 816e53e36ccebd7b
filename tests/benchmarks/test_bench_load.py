"""Whether the load generator keeps its schedule, and says so when it does not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from bench_support import haops, tell

from haops.cluster.spec import Cluster
from haops.cluster.state import StateDir
from haops.drills.load import LoadGenerator, LoadPlan
from haops.drills.measure import harness_lag_ms, rate_between
from haops.stores.redis.connect import MappedSentinel

RATE = 2000
SECONDS = 10
LAG_MS = 5.0


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Cluster]]:
    state = tmp_path_factory.mktemp("load")
    haops(state, "up", "redis", "--ttl", "1h")
    yield state, StateDir(state).get("redis")
    haops(state, "down", "--all", "--volumes", check=False)


def _haops_load(cluster: Cluster, run: str) -> tuple[float, float]:
    plan = LoadPlan(RATE, clients=8, processes=2, writes=0.5, timeout_s=0.5, first_key=1, seed=1)
    with LoadGenerator(cluster, run, plan) as load:
        start = load.start()
        time.sleep(SECONDS + max(start - time.monotonic_ns(), 0) / 1e9)
        end = time.monotonic_ns()
        history = load.finish()
    settled = start + 1_000_000_000  # the first second meets cold connections
    inside = history.select(history.intended >= settled)
    return harness_lag_ms(inside), rate_between(history, settled, end)


def _plain_load(cluster: Cluster) -> tuple[float, float]:
    """What a script would do: one loop, one connection, sleep until the next is due."""
    client = MappedSentinel(cluster).master_for("mymaster")
    late = []
    start = time.monotonic()
    for i in range(RATE * SECONDS):
        due = start + i / RATE
        if (wait := due - time.monotonic()) > 0:
            time.sleep(wait)
        late.append((time.monotonic() - due) * 1000)
        client.set(f"plain:{i}", i)
    took = time.monotonic() - start
    client.close()
    return float(np.percentile(late, 99)), RATE * SECONDS / took


def test_2000_operations_a_second_with_p99_lag_below_5_ms(redis: tuple[Path, Cluster]) -> None:
    _, cluster = redis
    ours = [_haops_load(cluster, f"bench-{i}") for i in range(3)]
    plain = [_plain_load(cluster)]
    tell("open loop, 8 clients: operations/s", [rate for _, rate in ours], "/s", f"{RATE}")
    tell("open loop, 8 clients: p99 harness lag", [lag for lag, _ in ours], "ms", f"< {LAG_MS:g}")
    tell("plain loop, 1 client: operations/s", [rate for _, rate in plain], "/s")
    tell("plain loop, 1 client: p99 lateness", [lag for lag, _ in plain], "ms")
    assert np.median([lag for lag, _ in ours]) < LAG_MS
    assert np.median([rate for _, rate in ours]) > 0.99 * RATE


def test_a_rate_out_of_reach_is_said_to_be_so(redis: tuple[Path, Cluster]) -> None:
    state, _ = redis
    args = ("drill", "run", "kill-primary", "--store", "redis", "--rate", "60000", "-o", "json")
    done = haops(state, *args, check=False)
    result = json.loads(done.stdout)["stores"]["redis"]
    print(f"\n  at 60000/s: exit {done.returncode}, {result['reasons']}")
    assert done.returncode == 4

"""What keeping the history costs the load: the same closed loop, recorded and not, in pairs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bench_support import haops

from haops.cluster.spec import Cluster
from haops.cluster.state import StateDir
from haops.drills.load import LoadGenerator, LoadPlan

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

PAIRS = 10
WARM_S, LOAD_S = 0.5, 2.0
MOST = 0.10
PLAN = LoadPlan(
    rate=0, clients=8, processes=2, writes=0.5, timeout_s=0.5, first_key=1_000_000, seed=1, registers=0.2
)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    haops(tmp_path, "up", "redis", "--name", "recorded", "--ttl", "1h")
    yield StateDir(tmp_path).get("recorded")
    haops(tmp_path, "down", "--all", "--volumes", check=False)


def throughput(cluster: Cluster, plan: LoadPlan, run: str) -> float:
    """Operations a second; counted in shared memory, which both kinds of run do."""
    with LoadGenerator(cluster, run, plan) as load:
        start = load.start()
        time.sleep((start - time.monotonic_ns()) / 1e9 + WARM_S)
        before, began = load.progress().done, time.monotonic()
        time.sleep(LOAD_S)
        after, ended = load.progress().done, time.monotonic()
        load.finish()
    return (after - before) / (ended - began)


def test_recording_costs_less_than_a_tenth_of_the_throughput(cluster: Cluster) -> None:
    shares = []
    for number in range(PAIRS):
        found = {}
        # Who goes first takes turns: a machine that warms up or tires must not favour one.
        for recorded in (True, False) if number % 2 else (False, True):
            plan = replace(PLAN, recorded=recorded, first_key=PLAN.first_key * (2 * number + 1 + recorded))
            found[recorded] = throughput(cluster, plan, f"pair-{number}-{recorded}")
        shares.append(1 - found[True] / found[False])
        print(f"  not recorded {found[False]:8.0f}/s, recorded {found[True]:8.0f}/s: {shares[-1]:+.1%}")
    middle = statistics.median(shares)
    print(
        f"recording costs {middle:+.1%} in the median of {PAIRS} pairs ({min(shares):+.1%} to {max(shares):+.1%})"
    )
    assert middle < MOST

"""Planned moves of a Redis primary under load: haops beside `SENTINEL FAILOVER` and `FAILOVER TO`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from bench_support import haops
from redis_bench import Bench, docker
from redis_trials import HEAD, Report

from haops.cluster.state import StateDir
from haops.stores.redis.connect import connect_node
from haops.stores.redis.topology import SERVICE

TRIALS = int(os.environ.get("HAOPS_BENCH_TRIALS", "50"))
SPECIAL = max(TRIALS // 5, 2)
PLAIN = max(TRIALS // 5, 2)
WINDOW_S = 0.6


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    state = tmp_path_factory.mktemp("switchover")
    haops(state, "up", "redis", "--name", "sw", "--ttl", "2h")
    print("\n" + HEAD)
    yield Bench(state, StateDir(state).get("sw"))
    haops(state, "down", "--all", "--volumes", check=False)


def test_planned_switchover_loses_nothing_and_takes_30_ms(bench: Bench) -> None:
    report = Report("haops switchover")
    bench.run(report, TRIALS, lambda _: bench.switchover(report), window_s=WINDOW_S)
    assert report.lost == 0
    assert report.double == 0
    assert report.full_copies == 0
    assert np.median(report.outages) <= 30
    assert np.percentile(report.outages, 95) <= 100
    assert max(report.agreed) <= 1000


def test_with_a_sentinel_paused_during_it(bench: Bench) -> None:
    report = Report("one Sentinel paused")
    sentinel = bench.container("sentinel-2")

    def act(_: int) -> None:
        docker("pause", sentinel)
        try:
            bench.switchover(report)
            time.sleep(0.3)
        finally:
            docker("unpause", sentinel)

    bench.run(report, SPECIAL, act, window_s=1.5)
    assert (report.lost, report.double, report.full_copies) == (0, 0, 0)


def test_with_a_sentinel_restarted_from_its_old_file(bench: Bench) -> None:
    report = Report("one Sentinel killed, back with its old file")
    sentinel = bench.container("sentinel-3")

    def act(_: int) -> None:
        docker("kill", sentinel)
        try:
            bench.switchover(report)
        finally:
            docker("start", sentinel)

    bench.run(report, SPECIAL, act, window_s=1.5)
    assert (report.lost, report.double, report.full_copies) == (0, 0, 0)


def test_with_a_failover_of_the_sentinels_own_at_the_same_moment(bench: Bench) -> None:
    report = Report("SENTINEL FAILOVER at the same moment")

    def rival() -> None:
        with connect_node(bench.cluster.sentinels[0], 1.0) as client:
            client.execute_command("SENTINEL", "FAILOVER", SERVICE)

    def act(_: int) -> None:
        other = threading.Thread(target=rival)
        other.start()
        try:
            bench.switchover(report)
        except Exception as error:  # who was first is left to chance; nothing may be lost either way
            report.remarks.append(str(error))
        other.join()

    bench.run(report, SPECIAL, act, window_s=3.0)
    print("\n".join(report.remarks))
    assert report.lost == 0
    assert report.double == 0


def test_plain_sentinel_failover(bench: Bench) -> None:
    def act(_: int) -> None:
        with connect_node(bench.cluster.sentinels[0], 1.0) as client:
            client.execute_command("SENTINEL", "FAILOVER", SERVICE)

    bench.run(Report("plain: SENTINEL FAILOVER"), PLAIN, act, window_s=4.0)


def test_plain_failover_to(bench: Bench) -> None:
    """`FAILOVER TO`, and what an operator must do by hand afterwards."""

    def act(_: int) -> None:
        old = bench.primary()
        new, other = (n for n in bench.cluster.servers if n.name != old.name)
        with connect_node(old, 1.0) as client:
            client.execute_command("FAILOVER", "TO", new.address, new.port)
            while client.info("replication")["master_failover_state"] != "no-failover":
                time.sleep(0.01)
        with connect_node(other, 1.0) as client:
            client.execute_command("REPLICAOF", new.address, new.port)
        for sentinel in bench.cluster.sentinels:
            with connect_node(sentinel, 1.0) as client:
                client.execute_command("SENTINEL", "REMOVE", SERVICE)
                client.execute_command("SENTINEL", "MONITOR", SERVICE, new.address, new.port, 2)
                client.execute_command("SENTINEL", "SET", SERVICE, "down-after-milliseconds", 1000)

    bench.run(Report("plain: FAILOVER TO, then REMOVE and MONITOR"), PLAIN, act, window_s=2.0)

"""Comparison of two equal Redis servers with a million keys, beside digesting all values at the client."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator

import pytest
from bench_support import haops, tell, timed
from redis_fill import KEYS, VALUE, fill

from haops.cluster.spec import Cluster, Node, StoreName
from haops.cluster.state import StateDir
from haops.parallel import ask_all
from haops.runtime.docker import DockerRuntime
from haops.stores import load_comparing
from haops.stores.compare import Survey
from haops.stores.redis.connect import connect_node
from haops.stores.redis.digest import record
from haops.stores.redis.sides import CompareFailed, LiveSide
from haops.stores.redis.who import primary
from haops.stores.redis.wire import Wire

NAME = "cbench"
TRIALS = int(os.environ.get("HAOPS_BENCH_TRIALS", "3"))
COMPARING = load_comparing(StoreName.REDIS)
# Of a key such as `key:123456` with its value.
RECORD = VALUE + 9.9
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    state = tmp_path_factory.mktemp("redis-compare")
    haops(state, "up", "redis", "--name", NAME, "--ttl", "1h")
    yield StateDir(state).get(NAME)
    haops(state, "down", "--all", "--volumes", check=False)


def main_thread_s(node: Node) -> float:
    with connect_node(node, 5) as client:
        info = client.info("cpu")
        return float(info["used_cpu_user_main_thread"]) + float(info["used_cpu_sys_main_thread"])


def digest_here(node: Node) -> int:
    """The same digests made by the client of all values, 1000 in a round trip, as RedisFullCheck reads them."""
    wire = Wire(node, 60, CompareFailed)
    total, cursor = 0, b"0"
    while True:
        cursor, keys = wire.ask("SCAN", cursor, "COUNT", 1000)
        if keys:
            for key, value in zip(keys, wire.ask("MGET", *keys), strict=True):
                total += record(0, key, b"s", 0, value)
        if cursor == b"0":
            wire.close()
            return total


def test_equal_servers(cluster: Cluster) -> None:
    fill(primary(cluster, CompareFailed))
    took, moved, cpu, plain = [], [], [], []
    with COMPARING.replicas(cluster, DockerRuntime()) as sides:
        pair = sides[:2]
        measured = primary(cluster, CompareFailed)
        for _ in range(TRIALS):
            before, burnt = sum(side.moved for side in pair), main_thread_s(measured)
            surveys: list[Survey] = []
            took.append(timed(lambda both=surveys: both.extend(ask_all(LiveSide.survey, pair))))
            cpu.append((main_thread_s(measured) - burnt) / KEYS * 1e6)
            moved.append((sum(side.moved for side in pair) - before) / (2 * KEYS * RECORD) * 100)
            assert (surveys[0].sums == surveys[1].sums).all()
            nodes = [cluster.node(side.label) for side in pair]
            plain.append(timed(lambda nodes=nodes: ask_all(digest_here, nodes)))
    rates = [KEYS / each / 1000 for each in took]
    tell("compare two servers, equal", rates, "k/s", ">= 300 k/s")
    tell("  bytes moved, of all bytes", moved, "%", "<= 2 %")
    tell("  a server's own time", cpu, "us/key")
    tell("all values of both read, digested by the client", [KEYS / each / 1000 for each in plain], "k/s")
    assert statistics.median(moved) <= 2
    assert statistics.median(rates) > statistics.median(KEYS / each / 1000 for each in plain)

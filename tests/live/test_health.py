"""What `haops health` says of real servers: healthy, frozen, and answering with the wrong data."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from live_helpers import Haops, container, docker

from haops.cluster.spec import Cluster, Node
from haops.cluster.state import StateDir
from haops.stores.redis.connect import connect_node

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

_KEYS = {f"health:{n}": f"value {n}" for n in range(8)}


def health(haops: Haops, name: str, *args: str, check: int) -> Mapping[str, Any]:
    done = haops.run("health", name, "-o", "json", *args, check=check)
    return json.loads(done.stdout)["health"]  # type: ignore[no-any-return]


@pytest.fixture
def redis(haops: Haops, trio: Mapping[str, str]) -> Cluster:
    haops.await_verdict(trio["redis"], "healthy")
    return StateDir(haops.state).get(trio["redis"])


def server(haops: Haops, cluster: Cluster, role: str) -> Node:
    name = next(n["name"] for n in haops.status(cluster.name)["nodes"] if n["role"] == role)
    return cluster.node(name)


@pytest.mark.parametrize("store", ["redis", "zookeeper", "cassandra"])
def test_a_healthy_cluster_is_not_suspected(
    haops: Haops, trio: Mapping[str, str], store: str, tmp_path: Path
) -> None:
    haops.await_verdict(trio[store], "healthy")
    seen = health(haops, trio[store], "--for", "4s", "--record", str(tmp_path), check=0)
    assert seen["healthy"] is True
    assert all(n["answered"] > 0 and not n["suspected"] for n in seen["nodes"])
    assert len(seen["copies"]["nodes"]) == 3
    traces = sorted(tmp_path.iterdir())
    assert len(traces) == len(seen["nodes"])
    assert "too short to prove" in haops.run("health", "advise", str(traces[0])).stdout


def test_a_frozen_replica_is_named(haops: Haops, redis: Cluster, owner: str) -> None:
    frozen = server(haops, redis, "replica")
    box = container(redis.name, frozen.name, owner)
    docker("pause", box)
    try:
        seen = health(haops, redis.name, "--for", "3s", check=5)
    finally:
        docker("unpause", box)
    assert [n["name"] for n in seen["nodes"] if n["suspected"]] == [frozen.name]
    (node,) = (n for n in seen["nodes"] if n["suspected"])
    assert node["silent"] > 0
    assert all(d["suspects"] for d in node["detectors"])
    haops.await_verdict(redis.name, "healthy")


@pytest.fixture
def other_data(haops: Haops, redis: Cluster) -> Iterator[Node]:
    """A replica that has another value at one key than its primary, at the same offset."""
    primary = server(haops, redis, "primary")
    replica = server(haops, redis, "replica")
    with connect_node(primary, 2) as source, connect_node(replica, 2) as copy:
        source.mset(_KEYS)
        source.wait(2, 2000)
        copy.config_set("replica-read-only", "no")
        try:
            copy.set("health:3", "something else")
        finally:
            copy.config_set("replica-read-only", "yes")
        yield replica
        source.delete(*_KEYS)  # replicas follow, whatever they had there
        source.wait(2, 2000)


def test_a_copy_that_answers_with_other_data_is_named(haops: Haops, redis: Cluster, other_data: Node) -> None:
    seen = health(haops, redis.name, "--for", "5s", check=5)
    assert not any(n["suspected"] for n in seen["nodes"])
    assert seen["copies"]["agree"] is False
    assert [d["node"] for d in seen["copies"]["deviating"]] == [other_data.name]
    assert "its data at" in seen["copies"]["why"]


def test_and_is_in_order_again_afterwards(haops: Haops, redis: Cluster) -> None:
    time.sleep(0.2)
    assert health(haops, redis.name, "--for", "4s", check=0)["copies"]["agree"] is True

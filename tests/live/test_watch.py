"""`haops watch` on real servers: what changes is told, with its reason."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping

import pytest
from live_helpers import Haops, container, docker, end_process

from haops.cluster.state import StateDir
from haops.stores.redis.connect import connect_node

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]


def test_a_frozen_replica_is_told_and_ctrl_c_ends_with_5(
    haops: Haops, trio: Mapping[str, str], owner: str
) -> None:
    name = trio["redis"]
    haops.await_verdict(name, "healthy")
    victim = next(n["name"] for n in haops.status(name)["nodes"] if n["role"] == "replica")
    handle = container(name, victim, owner)
    watching = haops.start("watch", name, "-o", "json", "--interval", "200ms")
    assert watching.stdout
    first = json.loads(watching.stdout.readline())
    assert first["event"] == "snapshot" and first["clusters"][0]["name"] == name
    docker("pause", handle)
    try:
        told = []
        while not any(line["kind"] == "verdict" for line in told):  # the test's time-out bounds it
            told.append(json.loads(watching.stdout.readline()))
        _, err = end_process(watching, signal.SIGINT)
    finally:
        docker("unpause", handle)
    assert watching.returncode == 5, err
    assert ("state", "paused", victim) in {(line["kind"], line["what"], line["node"]) for line in told}
    assert told[-1]["what"] == "degraded"
    haops.await_verdict(name, "healthy", within_s=30)


def test_until_ends_the_watch_when_it_has_come(haops: Haops, trio: Mapping[str, str]) -> None:
    haops.run("watch", trio["zookeeper"], "--until", "healthy", "--timeout", "30s")
    haops.run("watch", trio["zookeeper"], "--until", "down", "--timeout", "1s", check=5)


def test_split_brain_on_real_servers_is_named_at_once(haops: Haops, trio: Mapping[str, str]) -> None:
    name = trio["redis"]
    haops.await_verdict(name, "healthy")
    cluster = StateDir(haops.state).get(name)
    nodes = {n["name"]: n for n in haops.status(name)["nodes"]}
    primary = cluster.node(next(n for n, v in nodes.items() if v["role"] == "primary"))
    replica = cluster.node(next(n for n, v in nodes.items() if v["role"] == "replica"))
    with connect_node(replica, 1.0) as client:
        client.execute_command("REPLICAOF", "NO", "ONE")
        try:
            seen = haops.status(name, check=5)
        finally:
            client.execute_command("REPLICAOF", primary.address, primary.port)
    kinds = {f["kind"] for f in seen["findings"]}
    assert "split-brain" in kinds
    assert any(f"{primary.name}" in r and f"{replica.name}" in r for r in seen["reasons"])
    haops.await_verdict(name, "healthy", within_s=30)

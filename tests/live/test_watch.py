"""`haops watch` on real servers: what changes is told, with its reason."""

from __future__ import annotations

import json
import shutil
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

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
    haops.run("watch", name, "--until", "healthy", "--timeout", "30s")


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


@contextmanager
def lost_from_here(haops: Haops, folder: Path, cluster: str, *nodes: str) -> Iterator[Haops]:
    """The same clusters for an observer whose way to some nodes is cut: their ports take and never answer."""
    shutil.copytree(haops.state, folder)
    state = StateDir(folder)
    record = state.get(cluster)
    with ExitStack() as stack:

        def silent() -> int:
            return int(stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1])

        moved = tuple(replace(n, host_port=silent()) if n.name in nodes else n for n in record.nodes)
        state.save(replace(record, nodes=moved))
        yield Haops(folder)


@pytest.mark.parametrize(("store", "role"), [("redis", "primary"), ("zookeeper", "leader")])
def test_a_primary_that_only_its_sisters_reach_is_partitioned_not_down(
    haops: Haops, trio: Mapping[str, str], tmp_path: Path, store: str, role: str
) -> None:
    name = trio[store]
    whole = haops.await_verdict(name, "healthy")
    (lost,) = (n["name"] for n in whole["nodes"] if n["role"] == role)
    with lost_from_here(haops, tmp_path / "state", name, lost) as cut_off:
        seen = cut_off.status(name, check=5)
    assert seen["verdict"] == "degraded"
    states = {n["name"]: n["state"] for n in seen["nodes"]}
    assert states.pop(lost) == "partitioned"
    assert set(states.values()) == {"up"}
    witnesses = [n["name"] for n in whole["nodes"] if n["role"] in ("replica", "follower")]
    (reason,) = [f["text"] for f in seen["findings"] if f["kind"] == "partition" and f["node"] == lost]
    assert all(witness in reason for witness in witnesses)
    haops.await_verdict(name, "healthy")


@pytest.mark.parametrize("store", ["redis", "zookeeper", "cassandra"])
def test_who_reaches_nobody_does_not_know(
    haops: Haops, trio: Mapping[str, str], tmp_path: Path, store: str
) -> None:
    name = trio[store]
    nodes = [n["name"] for n in haops.await_verdict(name, "healthy")["nodes"]]
    with lost_from_here(haops, tmp_path / "state", name, *nodes) as cut_off:
        assert cut_off.status(name, check=5)["verdict"] == "unknown"

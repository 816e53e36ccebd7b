"""Clusters on a real engine: they serve native clients, stand side by side, and end without a trace."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Mapping

import pytest
from cassandra.cluster import Cluster as CassandraDriver
from kazoo.client import KazooClient
from live_helpers import Haops, container, docker, end_process, labelled
from redis import Redis
from redis.sentinel import Sentinel

from haops.cluster.state import StateDir
from haops.stores.redis.connect import MappedSentinel

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

NODE_KEYS = {"name", "role", "state", "why", "host", "port", "lag", "ownership", "version", "detail"} | {
    "position",
    "priority",
    "zone",
    "follows",
}


def test_three_stores_come_up_healthy_and_status_tells_every_node(
    haops: Haops, trio: Mapping[str, str]
) -> None:
    clusters = {name: haops.status(name, check=0) for name in trio.values()}
    assert {c["verdict"] for c in clusters.values()} == {"healthy"}
    roles = {store: sorted(n["role"] for n in clusters[name]["nodes"]) for store, name in trio.items()}
    assert roles["redis"] == ["primary", "replica", "replica", "sentinel", "sentinel", "sentinel"]
    assert roles["zookeeper"] == ["follower", "follower", "leader"]
    assert roles["cassandra"] == ["member"] * 3
    for cluster in clusters.values():
        assert all(set(n) == NODE_KEYS and n["host"] == "127.0.0.1" for n in cluster["nodes"])


def test_a_plain_redis_client_writes_at_the_address_that_status_shows(
    haops: Haops, trio: Mapping[str, str]
) -> None:
    nodes = haops.status(trio["redis"])["nodes"]
    primary = next(n for n in nodes if n["role"] == "primary")
    with Redis(host=primary["host"], port=primary["port"], decode_responses=True) as client:
        client.set("live:key", "value")
        assert client.wait(2, 2000) == 2
    for replica in (n for n in nodes if n["role"] == "replica"):
        with Redis(host=replica["host"], port=replica["port"], decode_responses=True) as client:
            assert client.get("live:key") == "value"


def test_redis_sentinel_client_reaches_the_primary_through_the_address_map(
    haops: Haops, trio: Mapping[str, str]
) -> None:
    cluster = StateDir(haops.state).get(trio["redis"])
    sentinel = MappedSentinel(cluster)
    assert isinstance(sentinel, Sentinel)
    host, _ = sentinel.discover_master("mymaster")
    assert host == "127.0.0.1"
    with sentinel.master_for("mymaster", decode_responses=True) as primary:
        primary.set("live:mapped", "yes")
        assert primary.get("live:mapped") == "yes"
    assert len(sentinel.discover_slaves("mymaster")) == 2


def test_plain_kazoo_writes_at_one_server_and_reads_at_another(haops: Haops, trio: Mapping[str, str]) -> None:
    first, second, _ = haops.status(trio["zookeeper"])["nodes"]
    writer = KazooClient(hosts=f"{first['host']}:{first['port']}", timeout=5)
    reader = KazooClient(hosts=f"{second['host']}:{second['port']}", timeout=5)
    try:
        writer.start(timeout=10)
        reader.start(timeout=10)
        writer.create("/live-test", b"value", makepath=True)
        reader.sync("/live-test")
        assert reader.get("/live-test")[0] == b"value"
        writer.delete("/live-test")
    finally:
        for client in (writer, reader):
            client.stop()
            client.close()


def test_a_plain_cassandra_driver_finds_the_whole_ring_on_loopback(
    haops: Haops, trio: Mapping[str, str]
) -> None:
    nodes = haops.status(trio["cassandra"])["nodes"]
    driver = CassandraDriver([(nodes[0]["host"], nodes[0]["port"])], protocol_version=5)
    try:
        session = driver.connect()
        found = {(h.endpoint.address, h.endpoint.port) for h in driver.metadata.all_hosts()}
        assert found == {(n["host"], n["port"]) for n in nodes}
        (row,) = session.execute(
            "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = 'haops'"
        )
        assert row.replication["dc1"] == "3"
    finally:
        driver.shutdown()


def test_every_published_port_is_bound_to_loopback_only(owner: str, trio: Mapping[str, str]) -> None:
    ids = labelled(owner)["containers"]
    bindings = docker("inspect", "--format", "{{json .HostConfig.PortBindings}}", *ids)
    hosts = {b["HostIp"] for line in bindings.splitlines() for bs in json.loads(line).values() for b in bs}
    assert hosts == {"127.0.0.1"}


def test_a_second_up_changes_nothing(haops: Haops, owner: str, trio: Mapping[str, str]) -> None:
    before = labelled(owner, trio["zookeeper"])
    haops.run("up", "zookeeper", "--name", trio["zookeeper"])
    assert labelled(owner, trio["zookeeper"]) == before


def test_a_second_cluster_of_a_store_stands_beside_the_first_and_goes_without_a_trace(
    haops: Haops, owner: str, trio: Mapping[str, str]
) -> None:
    haops.run("up", "redis", "--name", "second", "--nodes", "1", "--ttl", "1h")
    try:
        listed = json.loads(haops.run("ls", "-o", "json").stdout)["clusters"]
        ports = [n["port"] for c in listed for n in c["nodes"]]
        assert {"second", trio["redis"]} <= {c["name"] for c in listed}
        assert len(ports) == len(set(ports))
        assert haops.status(trio["redis"])["verdict"] == "healthy"
    finally:
        haops.run("down", "second", "--volumes")
    assert labelled(owner, "second") == {"containers": [], "networks": [], "volumes": []}
    assert not StateDir(haops.state).cluster_dir("second").exists()


def test_data_survives_down_without_volumes_and_a_further_up(haops: Haops, owner: str) -> None:
    haops.run("up", "redis", "--name", "kept", "--nodes", "2", "--ttl", "1h")
    try:
        port = haops.status("kept")["nodes"][0]["port"]
        with Redis(port=port) as client:
            client.set("still", "here")
            client.wait(1, 1000)
        haops.run("down", "kept")
        assert labelled(owner, "kept")["containers"] == []
        assert "kept" not in haops.run("ls", "-o", "name").stdout
        haops.run("up", "redis", "--name", "kept", "--nodes", "2")
        with Redis(port=haops.status("kept")["nodes"][0]["port"]) as client:
            assert client.get("still") == b"here"
    finally:
        haops.run("down", "kept", "--volumes")


def test_up_killed_in_the_middle_is_finished_by_the_next_up(haops: Haops, owner: str) -> None:
    process = haops.start("up", "zookeeper", "--name", "crashed", "--ttl", "1h")
    try:
        _await_containers(owner, "crashed")
    finally:
        end_process(process, signal.SIGKILL)
    try:
        haops.run("up", "zookeeper", "--name", "crashed")
        assert haops.status("crashed", check=0)["verdict"] == "healthy"
    finally:
        haops.run("down", "crashed", "--volumes")


def test_ctrl_c_in_up_ends_with_130_and_gc_removes_the_rest(haops: Haops, owner: str) -> None:
    process = haops.start("up", "cassandra", "--name", "broken", "--ttl", "1h")
    _await_containers(owner, "broken")
    _, err = end_process(process, signal.SIGINT)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "broken" in haops.run("gc", "--dry-run").stderr
    haops.run("gc")
    assert labelled(owner, "broken") == {"containers": [], "networks": [], "volumes": []}


def test_ctrl_c_while_up_waits_for_servers_ends_it_at_once(haops: Haops, owner: str) -> None:
    process = haops.start("up", "cassandra", "--name", "waiting", "--ttl", "1h")
    try:
        _await_containers(owner, "waiting", count=3, state="running")
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)  # to the command alone: Compose has ended long ago
        _, err = process.communicate(timeout=60)
        took = time.monotonic() - sent
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert took < 8, f"it took {took:.1f} s to end"
    haops.run("gc")
    assert labelled(owner, "waiting") == {"containers": [], "networks": [], "volumes": []}


def _await_containers(owner: str, cluster: str, count: int = 1, state: str | None = None) -> None:
    wanted = ("--filter", f"status={state}") if state else ()
    end = time.monotonic() + 60
    while len(labelled(owner, cluster, *wanted)["containers"]) < count:
        assert time.monotonic() < end, f"{cluster} has no {count} containers after 60 s"
        time.sleep(0.1)


def test_a_taken_port_is_named_and_nothing_is_left(haops: Haops, owner: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = haops.run("up", "redis", "--name", "portless", "--port", str(port), check=3)
    assert str(port) in done.stderr
    assert "--port" in done.stderr
    assert labelled(owner, "portless") == {"containers": [], "networks": [], "volumes": []}
    assert "portless" not in StateDir(haops.state).names()


def test_a_missing_image_is_named_with_exit_code_3(haops: Haops) -> None:
    done = haops.run("up", "redis", "--name", "imageless", "--image", "redis=haops/no-such-image:0", check=3)
    assert "haops/no-such-image:0" in done.stderr
    assert "imageless" not in StateDir(haops.state).names()


def test_a_server_that_cannot_start_is_told_with_its_last_words(haops: Haops) -> None:
    # The tools image has neither Redis nor its user's folder: the container ends at once.
    done = haops.run("up", "redis", "--name", "wrong", "--image", "redis=haops/tools:1", check=5)
    try:
        assert "the server ended while wrong came up" in done.stderr
        assert "start.sh: " in done.stderr
    finally:
        haops.run("down", "wrong", "--volumes")


def test_status_tells_a_killed_a_paused_and_a_healed_node(
    haops: Haops, owner: str, trio: Mapping[str, str]
) -> None:
    name = trio["zookeeper"]
    follower = next(n["name"] for n in haops.status(name)["nodes"] if n["role"] == "follower")
    docker("pause", container(name, follower, owner))
    paused = haops.status(name, check=5)
    assert paused["verdict"] == "degraded"
    assert next(n for n in paused["nodes"] if n["name"] == follower)["state"] == "paused"
    haops.run("heal", name)
    haops.await_verdict(name, "healthy")
    docker("kill", container(name, follower, owner))
    killed = haops.status(name, check=5)
    assert next(n for n in killed["nodes"] if n["name"] == follower)["state"] == "stopped"
    assert any(follower in reason for reason in killed["reasons"])
    haops.run("heal", name)
    haops.await_verdict(name, "healthy")


def test_an_ensemble_without_a_majority_is_down(haops: Haops, owner: str, trio: Mapping[str, str]) -> None:
    name = trio["zookeeper"]
    for node in ("zookeeper-1", "zookeeper-2"):
        docker("kill", container(name, node, owner))
    try:
        seen = haops.await_verdict(name, "down", within_s=20)
        assert seen["reasons"]
    finally:
        haops.run("heal", name)
    haops.await_verdict(name, "healthy")


def test_clusters_without_a_record_are_found_by_labels_and_collected(
    haops: Haops, owner: str, trio: Mapping[str, str]
) -> None:
    haops.run("up", "redis", "--name", "orphan", "--nodes", "1", "--ttl", "1h")
    StateDir(haops.state).forget("orphan")
    assert "orphan" in haops.run("gc", "--dry-run").stderr
    haops.run("gc")
    assert labelled(owner, "orphan") == {"containers": [], "networks": [], "volumes": []}
    assert haops.status(trio["redis"])["verdict"] == "healthy"

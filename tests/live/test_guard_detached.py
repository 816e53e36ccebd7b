"""A guard that runs as a container of its cluster, on real servers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from live_helpers import Haops, container, docker, labelled
from redis.exceptions import RedisError
from redis.sentinel import MasterNotFoundError

from haops.cluster.spec import Cluster
from haops.cluster.state import StateDir
from haops.stores.redis.connect import MappedSentinel

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

NAME = "guarded"
LEASE = "guarded-zk"


@pytest.fixture(scope="module")
def guarded(haops: Haops) -> Iterator[Cluster]:
    """A Redis set of its own, with a guard beside it."""
    haops.run("up", "redis", "--name", NAME, "--ttl", "30m")
    haops.run("guard", NAME, "--detach")
    yield StateDir(haops.state).get(NAME)
    haops.run("down", NAME, "--volumes", check=None)


def guard(cluster: Cluster) -> str:
    return container(cluster.name, "guard", cluster.owner)


def inspected(cluster: Cluster) -> dict[str, Any]:
    (found,) = json.loads(docker("inspect", guard(cluster)))
    return found


def named(cluster: Cluster) -> str:
    """The server that Sentinels name to clients."""
    _, port = MappedSentinel(cluster).discover_master()
    return next(n.name for n in cluster.servers if n.host_port == port)


def await_another(cluster: Cluster, than: str, within_s: float) -> float:
    """Seconds until clients are told another primary, which takes writes."""
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < within_s:
        try:
            if named(cluster) != than:
                client = MappedSentinel(cluster).master_for("mymaster", socket_timeout=0.5)
                client.set("guarded", "1")
                client.close()
                return passed
        except (RedisError, MasterNotFoundError):
            pass
        time.sleep(0.02)
    raise AssertionError(f"clients were told no other primary than {than} within {within_s} s")


def journal(haops: Haops) -> list[dict[str, Any]]:
    return json.loads(haops.run("journal", NAME, "-o", "json").stdout)["operations"]


def settle(haops: Haops) -> None:
    haops.run("heal", NAME)
    haops.await_verdict(NAME, "healthy")


def test_the_guards_container_may_do_next_to_nothing(haops: Haops, guarded: Cluster) -> None:
    found = inspected(guarded)
    config, host = found["Config"], found["HostConfig"]
    owner = haops.state.stat()
    # The owner of the state directory: not root, unless whoever runs haops is.
    assert config["User"] == f"{owner.st_uid}:{owner.st_gid}"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert not host["PortBindings"]
    assert not found["NetworkSettings"]["Ports"]
    assert list(found["NetworkSettings"]["Networks"]) == [f"{guarded.project}_ring"]
    assert [m["Destination"] for m in found["Mounts"]] == ["/state"]
    status = docker("exec", guard(guarded), "cat", "/proc/1/status")
    (effective,) = [line.split()[1] for line in status.splitlines() if line.startswith("CapEff")]
    assert int(effective, 16) == 0


def test_the_guards_container_carries_labels_and_no_secret(guarded: Cluster) -> None:
    config = inspected(guarded)["Config"]
    assert config["Labels"]["haops.cluster"] == NAME
    assert config["Labels"]["haops.store"] == "redis"
    assert config["Labels"]["haops.node"] == "guard"
    assert config["Labels"]["haops.expires"].startswith("20")
    words = [*config["Cmd"], *config["Env"]]
    assert {w.partition("=")[0] for w in config["Env"]} == {
        "HAOPS_STATE", "HAOPS_VANTAGE", "PATH", "PYTHONPATH", "PYTHONUNBUFFERED",
    }  # fmt: skip
    assert not any(secret in word.lower() for word in words for secret in ("password", "token", "secret"))
    assert not any(os.environ["HOME"] in word for word in words)


def test_a_second_start_changes_nothing_and_other_options_do(haops: Haops, guarded: Cluster) -> None:
    before = guard(guarded)
    assert "ran already" in haops.run("guard", NAME, "--detach").stderr
    assert guard(guarded) == before
    haops.run("guard", NAME, "--detach", "--block=1s")
    assert guard(guarded) != before


def test_the_guard_fails_over_and_says_why(haops: Haops, guarded: Cluster) -> None:
    old = named(guarded)
    docker("kill", container(NAME, old, guarded.owner))
    assert await_another(guarded, old, within_s=3) < 3
    last = journal(haops)[-1]
    assert (last["operation"], last["source"], last["outcome"]) == ("failover", old, "done")
    assert last["target"] == named(guarded)
    assert last["actor"].startswith("guard")
    assert "lost it" in last["reason"]

    settle(haops)
    roles = {n["name"]: n["role"] for n in haops.status(NAME)["nodes"]}
    assert roles[old] == "replica"
    assert list(roles) == [n.name for n in guarded.nodes]


def test_without_the_guard_the_sentinels_fail_over_alone(haops: Haops, guarded: Cluster) -> None:
    docker("kill", guard(guarded))
    known, old = len(journal(haops)), named(guarded)
    docker("kill", container(NAME, old, guarded.owner))
    await_another(guarded, old, within_s=30)
    assert len(journal(haops)) == known

    assert f"{NAME}/guard" in haops.run("heal", NAME).stderr
    haops.await_verdict(NAME, "healthy")
    assert inspected(guarded)["State"]["Running"] is True


def test_a_guard_that_dies_by_itself_comes_back(guarded: Cluster) -> None:
    before = inspected(guarded)["State"]
    # Not by the engine, which would take it for somebody's wish.
    os.kill(int(before["Pid"]), 9)
    end = time.monotonic() + 30
    while (now := inspected(guarded)["State"])["Pid"] in (0, before["Pid"]) or not now["Running"]:
        assert time.monotonic() < end, now
        time.sleep(0.2)


def test_a_lease_is_asked_for_over_the_ensembles_own_network(haops: Haops, guarded: Cluster) -> None:
    haops.run("up", "zookeeper", "--name", LEASE, "--nodes", "1", "--ttl", "30m")
    haops.run("guard", NAME, "--detach", "--lease", LEASE)
    end = time.monotonic() + 20
    while f"leads by the lease in {LEASE}" not in docker("logs", guard(guarded)):
        assert time.monotonic() < end, docker("logs", guard(guarded))
        time.sleep(0.2)
    # The ensemble's network goes although the guard is on it.
    haops.run("down", LEASE, "--volumes")
    assert labelled(guarded.owner, LEASE) == {"containers": [], "networks": [], "volumes": []}
    assert list(inspected(guarded)["NetworkSettings"]["Networks"]) == [f"{guarded.project}_ring"]


def test_stopping_removes_the_guard_alone(haops: Haops, guarded: Cluster) -> None:
    haops.run("guard", NAME, "--detach")
    haops.run("guard", NAME, "--stop")
    assert guard(guarded) == ""
    assert haops.status(NAME)["verdict"] == "healthy"


def test_down_removes_the_guard_with_the_cluster(haops: Haops, guarded: Cluster) -> None:
    haops.run("guard", NAME, "--detach")
    haops.run("down", NAME, "--volumes")
    assert labelled(guarded.owner, NAME) == {"containers": [], "networks": [], "volumes": []}
    assert not StateDir(haops.state).cluster_dir(NAME).exists()

"""A real member that takes its copy anew while haops is killed half-way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from live_helpers import Haops, container

from haops.cluster.spec import Cluster
from haops.cluster.state import StateDir
from haops.runtime.docker import DockerRuntime
from haops.runtime.port import ContainerState
from haops.stores.zookeeper.reading import ensemble
from haops.wait import wait_until

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

NAME = "live-anew-zk"
# A process that dies by SIGKILL while the command in the container is at work, or right after it.
_DIES = """
import os, signal, sys, threading
from pathlib import Path
from haops.cluster.state import StateDir
from haops.runtime.docker import DockerRuntime
from haops.stores.zookeeper import repair

state, name, nodes, moment = sys.argv[1:]

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

class Dying(DockerRuntime):
    stop = die

    def execute(self, *words):
        if moment == "during":
            threading.Timer(1, die).start()
        return super().execute(*words)

if moment == "during":
    repair._EMPTY = repair._EMPTY.replace("rm -rf", "sleep 3; rm -rf")
list(repair.mend_replicas(StateDir(Path(state)).get(name), Dying(), nodes.split(",")))
"""


@pytest.fixture(scope="module")
def cluster(haops: Haops) -> Iterator[Cluster]:
    haops.run("up", "zookeeper", "--name", NAME, "--ttl", "60m")
    yield StateDir(haops.state).get(NAME)
    haops.run("down", NAME, "--volumes", check=None)


def state(cluster: Cluster, member: str) -> ContainerState:
    return DockerRuntime().containers(cluster)[member].state


@pytest.mark.parametrize("killed", ["during", "after"])
def test_a_member_whose_repair_was_killed_goes_down_and_is_whole_after_heal(
    haops: Haops, cluster: Cluster, killed: str
) -> None:
    leader = ensemble(cluster).leader.name
    member = next(n.name for n in cluster.servers if n.name != leader)
    words = (sys.executable, "-c", _DIES, str(haops.state), NAME, f"{leader},{member}", killed)
    assert subprocess.run(words, timeout=60, check=False).returncode == -9
    wait_until(
        lambda: state(cluster, member),
        lambda seen: seen is ContainerState.STOPPED,
        what=f"{member} to go down",
        deadline_s=15,
    )
    # What a stopped container's volume has can still be copied out: nothing.
    left = subprocess.run(
        ["docker", "cp", f"{container(NAME, member, cluster.owner)}:/data", "-"],
        capture_output=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    assert b"data/myid" in left
    assert b"version-2" not in left
    haops.run("heal", NAME)
    haops.await_verdict(NAME, "healthy")
    haops.run("compare", NAME, "--replicas")

"""Taking Cassandra nodes out, back, apart and away on a real ring, under an application's load."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cassandra import ConsistencyLevel
from cassandra.query import SimpleStatement
from cassandra_app import PARTITIONS, TABLE, Application
from live_helpers import Haops, container, docker, labelled

from haops.cluster.spec import Cluster, Node
from haops.cluster.state import StateDir
from haops.stores.cassandra.connect import connect

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]

NAME = "live-ring"
# Live tests run beside others on a small machine: enough to have requests under way all the time.
RATE = 200

# A haops that dies at one step of a restart, as soon as the step has acted.
_DYING = """
import os, signal, sys
from haops.cli.context import operations
from haops.control.execute import Order
from haops.stores.plan import Intent, Operation

def report(progress):
    if progress.outcome is not None and progress.step.verb == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

work = operations()
intent = Intent(Operation.RESTART, node="cassandra-3")
work.carry_out(work.lifecycle.state.get(sys.argv[1]), intent, Order("test", "dies", report=report))
"""


@pytest.fixture(scope="module")
def four(haops: Haops) -> Iterator[str]:
    """A ring of four; the first test takes one away."""
    try:
        haops.run("up", "cassandra", "--name", NAME, "--nodes", "4", "--ttl", "90m")
        yield NAME
    finally:
        haops.run("down", NAME, "--volumes", check=None)


@pytest.fixture
def ring(haops: Haops, four: str) -> Cluster:
    """The ring as it is by now, healthy whatever the test before has done."""
    haops.run("heal", four, check=None)
    for node in haops.status(four)["nodes"]:
        if node["state"] == "unreachable":
            haops.run("node", "resume", four, node["name"], "--yes", check=None)
    haops.await_verdict(four, "healthy", within_s=90)
    return StateDir(haops.state).get(four)


@pytest.fixture(scope="module")
def application(haops: Haops, four: str) -> Iterator[Application]:
    """One application for all tests: its drivers live across everything that is done to the ring."""
    with Application(StateDir(haops.state).get(four), RATE) as application:
        yield application
        requests = application.finish()
    assert requests.failed == 0, requests.kinds()


@contextmanager
def none_failed(application: Application) -> Iterator[None]:
    """Clients are served all the while, and not one of their requests fails."""
    before = application.so_far()
    yield
    time.sleep(1)
    after = application.so_far()
    assert after.failed == before.failed, after.kinds()
    assert len(after.acked) > len(before.acked) + 200


def rows_at(node: Node, nodes: tuple[Node, ...]) -> set[int]:
    """The application's rows that one node has a copy of, by reading that copy alone."""
    with connect(nodes, timeout_s=15, level=ConsistencyLevel.ONE) as session:
        here = (node.host, node.host_port)
        hosts = session.cluster.metadata.all_hosts()
        host = next(h for h in hosts if (h.endpoint.address, h.endpoint.port) == here)
        found = set()
        for part in range(PARTITIONS):
            query = SimpleStatement(f"SELECT id FROM {TABLE} WHERE part = {part}", fetch_size=5000)
            found |= {row.id for row in session.execute(query, host=host)}
    return found


def ids(ring: Cluster, owner: str) -> dict[str, str]:
    return {n.name: container(ring.name, n.name, owner) for n in ring.nodes}


def test_a_decommissioned_node_leaves_ring_record_and_engine(
    haops: Haops, ring: Cluster, owner: str, application: Application
) -> None:
    assert len(ring.nodes) == 4, "this test is the first: it makes the ring that the others use"
    before = ids(ring, owner)
    with none_failed(application):
        haops.run("node", "decommission", NAME, "cassandra-1", "--yes")
    left = StateDir(haops.state).get(NAME)
    assert [n.name for n in left.nodes] == ["cassandra-2", "cassandra-3", "cassandra-4"]
    haops.await_verdict(NAME, "healthy", within_s=30)
    haops.run("up", "cassandra", "--name", NAME, "--nodes", "3")
    assert ids(left, owner) == {n: i for n, i in before.items() if n != "cassandra-1"}
    assert {kind: len(found) for kind, found in labelled(owner, NAME).items()} == {
        "containers": 3, "networks": 1, "volumes": 3,
    }  # fmt: skip
    refused = haops.run("node", "decommission", NAME, "cassandra-2", "--yes", check=2)
    assert "2 nodes would be left for 3 copies" in refused.stderr


def test_a_drained_node_has_no_clients_and_resumes_without_a_failed_request(
    haops: Haops, ring: Cluster, application: Application
) -> None:
    with none_failed(application):
        haops.run("node", "drain", NAME, "cassandra-2", "--yes")
        seen = {n["name"]: n["state"] for n in haops.status(NAME, check=5)["nodes"]}
        assert seen == {"cassandra-2": "unreachable", "cassandra-3": "up", "cassandra-4": "up"}
        refused = haops.run("restart", NAME, "--yes", check=2)
        assert "QUORUM needs 2" in refused.stderr and "cassandra-2" in refused.stderr
        haops.run("node", "resume", NAME, "cassandra-2", "--yes")
    haops.await_verdict(NAME, "healthy", within_s=30)


def test_a_rolling_restart_fails_no_request(
    haops: Haops, ring: Cluster, owner: str, application: Application
) -> None:
    started = {
        n: docker("inspect", i, "--format", "{{.State.StartedAt}}") for n, i in ids(ring, owner).items()
    }
    with none_failed(application):
        haops.run("restart", NAME, "--yes", timeout=200)
    for node, identity in ids(ring, owner).items():
        assert docker("inspect", identity, "--format", "{{.State.StartedAt}}") > started[node]
    # The application writes on: a write that was slow leaves a hint, which is flushed and sent within 10 s each.
    haops.await_verdict(NAME, "healthy", within_s=30)


def test_a_replaced_node_has_every_row_again(
    haops: Haops, ring: Cluster, owner: str, application: Application
) -> None:
    alive = haops.run("node", "replace", NAME, "cassandra-3", "--yes", check=2)
    assert "only a dead node is replaced" in alive.stderr
    with none_failed(application):
        docker("kill", container(NAME, "cassandra-3", owner))
        said = haops.run("node", "replace", NAME, "cassandra-3", "--yes", timeout=200).stderr
    assert "streamed" in said and "repaired haops" in said
    haops.await_verdict(NAME, "healthy", within_s=30)
    acked = set(application.so_far().acked)
    time.sleep(2)  # a third copy of the last ones may be on its way: they were acknowledged by two
    for node in ring.nodes:
        assert acked <= rows_at(node, ring.nodes), f"{node.name} lacks rows"
    # What the record says and what runs agree: another `up` builds nothing anew.
    before = ids(ring, owner)
    haops.run("up", "cassandra", "--name", NAME)
    assert ids(ring, owner) == before


def test_a_haops_killed_in_the_middle_of_a_restart_is_mended(
    haops: Haops, ring: Cluster, application: Application
) -> None:
    with none_failed(application):
        child = subprocess.run(
            [sys.executable, "-c", _DYING, NAME, "stop"],
            env=haops.env, capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert child.returncode == -signal.SIGKILL, child.stderr
        last = json.loads(haops.run("journal", NAME, "-o", "json", check=5).stdout)["operations"][-1]
        assert (last["operation"], last["outcome"]) == ("restart", "cut off")
        assert "haops heal" in haops.run("restart", NAME, "--yes", check=1).stderr
        haops.run("heal", NAME)
    haops.await_verdict(NAME, "healthy", within_s=30)
    last = json.loads(haops.run("journal", NAME, "-o", "json").stdout)["operations"][-1]
    assert last["outcome"] == "mended"

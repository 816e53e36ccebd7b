"""Rolling restart and replacement of Cassandra nodes under 500 requests/s at QUORUM, beside `docker restart`.

The clients are an application's: the driver's defaults (token-aware, default retry
policy, time-out of 10 s). Counted as failed is what the driver raises.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench_support import haops
from cassandra_app import Application, Requests

from haops.cluster.spec import Cluster
from haops.cluster.state import StateDir
from haops.stores.cassandra.ring import answers

NAME = "cash"
HEAD = (
    "\n| what, under 500 requests/s | requests | failed | p99 | longest gap | duration | harness lag p99 |\n"
    "|---|---|---|---|---|---|---|"
)
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cassandra-restart")
    try:
        haops(folder, "up", "cassandra", "--name", NAME, "--ttl", "2h")
        print(HEAD)
        yield folder
    finally:
        haops(folder, "down", "--all", "--volumes", check=False)


@pytest.fixture
def ring(state: Path) -> Cluster:
    haops(state, "up", "cassandra", "--name", NAME)
    return StateDir(state).get(NAME)


def docker(*args: str) -> None:
    subprocess.run(["docker", *args], check=True, capture_output=True, timeout=120)


def box(ring: Cluster, node: str) -> str:
    return f"{ring.project}-{node}-1"


def measured(
    ring: Cluster, name: str, act: Callable[[], object], retry_policy: str = "RetryPolicy"
) -> Requests:
    """One act under load, as a row of the table."""
    with Application(ring, retry_policy=retry_policy) as application:
        time.sleep(5)
        begin = time.monotonic()
        act()
        end = time.monotonic()
        time.sleep(3)
        requests = application.finish()
    kinds = f" ({requests.kinds()})" if requests.failed else ""
    print(
        f"| {name} | {len(requests.due):,} | {requests.failed:,}{kinds} | {requests.p99_ms(begin, end):,.0f} ms "
        f"| {requests.longest_gap_ms(begin, end):,.0f} ms | {end - begin:.0f} s "
        f"| {requests.lag_p99_ms():,.0f} ms |",
        flush=True,
    )
    return requests


def test_a_rolling_restart_fails_no_request(state: Path, ring: Cluster) -> None:
    requests = measured(ring, "`haops restart`", lambda: haops(state, "restart", NAME, "--yes"))
    assert requests.failed == 0


def test_replacing_a_killed_node_fails_no_request(state: Path, ring: Cluster) -> None:
    def act() -> None:
        docker("kill", box(ring, "cassandra-3"))
        haops(state, "node", "replace", NAME, "cassandra-3", "--yes")

    requests = measured(ring, "SIGKILL, then `haops node replace`, repair included", act)
    assert requests.failed == 0


def test_draining_and_resuming_fails_no_request(state: Path, ring: Cluster) -> None:
    def act() -> None:
        for verb in ("drain", "resume"):
            haops(state, "node", verb, NAME, "cassandra-2", "--yes")

    assert measured(ring, "`haops node drain`, `resume`", act).failed == 0


def test_clients_that_never_retry(state: Path, ring: Cluster) -> None:
    """What the default retry policy is worth; told, not judged."""
    measured(
        ring,
        "`haops restart`, clients with `FallthroughRetryPolicy`",
        lambda: haops(state, "restart", NAME, "--yes"),
        "FallthroughRetryPolicy",
    )


def test_plain_docker_restart(state: Path, ring: Cluster) -> None:
    def act() -> None:
        for node in ring.servers:
            docker("restart", box(ring, node.name))
        _await_ports(ring)

    measured(ring, "plain: `docker restart` of one node after the other", act)


def test_plain_docker_restart_that_waits_for_the_port(state: Path, ring: Cluster) -> None:
    def act() -> None:
        for node in ring.servers:
            docker("restart", box(ring, node.name))
            _await_ports(ring)

    measured(ring, "plain: `docker restart`, each time until the port answers", act)


def _await_ports(ring: Cluster) -> None:
    end = time.monotonic() + 120
    while not all(answers(node) for node in ring.servers):
        assert time.monotonic() < end, "the ring does not come back"
        time.sleep(0.1)

"""Moving a Redis primary on real servers, under load, as operators and clients meet it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from live_helpers import Haops, container, docker

from haops.checkers.elements import check_elements
from haops.cluster.spec import Cluster
from haops.cluster.state import StateDir
from haops.drills.load import LoadGenerator, LoadPlan
from haops.stores.redis.connect import MappedSentinel, connect_node
from haops.stores.redis.workload import RedisWorkload

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

# A haops that dies at one step of a switchover, before or after the step has acted.
_DYING = """
import os, signal, sys
from pathlib import Path
from haops.cli.context import operations
from haops.control.execute import Order
from haops.stores.plan import Intent, Operation

name, step, moment = sys.argv[1], int(sys.argv[2]), sys.argv[3]
seen = {"begun": 0, "ended": 0}

def report(progress):
    kind = "begun" if progress.outcome is None else "ended"
    if kind == moment and seen[kind] == step:
        os.kill(os.getpid(), signal.SIGKILL)
    seen[kind] += 1

work = operations()
order = Order("test", "a haops that dies", report=report)
work.carry_out(work.lifecycle.state.get(name), Intent(Operation.SWITCHOVER), order)
"""
STEPS = 9


@pytest.fixture
def redis(haops: Haops, trio: Mapping[str, str]) -> Cluster:
    haops.await_verdict(trio["redis"], "healthy")
    return StateDir(haops.state).get(trio["redis"])


@pytest.fixture
def load(redis: Cluster, request: pytest.FixtureRequest) -> Iterator[LoadGenerator]:
    """200 writes/s from two redis-py clients, all of which must be there at the end."""
    run = f"ctl-{abs(hash(request.node.name)) % 10**8}"
    plan = LoadPlan(200, clients=2, processes=1, writes=1.0, timeout_s=0.5, first_key=1, seed=1)
    with LoadGenerator(redis, run, plan) as generator:
        generator.start()
        time.sleep(0.8)
        yield generator
        time.sleep(0.3)
        history = generator.finish()
    workload = RedisWorkload(redis, run, 0.5)
    elements = check_elements(history, workload.read_back(2))
    workload.clean()
    assert elements.acked > 100
    assert elements.lost == ()


def primary(haops: Haops, name: str) -> str:
    (found,) = (n["name"] for n in haops.status(name)["nodes"] if n["role"] == "primary")
    return found


def writes_go_on(load: LoadGenerator, within_s: float = 20) -> None:
    """Every client writes again within the time."""
    since = time.monotonic_ns()
    end = time.monotonic() + within_s
    while min(load.progress().written) < since:
        assert time.monotonic() < end, "no client can write"
        time.sleep(0.05)


@contextmanager
def slow_sentinels(cluster: Cluster) -> Iterator[None]:
    """Sentinels that leave a dead primary to an operator for a while."""

    def set_patience(ms: int) -> None:
        for sentinel in cluster.sentinels:
            with connect_node(sentinel, 1.0) as client:
                client.execute_command("SENTINEL", "SET", "mymaster", "down-after-milliseconds", ms)

    set_patience(30000)
    try:
        yield
    finally:
        set_patience(1000)


def test_a_switchover_moves_the_role_and_says_so(haops: Haops, redis: Cluster, load: LoadGenerator) -> None:
    before = primary(haops, redis.name)
    to = next(n.name for n in redis.servers if n.name != before)
    done = json.loads(haops.run("switchover", redis.name, "--to", to, "--yes", "-o", "json").stdout)
    assert (done["source"], done["target"]) == (before, to)
    assert primary(haops, redis.name) == to
    haops.await_verdict(redis.name, "healthy", within_s=5)
    writes_go_on(load)
    last = json.loads(haops.run("journal", redis.name, "-o", "json").stdout)["operations"][-1]
    assert (last["operation"], last["outcome"], last["target"]) == ("switchover", "done", to)


@pytest.mark.timeout(400)
def test_a_haops_killed_at_any_step_leaves_what_heal_finishes(
    haops: Haops, redis: Cluster, load: LoadGenerator
) -> None:
    for step in range(STEPS):
        for moment in ("begun", "ended"):
            child = subprocess.run(
                [sys.executable, "-c", _DYING, redis.name, str(step), moment],
                env=haops.env, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert child.returncode == -signal.SIGKILL, f"step {step} {moment}: {child.stderr}"
            where = f"killed when step {step} had {moment}"
            said = haops.run("status", redis.name, check=5).stdout
            assert "was cut off" in said and f"haops heal {redis.name}" in said, f"{where}: {said}"
            haops.run("journal", redis.name, check=5)
            refused = haops.run("switchover", redis.name, "--yes", check=1)
            assert "haops heal" in refused.stderr, where
            haops.run("heal", redis.name)
            haops.await_verdict(redis.name, "healthy", within_s=20)
            writes_go_on(load)


@pytest.mark.parametrize("moment", ["begun", "ended"])
def test_without_heal_the_servers_find_back_by_themselves(
    haops: Haops, redis: Cluster, load: LoadGenerator, moment: str
) -> None:
    """The worst moment: promoted or about to be, not told to anybody, and nobody comes to help."""
    promote = 5 if moment == "ended" else 6
    subprocess.run(
        [sys.executable, "-c", _DYING, redis.name, str(promote), moment],
        env=haops.env, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    writes_go_on(load, within_s=40)
    haops.run("heal", redis.name)
    haops.await_verdict(redis.name, "healthy", within_s=20)


def test_a_killed_primary_is_followed_by_haops_failover(
    haops: Haops, redis: Cluster, owner: str, load: LoadGenerator
) -> None:
    before = primary(haops, redis.name)
    victim = container(redis.name, before, owner)
    refused = haops.run("failover", redis.name, "--yes", check=2)
    assert "haops switchover" in refused.stderr
    with slow_sentinels(redis):
        docker("kill", victim)
        haops.run("failover", redis.name, "--yes")
    try:
        assert primary(haops, redis.name) != before
        writes_go_on(load)
    finally:
        docker("start", victim)
    haops.await_verdict(redis.name, "healthy", within_s=40)


def test_a_rolling_restart_keeps_clients_writing(haops: Haops, redis: Cluster, load: LoadGenerator) -> None:
    haops.run("restart", redis.name, "--yes", timeout=170)
    writes_go_on(load)
    haops.await_verdict(redis.name, "healthy")


def test_redis_py_through_sentinel_lives_across_a_switchover(haops: Haops, redis: Cluster) -> None:
    client = MappedSentinel(redis).master_for("mymaster", socket_timeout=1.0)
    client.set("across", "before")
    haops.run("switchover", redis.name, "--yes")
    deadline = time.monotonic() + 5
    while True:
        try:
            client.set("across", "after")
            break
        except Exception as error:
            assert time.monotonic() < deadline, error
    assert client.get("across") in ("after", b"after")
    client.close()


@pytest.mark.parametrize(
    ("to", "code", "words"),
    [
        ("nobody", 2, "has no node"),
        ("sentinel-1", 2, "is a Sentinel"),
        ("PRIMARY", 2, "the primary already"),
    ],
)
def test_a_node_that_cannot_be_promoted_is_refused_and_named(
    haops: Haops, redis: Cluster, to: str, code: int, words: str
) -> None:
    node = primary(haops, redis.name) if to == "PRIMARY" else to
    assert words in haops.run("switchover", redis.name, "--to", node, "--yes", check=code).stderr


def test_a_frozen_candidate_is_refused(haops: Haops, redis: Cluster, owner: str) -> None:
    victim = next(n for n in redis.servers if n.name != primary(haops, redis.name))
    handle = container(redis.name, victim.name, owner)
    docker("pause", handle)
    try:
        refused = haops.run("switchover", redis.name, "--to", victim.name, "--yes", check=2)
        assert "paused" in refused.stderr and "could be" in refused.stderr
    finally:
        docker("unpause", handle)
    haops.await_verdict(redis.name, "healthy", within_s=30)


def test_two_operators_at_once_are_told_apart(haops: Haops, redis: Cluster) -> None:
    first = haops.start("switchover", redis.name, "--yes", "--before", "sleep 3")
    time.sleep(1.5)
    second = haops.run("switchover", redis.name, "--yes", check=1)
    assert "another haops is at work" in second.stderr
    first.communicate(timeout=30)
    assert first.returncode == 0


def test_a_before_hook_vetoes_and_an_after_hook_is_told(haops: Haops, redis: Cluster, tmp_path: Path) -> None:
    before = primary(haops, redis.name)
    vetoed = haops.run("switchover", redis.name, "--yes", "--before", "false", check=1)
    assert "vetoed" in vetoed.stderr
    assert primary(haops, redis.name) == before
    note = tmp_path / "note"
    script = f"sh -c 'echo $HAOPS_OPERATION $HAOPS_TARGET $HAOPS_OUTCOME > {note}'"
    haops.run("switchover", redis.name, "--yes", "--after", script)
    assert note.read_text().split() == ["switchover", primary(haops, redis.name), "done"]


def test_the_fence_makes_a_lone_primary_refuse_writes(haops: Haops, redis: Cluster, owner: str) -> None:
    lone = primary(haops, redis.name)
    others = [container(redis.name, n.name, owner) for n in redis.servers if n.name != lone]
    for handle in others:
        docker("kill", handle)
    try:
        with connect_node(redis.node(lone), 1.0) as client, pytest.raises(Exception, match="NOREPLICAS"):
            client.set("lone", 1)
        assert haops.status(redis.name, check=5)["verdict"] == "down"
    finally:
        for handle in others:
            docker("start", handle)
    haops.await_verdict(redis.name, "healthy", within_s=40)

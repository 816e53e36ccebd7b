"""Moving a ZooKeeper leader and restarting an ensemble, under load, as operators and clients meet it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from kazoo.client import KazooClient
from live_helpers import Haops, container, docker, end_process
from zookeeper_app import Application, hosts

from haops.cluster.spec import Cluster
from haops.cluster.state import StateDir

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

NAME = "live-ctl-zk"
# A haops that dies at one step of an operation, before or after the step has acted.
_DYING = """
import os, signal, sys
from haops.cli.context import operations
from haops.control.execute import Order
from haops.stores.plan import Intent, Operation

name, operation, node, step, moment = sys.argv[1:]
seen = {"begun": 0, "ended": 0}

def report(progress):
    kind = "begun" if progress.outcome is None else "ended"
    if kind == moment and seen[kind] == int(step):
        os.kill(os.getpid(), signal.SIGKILL)
    seen[kind] += 1

work = operations()
order = Order("test", "a haops that dies", report=report)
work.carry_out(work.lifecycle.state.get(name), Intent(Operation(operation), node=node), order)
"""

# A successor that is held as soon as it is named does not hear in time that it leads.
_DEAF = """
import sys
from haops.cli.context import operations
from haops.control.execute import Order
from haops.stores.plan import Intent, Operation

name, successor = sys.argv[1:]
work = operations()
cluster, held = work.lifecycle.state.get(name), []

def report(progress):
    if progress.step.verb == "hand-over" and progress.outcome and not held:
        work.lifecycle.runtime.pause(cluster, successor)
        held.append(successor)
    if progress.outcome:
        print(progress.step.verb, progress.outcome, sep=": ", flush=True)

work.carry_out(cluster, Intent(Operation.SWITCHOVER, node=successor), Order("test", "a deaf one", report=report))
"""


@pytest.fixture(scope="module")
def made(haops: Haops) -> Iterator[Cluster]:
    haops.run("up", "zookeeper", "--name", NAME, "--ttl", "60m")
    yield StateDir(haops.state).get(NAME)
    haops.run("down", NAME, "--volumes", check=None)


@pytest.fixture
def zookeeper(haops: Haops, made: Cluster) -> Cluster:
    """Whole, whatever the test before has left."""
    haops.run("heal", NAME)
    haops.await_verdict(NAME, "healthy")
    return made


def leader(haops: Haops) -> str:
    (found,) = (n["name"] for n in haops.status(NAME)["nodes"] if n["role"] == "leader")
    return found


def followers(haops: Haops) -> list[str]:
    return [n["name"] for n in haops.status(NAME)["nodes"] if n["role"] == "follower"]


def started(cluster: Cluster, owner: str) -> dict[str, str]:
    """When each node's process started."""
    return {
        n.name: docker("inspect", "-f", "{{.State.StartedAt}}", container(NAME, n.name, owner))
        for n in cluster.servers
    }


@contextmanager
def least_running(cluster: Cluster, owner: str) -> Iterator[list[int]]:
    """How many servers ran, looked at all the time."""
    seen: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            found = docker(
                "ps", "-q", "--filter", f"label=haops.cluster={NAME}", "--filter", f"label=haops.owner={owner}",
                "--filter", "status=running",
            )  # fmt: skip
            seen.append(len(found.split()))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join(timeout=30)


def operations(haops: Haops, code: int = 0) -> Sequence[dict[str, object]]:
    return json.loads(haops.run("journal", NAME, "-o", "json", check=code).stdout)["operations"]


# ---- switchover


def test_a_switchover_moves_the_leader_and_clients_live_across_it(haops: Haops, zookeeper: Cluster) -> None:
    before = leader(haops)
    to = followers(haops)[0]
    with Application(zookeeper) as application:
        sessions = [w.client.client_id for w in application.writers]
        done = json.loads(haops.run("switchover", NAME, "--to", to, "--yes", "-o", "json").stdout)
        application.goes_on()
        assert [w.client.client_id for w in application.writers] == sessions, "a session was lost"
    assert (done["source"], done["target"]) == (before, to)
    assert leader(haops) == to
    assert application.acked > 100
    assert application.lost == []
    last = operations(haops)[-1]
    assert (last["operation"], last["outcome"], last["target"]) == ("switchover", "done", to)


def test_switchovers_in_a_row_lose_nothing_and_restart_nothing(
    haops: Haops, owner: str, zookeeper: Cluster
) -> None:
    since = started(zookeeper, owner)
    with Application(zookeeper, clients=4) as application:
        for _ in range(4):
            before = leader(haops)
            haops.run("switchover", NAME, "--yes")
            assert leader(haops) != before
            application.goes_on()
    assert application.lost == []
    assert started(zookeeper, owner) == since
    assert _differences(zookeeper) == []


def test_a_role_that_falls_back_to_the_old_leader_is_handed_over_again(
    haops: Haops, owner: str, zookeeper: Cluster
) -> None:
    last, first = "zookeeper-3", "zookeeper-1"  # of servers that know as much the last is elected
    if leader(haops) != last:
        haops.run("switchover", NAME, "--to", last, "--yes")
    with Application(zookeeper) as application:
        child = subprocess.Popen(
            [sys.executable, "-c", _DEAF, NAME, first], env=haops.env, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("thaw: "):
                break
        time.sleep(1)  # until the old leader has stepped down
        end = time.monotonic() + 30
        while last not in [n["name"] for n in haops.status(NAME)["nodes"] if n["role"] == "leader"]:
            assert time.monotonic() < end
        docker("unpause", container(NAME, first, owner))
        said, _ = child.communicate(timeout=90)
        assert child.returncode == 0
        application.goes_on()
    assert f"leads: {first} leads" in said
    assert "and 2 hand-overs" in said
    assert application.lost == []


def _differences(cluster: Cluster) -> list[str]:
    """Nodes that two servers have differently, the transactions that made them included."""
    trees = []
    for node in cluster.servers:
        client = KazooClient(hosts=f"{node.host}:{node.host_port}")
        client.start(timeout=15)
        client.sync("/")
        trees.append(dict(_walk(client, "/")))
        client.stop()
        client.close()
    first = trees[0]
    return [p for t in trees[1:] for p in sorted(first.keys() | t.keys()) if first.get(p) != t.get(p)]


def _walk(client: KazooClient, path: str) -> Iterator[tuple[str, object]]:
    data, stat = client.get(path)
    # Each server writes its configuration down at a time of its own.
    yield path, data if path == "/zookeeper/config" else (data, stat)
    for name in client.get_children(path):
        yield from _walk(client, f"{path.rstrip('/')}/{name}")


def test_a_dry_run_prints_steps_and_candidates_and_changes_nothing(haops: Haops, zookeeper: Cluster) -> None:
    before = leader(haops)
    count = len(operations(haops))
    said = haops.run("switchover", NAME, "--dry-run").stdout
    assert f"have {before} name its successor" in said
    assert all(f"{name}  " in said for name in followers(haops))
    assert "risk: nothing acknowledged is lost" in said
    assert leader(haops) == before
    assert len(operations(haops)) == count


# ---- restart


def test_a_rolling_restart_keeps_quorum_and_every_acknowledged_write(
    haops: Haops, owner: str, zookeeper: Cluster
) -> None:
    before, since = leader(haops), started(zookeeper, owner)
    with Application(zookeeper) as application, least_running(zookeeper, owner) as running:
        began = time.time()
        haops.run("restart", NAME, "--yes")
        ended = time.time()
        application.goes_on()
    now = started(zookeeper, owner)
    assert all(now[name] > since[name] for name in now)
    assert max(now, key=now.__getitem__) == before, "the leader is the last"
    assert leader(haops) != before
    assert min(running) == 2
    assert application.lost == []
    # Generous for a busy machine; the figure is the benchmark's.
    assert application.service_gap_ms(began, ended) < 5000
    haops.await_verdict(NAME, "healthy", within_s=5)


def test_one_follower_is_restarted_alone(haops: Haops, owner: str, zookeeper: Cluster) -> None:
    before, since, one = leader(haops), started(zookeeper, owner), followers(haops)[0]
    haops.run("restart", NAME, "--node", one, "--yes")
    now = started(zookeeper, owner)
    assert [name for name in now if now[name] != since[name]] == [one]
    assert leader(haops) == before


def test_an_ensemble_made_anew_after_a_switchover_comes_up_with_its_data(
    haops: Haops, owner: str, zookeeper: Cluster
) -> None:
    """Containers made anew have the first configuration, the disks and the others a later one."""
    haops.run("switchover", NAME, "--yes")
    client = KazooClient(hosts=hosts(zookeeper))
    client.start(timeout=15)
    client.create(f"/kept-{time.time_ns()}", b"here")
    kept = client.get_children("/")
    client.stop()
    client.close()
    docker("rm", "-f", container(NAME, leader(haops), owner))
    haops.run("up", "zookeeper", "--name", NAME)
    haops.await_verdict(NAME, "healthy")
    haops.run("switchover", NAME, "--yes")
    haops.run("down", NAME)
    haops.run("up", "zookeeper", "--name", NAME, "--ttl", "60m")
    cluster = StateDir(haops.state).get(NAME)
    client = KazooClient(hosts=hosts(cluster))
    client.start(timeout=15)
    assert set(kept) <= set(client.get_children("/"))
    client.stop()
    client.close()
    haops.run("switchover", NAME, "--yes")
    haops.await_verdict(NAME, "healthy")


# ---- a haops that dies


def test_a_restart_killed_after_a_stop_is_told_and_finished_by_heal(
    haops: Haops, owner: str, zookeeper: Cluster
) -> None:
    first = followers(haops)[0]
    process = haops.start("restart", NAME, "--yes")
    box, end = container(NAME, first, owner), time.monotonic() + 60
    while docker("inspect", "-f", "{{.State.Running}}", box) == "true":
        assert time.monotonic() < end
    end_process(process, signal.SIGKILL)
    assert "cut off" in haops.run("journal", NAME, check=5).stdout
    assert "haops heal" in haops.run("restart", NAME, "--yes", check=1).stderr
    haops.run("heal", NAME)
    seen = haops.await_verdict(NAME, "healthy", within_s=5)
    assert {n["state"] for n in seen["nodes"]} == {"up"}
    last = operations(haops)[-1]
    assert last["outcome"] == "mended"
    assert "not restarted yet: " in str(last["note"])


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("operation", "steps"), [("switchover", 5), ("restart", 6)])
def test_a_haops_killed_at_any_step_leaves_what_heal_finishes(
    haops: Haops, zookeeper: Cluster, operation: str, steps: int
) -> None:
    with Application(zookeeper) as application:
        for step in range(steps):
            for moment in ("begun", "ended"):
                node = leader(haops) if operation == "restart" else followers(haops)[0]
                child = subprocess.run(
                    [sys.executable, "-c", _DYING, NAME, operation, node, str(step), moment],
                    env=haops.env, capture_output=True, text=True, timeout=60, check=False,
                )  # fmt: skip
                assert child.returncode == -signal.SIGKILL, f"step {step} {moment}: {child.stderr}"
                haops.run("journal", NAME, check=5)
                haops.run("heal", NAME)
                haops.await_verdict(NAME, "healthy", within_s=20)
                application.goes_on()
    assert application.lost == []


# ---- bad input and trouble


@pytest.mark.parametrize("verb", [("switchover", "--to"), ("restart", "--node")])
def test_a_node_that_does_not_exist_is_refused(
    haops: Haops, zookeeper: Cluster, verb: tuple[str, str]
) -> None:
    refused = haops.run(verb[0], NAME, verb[1], "nobody", "--yes", check=2)
    assert "has no node 'nobody'" in refused.stderr


def test_what_cannot_be_planned_is_refused_with_what_to_use(haops: Haops, zookeeper: Cluster) -> None:
    assert "leads already" in haops.run("switchover", NAME, "--to", leader(haops), "--yes", check=2).stderr
    assert "elects by itself" in haops.run("failover", NAME, "--yes", check=2).stderr
    assert "no node can be promoted" in haops.run("switchover", NAME, "--zone", "b", "--yes", check=2).stderr


def test_without_a_terminal_and_without_yes_nothing_is_done(haops: Haops, zookeeper: Cluster) -> None:
    for verb in ("switchover", "restart"):
        assert "--yes" in haops.run(verb, NAME, check=2).stderr


def test_while_a_server_is_down_nothing_is_risked(haops: Haops, owner: str, zookeeper: Cluster) -> None:
    down, other = followers(haops)
    docker("kill", container(NAME, down, owner))
    try:
        for args in (("switchover", NAME), ("restart", NAME), ("restart", NAME, "--node", other)):
            refused = haops.run(*args, "--yes", check=2)
            assert down in refused.stderr and "haops heal" in refused.stderr
        haops.run("restart", NAME, "--node", down, "--yes")
    finally:
        haops.run("heal", NAME)
    haops.await_verdict(NAME, "healthy", within_s=5)


def test_two_operators_at_once_are_told_apart(haops: Haops, zookeeper: Cluster) -> None:
    first = haops.start("switchover", NAME, "--yes", "--before", "sleep 4")
    time.sleep(2)
    second = haops.run("switchover", NAME, "--yes", check=1)
    assert "another haops is at work" in second.stderr
    first.communicate(timeout=60)
    assert first.returncode == 0

"""Backup, restore and comparison of a ring with a million rows, beside `nodetool snapshot` with `docker cp`.

The rows are a bigint key and 64 random bytes each, at RF 3, in a partition each. Restored is into the same
ring, into a single node and into a ring of four; each time every row is compared at ALL.
"""

from __future__ import annotations

import os
import random
import resource
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_support import HAOPS, haops, tell, timed
from cassandra import ConsistencyLevel
from cassandra.query import BatchStatement, BatchType
from cassandra_parts import FolderArchive, back_up, restore

from haops.cluster.spec import Cluster, StoreName
from haops.cluster.state import StateDir
from haops.runtime.docker import DockerRuntime
from haops.stores import load_comparing
from haops.stores.backup import BackupWish
from haops.stores.cassandra.connect import TROUBLE, connect
from haops.stores.compare import Survey

RING, SINGLE, FOUR = "cback", "cback-one", "cback-four"
ROWS = int(os.environ.get("HAOPS_BENCH_ROWS", "1000000"))
COMPARING = load_comparing(StoreName.CASSANDRA)
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateDir]:
    folder = tmp_path_factory.mktemp("cassandra-backup")
    try:
        haops(folder, "up", "cassandra", "--name", RING, "--ttl", "2h")
        made = StateDir(folder)
        with connect(made.get(RING).servers, timeout_s=30, level=ConsistencyLevel.QUORUM) as session:
            fill(session)
        yield made
    finally:
        haops(folder, "down", "--all", "--volumes", check=False)


def fill(session: Any) -> None:
    session.execute("CREATE KEYSPACE shop WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 3}")
    session.execute("CREATE TABLE shop.items (id bigint PRIMARY KEY, value blob)")
    insert = session.prepare("INSERT INTO shop.items (id, value) VALUES (?, ?)")
    made, flying = random.Random(1), deque[tuple[Any, Any]]()
    for start in range(0, ROWS, 50):
        batch = BatchStatement(BatchType.UNLOGGED)
        for number in range(start, min(start + 50, ROWS)):
            batch.add(insert, (number, made.randbytes(64)))
        flying.append((batch, session.execute_async(batch)))
        if len(flying) >= 6:
            settle(session, *flying.popleft())
    while flying:
        settle(session, *flying.popleft())


def settle(session: Any, batch: BatchStatement, future: Any) -> None:
    """A batch again until it is written: a small machine keeps copies waiting now and then."""
    while True:
        try:
            future.result()
            return
        except TROUBLE:
            time.sleep(0.5)
            future = session.execute_async(batch)


@pytest.fixture(scope="module")
def archive(state: StateDir, tmp_path_factory: pytest.TempPathFactory) -> FolderArchive:
    folder = tmp_path_factory.mktemp("backup") / "parts"
    began = time.perf_counter()
    made = back_up(state, state.get(RING), folder, BackupWish("bench"))
    tell(f"snapshot backup, {ROWS:,} rows", [time.perf_counter() - began], "s", "<= 60 s")
    return made


@pytest.fixture(scope="module")
def whole(state: StateDir, archive: FolderArchive) -> Survey:
    """The ring's fingerprint when it was backed up: nothing is written after."""
    del archive
    return surveyed(state.get(RING))


def surveyed(cluster: Cluster) -> Survey:
    with COMPARING.side(cluster, DockerRuntime(), "shop") as side:
        began = time.perf_counter()
        found = side.survey()
        took = time.perf_counter() - began
    tell(f"comparison at ALL, {len(cluster.servers)} nodes", [ROWS / took / 1000], "k/s", ">= 40 k rows/s")
    return found


def peak_mb(state: StateDir, *args: str) -> float:
    """The most memory that a command takes, the whole process as a user runs it."""
    env = {**os.environ, "HAOPS_STATE": str(state.root)}
    child = subprocess.Popen([HAOPS, *args], env=env, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return usage.ru_maxrss / 1024


def same(one: Survey, other: Survey) -> bool:
    return bool((one.counts == other.counts).all() and (one.sums == other.sums).all())


def test_plain_snapshot_and_copy(state: StateDir, tmp_path: Path) -> None:
    """The plain way: the same snapshot, its folders copied out by the engine's own command."""
    ring = state.get(RING)

    def act() -> None:
        for node in ring.servers:
            box = f"{ring.project}-{node.name}-1"
            docker("exec", box, "nodetool", "snapshot", "-t", "plain", "--", "shop")
            found = docker("exec", box, "sh", "-c", "ls -d /var/lib/cassandra/data/shop/*/snapshots/plain")
            docker("cp", f"{box}:{found}", str(tmp_path / node.name))

    tell("plain: nodetool snapshot, docker cp", [timed(act)], "s")
    for node in ring.servers:
        docker("exec", f"{ring.project}-{node.name}-1", "nodetool", "clearsnapshot", "-t", "plain")


def docker(*args: str) -> str:
    done = subprocess.run(["docker", *args], check=True, capture_output=True, text=True, timeout=300)
    return done.stdout.strip()


def test_into_the_same_topology(state: StateDir, archive: FolderArchive, whole: Survey) -> None:
    ring = state.get(RING)
    took = timed(lambda: restore(state, ring, archive))
    tell("restore, same topology", [took], "s", "<= 90 s")
    assert same(surveyed(ring), whole)


@pytest.mark.parametrize(("name", "nodes"), [(SINGLE, 1), (FOUR, 4)])
def test_into_another_topology(
    state: StateDir, archive: FolderArchive, whole: Survey, name: str, nodes: int
) -> None:
    haops(state.root, "up", "cassandra", "--name", name, "--nodes", str(nodes), "--ttl", "2h")
    try:
        took = timed(lambda: restore(state, state.get(name), archive))
        tell(f"restore, 3 nodes to {nodes}", [took], "s", "<= 90 s")
        assert same(surveyed(state.get(name)), whole)
        peak = peak_mb(state, "compare", RING, name, "--only", "shop")
        tell(f"peak memory, haops compare of 3 nodes and {nodes}", [peak], "MB", "< 200 MB")
        assert peak < 200
    finally:
        haops(state.root, "down", name, "--volumes", check=False)


def test_memory_of_comparing_copies_stays_small(state: StateDir, whole: Survey) -> None:
    """Three sides at once, each with all rows."""
    del whole
    peak = peak_mb(state, "compare", RING, "--replicas")
    tell("peak memory, haops compare --replicas", [peak], "MB", "< 200 MB")
    assert peak < 200


def test_memory_stays_small() -> None:
    """Of the process that did everything above but the comparisons by command."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    tell("peak memory", [peak], "MB", "< 200 MB")
    assert peak < 200

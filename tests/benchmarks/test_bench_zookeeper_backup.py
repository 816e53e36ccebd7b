"""Logical backup, restore and comparison of 100,000 nodes of 64 bytes on three servers, beside plain kazoo.

The plain way creates nodes one by one, asynchronously, as fast as one client lets it; of 5,000 nodes,
scaled to as many as the restore makes. Each of ours runs in a process of its own, whose largest
resident size is printed; a backup's parts go to files, as they would into a repository.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench_support import haops, pairs, tell
from kazoo.client import KazooClient
from zookeeper_app import hosts

from haops.cluster.spec import Cluster
from haops.cluster.state import StateDir
from haops.stores.zookeeper.pipeline import Link
from haops.stores.zookeeper.reading import ensemble
from haops.stores.zookeeper.tree import OPEN, Kind, TreeNode
from haops.stores.zookeeper.writing import create_all, remove_below

NAME = "zkbackup"
NODES, PLAIN = 100_000, 5_000
TRIALS = 2
pytestmark = pytest.mark.timeout(900)

# What one process does: `backup FOLDER`, `restore FOLDER` or `compare FOLDER`; prints seconds and kB.
_WORK = """
import json, resource, sys, time
from pathlib import Path
from haops.cluster.loans import Loans
from haops.cluster.state import StateDir
from haops.runtime.docker import DockerRuntime
from haops.stores.backup import BackupTools, BackupWish, Facts, Form, Part, RestoreWish
from haops.stores.zookeeper.backup import BACKING
from haops.stores.zookeeper.compare import COMPARING

state, name, what, folder = StateDir(Path(sys.argv[1])), sys.argv[2], sys.argv[3], Path(sys.argv[4])
cluster = state.get(name)
tools = BackupTools(DockerRuntime(), Loans(state.cluster_dir(name)))

class Kept:
    id, store = "b1", cluster.store
    parts = [Part(p.name, "", Form.LOGICAL, p.stat().st_size) for p in folder.iterdir()]
    facts = None
    def read(self, name, start=0):
        with (folder / name).open("rb") as file:
            file.seek(start)
            while block := file.read(1 << 20):
                yield block

said = {}
if what == "restore":
    with BACKING.restorer(cluster, tools, Kept(), RestoreWish()) as restorer:
        restorer.wipe()
    began = time.perf_counter()
    with BACKING.restorer(cluster, tools, Kept(), RestoreWish()) as restorer:
        for stage in restorer.stages():
            for _ in restorer.perform(stage, ""):
                pass
elif what == "backup":
    began = time.perf_counter()
    with BACKING.source(cluster, tools, BackupWish("b1", logical=True)) as source:
        for part in source.parts():
            with (folder / part.name).open("wb") as file:
                for block in source.read(part):
                    file.write(block)
        source.facts()
else:
    began = time.perf_counter()
    with COMPARING.of_backup(Kept(), None) as one, COMPARING.side(cluster, tools.runtime, None) as two:
        first, second = one.survey(), two.survey()
        said = {"equal": bool((first.sums == second.sums).all()), "moved": two.moved}
took = time.perf_counter() - began
print(json.dumps({"s": took, "kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, **said}))
"""


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("zookeeper-backup")
    haops(folder, "up", "zookeeper", "--name", NAME, "--ttl", "2h")
    yield folder
    haops(folder, "down", "--all", "--volumes", check=False)


def nodes() -> Iterator[TreeNode]:
    def plain(path: str) -> TreeNode:
        return TreeNode(path.encode(), bytes(64), OPEN, Kind.PERSISTENT, 0, 0, 0, 0, 0, 0, 0, 0, 0)

    yield plain("/")
    for folder in range(NODES // 1000):
        yield plain(f"/bench{folder}")
        yield from (plain(f"/bench{folder}/n{i:06}") for i in range(999))


def one_by_one(cluster: Cluster) -> float:
    """Seconds that plain asynchronous creates take, scaled to all nodes."""
    client = KazooClient(hosts=hosts(cluster))
    client.start(timeout=15)
    client.create("/plain")
    began = time.perf_counter()
    asked = [client.create_async(f"/plain/n{i:06}", bytes(64)) for i in range(PLAIN)]
    for each in asked:
        each.get(timeout=60)
    took = time.perf_counter() - began
    client.stop()
    client.close()
    with Link(cluster, ensemble(cluster).leader) as link:
        remove_below(link, b"/plain")
    return took * NODES / PLAIN


def test_backup_restore_and_comparison_of_100_000_nodes(state: Path, tmp_path: Path) -> None:
    cluster = StateDir(state).get(NAME)
    with Link(cluster, ensemble(cluster).leader) as link:
        for _ in create_all(link, nodes()):
            pass
    sizes: dict[str, list[float]] = {}

    def work(what: str) -> dict[str, float]:
        done = subprocess.run(
            [sys.executable, "-c", _WORK, str(state), NAME, what, str(tmp_path)],
            capture_output=True, text=True, timeout=300, check=True,
        )  # fmt: skip
        said = json.loads(done.stdout)
        sizes.setdefault(what, []).append(said["kb"] / 1024)
        return said

    backups = [work("backup")["s"] for _ in range(TRIALS)]
    restores, plain = pairs(TRIALS, lambda: work("restore")["s"], lambda: one_by_one(cluster))
    compared = [work("compare") for _ in range(TRIALS)]
    tell("backup, snapshot and tree", backups, "s", "<= 10 s")
    tell("restore of the tree", restores, "s", "<= 15 s")
    tell(f"plain asynchronous kazoo creates, {PLAIN:,} scaled", plain, "s")
    tell("comparison of the backup and the ensemble", [c["s"] for c in compared], "s")
    for what, figures in sizes.items():
        tell(f"largest resident size, {what}", figures, "MB", "<= 200 MB")
    assert all(c["equal"] for c in compared)
    assert sorted(backups)[TRIALS // 2] <= 10
    assert sorted(restores)[TRIALS // 2] <= 15
    assert sorted(restores)[TRIALS // 2] < sorted(plain)[TRIALS // 2]
    assert max(max(f) for f in sizes.values()) <= 200

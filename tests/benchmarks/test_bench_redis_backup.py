"""Backup and restore of a Redis set, a million keys of 64-byte values, beside what Redis brings along.

The alternatives run in the same round: `redis-cli --rdb` for the backup, and `redis-cli --pipe`
of the plain SET commands for putting the keys back.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from bench_support import haops, tell, timed
from redis_fill import KEYS, fill

from haops.cluster.loans import Loans
from haops.cluster.spec import Cluster, StoreName
from haops.cluster.state import StateDir
from haops.runtime.docker import DockerRuntime
from haops.stores import load_backing
from haops.stores.backup import BackupTools, BackupWish, Facts, Part, RestoreFailed, RestoreWish
from haops.stores.redis.who import primary

NAME = "rbench"
TRIALS = int(os.environ.get("HAOPS_BENCH_TRIALS", "3"))
BACKING = load_backing(StoreName.REDIS)
BLOCK = 1 << 20
# Of the keys `key:0` to `key:999999`.
PREFIX, WITH_PREFIX = "key:1", 111_111
pytestmark = pytest.mark.timeout(900)


@dataclass
class Kept:
    """An archive in one file for each part, so that neither chunks nor memory are measured."""

    folder: Path
    facts: Facts
    parts: Sequence[Part]
    id: str = "bench"
    store: StoreName = StoreName.REDIS

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        with (self.folder / name.replace("/", "-")).open("rb") as file:
            file.seek(start)
            while block := file.read(BLOCK):
                yield block


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    state = tmp_path_factory.mktemp("redis-backup")
    haops(state, "up", "redis", "--name", NAME, "--ttl", "1h")
    yield StateDir(state).get(NAME)
    haops(state, "down", "--all", "--volumes", check=False)


@pytest.fixture
def tools(tmp_path: Path) -> BackupTools:
    return BackupTools(DockerRuntime(), Loans(tmp_path))


def take(cluster: Cluster, tools: BackupTools, folder: Path) -> Kept:
    parts = []
    with BACKING.source(cluster, tools, BackupWish("bench")) as source:
        for part in source.parts():
            size = 0
            with (folder / part.name.replace("/", "-")).open("wb") as file:
                for block in source.read(part):
                    size += file.write(block)
            parts.append(Part(part.name, part.node, part.form, size))
        return Kept(folder, source.facts(), parts)


def cli_dump(cluster: Cluster, node: str) -> None:
    box = f"{cluster.project}-{node}-1"
    argv = ["docker", "exec", box, "redis-cli", "--rdb", "/tmp/bench.rdb"]
    subprocess.run(argv, check=True, capture_output=True, timeout=120)


def put_back(cluster: Cluster, tools: BackupTools, kept: Kept, only: str | None) -> Mapping[str, float]:
    """Seconds of each stage."""
    with BACKING.restorer(cluster, tools, kept, RestoreWish(only=only)) as restorer:
        restorer.wipe()
        return {
            stage.name.partition(":")[0]: timed(lambda stage=stage: list(restorer.perform(stage, "")))
            for stage in restorer.stages()
        }


def cli_pipe(cluster: Cluster, plain: Path) -> None:
    box = f"{cluster.project}-{primary(cluster, RestoreFailed).name}-1"
    with plain.open("rb") as commands:
        argv = ["docker", "exec", "-i", box, "redis-cli", "--pipe"]
        subprocess.run(argv, check=True, stdin=commands, capture_output=True, timeout=120)


def rates(seconds: Sequence[float], keys: int = KEYS) -> list[float]:
    return [keys / each / 1000 for each in seconds]


def test_backup_beside_redis_cli(cluster: Cluster, tools: BackupTools, tmp_path: Path) -> None:
    fill(primary(cluster, RestoreFailed))
    ours, theirs = [], []
    for _ in range(TRIALS):
        ours.append(timed(lambda: take(cluster, tools, tmp_path)))
        theirs.append(timed(lambda: cli_dump(cluster, "redis-2")))
    tell("backup: source to a file", rates(ours), "k/s", ">= 0.8 x redis-cli --rdb")
    tell("redis-cli --rdb, delay 0, in the container", rates(theirs), "k/s")
    assert statistics.median(ours) <= statistics.median(theirs) / 0.8


def test_restore_of_everything_and_of_a_prefix(cluster: Cluster, tools: BackupTools, tmp_path: Path) -> None:
    fill(primary(cluster, RestoreFailed))
    kept = take(cluster, tools, tmp_path)
    whole, settle, prefix, theirs = [], [], [], []
    with tempfile.NamedTemporaryFile() as plain:
        for number in range(KEYS):
            key, value = b"key:%d" % number, b"v" * 64
            plain.write(b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$64\r\n%b\r\n" % (len(key), key, value))
        plain.flush()
        for _ in range(TRIALS):
            took = put_back(cluster, tools, kept, None)
            whole.append(took["fill"])
            settle.append(took["settle"])
            prefix.append(put_back(cluster, tools, kept, PREFIX)["keys"])
            theirs.append(timed(lambda: cli_pipe(cluster, Path(plain.name))))
    tell("restore of everything into a living set", rates(whole), "k/s", ">= 300 k/s")
    tell("  and until disk and replicas have it", settle, "s")
    tell(f"restore of a prefix, {WITH_PREFIX:,} of the keys", rates(prefix, WITH_PREFIX), "k/s", ">= 60 k/s")
    tell("  keys read on the way", rates(prefix), "k/s")
    tell("redis-cli --pipe of SET commands", rates(theirs), "k/s")
    assert statistics.median(rates(whole)) >= 300
    assert statistics.median(rates(prefix, WITH_PREFIX)) >= 60

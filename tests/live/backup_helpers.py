"""What the live tests of backups share: data in a cluster, and what commands say about it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from live_helpers import Haops
from redis import Redis

from haops.cluster.spec import Cluster
from haops.cluster.state import StateDir
from haops.stores import load
from haops.stores.base import FIRST_ELEMENT, WorkloadClient
from haops.stores.zookeeper.connect import connect as zookeeper

PATIENCE_S = 10.0


@contextmanager
def writer(haops: Haops, name: str, run: str, *, new: bool = False) -> Iterator[WorkloadClient]:
    """A client of the cluster's own workload, by which every store is written in the same way."""
    cluster = cluster_of(haops, name)
    workload = load(cluster.store).workload(cluster, run, PATIENCE_S)
    if new:
        workload.prepare(1)
    client = workload.client(0)
    try:
        yield client
    finally:
        client.close()
        workload.close()


def cluster_of(haops: Haops, name: str) -> Cluster:
    return StateDir(haops.state).get(name)


def number(key: int) -> int:
    """An element's number: client 0 has those that leave 0 when divided by the first one's."""
    return FIRST_ELEMENT * (key + 1)


def fill(haops: Haops, name: str, run: str, keys: range, *, new: bool = False) -> None:
    """Write elements, one after the other."""
    with writer(haops, name, run, new=new) as client:
        for key in keys:
            client.write(number(key), key)


def elements(haops: Haops, name: str, run: str) -> set[int]:
    """The elements that are there."""
    cluster = cluster_of(haops, name)
    workload = load(cluster.store).workload(cluster, run, PATIENCE_S)
    try:
        return {key // FIRST_ELEMENT - 1 for key in workload.read_back(1)}
    finally:
        workload.close()


def back_up(haops: Haops, name: str, repo: Path, *args: str) -> str:
    """A backup's id. Cassandra's is made in its logical form too, or it could not be compared."""
    logical = ["--logical"] if cluster_of(haops, name).store == "cassandra" else []
    done = haops.run("backup", "create", name, "--repo", str(repo), "-o", "name", *logical, *args)
    return done.stdout.strip()


def listed(haops: Haops, repo: Path) -> list[Mapping[str, Any]]:
    """`backup list -o json`."""
    found: list[Mapping[str, Any]] = json.loads(
        haops.run("backup", "list", "--repo", str(repo), "-o", "json").stdout
    )["backups"]
    return found


def compared(haops: Haops, *words: str, check: int | None = 0) -> Mapping[str, Any]:
    """`compare -o json`, the first comparison."""
    done = haops.run("compare", *words, "-o", "json", check=check)
    found: Mapping[str, Any] = json.loads(done.stdout)
    return found


def empty(haops: Haops, trio: Mapping[str, str]) -> None:
    """Leave Redis and ZooKeeper as they were: later tests sample what is there."""
    primary = next(n for n in haops.status(trio["redis"])["nodes"] if n["role"] == "primary")
    with Redis(host=primary["host"], port=primary["port"]) as client:
        client.flushall()
    keeper = zookeeper(cluster_of(haops, trio["zookeeper"]).servers)
    keeper.start(timeout=10)
    try:
        for name in keeper.get_children("/"):
            if name != "zookeeper":
                keeper.delete(f"/{name}", recursive=True)
    finally:
        keeper.stop()
        keeper.close()

"""Backup, restore, comparison and repair of real ZooKeeper ensembles, as the library does them."""

from __future__ import annotations

import struct
import threading
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
from kazoo.client import KazooClient
from kazoo.security import make_acl, make_digest_acl
from live_helpers import Haops
from zookeeper_app import hosts

from haops.cluster.loans import Loans
from haops.cluster.spec import Cluster
from haops.cluster.state import StateDir
from haops.runtime.docker import DockerRuntime
from haops.runtime.port import FileToWrite
from haops.stores.backup import Archive, BackupTools, BackupWish, Facts, Part, RestoreWish
from haops.stores.compare import Side
from haops.stores.zookeeper.backup import BACKING
from haops.stores.zookeeper.compare import COMPARING
from haops.stores.zookeeper.pipeline import Link, create
from haops.stores.zookeeper.readiness import readiness
from haops.stores.zookeeper.reading import ensemble
from haops.stores.zookeeper.topology import superuser
from haops.stores.zookeeper.tree import OPEN, Kind, TreeNode
from haops.wait import wait_until

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

SOURCE, TARGET = "live-bak-zk", "live-bak-to"


@dataclass
class Kept:
    blobs: dict[str, bytes]
    parts: list[Part]
    facts: Facts
    cluster: Cluster
    id: str = "b1"

    @property
    def store(self) -> object:
        return self.cluster.store

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        yield self.blobs[name][start:]


@pytest.fixture(scope="module")
def source(haops: Haops) -> Iterator[Cluster]:
    haops.run("up", "zookeeper", "--name", SOURCE, "--ttl", "60m")
    yield StateDir(haops.state).get(SOURCE)
    haops.run("down", SOURCE, "--volumes", check=None)


@pytest.fixture(scope="module")
def target(haops: Haops) -> Iterator[Cluster]:
    haops.run("up", "zookeeper", "--name", TARGET, "--nodes", "1", "--ttl", "60m")
    yield StateDir(haops.state).get(TARGET)
    haops.run("down", TARGET, "--volumes", check=None)


@contextmanager
def client(cluster: Cluster) -> Iterator[KazooClient]:
    made = KazooClient(hosts=hosts(cluster), auth_data=[("digest", superuser(cluster))])
    made.start(timeout=15)
    try:
        yield made
    finally:
        made.stop()
        made.close()


def tools(haops: Haops, cluster: Cluster) -> BackupTools:
    return BackupTools(DockerRuntime(), Loans(haops.state / "clusters" / cluster.name))


def back_up(haops: Haops, cluster: Cluster) -> Archive:
    with BACKING.source(cluster, tools(haops, cluster), BackupWish("b1")) as opened:
        parts = list(opened.parts())
        blobs = {part.name: b"".join(opened.read(part)) for part in parts}
        return Kept(blobs, parts, opened.facts(), cluster)  # type: ignore[return-value]


def restore(haops: Haops, cluster: Cluster, archive: Archive) -> None:
    with BACKING.restorer(cluster, tools(haops, cluster), archive, RestoreWish()) as restorer:
        restorer.wipe()
        assert restorer.in_the_way() == ()
        for stage in restorer.stages():
            assert [a.done for a in restorer.perform(stage, "")][-1] == stage.total


def different(one: Side, other: Side) -> set[bytes]:
    first, second = one.survey(), other.survey()
    unequal = np.flatnonzero((first.counts != second.counts) | (first.sums != second.sums))
    buckets = frozenset(unequal.tolist())
    mine, theirs = one.digests(buckets), other.digests(buckets)
    return {*one.keys(np.setdiff1d(mine, theirs)), *other.keys(np.setdiff1d(theirs, mine))}


def fill(cluster: Cluster) -> None:
    with client(cluster) as zookeeper:
        zookeeper.create("/app/secret", b"s", acl=[make_digest_acl("u", "p", all=True)], makepath=True)
        zookeeper.create("/app/by-net", b"", acl=[make_acl("ip", "10.0.0.0/8", read=True)])
        zookeeper.create("/queue", b"")
        for _ in range(30):
            zookeeper.create("/queue/n-", b"x", sequence=True)
        for i in range(0, 30, 2):
            zookeeper.delete(f"/queue/n-{i:010}")
    with Link(cluster, ensemble(cluster).leader) as link:
        plain = TreeNode(b"/box", None, OPEN, Kind.CONTAINER, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        assert link.ask(create(plain)).code == 0
        assert link.ask(create(plain._replace(path=b"/old", kind=Kind.TTL, ttl=3_600_000))).code == 0


def test_a_backup_of_three_restores_into_one_with_every_list_kind_and_counter(
    haops: Haops, source: Cluster, target: Cluster
) -> None:
    fill(source)
    with client(source) as zookeeper:
        zookeeper.create("/session", b"", ephemeral=True)
        archive = back_up(haops, source)
    assert any("1 ephemeral" in words for words in archive.facts.left_out)
    with client(target) as other:
        other.create("/in-the-way/deep", b"", makepath=True)
    restore(haops, target, archive)
    with (
        COMPARING.of_backup(archive, None) as kept,
        COMPARING.side(target, DockerRuntime(), None) as restored,
        COMPARING.side(source, DockerRuntime(), None) as first,
    ):
        assert different(kept, restored) == set()
        assert different(first, restored) == set()
        kinds = restored.describe([b"/box", b"/old", b"/app/secret"])
        assert [r.kind for r in kinds.values() if r] == ["persistent", "container", "ttl"]
    for cluster in (source, target):
        with client(cluster) as zookeeper:
            assert zookeeper.create("/queue/n-", b"", sequence=True) == "/queue/n-0000000030"


def limit(zookeeper: KazooClient, path: str, limits: bytes) -> None:
    """As `setquota` of zkCli does it."""
    top = f"/zookeeper/quota{path}"
    zookeeper.ensure_path(top)
    zookeeper.create(f"{top}/zookeeper_limits", limits)
    zookeeper.create(f"{top}/zookeeper_stats", b"count=0,bytes=0")


def used(cluster: Cluster, path: str) -> bytes:
    with client(cluster) as zookeeper:
        data: bytes = zookeeper.get(f"/zookeeper/quota{path}/zookeeper_stats")[0]
        return data


def test_quotas_come_back_and_the_server_counts_what_is_used_of_them(
    haops: Haops, source: Cluster, target: Cluster
) -> None:
    limits = b"count=50,bytes=-1=;byteHardLimit=-1;countHardLimit=60"
    with client(source) as zookeeper:
        zookeeper.create("/limited/inner/leaf", b"12345", makepath=True)
        limit(zookeeper, "/limited", limits)
        limit(zookeeper, "/limited/inner", b"count=7,bytes=-1")
    archive = back_up(haops, source)
    assert archive.facts.details["quotas"] == "2"
    restore(haops, target, archive)
    with client(target) as zookeeper:
        assert zookeeper.get("/zookeeper/quota/limited/zookeeper_limits")[0] == limits
    assert (used(target, "/limited"), used(target, "/limited/inner")) == (
        b"count=3,bytes=5",
        b"count=2,bytes=5",
    )
    with client(target) as zookeeper:
        zookeeper.create("/limited/another", b"123")
        assert used(target, "/limited") == b"count=4,bytes=8"
        zookeeper.set("/zookeeper/quota/limited/zookeeper_stats", b"count=0,bytes=0")
        zookeeper.set("/zookeeper/quota/limited/inner/zookeeper_limits", b"count=1,bytes=-1")
    wish = RestoreWish(only="/limited/inner", merge=True)
    with BACKING.restorer(target, tools(haops, target), archive, wish) as restorer:
        for stage in restorer.stages():
            deque(restorer.perform(stage, ""), maxlen=0)
    with client(target) as zookeeper:
        assert zookeeper.get("/zookeeper/quota/limited/inner/zookeeper_limits")[0] == b"count=7,bytes=-1"
    assert used(target, "/limited") == b"count=0,bytes=0", "a quota from above is not what was asked for"
    with BACKING.restorer(target, tools(haops, target), archive, RestoreWish()) as restorer:
        assert "quota of /limited/inner" in restorer.in_the_way()
    for cluster in (source, target):
        with client(cluster) as zookeeper:
            zookeeper.delete("/zookeeper/quota/limited", recursive=True)
            zookeeper.delete("/limited", recursive=True)


def test_a_backup_under_load_has_every_write_acknowledged_before_it_began(
    haops: Haops, source: Cluster
) -> None:
    over = threading.Event()
    acked: list[int] = []

    def load() -> None:
        with client(source) as zookeeper:
            zookeeper.ensure_path("/load")
            while not over.is_set():
                zookeeper.create(f"/load/{len(acked):06}", bytes(64))
                acked.append(len(acked))

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for _ in range(5):
            before = len(acked)
            archive = back_up(haops, source)
            with (
                COMPARING.of_backup(archive, "/load")
                if before
                else COMPARING.of_backup(archive, None) as kept
            ):
                found = kept.describe([b"/load/%06d" % i for i in range(before)])
            assert None not in found.values()
    finally:
        over.set()
        thread.join(timeout=30)


def seal(raw: bytes) -> bytes:
    return raw + struct.pack(">qi1s", zlib.adler32(raw), 1, b"/")


def tampered(raw: bytes, was: bytes, becomes: bytes) -> bytes:
    """A snapshot with other data in it and checksums that are right again."""
    body, digest, zxid = raw[:-67], raw[-54:-34], raw[-21:-13]
    assert seal(seal(seal(body) + digest) + zxid) == raw
    assert body.count(was) == 1
    assert len(was) == len(becomes)
    return seal(seal(seal(body.replace(was, becomes)) + digest) + zxid)


def diverge(cluster: Cluster, member: str, was: bytes, becomes: bytes) -> None:
    """Change data on a member's disk behind its back."""
    runtime, folder = DockerRuntime(), "/data/version-2"
    found = [f for f in runtime.files(cluster, member, folder) if f.path.startswith("snapshot.")]
    newest = max(found, key=lambda f: int(f.path.partition(".")[2], 16)).path
    runtime.kill(cluster, member)
    raw = tampered(b"".join(runtime.read_file(cluster, member, f"{folder}/{newest}")), was, becomes)
    runtime.write_files(cluster, member, folder, [FileToWrite(newest, len(raw), [raw])], uid=1000)
    runtime.start(cluster, member)
    with readiness(cluster) as checker:
        wait_until(checker.pending, lambda p: not p, what="the ensemble to be whole", deadline_s=60)


def test_a_member_whose_disk_diverged_is_found_and_takes_its_copy_anew(haops: Haops, source: Cluster) -> None:
    runtime = DockerRuntime()
    leader = ensemble(source).leader.name
    member = next(n.name for n in source.servers if n.name != leader)
    with client(source) as zookeeper:
        zookeeper.create("/diverging", b"as-it-was-written")
    with COMPARING.replicas(source, runtime) as copies:
        assert copies[0].label == leader
        assert [different(copies[0], other) for other in copies[1:]] == [set(), set()]
    diverge(source, member, b"as-it-was-written", b"as-nobody-written")
    # The leader may be another one now: only a member that follows can be mended by it.
    haops.run("heal", SOURCE)
    leader = ensemble(source).leader.name
    with COMPARING.replicas(source, runtime) as copies:
        assert {c.label: different(copies[0], c) for c in copies[1:]}[member] == {b"/diverging"}
    assert list(COMPARING.mend_replicas(source, runtime, [leader, member])) != []
    with COMPARING.replicas(source, runtime) as copies:
        assert [different(copies[0], other) for other in copies[1:]] == [set(), set()]


def test_a_repair_leaves_what_is_equal_and_mends_the_rest(source: Cluster, target: Cluster) -> None:
    with client(target) as zookeeper:
        zookeeper.set("/app/by-net", b"changed")
        zookeeper.delete("/box")
        zookeeper.create("/extra/deep", b"", makepath=True)
    with (
        COMPARING.side(source, DockerRuntime(), None) as first,
        COMPARING.side(target, DockerRuntime(), None) as second,
    ):
        found = different(first, second)
        assert {b"/app/by-net", b"/box", b"/extra", b"/extra/deep"} <= found
        assert list(COMPARING.mend(first, second, sorted(found)))[-1] == len(found)
        assert different(first, second) == set()

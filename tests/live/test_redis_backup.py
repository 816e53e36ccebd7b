"""Backup, restore and comparison of real Redis servers, at the level of the library."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
from live_helpers import Haops
from redis import Redis

from haops.cluster.loans import Loans
from haops.cluster.spec import Cluster, StoreName
from haops.cluster.state import StateDir
from haops.compare.rounds import Manner, Verdict, compare
from haops.runtime.docker import DockerRuntime
from haops.stores import load_backing, load_comparing
from haops.stores.backup import (
    BackupTools,
    BackupWish,
    Facts,
    NotRestorable,
    Part,
    RestoreFailed,
    RestoreWish,
)
from haops.stores.compare import BUCKETS, Side
from haops.stores.redis.connect import connect_node
from haops.stores.redis.digest import name_of
from haops.stores.redis.restore import FILL
from haops.stores.redis.who import primary

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]
BACKING = load_backing(StoreName.REDIS)
COMPARING = load_comparing(StoreName.REDIS)
ALL = frozenset(range(BUCKETS))
BLOCK = 65536


@dataclass
class Kept:
    """An archive in memory; `broken_at` lets its dump end with an error there."""

    facts: Facts
    parts: Sequence[Part]
    data: Mapping[str, bytes]
    broken_at: int | None = None
    id: str = "live"
    store: StoreName = StoreName.REDIS

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        for at in range(start, len(self.data[name]), BLOCK):
            if self.broken_at is not None and at >= self.broken_at:
                raise RestoreFailed("the repository is gone")
            yield self.data[name][at : at + BLOCK]


@pytest.fixture
def cluster(haops: Haops, trio: Mapping[str, str]) -> Cluster:
    haops.await_verdict(trio["redis"], "healthy")
    return StateDir(haops.state).get(trio["redis"])


@pytest.fixture
def tools(tmp_path: Path) -> BackupTools:
    return BackupTools(DockerRuntime(), Loans(tmp_path))


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Redis]:
    with connect_node(primary(cluster, RestoreFailed), 10) as found:
        found.flushall()
        found.function_flush()
        yield found
        found.flushall()
        found.function_flush()


def settled(client: Redis) -> None:
    assert client.wait(2, 9000) == 2


def backup(cluster: Cluster, tools: BackupTools, **wish: Any) -> Kept:
    data = {}
    with BACKING.source(cluster, tools, BackupWish("live", **wish)) as source:
        for part in source.parts():
            data[part.name] = b"".join(source.read(part))
        nodes = {part.node for part in source.parts()}
        facts = source.facts()
        source.release()
    assert primary(cluster, RestoreFailed).name not in nodes
    assert tools.loans.open() == ()
    return Kept(
        facts, [Part(n, "", p.form, len(data[n])) for p, n in zip(source.parts(), data, strict=True)], data
    )


def restore(cluster: Cluster, tools: BackupTools, kept: Kept, **wish: Any) -> None:
    with BACKING.restorer(cluster, tools, kept, RestoreWish(**wish)) as restorer:
        restorer.wipe()
        if restorer.stages()[0].name != FILL:
            assert restorer.in_the_way() == ()
        for stage in restorer.stages():
            last = list(restorer.perform(stage, ""))[-1]
            assert last.done >= stage.total * 0.99
    assert tools.loans.open() == ()


def fill(client: Redis) -> None:
    """Each type, small and large enough to change its encoding, in two databases."""
    for db in (0, 3):
        with client.pipeline(transaction=False) as pipe:
            pipe.execute_command("SELECT", db)
            for i in range(40):
                pipe.set(f"s:{i}", "x" * i * 9)
                pipe.set(f"n:{i}", i * 10**i if i < 12 else -i)
                pipe.set(f"t:{i}", "v", px=10**8 + i)
                pipe.rpush(f"l:{i}", *[f"e{j}" for j in range(1 + 10 * i)], "y" * 9000)
                pipe.sadd(f"si:{i}", *range(-i, i * 30 + 1))
                pipe.sadd(f"ss:{i}", *[f"m{j}" for j in range(1 + 10 * i)])
                pipe.zadd(f"z:{i}", {f"m{j}": (j - 3) * 1.1**j for j in range(1 + 10 * i)})
                pipe.hset(f"h:{i}", mapping={f"f{j}": "v" * (j % 70) for j in range(1 + 20 * i)})
                pipe.hset(f"ht:{i}", mapping={f"f{j}": "v" for j in range(1 + 20 * i)})
                pipe.execute_command("HPEXPIRE", f"ht:{i}", 10**8, "FIELDS", 1, "f0")
                for j in range(1 + 5 * i):
                    pipe.xadd(f"x:{i}", {f"a{j % 3}": j, "b": "w" * j})
                pipe.xgroup_create(f"x:{i}", "g", "0")
                pipe.xreadgroup("g", "c", {f"x:{i}": ">"}, count=3)
                pipe.xtrim(f"x:{i}", maxlen=150, approximate=False)
            many = [f"q{j}" for j in range(6000)]
            pipe.sadd("large:s", *many)
            pipe.rpush("large:l", *many)
            pipe.hset("large:h", mapping=dict.fromkeys(many, "v"))
            pipe.zadd("large:z", {m: n / 3 for n, m in enumerate(many)})
            pipe.execute()
    client.execute_command("SELECT", 0)
    client.function_load(
        "#!lua name=live\nredis.register_function('f', function() return 1 end)", replace=True
    )
    settled(client)


def same(left: Side, right: Side) -> bool:
    a, b = left.survey(), right.survey()
    return bool((a.counts == b.counts).all() and (a.sums == b.sums).all())


def differing(left: Side, right: Side) -> set[bytes]:
    a, b = np.unique(left.digests(ALL)), np.unique(right.digests(ALL))
    return {*left.keys(np.setdiff1d(a, b)), *right.keys(np.setdiff1d(b, a))}


def test_every_type_is_backed_up_compared_mended_and_restored(
    cluster: Cluster, tools: BackupTools, client: Redis
) -> None:
    fill(client)
    kept = backup(cluster, tools)
    with (
        COMPARING.side(cluster, tools.runtime, None) as live,
        COMPARING.of_backup(kept, None) as saved,
        COMPARING.replicas(cluster, tools.runtime) as copies,
    ):
        assert all(same(saved, copy) for copy in copies)
        keys = saved.keys(saved.digests(ALL))
        assert live.describe(keys) == saved.describe(keys)

        client.set("s:5", "other")
        client.delete("l:7")
        client.set("new", 1)
        client.pexpire("s:9", 10**9)
        client.hset("ht:20", "f1", "other")
        assert differing(live, saved) == {b"s:5", b"l:7", b"new", b"s:9", b"ht:20"}
        assert list(COMPARING.mend(saved, live, sorted(differing(live, saved))))[-1] == 5
        assert same(live, saved)

        client.set("later", 1)
        restore(cluster, tools, kept)
        assert same(live, saved)
        assert len(client.function_list()) == 1

        client.set("h:1", "wrong type")
        client.set("other", "stays")
        restore(cluster, tools, kept, only="h:")
        assert differing(live, saved) == {b"other"}


@contextmanager
def written_to(cluster: Cluster) -> Iterator[None]:
    """Some hundred writes a second: keys that are overwritten, keys that expire, hashes that grow."""
    over = Event()

    def write() -> None:
        with connect_node(primary(cluster, RestoreFailed), 10) as mine:
            for number in count():
                if over.wait(0.002):
                    return
                mine.set(f"key:{number % 3000}", number)
                mine.set(f"session:{number}", "s", px=500)
                mine.hset(f"hash:{number % 50}", str(number), "v")

    thread = Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_copies_are_compared_while_they_are_written_to(
    cluster: Cluster, tools: BackupTools, client: Redis
) -> None:
    with client.pipeline(transaction=False) as pipe:
        for number in range(20_000):
            pipe.set(f"key:{number}", "v" * 64)
        pipe.execute()
    settled(client)
    with COMPARING.replicas(cluster, tools.runtime) as copies, written_to(cluster):
        # Keys that come and go with the same value may leave a pass open; three times in a row is too often.
        found = [compare(copies[0], copies[1], Manner()) for _ in range(3)]
        assert Verdict.EQUAL in {each.verdict for each in found}
        assert all(each.differences == () for each in found)
        name = copies[1].label
        with connect_node(next(n for n in cluster.servers if n.name == name), 10) as replica:
            replica.config_set("replica-read-only", "no")
            try:
                replica.set("key:17000", "wrong")
                replica.delete("key:18000")
                replica.set("extra", 1)
            finally:
                replica.config_set("replica-read-only", "yes")
        wrong = compare(copies[0], copies[1], Manner())
    assert {d.key for d in wrong.differences} == {
        name_of(0, key) for key in (b"key:17000", b"key:18000", b"extra")
    }


def test_without_a_way_to_this_machine_a_restore_goes_key_by_key(
    cluster: Cluster, tools: BackupTools, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(client)
    kept = backup(cluster, tools)
    monkeypatch.setattr(DockerRuntime, "doorstep", lambda self, cluster: None)
    restore(cluster, tools, kept)
    with COMPARING.side(cluster, tools.runtime, None) as live, COMPARING.of_backup(kept, None) as saved:
        assert same(live, saved)
    assert len(client.function_list()) == 1


def test_a_restore_that_breaks_off_leaves_the_old_data_and_the_primary_in_place(
    cluster: Cluster, tools: BackupTools, client: Redis
) -> None:
    client.set("filler", np.random.default_rng(1).bytes(1 << 20))
    kept = backup(cluster, tools)
    client.set("old", "still here")
    kept.broken_at = 5 * BLOCK
    with (
        pytest.raises(RestoreFailed, match="gone"),
        BACKING.restorer(cluster, tools, kept, RestoreWish()) as restorer,
    ):
        restorer.wipe()
        list(restorer.perform(restorer.stages()[0], ""))
    assert client.role()[0] == "master"
    assert client.get("old") == "still here"
    assert tools.loans.open() == ()


def test_a_moment_between_two_writes_is_restored(cluster: Cluster, tools: BackupTools, client: Redis) -> None:
    for node in cluster.servers:
        with connect_node(node, 5) as each:
            each.config_set("aof-timestamp-enabled", "yes")
            each.bgrewriteaof()
    time.sleep(2.5)
    written = {}
    for number in range(40):
        client.set(f"k:{number}", "#TS:1\r\n")
        written[f"k:{number}"] = time.time()
        time.sleep(0.1)
    settled(client)
    kept = backup(cluster, tools, pitr=True)
    assert kept.facts.earliest is not None
    at = (kept.facts.latest - timedelta(seconds=3)).replace(microsecond=0)
    restore(cluster, tools, kept, at=at)
    found, edge = set(client.keys("k:*")), at.timestamp() + 1
    assert {k for k, moment in written.items() if moment < edge - 0.05} <= found
    assert not {k for k, moment in written.items() if moment > edge + 0.05} & found
    assert found < set(written)
    with (
        pytest.raises(NotRestorable, match="not in this backup"),
        BACKING.restorer(cluster, tools, kept, RestoreWish(at=at + timedelta(days=1))),
    ):
        pass


def test_a_replica_that_went_astray_is_copied_anew(
    cluster: Cluster, tools: BackupTools, client: Redis
) -> None:
    fill(client)
    first = primary(cluster, RestoreFailed)
    stray = next(n for n in cluster.servers if n != first)
    with connect_node(stray, 5) as replica:
        replica.config_set("replica-read-only", "no")
        replica.set("s:5", "astray")
        replica.config_set("replica-read-only", "yes")
    with COMPARING.replicas(cluster, tools.runtime) as copies:
        truth, wrong = copies[0], next(c for c in copies if c.label == stray.name)
        assert differing(truth, wrong) == {b"s:5"}
        list(COMPARING.mend_replicas(cluster, tools.runtime, [first.name, stray.name]))
        assert same(truth, wrong)

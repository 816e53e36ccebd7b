"""Backup, restore, comparison and repair of real rings: every kind of row comes back as it was."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cassandra_parts import FolderArchive, back_up, restore, tools
from live_helpers import Haops

from haops.cluster.spec import Cluster, StoreName
from haops.cluster.state import StateDir
from haops.compare.rounds import Manner, compare
from haops.runtime.docker import DockerRuntime
from haops.stores import load_comparing
from haops.stores.backup import BackupWish, RestoreFailed
from haops.stores.cassandra import schema
from haops.stores.cassandra.connect import connect
from haops.stores.cassandra.sstables import SCHEMA_PART
from haops.stores.compare import Side

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

RING, SINGLE = "live-bring", "live-bone"
COMPARING = load_comparing(StoreName.CASSANDRA)
SCHEMA = (
    "CREATE KEYSPACE odd WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 2}",
    "CREATE TYPE odd.place (street text, number int)",
    'CREATE TABLE odd."Mixed" (a int, b text, fixed text static, l list<int>, f frozen<list<int>>, u place, '
    "m map<text, int>, gone text, v double, PRIMARY KEY (a, b)) WITH CLUSTERING ORDER BY (b DESC)",
    "CREATE TABLE odd.keys (a int, b int, PRIMARY KEY (a, b))",
    "CREATE TABLE odd.hits (name text PRIMARY KEY, n counter)",
    "CREATE TABLE odd.many (id bigint PRIMARY KEY, value blob)",
)
ROWS = (
    "INSERT INTO odd.\"Mixed\" (a, b, gone) VALUES (1, 'dropped', 'x')",
    'INSERT INTO odd."Mixed" (a, b, fixed, l, f, u, m, v) VALUES '
    "(1, 'x', 'both', [1, 2], [3], {street: 's', number: 3}, {'q': 1}, 0.5)",
    "UPDATE odd.\"Mixed\" USING TTL 90000 SET v = 2.5 WHERE a = 1 AND b = 'ends'",
    "UPDATE odd.\"Mixed\" USING TIMESTAMP 1000 SET m = m + {'old': 1} WHERE a = 1 AND b = 'x'",
    "UPDATE odd.\"Mixed\" SET fixed = 'alone' WHERE a = 2",
    "INSERT INTO odd.keys (a, b) VALUES (1, 1)",
    "UPDATE odd.hits SET n = n + 5 WHERE name = 'page'",
)
AFTER = ('ALTER TABLE odd."Mixed" DROP gone', 'CREATE INDEX by_v ON odd."Mixed" (v)')
MANY = 300


@dataclass(frozen=True)
class World:
    state: StateDir

    def cluster(self, name: str) -> Cluster:
        return self.state.get(name)

    def restore(
        self, name: str, archive: FolderArchive, *, only: str | None = None, wipe: bool = True
    ) -> list[str]:
        return restore(self.state, self.cluster(name), archive, only, wipe=wipe)

    @contextmanager
    def session(self, name: str) -> Iterator[Any]:
        with connect(self.cluster(name).servers, timeout_s=20) as session:
            yield session

    @contextmanager
    def against_backup(self, archive: FolderArchive, name: str) -> Iterator[tuple[Side, Side]]:
        with (
            COMPARING.of_backup(archive, None) as truth,
            COMPARING.side(self.cluster(name), DockerRuntime(), None) as side,
        ):
            yield truth, side


def differing(left: Side, right: Side) -> list[str]:
    found = compare(left, right, Manner())
    return sorted(COMPARING.show(d.key) for d in found.differences)


@pytest.fixture(scope="module")
def world(haops: Haops) -> Iterator[World]:
    try:
        haops.run("up", "cassandra", "--name", RING, "--ttl", "90m")
        haops.run("up", "cassandra", "--name", SINGLE, "--nodes", "1", "--ttl", "90m")
        made = World(StateDir(haops.state))
        with made.session(RING) as session:
            for text in (*SCHEMA, *ROWS, *AFTER):
                session.execute(text)
            insert = session.prepare("INSERT INTO odd.many (id, value) VALUES (?, ?)")
            for number in range(MANY):
                session.execute(insert, (number, number.to_bytes(64, "big")))
        yield made
    finally:
        for name in (RING, SINGLE):
            haops.run("down", name, "--volumes", check=None)


@pytest.fixture(scope="module")
def archive(world: World, tmp_path_factory: pytest.TempPathFactory) -> FolderArchive:
    time.sleep(2.5)  # what was written within 2 s before a snapshot may be in it or not, and is told as such
    folder = tmp_path_factory.mktemp("backup") / "parts"
    return back_up(world.state, world.cluster(RING), folder, BackupWish("first", logical=True))


def counted(session: Any) -> int:
    return int(session.execute("SELECT n FROM odd.hits WHERE name = 'page'").one().n)


def check_whole(world: World, archive: FolderArchive, name: str, but: Sequence[str] = ()) -> None:
    with world.against_backup(archive, name) as (truth, side):
        counts = [int(s.survey().counts.sum()) for s in (truth, side)]
        assert counts[0] == MANY + 7, "three rows and two static parts, a row that is only a key, a counter"
        assert differing(truth, side) == list(but)


def test_a_ring_gets_its_own_files_back(world: World, archive: FolderArchive) -> None:
    with world.session(RING) as session:
        session.execute("INSERT INTO odd.many (id, value) VALUES (1, 0xff)")
        session.execute("INSERT INTO odd.many (id, value) VALUES (-1, 0xff)")
    world.restore(RING, archive)
    check_whole(world, archive, RING)
    with world.session(RING) as session:
        assert counted(session) == 5


def test_a_dropped_keyspace_comes_back_with_its_schema(world: World, archive: FolderArchive) -> None:
    with world.session(RING) as session:
        session.execute("DROP KEYSPACE odd")
    world.restore(RING, archive)
    check_whole(world, archive, RING)
    with world.session(RING) as session:
        assert len(list(session.execute('SELECT * FROM odd."Mixed" WHERE v = 2.5'))) == 1, "by the index"
        restored = world.restore(RING, archive, only="odd.keys")
    assert restored == ["schema", "files odd.keys"], "its definition is the same as before"


def test_rows_that_were_deleted_one_by_one_come_back(world: World, archive: FolderArchive) -> None:
    with world.session(RING) as session:
        for number in range(MANY):
            session.execute(f"DELETE FROM odd.many WHERE id = {number}")
    world.restore(RING, archive, only="odd.many", wipe=False)
    check_whole(world, archive, RING)


def test_a_table_whose_making_broke_off_is_finished(world: World, archive: FolderArchive) -> None:
    entries = schema.read(b"".join(archive.read(SCHEMA_PART)).decode())
    first, drop = schema.statements(schema.without_id(next(e.cql for e in entries if e.bare == "Mixed")))
    assert " DROP gone" in drop
    with world.session(RING) as session:
        session.execute('DROP TABLE odd."Mixed"')
        session.execute(first)
    world.restore(RING, archive, only="odd.Mixed", wipe=False)
    check_whole(world, archive, RING)


def test_another_topology_takes_the_files_of_all_nodes(world: World, archive: FolderArchive) -> None:
    world.restore(SINGLE, archive)
    check_whole(world, archive, SINGLE)
    with world.session(SINGLE) as session:
        assert counted(session) == 5


def test_rows_go_where_files_cannot(world: World, archive: FolderArchive) -> None:
    newer = replace(archive, facts=replace(archive.facts, version="99.0"))
    with world.session(SINGLE) as session:
        session.execute("DROP KEYSPACE odd")
    assert "rows odd.many" in world.restore(SINGLE, newer)
    check_whole(world, archive, SINGLE, but=["odd.hits('page')"])
    with world.session(SINGLE) as session:
        query = "SELECT TTL(v) AS left FROM odd.\"Mixed\" WHERE a = 1 AND b = 'ends'"
        assert 80000 < session.execute(query).one().left < 90000


def test_a_damaged_file_is_refused_by_the_server(
    world: World, archive: FolderArchive, tmp_path: Path
) -> None:
    bad = replace(archive, folder=tmp_path, id="bad")
    for part in archive.parts:
        data = bytearray(archive.path(part.name).read_bytes())
        if part.name.endswith("-Data.db") and "/many-" in part.name:
            data[len(data) // 2] ^= 0xFF
        bad.path(part.name).write_bytes(data)
    with pytest.raises(RestoreFailed, match=r"did not take .* odd\.many"):
        world.restore(RING, bad, only="odd.many")
    assert tools(world.state, RING).loans.open() == ()
    world.restore(RING, archive, only="odd.many")
    check_whole(world, archive, RING)


def test_what_differs_is_named_and_mended(world: World, archive: FolderArchive) -> None:
    with world.session(SINGLE) as session:
        session.execute("UPDATE odd.many SET value = 0xaa WHERE id = 7")
        session.execute("DELETE FROM odd.many WHERE id = 8")
        session.execute("INSERT INTO odd.keys (a, b) VALUES (9, 9)")
        session.execute("UPDATE odd.\"Mixed\" SET fixed = 'other' WHERE a = 2")
        session.execute("UPDATE odd.\"Mixed\" SET v = 2.5 WHERE a = 1 AND b = 'ends'")  # for ever now
    with world.against_backup(archive, SINGLE) as (truth, side):
        found = compare(truth, side, Manner())
        assert [d for d in sorted(COMPARING.show(d.key) for d in found.differences) if "hits" not in d] == [
            "odd.Mixed(1, 'ends')",
            "odd.Mixed(2) static",
            "odd.keys(9, 9)",
            "odd.many(7)",
            "odd.many(8)",
        ]
        keys = [d.key for d in found.differences if "hits" not in COMPARING.show(d.key)]
        assert list(COMPARING.mend(truth, side, keys))[-1] == len(keys)
        assert [d for d in differing(truth, side) if "hits" not in d] == []


def test_copies_that_differ_are_found_and_repaired(world: World) -> None:
    cluster, runtime = world.cluster(RING), DockerRuntime()
    for node in cluster.servers:
        runtime.execute(cluster, node.name, ["nodetool", "disablehandoff"])
    with world.session(RING) as session:
        runtime.pause(cluster, "cassandra-3")
        try:
            _write_without_hints(session, cluster)
            time.sleep(3)  # what waits for it longer than the servers' time-out of 2 s is not delivered
        finally:
            runtime.unpause(cluster, "cassandra-3")
        with COMPARING.replicas(cluster, runtime) as (first, second, _):
            _await(lambda: _answers(first))
            assert differing(first, second)
            assert all("repaired" in words for words in COMPARING.mend_replicas(cluster, runtime, ["any"]))
            assert differing(first, second) == []


def _write_without_hints(session: Any, cluster: Cluster) -> None:
    from cassandra import ConsistencyLevel
    from cassandra.query import SimpleStatement

    alive = [
        h
        for h in session.cluster.metadata.all_hosts()
        if h.endpoint.port != cluster.node("cassandra-3").host_port
    ]
    for number in range(20):
        text = f"INSERT INTO odd.many (id, value) VALUES ({1000 + number}, 0x01)"
        session.execute(SimpleStatement(text, consistency_level=ConsistencyLevel.ONE), host=alive[number % 2])


def _answers(side: Side) -> bool:
    return int(side.survey().counts.sum()) > 0


def _await(look: Any) -> None:
    end = time.monotonic() + 30
    while not look():
        assert time.monotonic() < end

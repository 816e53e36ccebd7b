"""Backing a ring up: what is read, what is borrowed, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from haops.cluster.loans import Loan
from haops.errors import BadInput, HaopsError
from haops.runtime.port import FileFact
from haops.stores.backup import BackupFailed, BackupWish
from haops.stores.cassandra import backup, sstables
from haops.stores.cassandra.sstables import DATA

from .rings import HITS, ID, ITEMS, KEYSPACE, Ring, in_force

NODES = ("cassandra-1", "cassandra-2", "cassandra-3")


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ring]:
    made = Ring(3, tmp_path)
    with in_force(monkeypatch, made):
        yield made


def opened(ring: Ring, wish: BackupWish | None = None):  # type: ignore[no-untyped-def]
    return backup.source(ring.cluster, ring.tools, wish or BackupWish("b1"))


def taken(ring: Ring) -> list[tuple[str, str]]:
    return [(node, order) for node, order in ring.orders if order.startswith("snapshot")]


def test_the_schema_comes_first_then_the_files_of_every_node(ring: Ring) -> None:
    with opened(ring) as source:
        names = [p.name for p in source.parts()]
        assert names[0] == "schema.cql"
        assert {n.split("/")[0] for n in names[1:]} == set(NODES)
        assert f"cassandra-2/shop/items-{ID}/nb-1-big-Data.db" in names
        assert not any(n.endswith(("manifest.json", "/schema.cql")) for n in names)
        data = next(p for p in source.parts() if p.name.startswith("cassandra-2") and "Data" in p.name)
        assert b"".join(source.read(data)) == b"data of items on cassandra-2"
        assert b"CREATE TABLE shop.items" in b"".join(source.read(source.parts()[0]))


def test_a_snapshot_is_lent_until_the_backup_is_complete(ring: Ring) -> None:
    with opened(ring) as source:
        source.parts()
        assert {(k.node, k.was) for k in ring.loans.open()} == {(n, "b1") for n in NODES}
        source.release()
    assert ring.loans.open() == ()
    assert not any(ring.snapshots(n) for n in NODES)


def test_a_backup_that_broke_off_finds_its_snapshot_again(ring: Ring) -> None:
    with pytest.raises(RuntimeError), opened(ring) as source:
        first = source.parts()
        raise RuntimeError
    with opened(ring) as source:
        assert source.parts() == first
    assert len(taken(ring)) == 3, "each node was told once"


def test_a_snapshot_that_is_not_whole_is_taken_anew_on_all_nodes(ring: Ring) -> None:
    with pytest.raises(RuntimeError), opened(ring) as source:
        source.parts()
        raise RuntimeError
    del ring.runtime.disk["cassandra-3", f"{DATA}/shop/items-{ID}/snapshots/b1/schema.cql"]
    with opened(ring) as source:
        source.parts()
    assert len(taken(ring)) == 6


def test_what_an_earlier_backup_left_behind_is_removed_first(ring: Ring) -> None:
    with pytest.raises(RuntimeError), opened(ring, BackupWish("old")) as source:
        source.parts()
        raise RuntimeError
    with opened(ring) as source:
        source.parts()
        assert {k.was for k in ring.loans.open()} == {"b1"}
        assert not any("/old/" in path for n in NODES for path in ring.snapshots(n))


def test_a_loan_is_on_record_before_the_snapshot_is_taken(ring: Ring) -> None:
    ring.refuse = lambda node, order: order.startswith("snapshot")
    with pytest.raises(BackupFailed, match="refused"), opened(ring) as source:
        source.parts()
    assert len(ring.loans.open()) == 3


def test_giving_back_removes_snapshots_and_staging_folders_and_nothing_else(ring: Ring) -> None:
    with pytest.raises(RuntimeError), opened(ring) as source:
        source.parts()
        raise RuntimeError
    for loan in ring.loans.open():
        assert "b1" in backup.give_back(ring.cluster, ring.runtime, loan)
    assert not any(ring.snapshots(n) for n in NODES)
    ring.runtime.disk["cassandra-1", f"{sstables.STAGING}/b1/x/file"] = b""
    backup.give_back(ring.cluster, ring.runtime, Loan("cassandra-1", "staging", f"{sstables.STAGING}/b1"))
    assert ring.runtime.disk == {}
    for was in ("/var/lib/cassandra/data", f"{sstables.STAGING}-other"):
        with pytest.raises(BadInput):
            backup.give_back(ring.cluster, ring.runtime, Loan("cassandra-1", "staging", was))


def test_data_that_its_server_has_another_checksum_of_is_refused(ring: Ring) -> None:
    with opened(ring) as source:
        data = next(p for p in source.parts() if "Data" in p.name)
        path = sstables.where("b1", data)
        good = ring.runtime.disk[data.node, path]
        ring.runtime.disk[data.node, path] = b"D" + good[1:]
        with pytest.raises(BackupFailed, match="damaged"):
            list(source.read(data))
        ring.runtime.disk[data.node, path] = good[:-1]
        with pytest.raises(BackupFailed, match="bytes"):
            list(source.read(data))


def test_rows_are_parts_of_their_own_and_say_what_they_cannot_restore(ring: Ring) -> None:
    ring.session.entries = [KEYSPACE, ITEMS, HITS]
    with opened(ring, BackupWish("b1", logical=True)) as source:
        assert [p.name for p in source.parts()][-2:] == ["rows/shop.hits", "rows/shop.items"]
        left_out = " ".join(source._left_out())
        assert "shop.hits" in left_out
        assert "roles" in left_out
        assert "a row's own write time and life" in left_out


def test_counters_and_files_have_nothing_to_say_of_rows_lives(ring: Ring) -> None:
    for table, logical in ((HITS, True), (ITEMS, False)):
        ring.session.entries = [KEYSPACE, table]
        with opened(ring, BackupWish(f"of-{table.bare}", logical=logical)) as source:
            source.parts()
            assert "own write time" not in " ".join(source._left_out())


@pytest.mark.parametrize("wish", [BackupWish("b1", pitr=True), BackupWish("b1", node="cassandra-1")])
def test_wishes_that_a_ring_cannot_fulfil_touch_nothing(ring: Ring, wish: BackupWish) -> None:
    with pytest.raises(BadInput), opened(ring, wish):
        pass
    assert ring.orders == []


def test_a_node_that_is_down_stops_the_backup(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    # Undone before `ring` is: it has put something in the same place.
    with monkeypatch.context() as patch:
        patch.setattr(backup, "answers", lambda node: node.name != "cassandra-2")
        with pytest.raises(HaopsError, match="cassandra-2"), opened(ring):
            pass


def test_the_same_file_replaced_has_another_stamp() -> None:
    path = f"shop/items-{ID}/snapshots/b1/nb-1-big-Statistics.db"
    stamps = {
        part.stamp
        for fact in (FileFact(path, 9, 1), FileFact(path, 9, 2), FileFact(path, 8, 1))
        for part in sstables.parts("n", sstables.snapped([fact], "b1"))
    }
    assert len(stamps) == 3


def test_files_of_indexes_other_snapshots_and_the_servers_own_are_no_parts() -> None:
    paths = (
        f"shop/items-{ID}/nb-1-big-Data.db",
        f"shop/items-{ID}/snapshots/other/nb-1-big-Data.db",
        f"shop/items-{ID}/snapshots/b1/.by_v/nb-1-big-Data.db",
        f"system_auth/roles-{ID}/snapshots/b1/nb-1-big-Data.db",
        f"haops/ready-{ID}/snapshots/b1/nb-1-big-Data.db",
    )
    assert sstables.snapped([FileFact(p, 1, 1) for p in paths], "b1") == ()

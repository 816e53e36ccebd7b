"""Restoring a ring: what goes where, what is in the way, what is refused, and going on after a crash."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from haops.errors import HaopsError
from haops.stores.backup import BackupWish, Form, NotRestorable, Part, RestoreFailed, Restorer, RestoreWish
from haops.stores.cassandra import backup, restore
from haops.stores.cassandra import watched as watching
from haops.stores.cassandra.loader import Write
from haops.stores.cassandra.rows import ROW, Cell, Row
from haops.stores.cassandra.schema import Entry
from haops.stores.cassandra.stream import stream
from haops.stores.cassandra.watched import Counter, watched

from .pages import PLAIN, page
from .rings import HITS, ITEMS, KEYSPACE, MemoryArchive, Ring, facts_of, in_force, keep

OTHER = Entry("shop", "table", "items", "CREATE TABLE shop.items (id text PRIMARY KEY);")


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryArchive:
    ring = Ring(3, tmp_path / "source", (KEYSPACE, ITEMS, HITS))
    with (
        in_force(monkeypatch, ring),
        backup.source(ring.cluster, ring.tools, BackupWish("b1")) as source,
    ):
        return keep(source, ring.cluster)  # type: ignore[arg-type]


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ring]:
    made = Ring(3, tmp_path / "target", ())
    with in_force(monkeypatch, made):
        yield made


@contextmanager
def opened(
    ring: Ring, archive: MemoryArchive, only: str | None = None, *, merge: bool = False
) -> Iterator[Restorer]:
    wish = RestoreWish(only=only, merge=merge)
    with restore.restorer(ring.cluster, ring.tools, archive, wish) as restorer:
        yield restorer


def run(restorer: Restorer) -> list[str]:
    for stage in restorer.stages():
        last = None
        for advance in restorer.perform(stage, ""):
            assert last is None or advance.done >= last.done
            last = advance
        assert last is None or last.done == stage.total
    return [stage.name for stage in restorer.stages()]


def imported(ring: Ring) -> dict[str, list[str]]:
    """Whose data each node took."""
    found: dict[str, list[str]] = {}
    for (node, path), content in sorted(ring.imported.items()):
        if path.endswith("Data.db") and "/items/" in path:
            found.setdefault(node, []).append(content.decode().rpartition(" ")[2])
    return found


def test_the_same_topology_gives_each_node_its_own_files(target: Ring, archive: MemoryArchive) -> None:
    with opened(target, archive) as restorer:
        assert run(restorer) == ["schema", "files shop.hits", "files shop.items"]
    names = [n.name for n in target.cluster.servers]
    assert imported(target) == {name: [name] for name in names}
    assert not any(" -t " in order for _, order in target.orders), "a server checks that the rows are its own"
    assert target.loans.open() == ()
    assert target.runtime.disk == {}


def test_a_single_node_gets_everything_and_has_nothing_to_clean(
    tmp_path: Path, archive: MemoryArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Ring(1, tmp_path / "one", ())
    with in_force(monkeypatch, target), opened(target, archive) as restorer:
        assert "cleanup" not in run(restorer)
        assert "dc1: 1 instead of dc1: 3" in restorer.stages()[0].text
    assert imported(target) == {"cassandra-1": ["cassandra-1", "cassandra-2", "cassandra-3"]}
    assert any("'dc1': '1'" in said for said in target.session.said)


def test_a_larger_ring_gets_all_files_and_throws_away_what_is_not_its_own(
    tmp_path: Path, archive: MemoryArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Ring(5, tmp_path / "five", ())
    with in_force(monkeypatch, target), opened(target, archive) as restorer:
        assert run(restorer)[-1] == "cleanup"
    assert set(imported(target)) == {n.name for n in target.cluster.servers}
    cleaned = {node for node, order in target.orders if order == "cleanup shop"}
    assert cleaned == {n.name for n in target.cluster.servers}
    assert all(" -t " in order for _, order in target.orders if order.startswith("import"))


def test_only_a_table_is_only_that_table(target: Ring, archive: MemoryArchive) -> None:
    with opened(target, archive, only="shop.items") as restorer:
        assert run(restorer) == ["schema", "files shop.items"]
    assert not any("shop.hits" in said for said in target.session.said)
    with (
        pytest.raises(NotRestorable, match="no table") as caught,
        opened(target, archive, only="shop.nothing"),
    ):
        pass
    assert "shop.items" in str(caught.value)


def test_tables_with_rows_and_other_tables_are_in_the_way_until_they_are_wiped(
    target: Ring, archive: MemoryArchive
) -> None:
    target.session.entries = [KEYSPACE, OTHER, HITS]
    target.session.full = {"hits"}
    with opened(target, archive) as restorer:
        assert restorer.in_the_way() == ("shop.items is defined otherwise", "shop.hits has rows")
        with pytest.raises(RestoreFailed, match="defined otherwise"):
            list(restorer.perform(restorer.stages()[0], ""))
        restorer.wipe()
        assert restorer.in_the_way() == ()
    assert target.session.said == ['TRUNCATE "shop"."hits"', 'DROP TABLE "shop"."items"']


def test_opening_a_restore_touches_nothing(target: Ring, archive: MemoryArchive) -> None:
    target.session.full = {"items"}
    with opened(target, archive) as restorer:
        restorer.in_the_way()
        restorer.stages()
    assert target.session.said == []
    assert target.runtime.calls == []


def test_a_newer_servers_files_are_refused_before_anything_is_touched(
    target: Ring, archive: MemoryArchive
) -> None:
    newer = replace(archive, facts=facts_of(target.cluster, "5.1.0"))
    with pytest.raises(NotRestorable, match=r"5\.1\.0"), opened(target, newer):
        pass
    patched = replace(archive, facts=facts_of(target.cluster, "5.0.99"))
    with opened(target, patched):
        pass


def test_a_moment_within_a_backup_is_refused(target: Ring, archive: MemoryArchive) -> None:
    wish = RestoreWish(at=datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(NotRestorable), restore.restorer(target.cluster, target.tools, archive, wish):
        pass


def test_files_that_a_server_leaves_lying_fail_the_restore(target: Ring, archive: MemoryArchive) -> None:
    target.leaves = {"cassandra-2"}
    with pytest.raises(RestoreFailed, match="did not take") as caught, opened(target, archive) as restorer:
        run(restorer)
    assert caught.value.node == "cassandra-2"
    assert target.loans.open() == ()
    assert target.runtime.disk == {}, "nothing is left in the staging folders"


def test_a_restore_goes_on_with_the_nodes_that_lack_a_table(target: Ring, archive: MemoryArchive) -> None:
    with opened(target, archive) as restorer:
        stage = next(s for s in restorer.stages() if s.name == "files shop.items")
        archive.read_parts.clear()
        advances = list(restorer.perform(stage, json.dumps(["cassandra-1", "cassandra-3"])))
    assert {name.split("/")[0] for name in archive.read_parts} == {"cassandra-2"}
    assert list(imported(target)) == ["cassandra-2"]
    assert advances[-1].done == stage.total
    assert json.loads(advances[-1].mark) == ["cassandra-1", "cassandra-2", "cassandra-3"]


def test_a_node_counts_as_done_only_when_it_has_imported(target: Ring, archive: MemoryArchive) -> None:
    target.refuse = lambda node, order: order.startswith("import") and node == "cassandra-2"
    marks = []
    with opened(target, archive) as restorer:
        stage = restorer.stages()[-1]
        with pytest.raises(RestoreFailed):
            for advance in restorer.perform(stage, ""):
                marks.append(advance.mark)  # noqa: PERF401 - those before the failure count
    assert marks
    assert "cassandra-1" in marks[-1]
    assert not any("cassandra-2" in mark for mark in marks)


def test_staging_is_lent_before_anything_is_written(target: Ring, archive: MemoryArchive) -> None:
    with pytest.raises(HaopsError), opened(target, archive) as restorer:
        target.runtime.fail["write_files"] = [RestoreFailed("the disk is full")]
        stage = restorer.stages()[-1]
        try:
            list(restorer.perform(stage, ""))
        finally:
            assert [k.setting for k in target.loans.open()] == ["staging"]


def test_watched_work_tells_how_far_it_is_and_what_broke_it() -> None:
    counter = Counter(5)

    def work() -> None:
        list(counter.counted([b"abc", b"de"]))
        raise RestoreFailed("full")

    seen = []
    with pytest.raises(RestoreFailed):
        seen += list(watched(work, counter))
    assert counter.value == 10


def test_work_that_nobody_watches_any_more_ends() -> None:
    counter = Counter()

    def blocks() -> Iterator[bytes]:
        while True:
            yield b"x"

    def work() -> None:
        for _ in counter.counted(blocks()):
            pass

    seen = watched(work, counter)
    next(seen)
    seen.close()
    assert counter.value > 0


def test_work_ends_when_who_watches_it_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Counter()
    looks = []

    def look(*_: object, **__: object) -> None:
        looks.append(1)
        if len(looks) > 2:
            raise KeyboardInterrupt

    def work() -> None:
        for _ in counter.counted(iter(lambda: b"x", None)):
            pass

    monkeypatch.setattr(watching, "wait", look)
    with pytest.raises(KeyboardInterrupt):
        list(watched(work, counter))


@pytest.mark.parametrize(
    "words", ["{'class': 'NetworkTopologyStrategy', 'dc1': '3/1'}", "{'class': 'our.Own', 'dc1': '3'}"]
)
@pytest.mark.parametrize("nodes", [3, 5])
def test_copies_whose_places_are_not_known_are_restored_to_the_same_places_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, nodes: int
) -> None:
    odd = replace(KEYSPACE, cql=f"CREATE KEYSPACE shop WITH replication = {words};")
    source = Ring(3, tmp_path / "source", (odd, ITEMS))
    with (
        in_force(monkeypatch, source),
        backup.source(source.cluster, source.tools, BackupWish("b1")) as read,
    ):
        archive = keep(read, source.cluster)  # type: ignore[arg-type]
    target = Ring(nodes, tmp_path / "target", ())
    with in_force(monkeypatch, target):
        if nodes == 3:
            with opened(target, archive) as restorer:
                run(restorer)
            assert imported(target) == {n.name: [n.name] for n in target.cluster.servers}
            return
        with (
            pytest.raises(NotRestorable, match=r"which nodes keep the copies of shop\.items"),
            opened(target, archive),
        ):
            pass
    assert imported(target) == {}


class FakeLoader:
    """Takes rows, or breaks off after so many."""

    written: list[bytes | None]
    breaks_after: int

    def __init__(self, *_: object) -> None:
        pass

    def write(self, writes: Iterable[Write]) -> Iterator[int]:
        for write in writes:
            if len(FakeLoader.written) >= FakeLoader.breaks_after:
                raise RestoreFailed("no")
            FakeLoader.written += write.values
            yield 1


def rows_archive(archive: MemoryArchive, pages: int) -> MemoryArchive:
    """The same backup from a newer server, with rows."""
    rows = [
        page(PLAIN, [((bytes([n]),), Row(ROW, (bytes([n]),), (Cell(bytes([n]), None, 1),), 0), None)])
        for n in range(pages)
    ]
    data = b"".join(stream(PLAIN, rows))
    parts = (*archive.parts, Part("rows/shop.items", "", Form.LOGICAL, len(data)))
    content = {**archive.content, "rows/shop.items": data}
    return replace(archive, content=content, parts=parts, facts=replace(archive.facts, version="99.0"))


def test_rows_are_written_where_files_cannot_be_read_and_go_on_from_any_mark(
    target: Ring, archive: MemoryArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore, "Loader", FakeLoader)
    monkeypatch.setattr(FakeLoader, "written", [], raising=False)
    monkeypatch.setattr(FakeLoader, "breaks_after", 3, raising=False)
    with opened(target, rows_archive(archive, 5)) as restorer:
        first, stage = restorer.stages()
        assert stage.name == "rows shop.items"
        mark = ""
        with pytest.raises(RestoreFailed):
            for advance in restorer.perform(stage, ""):
                mark = advance.mark
        monkeypatch.setattr(FakeLoader, "breaks_after", 99)
        last = list(restorer.perform(stage, mark))[-1]
        assert FakeLoader.written == [bytes([n]) for n in range(5)]
        assert last.done == stage.total
        assert list(restorer.perform(stage, last.mark))[-1].done == stage.total, "a crash right at the end"
    assert not target.imported
    assert first.name == "schema"

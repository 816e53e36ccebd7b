"""Restores into a target with a past, from a backup with names that are none, and with trouble at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cassandra import ConsistencyLevel

from haops.backup.documents import Damaged, dump, load
from haops.backup.manifest import PartRecord, Sealed
from haops.errors import BadInput, HaopsError
from haops.stores.backup import BackupWish, Form, NotRestorable, Part, RestoreFailed
from haops.stores.cassandra import backup, nodetool, restore, sstables
from haops.stores.cassandra.nodetool import Nodetool
from haops.stores.cassandra.schema import Entry
from haops.stores.plan import StepFailed

from .rings import HITS, ID, ITEMS, KEYSPACE, MemoryArchive, Ring, in_force, keep
from .test_restore import opened, rows_archive, run

EMPTY = 'TRUNCATE "shop"."items"'
DROP = "ALTER TABLE shop.items DROP gone USING TIMESTAMP 5"
CREATE = ITEMS.cql.replace("    value blob\n", "    value blob,\n    gone text\n")
DROPPED = replace(ITEMS, cql=f"{CREATE}\n{DROP};")


def made(folder: Path, monkeypatch: pytest.MonkeyPatch, *entries: Entry) -> MemoryArchive:
    ring = Ring(3, folder, entries)
    with (
        in_force(monkeypatch, ring),
        backup.source(ring.cluster, ring.tools, BackupWish("b1")) as source,
    ):
        return keep(source, ring.cluster)  # type: ignore[arg-type]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryArchive:
    return made(tmp_path / "source", monkeypatch, KEYSPACE, ITEMS)


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ring]:
    ring = Ring(3, tmp_path / "target", (KEYSPACE, ITEMS, HITS))
    with in_force(monkeypatch, ring):
        yield ring


def test_a_table_that_shows_no_row_is_emptied_of_its_tombstones_before_it_is_written(
    target: Ring, archive: MemoryArchive
) -> None:
    with opened(target, archive) as restorer:
        assert restorer.in_the_way() == ()
        run(restorer)
    assert target.session.said == [EMPTY], "and no other table, nor again when files are written"


def test_a_schema_stage_that_is_done_once_more_harms_nothing(target: Ring, archive: MemoryArchive) -> None:
    for _ in range(2):
        with opened(target, archive) as restorer:
            list(restorer.perform(restorer.stages()[0], ""))
    assert target.session.said == [EMPTY, EMPTY]


@pytest.mark.parametrize("half", ["files", "rows"])
def test_rows_that_came_while_a_restore_was_cut_off_are_not_removed(
    target: Ring, archive: MemoryArchive, half: str
) -> None:
    both = archive if half == "files" else rows_archive(archive, 1)
    with opened(target, both) as restorer:
        assert restorer.in_the_way() == (), "the restore is cut off here, and applications write"
    target.session.full = {"items"}
    with opened(target, both) as restorer:
        with pytest.raises(NotRestorable, match=r"rows .* shop\.items") as caught:
            list(restorer.perform(restorer.stages()[0], ""))
        assert "--wipe" in str(caught.value)
        assert "--resume" in str(caught.value)
        assert target.session.said == []
        restorer.wipe()
        list(restorer.perform(restorer.stages()[0], ""))
    assert target.session.said == [EMPTY], "those of a wipe that was asked for"


def test_no_table_is_emptied_while_another_one_has_rows(
    tmp_path: Path, target: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = made(tmp_path / "both", monkeypatch, KEYSPACE, ITEMS, HITS)
    target.session.full = {"items"}
    with opened(target, both) as restorer, pytest.raises(NotRestorable) as caught:
        list(restorer.perform(restorer.stages()[0], ""))
    assert "shop.hits" not in str(caught.value), "it shows no row, and comes first"
    assert target.session.said == []


def test_rows_are_looked_for_on_every_copy(
    target: Ring, archive: MemoryArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = []

    @contextmanager
    def connect(*_: object, level: int, **__: object) -> Iterator[object]:
        levels.append(level)
        yield target.session

    # Undone before `target` is: it has put something in the same place.
    with monkeypatch.context() as patch:
        patch.setattr(restore, "connect", connect)
        with opened(target, archive):
            pass
    assert levels == [ConsistencyLevel.ALL]


def test_a_stage_that_is_resumed_later_empties_nothing(target: Ring, archive: MemoryArchive) -> None:
    with opened(target, archive) as restorer:
        for stage in restorer.stages()[1:]:
            list(restorer.perform(stage, ""))
    assert target.session.said == []


def test_a_table_of_which_the_backup_has_nothing_is_left_alone(
    tmp_path: Path, target: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = made(tmp_path / "both", monkeypatch, KEYSPACE, ITEMS, HITS)
    with opened(
        target, replace(both, parts=tuple(p for p in both.parts if "/hits-" not in p.name))
    ) as restorer:
        run(restorer)
    assert target.session.said == [EMPTY]


def test_rows_also_find_their_table_emptied(target: Ring, archive: MemoryArchive) -> None:
    with opened(target, rows_archive(archive, 1)) as restorer:
        list(restorer.perform(restorer.stages()[0], ""))
    assert target.session.said == [EMPTY]


def test_a_restore_beside_what_is_there_removes_nothing(target: Ring, archive: MemoryArchive) -> None:
    with opened(target, archive, merge=True) as restorer:
        run(restorer)
    assert target.session.said == []


def test_a_table_that_was_just_wiped_is_not_emptied_twice(target: Ring, archive: MemoryArchive) -> None:
    with opened(target, archive) as restorer:
        restorer.wipe()
        list(restorer.perform(restorer.stages()[0], ""))
    assert target.session.said == [EMPTY]


@pytest.fixture
def dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryArchive:
    return made(tmp_path / "dropped", monkeypatch, KEYSPACE, DROPPED)


def test_a_table_whose_making_broke_off_is_finished(target: Ring, dropped: MemoryArchive) -> None:
    target.session.entries = [KEYSPACE, replace(ITEMS, cql=CREATE)]
    with opened(target, dropped) as restorer:
        stage = restorer.stages()[0]
        assert [a.done for a in restorer.perform(stage, "")] == [stage.total]
    assert target.session.said == [EMPTY, DROP]


def test_a_table_that_looks_half_made_and_has_rows_is_somebodys(target: Ring, dropped: MemoryArchive) -> None:
    target.session.entries = [KEYSPACE, replace(ITEMS, cql=CREATE)]
    target.session.full = {"items"}
    with opened(target, dropped, merge=True) as restorer, pytest.raises(RestoreFailed, match="otherwise"):
        list(restorer.perform(restorer.stages()[0], ""))
    assert target.session.said == []


BAD_NAMES = (
    f"cassandra-1/shop/items-{ID}/$(reboot)-Data.db",
    f"cassandra-1/shop/items-{ID}/a b-Data.db",
    f"cassandra-1/shop/items-{ID}/..",
    f"cassandra-1/shop/items-{ID}/-Data.db",
    f"cassandra-1/shop;reboot/items-{ID}/nb-1-big-Data.db",
    f"cassandra-1/sh\u00f6p/items-{ID}/nb-1-big-Data.db",
    f"cassandra-1/../items-{ID}/nb-1-big-Data.db",
    "cassandra-1/shop/items-1/nb-1-big-Data.db",
    f"cassandra-9/shop/items-{ID}/nb-1-big-Data.db",
    f"../shop/items-{ID}/nb-1-big-Data.db",
    f"cassandra-1/deeper/shop/items-{ID}/nb-1-big-Data.db",
)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_part_that_no_server_names_so_is_refused_before_anything_is_touched(
    target: Ring, archive: MemoryArchive, name: str
) -> None:
    bad = replace(archive, parts=(*archive.parts, Part(name, "cassandra-1", Form.PHYSICAL, 1)))
    with pytest.raises(NotRestorable, match="no file of a table"), opened(target, bad):
        pass
    assert (target.session.said, target.runtime.calls) == ([], [])


def test_files_of_every_format_and_of_attached_indexes_are_known() -> None:
    files = ("nb-1-big-TOC.txt", "oa-3gd3_1abc_2def-big-Data.db", "da-1-bti-SAI+aa+by_v+Meta.db")
    parts = [Part(f"cassandra-1/shop/items-{ID}/{f}", "", Form.PHYSICAL, 1) for f in files]
    assert [f.file for f in sstables.stored(parts, {"cassandra-1"})] == list(files)


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "a;b", ".hidden", "a..b", "-rf"])
def test_an_id_that_is_no_folders_name_is_refused(target: Ring, archive: MemoryArchive, name: str) -> None:
    with pytest.raises(NotRestorable, match="no id"), opened(target, replace(archive, id=name)):
        pass
    assert (target.session.said, target.runtime.calls) == ([], [])


def test_the_rows_of_another_table_are_not_written(target: Ring, archive: MemoryArchive) -> None:
    bad = rows_archive(archive, 1)
    content = {**bad.content, "rows/shop.hits": bad.content["rows/shop.items"]}
    parts = (*bad.parts, Part("rows/shop.hits", "", Form.LOGICAL, 1))
    with opened(target, replace(bad, content=content, parts=parts)) as restorer:
        stage = next(s for s in restorer.stages() if s.name == "rows shop.hits")
        with pytest.raises(RestoreFailed, match=r"those of shop\.items"):
            list(restorer.perform(stage, ""))


@pytest.mark.parametrize("name", ["../x", "a/../b", "/etc/passwd", "a//b", "a/./b", "", "a\nb", "a\0b"])
def test_a_manifest_with_a_part_outside_of_its_folder_is_damaged(name: str) -> None:
    def record(part: str) -> PartRecord:
        return PartRecord(part, "n", Form.PHYSICAL, 1, "", "0" * 64, ())

    with pytest.raises(Damaged, match="part 1 is damaged"):
        load(PartRecord, dump(record(name)), "part 1")
    good = record(f"cassandra-1/shop/items-{ID}/nb-1-big-Data.db")
    assert load(PartRecord, dump(good), "part 1") == good


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\n", "a b", "-a", "a..b"])
def test_a_manifest_with_an_id_that_is_no_folders_name_is_damaged(name: str) -> None:
    with pytest.raises(Damaged):
        load(Sealed, dump(Sealed(name, "0" * 64)), "seal")


def test_no_word_of_an_order_is_read_by_a_shell(target: Ring) -> None:
    target.runtime.answer = lambda node, argv: (0, "0\n")
    tool = Nodetool(target.cluster, target.runtime)
    tool.finish("cassandra-1", "job", "verify", "$(reboot)", "a b")
    begun = next(c for c in target.runtime.calls if c[0] == "execute")
    assert begun[-3:] == ("verify", "$(reboot)", "a b"), "words of their own"
    assert "reboot" not in "".join(begun[:-2])
    tool.run("cassandra-1", "drain; reboot")
    assert target.runtime.calls[-1][-1] == "nodetool 'drain; reboot'"
    with pytest.raises(BadInput, match="name of a job"):
        tool.finish("cassandra-1", "x; reboot", "verify")


def test_an_order_that_never_ends_is_given_up(target: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodetool, "_POLL_S", 0.0)
    target.runtime.answer = lambda node, argv: (0, "running\nslow" if len(argv) == 5 else "")
    with pytest.raises(StepFailed, match=r"waited 0\.01 s") as caught:
        Nodetool(target.cluster, target.runtime).finish("cassandra-1", "job", "import", deadline_s=0.01)
    assert "slow" in str(caught.value)


def test_what_goes_wrong_in_tidying_up_does_not_hide_what_went_wrong_first(
    target: Ring, archive: MemoryArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.leaves = {"cassandra-2"}
    with pytest.raises(RestoreFailed, match="did not take") as caught, opened(target, archive) as restorer:
        with pytest.raises(RestoreFailed) as first:
            run(restorer)
        target.runtime.answer = lambda node, argv: (1, "read-only")
        raise first.value
    assert "read-only" in caught.value.__notes__[0]
    assert target.loans.open(), "heal will find them"


def test_tidying_up_that_fails_by_itself_is_an_error(target: Ring, archive: MemoryArchive) -> None:
    with pytest.raises(HaopsError, match="rm failed"), opened(target, archive) as restorer:
        run(restorer)
        target.runtime.answer = lambda node, argv: (1, "read-only")

"""Making backups: what is read, what is kept, what is refused."""

from __future__ import annotations

import errno
from dataclasses import replace
from datetime import timedelta

import pytest

from haops.backup import chunks
from haops.backup.archive import ArchiveReader
from haops.backup.catalogue import BackupState, entries
from haops.backup.create import HEARTBEAT_S, BackupOrder, Progress, create
from haops.backup.manifest import Checked
from haops.backup.repository import CHUNKS, NoRepository, default_repository, open_repository
from haops.backup.storage import StorageTrouble, trouble
from haops.control.half_restored import HalfRestored, RestoreFile
from haops.errors import BadInput, Busy
from haops.stores.backup import BackupFailed, RestoreWish
from haops.wait import Clock

from ...backup_fakes import NOW, Died, FakeSource
from ...fakes import FakeClock, make_cluster
from .conftest import CHUNK, Shop, noise


def states(shop: Shop) -> list[BackupState]:
    return [entry.state for entry in entries(open_repository(shop.storage))]


def test_a_backup_holds_every_byte_and_what_the_store_told(shop: Shop) -> None:
    made = shop.make()
    assert made.id == "20260304T050607Z-redis"
    archive = ArchiveReader(open_repository(shop.storage), made)
    assert {p.name: b"".join(archive.read(p.name)) for p in archive.parts} == shop.source.content
    assert (made.facts.position, made.facts.details, made.created) == ("position 7", {"a": "b"}, NOW)
    assert made.begun.shape.nodes == 3
    assert made.bytes == sum(map(len, shop.source.content.values()))
    assert made.stored == sum(len(c) for k, (c, _) in shop.storage.objects.items() if k.startswith(CHUNKS))
    assert made.new == made.stored < made.bytes
    assert shop.source.released == 1
    assert states(shop) == [BackupState.COMPLETE]


def test_what_was_only_for_the_way_is_gone_when_it_is_complete(shop: Shop) -> None:
    made = shop.make()
    own = {k.removeprefix(f"backups/{made.id}/") for k in shop.storage.objects if k.startswith("backups/")}
    assert own == {"manifest.json", "sealed.json"}


def test_bytes_that_are_there_are_not_stored_again(shop: Shop) -> None:
    shop.make()
    again = shop.make()
    assert again.id == "20260304T050608Z-redis"  # the same second is taken
    assert again.new == 0
    assert shop.verify(again.id).ok


def test_a_stamped_part_of_the_last_backup_is_not_read_again(shop: Shop) -> None:
    shop.use(replace(shop.source, stamps={"schema": "1", "data/big": "1"}))
    shop.make()
    later = shop.use(replace(shop.source, stamps={"schema": "2", "data/big": "1"}, read_parts=[]))
    said: list[str] = []
    made = shop.make(say=said.append)
    assert later.read_parts == ["schema", "empty", "zeros"]
    assert said == ["1 of 4 parts are unchanged, and not read again"]
    assert shop.verify(made.id).ok


def test_a_stamped_part_whose_chunk_is_lost_is_read_again(shop: Shop) -> None:
    shop.use(replace(shop.source, stamps={"data/big": "1"}))
    first = shop.make()
    big = next(part for part in first.parts if part.name == "data/big")
    shop.storage.delete(f"{CHUNKS}{big.chunks[1].id[:2]}/{big.chunks[1].id}")
    later = shop.use(replace(shop.source, read_parts=[]))
    assert shop.make().new > 0
    assert "data/big" in later.read_parts
    assert shop.verify(first.id).ok


def test_another_cluster_of_the_same_name_is_not_built_upon(shop: Shop) -> None:
    shop.use(replace(shop.source, stamps={"data/big": "1"}))
    shop.make()
    shop.cluster = make_cluster("redis", owner="somebody")
    later = shop.use(replace(shop.source, read_parts=[]))
    shop.make()
    assert "data/big" in later.read_parts


def test_a_chunk_that_rotted_is_not_leant_on_but_mended(shop: Shop) -> None:
    first = shop.make()
    key = next(k for k in shop.storage.objects if k.startswith(CHUNKS))
    content = shop.storage.objects[key][0]
    shop.storage.put(key, content[:-1] + bytes([content[-1] ^ 1]))
    assert not shop.verify(first.id).ok
    second = shop.make()
    assert shop.verify(second.id).ok
    assert shop.verify(first.id).ok


def test_a_backup_that_was_cut_off_is_gone_on_with(shop: Shop) -> None:
    shop.use(replace(shop.source, stamps={"schema": "1", "data/big": "1"}, fails="zeros"))
    with pytest.raises(Died):
        shop.make()
    assert states(shop) == [BackupState.INCOMPLETE]
    assert shop.source.released == 0
    shop.moment += timedelta(hours=2)
    later = shop.use(replace(shop.source, fails=None, read_parts=[], wishes=[]))
    made = shop.make()
    assert made.id == "20260304T050607Z-redis"
    assert later.read_parts == ["empty", "zeros"]
    assert later.wishes[0].id == made.id
    assert states(shop) == [BackupState.COMPLETE]
    assert shop.verify().ok


@pytest.mark.parametrize("order", [{"logical": True}, {"node": "redis-2"}, {"fresh": True}])
def test_another_wish_begins_another_backup(shop: Shop, order: dict[str, object]) -> None:
    shop.use(replace(shop.source, fails="zeros"))
    with pytest.raises(Died):
        shop.make()
    shop.use(replace(shop.source, fails=None))
    assert shop.make(**order).id == "20260304T050608Z-redis"
    assert states(shop) == [BackupState.INCOMPLETE, BackupState.COMPLETE]


def test_a_part_that_is_not_as_long_as_announced_fails_the_backup(shop: Shop) -> None:
    shop.use(replace(shop.source, announced={"schema": 1001}))
    with pytest.raises(BackupFailed, match="1,001 were announced"):
        shop.make()
    assert states(shop) == [BackupState.INCOMPLETE]


def test_chunks_that_vanish_meanwhile_fail_the_backup(shop: Shop) -> None:
    def vanish(progress: Progress) -> None:
        if progress.part == "zeros":
            for key in [k for k in shop.storage.objects if k.startswith(CHUNKS)]:
                shop.storage.delete(key)

    shop.make()
    with pytest.raises(BackupFailed, match="were removed while it was made"):
        shop.make(report=vanish)


def test_a_full_disk_leaves_an_incomplete_backup_that_can_be_gone_on_with(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(key: str, content: bytes) -> bool:
        if key.startswith(CHUNKS) and len(shop.storage.objects) > 4:
            raise trouble(f"write {key}", OSError(errno.ENOSPC, "No space left on device"))
        return real(key, content)

    real = shop.storage.put_new
    with monkeypatch.context() as patch:
        patch.setattr(shop.storage, "put_new", full)
        with pytest.raises(StorageTrouble, match="free some space") as caught:
            shop.make()
    assert caught.value.exit_code == 3
    assert states(shop) == [BackupState.INCOMPLETE]
    assert shop.make().id == "20260304T050607Z-redis"
    assert shop.verify().ok


def test_two_backups_of_a_cluster_at_once_are_refused(shop: Shop) -> None:
    with shop.haops.state.lock("redis", "backup", part="backup"), pytest.raises(Busy):
        shop.make()
    with shop.haops.state.lock("redis", "failover"):
        shop.make()  # a backup does not stand in the way of other work


def test_a_wrong_recipient_touches_nothing(shop: Shop) -> None:
    open_repository(shop.storage, make=True)
    before = dict(shop.storage.objects)
    with pytest.raises(BadInput, match="no recipient"):
        shop.make(recipients=["age1nonsense"])
    assert shop.storage.objects == before
    assert shop.source.wishes == []


def test_progress_counts_up_to_the_whole(shop: Shop) -> None:
    seen: list[Progress] = []
    shop.use(replace(shop.source, stamps=dict.fromkeys(shop.source.content, "1")))
    made = shop.make(report=seen.append)
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert seen[-1].done == seen[-1].total == made.bytes


def test_a_rate_is_kept(shop: Shop, clock: FakeClock) -> None:
    shop.source.offered(shop.monkeypatch)
    order = BackupOrder(rate=10_000)
    before = clock.now
    made = create(
        shop.haops, shop.cluster, open_repository(shop.storage, make=True), order, clock=clock.clock
    )
    assert clock.now - before == pytest.approx(made.bytes / 10_000, rel=0.01)


def test_a_long_backup_shows_that_it_is_alive(shop: Shop, clock: FakeClock) -> None:
    beats: list[str] = []
    real = shop.storage.put
    shop.monkeypatch.setattr(
        shop.storage, "put", lambda key, content: (beats.append(key), real(key, content))[1]
    )
    shop.source.offered(shop.monkeypatch)
    slow = Clock(lambda: clock.now, clock.sleep)
    order = BackupOrder(report=lambda _: clock.sleep(HEARTBEAT_S))
    create(shop.haops, shop.cluster, open_repository(shop.storage, make=True), order, clock=slow)
    assert sum(key.endswith("begun.json") for key in beats) >= 5


def test_a_part_of_240_megabytes_needs_little_memory(shop: Shop) -> None:
    import tracemalloc

    size = 240 * 1024 * 1024
    block = noise(1024 * 1024)

    class Big(FakeSource):
        def read(self, part: object) -> object:  # type: ignore[override]
            for _ in range(size // len(block)):
                yield block

    shop.monkeypatch.setattr(chunks, "CHUNK_SIZE", 4 * 1024 * 1024)
    shop.use(Big({"big": b""}))
    tracemalloc.start()
    try:
        made = shop.make()
        _, peak = tracemalloc.get_traced_memory()
        assert peak < 80 * 1024 * 1024
        archive = ArchiveReader(open_repository(shop.storage), made)
        tracemalloc.reset_peak()
        assert sum(len(b) for b in archive.read("big")) == size
        _, peak = tracemalloc.get_traced_memory()
        assert peak < 80 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_the_repository_is_where_the_environment_says(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    root = shop.haops.state.root
    assert default_repository(root) == str(root / "backups")
    monkeypatch.setenv("HAOPS_REPO", "s3://bucket/here")
    assert default_repository(root) == "s3://bucket/here"
    with pytest.raises(NoRepository, match="haops backup create"):
        open_repository(str(root / "nothing"))


def test_small_parts_are_kept_while_later_ones_are_read(shop: Shop) -> None:
    shop.use(FakeSource({f"part-{n:03}": noise(100, n) for n in range(200)} | {"last": noise(CHUNK)}))
    made = shop.make()
    assert [part.name for part in made.parts] == list(shop.source.content)
    assert shop.verify().ok


def test_a_backup_that_a_check_found_bad_is_not_built_upon(shop: Shop) -> None:
    shop.use(replace(shop.source, stamps=dict.fromkeys(shop.source.content, "1")))
    first = shop.make()
    second = shop.make()
    repository = open_repository(shop.storage)
    repository.note_checked(second.id, Checked("full", NOW, ok=False))
    later = shop.use(replace(shop.source, read_parts=[]))
    shop.make()
    assert later.read_parts == []  # the first is good
    for backup in entries(repository):
        repository.note_checked(backup.id, Checked("full", NOW, ok=False))
    shop.make()
    assert later.read_parts == list(shop.source.content)
    assert first.id != second.id


def test_a_backup_that_begins_anew_takes_nothing_over(shop: Shop) -> None:
    shop.use(replace(shop.source, stamps=dict.fromkeys(shop.source.content, "1")))
    shop.make()
    later = shop.use(replace(shop.source, read_parts=[]))
    made = shop.make(fresh=True)
    assert later.read_parts == list(shop.source.content)
    assert made.new == 0


def test_what_is_half_restored_is_not_backed_up(shop: Shop) -> None:
    file = RestoreFile(shop.haops.state.cluster_dir("redis"))
    file.write(HalfRestored("20260101T000000Z-redis", "", RestoreWish(), "2026-01-01T00:00:00+00:00"))
    with pytest.raises(Busy, match="20260101T000000Z-redis") as caught:
        shop.make()
    assert "--wipe" in str(caught.value)
    assert shop.source.wishes == []
    file.clear()
    shop.make()


def test_chunks_that_vanish_at_the_last_moment_take_the_completeness_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.use(replace(shop.source, stamps=dict.fromkeys(shop.source.content, "1")))
    put = shop.storage.put

    def vanish(key: str, content: bytes) -> None:
        put(key, content)
        if key.endswith("manifest.json"):
            shop.storage.delete(next(k for k in shop.storage.objects if k.startswith(CHUNKS)))

    with monkeypatch.context() as patch:
        patch.setattr(shop.storage, "put", vanish)
        with pytest.raises(BackupFailed, match="were removed while it was made"):
            shop.make()
    assert states(shop) == [BackupState.INCOMPLETE]
    later = shop.use(replace(shop.source, read_parts=[]))
    made = shop.make()
    assert len(later.read_parts) == 1  # the rest of it was kept
    assert states(shop) == [BackupState.COMPLETE]
    assert shop.verify(made.id).ok


@pytest.mark.parametrize("lost", [False, True])
def test_a_backup_whose_maker_died_before_his_last_look_is_looked_at_before_it_is_sealed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    put = shop.storage.put

    def die(key: str, content: bytes) -> None:
        put(key, content)
        if key.endswith("manifest.json"):
            raise Died

    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(shop.storage, "put", die)
        # The process is dead: it takes nothing back.
        patch.setattr(shop.storage, "delete", lambda key: None)
        shop.make()
    (first,) = entries(open_repository(shop.storage))
    assert first.state is BackupState.COMPLETE
    if lost:
        shop.storage.delete(next(k for k in shop.storage.objects if k.startswith(CHUNKS)))
    made = shop.make()
    found = entries(open_repository(shop.storage))
    assert (made.id == first.id) is lost
    assert [e.state for e in found] == [BackupState.COMPLETE] * (1 if lost else 2)
    assert all(shop.verify(e.id).ok and e.folder.sealed for e in found)


def test_whatever_ends_the_last_look_takes_the_completeness_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = shop.storage.size

    def interrupted(key: str) -> int | None:
        if any(k.endswith("manifest.json") for k in shop.storage.objects):
            raise KeyboardInterrupt
        return size(key)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shop.storage, "size", interrupted)
        shop.make()
    assert [e.state for e in entries(open_repository(shop.storage))] == [BackupState.INCOMPLETE]
    assert shop.verify(shop.make().id).ok

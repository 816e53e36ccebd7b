"""Who removes chunks and who makes a backup: one of the two sees the other."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from threading import Event, Thread

import pytest

from haops.backup.prune import prune
from haops.backup.repository import CHUNKS, open_repository
from haops.backup.storage import StorageTrouble
from haops.backup.sweep import HOLDS, SWEEPS, await_sweeps, sweeping
from haops.errors import Busy
from haops.wait import Clock

from ...backup_fakes import NOW, MemoryStorage
from .conftest import Shop, noise, order


class Slept:
    """A clock that only sleeping moves on, and what happens at the n-th sleep."""

    def __init__(self) -> None:
        self.at = 0.0
        self.naps = 0
        self.then: dict[int, object] = {}

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.at, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.at += seconds
        self.naps += 1
        if callable(act := self.then.get(self.naps)):
            act()


def alone(shop: Shop, history: list[str]) -> str:
    """The chunk that the oldest backup has and no other."""
    repository = open_repository(shop.storage)
    needed = [{chunk.id for chunk in repository.manifest(backup).chunks()} for backup in history]
    (only,) = needed[0] - needed[1] - needed[2]
    return only


def test_a_short_backup_made_while_chunks_are_removed_is_whole(
    shop: Shop, history: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    garbage = f"{CHUNKS}00/{0:064}"
    shop.storage.clock = lambda: NOW - timedelta(hours=5)
    shop.storage.put(garbage, b"nobody needs it")
    shop.storage.clock = lambda: NOW
    # The same bytes as the oldest one had, whose chunks are garbage now.
    shop.moment = NOW
    shop.use(replace(shop.source.changed(schema=noise(1000, 3)), latest=NOW))
    waits, made = Event(), []

    def back_up() -> None:
        made.append(shop.make(say=lambda _: waits.set()))
        waits.set()

    thread = Thread(target=back_up)
    delete = shop.storage.delete

    def slowly(key: str) -> None:
        delete(key)
        if key == garbage:
            thread.start()
            assert waits.wait(10)

    monkeypatch.setattr(shop.storage, "delete", slowly)
    pruned = prune(open_repository(shop.storage), order())
    thread.join(20)
    assert (pruned.decision.forget, pruned.chunks_stay) == ((history[1], history[0]), "")
    assert pruned.chunks > 1
    assert len(made) == 1
    assert shop.verify(made[0].id).ok


def test_whoever_begins_waits_while_a_marker_is_up_and_says_so_once() -> None:
    storage, slept, said = MemoryStorage(), Slept(), []
    with sweeping(storage) as mark:
        await_sweeps(storage, NOW, slept.clock, said.append)
        assert (slept.naps, said) == (0, [])
        mark()
        slept.then[3] = lambda: storage.objects.clear()
        await_sweeps(storage, NOW, slept.clock, said.append)
    assert (slept.naps, said) == (3, ["waiting for a prune that removes chunks"])


def test_a_marker_of_a_dead_one_holds_nobody_for_longer_than_said() -> None:
    storage, slept = MemoryStorage(), Slept()
    storage.put(f"{SWEEPS}dead", b"")
    await_sweeps(storage, NOW, slept.clock, lambda _: None)
    assert 0 < slept.at - HOLDS.total_seconds() <= 1
    naps = slept.naps
    await_sweeps(storage, NOW + HOLDS + timedelta(seconds=1), slept.clock, lambda _: None)
    assert slept.naps == naps


def test_one_who_goes_on_removing_is_named_after_a_while() -> None:
    slept = Slept()
    storage = MemoryStorage(lambda: NOW + timedelta(seconds=slept.at))
    with sweeping(storage) as mark:
        mark()
        slept.then = dict.fromkeys(range(10_000), mark)
        with pytest.raises(Busy, match="prune") as caught:
            await_sweeps(storage, NOW, slept.clock, lambda _: None)
        assert SWEEPS in str(caught.value.detail)
    assert not storage.objects


def test_on_a_full_disk_chunks_go_without_a_marker(
    shop: Shop, history: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    only = alone(shop, history)

    def full(*_: object) -> None:
        raise StorageTrouble("full")

    monkeypatch.setattr(shop.storage, "put", full)
    assert prune(open_repository(shop.storage), order()).chunks_stay == ""
    assert not any(only in key for key in shop.storage.objects)
    assert shop.verify(history[2]).ok


def test_who_is_made_to_wait_has_shown_himself_before(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    entries = shop.storage.entries

    def listed(prefix: str) -> object:
        if prefix == SWEEPS:
            seen.append(any("begun" in key for key in shop.storage.objects))
        return entries(prefix)

    monkeypatch.setattr(shop.storage, "entries", listed)
    shop.make()
    assert seen == [True]


def test_markers_of_the_dead_are_removed(shop: Shop, history: list[str]) -> None:
    shop.storage.clock = lambda: NOW - timedelta(days=1)
    shop.storage.put(f"{SWEEPS}dead", b"")
    prune(open_repository(shop.storage), order())
    assert not any(key.startswith(SWEEPS) for key in shop.storage.objects)

"""The tool is killed at every single storage operation, before it and after it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from haops.backup.catalogue import BackupState, entries
from haops.backup.prune import PruneOrder, prune
from haops.backup.repository import open_repository
from haops.backup.retention import Rules

from ...backup_fakes import NOW, Died, FakeSource, MemoryStorage, MortalStorage
from .conftest import CHUNK, Shop, noise

MANIFEST = "/manifest.json"


def small(shop: Shop) -> None:
    shop.use(FakeSource({"a": noise(10, 1), "b": noise(CHUNK + 1, 2), "c": b""}, stamps={"a": "1", "b": "1"}))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_anywhere_a_backup_is_never_called_complete_and_the_same_command_completes_it(
    shop: Shop, after: bool
) -> None:
    small(shop)
    survived = False
    operations = 0
    while not survived:
        operations += 1
        shop.storage = MemoryStorage()
        try:
            shop.make(MortalStorage(shop.storage, operations, after=after))
            survived = True
        except Died:
            has_manifest = any(key.endswith(MANIFEST) for key in shop.storage.objects)
            found = entries(open_repository(shop.storage, make=True))
            states = [entry.state for entry in found]
            assert states in ([], [BackupState.COMPLETE if has_manifest else BackupState.INCOMPLETE])
            assert not has_manifest or shop.verify().ok  # the manifest came last
        made = shop.make()
        assert [e.state for e in entries(open_repository(shop.storage))].count(BackupState.INCOMPLETE) == 0
        assert shop.verify(made.id).ok
        assert not any("/parts/" in key or key.endswith("begun.json") for key in shop.storage.objects)
    assert operations > 20


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_anywhere_pruning_leaves_the_other_backups_whole_and_can_be_repeated(
    shop: Shop, after: bool
) -> None:
    old = NOW - timedelta(days=3)
    small(shop)
    shop.storage.clock = lambda: old
    shop.moment = old
    shop.source.latest = old
    first = shop.make()
    shop.moment += timedelta(days=1)
    shop.use(replace(shop.source.changed(b=noise(CHUNK + 1, 3)), stamps={"a": "1"}, latest=shop.moment))
    second = shop.make()
    order = PruneOrder(Rules(last=1), now=lambda: NOW)
    operations, survived = 0, False
    while not survived:
        operations += 1
        twin = shop.twin()
        try:
            prune(open_repository(MortalStorage(twin.storage, operations + 1, after=after)), order)
            survived = True
        except Died:
            pass
        ids = [entry.id for entry in entries(open_repository(twin.storage))]
        assert ids in ([first.id, second.id], [second.id])
        assert all(twin.verify(i).ok for i in ids)
        prune(open_repository(twin.storage), order)
        assert twin.verify(second.id).ok
        chunks = {k for k in twin.storage.objects if k.startswith("chunks/")}
        assert len(chunks) == len({c.id for c in second.chunks()})
        assert not any(first.id in key for key in twin.storage.objects)
    assert operations > 6

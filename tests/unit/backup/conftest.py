"""A cluster of made-up parts, and a repository in memory."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from haops.backup import chunks
from haops.backup.catalogue import find
from haops.backup.create import BackupOrder, create
from haops.backup.keys import Identities
from haops.backup.manifest import Manifest
from haops.backup.prune import PruneOrder
from haops.backup.repository import open_repository
from haops.backup.retention import Rules
from haops.backup.storage import Storage
from haops.backup.verify import Depth, Plan, Verified, verify
from haops.cluster.spec import Cluster
from haops.control.lifecycle import Lifecycle

from ...backup_fakes import NOW, FakeSource, MemoryStorage
from ...fakes import make_cluster

# Small chunks make parts of several chunks quick.
CHUNK = 50_000


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that cannot be packed."""
    return random.Random(seed).randbytes(size)


@dataclass
class Shop:
    """All that a backup needs."""

    haops: Lifecycle
    cluster: Cluster
    source: FakeSource
    monkeypatch: pytest.MonkeyPatch
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    moment: datetime = NOW

    def make(self, storage: Storage | None = None, **order: Any) -> Manifest:
        """Back up."""
        self.source.offered(self.monkeypatch)
        repository = open_repository(storage or self.storage, make=True)
        return create(self.haops, self.cluster, repository, BackupOrder(**order), now=lambda: self.moment)

    def use(self, source: FakeSource) -> FakeSource:
        """Another source from now on."""
        self.source = source
        return source

    def verify(
        self, word: str = "latest", depth: Depth = Depth.FULL, identities: Identities | None = None
    ) -> Verified:
        """Verify one backup."""
        repository = open_repository(self.storage)
        return verify(repository, find(repository, word), identities or Identities(), Plan(depth, 0.5, 1))

    def twin(self) -> Shop:
        """The same with a copy of the storage."""
        copy = MemoryStorage(self.storage.clock)
        copy.objects = dict(self.storage.objects)
        return replace(self, storage=copy)


@pytest.fixture
def shop(haops: Lifecycle, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A cluster with a part of one chunk, one of several, an empty one, and one that packs well."""
    monkeypatch.setattr(chunks, "CHUNK_SIZE", CHUNK)
    cluster = make_cluster("redis", owner=haops.state.owner())
    haops.state.save(cluster)
    content = {
        "schema": noise(1000, 1),
        "data/big": noise(3 * CHUNK + 17, 2),
        "empty": b"",
        "zeros": bytes(2 * CHUNK),
    }
    return Shop(haops, cluster, FakeSource(content), monkeypatch)


@pytest.fixture
def history(shop: Shop) -> list[str]:
    """Three backups, a day apart, the last an hour and more old; each shares most with its sisters."""
    ids = []
    for day in (3, 2, 1):
        at = NOW - timedelta(days=day)
        shop.moment, shop.storage.clock = at, lambda at=at: at  # type: ignore[misc]
        shop.use(replace(shop.source.changed(schema=noise(1000, day)), latest=at))
        ids.append(shop.make().id)
    return ids


def order(**fields: object) -> PruneOrder:
    """What keeps the last one, at `NOW`."""
    return PruneOrder(**{"rules": Rules(last=1), "now": lambda: NOW, **fields})  # type: ignore[arg-type]

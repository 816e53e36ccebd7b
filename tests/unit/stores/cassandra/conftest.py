"""Tests here put rings in memory in the place of connections; live tests run in the same process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from haops.stores.cassandra import backup, connect, reader, restore, ring


@pytest.fixture(scope="module", autouse=True)
def nothing_stays_in_force() -> Iterator[None]:
    yield
    assert restore.connect is connect.connect
    assert backup.sessions is reader.sessions
    assert restore.answers is backup.answers is ring.answers

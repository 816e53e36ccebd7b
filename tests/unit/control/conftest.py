"""Operations on a cluster of a store that plays a script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from haops.cluster.spec import Cluster, StoreName
from haops.control.execute import Operations
from haops.control.journal import Entry
from haops.control.lifecycle import Lifecycle
from haops.stores import load

from ...fakes import make_cluster, with_readiness
from .scripted import Script


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    made = Script()
    store = replace(with_readiness(load(StoreName.REDIS)), control=made.control)
    monkeypatch.setattr("haops.control.lifecycle.load", lambda name: store)
    monkeypatch.setattr("haops.control.execute.load", lambda name: store)
    for event in ("step", "did", "end"):
        original = getattr(Entry, event)

        def spy(
            self: Entry, *about: object, _event: str = event, _original: Callable[..., None] = original
        ) -> None:
            _original(self, *about)
            what = about[0]
            word = getattr(what, "verb", "") or getattr(what, "value", "")
            made.log.append(f"journal {_event} {word}".strip())

        monkeypatch.setattr(Entry, event, spy)
    return made


@pytest.fixture
def ops(haops: Lifecycle) -> Operations:
    return Operations(haops)


@pytest.fixture
def cluster(haops: Lifecycle) -> Cluster:
    made = make_cluster(owner=haops.state.owner())
    haops.state.save(made)
    return made

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from haops.cluster.spec import StoreName
from haops.control.lifecycle import Lifecycle
from haops.drills import locks
from haops.errors import BadInput, ClusterUnhealthy
from haops.faults.catalogue import FaultKind
from haops.history.record import NIL, Kind
from haops.runtime.port import ContainerState
from haops.stores import load
from haops.stores.base import OutcomeUnknown
from haops.stores.lock import LockRecipe
from haops.wait import wait_until

from ...fakes import FakeRuntime, make_cluster, snapshot


@dataclass
class FakeLock:
    """A lock in memory; a broken one is given to everybody."""

    guard: threading.Lock
    broken: bool = False
    fails: bool = False
    counted: bool = False
    node: str = "redis-1"
    token: int | None = None
    tokens = 0
    tries: int = 0

    def acquire(self) -> bool:
        self.tries += 1
        if self.fails:
            raise OutcomeUnknown("TimeoutError")
        if self.broken:
            return True
        taken = self.guard.acquire(blocking=False)
        if taken and self.counted:
            FakeLock.tokens += 1
            self.token = FakeLock.tokens
        return taken

    def release(self) -> None:
        with suppress(RuntimeError):
            if not self.broken:
                self.guard.release()

    def close(self) -> None:
        pass


Run = Callable[..., locks.LockRun]
TURNS = 5


@pytest.fixture
def run(haops: Lifecycle, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> Run:
    cluster = make_cluster("redis", owner=haops.state.owner())
    haops.state.save(cluster)
    runtime.of(cluster).nodes = {n.name: ContainerState.RUNNING for n in cluster.nodes}
    monkeypatch.setattr(locks, "_HOLD_S", (0.005, 0.02))

    def drill(fault: FaultKind = FaultKind.PARTITION, **how: Any) -> locks.LockRun:
        guard = threading.Lock()
        clients: list[FakeLock] = []

        def client(*_: object) -> FakeLock:
            clients.append(FakeLock(guard, **how))
            return clients[-1]

        def turns(_: float) -> None:
            """What the drill waits for: that every client has taken some."""
            goals = [each.tries + TURNS for each in clients]
            wait_until(
                lambda: all(each.tries >= goal for each, goal in zip(clients, goals, strict=True)),
                bool,
                what="the clients' turns",
                deadline_s=30,
                interval_s=0.005,
            )

        monkeypatch.setattr(locks, "time", SimpleNamespace(sleep=turns, monotonic_ns=time.monotonic_ns))
        recipe = LockRecipe("words", "promise", client)

        def store(name: StoreName) -> Any:
            return replace(load(name), lock=recipe, observe=lambda c, _: snapshot(c))

        monkeypatch.setattr(locks, "load_store", store)
        monkeypatch.setattr("haops.control.lifecycle.load", store)
        return locks.run_locks(haops, cluster, fault, "run-1", 1, lambda text: None)

    return drill


def test_a_lock_that_excludes_is_never_shared_and_every_turn_is_in_the_history(run: Run) -> None:
    found = run(counted=True)
    assert found.found.kept
    assert found.found.acquisitions > 10
    taken = found.history.of(Kind.ACQUIRE).ok
    assert (taken.value != NIL).all()
    assert set(found.history.process.tolist()) == {0, 1, 2, 3}


def test_a_lock_that_is_given_to_everybody_is_caught(run: Run) -> None:
    found = run(broken=True)
    assert found.found.overlaps > 0
    assert not found.found.kept


def test_the_primary_is_cut_off_in_the_middle_and_joined_again(run: Run, runtime: FakeRuntime) -> None:
    assert run().broken == "redis-1"
    acts = [c for c in runtime.calls if c[0] in ("cut", "join")]
    assert [c[:2] for c in acts] == [("cut", "redis-1"), ("join", "redis-1")]
    assert set(acts[0][2:]) == {"redis-2", "redis-3", "sentinel-1", "sentinel-2", "sentinel-3"}
    assert runtime.cut_off == set()


def test_without_a_fault_nothing_is_touched(run: Run, runtime: FakeRuntime) -> None:
    assert run(FaultKind.NONE).found.kept
    assert not [c for c in runtime.calls if c[0] in ("cut", "join", "kill", "pause")]


def test_a_store_that_gives_no_lock_at_all_tells_nothing(run: Run) -> None:
    with pytest.raises(ClusterUnhealthy, match="no client of redis got the lock"):
        run(fails=True)


def test_a_store_without_a_recipe_is_refused() -> None:
    with pytest.raises(BadInput, match="no lock recipe for cassandra"):
        locks.recipe_of(make_cluster("cassandra"))

from __future__ import annotations

from pathlib import Path

import pytest

from haops.errors import EngineUnavailable
from haops.faults.catalogue import Killer
from haops.faults.ledger import Ledger
from haops.runtime.port import ContainerState

from ...fakes import FakeRuntime, make_cluster


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


@pytest.fixture
def killer(runtime: FakeRuntime, ledger: Ledger) -> Killer:
    return Killer(runtime, make_cluster(), ledger, "run-1")


def acts(runtime: FakeRuntime) -> list[str]:
    return [call[0] for call in runtime.calls if call[0] in ("kill", "start")]


def state(runtime: FakeRuntime) -> ContainerState:
    return runtime.of(make_cluster()).nodes["redis-1"]


def test_a_killed_node_is_dead_inside_and_runs_again_afterwards(
    killer: Killer, runtime: FakeRuntime, ledger: Ledger
) -> None:
    with killer.killed("redis-1") as fault:
        assert (fault.node, fault.death.seen_ns, fault.undone) == ("redis-1", 42, False)
        assert state(runtime) is ContainerState.STOPPED
        assert [f.node for f in ledger.open_faults()] == ["redis-1"]
    assert fault.undone
    assert state(runtime) is ContainerState.RUNNING
    assert ledger.open_faults() == ()


def test_the_entry_is_on_disk_before_the_kill_acts(
    killer: Killer, runtime: FakeRuntime, ledger: Ledger
) -> None:
    seen: list[tuple[str, str, str]] = []
    runtime.before_kill = lambda: seen.extend((f.kind, f.undo, f.run) for f in ledger.open_faults())
    with killer.killed("redis-1"):
        pass
    assert seen == [("kill", "start", "run-1")]


@pytest.mark.parametrize("trouble", [ValueError, KeyboardInterrupt, SystemExit])
def test_whatever_happens_inside_the_node_runs_again(
    killer: Killer, runtime: FakeRuntime, ledger: Ledger, trouble: type[BaseException]
) -> None:
    with pytest.raises(trouble), killer.killed("redis-1"):
        raise trouble
    assert state(runtime) is ContainerState.RUNNING
    assert ledger.open_faults() == ()


def test_an_undo_inside_is_not_repeated_at_the_end(killer: Killer, runtime: FakeRuntime) -> None:
    with killer.killed("redis-1") as fault:
        killer.undo(fault)
        killer.undo(fault)
    assert acts(runtime) == ["kill", "start"]


def test_a_kill_that_failed_half_way_is_undone(killer: Killer, runtime: FakeRuntime, ledger: Ledger) -> None:
    runtime.fail["kill"] = [EngineUnavailable("lost the engine")]
    with pytest.raises(EngineUnavailable), killer.killed("redis-1"):
        pytest.fail("must not be reached")
    assert acts(runtime) == ["kill", "start"]
    assert ledger.open_faults() == ()


def test_an_undo_that_fails_leaves_the_entry_for_heal(
    killer: Killer, runtime: FakeRuntime, ledger: Ledger
) -> None:
    runtime.fail["start"] = [EngineUnavailable("lost the engine")]
    with pytest.raises(EngineUnavailable), killer.killed("redis-1"):
        pass
    assert [f.node for f in ledger.open_faults()] == ["redis-1"]


def test_an_undo_that_failed_inside_is_tried_again_at_the_end(
    killer: Killer, runtime: FakeRuntime, ledger: Ledger
) -> None:
    runtime.fail["start"] = [EngineUnavailable("for a moment")]
    with killer.killed("redis-1") as fault, pytest.raises(EngineUnavailable):
        killer.undo(fault)
    assert state(runtime) is ContainerState.RUNNING
    assert ledger.open_faults() == ()

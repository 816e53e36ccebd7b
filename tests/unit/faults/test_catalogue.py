from __future__ import annotations

from pathlib import Path

import pytest

from haops.errors import EngineUnavailable
from haops.faults.catalogue import Breaker, FaultKind, heal
from haops.faults.ledger import Ledger
from haops.runtime.port import ContainerState

from ...fakes import FakeRuntime, make_cluster


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


@pytest.fixture
def breaker(runtime: FakeRuntime, ledger: Ledger) -> Breaker:
    return Breaker(runtime, make_cluster(), ledger, "run-1")


def acts(runtime: FakeRuntime) -> list[str]:
    return [call[0] for call in runtime.calls if call[0] in ("kill", "start")]


def state(runtime: FakeRuntime) -> ContainerState:
    return runtime.of(make_cluster()).nodes["redis-1"]


def test_a_killed_node_is_dead_inside_and_runs_again_afterwards(
    breaker: Breaker, runtime: FakeRuntime, ledger: Ledger
) -> None:
    with breaker.broken(FaultKind.KILL, "redis-1") as fault:
        assert (fault.node, fault.moment.seen_ns, fault.undone) == ("redis-1", 42, False)
        assert state(runtime) is ContainerState.STOPPED
        assert [f.node for f in ledger.open_faults()] == ["redis-1"]
    assert fault.undone
    assert state(runtime) is ContainerState.RUNNING
    assert ledger.open_faults() == ()


def test_the_entry_is_on_disk_before_the_kill_acts(
    breaker: Breaker, runtime: FakeRuntime, ledger: Ledger
) -> None:
    seen: list[tuple[str, str, str]] = []
    runtime.before_kill = lambda: seen.extend((f.kind, f.undo, f.run) for f in ledger.open_faults())
    with breaker.broken(FaultKind.KILL, "redis-1"):
        pass
    assert seen == [("kill", "start", "run-1")]


@pytest.mark.parametrize("trouble", [ValueError, KeyboardInterrupt, SystemExit])
def test_whatever_happens_inside_the_node_runs_again(
    breaker: Breaker, runtime: FakeRuntime, ledger: Ledger, trouble: type[BaseException]
) -> None:
    with pytest.raises(trouble), breaker.broken(FaultKind.KILL, "redis-1"):
        raise trouble
    assert state(runtime) is ContainerState.RUNNING
    assert ledger.open_faults() == ()


def test_an_undo_inside_is_not_repeated_at_the_end(breaker: Breaker, runtime: FakeRuntime) -> None:
    with breaker.broken(FaultKind.KILL, "redis-1") as fault:
        breaker.undo(fault)
        breaker.undo(fault)
    assert acts(runtime) == ["kill", "start"]


def test_a_kill_that_failed_half_way_is_undone(
    breaker: Breaker, runtime: FakeRuntime, ledger: Ledger
) -> None:
    runtime.fail["kill"] = [EngineUnavailable("lost the engine")]
    with pytest.raises(EngineUnavailable), breaker.broken(FaultKind.KILL, "redis-1"):
        pytest.fail("must not be reached")
    assert acts(runtime) == ["kill", "start"]
    assert ledger.open_faults() == ()


def test_an_undo_that_fails_leaves_the_entry_for_heal(
    breaker: Breaker, runtime: FakeRuntime, ledger: Ledger
) -> None:
    runtime.fail["start"] = [EngineUnavailable("lost the engine")]
    with pytest.raises(EngineUnavailable), breaker.broken(FaultKind.KILL, "redis-1"):
        pass
    assert [f.node for f in ledger.open_faults()] == ["redis-1"]


def test_an_undo_that_failed_inside_is_tried_again_at_the_end(
    breaker: Breaker, runtime: FakeRuntime, ledger: Ledger
) -> None:
    runtime.fail["start"] = [EngineUnavailable("for a moment")]
    with breaker.broken(FaultKind.KILL, "redis-1") as fault, pytest.raises(EngineUnavailable):
        breaker.undo(fault)
    assert state(runtime) is ContainerState.RUNNING
    assert ledger.open_faults() == ()


@pytest.mark.parametrize(
    ("kind", "acts", "undo"),
    [
        (FaultKind.KILL, ["kill", "start"], "start"),
        (FaultKind.PAUSE, ["pause", "unpause"], "unpause"),
        (FaultKind.PARTITION, ["cut", "join"], "join"),
    ],
)
def test_every_fault_is_undone_by_what_the_ledger_says(
    breaker: Breaker, runtime: FakeRuntime, ledger: Ledger, kind: FaultKind, acts: list[str], undo: str
) -> None:
    with breaker.broken(kind, "redis-1"):
        assert [(f.kind, f.undo) for f in ledger.open_faults()] == [(kind.value, undo)]
    assert [
        c[0] for c in runtime.calls if c[0] in ("kill", "start", "pause", "unpause", "cut", "join")
    ] == acts
    assert ledger.open_faults() == ()


def test_heal_joins_what_the_ledger_says_is_cut_off_and_starts_and_thaws_what_is_not_running(
    runtime: FakeRuntime, ledger: Ledger
) -> None:
    cluster = make_cluster()
    ledger.register("redis-1", "partition", "join", "run-1")
    states = dict.fromkeys((n.name for n in cluster.nodes), ContainerState.RUNNING)
    states |= {"redis-2": ContainerState.PAUSED, "redis-3": ContainerState.STOPPED}
    runtime.of(cluster).nodes = states
    runtime.cut_off = {"redis-1"}
    assert heal(runtime, cluster, ledger.open_faults()) == {
        "redis-1": "joined its sisters", "redis-2": "thawed", "redis-3": "started",
    }  # fmt: skip
    assert runtime.cut_off == set()
    assert set(runtime.of(cluster).nodes.values()) == {ContainerState.RUNNING}

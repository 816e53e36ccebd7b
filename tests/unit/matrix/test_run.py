from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from haops.cluster.spec import Cluster, StoreName
from haops.control.lifecycle import Lifecycle
from haops.drills.trial import TrialRun
from haops.errors import Busy, ClusterUnhealthy, EngineUnavailable, FaultRefused
from haops.faults.catalogue import FaultKind
from haops.matrix import run as matrix_run
from haops.matrix.cells import Parts
from haops.matrix.keep import lines
from haops.matrix.order import MatrixOrder, choose
from haops.matrix.run import MatrixRun, cell_playbook
from haops.stores import load
from haops.stores.mode import Fact, Mode

from ...fakes import FakeRuntime, with_readiness
from .trials import trial

PARTS = Parts((1.0,), 8, None, None, None, None, None)


@dataclass
class Bench:
    """The runner with everything below it made up; `script` says what the n-th trial comes to."""

    haops: Lifecycle
    folder: Path
    seen: list[TrialRun] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    script: dict[int, BaseException] = field(default_factory=dict)
    lacking: dict[str, int] = field(default_factory=dict)

    def run(self, *modes: str, faults: str = "none,kill", trials: int = 1, run: str = "run-1-matrix") -> None:
        keys = choose([StoreName.REDIS], modes, [FaultKind(f) for f in faults.split(",")])
        order = MatrixOrder(keys, trials, None, 7, run, self.folder)
        MatrixRun(self.haops, order, cell_playbook(), self.said.append).run()

    def done(self) -> list[tuple[str, int]]:
        return [(str(line.key), line.trial.number) for line in lines(self.folder) if line.trial]

    def run_trial(self, asked: TrialRun) -> Any:
        self.seen.append(asked)
        if error := self.script.get(len(self.seen)):
            raise error
        return replace(_Record(), number=asked.number)

    def settle(self, cluster: Cluster, mode: Mode) -> tuple[str, ...]:
        self.settled.append(mode.name)
        return ()

    def ask(self, cluster: Cluster, mode: Mode) -> tuple[Fact, ...]:
        left = self.lacking.get(mode.name, 0)
        self.lacking[mode.name] = left - 1
        return (Fact("redis-1", "what", "yes", "no", holds=left <= 0),)


@dataclass(frozen=True)
class _Record:
    number: int = 0
    kept: object = None


class FakeWorkload:
    def prepare(self, clients: int) -> None:
        pass

    def clean(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def bench(haops: Lifecycle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(haops, tmp_path)

    def store(name: StoreName) -> Any:
        real = with_readiness(load(name))
        modes = replace(real.modes, settle=lambda *about: made.settle(*about), ask=made.ask)
        return replace(real, modes=modes, workload=lambda *_: FakeWorkload())

    monkeypatch.setattr(matrix_run, "load_store", store)
    monkeypatch.setattr("haops.control.lifecycle.load", store)
    monkeypatch.setattr(matrix_run, "run_trial", made.run_trial)
    monkeypatch.setattr(matrix_run, "cell_trial", lambda record, fault, number, began: trial(number))
    monkeypatch.setattr(matrix_run, "measure_parts", lambda *_: PARTS)
    monkeypatch.setattr(matrix_run, "save", lambda history, path: path.touch())
    return made


def clusters(runtime: FakeRuntime) -> list[str]:
    return [name for (name, _), here in runtime.engine.items() if here.nodes]


def test_every_cell_is_run_in_its_mode_and_under_its_fault_and_kept(
    bench: Bench, runtime: FakeRuntime
) -> None:
    bench.run("async", "wait-1")
    assert bench.done() == [
        ("redis/async/none", 1), ("redis/wait-1/none", 1), ("redis/async/kill", 1), ("redis/wait-1/kill", 1),
    ]  # fmt: skip
    assert [r.cluster.mode for r in bench.seen] == ["async", "wait-1"] * 2
    assert [r.playbook.fault.kind for r in bench.seen] == [FaultKind.NONE] * 2 + [FaultKind.KILL] * 2
    assert [line.key.mode for line in lines(bench.folder) if line.parts] == ["async", "wait-1"]
    assert len(list((bench.folder / "histories").iterdir())) == 4
    assert clusters(runtime) == []
    assert bench.haops.state.names() == ()


def test_one_cluster_is_used_for_all_cells_and_data_of_trials_never_meet(
    bench: Bench, runtime: FakeRuntime
) -> None:
    bench.run("async", "wait-1", trials=2)
    assert {r.cluster.name for r in bench.seen} == {"matrix-redis"}
    assert sum(c[0] == "compose_up" for c in runtime.calls) == 1
    assert len({r.run for r in bench.seen}) == 8


def test_an_interrupted_run_goes_on_where_it_was_and_leaves_no_cluster(
    bench: Bench, runtime: FakeRuntime
) -> None:
    bench.script = {3: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        bench.run("async", "wait-1")
    assert bench.haops.state.names() == ()
    before = bench.done()
    assert len(before) == 2
    bench.run("async", "wait-1")
    assert bench.done()[:2] == before
    assert sorted(bench.done()) == sorted({*bench.done()})
    assert len(bench.done()) == 4
    assert any("2 trials are finished already, 2 are left" in words for words in bench.said)


def test_a_cluster_in_pieces_is_made_anew_and_the_next_cell_goes_on(
    bench: Bench, runtime: FakeRuntime
) -> None:
    bench.script = {1: ClusterUnhealthy("it broke")}
    bench.run("async", "wait-1", faults="none")
    # The one that broke off is tried once more at the end.
    assert bench.done() == [("redis/wait-1/none", 1), ("redis/async/none", 1)]
    assert sum(c[0] == "compose_up" for c in runtime.calls) == 2
    assert any("made anew" in words for words in bench.said)


def test_a_cluster_that_does_not_come_up_or_cannot_be_set_costs_its_cell_and_not_the_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter([ClusterUnhealthy("redis-2: refused"), None, None, None])

    def settle(cluster: Cluster, mode: Mode) -> tuple[str, ...]:
        if error := next(calls, None):
            raise error
        return ()

    monkeypatch.setattr(bench, "settle", settle)
    bench.run("async", "wait-1", faults="none")
    assert sorted(bench.done()) == [("redis/async/none", 1), ("redis/wait-1/none", 1)]
    assert bench.haops.state.names() == ()


def test_a_cell_that_breaks_off_twice_is_left_open(bench: Bench) -> None:
    bench.script = {1: ClusterUnhealthy("it broke"), 2: ClusterUnhealthy("it broke again")}
    bench.run("async", faults="none")
    assert bench.done() == []
    assert len(bench.seen) == 2


def test_trouble_of_the_engine_ends_the_run(bench: Bench) -> None:
    bench.script = {1: EngineUnavailable("gone")}
    with pytest.raises(EngineUnavailable):
        bench.run("async")
    assert bench.haops.state.names() == ()


def test_a_fault_that_the_kernel_cannot_do_leaves_its_cell_out_and_the_run_goes_on(bench: Bench) -> None:
    bench.script = {2: FaultRefused("no filter")}
    bench.run("async", faults="none,kill", trials=2)
    assert bench.done() == [("redis/async/none", 1), ("redis/async/none", 2)]
    assert [line.skipped for line in lines(bench.folder) if line.skipped] == ["no filter"]


def test_servers_that_are_not_yet_in_the_mode_are_waited_for(bench: Bench) -> None:
    bench.lacking = {"wait-1": 2}
    bench.run("wait-1", faults="none")
    assert bench.done() == [("redis/wait-1/none", 1)]


def test_two_runs_at_once_do_not_take_each_others_clusters(bench: Bench) -> None:
    with bench.haops.state.lock("matrix", "matrix other"), pytest.raises(Busy):
        bench.run("async")
    assert bench.seen == []


def test_what_a_killed_run_left_is_removed_first(bench: Bench, runtime: FakeRuntime) -> None:
    from haops.cluster.spec import ClusterSpec

    left = bench.haops.up(ClusterSpec("matrix-redis", StoreName.REDIS, nodes=5))
    bench.run("async", faults="none")
    assert bench.seen[0].cluster.created > left.created
    assert len(bench.seen[0].cluster.servers) == 3

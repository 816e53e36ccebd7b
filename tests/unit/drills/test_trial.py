from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from haops.cluster.snapshot import Verdict
from haops.cluster.spec import Cluster
from haops.control.lifecycle import Lifecycle
from haops.drills import trial as module
from haops.drills.load import LoadPlan, Progress
from haops.drills.playbook import Playbook, read
from haops.drills.result import Budget, DrillVerdict, Trial
from haops.drills.trial import TrialRun, run_trial
from haops.faults.ledger import Ledger
from haops.history.record import History, Kind, Outcome
from haops.runtime.port import ContainerState, LogLine
from haops.stores import load as load_store
from haops.stores.base import FIRST_ELEMENT

from ...fakes import FakeRuntime, make_cluster, snapshot
from ...histories import MS, Row, history, op

QUICK = """\
title: t
description: d
load: {clients: 2}
phases:
  {warmup: 10ms, steady: 60ms, recover_within: 100ms, detect_within: 100ms, dead: 10ms, rejoin_within: 100ms,
   after: 10ms}
fault: {kind: kill, target: primary}
stores: {redis: {rate: 400, harness_lag: 25ms}}
"""
OUTAGE_MS = 8


@dataclass
class FakeLoad:
    """A load whose history is made up: steady, an outage of a known length after the kill, steady."""

    killed_at: Callable[[], int]
    kinds: tuple[Kind, ...] = (Kind.WRITE, Kind.READ)
    recovers: bool = True
    start_ns: int = 0
    keys: list[int] = field(default_factory=list)

    def start(self) -> int:
        self.start_ns = time.monotonic_ns()
        return self.start_ns

    def progress(self) -> Progress:
        moment = time.monotonic_ns() if self.recovers else 1
        return Progress((moment, moment), (moment, moment), 1, 0)

    def finish(self) -> History:
        fault = self.killed_at()
        rows: list[Row] = []
        moment = self.start_ns
        while moment < time.monotonic_ns():
            if moment < fault - MS or (self.recovers and moment >= fault + OUTAGE_MS * MS):
                for kind in self.kinds:
                    key = FIRST_ELEMENT + len(rows)
                    rows.append(op(moment / MS, took_ms=0.5, kind=kind, key=key))
                    if kind is Kind.WRITE:
                        self.keys.append(key)
            moment += 5 * MS * len(self.kinds) // 2
        return history(*rows)


@dataclass
class FakeWorkload:
    load: FakeLoad
    lost: int = 0

    def read_back(self, clients: int) -> set[int]:
        assert clients == 2
        return set(self.load.keys[self.lost :])


@dataclass
class Drill:
    runtime: FakeRuntime
    haops: Lifecycle
    cluster: Cluster
    load: FakeLoad
    workload: FakeWorkload
    playbook: Playbook
    verdicts: list[Verdict]

    def run(self, budget: Budget | None = None) -> tuple[Trial, History]:
        record = run_trial(
            TrialRun(
                haops=self.haops,
                cluster=self.cluster,
                workload=self.workload,  # type: ignore[arg-type]
                playbook=self.playbook,
                budget=budget or Budget(None, None, 0, 25),
                plan=LoadPlan(400, 2, 1, 0.5, 0.5, 1, 1),
                run="run-1",
                number=1,
                say=lambda text: None,
            )
        )
        return record.trial, record.history


@pytest.fixture
def drill(haops: Lifecycle, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Drill:
    cluster = make_cluster("redis", 3)
    runtime.of(cluster).nodes = {n.name: ContainerState.RUNNING for n in cluster.nodes}
    killed: list[int] = []

    def moment() -> int:
        killed.append(time.monotonic_ns())
        # Logs carry the wall's time, the fault has the monotonic one.
        fault = killed[0] + time.time_ns() - time.monotonic_ns()
        runtime.lines["sentinel-1"] = [
            LogLine("sentinel-1", fault + 2 * MS, "# +sdown master mymaster 10.231.0.10 6379")
        ]
        runtime.lines["redis-2"] = [LogLine("redis-2", fault + 4 * MS, "* MASTER MODE enabled")]
        return killed[0]

    runtime.moment_ns = moment
    fake = FakeLoad(lambda: killed[0])

    @contextmanager
    def generator(cluster: Cluster, run: str, plan: LoadPlan) -> Iterator[FakeLoad]:
        yield fake

    verdicts: list[Verdict] = [Verdict.HEALTHY]
    store = load_store(cluster.store)
    store = replace(
        store, observe=lambda c, _: snapshot(c, verdicts.pop(0) if len(verdicts) > 1 else verdicts[0])
    )
    monkeypatch.setattr(module, "LoadGenerator", generator)
    monkeypatch.setattr("haops.control.lifecycle.load", lambda name: store)
    return Drill(runtime, haops, cluster, fake, FakeWorkload(fake), read(QUICK, "quick"), verdicts)


def test_a_trial_kills_the_primary_and_measures_what_it_cost(drill: Drill) -> None:
    found, seen = drill.run()
    assert found.node == "redis-1"
    assert [c for c in drill.runtime.calls if c[0] in ("kill", "start")] == [
        ("kill", "redis-1"),
        ("start", "redis-1"),
    ]
    assert (found.verdict, found.reasons) == (DrillVerdict.PASS, ())
    assert found.write_outage_ms is not None
    assert OUTAGE_MS <= found.write_outage_ms <= OUTAGE_MS + 12
    assert found.write_recovery_ms is not None
    assert OUTAGE_MS <= found.write_recovery_ms <= OUTAGE_MS + 6
    assert found.acked == len(seen.of(Kind.WRITE, Outcome.OK))
    assert (found.lost, found.unknown, found.failed) == (0, 0, 0)
    assert found.sent_ops == pytest.approx(400, rel=0.2)
    assert Ledger(drill.haops.state.cluster_dir("redis")).open_faults() == ()


def test_servers_words_are_placed_on_the_trials_clock(drill: Drill) -> None:
    found, _ = drill.run()
    assert found.detected_ms == pytest.approx(2, abs=3)
    assert found.promoted_ms == pytest.approx(4, abs=3)
    kinds = [e.kind for e in found.events]
    assert kinds == ["fault", "detected", "promoted", "restarted", "rejoined"]
    assert [e.at_s for e in found.events] == sorted(e.at_s for e in found.events)
    assert {e.source for e in found.events} == {"haops", "sentinel-1", "redis-2"}


def test_the_phases_meet_at_the_fault_and_at_the_end_of_the_outage(drill: Drill) -> None:
    found, _ = drill.run()
    before, during, after = found.phases
    fault = next(e for e in found.events if e.kind == "fault")
    assert before.start_s == pytest.approx(0.01)
    assert before.end_s == during.start_s == pytest.approx(fault.at_s)
    assert during.end_s == after.start_s
    assert during.start_s <= during.end_s <= after.end_s


def test_a_lost_write_fails_the_trial_and_is_listed(drill: Drill) -> None:
    drill.workload.lost = 2
    found, _ = drill.run()
    assert (found.verdict, found.lost) == (DrillVerdict.FAIL, 2)
    assert found.lost_ids == tuple(drill.load.keys[:2])


def test_writes_that_never_come_back_fail_the_trial_and_the_node_runs_again(drill: Drill) -> None:
    drill.load.recovers = False
    found, _ = drill.run()
    assert found.verdict is DrillVerdict.FAIL
    assert found.write_outage_ms is None
    assert "writes did not come back" in found.reasons
    assert drill.runtime.of(drill.cluster).nodes["redis-1"] is ContainerState.RUNNING


def test_a_cluster_that_stays_degraded_fails_the_trial(drill: Drill) -> None:
    drill.verdicts[:] = [Verdict.HEALTHY, Verdict.DEGRADED]
    found, _ = drill.run()
    assert found.verdict is DrillVerdict.FAIL
    assert found.reasons == ("the cluster was not healthy again in time",)
    assert "rejoined" not in {e.kind for e in found.events}


def test_a_node_that_nobody_detected_leaves_the_figure_open(drill: Drill) -> None:
    drill.runtime.before_kill = lambda: None
    moment = drill.runtime.moment_ns

    def silent() -> int:
        at = moment()
        drill.runtime.lines.clear()
        return at

    drill.runtime.moment_ns = silent
    found, _ = drill.run()
    assert (found.detected_ms, found.promoted_ms) == (None, None)
    assert found.verdict is DrillVerdict.PASS


def test_an_interruption_in_the_middle_leaves_nothing_broken(
    drill: Drill, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_await_writes", interrupt)
    with pytest.raises(KeyboardInterrupt):
        drill.run()
    assert drill.runtime.of(drill.cluster).nodes["redis-1"] is ContainerState.RUNNING
    assert Ledger(drill.haops.state.cluster_dir("redis")).open_faults() == ()


def test_a_drill_of_writes_alone_can_pass(drill: Drill) -> None:
    drill.load.kinds = (Kind.WRITE,)
    found, _ = drill.run()
    assert (found.verdict, found.reasons) == (DrillVerdict.PASS, ())

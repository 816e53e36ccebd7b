from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from haops.cluster.snapshot import Snapshot, Verdict
from haops.cluster.spec import Cluster, StoreName
from haops.control.lifecycle import Lifecycle
from haops.drills import runner
from haops.drills.playbook import read
from haops.drills.result import DrillResult, DrillVerdict, Latency, Phase, Timeline, Trial
from haops.drills.runner import DrillOrder, new_run, run_drill, run_folder
from haops.drills.trial import Marks, Record, TrialRun
from haops.errors import BadInput, ClusterUnhealthy, DeadlineExceeded, HaopsError, ImageUnavailable
from haops.history.files import load
from haops.history.record import History
from haops.runtime.port import ContainerState
from haops.stores import load as load_store

from ...fakes import FakeRuntime, make_cluster, snapshot, with_readiness
from ...histories import history, op

PLAYBOOK = read(
    """\
title: Title
description: Description
load: {clients: 2, processes: 4, timeout: 300ms}
phases: {warmup: 1s, steady: 1s, recover_within: 1s, detect_within: 1s, dead: 1s, rejoin_within: 1s, after: 1s}
fault: {kind: kill, target: primary}
stores:
  redis: {rate: 100, lost: 0, harness_lag: 25ms}
  zookeeper: {rate: 200, harness_lag: 25ms}
""",
    "playbook.yaml",
)


def trial(number: int, verdict: DrillVerdict = DrillVerdict.PASS, reasons: tuple[str, ...] = ()) -> Trial:
    nothing = Latency(0, None, None, None)
    return Trial(
        number=number, node="redis-1", verdict=verdict, reasons=reasons, write_outage_ms=100.0 * number,
        read_outage_ms=None, write_recovery_ms=None, read_recovery_ms=None, worst_client_outage_ms=None,
        detected_ms=None, promoted_ms=None, acked=10, lost=number, lost_ids=(), unknown=0, appeared=0, failed=0,
        stale_reads=0, harness_lag_ms=1.0, offered_ops=100.0, sent_ops=100.0,
        phases=(Phase("before", 0, 1, nothing, nothing),), events=(), timeline=Timeline(0.1, (), (), (), ()), errors={},
    )  # fmt: skip


@dataclass
class Bench:
    """Everything around `run_drill` that is not itself under test."""

    haops: Lifecycle
    folder: Path
    seen: list[TrialRun] = field(default_factory=list)
    acts: list[str] = field(default_factory=list)
    script: dict[int, Any] = field(default_factory=dict)
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    locked: list[bool] = field(default_factory=list)

    def run_trial(self, run: TrialRun) -> Record:
        self.seen.append(run)
        self.locked.append(self.haops.state.locked(run.cluster.name))
        outcome = self.script.get(len(self.seen))
        if isinstance(outcome, BaseException):
            raise outcome
        marks = Marks(0, 0, 0, 0, 0, None, 0)
        return Record(outcome or trial(run.number), history(op(1, key=run.number)), frozenset(), marks)

    def drill(self, *stores: str, trials: int = 1, rate: int | None = None) -> DrillResult:
        targets = {StoreName(s): s for s in stores or ("redis",)}
        order = DrillOrder("kill-primary", PLAYBOOK, targets, trials, rate, 7, "run-1", self.folder)
        return run_drill(self.haops, order, lambda text: None)


class FakeWorkload:
    def __init__(self, act: Callable[[str], None]) -> None:
        self._act = act

    def prepare(self, clients: int) -> None:
        self._act(f"prepare {clients}")

    def clean(self) -> None:
        self._act("clean")


@pytest.fixture
def bench(haops: Lifecycle, runtime: FakeRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(haops, tmp_path)

    def store(name: StoreName) -> Any:
        def observe(cluster: Cluster, _: object) -> Snapshot:
            return snapshot(cluster, made.verdicts.get(cluster.name, Verdict.HEALTHY), ["because"])

        def workload(cluster: Cluster, run: str, timeout_s: float) -> FakeWorkload:
            assert (run, timeout_s) == ("run-1", 0.3)
            return FakeWorkload(made.acts.append)

        return replace(with_readiness(load_store(name)), observe=observe, workload=workload)

    monkeypatch.setattr(runner, "run_trial", made.run_trial)
    monkeypatch.setattr(runner, "load_store", store)
    monkeypatch.setattr("haops.control.lifecycle.load", store)
    for name in ("redis", "zookeeper"):
        cluster = make_cluster(name, owner=haops.state.owner())
        haops.state.save(cluster)
        runtime.of(cluster).nodes = {n.name: ContainerState.RUNNING for n in cluster.nodes}
    return made


def test_a_cluster_of_another_store_is_not_drilled(bench: Bench) -> None:
    bench.haops.state.save(make_cluster("zookeeper", name="redis", owner=bench.haops.state.owner()))
    with pytest.raises(BadInput, match="is of zookeeper, not of redis"):
        bench.drill("redis")
    assert bench.seen == []


def test_a_cluster_whose_containers_are_gone_is_started_and_its_data_kept(
    bench: Bench, runtime: FakeRuntime
) -> None:
    cluster = bench.haops.state.get("redis")
    runtime.of(cluster).nodes = {}
    assert bench.drill("redis").verdict is DrillVerdict.PASS
    assert bench.haops.state.get("redis").nodes == cluster.nodes
    assert runtime.of(cluster).nodes == {}


def test_a_run_does_every_trial_on_every_target_and_keeps_the_histories(bench: Bench) -> None:
    result = bench.drill("redis", "zookeeper", trials=2)
    assert [(r.cluster.name, r.number) for r in bench.seen] == [
        ("redis", 1), ("redis", 2), ("zookeeper", 1), ("zookeeper", 2),
    ]  # fmt: skip
    assert (result.verdict, result.interrupted) == (DrillVerdict.PASS, False)
    assert list(result.stores) == ["redis", "zookeeper"]
    assert bench.acts == ["prepare 2", "clean"] * 2
    assert sorted(p.name for p in bench.folder.glob("*.parquet")) == [
        f"history-{store}-{number}.parquet" for store in ("redis", "zookeeper") for number in (1, 2)
    ]
    assert load(bench.folder / "history-redis-2.parquet").key.tolist() == [2]


def test_a_stores_result_sums_and_spreads_its_trials(bench: Bench) -> None:
    found = bench.drill("redis", trials=3).stores[StoreName.REDIS]
    assert (found.acked, found.lost, found.nodes, found.version, found.mode) == (30, 6, 3, "1.2.3", "async")
    assert found.write_outage_ms is not None
    assert (found.write_outage_ms.median, found.write_outage_ms.low, found.write_outage_ms.high) == (
        200,
        100,
        300,
    )
    assert found.read_outage_ms is None
    assert found.budget.lost == 0


def test_a_failed_trial_fails_its_store_and_the_run_with_the_trials_reason(bench: Bench) -> None:
    bench.script[2] = trial(2, DrillVerdict.FAIL, ("2 acknowledged writes are lost",))
    result = bench.drill("redis", "zookeeper", trials=2)
    assert result.verdict is DrillVerdict.FAIL
    assert result.stores[StoreName.REDIS].reasons == ("trial 2: 2 acknowledged writes are lost",)
    assert result.stores[StoreName.ZOOKEEPER].verdict is DrillVerdict.PASS


def test_no_two_trials_share_keys_or_random_numbers(bench: Bench) -> None:
    bench.drill("redis", trials=3)
    plans = [r.plan for r in bench.seen]
    assert len({p.first_key for p in plans}) == len({p.seed for p in plans}) == 3
    assert min(b.first_key - a.first_key for a, b in pairwise(plans)) >= 10_000_000
    assert {p.processes for p in plans} == {2}  # not more processes than clients


@pytest.mark.parametrize(("rate", "expected"), [(None, [100, 200]), (50, [50, 50])])
def test_the_rate_is_the_stores_own_unless_the_order_has_one(
    bench: Bench, rate: int | None, expected: list[int]
) -> None:
    bench.drill("redis", "zookeeper", rate=rate)
    assert [r.plan.rate for r in bench.seen] == expected


def test_an_interruption_keeps_finished_trials_and_cannot_tell(bench: Bench) -> None:
    bench.script[2] = KeyboardInterrupt()
    result = bench.drill("redis", "zookeeper", trials=3)
    assert (result.verdict, result.interrupted) == (DrillVerdict.UNKNOWN, True)
    assert [t.number for t in result.stores[StoreName.REDIS].trials] == [1]
    assert StoreName.ZOOKEEPER not in result.stores


def test_an_interruption_before_the_first_trial_leaves_an_empty_result(bench: Bench) -> None:
    bench.script[1] = KeyboardInterrupt()
    result = bench.drill()
    assert (result.verdict, result.interrupted, result.stores) == (DrillVerdict.UNKNOWN, True, {})


def test_a_failure_before_an_interruption_stays_a_failure(bench: Bench) -> None:
    bench.script = {1: trial(1, DrillVerdict.FAIL, ("x",)), 2: KeyboardInterrupt()}
    assert bench.drill(trials=2).verdict is DrillVerdict.FAIL


def test_the_cluster_is_locked_while_it_is_drilled_and_free_afterwards(bench: Bench) -> None:
    bench.script[2] = KeyboardInterrupt()
    bench.drill(trials=2)
    assert bench.locked == [True, True]
    assert not bench.haops.state.locked("redis")


def test_a_cluster_that_somebody_else_works_on_is_not_drilled(bench: Bench) -> None:
    with bench.haops.state.lock("redis", "up"), pytest.raises(HaopsError, match="another haops"):
        bench.drill()
    assert bench.seen == []


def test_a_missing_cluster_is_made_for_the_run_and_removed_after_it(
    bench: Bench, runtime: FakeRuntime
) -> None:
    bench.haops.state.forget("redis")
    bench.drill("redis")
    assert ("compose_up", "redis") in runtime.calls
    assert ("remove", "redis", bench.haops.state.owner()) in runtime.calls
    assert bench.haops.state.names() == ("zookeeper",)


def test_a_cluster_that_was_made_for_the_run_goes_after_an_interruption_too(bench: Bench) -> None:
    bench.haops.state.forget("redis")
    bench.script[1] = KeyboardInterrupt()
    bench.drill("redis")
    assert bench.haops.state.names() == ("zookeeper",)


def test_a_standing_cluster_stays(bench: Bench, runtime: FakeRuntime) -> None:
    bench.drill("redis")
    assert "redis" in bench.haops.state.names()
    assert "remove" not in {c[0] for c in runtime.calls}


def test_a_cluster_that_is_not_healthy_is_not_drilled(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_HEALTHY_S", 0)
    bench.verdicts = {"redis": Verdict.DEGRADED}
    with pytest.raises(DeadlineExceeded) as caught:
        bench.drill()
    assert caught.value.detail == "last seen: degraded: because"
    assert bench.seen == []


def test_a_cluster_that_could_not_be_made_is_told_by_its_own_trouble(bench: Bench) -> None:
    def missing(store: str, image: str | None) -> str:
        raise ImageUnavailable("image is missing")

    bench.haops = replace(bench.haops, resolve_image=missing)
    bench.haops.state.forget("redis")
    with pytest.raises(ImageUnavailable):
        bench.drill("redis")


def test_a_cluster_that_stays_broken_after_a_trial_does_not_lose_the_trials_result(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_HEALTHY_S", 0)
    bench.script[1] = trial(1, DrillVerdict.FAIL, ("the cluster was not healthy again in time",))
    kept = bench.run_trial

    def breaks(run: TrialRun) -> tuple[Trial, History]:
        bench.verdicts = {"redis": Verdict.DOWN}
        return kept(run)

    monkeypatch.setattr(runner, "run_trial", breaks)
    assert bench.drill().verdict is DrillVerdict.FAIL


def test_a_clean_up_that_fails_does_not_lose_the_trials_results(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: FakeWorkload) -> None:
        raise ClusterUnhealthy("the primary broke off the clean-up")

    monkeypatch.setattr(FakeWorkload, "clean", broken)
    assert bench.drill().stores[StoreName.REDIS].verdict is DrillVerdict.PASS


def test_a_trial_that_breaks_off_does_not_lose_those_before_it(bench: Bench) -> None:
    bench.script[2] = ClusterUnhealthy("the primary broke off the read-back")
    result = bench.drill(trials=2)
    assert [t.number for t in result.stores[StoreName.REDIS].trials] == [1]


def test_a_run_that_stopped_before_its_last_trial_is_no_pass(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = bench.run_trial

    def breaks(run: TrialRun) -> tuple[Trial, History]:
        bench.verdicts = {"redis": Verdict.DEGRADED}
        return kept(run)

    monkeypatch.setattr(runner, "_HEALTHY_S", 0)
    monkeypatch.setattr(runner, "run_trial", breaks)
    result = bench.drill(trials=3)
    assert len(bench.seen) == 1
    assert result.verdict is DrillVerdict.UNKNOWN


def test_a_runs_name_is_utc_and_safe_in_a_path_and_a_table() -> None:
    moment = datetime(2025, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    assert new_run("kill-primary", moment) == "20250102t010405-kill-primary"
    assert new_run("x", datetime(2025, 1, 2, tzinfo=UTC)) < new_run("x", datetime(2025, 1, 3, tzinfo=UTC))


def test_two_runs_of_one_second_do_not_share_a_folder(haops: Lifecycle) -> None:
    assert run_folder(haops, "a").is_dir()
    with pytest.raises(HaopsError, match="run a exists already"):
        run_folder(haops, "a")

"""A disaster over an engine in memory: what is done in which order, and what is left where it breaks off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from haops.backup.documents import Damaged
from haops.backup.restore import RestoreOrder
from haops.cluster.spec import Cluster, StoreName
from haops.compare.differences import Difference
from haops.compare.differences import Kind as Aspect
from haops.compare.rounds import Comparison
from haops.control.half_restored import RestoreFile
from haops.control.lifecycle import Lifecycle
from haops.drills import disaster as module
from haops.drills.disaster import DisasterOrder, run_disasters
from haops.drills.disaster_result import (
    DisasterResult,
    DisasterTrial,
    Marks,
    Proof,
)
from haops.drills.load import LoadPlan
from haops.drills.playbook import DisasterBook, read_any
from haops.drills.result import DrillVerdict
from haops.errors import BadInput, ClusterUnhealthy, HaopsError
from haops.history.files import load as load_history
from haops.history.record import History, Kind
from haops.runtime.port import ContainerState
from haops.stores import load as load_store
from haops.stores.backup import NotRestorable, RestoreFailed
from haops.stores.base import FIRST_ELEMENT
from haops.stores.compare import Record

from ...fakes import FakeRuntime, make_cluster, snapshot, with_readiness
from ...histories import MS, Row, history, op

BOOK = """\
kind: disaster
title: Title
description: Description
load: {clients: 2, processes: 4, writes: 1, timeout: 300ms}
phases: {warmup: 10ms, before: 15ms, after: 20ms}
stores:
  redis: {rate: 100, recovery_time: 60s}
  zookeeper: {rate: 200}
"""


@dataclass
class Bench:
    """Everything around `run_disasters` that is not itself under test."""

    haops: Lifecycle
    runtime: FakeRuntime
    folder: Path
    acts: list[str] = field(default_factory=list)
    plans: list[LoadPlan] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    lost: int = 1
    compared: Comparison = field(default_factory=lambda: Comparison("backup", "cluster", 5, 5))
    copies: tuple[Comparison, ...] = ()
    said: list[str] = field(default_factory=list)
    broken: dict[str, BaseException] = field(default_factory=dict)
    opened: int = 0
    _start: int = 0

    def closed(self) -> None:
        self.opened -= 1

    def act(self, what: str) -> None:
        self.acts.append(what)
        if error := self.broken.pop(what, None):
            raise error

    def write(self, moment: int) -> None:
        # Half a millisecond, so that it is acknowledged before whatever comes next.
        self.rows.append(op(moment / MS, took_ms=0.5, key=FIRST_ELEMENT + len(self.rows)))

    def start(self) -> int:
        self._start = time.monotonic_ns()
        for _ in range(3):
            self.write(self._start)
        return self._start

    def create(self, haops: Lifecycle, cluster: Cluster, repository: Any, order: Any) -> Any:
        assert order.logical
        self.act(f"backup {cluster.name}")
        self.write(time.monotonic_ns())
        return SimpleNamespace(id="b1", bytes=1_000)

    def finish(self) -> History:
        self.act("load ends")
        self.write(time.monotonic_ns() + 10 * MS)  # acknowledged after the disaster: counts for nothing
        return history(*self.rows)

    def read_back(self, clients: int) -> set[int]:
        assert clients == 2
        self.act("read back")
        return {FIRST_ELEMENT + i for i in range(4 - self.lost)}

    def run(self, *stores: str, rate: int | None = None) -> DisasterResult:
        book = read_any(BOOK, "book.yaml")
        assert isinstance(book, DisasterBook)
        targets = {StoreName(s): s for s in stores or ("redis",)}
        order = DisasterOrder("restore", book, targets, rate, 7, "run-1", self.folder)
        return run_disasters(self.haops, order, self.said.append)

    def only(self) -> DisasterTrial:
        return self.run().stores[0]


@pytest.fixture
def bench(haops: Lifecycle, runtime: FakeRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(haops, runtime, tmp_path)

    def says(what: str, answer: object = None) -> Callable[..., Any]:
        def said(*_: object, **__: object) -> object:
            made.act(what)
            return answer() if callable(answer) else answer

        return said

    workload = SimpleNamespace(
        prepare=lambda clients: made.act(f"prepare {clients}"), read_back=made.read_back, close=made.closed
    )

    def opens(cluster: Cluster, run: str, timeout_s: float) -> Any:
        made.opened += 1
        return workload

    def store(name: StoreName) -> Any:
        return replace(
            with_readiness(load_store(name)),
            observe=lambda cluster, _: snapshot(cluster),
            workload=opens,
        )

    @contextmanager
    def generator(cluster: Cluster, run: str, plan: LoadPlan) -> Iterator[Bench]:
        made.plans.append(plan)
        made.rows.clear()
        yield made

    def forget(cluster: Cluster, node: str) -> None:
        made.acts.append(f"destroy {node}")
        FakeRuntime.forget_disk(runtime, cluster, node)

    def up(self: Lifecycle, spec: Any, **_: object) -> Cluster:
        made.act(f"up {spec.name}")
        return original(self, spec)

    original = Lifecycle.up
    monkeypatch.setattr(Lifecycle, "up", up)
    monkeypatch.setattr(runtime, "forget_disk", forget)
    monkeypatch.setattr(module, "LoadGenerator", generator)
    monkeypatch.setattr(module, "load_store", store)
    monkeypatch.setattr("haops.control.lifecycle.load", store)
    monkeypatch.setattr(module, "create", made.create)
    monkeypatch.setattr(module, "open_archive", says("open"))

    def restored(haops: Lifecycle, cluster: Cluster, archive: object, order: RestoreOrder) -> None:
        assert order.resume
        made.act("restore")
        RestoreFile(haops.state.cluster_dir(cluster.name)).clear()

    monkeypatch.setattr(module, "restore", restored)
    monkeypatch.setattr(module, "compare_copies", says("compare copies", lambda: made.copies))
    monkeypatch.setattr(module, "compare_with_backup", says("compare", lambda: made.compared))
    for name in ("redis", "zookeeper"):
        cluster = make_cluster(name, owner=haops.state.owner())
        haops.state.save(cluster)
        runtime.of(cluster).nodes = {n.name: ContainerState.RUNNING for n in cluster.nodes}
    return made


def test_everything_is_destroyed_after_the_backup_and_restored_before_it_is_compared(bench: Bench) -> None:
    nodes = [n.name for n in bench.haops.state.get("redis").nodes]
    bench.run()
    destroyed = [a for a in bench.acts if a.startswith("destroy")]
    assert sorted(destroyed) == sorted(f"destroy {n}" for n in nodes)
    assert [a for a in bench.acts if not a.startswith("destroy")] == [
        "prepare 2", "backup redis", "load ends", "up redis", "open", "restore", "compare copies", "compare",
        "read back",
    ]  # fmt: skip
    last = max(i for i, a in enumerate(bench.acts) if a.startswith("destroy"))
    assert bench.acts.index("backup redis") < bench.acts.index(destroyed[0])
    assert last < bench.acts.index("load ends")


def test_a_trial_has_the_figures_of_its_run(bench: Bench) -> None:
    found = bench.only()
    assert (found.verdict, found.reasons) == (DrillVerdict.PASS, ())
    assert (found.survival.acked, found.survival.acked_before) == (4, 3)
    assert (found.survival.lost, found.survival.lost_before) == (1, 0)
    assert (found.p_loss, found.p_recovered) == (0.25, 0.75)
    assert found.survival.recovery_point_s == pytest.approx(0.02, abs=0.05)
    assert (found.backup, found.bytes, found.proof) == ("b1", 1_000, Proof(5, 0))
    assert (found.nodes, found.mode, found.version) == (3, "async", "1.2.3")
    parts = found.destroy_s + found.rebuild_s + found.restore_s
    assert found.recovery_time_s == pytest.approx(parts)
    moments = [getattr(found.marks, name) for name in Marks.__dataclass_fields__]
    assert moments == sorted(moments)


def test_a_write_that_the_backup_should_have_fails_the_run(bench: Bench) -> None:
    bench.lost = 2
    result = bench.run()
    assert result.verdict is DrillVerdict.FAIL
    assert result.stores[0].survival.lost_before == 1


def test_a_difference_from_the_backup_fails_and_is_shown_without_its_value(bench: Bench) -> None:
    difference = Difference(b"k\xff", (Aspect.MISSING,), Record("string", "ab12", "secret"), None)
    bench.compared = Comparison("backup", "cluster", 5, 4, (difference,), unlisted=2)
    found = bench.only()
    assert found.verdict is DrillVerdict.FAIL
    assert (found.proof.records, found.proof.differences) == (5, 3)
    assert len(found.proof.examples) == 1
    assert found.proof.examples[0].endswith(": missing")
    assert "secret" not in found.proof.examples[0]


@pytest.mark.parametrize(
    ("compared", "words"),
    [
        (Comparison("a", "b", 5, 0, trouble="redis-2 does not answer"), "redis-2 does not answer"),
        (Comparison("a", "b", 5, 5, elusive=3), "3 records were still changing"),
        (Comparison("a", "b", 0, 0), "nothing in the backup"),
    ],
)
def test_a_comparison_that_cannot_tell_is_no_pass(bench: Bench, compared: Comparison, words: str) -> None:
    bench.compared = compared
    found = bench.only()
    assert found.verdict is DrillVerdict.UNKNOWN
    assert words in found.reasons[0]


@pytest.mark.parametrize(("rate", "expected"), [(None, [100, 200]), (50, [50, 50])])
def test_the_rate_is_the_stores_own_unless_the_order_has_one(
    bench: Bench, rate: int | None, expected: list[int]
) -> None:
    bench.run("redis", "zookeeper", rate=rate)
    assert [p.rate for p in bench.plans] == expected
    assert {(p.clients, p.processes, p.writes) for p in bench.plans} == {(2, 2, 1.0)}


def test_the_history_is_kept_with_what_was_found(bench: Bench) -> None:
    bench.run()
    kept = load_history(bench.folder / "history-redis-1.parquet")
    assert len(kept.of(Kind.WRITE)) == 5
    assert len(kept) > 5
    assert np.isin(np.arange(FIRST_ELEMENT, FIRST_ELEMENT + 3), kept.key).all()


@pytest.mark.parametrize("step", ["backup redis", "up redis", "restore", "read back"])
def test_a_store_in_trouble_does_not_lose_the_other_and_the_run_is_no_pass(bench: Bench, step: str) -> None:
    bench.broken[step] = ClusterUnhealthy("it broke off")
    result = bench.run("redis", "zookeeper")
    assert [t.store for t in result.stores] == [StoreName.ZOOKEEPER]
    assert result.verdict is DrillVerdict.UNKNOWN
    assert result.troubles == ("it broke off",)


def test_a_comparison_that_breaks_off_keeps_what_was_measured_and_cannot_tell(bench: Bench) -> None:
    bench.broken["compare"] = ClusterUnhealthy("it broke off")
    found = bench.only()
    assert (found.survival.lost, found.proof.trouble) == (1, "it broke off")
    assert found.verdict is DrillVerdict.UNKNOWN


def test_copies_that_are_not_alike_fail_the_run_though_the_whole_is_equal(bench: Bench) -> None:
    difference = Difference(b"k", (Aspect.MISSING,), Record("string", "ab12"), None)
    many = tuple(replace(difference, key=b"%d" % n) for n in range(50))
    bench.copies = (
        Comparison("copy 1", "copy 2", 90, 40, many),
        Comparison("copy 1", "copy 3", 90, 40, many),
    )
    found = bench.only()
    assert (found.verdict, found.proof.differences, found.proof.copies) == (DrillVerdict.FAIL, 0, 50)
    assert found.proof.examples[0].endswith(": missing")
    bench.copies = (Comparison("copy 1", "copy 2", trouble="redis-2 is gone"),)
    found = bench.only()
    assert (found.verdict, found.proof.trouble) == (DrillVerdict.UNKNOWN, "redis-2 is gone")


@pytest.mark.parametrize("step", ["up redis", "restore"])
def test_a_cluster_that_is_left_destroyed_is_told_how_to_be_restored(bench: Bench, step: str) -> None:
    bench.broken[step] = ClusterUnhealthy("it broke off")
    with pytest.raises(ClusterUnhealthy):
        bench.run()
    (words,) = [text for text in bench.said if "was destroyed: haops up redis --name redis; " in text]
    assert "haops restore b1 --to redis --resume --repo" in words


@pytest.mark.parametrize("step", ["backup redis", "read back"])
def test_before_it_is_destroyed_and_after_it_is_restored_nobody_is_told_to(bench: Bench, step: str) -> None:
    bench.broken[step] = HaopsError("full")
    with pytest.raises(HaopsError, match="full"):
        bench.run()
    assert not any("was destroyed" in text for text in bench.said)
    assert RestoreFile(bench.haops.state.cluster_dir("redis")).read() is None


def test_the_record_says_that_a_restore_is_due_before_anything_is_destroyed(bench: Bench) -> None:
    due = []
    destroy = bench.runtime.forget_disk

    def watched(cluster: Cluster, node: str) -> None:
        due.append(RestoreFile(bench.haops.state.cluster_dir("redis")).read())
        destroy(cluster, node)

    bench.runtime.forget_disk = watched  # type: ignore[method-assign]
    bench.run()
    assert {(half.backup, half.repository) for half in due if half} == {
        ("b1", str(bench.folder / "repository"))
    }
    assert None not in due


@pytest.mark.parametrize("error", [RestoreFailed, NotRestorable, Damaged])
def test_a_backup_that_cannot_be_restored_fails_the_run(bench: Bench, error: type[HaopsError]) -> None:
    bench.broken["restore"] = error("no")
    assert bench.run("redis", "zookeeper").verdict is DrillVerdict.FAIL


@pytest.mark.parametrize("step", ["prepare 2", "backup redis", "read back"])
def test_the_stores_clients_are_closed_whatever_happens(bench: Bench, step: str) -> None:
    bench.broken[step] = ClusterUnhealthy("it broke off")
    with pytest.raises(ClusterUnhealthy):
        bench.run()
    assert bench.opened == 0


def test_nobody_else_works_on_a_cluster_while_it_is_destroyed(bench: Bench) -> None:
    seen = []
    destroy = bench.runtime.forget_disk

    def watched(cluster: Cluster, node: str) -> None:
        seen.append(bench.haops.state.locked("redis"))
        destroy(cluster, node)

    bench.runtime.forget_disk = watched  # type: ignore[method-assign]
    bench.run()
    assert len(seen) > 1
    assert all(seen)
    assert not bench.haops.state.locked("redis")


def test_a_run_in_which_nothing_worked_tells_its_first_trouble(bench: Bench) -> None:
    bench.broken = {"backup redis": ClusterUnhealthy("first"), "backup zookeeper": HaopsError("second")}
    with pytest.raises(ClusterUnhealthy, match="first"):
        bench.run("redis", "zookeeper")


def test_a_failed_backup_destroys_nothing(bench: Bench) -> None:
    bench.broken["backup redis"] = HaopsError("the target disk is full")
    with pytest.raises(HaopsError, match="full"):
        bench.run()
    assert not [a for a in bench.acts if a.startswith("destroy")]


def test_an_interruption_keeps_what_is_finished_and_cannot_tell(bench: Bench) -> None:
    bench.broken["backup zookeeper"] = KeyboardInterrupt()
    result = bench.run("redis", "zookeeper")
    assert (result.interrupted, result.verdict) == (True, DrillVerdict.UNKNOWN)
    assert [t.store for t in result.stores] == [StoreName.REDIS]


def test_a_cluster_of_another_store_is_not_destroyed(bench: Bench) -> None:
    bench.haops.state.save(make_cluster("zookeeper", name="redis", owner=bench.haops.state.owner()))
    with pytest.raises(BadInput, match="is of zookeeper, not of redis"):
        bench.run()
    assert bench.acts == []


def test_a_cluster_made_for_the_run_is_removed_after_it(bench: Bench) -> None:
    bench.haops.state.forget("redis")
    assert bench.run().verdict is DrillVerdict.PASS
    assert bench.haops.state.names() == ("zookeeper",)


def test_a_cluster_made_for_the_run_is_removed_after_trouble_too(bench: Bench) -> None:
    bench.haops.state.forget("redis")
    bench.broken["restore"] = ClusterUnhealthy("it broke off")
    with pytest.raises(ClusterUnhealthy):
        bench.run()
    assert bench.haops.state.names() == ("zookeeper",)

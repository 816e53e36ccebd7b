from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from haops.cluster.spec import StoreName
from haops.control.lifecycle import Lifecycle
from haops.drills.disaster import DisasterOrder
from haops.drills.disaster_result import DisasterResult
from haops.drills.result import (
    Budget,
    DrillResult,
    DrillVerdict,
    Latency,
    Phase,
    StoreResult,
    Timeline,
    Trial,
)
from haops.drills.runner import DrillOrder
from haops.errors import ClusterUnhealthy, HaopsError

from ...fakes import make_cluster
from ..report import disaster_samples
from .conftest import Run

NONE = Latency(0, None, None, None)
SOME = Latency(10, 1.0, 2.0, 3.0)


def result(order: DrillOrder, verdict: DrillVerdict, interrupted: bool) -> DrillResult:
    phases = tuple(
        Phase(name, low, low + 1.0, SOME, NONE) for low, name in enumerate(("before", "during", "after"))
    )
    trial = Trial(
        number=1, node="redis-1", verdict=verdict, reasons=() if verdict is DrillVerdict.PASS else ("because",),
        write_outage_ms=100.0, read_outage_ms=None, write_recovery_ms=90.0, read_recovery_ms=None,
        worst_client_outage_ms=120.0, detected_ms=50.0, promoted_ms=None, acked=10, lost=0, lost_ids=(), unknown=1,
        appeared=1, failed=2, stale_reads=0, harness_lag_ms=1.0, offered_ops=100.0, sent_ops=100.0,
        phases=phases, events=(), timeline=Timeline(1.0, (1, 1, 1), (0, 0, 0), (0, 1, 0), (1.0, None, 1.0)), errors={},
    )  # fmt: skip
    store = StoreResult(
        store=StoreName.REDIS, cluster="redis", mode="async", version="8.0.2", nodes=3, verdict=verdict,
        reasons=tuple(f"trial 1: {r}" for r in trial.reasons), budget=Budget(None, None, 0, 25.0),
        write_outage_ms=None, read_outage_ms=None, lost=0, acked=10, trials=(trial,),
    )  # fmt: skip
    moment = datetime(2025, 1, 2, tzinfo=UTC)
    return DrillResult(
        version=1, run=order.run, playbook=order.name, title="t", description="d", started=moment, finished=moment,
        haops="0", seed=order.seed, rate=0, interrupted=interrupted, verdict=verdict, stores={StoreName.REDIS: store},
    )  # fmt: skip


@pytest.fixture
def orders(fake: Lifecycle, monkeypatch: pytest.MonkeyPatch) -> list[DrillOrder]:
    """What was asked of the runner, which passes."""
    return planned(monkeypatch, DrillVerdict.PASS)


def planned(
    monkeypatch: pytest.MonkeyPatch, verdict: DrillVerdict, *, interrupted: bool = False
) -> list[DrillOrder]:
    asked: list[DrillOrder] = []

    def run_drill(haops: Lifecycle, order: DrillOrder, say: Any) -> DrillResult:
        asked.append(order)
        return result(order, verdict, interrupted)

    monkeypatch.setattr("haops.drills.runner.run_drill", run_drill)
    return asked


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "unknown playbook 'nope'"),
        (["./nope.yaml"], "there is no playbook file"),
        (["kill-primary", "--store", "mongo"], "unknown store 'mongo'"),
        (["kill-primary", "--cluster", "x"], "--cluster is for one store"),
        (
            ["kill-primary", "--store", "redis", "--cluster", "x", "--prefix", "y"],
            "--cluster is for one store",
        ),
        (["kill-primary", "--trials", "0"], ""),
        (["kill-primary", "--rate", "0"], ""),
    ],
)
def test_bad_input_ends_with_2(
    run: Run, orders: list[DrillOrder], fake: Lifecycle, arguments: list[str], message: str
) -> None:
    ended = run("drill", "run", *arguments)
    assert ended.code == 2
    assert message in ended.err
    assert orders == []
    assert not fake.state.runs.exists() or not list(fake.state.runs.iterdir())


@pytest.mark.parametrize(
    ("arguments", "targets"),
    [
        ([], {"redis": "redis", "zookeeper": "zookeeper", "cassandra": "cassandra"}),
        (["--store", "redis"], {"redis": "redis"}),
        (["--store", "redis", "--cluster", "mine"], {"redis": "mine"}),
        (["--store", "redis", "--prefix", "ci"], {"redis": "ci-redis"}),
        (["--store", "redis", "--store", "zookeeper"], {"redis": "redis", "zookeeper": "zookeeper"}),
    ],
)  # fmt: skip
def test_options_choose_the_clusters(
    run: Run, orders: list[DrillOrder], arguments: list[str], targets: dict[str, str]
) -> None:
    assert run("drill", "run", "kill-primary", *arguments).code == 0
    assert {s.value: name for s, name in orders[0].targets.items()} == targets


def test_trials_rate_and_seed_replace_the_playbooks(run: Run, orders: list[DrillOrder]) -> None:
    run("drill", "run", "kill-primary", "--trials", "7", "--rate", "50", "--seed", "0")
    assert (orders[0].trials, orders[0].rate, orders[0].seed) == (7, 50, 0)


@pytest.mark.parametrize(
    ("verdict", "interrupted", "code"),
    [
        (DrillVerdict.PASS, False, 0),
        (DrillVerdict.FAIL, False, 1),
        (DrillVerdict.UNKNOWN, False, 4),
        (DrillVerdict.UNKNOWN, True, 130),
        (DrillVerdict.FAIL, True, 130),
    ],
)
def test_a_drill_ends_with_the_code_of_its_verdict_and_keeps_its_files(
    run: Run,
    fake: Lifecycle,
    monkeypatch: pytest.MonkeyPatch,
    verdict: DrillVerdict,
    interrupted: bool,
    code: int,
) -> None:
    (order_list := planned(monkeypatch, verdict, interrupted=interrupted)).clear()
    ended = run("drill", "run", "kill-primary", "--store", "redis")
    assert ended.code == code
    folder = order_list[0].folder
    assert {p.name for p in folder.iterdir()} == {"result.json", "report.html", "junit.xml"}
    assert f"report: {folder / 'report.html'}" in ended.err
    if verdict is not DrillVerdict.PASS:
        assert f"{verdict} redis: trial 1: because" in ended.err
    assert ("what was finished is kept" in ended.err) is interrupted


def test_output_shapes_agree_with_the_kept_result(run: Run, orders: list[DrillOrder]) -> None:
    as_json = run("drill", "run", "kill-primary", "-o", "json").out
    kept = json.loads((orders[0].folder / "result.json").read_text())
    assert json.loads(as_json) == kept
    assert kept["version"] == 1


def test_yaml_and_names_are_data_on_stdout_too(
    run: Run, orders: list[DrillOrder], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(f"run-{i}" for i in range(9))
    monkeypatch.setattr("haops.drills.runner.new_run", lambda key, now: next(names))
    assert yaml.safe_load(run("drill", "run", "kill-primary", "-o", "yaml").out)["run"] == "run-0"
    assert run("drill", "run", "kill-primary", "-o", "name").out == "run-1\n"


def test_a_drill_that_could_not_begin_ends_with_its_own_code(
    run: Run, fake: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unhealthy(*_: object) -> DrillResult:
        raise ClusterUnhealthy("redis is down")

    monkeypatch.setattr("haops.drills.runner.run_drill", unhealthy)
    ended = run("drill", "run", "kill-primary")
    assert (ended.code, ended.out) == (5, "")


def test_the_shipped_playbooks_are_listed_in_every_shape(run: Run) -> None:
    assert "kill-primary" in run("drill", "list", "-o", "name").out.split()
    assert "kill-primary" in run("drill", "list").out
    document = json.loads(run("drill", "list", "-o", "json").out)
    assert list(document) == ["version", "playbooks"]
    assert list(document["playbooks"][0]) == ["name", "title", "stores"]
    assert yaml.safe_load(run("drill", "list", "-o", "yaml").out) == document


def test_show_prints_a_playbook_that_can_be_run(run: Run, tmp_path: Path) -> None:
    from haops.drills.playbook import find

    (tmp_path / "mine.yaml").write_text(run("drill", "show", "kill-primary").out)
    assert find(str(tmp_path / "mine.yaml"))[1] == find("kill-primary")[1]
    assert run("drill", "show", "nope").code == 2


def test_a_playbook_with_a_mistake_is_told_by_its_line(
    run: Run, orders: list[DrillOrder], tmp_path: Path
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("title: x\nlod: {}\n")
    ended = run("drill", "run", str(mine))
    assert ended.code == 2
    assert f"{mine}:2:1: lod: unknown key" in ended.err
    assert "hint: allowed: title" in ended.err
    assert orders == []


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines do not break, however narrow the terminal is that the tests run in."""
    monkeypatch.setenv("COLUMNS", "250")


@pytest.fixture
def disasters(fake: Lifecycle, monkeypatch: pytest.MonkeyPatch) -> list[DisasterOrder]:
    """What was asked of the runner of disasters, which passes."""
    return striking(monkeypatch, disaster_samples.one())


def striking(monkeypatch: pytest.MonkeyPatch, ends: DisasterResult | HaopsError) -> list[DisasterOrder]:
    asked: list[DisasterOrder] = []

    def run_disasters(haops: Lifecycle, order: DisasterOrder, say: Any) -> DisasterResult:
        asked.append(order)
        (order.folder / "repository" / "chunks").mkdir(parents=True)
        if isinstance(ends, HaopsError):
            raise ends
        return replace(ends, run=order.run, seed=order.seed)

    monkeypatch.setattr("haops.drills.disaster.run_disasters", run_disasters)
    return asked


def standing(fake: Lifecycle, name: str, store: str = "redis") -> None:
    fake.state.save(make_cluster(store, name=name, owner=fake.state.owner()))


@pytest.mark.parametrize(
    ("arguments", "targets"),
    [
        ([], ["disaster-redis", "disaster-zookeeper", "disaster-cassandra"]),
        (["--store", "redis"], ["disaster-redis"]),
        (["--store", "redis", "--cluster", "mine"], ["mine"]),
        (["--store", "redis", "--prefix", "ci"], ["ci-redis"]),
        (["--store", "redis", "--trials", "1"], ["disaster-redis"]),
    ],
)
def test_a_disaster_strikes_clusters_of_its_own(
    run: Run, disasters: list[DisasterOrder], arguments: list[str], targets: list[str]
) -> None:
    assert run("drill", "run", "restore-after-disaster", *arguments).code == 0
    assert list(disasters[0].targets.values()) == targets


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trials", "2"], "a disaster drill runs once"),
        (["--store", "mongo"], "unknown store 'mongo'"),
        (["--cluster", "x"], "--cluster is for one store"),
        (["--store", "redis", "--cluster", "x", "--prefix", "y"], "--cluster is for one store"),
        (
            ["--store", "zookeeper", "--cluster", "mine", "--yes"],
            "cluster mine is of redis, not of zookeeper",
        ),
        # A standing cluster that nobody named, and one that nobody can be asked about.
        (["--store", "redis"], "cluster disaster-redis is there already"),
        (["--store", "redis", "--yes"], "cluster disaster-redis is there already"),
        (["--store", "redis", "--cluster", "mine"], "there is no terminal to ask at"),
        (["--store", "redis", "--prefix", "disaster"], "there is no terminal to ask at"),
    ],
)
def test_what_a_disaster_refuses_touches_nothing(
    run: Run, fake: Lifecycle, disasters: list[DisasterOrder], arguments: list[str], message: str
) -> None:
    standing(fake, "mine")
    standing(fake, "disaster-redis")
    ended = run("drill", "run", "restore-after-disaster", *arguments)
    assert ended.code == 2
    assert message in ended.err
    assert "hint: " in ended.err
    assert disasters == []
    assert not fake.state.runs.exists() or not list(fake.state.runs.iterdir())


def test_a_standing_cluster_that_was_named_is_destroyed_with_yes(
    run: Run, fake: Lifecycle, disasters: list[DisasterOrder]
) -> None:
    standing(fake, "mine")
    arguments = ["--store", "redis", "--cluster", "mine", "--yes"]
    assert run("drill", "run", "restore-after-disaster", *arguments).code == 0
    assert list(disasters[0].targets.values()) == ["mine"]


@pytest.mark.parametrize(("answer", "asked"), [(True, 1), (False, 0)])
def test_at_a_terminal_it_is_asked_before_a_standing_cluster_is_destroyed(
    run: Run,
    fake: Lifecycle,
    disasters: list[DisasterOrder],
    monkeypatch: pytest.MonkeyPatch,
    answer: bool,
    asked: int,
) -> None:
    standing(fake, "mine")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("typer.confirm", lambda *_, **__: answer)
    ended = run("drill", "run", "restore-after-disaster", "--store", "redis", "--cluster", "mine")
    assert ended.code == (0 if answer else 1)
    assert "destroys every node and volume of mine" in ended.err
    assert len(disasters) == asked


@pytest.mark.parametrize(
    ("ends", "code", "kept"),
    [
        (disaster_samples.one(), 0, False),
        (disaster_samples.three(), 1, True),
        (disaster_samples.result(disaster_samples.trial(), troubles=("broke [off]",)), 4, True),
        (disaster_samples.result(disaster_samples.trial(), interrupted=True), 130, True),
    ],
)
def test_a_disaster_ends_with_the_code_of_its_verdict_and_keeps_the_backups_unless_it_passes(
    run: Run, fake: Lifecycle, monkeypatch: pytest.MonkeyPatch, ends: DisasterResult, code: int, kept: bool
) -> None:
    orders = striking(monkeypatch, ends)
    ended = run("drill", "run", "restore-after-disaster")
    folder = orders[0].folder
    assert ended.code == code
    assert {p.name for p in folder.iterdir()} - {"repository"} == {"result.json", "report.html", "junit.xml"}
    assert (folder / "repository").exists() is kept
    assert (f"the backups are kept: {folder / 'repository'}" in ended.err) is kept
    assert f"report: {folder / 'report.html'}" in ended.err
    for trial in ends.stores:
        for reason in trial.reasons:
            assert f"{trial.verdict} {trial.cluster}: {reason}" in ended.err
    for trouble in ends.troubles:
        assert f"unknown {trouble}" in ended.err


def test_a_disaster_from_which_nothing_came_back_says_where_the_backups_are(
    run: Run, fake: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = striking(monkeypatch, ClusterUnhealthy("redis is down"))
    ended = run("drill", "run", "restore-after-disaster")
    assert (ended.code, ended.out) == (5, "")
    assert f"the backups are kept: {orders[0].folder / 'repository'}" in ended.err


def test_a_disasters_table_has_its_figures(run: Run, disasters: list[DisasterOrder]) -> None:
    heads, row = run("drill", "run", "restore-after-disaster").out.splitlines()
    assert re.split(r" {2,}", heads.strip()) == [
        "STORE", "VERDICT", "RECOVERY TIME", "DESTROY/REBUILD/RESTORE", "RECOVERY POINT", "ACKED", "LOST",
        "LOST FROM BACKUP", "P_R", "BACKUP", "COMPARED",
    ]  # fmt: skip
    assert re.split(r" {2,}", row.strip()) == [
        "Redis", "pass", "8.15 s", "610 ms / 5.20 s / 2.34 s", "2,401 writes; 3.31 s", "7,512", "2,401", "0",
        "0.6803", "1.41 MiB in 420 ms", "4,911 records, 0 differences",
    ]  # fmt: skip


def test_a_disasters_output_shapes_agree_with_the_kept_result(
    run: Run, disasters: list[DisasterOrder], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(f"run-{i}" for i in range(9))
    monkeypatch.setattr("haops.drills.runner.new_run", lambda key, now: next(names))
    as_json = run("drill", "run", "restore-after-disaster", "-o", "json", "--seed", "5", "--rate", "9").out
    assert json.loads(as_json) == json.loads((disasters[0].folder / "result.json").read_text())
    assert (disasters[0].seed, disasters[0].rate) == (5, 9)
    assert yaml.safe_load(run("drill", "run", "restore-after-disaster", "-o", "yaml").out)["run"] == "run-1"
    assert run("drill", "run", "restore-after-disaster", "-o", "name").out == "run-2\n"


def test_a_result_is_a_value() -> None:
    order = DrillOrder("k", None, {}, 1, None, 1, "r", Path())  # type: ignore[arg-type]
    made = result(order, DrillVerdict.PASS, False)
    assert replace(made, seed=1) == made

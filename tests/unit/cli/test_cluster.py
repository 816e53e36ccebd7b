from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import yaml

from haops.backup.leases import lessee
from haops.backup.manifest import Begun, Manifest, Shape, Wish
from haops.backup.repository import open_repository
from haops.cli.cluster import parse_images, run_all, specs_for
from haops.cli.context import cluster_names
from haops.cluster.snapshot import NodeState, Snapshot, Verdict
from haops.cluster.spec import Cluster, StoreName
from haops.cluster.state import write_atomic
from haops.control.half_restored import HalfRestored, RestoreFile
from haops.control.lifecycle import Lifecycle
from haops.errors import AddressTaken, BadInput, EnvironmentTrouble
from haops.runtime.port import ContainerState
from haops.stores import load
from haops.stores.backup import Facts, RestoreWish

from ...backup_fakes import NOW
from ...fakes import FakeRuntime, make_cluster, snapshot, with_readiness
from .conftest import Run

# ---- what is asked for


def test_one_store_is_named_after_itself() -> None:
    (spec,) = specs_for("redis", None, 3, [], None, None)
    assert (spec.name, spec.store, spec.nodes, spec.image, spec.ttl) == (
        "redis",
        StoreName.REDIS,
        3,
        None,
        None,
    )


def test_all_stores_are_named_by_prefix_and_store() -> None:
    specs = specs_for("all", "ci", 5, ["redis=r:1"], None, "2h")
    assert [s.name for s in specs] == ["ci-redis", "ci-zookeeper", "ci-cassandra"]
    assert [s.image for s in specs] == ["r:1", None, None]
    assert {s.ttl for s in specs} == {timedelta(hours=2)}
    assert [s.name for s in specs_for("all", None, 3, [], None, None)] == ["redis", "zookeeper", "cassandra"]


def test_an_image_may_have_an_equals_sign_of_its_own() -> None:
    assert parse_images(["redis=a=b", "cassandra=c"]) == {StoreName.REDIS: "a=b", StoreName.CASSANDRA: "c"}


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["up", "mongo"], "unknown store 'mongo'", "allowed: redis, zookeeper, cassandra, all"),
        (["up", "redis", "--name", "Bad_Name"], "'Bad_Name' cannot be a cluster's name", "1 to 40 of a-z"),
        (["up", "redis", "--nodes", "0"], "0 nodes are asked for", "1 to 9"),
        (["up", "redis", "--nodes", "10"], "10 nodes are asked for", "1 to 9"),
        (
            ["up", "redis", "--image", "redis:8"],
            "--image 'redis:8' is not STORE=REFERENCE",
            "--image redis=redis:8",
        ),
        (["up", "redis", "--image", "redis="], "is not STORE=REFERENCE", "--image redis=redis:8"),
        (["up", "redis", "--image", "mongo=x"], "unknown store 'mongo'", "allowed: redis"),
        (["up", "redis", "--port", "80"], "port 80 is out of range", "1024 to 65000"),
        (["up", "all", "--port", "7000"], "--port is for one store at a time", "haops up redis --port"),
        (["up", "redis", "--ttl", "soon"], "'soon' is not a duration", "300ms, 5s"),
        (["up", "redis", "--timeout", "5"], "'5' is not a duration", "300ms, 5s"),
        (["up", "redis", "--timeout", "0s"], "'0s' is not a duration", "300ms, 5s"),
        (["down"], "say which clusters", "haops ls"),
        (["down", "--all", "redis"], "say which clusters", "haops ls"),
        (["down", "nope"], "there is no cluster 'nope'", "haops up redis"),
        (["status", "nope"], "there is no cluster 'nope'", "haops up redis"),
        (["heal", "nope"], "there is no cluster 'nope'", "haops up redis"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_ends_with_2_and_a_hint_before_anything_is_done(
    run: Run, fake: Lifecycle, runtime: FakeRuntime, arguments: list[str], message: str, hint: str
) -> None:
    ended = run(*arguments)
    assert ended.code == 2
    assert message in ended.err
    assert hint in ended.err.partition("hint: ")[2]
    assert ended.out == ""
    assert runtime.projects == []


# ---- commands over an engine in memory


@pytest.fixture
def standing(fake: Lifecycle, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts clusters up, and says what a look at them shows."""
    verdicts: dict[str, Verdict] = {}

    def store(name: StoreName) -> Any:
        def observe(cluster: Any, containers: Any) -> Any:
            if not containers:
                return absent(cluster)
            return snapshot(
                cluster,
                verdicts.get(cluster.name, Verdict.HEALTHY),
                () if verdicts.get(cluster.name, Verdict.HEALTHY) is Verdict.HEALTHY else ("it is late",),
            )

        return replace(with_readiness(load(name)), observe=observe)

    monkeypatch.setattr("haops.control.lifecycle.load", store)

    def put(name: str, verdict: Verdict = Verdict.HEALTHY, *, up: bool = True, kind: str = "redis") -> None:
        cluster = make_cluster(kind, 2, name=name, owner=fake.state.owner())
        fake.state.save(cluster)
        verdicts[name] = verdict
        if up:
            runtime.of(cluster).nodes = {n.name: ContainerState.RUNNING for n in cluster.nodes}

    return put


def absent(cluster: Cluster) -> Snapshot:
    seen = snapshot(cluster, Verdict.DOWN)
    return replace(seen, nodes=tuple(replace(n, state=NodeState.MISSING) for n in seen.nodes))


NODE_KEYS = [
    "name", "role", "state", "why", "host", "port", "lag", "ownership", "version", "detail",
    "position", "priority", "zone", "follows",
]  # fmt: skip
CLUSTER_KEYS = ["name", "store", "mode", "verdict", "reasons", "findings", "taken", "nodes"]


@pytest.mark.parametrize("command", ["status", "ls"])
def test_json_has_the_documented_shape(run: Run, standing: Callable[..., None], command: str) -> None:
    standing("a")
    ended = run(command, "-o", "json")
    document = json.loads(ended.out)
    assert ended.code == 0
    assert list(document) == ["version", "clusters"]
    assert document["version"] == 1
    (cluster,) = document["clusters"]
    assert list(cluster) == CLUSTER_KEYS
    assert cluster["taken"] == "2025-01-02T03:04:05.000+00:00"
    assert [list(n) for n in cluster["nodes"]] == [NODE_KEYS] * 5
    assert cluster["nodes"][0] == {
        "name": "redis-1",
        "role": "primary",
        "state": "up",
        "why": None,
        "host": "127.0.0.1",
        "port": 20000,
        "lag": None,
        "ownership": None,
        "version": "1.2.3",
        "detail": "",
        "position": None,
        "priority": None,
        "zone": None,
        "follows": None,
    }


@pytest.mark.parametrize("command", ["status", "ls"])
def test_yaml_says_the_same_as_json(run: Run, standing: Callable[..., None], command: str) -> None:
    standing("a", Verdict.DEGRADED)
    assert yaml.safe_load(run(command, "-o", "yaml").out) == json.loads(run(command, "-o", "json").out)


def test_names_are_one_a_line(run: Run, standing: Callable[..., None]) -> None:
    standing("a")
    standing("b", kind="zookeeper")
    assert run("ls", "-o", "name").out.splitlines() == ["a", "b"]
    assert run("status", "b", "-o", "name").out.splitlines() == ["b/zookeeper-1", "b/zookeeper-2"]


@pytest.mark.parametrize(
    ("verdict", "code"),
    [(Verdict.HEALTHY, 0), (Verdict.DEGRADED, 5), (Verdict.DOWN, 5), (Verdict.UNKNOWN, 5)],
)
@pytest.mark.parametrize("shape", ["table", "wide", "json", "yaml", "name"])
def test_status_ends_with_5_where_a_cluster_is_not_healthy(
    run: Run, standing: Callable[..., None], verdict: Verdict, code: int, shape: str
) -> None:
    standing("good")
    standing("other", verdict)
    ended = run("status", "-o", shape)
    assert ended.code == code
    if shape in ("table", "wide") and code:
        assert f"{verdict} other: it is late" in ended.out


def test_a_command_to_be_copied_stands_in_one_line_of_status(
    run: Run, standing: Callable[..., None], fake: Lifecycle
) -> None:
    standing("redis", Verdict.DEGRADED)
    half = HalfRestored("b1", "/" + "folder/" * 40, RestoreWish(), "now", stage="fill")
    RestoreFile(fake.state.cluster_dir("redis")).write(half)
    assert f"finish it: {half.command('redis')}\n" in run("status").out


def test_a_table_has_a_line_a_node(run: Run, standing: Callable[..., None]) -> None:
    standing("a")
    out = run("status").out
    assert out.splitlines()[0].split() == ["NODE", "ROLE", "STATE", "LAG", "ADDRESS"]
    assert any(
        line.split() == ["redis-1", "primary", "up", "-", "127.0.0.1:20000"] for line in out.splitlines()
    )
    assert run("status", "-o", "wide").out.splitlines()[0].split()[-2:] == ["VERSION", "DETAIL"]


def test_ls_has_a_line_a_cluster(run: Run, standing: Callable[..., None]) -> None:
    standing("a")
    head, line = run("ls").out.splitlines()
    assert head.split() == ["NAME", "STORE", "MODE", "NODES", "VERDICT", "AGE"]
    assert line.split()[:5] == ["a", "redis", "async", "5/5", "healthy"]


def test_without_clusters_the_lists_are_empty_and_say_how_to_start(run: Run, fake: Lifecycle) -> None:
    for command in ("ls", "status"):
        ended = run(command)
        assert (ended.code, ended.out) == (0, "")
        assert "haops up redis" in ended.err
        assert json.loads(run(command, "-o", "json").out) == {"version": 1, "clusters": []}
        assert run(command, "-o", "name").out.strip() == ""


def test_a_cluster_whose_data_alone_is_kept_is_told_apart(run: Run, standing: Callable[..., None]) -> None:
    standing("kept", up=False)
    standing("a")
    ended = run("ls", "-o", "name")
    assert ended.out.split() == ["a"]
    assert "their data kept: kept" in ended.err
    assert run("status").code == 0
    assert run("status", "kept").code == 5


@pytest.mark.parametrize("command", ["ls", "status"])
def test_a_damaged_record_is_told_with_its_place_and_does_not_hide_the_other_clusters(
    run: Run, fake: Lifecycle, standing: Callable[..., None], command: str
) -> None:
    standing("a")
    path = fake.state.cluster_dir("broken") / "cluster.json"
    write_atomic(path, "{")
    ended = run(command, "-o", "json")
    assert ended.code == 3
    assert [c["name"] for c in json.loads(ended.out)["clusters"]] == ["a"]
    assert f"{path}:1:2: " in ended.err
    assert "haops down broken --volumes" in ended.err


@pytest.mark.parametrize("command", ["ls", "status", "heal"])
def test_a_folder_that_an_up_began_does_not_stand_in_the_way(
    run: Run, fake: Lifecycle, standing: Callable[..., None], command: str
) -> None:
    standing("a")
    fake.state.cluster_dir("begun").mkdir()
    assert run(command).code == 0


def test_up_reports_each_node_and_a_warning_for_an_even_ensemble(
    run: Run, standing: Callable[..., None], fake: Lifecycle
) -> None:
    ended = run("up", "zookeeper", "--nodes", "2")
    assert (ended.code, ended.out) == (0, "")
    assert "survives no more losses than one of 1" in " ".join(ended.err.split())
    assert "zookeeper/zookeeper-2 ready after" in ended.err
    assert fake.state.names() == ("zookeeper",)


def test_up_all_starts_one_of_each(run: Run, standing: Callable[..., None], fake: Lifecycle) -> None:
    assert run("up", "all", "--name", "ci").code == 0
    assert fake.state.names() == ("ci-cassandra", "ci-redis", "ci-zookeeper")


def test_down_takes_several_or_all(run: Run, fake: Lifecycle, standing: Callable[..., None]) -> None:
    for name in "abc":
        standing(name)
    assert run("down", "a", "b", "--volumes").code == 0
    assert fake.state.names() == ("c",)
    assert run("down", "--all", "--volumes").code == 0
    assert fake.state.names() == ()
    assert "there are no clusters" in run("down", "--all").err


@pytest.mark.parametrize("volumes", [False, True])
def test_a_cluster_that_was_half_restored_keeps_its_backup_until_it_goes_with_its_data(
    run: Run, fake: Lifecycle, standing: Callable[..., None], tmp_path: Path, volumes: bool
) -> None:
    standing("a")
    standing("b")
    where, cluster = str(tmp_path / "repo"), fake.state.get("a")
    repository = open_repository(where, make=True)
    repository.finish(made_manifest("20260101T000000Z-a", cluster))
    repository.lease("20260101T000000Z-a", lessee(cluster))
    half = HalfRestored("20260101T000000Z-a", where, RestoreWish(), "2026-01-01T00:00:00+00:00")
    RestoreFile(fake.state.cluster_dir("a")).write(half)
    # One whose repository is gone goes all the same.
    RestoreFile(fake.state.cluster_dir("b")).write(replace(half, repository=str(tmp_path / "gone")))
    assert run("down", "a", "b", *(("--volumes",) if volumes else ())).code == 0
    assert bool(repository.folders()["20260101T000000Z-a"].heard) is not volumes


def made_manifest(backup: str, cluster: Cluster) -> Manifest:
    begun = Begun(backup, cluster.store, cluster.name, cluster.owner, Shape.of(cluster), NOW, "1", Wish())
    return Manifest(begun, NOW, NOW, Facts("8", "x:1", NOW), ())


def test_heal_names_what_it_healed(
    run: Run, fake: Lifecycle, runtime: FakeRuntime, standing: Callable[..., None]
) -> None:
    standing("a")
    runtime.of(fake.state.get("a")).nodes["redis-2"] = ContainerState.STOPPED
    assert "healed a/redis-2" in run("heal").err
    assert "nothing to heal" in run("heal", "a").err


def test_gc_dry_run_shows_and_gc_removes(run: Run, fake: Lifecycle, runtime: FakeRuntime) -> None:
    runtime.of(make_cluster(name="x", owner=fake.state.owner())).volumes = 1
    assert "would remove x: has no record" in run("gc", "--dry-run").err
    assert "removed x: has no record" in run("gc").err
    assert "nothing to remove" in run("gc").err


def test_all_end_before_the_first_error_is_raised(capsys: pytest.CaptureFixture[str]) -> None:
    done: list[int] = []

    def act(number: int) -> None:
        done.append(number)
        if number == 1:
            raise AddressTaken("one")
        if number == 2:
            raise EnvironmentTrouble("two")

    with pytest.raises(AddressTaken, match="one"):
        run_all(act, [1, 2, 3], Event())
    assert sorted(done) == [1, 2, 3]
    assert "haops: two" in capsys.readouterr().err
    run_all(act, [], Event())


def test_completion_offers_the_recorded_names(fake: Lifecycle) -> None:
    for name in ("alpha", "beta"):
        fake.state.save(make_cluster(name=name))
    assert cluster_names("al") == ["alpha"]
    assert cluster_names("") == ["alpha", "beta"]


def test_bad_pairs_of_images_are_bad_input() -> None:
    for pair in ("", "=", "=x", "redis"):
        with pytest.raises(BadInput):
            parse_images([pair])

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from haops.cluster.state import write_atomic
from haops.control import doctor
from haops.control.doctor import Finding, Level, examine
from haops.control.lifecycle import Lifecycle
from haops.errors import EngineUnavailable
from haops.faults.ledger import Ledger

from ...fakes import FakeRuntime, make_cluster


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which everything is well, without asking the real one."""
    version = subprocess.CompletedProcess([], 0, stdout="v2.40.3\n", stderr="")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *_, **__: version)
    ready = [SimpleNamespace(name="redis", ref="haops/redis:8", state="ready")]
    monkeypatch.setattr("haops.runtime.images.image_states", lambda: ready)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=50 * 1024**3))
    monkeypatch.setattr(doctor, "host_routes", list)
    monkeypatch.setattr(
        doctor.os, "sysconf", lambda name: 4096 if name == "SC_PAGE_SIZE" else 8 * 1024**3 // 4096
    )


def findings(haops: Lifecycle, check: str) -> list[Finding]:
    return [f for f in examine(haops) if f.check == check]


def test_a_good_machine_has_only_good_findings(haops: Lifecycle) -> None:
    found = examine(haops)
    assert {f.level for f in found} == {Level.OK}
    assert {
        "python",
        "files",
        "state",
        "engine",
        "compose",
        "image",
        "memory",
        "disk",
        "addresses",
        "leftovers",
    } == {f.check for f in found}


def test_a_check_that_stumbles_becomes_a_finding_and_the_others_still_run(
    haops: Lifecycle, runtime: FakeRuntime
) -> None:
    gone = EngineUnavailable("no container engine answers", hint="make engine")
    runtime.fail = {"ping": [gone], "networks": [gone], "leftovers": [gone]}
    found = examine(haops)
    assert [(f.check, f.detail, f.fix) for f in found if f.level is Level.FAIL] == [
        (check, "no container engine answers", "make engine")
        for check in ("engine", "addresses", "leftovers")
    ]
    assert "disk" in {f.check for f in found}


def test_an_error_of_the_machine_itself_becomes_a_finding(
    haops: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> SimpleNamespace:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.shutil, "disk_usage", broken)
    assert [f.level for f in findings(haops, "disk")] == [Level.FAIL]


def test_a_check_that_stumbles_keeps_what_it_found_before(
    haops: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def _half(_: Lifecycle) -> Iterator[Finding]:
        yield Finding("half", Level.OK, "first")
        raise OSError("second")

    monkeypatch.setattr(doctor, "_python", _half)
    assert [f.detail for f in findings(haops, "half")] == ["first", "second"]


@pytest.mark.parametrize(
    "outcome",
    [
        FileNotFoundError("docker"),
        subprocess.TimeoutExpired("docker", 10),
        subprocess.CompletedProcess([], 1, stdout="", stderr="docker: 'compose' is not a docker command."),
        subprocess.CompletedProcess([], 0, stdout="\n", stderr=""),
    ],
)
def test_a_missing_compose_is_a_failure_with_a_mend(
    haops: Lifecycle, monkeypatch: pytest.MonkeyPatch, outcome: object
) -> None:
    def run(*_: object, **__: object) -> object:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(doctor.subprocess, "run", run)
    (found,) = findings(haops, "compose")
    assert (found.level, found.fix) == (Level.FAIL, "make engine")


def test_a_damaged_record_is_a_warning_with_the_way_out(haops: Lifecycle) -> None:
    write_atomic(haops.state.cluster_dir("redis") / "cluster.json", "{")
    warnings = [f for f in findings(haops, "state") if f.level is Level.WARN]
    assert [f.fix for f in warnings] == ["haops down redis --volumes"]


def test_an_even_ensemble_is_a_warning(haops: Lifecycle) -> None:
    haops.state.save(make_cluster("zookeeper", 4))
    haops.state.save(make_cluster("zookeeper", 3, name="odd"))
    (found,) = findings(haops, "ensemble")
    assert found.level is Level.WARN
    assert "even number" in found.detail


def test_a_fault_that_was_not_undone_is_a_warning(haops: Lifecycle) -> None:
    haops.state.save(make_cluster())
    Ledger(haops.state.cluster_dir("redis")).register("redis-1", "kill", "start", "run-1")
    (found,) = findings(haops, "faults")
    assert found.detail == "redis-1 of redis: kill by run-1 was not undone"
    assert found.fix == "haops heal redis"


@pytest.mark.parametrize("condition", ["stale", "missing"])
def test_an_image_that_is_not_ready_is_a_warning_with_its_build(
    haops: Lifecycle, monkeypatch: pytest.MonkeyPatch, condition: str
) -> None:
    images = [SimpleNamespace(name="redis", ref="haops/redis:8", state=condition)]
    monkeypatch.setattr("haops.runtime.images.image_states", lambda: images)
    (found,) = findings(haops, "image")
    assert (found.level, found.fix) == (Level.WARN, "haops images build redis")


def test_little_disk_and_little_memory_are_warnings(
    haops: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=1024**3))
    monkeypatch.setattr(doctor.os, "sysconf", lambda name: 4096 if name == "SC_PAGE_SIZE" else 1000)
    assert {f.level for f in findings(haops, "disk")} == {Level.WARN}
    assert {f.level for f in findings(haops, "memory")} == {Level.WARN}


def test_a_used_up_pool_of_addresses_is_a_failure(haops: Lifecycle, runtime: FakeRuntime) -> None:
    runtime.foreign_subnets = ["0.0.0.0/0"]
    (found,) = findings(haops, "addresses")
    assert found.level is Level.FAIL


def test_leftovers_are_warnings(haops: Lifecycle, runtime: FakeRuntime) -> None:
    runtime.of(make_cluster(owner=haops.state.owner())).volumes = 1
    (found,) = findings(haops, "leftovers")
    assert (found.level, found.fix) == (Level.WARN, "haops gc")

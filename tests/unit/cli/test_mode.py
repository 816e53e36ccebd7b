from __future__ import annotations

import json
from dataclasses import replace

import pytest

from haops.cluster.spec import Cluster, StoreName
from haops.control.lifecycle import Lifecycle
from haops.stores import load
from haops.stores.mode import Fact, Mode

from ...fakes import make_cluster, with_readiness
from .conftest import Run


@pytest.fixture
def redis(fake: Lifecycle, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster whose servers are as any mode but waitaof needs them."""

    def ask(cluster: Cluster, mode: Mode) -> tuple[Fact, ...]:
        found = "no" if mode.name == "waitaof" else "yes"
        return (Fact("redis-1", "thing", "yes", found, holds=found == "yes"),)

    def store(name: StoreName) -> object:
        real = with_readiness(load(name))
        return replace(real, modes=replace(real.modes, settle=lambda *_: ("redis-1: thing yes",), ask=ask))

    monkeypatch.setattr("haops.control.modes.load", store)
    monkeypatch.setattr("haops.cli.mode.lifecycle", lambda: fake)
    monkeypatch.setenv("COLUMNS", "300")
    cluster = make_cluster("redis", owner=fake.state.owner())
    fake.state.save(cluster)
    return cluster


def test_modes_are_listed_with_what_they_promise_and_what_not(run: Run) -> None:
    document = json.loads(run("mode", "list", "-o", "json").out)
    assert {m["store"] for m in document["modes"]} == set(StoreName)
    assert all(m["promise"] and m["limits"] and m["writer"] and m["reader"] for m in document["modes"])
    assert run("mode", "list", "redis", "-o", "name").out.split()[:2] == ["async", "wait-1"]
    assert run("mode", "list", "nope").code == 2


def test_a_mode_is_shown_with_what_the_servers_say(run: Run, redis: Cluster) -> None:
    ended = run("mode", "show", "redis")
    assert ended.code == 0
    assert "redis: async, asynchronous replication" in ended.out
    assert "does not promise: " in ended.out
    assert "redis-1" in ended.out


def test_a_mode_is_set_and_told(run: Run, redis: Cluster, fake: Lifecycle) -> None:
    document = json.loads(run("mode", "set", "redis", "wait-1", "-o", "json").out)
    assert (document["mode"]["name"], document["holds"]) == ("wait-1", True)
    assert document["changed"] == ["redis-1: thing yes"]
    assert fake.state.get("redis").mode == "wait-1"


def test_servers_that_are_not_as_the_mode_needs_them_are_unhealthy(run: Run, redis: Cluster) -> None:
    assert run("mode", "set", "redis", "waitaof").code == 5
    assert run("mode", "show", "redis", "-o", "name").code == 5


def test_an_unknown_mode_or_cluster_is_bad_input(run: Run, redis: Cluster) -> None:
    ended = run("mode", "set", "redis", "quorum")
    assert ended.code == 2
    assert "allowed: async, wait-1" in ended.err
    assert run("mode", "show", "nobody").code == 2

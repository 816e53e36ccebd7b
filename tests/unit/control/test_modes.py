from __future__ import annotations

from dataclasses import replace

import pytest

from haops.cluster.spec import Cluster, ClusterSpec, StoreName
from haops.control.lifecycle import Lifecycle
from haops.control.modes import set_mode, show_mode
from haops.errors import BadInput, Busy, ClusterUnhealthy
from haops.stores import load
from haops.stores.mode import Fact, Mode

from ...fakes import make_cluster, with_readiness


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modes that servers were made fit for; one of them answers that it is not."""
    seen: list[str] = []

    def settle(cluster: Cluster, mode: Mode) -> tuple[str, ...]:
        if mode.name == "waitaof":
            raise ClusterUnhealthy("the mode waitaof cannot be set", node="redis-2")
        seen.append(mode.name)
        return ("redis-1: something",)

    def ask(cluster: Cluster, mode: Mode) -> tuple[Fact, ...]:
        return (Fact("redis-1", "what", "yes", "no", holds=mode.name == "async"),)

    def store(name: StoreName) -> object:
        real = with_readiness(load(name))
        return replace(real, modes=replace(real.modes, settle=settle, ask=ask))

    monkeypatch.setattr("haops.control.modes.load", store)
    monkeypatch.setattr("haops.control.lifecycle.load", store)
    return seen


@pytest.fixture
def cluster(haops: Lifecycle) -> Cluster:
    made = make_cluster("redis", owner=haops.state.owner())
    haops.state.save(made)
    return made


def test_a_mode_is_set_on_the_servers_and_then_recorded(
    haops: Lifecycle, cluster: Cluster, settled: list[str]
) -> None:
    report = set_mode(haops.state, cluster, "wait-1")
    assert (settled, report.changed, report.holds) == (["wait-1"], ("redis-1: something",), False)
    assert haops.state.get("redis").mode == "wait-1"
    assert show_mode(haops.state.get("redis")).mode.name == "wait-1"
    assert show_mode(cluster).holds


def test_servers_that_refuse_leave_the_record_as_it_was(
    haops: Lifecycle, cluster: Cluster, settled: list[str]
) -> None:
    with pytest.raises(ClusterUnhealthy, match="redis-2"):
        set_mode(haops.state, cluster, "waitaof")
    assert haops.state.get("redis").mode == "async"


def test_a_mode_that_the_store_lacks_or_the_cluster_is_too_small_for_touches_nothing(
    haops: Lifecycle, cluster: Cluster, settled: list[str]
) -> None:
    with pytest.raises(BadInput, match="unknown mode"):
        set_mode(haops.state, cluster, "quorum")
    alone = make_cluster("redis", 1, name="alone")
    with pytest.raises(BadInput, match="alone cannot be used in mode wait-1"):
        set_mode(haops.state, alone, "wait-1")
    assert settled == []


def test_nobody_changes_a_mode_while_somebody_is_at_work(
    haops: Lifecycle, cluster: Cluster, settled: list[str]
) -> None:
    with haops.state.lock("redis", "drill"), pytest.raises(Busy):
        set_mode(haops.state, cluster, "wait-1")
    assert settled == []


def test_up_sets_the_mode_that_is_asked_for_and_refuses_another_one_later(
    haops: Lifecycle, settled: list[str]
) -> None:
    made = haops.up(ClusterSpec("redis", StoreName.REDIS, mode="wait-1"))
    assert (made.mode, settled) == ("wait-1", ["wait-1"])
    assert haops.up(ClusterSpec("redis", StoreName.REDIS)).mode == "wait-1"
    with pytest.raises(BadInput, match="exists in mode wait-1") as caught:
        haops.up(ClusterSpec("redis", StoreName.REDIS, mode="async"))
    assert "haops mode set redis async" in str(caught.value.hint)


def test_a_cluster_too_small_for_its_mode_is_not_begun(haops: Lifecycle, settled: list[str]) -> None:
    with pytest.raises(BadInput, match="cannot be used in mode wait-all"):
        haops.up(ClusterSpec("redis", StoreName.REDIS, nodes=1, mode="wait-all"))
    assert haops.state.names() == ()


def test_another_number_of_observers_or_data_centres_is_refused(haops: Lifecycle, settled: list[str]) -> None:
    haops.up(ClusterSpec("zk", StoreName.ZOOKEEPER, observers=1))
    with pytest.raises(BadInput, match="exists with --observers 1"):
        haops.up(ClusterSpec("zk", StoreName.ZOOKEEPER))
    haops.up(ClusterSpec("ring", StoreName.CASSANDRA, nodes=4, dcs=2))
    with pytest.raises(BadInput, match="exists with --dcs 2"):
        haops.up(ClusterSpec("ring", StoreName.CASSANDRA, nodes=4))

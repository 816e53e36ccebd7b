"""A guard as a container of its cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from haops.cluster.spec import AddressMap, Cluster
from haops.control import detached
from haops.control.detached import NODE, seen_from_here, start_guard, stop_guard
from haops.control.lifecycle import Lifecycle
from haops.errors import BadInput, Busy, ClusterUnhealthy, DeadlineExceeded
from haops.runtime import images
from haops.runtime.images import BuildProgress
from haops.runtime.port import ContainerState, LogLine
from haops.stores.plan import NotPlannable

from ...fakes import FakeClock, FakeRuntime, make_cluster

OPTIONS = ["--interval=20ms", "--block=60000ms"]


def line(text: str) -> LogLine:
    return LogLine(NODE, 1, text)


def image(_: Callable[[str], None]) -> str:
    return "haops/guard:test"


@pytest.fixture
def redis(haops: Lifecycle, runtime: FakeRuntime) -> Cluster:
    cluster = replace(make_cluster("redis", name="cache"), owner=haops.state.owner())
    haops.state.save(cluster)
    runtime.of(cluster).nodes = {n.name: ContainerState.RUNNING for n in cluster.nodes}
    runtime.lines[NODE] = [line("2025-01-02T03:04:05.678+00:00  cache  watches: redis-1 is the primary")]
    return cluster


def start(haops: Lifecycle, cluster: Cluster, *options: str, lease: str | None = None) -> detached.Detached:
    return start_guard(haops, cluster, [*OPTIONS, *options], lease, image=image)


def test_a_guard_is_started_with_its_options_and_the_state_directory(
    haops: Lifecycle, runtime: FakeRuntime, redis: Cluster
) -> None:
    started = start(haops, redis)
    assert str(started) == f"{redis.project}-guard-1"
    (made,) = runtime.companions
    owner = haops.state.root.stat()
    assert made.argv == ("guard", "cache", *OPTIONS)
    assert made.image == "haops/guard:test"
    assert made.folder == haops.state.root.resolve()
    assert dict(made.environment) == {"HAOPS_STATE": made.seen_as, "HAOPS_VANTAGE": "inside"}
    assert made.user == f"{owner.st_uid}:{owner.st_gid}"
    assert made.joins == ()


def test_a_second_start_with_the_same_options_leaves_the_guard_alone(
    haops: Lifecycle, runtime: FakeRuntime, redis: Cluster
) -> None:
    start(haops, redis)
    runtime.lines.clear()  # what it said long ago may be gone
    assert "ran already" in str(start(haops, redis))
    assert len(runtime.companions) == 1


def test_other_options_replace_the_guard(haops: Lifecycle, runtime: FakeRuntime, redis: Cluster) -> None:
    start(haops, redis)
    assert start(haops, redis, "--refusals=3").fresh
    assert runtime.companions[-1].argv[-1] == "--refusals=3"


def test_with_a_lease_it_joins_the_ensembles_network(
    haops: Lifecycle, runtime: FakeRuntime, redis: Cluster
) -> None:
    ensemble = replace(make_cluster("zookeeper", name="zk"), owner=haops.state.owner())
    haops.state.save(ensemble)
    start(haops, redis, lease="zk")
    assert runtime.companions[0].joins == (ensemble,)


def test_a_lease_of_a_cluster_that_is_not_there(
    haops: Lifecycle, runtime: FakeRuntime, redis: Cluster
) -> None:
    with pytest.raises(BadInput, match="no cluster 'zk'"):
        start(haops, redis, lease="zk")
    assert runtime.companions == []


def test_a_store_that_needs_no_guard_is_told_before_an_image_is_built(haops: Lifecycle) -> None:
    def never(_: Callable[[str], None]) -> str:
        raise AssertionError

    with pytest.raises(NotPlannable, match="zookeeper needs no guard"):
        start_guard(haops, make_cluster("zookeeper"), [], None, image=never)


def test_a_guard_that_complains_is_removed_and_quoted(
    haops: Lifecycle, runtime: FakeRuntime, redis: Cluster
) -> None:
    runtime.lines[NODE] = [line("haops: there is no cluster 'cache'"), line("hint: there is none")]
    with pytest.raises(ClusterUnhealthy, match="guard of cache did not start") as caught:
        start(haops, redis)
    assert caught.value.detail == "haops: there is no cluster 'cache'\nhint: there is none"
    assert NODE not in runtime.of(redis).nodes


def test_a_guard_that_ends_is_removed(haops: Lifecycle, runtime: FakeRuntime, redis: Cluster) -> None:
    runtime.lines.clear()
    runtime.dies.add(NODE)
    with pytest.raises(ClusterUnhealthy, match="did not start") as caught:
        start(haops, redis)
    assert caught.value.detail == "it said nothing"
    assert NODE not in runtime.of(redis).nodes


def test_a_guard_that_never_watches_is_not_waited_for_for_ever(
    haops: Lifecycle, runtime: FakeRuntime, redis: Cluster, clock: FakeClock
) -> None:
    runtime.lines[NODE] = [line("2025-01-02T03:04:05.678+00:00  cache  standby: of watches: none")]
    with pytest.raises(DeadlineExceeded, match="does not watch after 20 s"):
        start(haops, redis)
    assert 20 <= sum(clock.slept) < 21
    assert NODE not in runtime.of(redis).nodes


def test_two_starts_at_once_are_one_too_many(haops: Lifecycle, redis: Cluster) -> None:
    with haops.state.lock("cache", "start of a guard", part="detach"), pytest.raises(Busy):
        start(haops, redis)


def test_a_guard_can_be_started_while_somebody_works_on_the_cluster(haops: Lifecycle, redis: Cluster) -> None:
    with haops.state.lock("cache", "switchover"):
        assert start(haops, redis).fresh


def test_stopping_ends_it_gently_and_removes_it(
    haops: Lifecycle, runtime: FakeRuntime, redis: Cluster
) -> None:
    start(haops, redis)
    assert stop_guard(haops, redis)
    assert [c for c in runtime.calls if c[0] in ("stop", "discard")] == [("stop", NODE), ("discard", NODE)]
    assert not stop_guard(haops, redis)


def test_stopping_one_that_has_ended_removes_it(
    haops: Lifecycle, runtime: FakeRuntime, redis: Cluster
) -> None:
    runtime.of(redis).nodes[NODE] = ContainerState.STOPPED
    assert stop_guard(haops, redis)
    assert NODE not in runtime.of(redis).nodes


def test_heal_starts_a_guard_that_was_killed(haops: Lifecycle, runtime: FakeRuntime, redis: Cluster) -> None:
    start(haops, redis)
    runtime.kill(redis, NODE)
    assert haops.heal(redis) == (NODE,)


def test_down_removes_the_guard_too(haops: Lifecycle, runtime: FakeRuntime, redis: Cluster) -> None:
    start(haops, redis)
    haops.down("cache", keep_volumes=True)
    assert runtime.of(redis).nodes == {}


def test_from_inside_nodes_are_reached_by_their_own_addresses(redis: Cluster) -> None:
    inside = seen_from_here(redis, {"HAOPS_VANTAGE": "inside"})
    for node, before in zip(inside.nodes, redis.nodes, strict=True):
        assert (node.host, node.host_port) == (before.address, before.port)
        assert replace(node, host=before.host, host_port=before.host_port) == before
        assert AddressMap(inside).outside(before.address, before.port) == (before.address, before.port)
        assert AddressMap(inside).node_at(before.address, before.port) == node


@pytest.mark.parametrize("environment", [{}, {"HAOPS_VANTAGE": ""}, {"HAOPS_VANTAGE": "outside"}])
def test_from_outside_nothing_changes(redis: Cluster, environment: dict[str, str]) -> None:
    assert seen_from_here(redis, environment) is redis


def test_a_vantage_that_is_none_is_refused(redis: Cluster) -> None:
    with pytest.raises(BadInput, match="HAOPS_VANTAGE is 'above'"):
        seen_from_here(redis, {"HAOPS_VANTAGE": "above"})


def test_the_image_is_built_before_its_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def build(names: list[str], *, on_progress: Callable[[BuildProgress], None]) -> None:
        asked.append(names)
        on_progress(BuildProgress("guard", "Step 1/13 : ARG BASE"))
        on_progress(BuildProgress("guard", "made it"))

    monkeypatch.setattr(images, "build", build)
    said: list[str] = []
    assert detached.built(said.append).startswith("haops/guard:")
    assert (asked, said) == ([["guard"]], ["guard: made it"])

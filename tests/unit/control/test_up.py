from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from datetime import timedelta
from ipaddress import IPv4Network

import pytest
import yaml

from haops.cluster.spec import Cluster, ClusterSpec, NodeKind, Phase, StoreName
from haops.cluster.state import StateDir
from haops.control.lifecycle import Lifecycle, _place
from haops.control.progress import NodeProgress
from haops.errors import (
    AddressTaken,
    BadInput,
    ClusterUnhealthy,
    DeadlineExceeded,
    EngineUnavailable,
    EnvironmentTrouble,
    HaopsError,
    ImageUnavailable,
    SubnetTaken,
)
from haops.runtime.port import ContainerState, LogLine
from haops.stores import load
from haops.stores.base import NodePlan
from haops.stores.cassandra.topology import replaced

from ...fakes import FakeClock, FakeRuntime, with_readiness

SPEC = ClusterSpec("redis", StoreName.REDIS)
Ready = Callable[..., None]


@pytest.fixture(autouse=True)
def ready(monkeypatch: pytest.MonkeyPatch) -> Ready:
    """Scripts what the stores' readiness answers; ready at once by default."""

    def script(*answers: Mapping[str, str]) -> None:
        monkeypatch.setattr("haops.control.lifecycle.load", lambda name: with_readiness(load(name), *answers))

    script()
    return script


@pytest.fixture(autouse=True)
def no_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The routes of the machine that runs the tests do not matter."""
    monkeypatch.setattr("haops.control.lifecycle.host_routes", list)


@pytest.mark.parametrize("store", list(StoreName))
def test_a_new_cluster_is_started_and_recorded_as_ready(
    haops: Lifecycle, runtime: FakeRuntime, store: StoreName
) -> None:
    cluster = haops.up(ClusterSpec("a", store, nodes=3, ttl=timedelta(hours=2)))
    assert haops.state.get("a") == cluster
    assert cluster.phase is Phase.READY
    assert cluster.owner == haops.state.owner()
    assert cluster.expires == cluster.created + timedelta(hours=2)
    assert set(runtime.of(cluster).nodes) == {n.name for n in cluster.nodes}
    document = yaml.safe_load(runtime.projects[0])
    assert set(document["services"]) == {n.name for n in cluster.nodes}


def test_addresses_and_ports_of_a_cluster_are_all_different(haops: Lifecycle) -> None:
    cluster = haops.up(ClusterSpec("a", StoreName.ZOOKEEPER, nodes=9))
    ports = [p for n in cluster.nodes for p in (n.host_port, n.admin_host_port)]
    assert len(set(ports)) == 18
    addresses = {n.address for n in cluster.nodes}
    hosts = {str(h) for h in IPv4Network(cluster.subnet).hosts()}
    assert len(addresses) == 9
    assert addresses <= hosts - {str(IPv4Network(cluster.subnet)[1])}  # the gateway's


def test_a_wished_for_port_is_the_first_of_a_row(haops: Lifecycle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haops.runtime.addresses.port_free", lambda port: True)
    cluster = haops.up(ClusterSpec("a", StoreName.REDIS, nodes=1, port_base=7000))
    assert [n.host_port for n in cluster.nodes] == [7000, 7001, 7002, 7003]


def test_a_cassandra_member_listens_inside_on_the_port_that_is_published(haops: Lifecycle) -> None:
    cluster = haops.up(ClusterSpec("a", StoreName.CASSANDRA))
    assert all(n.port == n.host_port for n in cluster.nodes)


def test_an_image_of_ones_own_reaches_compose(haops: Lifecycle, runtime: FakeRuntime) -> None:
    haops.up(ClusterSpec("a", StoreName.REDIS, image="my/redis:1"))
    services = yaml.safe_load(runtime.projects[0])["services"]
    assert {s["image"] for s in services.values()} == {"my/redis:1"}


def test_a_second_up_changes_nothing(haops: Lifecycle, runtime: FakeRuntime) -> None:
    first = haops.up(SPEC)
    assert haops.up(SPEC) == first
    assert runtime.projects[0] == runtime.projects[1]


@pytest.mark.parametrize("crash", [KeyboardInterrupt(), RuntimeError("killed"), EnvironmentTrouble("full")])
def test_an_up_after_a_crash_in_the_middle_finishes_with_the_same_ports_and_subnet(
    haops: Lifecycle, runtime: FakeRuntime, crash: BaseException
) -> None:
    runtime.half = True
    runtime.fail["compose_up"] = [crash]
    with pytest.raises(type(crash)):
        haops.up(SPEC)
    half = haops.state.get("redis")
    assert half.phase is Phase.CREATING
    assert not haops.state.locked("redis")
    finished = haops.up(SPEC)
    assert finished.phase is Phase.READY
    assert (finished.nodes, finished.subnet) == (half.nodes, half.subnet)


def test_another_size_of_a_cluster_that_is_there_is_refused(haops: Lifecycle) -> None:
    haops.up(SPEC)
    with pytest.raises(BadInput, match="redis exists with 3 nodes of redis") as caught:
        haops.up(ClusterSpec("redis", StoreName.REDIS, nodes=5))
    assert "haops down redis --volumes" in str(caught.value.hint)


def test_another_store_under_a_name_that_is_there_is_refused(haops: Lifecycle) -> None:
    haops.up(SPEC)
    with pytest.raises(BadInput, match="redis exists with 3 nodes of redis"):
        haops.up(ClusterSpec("redis", StoreName.ZOOKEEPER))


def test_two_clusters_get_different_ports_and_subnets(haops: Lifecycle) -> None:
    first, second = haops.up(SPEC), haops.up(ClusterSpec("other", StoreName.ZOOKEEPER))

    def ports(cluster: Cluster) -> set[int | None]:
        return {p for n in cluster.nodes for p in (n.host_port, n.admin_host_port)} - {None}

    assert not ports(first) & ports(second)
    assert not IPv4Network(first.subnet).overlaps(IPv4Network(second.subnet))


def test_a_damaged_record_of_another_cluster_is_no_obstacle(haops: Lifecycle) -> None:
    haops.state.save(haops.up(ClusterSpec("broken", StoreName.REDIS)))
    (haops.state.cluster_dir("broken") / "cluster.json").write_text("{")
    assert haops.up(SPEC).phase is Phase.READY


def test_the_subnets_of_the_engine_are_left_alone(haops: Lifecycle, runtime: FakeRuntime) -> None:
    runtime.foreign_subnets = ["10.231.0.0/24"]
    assert not IPv4Network(haops.up(SPEC).subnet).overlaps(IPv4Network("10.231.0.0/24"))


def test_a_machine_without_a_free_subnet_is_told_so(haops: Lifecycle, runtime: FakeRuntime) -> None:
    runtime.foreign_subnets = ["0.0.0.0/0"]
    with pytest.raises(AddressTaken, match="no subnet is free"):
        haops.up(SPEC)


# ---- addresses that somebody takes meanwhile


def clash(subnet: str = "10.231.0.0/27") -> SubnetTaken:
    return SubnetTaken(f"the subnet {subnet} is taken")


def test_a_subnet_clash_moves_the_cluster_to_another_subnet(haops: Lifecycle, runtime: FakeRuntime) -> None:
    runtime.fail["compose_up"] = [clash(), clash()]
    cluster = haops.up(SPEC)
    tried = [yaml.safe_load(p)["networks"]["ring"]["ipam"]["config"][0]["subnet"] for p in runtime.projects]
    assert len(set(tried)) == 3
    assert cluster.subnet == tried[-1]
    assert haops.state.get("redis") == cluster
    assert all(n.address in {str(h) for h in IPv4Network(cluster.subnet)} for n in cluster.nodes)


def test_subnet_clashes_without_end_are_given_up(haops: Lifecycle, runtime: FakeRuntime) -> None:
    runtime.fail["compose_up"] = [clash() for _ in range(10)]
    with pytest.raises(AddressTaken, match="subnet"):
        haops.up(SPEC)
    assert len(runtime.projects) == 4


def test_a_cluster_with_data_does_not_move(haops: Lifecycle, runtime: FakeRuntime) -> None:
    before = haops.up(SPEC)
    runtime.fail["compose_up"] = [clash()]
    with pytest.raises(AddressTaken):
        haops.up(SPEC)
    assert haops.state.get("redis") == before


def test_a_taken_host_port_is_not_tried_again(haops: Lifecycle, runtime: FakeRuntime) -> None:
    runtime.fail["compose_up"] = [AddressTaken("a host port of redis is taken")]
    with pytest.raises(AddressTaken, match="port") as caught:
        haops.up(SPEC)
    assert caught.value.exit_code == 3
    assert len(runtime.projects) == 1


def test_a_taken_host_port_of_a_cluster_called_subnet_is_not_tried_again(
    haops: Lifecycle, runtime: FakeRuntime
) -> None:
    runtime.fail["compose_up"] = [AddressTaken("a host port of subnet is taken")]
    with pytest.raises(AddressTaken):
        haops.up(ClusterSpec("subnet", StoreName.REDIS))


def test_a_wished_for_port_that_is_really_taken_ends_before_anything_is_made(
    haops: Lifecycle, runtime: FakeRuntime
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder, pytest.raises(AddressTaken):
        haops.up(ClusterSpec("a", StoreName.REDIS, port_base=min(holder.getsockname()[1], 65000)))
    assert runtime.projects == []
    assert haops.state.names() == ()


# ---- what can go wrong


def test_without_an_engine_nothing_is_recorded(haops: Lifecycle, runtime: FakeRuntime) -> None:
    runtime.fail["ping"] = [EngineUnavailable("no engine")]
    with pytest.raises(EngineUnavailable):
        haops.up(SPEC)
    assert haops.state.names() == ()


def test_without_an_image_nothing_is_recorded(
    state: StateDir, runtime: FakeRuntime, clock: FakeClock
) -> None:
    def missing(store: str, image: str | None) -> str:
        raise ImageUnavailable(f"no {store}")

    with pytest.raises(ImageUnavailable):
        Lifecycle(state, runtime, missing, clock.clock).up(SPEC)
    assert state.names() == ()
    assert runtime.projects == []


def test_a_node_that_dies_during_up_is_told_with_its_last_log_lines(
    haops: Lifecycle, runtime: FakeRuntime, ready: Ready
) -> None:
    ready({"redis-2": "answer"})
    runtime.dies = {"redis-2"}
    runtime.lines["redis-2"] = [LogLine("redis-2", i, f"line {i}") for i in range(40)]
    with pytest.raises(ClusterUnhealthy, match="the server ended while redis came up") as caught:
        haops.up(SPEC)
    assert not isinstance(caught.value, DeadlineExceeded)
    assert caught.value.node == "redis-2"
    assert "Exited (137)" in caught.value.message
    assert str(caught.value.detail).splitlines() == [f"line {i}" for i in range(25, 40)]


def test_the_deadline_tells_which_node_waits_for_what(
    haops: Lifecycle, runtime: FakeRuntime, clock: FakeClock, ready: Ready
) -> None:
    ready({"redis-3": "first copy from the primary"})
    runtime.lines["redis-3"] = [LogLine("redis-3", 1, "Connecting to MASTER")]
    with pytest.raises(DeadlineExceeded) as caught:
        haops.up(SPEC, deadline_s=5)
    assert caught.value.node == "redis-3"
    assert caught.value.message == "not ready after 5 s: waits for first copy from the primary"
    assert caught.value.detail == "Connecting to MASTER"
    assert sum(clock.slept) == pytest.approx(5, abs=0.2)
    assert haops.state.get("redis").phase is Phase.CREATING


def test_progress_is_told_for_every_node_until_all_are_ready(haops: Lifecycle, ready: Ready) -> None:
    ready({"redis-2": "answer"}, {})
    told: list[NodeProgress] = []
    haops.up(ClusterSpec("redis", StoreName.REDIS, nodes=2), report=told.append)
    last = {p.node: p.waits_for for p in told}
    assert set(last) == {"redis-1", "redis-2", "sentinel-1", "sentinel-2", "sentinel-3"}
    assert set(last.values()) == {None}
    assert [p.waits_for for p in told if p.node == "redis-2"] == ["container", "answer", None]


def test_up_thaws_a_frozen_node(haops: Lifecycle, runtime: FakeRuntime) -> None:
    cluster = haops.up(SPEC)
    runtime.of(cluster).nodes["redis-1"] = ContainerState.PAUSED
    haops.up(SPEC)
    assert runtime.of(cluster).nodes["redis-1"] is ContainerState.RUNNING


def test_up_makes_anew_what_was_made_but_never_started(haops: Lifecycle, runtime: FakeRuntime) -> None:
    cluster = haops.up(SPEC)
    runtime.of(cluster).nodes["redis-1"] = ContainerState.CREATED
    haops.up(SPEC)
    assert runtime.of(cluster).nodes["redis-1"] is ContainerState.RUNNING
    assert [c for c in runtime.calls if c[0] == "discard"] == [("discard", "redis-1")]


def test_up_does_not_start_what_another_process_works_on(haops: Lifecycle, runtime: FakeRuntime) -> None:
    with (
        haops.state.lock("redis", "down"),
        pytest.raises(HaopsError, match="another haops is at work on redis"),
    ):
        haops.up(SPEC)
    assert runtime.projects == []


def test_a_ttl_beyond_all_time_is_bad_input(haops: Lifecycle) -> None:
    with pytest.raises(BadInput):
        haops.up(ClusterSpec("a", StoreName.REDIS, ttl=timedelta(days=5_000_000)))


def test_servers_stand_in_the_zones_in_turn() -> None:
    plans = [NodePlan(f"redis-{i}", NodeKind.SERVER, i, 6379) for i in (1, 2, 3)]
    placed = _place(plans, IPv4Network("10.0.0.0/27"), [1, 2, 3], ("a", "b"))
    assert [n.params["zone"] for n in placed] == ["a", "b", "a"]
    assert all("zone" not in n.params for n in _place(plans, IPv4Network("10.0.0.0/27"), [1, 2, 3]))


@pytest.mark.parametrize("volumes", [0, 1])
def test_a_ring_that_lost_all_disks_begins_anew_with_nobody_in_anothers_place(
    haops: Lifecycle, runtime: FakeRuntime, volumes: int
) -> None:
    cluster = haops.up(ClusterSpec("a", StoreName.CASSANDRA))
    laid_out = replaced(cluster, "cassandra-2")
    haops.state.save(laid_out)
    runtime.of(cluster).nodes.clear()
    runtime.of(cluster).volumes = volumes
    again = haops.up(ClusterSpec("a", StoreName.CASSANDRA))
    assert again == (laid_out if volumes else cluster) == haops.state.get("a")
    assert ("replace_address" in runtime.projects[-1]) is bool(volumes)

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.spec import MAX_TTL, AddressMap, ClusterSpec, NodeKind, StoreName, check_name, check_store
from haops.errors import BadInput

from ...fakes import make_cluster

STORES = list(StoreName)


@given(st.from_regex(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True))
def test_a_well_formed_name_is_returned_as_it_is(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "-a", "a-", "1a", "A", "a_b", "a.b", "a b", "a/b", "../a", "a\n", "ä", "a" * 41, "a$b", "a'b"],
)
def test_a_name_that_would_harm_compose_or_paths_is_refused(name: str) -> None:
    with pytest.raises(BadInput) as caught:
        check_name(name)
    assert repr(name) in caught.value.message
    assert "1 to 40 of a-z" in str(caught.value.hint)


@given(st.text(max_size=45))
def test_whatever_name_is_accepted_is_safe_in_a_path_and_a_project(name: str) -> None:
    try:
        check_name(name)
    except BadInput:
        return
    assert re.fullmatch(r"[a-z][a-z0-9-]*", name)


def test_an_unknown_store_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match="unknown store 'mongo'") as caught:
        check_store("mongo")
    assert caught.value.hint == "allowed: redis, zookeeper, cassandra"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("store", STORES)
def test_a_known_store_is_found_by_its_name(store: StoreName) -> None:
    assert check_store(store.value) is store


@pytest.mark.parametrize("nodes", [-1, 0, 10])
def test_a_size_out_of_range_is_refused_with_the_range(nodes: int) -> None:
    with pytest.raises(BadInput, match=f"{nodes} nodes") as caught:
        ClusterSpec("a", StoreName.REDIS, nodes=nodes)
    assert caught.value.hint == "allowed: 1 to 9"


@pytest.mark.parametrize("nodes", [1, 9])
def test_the_smallest_and_the_largest_cluster_are_accepted(nodes: int) -> None:
    assert ClusterSpec("a", StoreName.REDIS, nodes=nodes).nodes == nodes


@pytest.mark.parametrize("port", [0, 80, 1023, 65001, 70000])
def test_a_first_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(BadInput, match=f"port {port}") as caught:
        ClusterSpec("a", StoreName.REDIS, port_base=port)
    assert caught.value.hint == "allowed: 1024 to 65000"


def test_a_ttl_that_no_calendar_holds_is_refused() -> None:
    assert ClusterSpec("a", StoreName.REDIS, ttl=MAX_TTL).ttl == MAX_TTL
    with pytest.raises(BadInput, match="is too long"):
        ClusterSpec("a", StoreName.REDIS, ttl=MAX_TTL + timedelta(seconds=1))


def test_servers_and_sentinels_are_told_apart() -> None:
    cluster = make_cluster("redis", 3)
    assert [n.name for n in cluster.servers] == ["redis-1", "redis-2", "redis-3"]
    assert [n.name for n in cluster.sentinels] == ["sentinel-1", "sentinel-2", "sentinel-3"]
    assert {n.kind for n in cluster.nodes} == {NodeKind.SERVER, NodeKind.SENTINEL}


def test_an_unknown_node_is_refused_with_the_known_ones() -> None:
    cluster = make_cluster("zookeeper", 3)
    assert cluster.node("zookeeper-2").index == 2
    with pytest.raises(BadInput, match="no node 'zookeeper-4'") as caught:
        cluster.node("zookeeper-4")
    assert caught.value.hint == "allowed: zookeeper-1, zookeeper-2, zookeeper-3"


def test_two_owners_clusters_of_one_name_are_two_compose_projects() -> None:
    cluster = make_cluster()
    assert cluster.project != replace(cluster, owner="fedcba654321").project


@given(st.sampled_from(STORES), st.integers(1, 9))
def test_the_address_map_leads_from_inside_to_outside_and_back(store: StoreName, nodes: int) -> None:
    cluster = make_cluster(store, nodes)
    addresses = AddressMap(cluster)
    for node in cluster.nodes:
        assert addresses.outside(node.address, node.port) == (node.host, node.host_port)
        assert addresses.node_at(node.address) is node
        assert addresses.node_at(node.address, node.port) is node
        assert addresses.node_at(node.host, node.host_port) is node


def test_an_address_that_is_not_the_clusters_stays_as_it_is() -> None:
    addresses = AddressMap(make_cluster())
    assert addresses.outside("192.0.2.1", 6379) == ("192.0.2.1", 6379)
    assert addresses.node_at("192.0.2.1") is None
    assert addresses.node_at("127.0.0.1", 1) is None

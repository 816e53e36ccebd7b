from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from haops.cluster.spec import Cluster, StoreName
from haops.runtime import compose, labels
from haops.stores import load

from ...fakes import make_cluster

STORES = list(StoreName)
LABELS = {labels.CLUSTER, labels.STORE, labels.OWNER, labels.EXPIRES}


def project(cluster: Cluster) -> dict[str, Any]:
    text = compose.render(cluster, load(cluster.store).render_context(cluster))
    document = yaml.safe_load(text)
    assert isinstance(document, dict)
    return document


def interpolated(text: str) -> str:
    """What Compose makes of a value; a lone `$` would be read as a variable."""
    assert "$" not in text.replace("$$", ""), f"Compose would interpolate {text!r}"
    return text.replace("$$", "$")


@pytest.fixture(params=[(s, n) for s in STORES for n in (1, 2, 3, 9)], ids=lambda p: f"{p[0].value}-{p[1]}")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    store, nodes = request.param
    return make_cluster(store, nodes, name="my-cluster", expires=datetime(2025, 1, 1, tzinfo=UTC))


def test_each_node_is_a_service_of_the_clusters_project(cluster: Cluster) -> None:
    document = project(cluster)
    assert document["name"] == cluster.project
    assert list(document["services"]) == [n.name for n in cluster.nodes]
    assert all(s["image"] == cluster.image for s in document["services"].values())
    assert all(s["restart"] == "no" for s in document["services"].values())


def test_ports_are_published_on_loopback_alone_as_recorded(cluster: Cluster) -> None:
    services = project(cluster)["services"]
    for node in cluster.nodes:
        expected = [f"127.0.0.1:{node.host_port}:{node.port}"]
        if node.admin_host_port:
            expected.append(f"127.0.0.1:{node.admin_host_port}:8080")
        assert services[node.name]["ports"] == expected


def test_every_service_network_and_volume_carries_the_labels(cluster: Cluster) -> None:
    document = project(cluster)
    for name, service in document["services"].items():
        assert set(service["labels"]) == LABELS | {labels.NODE}
        assert service["labels"][labels.NODE] == name
    for kind in ("networks", "volumes"):
        for part in document[kind].values():
            assert set(part["labels"]) == LABELS
            assert part["labels"][labels.EXPIRES] == "2025-01-01T00:00:00+00:00"
            assert all(isinstance(value, str) for value in part["labels"].values())


def test_each_node_has_its_fixed_address_inside_the_subnet(cluster: Cluster) -> None:
    document = project(cluster)
    subnet = IPv4Network(document["networks"]["ring"]["ipam"]["config"][0]["subnet"])
    found = [s["networks"]["ring"]["ipv4_address"] for s in document["services"].values()]
    assert found == [n.address for n in cluster.nodes]
    assert all(ip_address(a) in subnet for a in found)
    assert len(set(found)) == len(found)


def test_each_node_has_a_volume_of_its_own_that_is_declared(cluster: Cluster) -> None:
    document = project(cluster)
    used = [v.partition(":")[0] for s in document["services"].values() for v in s["volumes"]]
    assert sorted(used) == sorted(document["volumes"]) == sorted(f"{n.name}-data" for n in cluster.nodes)


def test_every_configuration_that_a_service_mounts_is_in_the_file(cluster: Cluster) -> None:
    document = project(cluster)
    mounted = {c["source"] for s in document["services"].values() for c in s["configs"]}
    assert mounted == set(document["configs"])
    assert all(c["content"].strip() for c in document["configs"].values())


def test_no_dollar_is_left_for_compose_to_interpolate(cluster: Cluster) -> None:
    for content in project(cluster)["configs"].values():
        interpolated(content["content"])


def test_the_shell_script_keeps_its_own_dollars() -> None:
    content = project(make_cluster("redis"))["configs"]["start.sh"]["content"]
    assert '"$conf"' in interpolated(content)
    assert content.startswith("#!/bin/sh\n")


def test_nothing_is_mounted_from_the_host(cluster: Cluster) -> None:
    for service in project(cluster)["services"].values():
        assert all(not v.startswith(("/", ".", "~")) for v in service["volumes"])


def test_redis_servers_but_the_first_follow_the_first() -> None:
    cluster = make_cluster("redis", 3)
    configs = project(cluster)["configs"]
    first = cluster.servers[0].address
    assert "replicaof" not in configs["redis-1.conf"]["content"]
    assert f"replicaof {first} 6379" in configs["redis-2.conf"]["content"]
    assert f"sentinel monitor mymaster {first} 6379 2" in configs["sentinel-1.conf"]["content"]


def test_zookeeper_servers_know_each_other() -> None:
    cluster = make_cluster("zookeeper", 5)
    content = project(cluster)["configs"]["zoo.cfg"]["content"]
    for node in cluster.servers:
        assert f"server.{node.index}={node.address}:2888:3888:participant;2181\n" in content + "\n"


def test_a_cassandra_members_own_file_is_yaml_with_its_token_and_address() -> None:
    cluster = make_cluster("cassandra", 3)
    configs = project(cluster)["configs"]
    for node in cluster.servers:
        inner = yaml.safe_load(interpolated(configs[f"{node.name}.yaml"]["content"]))
        assert inner["initial_token"] == node.params["token"]
        assert inner["listen_address"] == node.address
        assert inner["native_transport_port"] == node.host_port
        assert inner["broadcast_rpc_address"] == "127.0.0.1"
        assert inner["cluster_name"] == cluster.name


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize(
    "image",
    [
        'x"y',
        "x'y",
        "x\ny: z",
        "${HOME}",
        "$X",
        "$$X",
        "x # y",
        "{{ 7 * 7 }}",
        "- x",
        "\\",
        "x\ty",
        "{a: b}",
        "é",
    ],
)
def test_a_hostile_image_name_stays_a_mere_name(store: StoreName, image: str) -> None:
    cluster = replace(make_cluster(store), image=image)
    for service in project(cluster)["services"].values():
        assert interpolated(service["image"]) == image


# What cannot stand in an image's name anyway: surrogates and control characters.
printable = st.text(st.characters(min_codepoint=32, max_codepoint=0xFFFD, exclude_categories=("Cs", "Cc")))


@settings(max_examples=15)
@given(image=printable, owner=printable)
def test_any_printable_value_reaches_compose_unchanged(image: str, owner: str) -> None:
    cluster = replace(make_cluster("redis", 1), image=image, owner=owner)
    service = project(cluster)["services"]["redis-1"]
    assert interpolated(service["image"]) == image
    assert interpolated(service["labels"][labels.OWNER]) == owner


def test_the_project_is_written_beside_the_record(tmp_path: Path) -> None:
    cluster = make_cluster()
    context = load(cluster.store).render_context(cluster)
    path = compose.write_project(cluster, context, tmp_path / "clusters" / "redis")
    assert path == tmp_path / "clusters" / "redis" / "compose.yaml"
    assert yaml.safe_load(path.read_text())["name"] == cluster.project

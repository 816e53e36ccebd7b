"""The servers of a Redis cluster: what is asked of them, told to them and waited for."""

from __future__ import annotations

import pytest

from haops.stores.plan import StepFailed
from haops.stores.redis.links import Links
from haops.stores.redis.sentinel import Sentinels
from haops.stores.redis.servers import Servers

from ...fake_redis import FakeSet, serve_set

ONE, TWO, THREE = "redis-1", "redis-2", "redis-3"


@pytest.fixture
def servers(group: FakeSet, links: Links) -> Servers:
    return Servers(group.cluster, links)


def test_a_fence_is_put_up_once(group: FakeSet, servers: Servers) -> None:
    group.servers[ONE].config["min-replicas-to-write"] = "0"
    assert servers.fence(ONE) is False
    assert group.servers[ONE].config["min-replicas-to-write"] == "1"
    assert servers.fence(ONE) is True
    assert len(group.servers[ONE].said("CONFIG SET")) == 1


@pytest.mark.parametrize(("nodes", "fence"), [(1, "0"), (2, "0"), (3, "1"), (5, "1")])
def test_a_set_of_two_or_fewer_is_left_without_a_fence(nodes: int, fence: str) -> None:
    with serve_set(nodes) as group:
        links = Links(group.cluster.nodes, 0.5)
        Servers(group.cluster, links).unfence(ONE)
        links.close()
    assert group.servers[ONE].config["min-replicas-to-write"] == fence


def test_an_offset_is_waited_for_until_the_copy_has_every_byte(group: FakeSet, servers: Servers) -> None:
    source = group.cluster.node(ONE)
    group.servers[TWO].stuck = True
    group.servers[ONE].write(10)
    with pytest.raises(StepFailed, match="10 B behind redis-1") as caught:
        servers.await_offset(source, TWO, 0.05)
    assert caught.value.node == TWO
    group.servers[TWO].offset += 9
    with pytest.raises(StepFailed, match="1 B behind"):
        servers.await_offset(source, TWO, 0.05)
    group.servers[TWO].offset += 1
    assert servers.await_offset(source, TWO, 0.05) == 1010
    group.servers[TWO].link_up = False
    with pytest.raises(StepFailed):
        servers.await_offset(source, TWO, 0.05)


def test_a_link_is_waited_for_until_it_is_to_the_right_upstream(group: FakeSet, servers: Servers) -> None:
    two = group.cluster.node(TWO)
    with pytest.raises(StepFailed, match="not linked to redis-2"):
        servers.await_link(THREE, two, 0.05)
    servers.follow(THREE, two)
    assert servers.await_link(THREE, two, 0.05) == "linked, offset 1,000"


def test_a_stray_is_made_to_follow_and_named(group: FakeSet, servers: Servers) -> None:
    one = group.cluster.node(ONE)
    assert servers.strays(one) == []
    group.servers[TWO].follow(None)
    assert servers.strays(one) == [TWO]
    assert group.servers[TWO].upstream == group.servers[ONE].address
    assert servers.strays(one) == []
    group.servers[THREE].link_up = False
    assert servers.strays(one) == [THREE]
    group.servers[ONE].silent = True
    assert sorted(servers.strays(group.cluster.node(TWO))) == [TWO, THREE]


def test_the_server_that_a_majority_names_is_found(group: FakeSet, servers: Servers, links: Links) -> None:
    sentinels = Sentinels(group.cluster, links)

    def named() -> str | None:
        node = servers.named_by(sentinels.opinions(), 2)
        return node.name if node else None

    first, second, third = group.sentinels.values()
    assert named() == ONE
    first.primary = group.servers[TWO].address
    assert named() == ONE
    second.primary = group.servers[TWO].address
    assert named() == TWO
    third.primary, second.primary = group.servers[THREE].address, ("10.9.9.9", 6379)
    assert named() is None


def test_full_copies_are_counted_by_their_source(group: FakeSet, servers: Servers) -> None:
    one = group.cluster.node(ONE)
    assert servers.full_copies(one) == 0
    group.servers[TWO].history = "e" * 40
    servers.follow(TWO, one)
    assert servers.full_copies(one) == 1

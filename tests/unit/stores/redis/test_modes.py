from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from haops.cluster.spec import Cluster
from haops.errors import BadInput, ClusterUnhealthy
from haops.stores.redis.modes import MODES, STORE_MODES, wanted

from ....fake_redis import RedisState, serve
from ....fakes import make_cluster

FENCED = {"min-replicas-to-write": "1", "min-replicas-max-lag": "3"}


@pytest.fixture
def servers() -> list[RedisState]:
    made = [RedisState(info="role:master\r\nconnected_slaves:2\r\n"), RedisState(), RedisState()]
    for server in made[1:]:
        server.info = "role:slave\r\n"
    for server in made:
        server.config = {"appendonly": "yes", "appendfsync": "everysec", **FENCED}
    return made


@pytest.fixture
def cluster(servers: list[RedisState]) -> Iterator[Cluster]:
    with ExitStack() as stack:
        ports = [stack.enter_context(serve(s)) for s in servers]
        yield make_cluster("redis", 3, ports=[*ports, 1, 2, 3])


def test_the_default_is_what_a_cluster_is_rendered_for(servers: list[RedisState], cluster: Cluster) -> None:
    assert STORE_MODES.offered[0].name == "async"
    assert STORE_MODES.settle(cluster, STORE_MODES.get("async")) == ()
    assert not any(words[:2] == ["CONFIG", "SET"] for s in servers for words in s.calls)


def test_what_differs_is_set_on_every_server_and_written_down_there(
    servers: list[RedisState], cluster: Cluster
) -> None:
    changed = STORE_MODES.settle(cluster, STORE_MODES.get("waitaof"))
    assert changed == tuple(f"redis-{i}: appendfsync always" for i in (1, 2, 3))
    for server in servers:
        assert server.config["appendfsync"] == "always"
        assert ["CONFIG", "REWRITE"] in server.calls


def test_a_mode_holds_if_the_servers_themselves_say_so(servers: list[RedisState], cluster: Cluster) -> None:
    facts = STORE_MODES.ask(cluster, STORE_MODES.get("wait-all"))
    assert all(f.holds for f in facts)
    assert [f.found for f in facts if f.what == "connected replicas"] == ["2"]
    servers[0].info = "role:master\r\nconnected_slaves:1\r\n"
    servers[1].config["min-replicas-to-write"] = "0"
    lacking = [
        (f.node, f.what, f.found)
        for f in STORE_MODES.ask(cluster, STORE_MODES.get("wait-all"))
        if not f.holds
    ]
    assert lacking == [("redis-1", "connected replicas", "1"), ("redis-2", "min-replicas-to-write", "0")]


def test_a_server_that_does_not_answer_is_a_fact_that_does_not_hold_and_fails_a_change(
    cluster: Cluster,
) -> None:
    gone = replace(cluster, nodes=(replace(cluster.nodes[0], host_port=1), *cluster.nodes[1:]))
    assert [f.node for f in STORE_MODES.ask(gone, STORE_MODES.get("async")) if not f.holds] == ["redis-1"]
    with pytest.raises(ClusterUnhealthy, match="redis-1"):
        STORE_MODES.settle(gone, STORE_MODES.get("async"))


@pytest.mark.parametrize(
    ("mode", "nodes", "fits"),
    [("async", 1, True), ("wait-1", 1, False), ("wait-1", 2, True), ("wait-all", 1, False), ("waitaof", 1, False),
     ("async-replica-reads", 1, False), ("async-replica-reads", 2, True)],
)  # fmt: skip
def test_a_mode_that_waits_for_more_replicas_than_there_are_is_refused(
    mode: str, nodes: int, fits: bool
) -> None:
    cluster = make_cluster("redis", nodes)
    if fits:
        assert STORE_MODES.check(cluster, mode).name == mode
    else:
        with pytest.raises(BadInput, match="1 replica must") as caught:
            STORE_MODES.check(cluster, mode)
        assert "--nodes 2" in str(caught.value.hint)


def test_an_unknown_mode_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(BadInput, match="unknown mode 'quorum'") as caught:
        STORE_MODES.get("quorum")
    assert "wait-all" in str(caught.value.hint)


def test_a_pair_is_not_fenced() -> None:
    assert set(wanted(make_cluster("redis", 2), MODES[0])) == {"appendonly", "appendfsync"}

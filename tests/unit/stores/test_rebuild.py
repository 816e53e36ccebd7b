"""Building a node anew: whom a plan allows, what it does, and how it is finished after a crash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from haops.cluster.snapshot import Lag, NodeState, NodeView, Role, Snapshot, Verdict
from haops.cluster.spec import Cluster, StoreName
from haops.runtime.port import ContainerState
from haops.stores import load
from haops.stores.plan import Intent, NotPlannable, Operation, Plan, Tools
from haops.stores.rebuild import FORGET, LAY_OUT, Rebuilder, is_rebuilt, rebuilt, steps
from haops.stores.redis.topology import render_context
from haops.stores.restart import AWAIT

from ...fakes import CREATED, FakeRuntime, make_cluster

GONE = {"role": Role.UNKNOWN, "state": NodeState.MISSING, "lag": None}


def redis(**changed: dict[str, object]) -> tuple[Cluster, Snapshot]:
    return _snapshot(make_cluster("redis"), Role.PRIMARY, Role.REPLICA, changed)


def zookeeper(**changed: dict[str, object]) -> tuple[Cluster, Snapshot]:
    return _snapshot(make_cluster("zookeeper"), Role.LEADER, Role.FOLLOWER, changed)


def _snapshot(
    cluster: Cluster, first: Role, others: Role, changed: dict[str, dict[str, object]]
) -> tuple[Cluster, Snapshot]:
    views = []
    for node in cluster.nodes:
        role = Role.SENTINEL if node in cluster.sentinels else first if node.index == 1 else others
        view = NodeView(node.name, role, NodeState.UP, node.host, node.host_port, lag=Lag(bytes=0, zxid=0))
        views.append(replace(view, **changed.get(node.name.partition("-")[2], {})))
    return cluster, Snapshot(
        cluster.name, cluster.store, cluster.mode, CREATED, Verdict.HEALTHY, (), tuple(views)
    )


def plan(found: tuple[Cluster, Snapshot], node: str) -> Plan:
    cluster, snapshot = found
    return load(cluster.store).control.plan(cluster, snapshot, Intent(Operation.REPLACE, node=node))


@pytest.mark.parametrize("made", [redis, zookeeper])
@pytest.mark.parametrize("state", [{}, {"2": GONE}], ids=["running", "gone"])
def test_a_copy_is_forgotten_laid_out_and_waited_for(
    made: Callable[..., tuple[Cluster, Snapshot]], state: dict[str, dict[str, object]]
) -> None:
    found = made(**state)
    name = found[0].servers[1].name
    assert [(s.verb, s.node) for s in plan(found, name).steps] == [
        (FORGET, name),
        (LAY_OUT, name),
        (AWAIT, name),
    ]


@pytest.mark.parametrize(
    ("found", "node", "words"),
    [
        (redis(), "redis-1", "is the primary"),
        (redis(), "sentinel-1", "has no copy"),
        (redis(**{"1": GONE}), "redis-2", "has no primary"),
        (zookeeper(), "zookeeper-1", "leads"),
        (zookeeper(**{"1": GONE}), "zookeeper-2", "no server of zookeeper leads"),
        (zookeeper(**{"3": GONE}), "zookeeper-2", "only 1 of 3 servers would be left"),
    ],
)
def test_what_nobody_else_has_is_never_forgotten(
    found: tuple[Cluster, Snapshot], node: str, words: str
) -> None:
    with pytest.raises(NotPlannable, match=words) as caught:
        plan(found, node)
    assert caught.value.hint


def cassandra(**changed: dict[str, object]) -> tuple[Cluster, Snapshot]:
    return _snapshot(make_cluster("cassandra"), Role.MEMBER, Role.MEMBER, changed)


@pytest.mark.parametrize("made", [redis, zookeeper, cassandra])
def test_where_no_copy_is_left_it_says_how_to_restore(made: Callable[..., tuple[Cluster, Snapshot]]) -> None:
    cluster, snapshot = made(**dict.fromkeys(("1", "2", "3"), GONE))
    with pytest.raises(NotPlannable, match="no copy is left") as caught:
        plan((cluster, snapshot), cluster.servers[1].name)
    hint = caught.value.hint or ""
    assert hint.startswith(f"haops up {cluster.name}, then")
    assert hint.endswith(f"haops restore BACKUP --to {cluster.name}")


@pytest.mark.parametrize("made", [redis, zookeeper])
def test_a_plan_says_that_a_healthy_nodes_copy_is_thrown_away(
    made: Callable[..., tuple[Cluster, Snapshot]],
) -> None:
    name = made()[0].servers[1].name
    assert plan(made(), name).risk.startswith(
        f"{name} is healthy: its copy, which is whole, is thrown away; "
    )
    assert "healthy" not in plan(made(**{"2": GONE}), name).risk


def tools(runtime: FakeRuntime, laid_out: list[Cluster]) -> Tools:
    return Tools(runtime=runtime, lay_out=laid_out.append, forget_disk=runtime.forget_disk)


def test_the_record_marks_the_node_so_that_it_asks_before_it_serves() -> None:
    cluster, runtime, laid_out = make_cluster("redis"), FakeRuntime(), list[Cluster]()
    runtime.of(cluster).nodes = {n.name: ContainerState.RUNNING for n in cluster.nodes}
    builder = Rebuilder(cluster, tools(runtime, laid_out))
    assert builder.forget("redis-2") == "removed"
    assert "redis-2" not in runtime.of(cluster).nodes
    builder.lay_out("redis-2")
    (made,) = laid_out
    assert [n.name for n in made.nodes if is_rebuilt(n)] == ["redis-2"]
    assert render_context(made)["rebuilt"] == ["redis-2"]
    assert render_context(cluster)["rebuilt"] == []


def test_after_a_crash_what_was_forgotten_is_built_and_nothing_else() -> None:
    cluster, runtime, laid_out = make_cluster("redis"), FakeRuntime(), list[Cluster]()
    builder = Rebuilder(cluster, tools(runtime, laid_out))
    assert not builder.go_on(())
    assert laid_out == []
    assert builder.go_on(steps("redis-3", "wait")[:1])
    assert [n.name for n in laid_out[0].nodes if is_rebuilt(n)] == ["redis-3"]


@pytest.mark.parametrize("store", list(StoreName))
def test_a_mark_changes_nothing_else(store: StoreName) -> None:
    cluster = make_cluster(store)
    marked = rebuilt(cluster, cluster.servers[0].name)
    assert [replace(n, params={}) for n in marked.nodes] == [replace(n, params={}) for n in cluster.nodes]
    assert [n.params for n in marked.nodes[1:]] == [n.params for n in cluster.nodes[1:]]

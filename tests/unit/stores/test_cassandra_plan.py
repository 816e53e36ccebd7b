"""What is planned for a ring, and what is refused: from snapshots alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import fakes
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.snapshot import NodeState, Snapshot
from haops.cluster.spec import Cluster
from haops.runtime.compose import render
from haops.stores import load
from haops.stores.cassandra import plan as plans
from haops.stores.cassandra.topology import holders, render_context, replaced, replication, without
from haops.stores.plan import Intent, NotPlannable, Operation, Plan
from haops.stores.rebuild import FORGET, LAY_OUT
from haops.stores.restart import AWAIT, START, STOP

ON_NODE = (
    Operation.DRAIN,
    Operation.RESUME,
    Operation.REPLACE,
    Operation.REPAIR,
    Operation.DECOMMISSION,
)


def ring(nodes: int = 3) -> Cluster:
    return fakes.make_cluster("cassandra", nodes, name="cash")


def seen(cluster: Cluster, states: Mapping[int, NodeState] | None = None) -> Snapshot:
    """A snapshot with some nodes (by number) in another state than up."""
    states = states or {}
    whole = fakes.snapshot(cluster)
    views = tuple(
        replace(v, state=states.get(i, v.state), why=None) for i, v in enumerate(whole.nodes, start=1)
    )
    return replace(whole, nodes=views)


def planned(
    operation: Operation,
    node: str | None = "cassandra-2",
    nodes: int = 3,
    states: Mapping[int, NodeState] | None = None,
) -> Plan:
    cluster = ring(nodes)
    return load(cluster.store).control.plan(cluster, seen(cluster, states), Intent(operation, node=node))


def verbs(plan: Plan) -> list[str]:
    return [s.verb for s in plan.steps]


OUT = [plans.CLOSE, plans.DRAIN]
AROUND = [STOP, START, AWAIT]


def test_a_rolling_restart_takes_one_node_after_the_other_and_waits_between() -> None:
    plan = planned(Operation.RESTART, None)
    assert verbs(plan) == [*OUT, *AROUND] * 3
    assert [s.node for s in plan.steps[::5]] == ["cassandra-1", "cassandra-2", "cassandra-3"]


def test_one_node_is_restarted_alone() -> None:
    assert {s.node for s in planned(Operation.RESTART).steps} == {"cassandra-2"}


@pytest.mark.parametrize("state", [NodeState.STOPPED, NodeState.UNREACHABLE])
def test_a_node_that_is_down_is_restarted_without_taking_leave(state: NodeState) -> None:
    assert verbs(planned(Operation.RESTART, states={2: state})) == AROUND


def test_steps_of_the_other_operations() -> None:
    down = {2: NodeState.STOPPED}
    assert verbs(planned(Operation.DRAIN)) == OUT
    assert verbs(planned(Operation.RESUME, states=down)) == [plans.OPEN, AWAIT]
    assert verbs(planned(Operation.REPAIR)) == [plans.COMPARE, plans.REPAIR]
    assert verbs(planned(Operation.REPLACE, states=down)) == [
        plans.GIVEN_UP, FORGET, LAY_OUT, plans.JOIN, AWAIT, plans.COMPARE, plans.REPAIR,
    ]  # fmt: skip
    assert verbs(planned(Operation.DECOMMISSION, nodes=4)) == [
        plans.CLOSE, plans.LEAVE, plans.STRIKE, FORGET,
    ]  # fmt: skip


def test_a_replacement_is_followed_by_a_repair_of_that_node() -> None:
    assert planned(Operation.REPLACE, states={2: NodeState.MISSING}).steps[-1].verb == plans.REPAIR


@pytest.mark.parametrize(
    ("operation", "nodes", "states", "words"),
    [
        (Operation.RESTART, 3, {1: NodeState.STOPPED}, "3 of 3 token ranges would have 1 of 3 copies"),
        (Operation.RESTART, 2, {}, "2 of 2 token ranges would have 1 of 2 copies, QUORUM needs 2"),
        (Operation.RESTART, 1, {}, "would have 0 of 1 copies"),
        (Operation.RESTART, 3, {2: NodeState.MISSING}, "has no container to start"),
        (Operation.DRAIN, 3, {3: NodeState.UNREACHABLE}, "QUORUM needs 2"),
        (Operation.DRAIN, 3, {2: NodeState.STOPPED}, "cassandra-2 is stopped"),
        (Operation.RESUME, 3, {}, "is in service"),
        (Operation.RESUME, 3, {2: NodeState.MISSING}, "has no container to start"),
        (Operation.REPLACE, 3, {}, "cassandra-2 is alive (up)"),
        (Operation.REPLACE, 3, {2: NodeState.UNREACHABLE}, "is alive (unreachable)"),
        (Operation.REPLACE, 3, {2: NodeState.STOPPED, 3: NodeState.STOPPED}, "cassandra-3 is stopped"),
        (Operation.REPLACE, 1, {2: NodeState.STOPPED}, "nobody has a copy"),
        (Operation.REPAIR, 3, {1: NodeState.PAUSED}, "cassandra-1 is paused"),
        (Operation.REPAIR, 1, {}, "the only copy"),
        (Operation.DECOMMISSION, 3, {}, "2 nodes would be left for 3 copies"),
        (Operation.DECOMMISSION, 2, {}, "1 nodes would be left for 2 copies"),
        (Operation.DECOMMISSION, 4, {4: NodeState.STOPPED}, "cassandra-4 is stopped"),
    ],
)
def test_what_would_cost_quorum_or_data_is_refused_with_its_numbers(
    operation: Operation, nodes: int, states: dict[int, NodeState], words: str
) -> None:
    node = "cassandra-1" if nodes == 1 else "cassandra-2"
    if nodes == 1 and 2 in states:
        states = {1: states[2]}
    with pytest.raises(NotPlannable, match=words.replace("(", r"\(").replace(")", r"\)")):
        planned(operation, node, nodes, states)


def test_the_refusal_names_who_is_down_and_how_to_bring_it_back() -> None:
    with pytest.raises(NotPlannable) as refused:
        planned(Operation.RESTART, states={3: NodeState.STOPPED})
    assert "cassandra-3" in (refused.value.detail or "")
    assert "haops node resume cash cassandra-3" in (refused.value.hint or "")


def test_a_whole_ring_is_not_restarted_while_a_node_is_down() -> None:
    with pytest.raises(NotPlannable, match="not up: cassandra-1"):
        planned(Operation.RESTART, None, nodes=7, states={1: NodeState.STOPPED})


def test_a_node_that_shares_no_range_with_one_that_is_down_may_be_restarted() -> None:
    assert planned(Operation.RESTART, "cassandra-5", nodes=7, states={1: NodeState.STOPPED})


@pytest.mark.parametrize("operation", [Operation.SWITCHOVER, Operation.FAILOVER])
def test_a_ring_has_no_primary_to_move(operation: Operation) -> None:
    with pytest.raises(NotPlannable) as refused:
        planned(operation)
    assert "haops node drain" in (refused.value.hint or "")


@given(
    nodes=st.integers(1, 9),
    operation=st.sampled_from([Operation.RESTART, *ON_NODE]),
    data=st.data(),
)
def test_no_plan_takes_a_range_below_quorum(nodes: int, operation: Operation, data: st.DataObject) -> None:
    cluster = ring(nodes)
    down = data.draw(st.dictionaries(st.integers(1, nodes), st.sampled_from(list(NodeState)), max_size=3))
    names = [n.name for n in cluster.servers]
    wanted = data.draw(st.sampled_from([*names, None] if operation is Operation.RESTART else names))
    try:
        plan = load(cluster.store).control.plan(cluster, seen(cluster, down), Intent(operation, node=wanted))
    except NotPlannable:
        return
    up = {name for i, name in enumerate(names, start=1) if down.get(i, NodeState.UP) is NodeState.UP}
    quorum = replication(nodes) // 2 + 1
    for step in plan.steps:
        if step.verb in (plans.CLOSE, plans.DRAIN, STOP, FORGET):
            up.discard(step.node or "")
            for keepers in holders(cluster).values():
                if step.node in keepers:
                    assert len(up & set(keepers)) >= quorum, (step, keepers)
        elif step.verb in (AWAIT, plans.STRIKE):
            up.add(step.node or "")  # whoever was struck off has given its ranges away


def test_each_range_is_held_by_as_many_nodes_as_there_are_copies() -> None:
    assert set(map(len, holders(ring(7)).values())) == {3}
    assert set(holders(ring(2)).values()) == {("cassandra-1", "cassandra-2"), ("cassandra-2", "cassandra-1")}


def compose_file(cluster: Cluster) -> str:
    return render(cluster, render_context(cluster))


def part_of(node: str, text: str) -> str:
    """A node's service and its configuration."""
    services, _, configs = text.partition("\nconfigs:")
    service = services.partition(f"\n  {node}:")[2].partition("\n  cassandra-")[0]
    config = (
        configs.partition(f"\n  {node}.yaml:")[2].partition("\n  cassandra-")[0].partition("\nnetworks:")[0]
    )
    return service + config


def test_a_replaced_node_is_rendered_to_take_its_own_place_and_nobody_else_changes() -> None:
    cluster = ring()
    before, after = compose_file(cluster), compose_file(replaced(cluster, "cassandra-2"))
    mine, address = part_of("cassandra-2", after), cluster.node("cassandra-2").address
    assert f"-Dcassandra.replace_address_first_boot={address}" in mine
    assert "auto_bootstrap: true" in mine
    (seeds,) = [line for line in mine.splitlines() if "seeds:" in line]
    assert address not in seeds  # its own seed would not bootstrap
    for other in ("cassandra-1", "cassandra-3"):
        assert part_of(other, after) == part_of(other, before)
        assert "auto_bootstrap: false" in part_of(other, after)


def test_those_who_stay_are_rendered_as_before_when_a_node_leaves() -> None:
    cluster = replaced(ring(5), "cassandra-4")
    before, after = compose_file(cluster), compose_file(without(cluster, "cassandra-1"))
    for other in ("cassandra-2", "cassandra-3", "cassandra-4", "cassandra-5"):
        assert part_of(other, after) == part_of(other, before)
    assert "cassandra-1:" not in after


def test_one_more_replaced_after_another_left_has_seeds_that_are_not_itself() -> None:
    cluster = replaced(without(ring(4), "cassandra-1"), "cassandra-2")
    (seeds,) = [
        line for line in part_of("cassandra-2", compose_file(cluster)).splitlines() if "seeds:" in line
    ]
    assert cluster.node("cassandra-2").address not in seeds
    assert cluster.node("cassandra-3").address in seeds

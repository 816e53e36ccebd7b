from __future__ import annotations

from haops.cluster.snapshot import NodeState, NodeView, Role, Snapshot, Verdict, not_up
from haops.cluster.spec import StoreName

from ...fakes import CREATED


def view(name: str, role: Role, state: NodeState, why: str | None = None) -> NodeView:
    return NodeView(name, role, state, "127.0.0.1", 1, why=why)


def test_a_role_is_held_only_by_nodes_that_answer() -> None:
    nodes = (
        view("a", Role.REPLICA, NodeState.UP),
        view("b", Role.REPLICA, NodeState.SYNCING),
        view("c", Role.REPLICA, NodeState.UNREACHABLE),
        view("d", Role.REPLICA, NodeState.PAUSED),
        view("e", Role.PRIMARY, NodeState.UP),
    )
    seen = Snapshot("x", StoreName.REDIS, "async", CREATED, Verdict.DEGRADED, (), nodes)
    assert [n.name for n in seen.with_role(Role.REPLICA)] == ["a", "b"]
    assert [n.name for n in seen.with_role(Role.REPLICA, Role.PRIMARY)] == ["a", "b", "e"]
    assert seen.with_role(Role.LEADER) == ()


def test_each_node_that_is_not_up_gives_a_reason_with_its_cause() -> None:
    findings = not_up(
        [
            view("a", Role.REPLICA, NodeState.UP),
            view("b", Role.REPLICA, NodeState.STOPPED, "Exited (137)"),
            view("c", Role.REPLICA, NodeState.MISSING),
        ]
    )
    assert tuple(f.text for f in findings) == ("b is stopped: Exited (137)", "c is missing")

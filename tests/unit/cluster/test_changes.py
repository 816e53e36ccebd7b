from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from fakes import CREATED, make_cluster, snapshot
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.changes import ChangeKind, changes
from haops.cluster.snapshot import Finding, FindingKind, NodeState, Role, Snapshot, Verdict

CLUSTER = make_cluster("redis")
WHOLE = snapshot(CLUSTER)


def with_node(seen: Snapshot, name: str, **fields: object) -> Snapshot:
    nodes = tuple(replace(n, **fields) if n.name == name else n for n in seen.nodes)  # type: ignore[arg-type]
    return replace(seen, nodes=nodes, taken=CREATED + timedelta(seconds=1))


def test_nothing_changes_between_a_snapshot_and_itself() -> None:
    assert changes(WHOLE, WHOLE) == ()


def test_a_moved_role_is_told_for_both_nodes() -> None:
    moved = with_node(with_node(WHOLE, "redis-1", role=Role.REPLICA), "redis-2", role=Role.PRIMARY)
    told = {(c.node, c.what, c.text) for c in changes(WHOLE, moved)}
    assert told == {
        ("redis-1", "replica", "primary → replica"),
        ("redis-2", "primary", "replica → primary"),
    }


def test_a_node_that_stops_is_told_with_why() -> None:
    (change,) = changes(WHOLE, with_node(WHOLE, "redis-2", state=NodeState.STOPPED, why="Exited (137)"))
    assert (change.kind, change.node, change.text) == (
        ChangeKind.STATE,
        "redis-2",
        "up → stopped: Exited (137)",
    )


def test_a_finding_begins_once_and_ends_once_whatever_its_figures() -> None:
    lag = [
        replace(WHOLE, findings=(Finding(FindingKind.LAG, f"redis-2 is {n} B behind", "redis-2"),))
        for n in (1, 2)
    ]
    assert [c.kind for c in changes(WHOLE, lag[0])] == [ChangeKind.BEGINS]
    assert changes(lag[0], lag[1]) == ()
    assert [c.kind for c in changes(lag[1], WHOLE)] == [ChangeKind.ENDS]


def test_the_verdict_comes_last() -> None:
    down = replace(WHOLE, verdict=Verdict.DOWN, findings=(Finding(FindingKind.NO_PRIMARY, "nobody leads"),))
    assert [c.kind for c in changes(WHOLE, down)] == [ChangeKind.BEGINS, ChangeKind.VERDICT]


kinds = st.sets(st.sampled_from(list(FindingKind)))


@given(kinds, kinds)
def test_what_begins_one_way_ends_the_other_way(before: set[FindingKind], after: set[FindingKind]) -> None:
    old, new = (replace(WHOLE, findings=tuple(Finding(k, k.value) for k in each)) for each in (before, after))
    there = {c.what for c in changes(old, new) if c.kind is ChangeKind.BEGINS}
    back = {c.what for c in changes(new, old) if c.kind is ChangeKind.ENDS}
    assert there == back == {str(k) for k in after - before}

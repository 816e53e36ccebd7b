from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.changes import ChangeKind, Severity, changes, standing
from haops.cluster.snapshot import Finding, FindingKind, NodeState, Role, Snapshot, Verdict, not_up

from ...fakes import CREATED, make_cluster, snapshot

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


def test_a_state_is_told_once_and_not_as_a_finding_too() -> None:
    paused = with_node(WHOLE, "redis-2", state=NodeState.PAUSED, why="frozen")
    paused = replace(paused, findings=not_up(paused.nodes), verdict=Verdict.DEGRADED)
    assert [c.kind for c in changes(WHOLE, paused)] == [ChangeKind.STATE, ChangeKind.VERDICT]
    assert [c.kind for c in changes(paused, WHOLE)] == [ChangeKind.STATE, ChangeKind.VERDICT]
    assert [(c.kind, c.node) for c in standing(paused)] == [
        (ChangeKind.BEGINS, "redis-2"),
        (ChangeKind.VERDICT, None),
    ]


def test_two_findings_of_one_kind_are_told_apart_by_what_they_are_about() -> None:
    quorum = Finding(FindingKind.CONFIGURATION, "q", about="quorum")
    after = Finding(FindingKind.CONFIGURATION, "d", about="down-after")
    one, two = replace(WHOLE, findings=(quorum,)), replace(WHOLE, findings=(quorum, after))
    assert [(c.kind, c.text) for c in changes(one, two)] == [(ChangeKind.BEGINS, "d")]
    assert [(c.kind, c.text) for c in changes(two, one)] == [(ChangeKind.ENDS, "over: d")]


def test_what_ends_is_told_without_its_details() -> None:
    split = replace(WHOLE, findings=(Finding(FindingKind.SPLIT_BRAIN, "split brain: a and b; a: 1; b: 2"),))
    (change,) = changes(split, WHOLE)
    assert change.text == "over: split brain: a and b"


def test_nodes_that_join_and_leave_are_told() -> None:
    fewer = replace(WHOLE, nodes=WHOLE.nodes[:-1])
    name = WHOLE.nodes[-1].name
    assert [(c.kind, c.node) for c in changes(fewer, WHOLE)] == [(ChangeKind.JOINS, name)]
    assert [(c.kind, c.node) for c in changes(WHOLE, fewer)] == [(ChangeKind.LEAVES, name)]


def test_a_replica_that_follows_another_is_told() -> None:
    one, two = (with_node(WHOLE, "redis-2", follows=name) for name in ("redis-1", "redis-3"))
    assert [(c.kind, c.text) for c in changes(one, two)] == [(ChangeKind.FOLLOWS, "redis-1 → redis-3")]
    assert changes(one, WHOLE) == ()  # a node that follows nobody has another role or state


@pytest.mark.parametrize(
    ("kind", "severity"),
    [
        (FindingKind.SPLIT_BRAIN, Severity.CRITICAL),
        (FindingKind.NO_WRITES, Severity.CRITICAL),
        (FindingKind.LAG, Severity.WARNING),
    ],
)
def test_what_costs_writes_is_critical_and_what_ends_is_good(kind: FindingKind, severity: Severity) -> None:
    with_it = replace(WHOLE, findings=(Finding(kind, "x"),))
    assert [c.severity for c in changes(WHOLE, with_it)] == [severity]
    assert [c.severity for c in changes(with_it, WHOLE)] == [Severity.GOOD]


pictures = st.builds(
    lambda states, roles, verdict: replace(
        WHOLE,
        verdict=verdict,
        nodes=tuple(replace(n, state=s, role=r) for n, s, r in zip(WHOLE.nodes, states, roles, strict=True)),
    ),
    st.lists(st.sampled_from(NodeState), min_size=len(WHOLE.nodes), max_size=len(WHOLE.nodes)),
    st.lists(st.sampled_from(Role), min_size=len(WHOLE.nodes), max_size=len(WHOLE.nodes)),
    st.sampled_from(Verdict),
)


@given(pictures, pictures)
def test_the_way_back_is_told_by_the_same_changes_turned_round(a: Snapshot, b: Snapshot) -> None:
    def moves(old: Snapshot, new: Snapshot) -> list[tuple[str | None, str, set[str]]]:
        plain = [(c, c.text.partition(":")[0]) for c in changes(old, new)]
        return [(c.node, c.kind, set(text.split(" → "))) for c, text in plain]

    assert moves(a, b) == moves(b, a)
    assert changes(a, a) == ()


@given(pictures, pictures)
def test_the_changes_make_the_later_picture_of_the_earlier_one(a: Snapshot, b: Snapshot) -> None:
    told = {(c.node, c.kind): c.what for c in changes(a, b)}
    for old, new in zip(a.nodes, b.nodes, strict=True):
        assert told.get((new.name, ChangeKind.ROLE), str(old.role)) == str(new.role)
        assert told.get((new.name, ChangeKind.STATE), str(old.state)) == str(new.state)
    assert told.get((None, ChangeKind.VERDICT), str(a.verdict)) == str(b.verdict)

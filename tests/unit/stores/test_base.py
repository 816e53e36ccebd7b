from __future__ import annotations

from haops.cluster.snapshot import NodeState, Role
from haops.runtime.port import LogLine
from haops.stores.base import EventKind, first_line, match_events, only

from ...fakes import make_cluster, snapshot


def test_an_error_is_told_by_its_first_line_or_else_its_class() -> None:
    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert first_line(TimeoutError()) == "TimeoutError"


def test_the_first_pattern_that_fits_decides_and_one_line_is_one_event() -> None:
    patterns = ((EventKind.DETECTED, "gone"), (EventKind.PROMOTED, "promoted"))
    lines = [LogLine("b", 20, "10:00 promoted since a is gone"), LogLine("a", 10, "10:00 promoted ")]
    found = match_events(lines, patterns)
    assert [(e.at_ns, e.kind, e.text) for e in found] == [
        (10, EventKind.PROMOTED, "promoted"),
        (20, EventKind.DETECTED, "gone"),
    ]


def test_lines_of_one_moment_stay_in_their_order() -> None:
    lines = [LogLine(name, 5, "gone") for name in "cab"]
    assert [e.node for e in match_events(lines, [(EventKind.DETECTED, "gone")])] == ["c", "a", "b"]


def test_only_takes_the_first_node_with_the_role() -> None:
    seen = snapshot(make_cluster("redis", 3))
    assert only(seen, Role.REPLICA) == "redis-2"
    assert {n.state for n in seen.nodes} == {NodeState.UP}

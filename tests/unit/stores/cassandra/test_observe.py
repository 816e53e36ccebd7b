from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from cassandra import ConsistencyLevel, OperationTimedOut, Unavailable
from cassandra.cluster import NoHostAvailable
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.snapshot import FindingKind, Lag, NodeState, Role, Snapshot, Verdict
from haops.cluster.spec import Cluster
from haops.stores.base import Unanswered
from haops.stores.cassandra.connect import answers_options
from haops.stores.cassandra.observe import Heartbeat, MemberReport, judge, ownership
from haops.stores.cassandra.topology import replication, tokens

from ....fakes import all_running, make_cluster

# The package exports the function `observe`, which hides the module of that name.
observe = sys.modules["haops.stores.cassandra.observe"]

GONE = Unanswered(NodeState.STOPPED, "Exited (137)")
RING = 2**64


@pytest.fixture
def cluster() -> Cluster:
    return make_cluster("cassandra", 3)


def reports(cluster: Cluster, **changed: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        n.name: MemberReport("5.0.6", (int(n.params["token"]),), "a", len(cluster.servers) - 1, {})
        for n in cluster.servers
    }
    return found | {name.replace("_", "-"): report for name, report in changed.items()}


def view(seen: Snapshot, name: str) -> Any:
    return next(n for n in seen.nodes if n.name == name)


# ---- tokens and ownership


@pytest.mark.parametrize("nodes", range(1, 10))
def test_tokens_divide_murmur3s_ring_into_equal_parts(nodes: int) -> None:
    found = tokens(nodes)
    assert found[0] == -(2**63)
    assert all(-(2**63) <= t < 2**63 for t in found)
    spans = [(b - a) % RING or RING for a, b in zip(found, (*found[1:], found[0]), strict=True)]
    assert sum(spans) == RING
    assert max(spans) - min(spans) <= 1


@pytest.mark.parametrize("nodes", range(1, 10))
def test_ownership_sums_to_the_replication_factor(nodes: int) -> None:
    owned = ownership(make_cluster("cassandra", nodes))
    assert sum(owned.values()) == pytest.approx(replication(nodes))
    assert all(share == pytest.approx(replication(nodes) / nodes) for share in owned.values())
    assert all(0 < share <= 1 for share in owned.values())


@pytest.mark.parametrize(("nodes", "factor"), [(1, 1), (2, 2), (3, 3), (9, 3)])
def test_the_replication_factor_is_three_or_the_number_of_nodes(nodes: int, factor: int) -> None:
    assert replication(nodes) == factor


# ---- verdicts


@given(st.integers(1, 9), st.data())
def test_a_ring_is_down_exactly_where_some_range_has_lost_its_quorum(nodes: int, data: st.DataObject) -> None:
    cluster = make_cluster("cassandra", nodes)
    dead = data.draw(st.sets(st.integers(0, nodes - 1)))
    factor = min(3, nodes)
    alive = [
        sum((i + step) % nodes not in dead for step in range(factor)) for i in range(nodes)
    ]  # nodes are numbered along the ring
    seen = judge(cluster, reports(cluster, **{f"cassandra_{i + 1}": GONE for i in dead}))
    assert (seen.verdict is Verdict.DOWN) == (min(alive) < factor // 2 + 1)
    assert (seen.verdict is Verdict.HEALTHY) == (not dead)


def test_ranges_without_a_quorum_are_counted() -> None:
    cluster = make_cluster("cassandra", 5)
    seen = judge(cluster, reports(cluster, cassandra_1=GONE, cassandra_2=GONE))
    assert seen.reasons[0] == "2 of 5 token ranges have fewer than 2 of 3 copies: QUORUM fails there"


def test_two_of_six_members_apart_from_each_other_cost_no_quorum() -> None:
    cluster = make_cluster("cassandra", 6)
    seen = judge(cluster, reports(cluster, cassandra_1=GONE, cassandra_4=GONE))
    assert seen.verdict is Verdict.DEGRADED


def test_a_disagreement_about_the_schema_is_told(cluster: Cluster) -> None:
    odd = MemberReport("5.0.6", (1,), "b", 2, {})
    seen = judge(cluster, reports(cluster, cassandra_2=odd))
    assert seen.verdict is Verdict.DEGRADED
    (reason,) = seen.reasons
    assert reason == "2 schema versions among 3 members: cassandra-1, cassandra-3 a; cassandra-2 b"


def test_a_replication_factor_that_is_not_met_is_told_once(cluster: Cluster) -> None:
    low = MemberReport("5.0.6", (1,), "a", 2, {}, copies=1)
    seen = judge(cluster, reports(cluster, cassandra_1=low, cassandra_2=low))
    assert seen.verdict is Verdict.DEGRADED
    assert seen.reasons == ("the keyspace haops has a replication factor of 1, not 3",)


def test_a_member_that_does_not_know_all_others_is_told(cluster: Cluster) -> None:
    lonely = MemberReport("5.0.6", (1,), "a", 0, {})
    seen = judge(cluster, reports(cluster, cassandra_3=lonely))
    assert seen.reasons == ("cassandra-3 knows 0 of 2 other members",)


def test_hints_of_all_members_are_summed_for_the_one_they_wait_for(cluster: Cluster) -> None:
    address = cluster.node("cassandra-3").address
    keeper = MemberReport("5.0.6", (1,), "a", 2, {address: 2, "192.0.2.1": 9})
    seen = judge(cluster, reports(cluster, cassandra_1=keeper, cassandra_2=keeper))
    assert view(seen, "cassandra-3").lag == Lag(hints=4)
    assert view(seen, "cassandra-1").lag == Lag(hints=0)
    assert seen.reasons == ("hints wait for cassandra-3: 4 files",)


def test_a_dead_member_still_owns_its_part_and_its_hints(cluster: Cluster) -> None:
    address = cluster.node("cassandra-3").address
    keeper = MemberReport("5.0.6", (1,), "a", 2, {address: 1})
    seen = judge(cluster, reports(cluster, cassandra_1=keeper, cassandra_3=GONE))
    dead = view(seen, "cassandra-3")
    assert (dead.role, dead.state, dead.lag) == (Role.MEMBER, NodeState.STOPPED, Lag(hints=1))
    assert dead.ownership == pytest.approx(1.0)


# ---- the cheapest request


@pytest.fixture
def answering() -> Iterator[Any]:
    """Serves one connection with given bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        heard: list[bytes] = []
        threads: list[threading.Thread] = []

        def answer(words: bytes) -> tuple[Cluster, list[bytes]]:
            def run() -> None:
                link, _ = server.accept()
                with link:
                    heard.append(link.recv(64))
                    link.sendall(words)

            threads.append(threading.Thread(target=run, daemon=True))
            threads[-1].start()
            return make_cluster("cassandra", 1, ports=[server.getsockname()[1]]), heard

        yield answer
        for thread in threads:
            thread.join(5)


def test_a_member_that_answers_options_is_there(answering: Any) -> None:
    cluster, heard = answering(b"\x85\x00\x00\x00\x06\x00\x00\x00\x02\x00\x00")
    assert answers_options(cluster.nodes[0], 1.0)
    assert heard == [b"\x05\x00\x00\x00\x05\x00\x00\x00\x00"]


@pytest.mark.parametrize(
    "words", [b"", b"\x85\x00", b"\x85\x00\x00\x00\x00\x00\x00\x00\x00", b"HTTP/1.1 400 Bad"]
)
def test_what_does_not_answer_like_a_member_is_none(answering: Any, words: bytes) -> None:
    cluster, _ = answering(words)
    assert not answers_options(cluster.nodes[0], 1.0)


# ---- what members think of each other

SILENT = Unanswered(NodeState.UNREACHABLE, "timed out", silent=True)


def member(cluster: Cluster, name: str, **fields: Any) -> MemberReport:
    found: MemberReport = reports(cluster)[name]
    return replace(found, **fields)


def test_a_lost_member_that_a_sister_read_with_is_partitioned_and_its_copies_count(cluster: Cluster) -> None:
    reader = member(cluster, "cassandra-1", reaches=("cassandra-2", "cassandra-3"))
    seen = judge(cluster, reports(cluster, cassandra_1=reader, cassandra_2=SILENT, cassandra_3=SILENT))
    assert seen.verdict is Verdict.DEGRADED
    assert [n.state for n in seen.nodes] == [NodeState.UP, NodeState.PARTITIONED, NodeState.PARTITIONED]
    words = "lost from here (timed out), but a read through cassandra-1 reached it"
    assert f"cassandra-2 is partitioned: {words}" in seen.reasons
    nobody = judge(cluster, reports(cluster, cassandra_2=SILENT, cassandra_3=SILENT))
    assert nobody.verdict is Verdict.DOWN


@pytest.mark.parametrize(
    ("generation", "count", "told"),
    [(7, 100, False), (7, 88, False), (7, 87, True), (6, 900, True), (8, 1, False)],
)
def test_a_member_of_which_a_sister_has_long_heard_nothing_is_told(
    cluster: Cluster, generation: int, count: int, told: bool
) -> None:
    address = cluster.node("cassandra-3").address
    own = member(cluster, "cassandra-3", heard={address: Heartbeat(7, 100)})
    sister = member(cluster, "cassandra-1", heard={address: Heartbeat(generation, count)})
    seen = judge(cluster, reports(cluster, cassandra_1=sister, cassandra_3=own))
    assert [(f.kind, f.node) for f in seen.findings] == [(FindingKind.PARTITION, "cassandra-3")] * told
    if told:
        assert "answers from here, but cassandra-1 had no sign of life from it" in seen.reasons[0]


def test_a_member_that_just_started_again_is_not_lost(cluster: Cluster) -> None:
    address = cluster.node("cassandra-3").address
    own = member(cluster, "cassandra-3", heard={address: Heartbeat(8, 5)})
    sister = member(cluster, "cassandra-1", heard={address: Heartbeat(7, 900)})
    assert judge(cluster, reports(cluster, cassandra_1=sister, cassandra_3=own)).findings == ()


def test_the_members_that_one_does_not_know_are_named(cluster: Cluster) -> None:
    knows = frozenset({cluster.node("cassandra-1").address})
    lonely = member(cluster, "cassandra-3", peers=1, known=knows)
    seen = judge(cluster, reports(cluster, cassandra_3=lonely))
    assert seen.reasons == ("cassandra-3 knows 1 of 2 other members: not cassandra-2",)


def test_more_copies_than_members_are_told(cluster: Cluster) -> None:
    full = member(cluster, "cassandra-1", copies=3)
    seen = judge(cluster, reports(cluster, cassandra_1=full, cassandra_3=GONE))
    assert "3 copies are kept of each row, but 2 members are there: ALL fails" in seen.reasons
    assert judge(cluster, reports(cluster, cassandra_1=full)).verdict is Verdict.HEALTHY


def test_who_reaches_nobody_and_is_refused_by_nobody_cannot_tell(cluster: Cluster) -> None:
    everybody = {n.name: SILENT for n in cluster.nodes}
    assert judge(cluster, everybody).verdict is Verdict.UNKNOWN
    assert judge(cluster, everybody | {"cassandra-1": GONE}).verdict is Verdict.DOWN


# ---- asking


class AskedSession:
    """Takes down what it is asked, and raises if told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked: list[Any] = []

    def execute(self, statement: Any, host: object, timeout: float) -> list[Any]:
        self.asked.append(statement)
        if self.error:
            raise self.error
        return []


@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        ("cassandra-1", f"token(name) > {tokens(3)[2]} LIMIT"),
        ("cassandra-2", f"token(name) > {tokens(3)[0]} AND token(name) <= {tokens(3)[1]} LIMIT"),
    ],
)
def test_a_lost_members_own_range_is_read_with_all_copies(cluster: Cluster, name: str, bounds: str) -> None:
    session = AskedSession()
    assert observe._reads_with(cluster, session, object(), cluster.node(name))
    (statement,) = session.asked
    assert bounds in statement.query_string
    assert statement.consistency_level == ConsistencyLevel.ALL


@pytest.mark.parametrize("error", [OperationTimedOut(), Unavailable("two of three", required_replicas=3)])
def test_a_read_that_fails_reaches_nobody(cluster: Cluster, error: Exception) -> None:
    assert not observe._reads_with(cluster, AskedSession(error), object(), cluster.node("cassandra-2"))


def test_a_contact_that_freezes_while_it_is_used_is_not_the_rings_death(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    contacts: list[str] = []

    def asked(_: Cluster, contact: Any, nodes: Any) -> dict[str, Any]:
        contacts.append(contact.name)
        if len(contacts) == 1:
            return {n.name: observe._lost(OperationTimedOut()) for n in nodes}
        return reports(cluster, **{contacts[0].replace("-", "_"): SILENT})

    monkeypatch.setattr(observe, "_knock", lambda node: None)
    monkeypatch.setattr(observe, "_ask_running", asked)
    seen = observe.observe(cluster, all_running(cluster))
    assert len(set(contacts)) == 2
    assert seen.verdict is Verdict.DEGRADED
    assert [n.name for n in seen.nodes if n.state is not NodeState.UP] == contacts[:1]


def test_what_a_closed_port_said_is_told_and_not_the_drivers_words(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = Unanswered(NodeState.UNREACHABLE, "Connection refused")
    monkeypatch.setattr(observe, "_knock", lambda node: refused if node.index == 2 else None)
    marked = Unanswered(NodeState.UNREACHABLE, "Host has been marked down or removed")
    monkeypatch.setattr(observe, "_ask_running", lambda *_: reports(cluster, cassandra_2=marked))
    assert view(observe.observe(cluster, all_running(cluster)), "cassandra-2").why == "Connection refused"


def test_a_time_out_of_the_driver_is_silence_and_a_refusal_is_not() -> None:
    timed_out = NoHostAvailable("nobody", {"a": OperationTimedOut()})
    refused = NoHostAvailable("nobody", {"a": ConnectionRefusedError(111, "Connection refused")})
    assert observe._lost(timed_out).silent
    assert not observe._lost(refused).silent
    assert "Connection refused" in observe._lost(refused).why

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from cassandra import ConsistencyLevel, OperationTimedOut
from cassandra.cluster import NoHostAvailable

from haops.cluster.snapshot import NodeState
from haops.cluster.spec import Cluster, Node
from haops.errors import BadInput
from haops.stores.base import Unanswered
from haops.stores.cassandra.judge import MemberReport
from haops.stores.cassandra.modes import STORE_MODES, way
from haops.stores.mode import Fact, Replication

from ....fakes import make_cluster

modes = sys.modules["haops.stores.cassandra.modes"]

LEVELS = {
    "quorum": (ConsistencyLevel.QUORUM, ConsistencyLevel.QUORUM, False),
    "all": (ConsistencyLevel.ALL, ConsistencyLevel.ONE, False),
    "one": (ConsistencyLevel.ONE, ConsistencyLevel.ONE, False),
    "each-quorum": (ConsistencyLevel.EACH_QUORUM, ConsistencyLevel.LOCAL_QUORUM, False),
    "lwt": (ConsistencyLevel.QUORUM, ConsistencyLevel.SERIAL, True),
}


def test_each_mode_has_its_levels() -> None:
    found = {m.name: way(m.name) for m in STORE_MODES.offered}
    assert {name: (w.write, w.read, w.serial) for name, w in found.items()} == LEVELS


def test_the_first_mode_is_what_clusters_of_an_older_haops_have_recorded() -> None:
    assert STORE_MODES.offered[0].name == "quorum"


def test_only_a_write_of_one_copy_is_acknowledged_before_others_have_it() -> None:
    early = [m.name for m in STORE_MODES.offered if m.replication is Replication.ASYNCHRONOUS]
    assert early == ["one"]
    assert "3 h" in STORE_MODES.get("one").promise
    assert "later time stamp" in STORE_MODES.get("quorum").limits


def test_an_unknown_mode_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match="unknown mode 'two'") as caught:
        STORE_MODES.get("two")
    assert caught.value.hint == "allowed: quorum, all, one, each-quorum, lwt"
    assert STORE_MODES.get("serial").name == "lwt"


def test_a_quorum_in_each_data_centre_wants_two_of_them() -> None:
    with pytest.raises(BadInput, match="it has only one data centre") as caught:
        STORE_MODES.check(make_cluster("cassandra", 6), "each-quorum")
    assert "haops up cassandra --dcs 2 --nodes 6" in (caught.value.hint or "")
    for dcs in (1, 2):
        for mode in STORE_MODES.offered:
            if dcs == 2 or mode.name != "each-quorum":
                assert STORE_MODES.check(make_cluster("cassandra", 4, dcs=dcs), mode.name) is mode


def test_there_is_nothing_to_set_on_the_servers() -> None:
    assert STORE_MODES.settle(make_cluster("cassandra"), STORE_MODES.offered[0]) == ()


# ---- what the servers say


@dataclass
class Ring:
    """Members' answers; by name where one is of its own."""

    cluster: Cluster
    replication: Mapping[str, str]
    handoff: Mapping[str, str] = field(default_factory=dict)
    mute: frozenset[str] = frozenset()
    reports: dict[str, Any] = field(default_factory=dict)

    def gather(self, cluster: Cluster, nodes: Any) -> dict[str, Any]:
        whole = {
            n.name: MemberReport("5.0.8", (int(n.params["token"]),), "a", len(cluster.servers) - 1, {})
            for n in nodes
        }
        return whole | self.reports

    @contextmanager
    def connect(self, nodes: Any, **_: Any) -> Iterator[Any]:
        self.contacts = [n.name for n in nodes]
        if set(self.contacts) <= self.mute:
            raise NoHostAvailable("nobody answers", {})
        hosts = [
            SimpleNamespace(name=n.name, endpoint=SimpleNamespace(address=n.host, port=n.host_port))
            for n in self.cluster.servers
        ]
        metadata = SimpleNamespace(all_hosts=lambda: hosts)
        yield SimpleNamespace(cluster=SimpleNamespace(metadata=metadata), execute=self.execute)

    def execute(self, query: str, host: Any, timeout: float) -> list[Any]:
        if host.name in self.mute:
            raise OperationTimedOut
        if "system_schema" in query:
            return [SimpleNamespace(replication={"class": "NetworkTopologyStrategy", **self.replication})]
        return [SimpleNamespace(value=self.handoff.get(host.name, "true"))]


def asked(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> list[Fact]:
    monkeypatch.setattr(modes, "gather_from", ring.gather)
    monkeypatch.setattr(modes, "connect", ring.connect)
    return list(STORE_MODES.ask(ring.cluster, STORE_MODES.offered[0]))


def wrong(facts: list[Fact]) -> list[tuple[str, str, str]]:
    return [(f.node, f.what, f.found) for f in facts if not f.holds]


def test_a_whole_ring_is_confirmed_by_each_of_its_members(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = asked(Ring(make_cluster("cassandra"), {"dc1": "3"}), monkeypatch)
    assert [(f.node, f.what, f.found) for f in facts[:3]] == [
        ("cassandra-1", "member", "up"),
        ("cassandra-1", "replication", "dc1: 3"),
        ("cassandra-1", "hinted_handoff_enabled", "true"),
    ]
    assert len(facts) == 9
    assert wrong(facts) == []


def test_copies_are_wanted_in_each_data_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = make_cluster("cassandra", 4, dcs=2)
    assert wrong(asked(Ring(cluster, {"dc1": "2", "dc2": "2"}), monkeypatch)) == []
    facts = asked(Ring(cluster, {"dc1": "4"}), monkeypatch)
    assert wrong(facts) == [(n.name, "replication", "dc1: 4") for n in cluster.servers]
    assert facts[1].wanted == "dc1: 2, dc2: 2"


def test_a_member_that_keeps_no_hints_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = asked(Ring(make_cluster("cassandra"), {"dc1": "3"}, {"cassandra-2": "false"}), monkeypatch)
    assert wrong(facts) == [("cassandra-2", "hinted_handoff_enabled", "false")]


def test_a_member_that_is_down_is_told_and_is_no_contact(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Unanswered(NodeState.UNREACHABLE, "Connection refused")
    ring = Ring(make_cluster("cassandra"), {"dc1": "3"}, reports={"cassandra-3": gone})
    facts = asked(ring, monkeypatch)
    assert wrong(facts) == [("cassandra-3", "member", "cassandra-3 is unreachable: Connection refused")]
    assert ring.contacts == ["cassandra-1", "cassandra-2"]


def test_members_that_stop_answering_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = make_cluster("cassandra")
    one = asked(Ring(cluster, {"dc1": "3"}, mute=frozenset({"cassandra-1"})), monkeypatch)
    assert [(node, what) for node, what, _ in wrong(one)] == [("cassandra-1", "answer")]
    everybody = frozenset(n.name for n in cluster.servers)
    facts = asked(Ring(cluster, {"dc1": "3"}, mute=everybody), monkeypatch)
    assert [(node, what) for node, what, _ in wrong(facts)] == [(n, "answer") for n in sorted(everybody)]


def test_a_member_that_the_others_do_not_know_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = make_cluster("cassandra")
    stranger = Node("cassandra-9", cluster.nodes[0].kind, 9, "10.231.0.99", 1, 1)
    monkeypatch.setattr(modes, "connect", Ring(cluster, {"dc1": "3"}).connect)
    (fact,) = modes._settings(cluster, [stranger])["cassandra-9"]
    assert (fact.found, fact.holds) == ("the other members do not know it", False)

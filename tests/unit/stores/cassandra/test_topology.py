"""Data centres: who stands where, who keeps which copies, and what members are told about it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.snapshot import NodeState, Verdict
from haops.cluster.spec import Cluster, ClusterSpec, StoreName
from haops.runtime.compose import render
from haops.stores import load
from haops.stores.base import Unanswered
from haops.stores.cassandra.judge import MemberReport, judge, ownership
from haops.stores.cassandra.plan import spare_trouble
from haops.stores.cassandra.topology import (
    copies_by_dc,
    datacenter,
    holders,
    layout,
    quorum,
    render_context,
    replication_options,
    without,
)
from haops.stores.plan import Intent, NotPlannable, Operation

from ....fakes import make_cluster, snapshot

RING = 2**64
EVEN = [2, 4, 6, 8]
GONE = Unanswered(NodeState.STOPPED, "Exited (137)")


def two(nodes: int) -> Cluster:
    return make_cluster("cassandra", nodes, dcs=2)


def ring_tokens(cluster: Cluster, dc: str) -> list[int]:
    return sorted(int(n.params["token"]) for n in cluster.servers if datacenter(n) == dc)


def test_nodes_of_a_single_data_centre_are_laid_out_as_ever() -> None:
    plans = layout(ClusterSpec("cash", StoreName.CASSANDRA, nodes=3))
    assert all(set(p.params) == {"token"} for p in plans)
    assert copies_by_dc(make_cluster("cassandra")) == {"dc1": 3}


@pytest.mark.parametrize("nodes", EVEN)
def test_data_centres_take_turns_and_each_divides_the_whole_ring_equally(nodes: int) -> None:
    cluster = two(nodes)
    assert [datacenter(n) for n in cluster.servers] == ["dc1", "dc2"] * (nodes // 2)
    for dc in ("dc1", "dc2"):
        found = ring_tokens(cluster, dc)
        spans = [(b - a) % RING or RING for a, b in zip(found, (*found[1:], found[0]), strict=True)]
        assert sum(spans) == RING
        assert max(spans) - min(spans) <= 1
    tokens = [n.params["token"] for n in cluster.servers]
    assert len(set(tokens)) == nodes


@pytest.mark.parametrize(("nodes", "each"), [(2, 1), (4, 2), (6, 3), (8, 3)])
def test_each_data_centre_has_its_own_copies_of_every_range(nodes: int, each: int) -> None:
    cluster = two(nodes)
    assert copies_by_dc(cluster) == {"dc1": each, "dc2": each}
    assert replication_options(cluster) == {"dc1": str(each), "dc2": str(each)}
    assert quorum(cluster) == each + 1
    for names in holders(cluster).values():
        assert len(set(names)) == len(names)
        assert Counter(datacenter(cluster.node(n)) for n in names) == {"dc1": each, "dc2": each}


@pytest.mark.parametrize("nodes", EVEN)
def test_all_nodes_of_two_data_centres_own_equal_shares(nodes: int) -> None:
    owned = ownership(two(nodes))
    assert sum(owned.values()) == pytest.approx(2 * min(3, nodes // 2))
    assert max(owned.values()) == pytest.approx(min(owned.values()))


def test_a_range_is_kept_by_the_next_nodes_of_each_data_centre() -> None:
    cluster = two(8)
    second = int(cluster.node("cassandra-2").params["token"])
    assert holders(cluster)[second] == tuple(f"cassandra-{i}" for i in (2, 3, 4, 5, 6, 7))


def test_after_a_node_has_left_each_data_centre_still_has_its_own_copies() -> None:
    cluster = without(two(8), "cassandra-2")
    for names in holders(cluster).values():
        assert Counter(datacenter(cluster.node(n)) for n in names) == {"dc1": 3, "dc2": 3}
    assert sum(ownership(cluster).values()) == pytest.approx(6)


# ---- what members are told


def place_of(cluster: Cluster, node: str, made: Any) -> str:
    (source,) = [
        c["source"] for c in made["services"][node]["configs"] if c["target"].endswith("rackdc.properties")
    ]
    return str(made["configs"][source]["content"])


def test_every_member_is_told_its_own_data_centre() -> None:
    cluster = two(4)
    made = yaml.safe_load(render(cluster, render_context(cluster)))
    assert [place_of(cluster, n.name, made).splitlines()[0] for n in cluster.servers] == [
        "dc=dc1", "dc=dc2", "dc=dc1", "dc=dc2",
    ]  # fmt: skip


def test_a_single_data_centre_is_rendered_as_ever() -> None:
    cluster = make_cluster("cassandra")
    made = yaml.safe_load(render(cluster, render_context(cluster)))
    assert {n for n in made["configs"] if "rackdc" in n} == {"rackdc.properties"}
    assert place_of(cluster, "cassandra-2", made).split() == ["dc=dc1", "rack=rack1"]


# ---- verdicts and plans


def reports(cluster: Cluster, *gone: int) -> dict[str, Any]:
    return {
        n.name: GONE
        if n.index in gone
        else MemberReport(
            "5.0.8",
            (int(n.params["token"]),),
            "a",
            len(cluster.servers) - 1,
            {},
            copies=sum(copies_by_dc(cluster).values()),
        )
        for n in cluster.servers
    }


def test_two_whole_data_centres_are_healthy_and_members_say_where_they_stand() -> None:
    cluster = two(6)
    seen = judge(cluster, reports(cluster))
    assert (seen.verdict, seen.reasons) == (Verdict.HEALTHY, ())
    assert [n.detail.partition(",")[0] for n in seen.nodes] == ["dc1", "dc2"] * 3


def test_a_whole_data_centre_away_costs_quorum_and_is_told() -> None:
    cluster = two(6)
    seen = judge(cluster, reports(cluster, 2, 4, 6))
    assert seen.verdict is Verdict.DOWN
    assert "6 of 6 token ranges have fewer than 4 of 6 copies: QUORUM fails there" in seen.reasons
    assert "3 copies are kept of each row in dc2, but 0 members are there: ALL fails" in seen.reasons


def test_one_of_each_data_centre_may_be_away_where_each_has_three() -> None:
    cluster = two(6)
    assert judge(cluster, reports(cluster, 1, 2)).verdict is Verdict.DEGRADED
    small = two(4)
    assert judge(small, reports(small, 1)).verdict is Verdict.DEGRADED
    assert judge(small, reports(small, 1, 2)).verdict is Verdict.DOWN


@given(st.sampled_from(EVEN), st.data())
def test_a_ring_of_two_data_centres_is_down_exactly_where_some_range_has_lost_its_quorum(
    nodes: int, data: st.DataObject
) -> None:
    cluster = two(nodes)
    gone = data.draw(st.sets(st.integers(1, nodes)))
    each = min(3, nodes // 2)
    lost = False
    for first in range(nodes):  # nodes are numbered along the ring
        order = [(first + step) % nodes + 1 for step in range(nodes)]
        keepers = [i for i in order if i % 2 == 1][:each] + [i for i in order if i % 2 == 0][:each]
        lost = lost or sum(i not in gone for i in keepers) < each + 1
    assert (judge(cluster, reports(cluster, *gone)).verdict is Verdict.DOWN) == lost


def test_a_node_may_be_spared_if_every_range_keeps_quorum_over_both_data_centres() -> None:
    cluster = two(4)
    names = [n.name for n in cluster.servers]
    assert spare_trouble(cluster, names, "cassandra-2") is None
    said = spare_trouble(cluster, names[1:], "cassandra-2")
    assert said == "without cassandra-2 4 of 4 token ranges would have 2 of 4 copies, QUORUM needs 3"


def test_a_node_leaves_only_a_data_centre_that_has_enough_others() -> None:
    control = load(StoreName.CASSANDRA).control
    leave = Intent(Operation.DECOMMISSION, node="cassandra-2")
    small = two(6)
    with pytest.raises(
        NotPlannable, match="2 nodes would be left in dc2 for 3 copies of each row"
    ) as refused:
        control.plan(small, snapshot(small), leave)
    assert "a data centre of four or more" in (refused.value.hint or "")
    large = two(8)
    assert "the 3 others there have more data each" in control.plan(large, snapshot(large), leave).risk
    assert copies_by_dc(without(large, "cassandra-2")) == {"dc1": 3, "dc2": 3}

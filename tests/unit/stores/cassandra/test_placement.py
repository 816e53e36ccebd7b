"""Which nodes keep which rows, for any ring and any replication."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import fakes
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.stores.cassandra.placement import (
    HIGHEST,
    LOWEST,
    Member,
    holder_of,
    is_known,
    members,
    pieces,
    receivers,
    same_places,
    spans,
    whole_holders,
)
from haops.stores.cassandra.topology import holders

NTS = "org.apache.cassandra.locator.NetworkTopologyStrategy"
tokens = st.integers(LOWEST, HIGHEST)


@st.composite
def rings(draw: st.DrawFn) -> list[Member]:
    places = draw(st.lists(tokens, min_size=1, max_size=6, unique=True))
    return [Member(f"n{i}", t, draw(st.sampled_from(["dc1", "dc2"]))) for i, t in enumerate(places)]


replications = st.dictionaries(st.sampled_from(["dc1", "dc2"]), st.integers(1, 3).map(str), min_size=1).map(
    lambda options: {"class": NTS, **options}
)


@given(rings(), replications, st.integers(1, 5))
def test_ranges_cover_every_token_once(ring: list[Member], options: dict[str, str], each: int) -> None:
    for found in (spans(ring, options), pieces(spans(ring, options), each)):
        assert found[0].start == LOWEST
        assert found[-1].end == HIGHEST
        assert all(a.end == b.start for a, b in pairwise(found))


@given(rings(), replications)
def test_each_range_has_as_many_copies_as_asked_for_in_each_data_centre(
    ring: list[Member], options: dict[str, str]
) -> None:
    where = {m.name: m.dc for m in ring}
    for span in spans(ring, options):
        assert len(set(span.holders)) == len(span.holders)
        for dc in ("dc1", "dc2"):
            wanted = min(int(options.get(dc, 0)), sum(m.dc == dc for m in ring))
            assert sum(where[name] == dc for name in span.holders) == wanted


@pytest.mark.parametrize(("nodes", "dcs"), [(1, 1), (3, 1), (5, 1), (6, 2)])
def test_haops_own_keyspace_lies_where_the_topology_says(nodes: int, dcs: int) -> None:
    cluster = fakes.make_cluster("cassandra", nodes, dcs=dcs)
    options = {"dc1": str(min(3, nodes // dcs)), "dc2": str(min(3, nodes // dcs))}
    ring = spans(members(cluster), options)
    for end, names in holders(cluster).items():
        assert holder_of(ring, end if end > LOWEST else HIGHEST) == names


def test_simple_replication_knows_no_data_centres() -> None:
    ring = [Member("a", LOWEST, "dc1"), Member("b", 0, "dc2")]
    options = {"class": "org.apache.cassandra.locator.SimpleStrategy", "replication_factor": "3"}
    assert all(len(s.holders) == 2 for s in spans(ring, options))


@given(rings(), rings(), replications, st.lists(tokens.filter(lambda t: t > LOWEST), max_size=20))
def test_whoever_keeps_a_row_in_the_target_gets_the_files_of_whoever_kept_it(
    source: list[Member], target: list[Member], options: dict[str, str], some: Sequence[int]
) -> None:
    before, after = spans(source, options), spans(target, options)
    sent = receivers(before, after)
    for token in some:
        for had in holder_of(before, token):
            assert set(holder_of(after, token)) <= set(sent[had])


@given(rings(), replications)
def test_a_node_keeps_everything_if_it_is_among_the_holders_of_every_range(
    ring: list[Member], options: dict[str, str]
) -> None:
    found = spans(ring, options)
    whole = whole_holders(found)
    assert all(whole <= set(s.holders) for s in found)
    assert all(any(m.name not in s.holders for s in found) for m in ring if m.name not in whole)


def test_rings_are_the_same_by_tokens_and_data_centres_not_by_names() -> None:
    one, other = (
        members(fakes.make_cluster("cassandra", 3)),
        [Member("x", m.token, m.dc) for m in members(fakes.make_cluster("cassandra", 3))],
    )
    assert same_places(one, [Member(f"t{m.token}", m.token, m.dc) for m in other]) == {
        m.name: f"t{m.token}" for m in one
    }
    assert same_places(one, members(fakes.make_cluster("cassandra", 4))) is None
    assert same_places(one, [Member(m.name, m.token, "dc2") for m in one]) is None


@pytest.mark.parametrize(
    ("options", "known"),
    [
        ({"class": "org.apache.cassandra.locator.SimpleStrategy", "replication_factor": "3"}, True),
        ({"class": "SimpleStrategy", "replication_factor": "3/1"}, False),
        ({"class": "org.apache.cassandra.locator.NetworkTopologyStrategy", "dc1": "3", "dc2": "1"}, True),
        ({"class": "NetworkTopologyStrategy", "dc1": "3", "dc2": "3/1"}, False),
        ({"class": "org.apache.cassandra.locator.LocalStrategy"}, False),
        ({"class": "our.Own", "dc1": "3"}, False),
    ],
)
def test_only_of_copies_in_whole_numbers_it_is_known_who_keeps_them(
    options: dict[str, str], known: bool
) -> None:
    assert is_known(options) is known

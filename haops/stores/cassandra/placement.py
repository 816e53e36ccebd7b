"""Which nodes keep the copies of which token range, for any keyspace of a ring; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from haops.cluster.spec import Cluster
from haops.stores.cassandra.topology import datacenter

# Murmur3's tokens: the lowest is no row's own, the partitioner gives its rows the highest.
LOWEST: Final = -(2**63)
HIGHEST: Final = 2**63 - 1
_CLASS: Final = "class"
_SIMPLE: Final = "replication_factor"


@dataclass(frozen=True, slots=True)
class Member:
    """A node's place in a ring: its one token and its data centre."""

    name: str
    token: int
    dc: str


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens above `start` up to and with `end`, and the nodes that keep copies of their rows."""

    start: int
    end: int
    holders: tuple[str, ...]


def members(cluster: Cluster) -> tuple[Member, ...]:
    """The ring as it was laid out, in the order of its tokens."""
    found = (Member(n.name, int(n.params["token"]), datacenter(n)) for n in cluster.servers)
    return tuple(sorted(found, key=lambda m: m.token))


def copies_in(ring: Sequence[Member], replication: Mapping[str, str]) -> Mapping[str, int]:
    """How many copies a keyspace's options ask for, by data centre.

    Args:
        replication: As `system_schema.keyspaces` has it, the class among it.
    """
    if _SIMPLE in replication and _simple(replication):
        return {"": min(int(replication[_SIMPLE]), len(ring))}
    return {dc: int(number) for dc, number in replication.items() if dc != _CLASS and number.isdigit()}


def is_known(replication: Mapping[str, str]) -> bool:
    """Whether it can be told from a keyspace's options which nodes keep its copies.

    Not with transient copies (`3/1`), nor of a strategy of somebody's own.
    """
    if _simple(replication):
        return replication.get(_SIMPLE, "").isdigit()
    numbers = [number for option, number in replication.items() if option != _CLASS]
    return replication.get(_CLASS, "").endswith("NetworkTopologyStrategy") and all(
        n.isdigit() for n in numbers
    )


def _simple(replication: Mapping[str, str]) -> bool:
    return replication.get(_CLASS, "").endswith("SimpleStrategy")


def spans(ring: Sequence[Member], replication: Mapping[str, str]) -> tuple[Span, ...]:
    """The ring's ranges from the lowest token to the highest, none of which goes over the ring's end.

    In each data centre a row's copies are kept by the next nodes around the ring, as
    NetworkTopologyStrategy does it where all nodes of a data centre stand in one rack.
    """
    wanted = copies_in(ring, replication)
    ring = sorted(ring, key=lambda m: m.token)

    def keepers(first: int) -> tuple[str, ...]:
        left, found = dict(wanted), []
        for member in [*ring[first:], *ring[:first]]:
            key = "" if "" in left else member.dc
            if left.get(key, 0):
                left[key] -= 1
                found.append(member.name)
        return tuple(found)

    ends = [m.token for m in ring]
    made = [
        Span(start, end, keepers(i))
        for i, (start, end) in enumerate(zip([LOWEST, *ends], ends, strict=False))
    ]
    made.append(Span(ends[-1], HIGHEST, keepers(0)))
    return tuple(s for s in made if s.start < s.end)


def pieces(ring_spans: Sequence[Span], each: int) -> tuple[Span, ...]:
    """The same ranges, each in so many parts, in the order of their tokens."""
    made = []
    for span in ring_spans:
        width = span.end - span.start
        cuts = [span.start + width * i // each for i in range(each + 1)]
        made += [Span(a, b, span.holders) for a, b in pairwise(cuts) if a < b]
    return tuple(made)


def holder_of(ring_spans: Sequence[Span], token: int) -> tuple[str, ...]:
    """Who keeps the row with this token."""
    for span in ring_spans:
        if span.start < token <= span.end:
            return span.holders
    return ring_spans[0].holders


def same_places(one: Sequence[Member], other: Sequence[Member]) -> Mapping[str, str] | None:
    """For each node of a ring its twin in another, if both have the same tokens and data centres."""
    ours, theirs = (sorted(ring, key=lambda m: m.token) for ring in (one, other))
    if [(m.token, m.dc) for m in ours] != [(m.token, m.dc) for m in theirs]:
        return None
    return {m.name: t.name for m, t in zip(ours, theirs, strict=True)}


def receivers(sources: Sequence[Span], targets: Sequence[Span]) -> Mapping[str, tuple[str, ...]]:
    """For each node of a source ring those of a target ring that keep copies of some of its rows, sorted."""
    found: dict[str, set[str]] = {name: set() for span in sources for name in span.holders}
    for span in sources:
        for target in targets:
            if max(span.start, target.start) < min(span.end, target.end):
                for name in span.holders:
                    found[name].update(target.holders)
    return {name: tuple(sorted(names)) for name, names in found.items()}


def whole_holders(ring_spans: Sequence[Span]) -> frozenset[str]:
    """The nodes that keep a copy of everything."""
    kept = [frozenset(s.holders) for s in ring_spans]
    return frozenset.intersection(*kept) if kept else frozenset()

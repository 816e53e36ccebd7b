"""What the answers of a Cassandra ring amount to; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from haops.cluster.snapshot import (
    Finding,
    FindingKind,
    Lag,
    NodeState,
    NodeView,
    Role,
    Snapshot,
    not_up,
    verdict_of,
)
from haops.cluster.spec import AddressMap, Cluster, Node
from haops.stores.base import Unanswered, blind, now
from haops.stores.cassandra.topology import KEYSPACE, copies_by_dc, copies_of, datacenter, holders, quorum

# Members raise their heartbeat once a second and are held for dead after some 18 s without one (phi 8
# with an exponential model, times the mean gap); two thirds of that are no jitter any more.
HEARTBEATS_MISSED: Final = 12
_RING: Final = 2**64


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life of a member, as gossip spreads it.

    Args:
        generation: When its process started, Unix s.
        count: Raised once a second since then.
    """

    generation: int
    count: int


@dataclass(frozen=True, slots=True)
class MemberReport:
    """A member's own view.

    Args:
        tokens: The tokens it owns.
        schema: Its schema version.
        peers: How many other members it knows.
        hints: For each member it keeps hints for (by container address), the files of hints.
        copies: The replication factor of haops' keyspace as it knows it; None before it is made.
        known: The other members that it knows, by container address; None if it was not asked.
        heard: What it last heard of each member, itself included, by container address.
        reaches: Members, lost by the observer, with which it just did a read.
    """

    version: str
    tokens: tuple[int, ...]
    schema: str
    peers: int
    hints: Mapping[str, int]
    copies: int | None = None
    known: frozenset[str] | None = None
    heard: Mapping[str, Heartbeat] = field(default_factory=dict)
    reaches: tuple[str, ...] = ()


Report = MemberReport | Unanswered
Reports = Mapping[str, Report]


def judge(cluster: Cluster, reports: Reports) -> Snapshot:
    """The snapshot that these answers amount to; pure."""
    members = {name: r for name, r in reports.items() if isinstance(r, MemberReport)}
    hints = _hints_for(cluster, members)
    owned = ownership(cluster)
    views = tuple(
        _view(cluster, node, reports, Lag(hints=hints[node.name]), owned[node.name]) for node in cluster.nodes
    )
    there = {v.name for v in views if v.name in members or v.state is NodeState.PARTITIONED}
    lost = _ranges_without_quorum(cluster, there)
    findings = [
        *lost,
        *_schema_findings(members),
        *_replication_findings(cluster, members, there),
        *_membership_findings(cluster, members),
        *_lost_by_others(cluster, members),
        *_hint_findings(hints),
        *not_up(views),
    ]
    serving = bool(members) and not lost
    verdict = verdict_of(findings, serving=serving, blind=blind(reports.values()))
    return Snapshot(cluster.name, cluster.store, cluster.mode, now(), verdict, tuple(findings), views)


def ownership(cluster: Cluster) -> Mapping[str, float]:
    """Share of the data that each node keeps a copy of."""
    keepers = holders(cluster)
    tokens = sorted(keepers)
    # With one token the range before it is the whole ring, which the modulus would make empty.
    spans = {t: (t - tokens[i - 1]) % _RING or _RING for i, t in enumerate(tokens)}
    return {
        node.name: sum(span for t, span in spans.items() if node.name in keepers[t]) / _RING
        for node in cluster.servers
    }


def _ranges_without_quorum(cluster: Cluster, there: Collection[str]) -> list[Finding]:
    ranges, needed = holders(cluster), quorum(cluster)
    lost = sum(sum(name in there for name in names) < needed for names in ranges.values())
    if not lost:
        return []
    few = f"fewer than {needed} of {copies_of(cluster)} copies"
    text = f"{lost} of {len(ranges)} token ranges have {few}: QUORUM fails there"
    return [Finding(FindingKind.NO_MAJORITY, text)]


def _hints_for(cluster: Cluster, members: Mapping[str, MemberReport]) -> Mapping[str, int]:
    addresses = AddressMap(cluster)
    total = dict.fromkeys((n.name for n in cluster.nodes), 0)
    for report in members.values():
        for address, files in report.hints.items():
            if node := addresses.node_at(address):
                total[node.name] += files
    return total


def _schema_findings(members: Mapping[str, MemberReport]) -> list[Finding]:
    schemas = {r.schema for r in members.values()}
    if len(schemas) < 2:
        return []
    held = "; ".join(
        f"{', '.join(n for n, r in members.items() if r.schema == schema)} {schema[:8]}"
        for schema in sorted(schemas)
    )
    text = f"{len(schemas)} schema versions among {len(members)} members: {held}"
    return [Finding(FindingKind.SCHEMA, text)]


def _replication_findings(
    cluster: Cluster, members: Mapping[str, MemberReport], there: Collection[str]
) -> list[Finding]:
    found = []
    wanted = copies_of(cluster)
    factors = sorted({r.copies for r in members.values() if r.copies is not None})
    for copies in factors:
        if copies != wanted:
            text = f"the keyspace {KEYSPACE} has a replication factor of {copies}, not {wanted}"
            found.append(Finding(FindingKind.REPLICATION_FACTOR, text, about="factor"))
    if not factors:
        return found
    by_dc = copies_by_dc(cluster)
    for dc, copies in by_dc.items() if len(by_dc) > 1 else ((None, factors[-1]),):
        members_there = sum(dc in (None, datacenter(n)) for n in cluster.servers if n.name in there)
        if members_there < copies:
            where = f" in {dc}" if dc else ""
            text = f"{copies} copies are kept of each row{where}, but {members_there} members are there: ALL fails"
            found.append(Finding(FindingKind.REPLICATION_FACTOR, text, about=f"members{where}"))
    return found


def _membership_findings(cluster: Cluster, members: Mapping[str, MemberReport]) -> list[Finding]:
    """Members that do not know all others."""
    found = []
    total = len(cluster.servers) - 1
    for name, report in members.items():
        if report.peers >= total:
            continue
        text = f"{name} knows {report.peers} of {total} other members"
        if report.known is not None:
            strangers = [n.name for n in cluster.servers if n.name != name and n.address not in report.known]
            text += f": not {', '.join(strangers)}"
        found.append(Finding(FindingKind.MEMBERSHIP, text, name))
    return found


def _lost_by(cluster: Cluster, members: Mapping[str, MemberReport], name: str) -> list[str]:
    """The members that have long had no sign of life of one that answers the observer."""
    address = cluster.node(name).address
    own = members[name].heard.get(address)
    if own is None:
        return []
    lost = []
    for other, report in members.items():
        had = report.heard.get(address)
        # A restarted member counts from anew: what the others have is of its last life for a moment.
        if other == name or had is None or had.generation > own.generation:
            continue
        missed = own.count - (had.count if had.generation == own.generation else 0)
        if missed > HEARTBEATS_MISSED:
            lost.append(other)
    return lost


def _lost_by_others(cluster: Cluster, members: Mapping[str, MemberReport]) -> list[Finding]:
    found = []
    for name in members:
        if lost := _lost_by(cluster, members, name):
            text = (
                f"{name} answers from here, but {', '.join(lost)} had no sign of life from it for more than"
                f" {HEARTBEATS_MISSED} s"
            )
            found.append(Finding(FindingKind.PARTITION, text, name))
    return found


def _hint_findings(hints: Mapping[str, int]) -> list[Finding]:
    return [
        Finding(FindingKind.HINTS, f"hints wait for {name}: {files} file{'s' if files > 1 else ''}", name)
        for name, files in hints.items()
        if files
    ]


def _view(cluster: Cluster, node: Node, reports: Reports, lag: Lag, owned: float) -> NodeView:
    report = reports[node.name]
    zone = node.params.get("zone")
    if isinstance(report, Unanswered):
        state, why = report.state, report.why
        others = [n for n, r in reports.items() if isinstance(r, MemberReport) and node.name in r.reaches]
        if state is NodeState.UNREACHABLE and others:
            state = NodeState.PARTITIONED
            why = f"lost from here ({why}), but a read through {', '.join(others)} reached it"
        return NodeView(
            node.name, Role.MEMBER, state, node.host, node.host_port, lag, why, ownership=owned, zone=zone
        )
    place = f"{datacenter(node)}, " if len(copies_by_dc(cluster)) > 1 else ""
    return NodeView(
        node.name,
        Role.MEMBER,
        NodeState.UP,
        node.host,
        node.host_port,
        lag,
        ownership=owned,
        version=report.version,
        detail=f"{place}token {node.params['token']}, knows {report.peers} others",
        zone=zone,
    )

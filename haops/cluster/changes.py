"""What happened between two snapshots of a cluster; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from haops.cluster.snapshot import Finding, FindingKind, NodeState, NodeView, Snapshot, Verdict


class ChangeKind(StrEnum):
    """What can change; SIGHT is the observer's own: the cluster could not be looked at, or can be again."""

    VERDICT = "verdict"
    ROLE = "role"
    STATE = "state"
    FOLLOWS = "follows"
    BEGINS = "begins"
    ENDS = "ends"
    JOINS = "joins"
    LEAVES = "leaves"
    SIGHT = "sight"


class Severity(StrEnum):
    """How much a change should worry its reader."""

    GOOD = "good"
    NOTE = "note"
    WARNING = "warning"
    CRITICAL = "critical"


# Clients cannot write, or what they write will be lost.
_CRITICAL: Final = frozenset(
    {
        FindingKind.NO_PRIMARY,
        FindingKind.SPLIT_BRAIN,
        FindingKind.NO_WRITES,
        FindingKind.NO_MAJORITY,
    }
)
_OF_VERDICT: Final[Mapping[Verdict, Severity]] = {
    Verdict.HEALTHY: Severity.GOOD,
    Verdict.DEGRADED: Severity.WARNING,
    Verdict.DOWN: Severity.CRITICAL,
    Verdict.UNKNOWN: Severity.WARNING,
}
# Findings that say no more than a node's state does.
_OF_STATE: Final = frozenset({FindingKind.NODE, FindingKind.PARTITION})

Key = tuple[FindingKind, str | None, str]


@dataclass(frozen=True, slots=True)
class Change:
    """One change (`at`: when the later snapshot was taken).

    Args:
        what: A role's, state's or verdict's new value, the node now followed, the finding's kind
            that begins or ends, or a sight's `lost` or `back`.
        node: The node it happened to, if it happened to one.
    """

    at: datetime
    cluster: str
    kind: ChangeKind
    what: str
    text: str
    node: str | None = None
    severity: Severity = Severity.NOTE


def changes(before: Snapshot, after: Snapshot) -> tuple[Change, ...]:
    """Everything that is different, nodes first, then what begins and ends, then the verdict.

    Findings are compared by what they are about, not by their words, which hold figures that
    move all the time. A node's new state is told once, not as a finding too.
    """
    found = _of_nodes(before, after)
    told = {c.node for c in found if c.kind is ChangeKind.STATE}
    had, has = _by_key(before), _by_key(after)
    for key, finding in has.items():
        if key not in had and not (finding.kind in _OF_STATE and finding.node in told):
            found.append(_begins(after, finding))
    for key, finding in had.items():
        if key not in has and not (finding.kind in _OF_STATE and finding.node in told):
            text = f"over: {finding.text.partition(';')[0]}"  # the details are over too
            found.append(_change(after, ChangeKind.ENDS, finding.kind, text, finding.node, Severity.GOOD))
    if before.verdict is not after.verdict:
        text = f"{before.verdict} → {after.verdict}"
        severity = _OF_VERDICT[after.verdict]
        found.append(_change(after, ChangeKind.VERDICT, after.verdict, text, None, severity))
    return tuple(found)


def standing(snapshot: Snapshot) -> tuple[Change, ...]:
    """What speaks against a cluster that is seen for the first time, and its verdict."""
    verdict = _change(
        snapshot,
        ChangeKind.VERDICT,
        snapshot.verdict,
        snapshot.verdict,
        None,
        _OF_VERDICT[snapshot.verdict],
    )
    return (*(_begins(snapshot, finding) for finding in snapshot.findings), verdict)


def _by_key(snapshot: Snapshot) -> dict[Key, Finding]:
    return {(f.kind, f.node, f.about): f for f in snapshot.findings}


def _begins(after: Snapshot, finding: Finding) -> Change:
    severity = Severity.CRITICAL if finding.kind in _CRITICAL else Severity.WARNING
    return _change(after, ChangeKind.BEGINS, finding.kind, finding.text, finding.node, severity)


def _of_nodes(before: Snapshot, after: Snapshot) -> list[Change]:
    found = []
    olds = {n.name: n for n in before.nodes}
    for node in after.nodes:
        if old := olds.pop(node.name, None):
            found += _of_node(after, old, node)
        else:
            text = f"is a node of {after.name} now: {node.role}, {node.state}"
            found.append(_change(after, ChangeKind.JOINS, node.name, text, node.name))
    for name in olds:
        text = f"is no node of {after.name} any more"
        found.append(_change(after, ChangeKind.LEAVES, name, text, name))
    return found


def _of_node(after: Snapshot, old: NodeView, new: NodeView) -> list[Change]:
    found = []
    if old.state is not new.state:
        why = f": {new.why}" if new.why else ""
        severity = Severity.GOOD if new.state is NodeState.UP else Severity.WARNING
        text = f"{old.state} → {new.state}{why}"
        found.append(_change(after, ChangeKind.STATE, new.state, text, new.name, severity))
    if old.role is not new.role:
        found.append(_change(after, ChangeKind.ROLE, new.role, f"{old.role} → {new.role}", new.name))
    if old.follows != new.follows and new.follows:
        text = f"{old.follows or '-'} → {new.follows}"
        found.append(_change(after, ChangeKind.FOLLOWS, new.follows, text, new.name))
    return found


def _change(
    after: Snapshot,
    kind: ChangeKind,
    what: str,
    text: str,
    node: str | None,
    severity: Severity = Severity.NOTE,
) -> Change:
    return Change(after.taken, after.name, kind, str(what), text, node, severity)

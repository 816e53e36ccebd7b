"""Why acknowledged writes were lost: who acknowledged them, and what had happened by then."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from haops.history.record import History, Kind, Outcome

_SENTENCES: Final = 10


@dataclass(frozen=True, slots=True)
class ClusterEvent:
    """Something that happened to a node.

    Args:
        at_ns: When, on the history's clock.
        kind: A participle that fits "had been": killed, promoted, demoted, isolated, ...
        node: To whom; empty for the whole cluster.
        text: What else is known, such as "offset 12345"; may be empty.
    """

    at_ns: int
    kind: str
    node: str
    text: str


def rows_of_lost(history: History, lost: Collection[int]) -> History:
    """The acknowledgements of lost keys."""
    keys = np.fromiter(lost, dtype=np.int64, count=len(lost))
    put = (history.kind == Kind.WRITE) | (history.kind == Kind.ADD)
    return history.select(put & (history.outcome == Outcome.OK) & np.isin(history.key, keys))


def explain(lost: History, events: Sequence[ClusterEvent], fault_ns: int) -> tuple[str, ...]:
    """Plain sentences: which node acknowledged how many of the lost writes, and what came before.

    Args:
        lost: The rows that acknowledged them, see `rows_of_lost`.
        events: What happened, in any order; an acknowledgement at an event's very moment comes after it.
        fault_ns: The fault's beginning, from which the sentences count.
    """
    ordered = sorted(events, key=lambda e: e.at_ns)
    moments = [e.at_ns for e in ordered]
    groups: dict[tuple[int, str], list[int]] = {}
    for node, at in zip(lost.node.tolist(), lost.completed.tolist(), strict=True):
        groups.setdefault((bisect_right(moments, at), lost.nodes[node]), []).append(at)
    # The biggest groups are told, in order of time.
    biggest = sorted(groups, key=lambda g: -len(groups[g]))[:_SENTENCES]
    told = [
        f"{_who(node, len(groups[after, node]))} {_span(groups[after, node], fault_ns)}; "
        f"{_past(ordered[:after], fault_ns)}"
        for after, node in sorted(biggest)
    ]
    rest = sum(len(times) for group, times in groups.items() if group not in biggest)
    if rest:
        others = len(groups) - len(biggest)
        told.append(f"{rest} more are in {others} smaller group{'s' if others > 1 else ''} of node and time")
    return tuple(told)


def _who(node: str, count: int) -> str:
    return f"{node or 'a node that is not named'} acknowledged {count} of them"


def _span(times: Sequence[int], fault_ns: int) -> str:
    first, last = min(times) - fault_ns, max(times) - fault_ns
    if f"{first / 1e9:.2f}" == f"{last / 1e9:.2f}":
        return f"at {_side(first)}"
    if (first < 0) == (last < 0):
        return f"from {abs(first) / 1e9:.2f} s to {_side(last)}"
    return f"from {_side(first)} to {_side(last)}"


def _side(since_fault: int) -> str:
    return f"{abs(since_fault) / 1e9:.2f} s {'before' if since_fault < 0 else 'after'} the fault"


def _past(events: Sequence[ClusterEvent], fault_ns: int) -> str:
    """The last thing that had happened."""
    if not events:
        return "nothing had happened yet"
    event = events[-1]
    detail = f" ({event.text})" if event.text else ""
    since = event.at_ns - fault_ns
    when = f"at {since / 1e9:.2f} s" if since >= 0 else _side(since)
    return f"{event.node or 'the cluster'} had been {event.kind} {when}{detail}"

"""Locks: never two holders at once, and fencing tokens that rise and are obeyed.

A holder is known to hold only between the moment it was told so and the moment it
began to let go, which is where an overlap is beyond doubt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from haops.history.record import NIL, History, Ints, Kind, Outcome

_EVIDENCE: Final = 10


@dataclass(frozen=True, slots=True)
class Hold:
    """The time for which a client certainly believed that it held a lock.

    Args:
        key: The lock.
        process: The client.
        node: Who granted it; empty if nobody is named.
        token: Its fencing token; NIL if it has none.
        begin: When it was told so, ns.
        end: When it began to release it, ns; without a release, the end of the last thing it did
            with the lock, and `begin` if there was nothing.
        released: Whether it asked for release.
    """

    key: int
    process: int
    node: str
    token: int
    begin: int
    end: int
    released: bool


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two clients that held one lock.

    Args:
        first: Who had it.
        second: Who was given it all the same.
        until: The end of the overlap, ns; it begins with `second`.
    """

    first: Hold
    second: Hold
    until: int


@dataclass(frozen=True, slots=True)
class Regression:
    """A token that came after one that is not lower.

    Args:
        key: The lock.
        kind: ACQUIRE: it was given out; WRITE: a write with it was accepted.
        earlier: The token that was there before.
        earlier_process: Who used it.
        earlier_at: When that had been answered, ns.
        later: The token that came after it.
        later_process: Who used that.
        later_at: When that was sent, ns.
        node: Who answered the later one; empty if nobody is named.
    """

    key: int
    kind: Kind
    earlier: int
    earlier_process: int
    earlier_at: int
    later: int
    later_process: int
    later_at: int
    node: str


@dataclass(frozen=True, slots=True)
class Locks:
    """What was found of all locks; evidence is the first ten of each.

    Args:
        acquisitions: Acquires that were granted.
        overlaps: Pairs of holders at once.
        tokens: Grants whose token does not exceed all granted before.
        fenced: Writes accepted although a higher token's had been before.
        overlap_evidence: Of `overlaps`.
        regressions: Of `tokens` and `fenced`.
    """

    acquisitions: int
    overlaps: int
    tokens: int
    fenced: int
    overlap_evidence: tuple[Overlap, ...]
    regressions: tuple[Regression, ...]

    @property
    def kept(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.overlaps or self.tokens or self.fenced)


def check_locks(history: History) -> Locks:
    """Check ACQUIRE, RELEASE and fenced WRITE rows, lock by lock.

    An acquire of unknown outcome proves nothing. A release ends what is known of a
    hold when it is sent, whatever was answered. A WRITE on a lock's key is of
    something the lock protects, with the token in `value`.
    """
    holds = _holds(history)
    overlaps = [o for mine in _by_key(holds) for o in _overlaps(mine)]
    granted = _regressions(history, Kind.ACQUIRE)
    accepted = _regressions(history, Kind.WRITE)
    return Locks(
        acquisitions=len(holds),
        overlaps=len(overlaps),
        tokens=len(granted),
        fenced=len(accepted),
        overlap_evidence=tuple(overlaps[:_EVIDENCE]),
        regressions=(*granted[:_EVIDENCE], *accepted[:_EVIDENCE]),
    )


def _holds(history: History) -> list[Hold]:
    """All holds, by lock and by when they began."""
    order = np.lexsort((history.sent, history.process, history.key))
    key, process, kind, outcome = (
        getattr(history, name)[order].tolist() for name in ("key", "process", "kind", "outcome")
    )
    holds = []
    for place, row in enumerate(order.tolist()):
        if kind[place] != Kind.ACQUIRE or outcome[place] != Outcome.OK:
            continue
        end, released = int(history.completed[row]), False
        begin, after = end, place + 1
        # Who asks for the lock again does not believe that it has it.
        while (
            after < len(order)
            and (key[after], process[after]) == (key[place], process[place])
            and kind[after] != Kind.ACQUIRE
            and not released
        ):
            did = order[after]
            released = kind[after] == Kind.RELEASE
            told = not released and outcome[after] != Outcome.INFO
            end = max(end, int(history.completed[did] if told else history.sent[did]))
            after += 1
        node = history.nodes[history.node[row]]
        holds.append(
            Hold(key[place], process[place], node, int(history.value[row]), begin, end, bool(released))
        )
    return sorted(holds, key=lambda h: (h.key, h.begin))


def _by_key(holds: Sequence[Hold]) -> Iterator[list[Hold]]:
    start = 0
    for i in range(1, len(holds) + 1):
        if i == len(holds) or holds[i].key != holds[start].key:
            yield list(holds[start:i])
            start = i


def _overlaps(holds: Sequence[Hold]) -> Iterator[Overlap]:
    """Pairs of holds that share more than a moment; one client's own end before it asks again."""
    active: list[Hold] = []
    for hold in holds:
        active = [a for a in active if a.end > hold.begin]
        for other in active:
            yield Overlap(other, hold, min(other.end, hold.end))
        active.append(hold)


def _regressions(history: History, kind: Kind) -> list[Regression]:
    """Tokens that are not higher than one of before; a write may repeat its own, a grant may not."""
    chosen = (history.kind == kind) & (history.outcome == Outcome.OK) & (history.value != NIL)
    locks = np.isin(history.key, history.key[history.kind == Kind.ACQUIRE])
    rows = np.flatnonzero(chosen & locks)
    rows = rows[np.lexsort((history.sent[rows], history.key[rows]))]
    found = []
    for mine in np.split(rows, np.flatnonzero(np.diff(history.key[rows])) + 1):
        found += [_regression(history, kind, a, b) for a, b in _falling(history, mine, kind)]
    return found


def _falling(history: History, rows: Ints, kind: Kind) -> Iterator[tuple[int, int]]:
    """Pairs (row of the highest token answered before, row sent after with one that is not higher)."""
    by_end = rows[np.argsort(history.completed[rows], kind="stable")].tolist()
    done, best = 0, -1
    given: dict[int, int] = {}
    for row in rows.tolist():
        while done < len(by_end) and history.completed[by_end[done]] < history.sent[row]:
            if best < 0 or history.value[by_end[done]] > history.value[best]:
                best = by_end[done]
            done += 1
        token = int(history.value[row])
        if best >= 0 and (
            token < history.value[best] or (kind is Kind.ACQUIRE and token == history.value[best])
        ):
            yield best, row
        elif kind is Kind.ACQUIRE and token in given:
            # Given out twice at the same time: no order makes them rise.
            yield given[token], row
        given.setdefault(token, row)


def _regression(history: History, kind: Kind, earlier: int, later: int) -> Regression:
    return Regression(
        key=int(history.key[later]),
        kind=kind,
        earlier=int(history.value[earlier]),
        earlier_process=int(history.process[earlier]),
        earlier_at=int(history.completed[earlier]),
        later=int(history.value[later]),
        later_process=int(history.process[later]),
        later_at=int(history.sent[later]),
        node=history.nodes[history.node[later]],
    )

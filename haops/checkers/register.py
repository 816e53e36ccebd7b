"""Linearizability of registers with compare-and-set, each key by itself.

A history of several registers is linearizable exactly if each one's part is
(Herlihy and Wing), so every key is searched alone; see `search`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from haops.checkers.search import NEVER, NOTHING, Budget, GaveUp, Move, Step, orderable
from haops.history.record import NIL, History, Ints, Kind, Outcome

_DEADLINE_S: Final = 60.0
# The number of the value that a register holds first.
_INITIAL: Final = 0
# About 100 MB for one key; the memory of a key is dropped before the next is searched.
_STATES: Final = 400_000


class Verdict(StrEnum):
    """What a search can say."""

    LINEARIZABLE = "linearizable"
    VIOLATED = "violated"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Operation:
    """One row of a history, as evidence.

    Args:
        row: Its index in the history that was checked.
        process: Who asked.
        kind: WRITE, READ or CAS.
        value: What was written or found; NIL is nothing.
        expected: What a CAS wanted to find.
        sent: In ns.
        completed: In ns; of an INFO, when the client stopped waiting.
        outcome: What the client was told.
        node: Who was asked; empty if nobody is named.
    """

    row: int
    process: int
    kind: Kind
    value: int
    expected: int
    sent: int
    completed: int
    outcome: Outcome
    node: str

    @property
    def act(self) -> str:
        """What it did and found, such as "read 7"."""
        return _ACTS[self.kind, self.outcome](self)

    def __str__(self) -> str:
        where = f" at {self.node}" if self.node else ""
        return f"process {self.process} {self.act}{where}"


@dataclass(frozen=True, slots=True)
class KeyFinding:
    """A key that is not certainly linearizable.

    Args:
        key: The register.
        verdict: VIOLATED or UNKNOWN.
        operations: How many of its operations tell anything.
        window: The shortest run of operations that no order explains from whatever it may have held
            before, in order of completion; empty where that is not known. Operations that were
            still under way at its ends are in it.
        sentence: What is wrong, or why it is not known.
    """

    key: int
    verdict: Verdict
    operations: int
    window: tuple[Operation, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class RegisterResult:
    """What the search says of all keys.

    Args:
        verdict: VIOLATED if one key is, else UNKNOWN if one key is, else LINEARIZABLE.
        keys: How many were checked.
        operations: How many operations told anything.
        findings: The keys that are not certainly linearizable, by key.
    """

    verdict: Verdict
    keys: int
    operations: int
    findings: tuple[KeyFinding, ...]


def check_register(
    history: History,
    *,
    initial: int = NIL,
    deadline_s: float = _DEADLINE_S,
    clock: Callable[[], float] = time.monotonic,
    max_states: int = _STATES,
) -> RegisterResult:
    """Whether each key's writes, reads and compare-and-sets have an order that explains them.

    A write or CAS of unknown outcome may take effect at any time after it was
    sent, or never. A failed write did not happen, and a failed or unknown read
    tells nothing. A failed CAS has compared and found something else; one that
    failed with an error did not get so far, and tells nothing.

    Args:
        history: WRITE, READ and CAS rows count; the others are passed over.
        initial: What each register held first.
        deadline_s: For all keys together; those not decided by then are UNKNOWN.
        clock: In seconds.
        max_states: Configurations that may be remembered of one key before it is given up.
    """
    budget = Budget(clock() + deadline_s, clock, max_states)
    rows = np.flatnonzero(_telling(history))
    rows = rows[np.argsort(history.key[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(history.key[rows], prepend=history.key[rows][:1] - 1))
    findings = []
    for mine in np.split(rows, starts[1:]) if len(rows) else []:
        finding = _check_key(history, mine, initial, budget)
        if finding is not None:
            findings.append(finding)
    verdicts = {f.verdict for f in findings}
    worst = next((v for v in (Verdict.VIOLATED, Verdict.UNKNOWN) if v in verdicts), Verdict.LINEARIZABLE)
    return RegisterResult(worst, len(starts), len(rows), tuple(findings))


def _telling(history: History) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Rows that tell something of what a register held."""
    kind, outcome = history.kind, history.outcome
    write = (kind == Kind.WRITE) & (outcome != Outcome.FAIL)
    read = (kind == Kind.READ) & (outcome == Outcome.OK)
    cas = (kind == Kind.CAS) & ~((outcome == Outcome.FAIL) & (history.error != 0))
    told: np.ndarray[tuple[int], np.dtype[np.bool_]] = write | read | cas
    return told


def _check_key(history: History, rows: Ints, initial: int, budget: Budget) -> KeyFinding | None:
    moves, values = _moves(history, rows, initial)
    key = int(history.key[rows[0]])
    try:
        budget.check(0)
        if orderable(moves, values, frozenset({_INITIAL}), budget):
            return None
    except GaveUp as e:
        return KeyFinding(key, Verdict.UNKNOWN, len(rows), (), f"key {key}: {e}")
    try:
        begin, end = _window(moves, values, budget)
    except GaveUp as e:
        return KeyFinding(
            key,
            Verdict.VIOLATED,
            len(rows),
            (),
            f"key {key}: no order explains it; its narrowest window: {e}",
        )
    inside = [
        (m.back, int(row))
        for m, row in zip(moves, rows, strict=True)
        if m.call <= end and (m.call >= begin or (m.back >= begin and m.back != NEVER and m.puts != NOTHING))
        if m.back <= end or m.puts != NOTHING
    ]
    window = tuple(operation(history, row) for _, row in sorted(inside))
    blocked = next(int(row) for m, row in zip(moves, rows, strict=True) if m.back == end)
    return KeyFinding(
        key, Verdict.VIOLATED, len(rows), window, _sentence(key, window, operation(history, blocked))
    )


def operation(history: History, row: int) -> Operation:
    """A row of a history as evidence."""
    return Operation(
        row=row,
        process=int(history.process[row]),
        kind=Kind(history.kind[row]),
        value=int(history.value[row]),
        expected=int(history.expected[row]),
        sent=int(history.sent[row]),
        completed=int(history.completed[row]),
        outcome=Outcome(history.outcome[row]),
        node=history.nodes[history.node[row]],
    )


def _moves(history: History, rows: Ints, initial: int) -> tuple[list[Move], int]:
    """A key's rows as moves, and how many values they mention."""
    kinds, outcomes = history.kind[rows].tolist(), history.outcome[rows].tolist()
    values, wanted = history.value[rows].tolist(), history.expected[rows].tolist()
    numbers: dict[int, int] = {initial: _INITIAL}
    calls, backs = _ranks(history.sent[rows], history.completed[rows])
    moves = []
    for kind, outcome, value, want, call, back in zip(
        kinds, outcomes, values, wanted, calls, backs, strict=True
    ):
        v = (
            numbers.setdefault(value, len(numbers))
            if kind != Kind.CAS or outcome != Outcome.FAIL
            else NOTHING
        )
        e = numbers.setdefault(want, len(numbers)) if kind == Kind.CAS else NOTHING
        end = NEVER if outcome == Outcome.INFO else back
        if kind == Kind.READ or (kind == Kind.CAS and e == v):
            # Swapping a value for itself is a look at it.
            moves.append(Move(Step.READ, v, NOTHING, call, end))
        elif kind == Kind.WRITE:
            moves.append(Move(Step.PUT, NOTHING, v, call, end))
        elif outcome == Outcome.FAIL:
            moves.append(Move(Step.DIFFER, e, NOTHING, call, end))
        else:
            moves.append(Move(Step.SWAP, e, v, call, end))
    return moves, len(numbers)


def _ranks(sent: Ints, completed: Ints) -> tuple[list[int], list[int]]:
    """Places of beginnings and ends in one order; at the same ns a beginning comes first.

    Operations that meet in one ns are so taken as concurrent, which can only
    allow more orders.
    """
    moments = np.concatenate([sent, np.maximum(completed, sent)])
    is_end = np.repeat([0, 1], len(sent))
    ranks = np.empty(len(moments), dtype=np.int64)
    ranks[np.lexsort((is_end, moments))] = np.arange(len(moments))
    return ranks[: len(sent)].tolist(), ranks[len(sent) :].tolist()


def _window(moves: Sequence[Move], values: int, budget: Budget) -> tuple[int, int]:
    """The ranks between which no order is possible: the first end that fails, the last beginning.

    A prefix of a history that has an order has one too, and so has what follows
    any moment, from what the register held then: both searches may halve.
    """
    ends = sorted(m.back for m in moves if m.back != NEVER)
    low, high = 0, len(ends) - 1
    while low < high:
        middle = (low + high) // 2
        if _possible(moves, values, (0, ends[middle]), budget):
            low = middle + 1
        else:
            high = middle
    end = ends[low]
    # The first moment of all fails for certain: nothing can have been put before it.
    starts = sorted({0} | {m.call for m in moves if m.call < end and m.back != NEVER})
    # Most windows are short: look back from the end in growing steps, then halve the last one.
    good, bad, step = len(starts), len(starts) - 1, 1
    while bad > 0 and _possible(moves, values, (starts[bad], end), budget):
        good, step = bad, step * 2
        bad = max(good - step, 0)
    while good - bad > 1:
        middle = (good + bad) // 2
        if _possible(moves, values, (starts[middle], end), budget):
            good = middle
        else:
            bad = middle
    return starts[bad], end


def _possible(moves: Sequence[Move], values: int, span: tuple[int, int], budget: Budget) -> bool:
    """Whether a part has an order, from any value that could have been put before it."""
    before = {m.puts for m in moves if m.call < span[0] and m.puts != NOTHING}
    return orderable(_cut(moves, *span), values, frozenset(before | {_INITIAL}), budget)


def _cut(moves: Sequence[Move], begin: int, end: int) -> list[Move]:
    """What must hold between two moments.

    An operation that reaches over an edge may have had its place beyond it: what
    it saw tells nothing inside, and what it put may have come at any time or not.
    """
    kept = []
    for m in moves:
        if m.call > end or m.back < begin:
            continue
        if m.call >= begin and m.back <= end:
            kept.append(m)
        elif m.puts != NOTHING:
            kept.append(Move(m.step, m.sees, m.puts, m.call, NEVER))
    return kept


def _sentence(key: int, window: Sequence[Operation], blocked: Operation) -> str:
    span = (blocked.completed - min(o.sent for o in window)) / 1e6
    return (
        f"key {key}: no order of {len(window)} operations within {span:.1f} ms explains that {blocked}, "
        "whatever the register held before"
    )


def _shown(value: int) -> str:
    return "nothing" if value == NIL else str(value)


_ACTS: Final[dict[tuple[Kind, Outcome], Callable[[Operation], str]]] = {
    (Kind.READ, Outcome.OK): lambda o: f"read {_shown(o.value)}",
    (Kind.WRITE, Outcome.OK): lambda o: f"wrote {_shown(o.value)}",
    (Kind.WRITE, Outcome.INFO): lambda o: f"may have written {_shown(o.value)}",
    (Kind.CAS, Outcome.OK): lambda o: f"replaced {_shown(o.expected)} by {_shown(o.value)}",
    (Kind.CAS, Outcome.INFO): lambda o: f"may have replaced {_shown(o.expected)} by {_shown(o.value)}",
    (Kind.CAS, Outcome.FAIL): lambda o: f"did not find {_shown(o.expected)}",
}

"""The record of what clients asked and were told: one row an operation, one array a column.

Times are CLOCK_MONOTONIC in ns, which all processes of one machine share.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

# No value: what a read finds where nothing was written.
NIL: Final = -(2**63)


class Kind(IntEnum):
    """What an operation does.

    WRITE puts `value` under `key`, READ asks for it, CAS puts `value` where it
    finds `expected`. ADD adds `value` to the counter `key`, or `key` to a set.
    LIST reads a whole set: `value` is an index into the history's `lists`.
    ACQUIRE and RELEASE are of the lock `key`; an ACQUIRE's `value` is its fencing
    token, if it has one.
    """

    WRITE = 0
    READ = 1
    CAS = 2
    ADD = 3
    LIST = 4
    ACQUIRE = 5
    RELEASE = 6


class Outcome(IntEnum):
    """What became of an operation.

    INFO is a time-out or a lost connection: it may have happened, at any later
    time, and is never counted as a loss.
    """

    OK = 0
    FAIL = 1
    INFO = 2


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Columns of equal length, ordered by `completed`.

    Args:
        process: The client that asked; it has one operation at a time.
        kind: A `Kind`.
        key: What was written, read or locked.
        value: What was written; for a read that succeeded, what it found. NIL is nothing.
        expected: What a CAS wants to find; NIL otherwise.
        intended: When the schedule wanted the operation sent.
        sent: When the client sent it.
        completed: When its outcome was known.
        outcome: An `Outcome`.
        node: Index into `nodes`: who was asked; 0 is nobody.
        error: Index into `errors`; 0 is none.
        nodes: Names of nodes; the first is empty.
        errors: Names of error classes; the first is empty.
        lists: What the LISTs found.
    """

    process: Ints
    kind: Ints
    key: Ints
    value: Ints
    expected: Ints
    intended: Ints
    sent: Ints
    completed: Ints
    outcome: Ints
    node: Ints
    error: Ints
    nodes: tuple[str, ...] = ("",)
    errors: tuple[str, ...] = ("",)
    lists: tuple[Ints, ...] = ()

    def __len__(self) -> int:
        return len(self.key)

    def select(self, mask: Mask) -> History:
        """The rows where `mask` is true."""
        columns = {name: getattr(self, name)[mask] for name in COLUMNS}
        return History(**columns, nodes=self.nodes, errors=self.errors, lists=self.lists)

    def of(self, kind: Kind, *outcomes: Outcome) -> History:
        """The operations of a kind, with one of `outcomes` if any are given."""
        mask = self.kind == kind
        if outcomes:
            mask &= np.isin(self.outcome, outcomes)
        return self.select(mask)

    @property
    def ok(self) -> History:
        """The operations that succeeded."""
        return self.select(self.outcome == Outcome.OK)

    @property
    def missed(self) -> History:
        """The reads that were answered and found nothing."""
        return self.select((self.kind == Kind.READ) & (self.outcome == Outcome.OK) & (self.value == NIL))


COLUMNS: Final = tuple(f.name for f in fields(History) if f.name not in ("nodes", "errors", "lists"))
# Narrow where the numbers are small: ten million rows take 0.6 GB.
TYPES: Final[Mapping[str, str]] = dict.fromkeys(COLUMNS, "q") | {
    "process": "i",
    "kind": "b",
    "outcome": "b",
    "node": "h",
    "error": "h",
}


class Recorder:
    """Collects one client's rows without allocating an object a row."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._columns = {name: array(TYPES[name]) for name in COLUMNS if name != "process"}
        self._nodes = {"": 0}
        self._errors = {"": 0}
        # Bound once: an attribute look-up a column a row would show in the harness's lag.
        self._append = [column.append for column in self._columns.values()]

    def record(
        self,
        kind: Kind,
        key: int,
        value: int,
        intended: int,
        sent: int,
        completed: int,
        outcome: Outcome,
        node: str = "",
        error: str = "",
        *,
        expected: int = NIL,
    ) -> None:
        """Add one operation; times in ns."""
        where = self._nodes.setdefault(node, len(self._nodes))
        why = self._errors.setdefault(error, len(self._errors))
        row = (kind, key, value, expected, intended, sent, completed, outcome, where, why)
        for append, number in zip(self._append, row, strict=True):
            append(number)

    def export(self) -> RecordedColumns:
        """What crosses the process boundary."""
        columns = {name: column.tobytes() for name, column in self._columns.items()}
        return RecordedColumns(self._process, columns, tuple(self._nodes), tuple(self._errors))


@dataclass(frozen=True, slots=True)
class RecordedColumns:
    """One client's rows as bytes, see TYPES."""

    process: int
    columns: dict[str, bytes]
    nodes: tuple[str, ...]
    errors: tuple[str, ...]


def merge(parts: Iterable[RecordedColumns]) -> History:
    """One history from all clients' rows, ordered by completion."""
    names: dict[str, dict[str, int]] = {"node": {"": 0}, "error": {"": 0}}
    pieces: dict[str, list[Ints]] = {name: [np.empty(0, dtype=TYPES[name])] for name in COLUMNS}
    for part in parts:
        rows = {name: np.frombuffer(raw, dtype=TYPES[name]) for name, raw in part.columns.items()}
        for name, own in (("node", part.nodes), ("error", part.errors)):
            known = names[name]
            numbers = np.array([known.setdefault(n, len(known)) for n in own], dtype=TYPES[name])
            rows[name] = numbers[rows[name]]
        for name, values in rows.items():
            pieces[name].append(values)
        pieces["process"].append(np.full(len(rows["key"]), part.process, dtype=TYPES["process"]))
    columns = {name: np.concatenate(parts) for name, parts in pieces.items()}
    order = np.argsort(columns["completed"], kind="stable")
    ordered: dict[str, Any] = {name: column[order] for name, column in columns.items()}
    return History(**ordered, nodes=tuple(names["node"]), errors=tuple(names["error"]))


def read_back(history: History, keys: Ints, found: Collection[int]) -> History:
    """The history, followed by a read of each key: what was looked for in the end, and whether it was there.

    One further client reads them, one after another, after everything else: with nobody writing any
    more, their order is of no account. So whoever judges the history sees what was lost.
    """
    there = np.isin(keys, np.fromiter(found, dtype=np.int64, count=len(found)))
    begin = int(history.completed.max(initial=0)) + 1
    sent = begin + 2 * np.arange(len(keys), dtype=np.int64)
    rows: dict[str, Any] = {
        "process": int(history.process.max(initial=-1)) + 1,
        "kind": Kind.READ,
        "key": keys,
        "value": np.where(there, keys, NIL),
        "expected": NIL,
        "intended": sent,
        "sent": sent,
        "completed": sent + 1,
        "outcome": Outcome.OK,
        "node": 0,
        "error": 0,
    }
    columns: dict[str, Any] = {
        name: np.concatenate(
            [getattr(history, name), np.broadcast_to(np.asarray(rows[name], dtype=TYPES[name]), len(keys))]
        )
        for name in COLUMNS
    }
    return History(**columns, nodes=history.nodes, errors=history.errors, lists=history.lists)

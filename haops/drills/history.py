"""The record of every client operation of a drill: one row an operation, one array a column.

Times are CLOCK_MONOTONIC in ns, which all processes of one machine share.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from haops.cluster.state import disk_trouble
from haops.errors import BadInput

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Kind(IntEnum):
    """What an operation does."""

    WRITE = 0
    READ = 1


class Outcome(IntEnum):
    """What became of an operation.

    INFO is a time-out or a lost connection: it may have happened, at any later
    time, and is never counted as a loss.  MISS is a read that answered, but
    without a value that had been acknowledged to the same client before.
    """

    OK = 0
    FAIL = 1
    INFO = 2
    MISS = 3


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Columns of equal length, ordered by `completed`.

    Args:
        process: The client that asked.
        kind: A `Kind`.
        key: The unique number that was written, or that was looked for.
        intended: When the schedule wanted the operation sent.
        sent: When the client sent it.
        completed: When its outcome was known.
        outcome: An `Outcome`.
        error: Index into `errors`; 0 is none.
        errors: Names of error classes; the first is empty.
    """

    process: Ints
    kind: Ints
    key: Ints
    intended: Ints
    sent: Ints
    completed: Ints
    outcome: Ints
    error: Ints
    errors: tuple[str, ...] = ("",)

    def __len__(self) -> int:
        return len(self.key)

    def select(self, mask: Mask) -> History:
        """The rows where `mask` is true."""
        columns = {name: getattr(self, name)[mask] for name in COLUMNS}
        return History(**columns, errors=self.errors)

    def of(self, kind: Kind, *outcomes: Outcome) -> History:
        """The operations of a kind, with one of `outcomes` if any are given."""
        mask = self.kind == kind
        if outcomes:
            mask &= np.isin(self.outcome, outcomes)
        return self.select(mask)


COLUMNS: tuple[str, ...] = tuple(f.name for f in fields(History) if f.name != "errors")


class Recorder:
    """Collects one client's rows without allocating an object a row."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._columns = {name: array("q") for name in COLUMNS if name != "process"}
        self._errors = {"": 0}
        # Bound once: an attribute look-up a column a row would show in the harness's lag.
        self._append = [self._columns[name].append for name in COLUMNS if name != "process"]

    def record(
        self,
        kind: Kind,
        key: int,
        intended: int,
        sent: int,
        completed: int,
        outcome: Outcome,
        error: str = "",
    ) -> None:
        """Add one operation; times in ns."""
        number = self._errors.setdefault(error, len(self._errors))
        for append, value in zip(
            self._append, (kind, key, intended, sent, completed, outcome, number), strict=True
        ):
            append(value)

    def export(self) -> RecordedColumns:
        """What crosses the process boundary."""
        columns = {name: column.tobytes() for name, column in self._columns.items()}
        return RecordedColumns(self._process, columns, tuple(self._errors))


@dataclass(frozen=True, slots=True)
class RecordedColumns:
    """One client's rows as bytes of int64."""

    process: int
    columns: dict[str, bytes]
    errors: tuple[str, ...]


def merge(parts: Iterable[RecordedColumns]) -> History:
    """One history from all clients' rows, ordered by completion."""
    known: dict[str, int] = {"": 0}
    pieces: dict[str, list[Ints]] = {name: [] for name in COLUMNS}
    for part in parts:
        numbers = np.array([known.setdefault(e, len(known)) for e in part.errors], dtype=np.int64)
        rows = {name: np.frombuffer(raw, dtype=np.int64) for name, raw in part.columns.items()}
        for name, values in rows.items():
            pieces[name].append(numbers[values] if name == "error" else values)
        pieces["process"].append(np.full(len(rows["key"]), part.process, dtype=np.int64))
    columns = {n: np.concatenate(p) if p else np.empty(0, dtype=np.int64) for n, p in pieces.items()}
    order = np.argsort(columns["completed"], kind="stable")
    return History(**{n: c[order] for n, c in columns.items()}, errors=tuple(known))


def save(history: History, path: Path) -> None:
    """Write a gzipped CSV that any tool opens; kind, outcome and error as words.

    Raises:
        EnvironmentTrouble: The disk is full or not ours.
    """
    kinds = [k.name.lower() for k in Kind]
    outcomes = [o.name.lower() for o in Outcome]
    columns: list[Sequence[Any]] = [getattr(history, name).tolist() for name in COLUMNS]
    try:
        with gzip.open(path, "wt", encoding="utf-8", newline="", compresslevel=3) as file:
            out = csv.writer(file)
            out.writerow(COLUMNS)
            for process, kind, key, intended, sent, completed, outcome, error in zip(*columns, strict=True):
                words = (
                    kinds[kind],
                    key,
                    intended,
                    sent,
                    completed,
                    outcomes[outcome],
                    history.errors[error],
                )
                out.writerow((process, *words))
    except OSError as error:
        raise disk_trouble(path, error) from error


def load(path: Path) -> History:
    """Read what `save` wrote.

    Raises:
        BadInput: The file is cut off or has another shape; says at which line.
    """
    recorders: dict[int, Recorder] = {}
    line = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            if tuple(next(rows, ())) != COLUMNS:
                raise BadInput(f"{path}:1:1: not a history of haops", hint=f"columns: {','.join(COLUMNS)}")
            line = 1
            for row in rows:
                line += 1
                process, kind, key, intended, sent, completed, outcome, error = row
                recorder = recorders.setdefault(int(process), Recorder(int(process)))
                recorder.record(
                    Kind[kind.upper()],
                    int(key),
                    int(intended),
                    int(sent),
                    int(completed),
                    Outcome[outcome.upper()],
                    error,
                )
    except (EOFError, OSError, ValueError, KeyError, OverflowError, zlib.error, csv.Error) as error:
        raise BadInput(
            f"{path}:{max(line, 1)}:1: the history cannot be read on", detail=str(error)
        ) from error
    return merge(recorder.export() for recorder in recorders.values())

"""The set checker: was every acknowledged element found, when, and what became of the doubtful ones?"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np

from haops.history.record import NIL, History, Ints, Kind, Mask, Outcome

_EVIDENCE: Final = 10
_NEVER: Final = np.iinfo(np.int64).max
_BEFORE: Final = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class StaleRead:
    """The last read that did not see an element known to be there, which came back later.

    Args:
        key: The element.
        writer: The process that wrote it; -1 if the history has no write of it.
        reader: The process that missed it.
        node: Who answered the reader; empty if nobody is named.
        sent: When that read was sent, ns.
        acked_at: When the element was first known to be in, ns: its acknowledgement, or the end of
            the first LIST that held it.
    """

    key: int
    writer: int
    reader: int
    node: str
    sent: int
    acked_at: int

    @property
    def stale_ns(self) -> int:
        """How long after it was known to be in it was still missing."""
        return self.sent - self.acked_at


@dataclass(frozen=True, slots=True)
class Elements:
    """What became of a run's unique writes.

    Args:
        acked: Acknowledged writes.
        lost: Acknowledged and not found afterwards, sorted; with LISTs also what one of them held
            and the last ones did not.
        unknown: Writes whose outcome the client could not tell; never counted as lost.
        appeared: Unknown writes that were found.
        resurrected: Writes that had certainly failed and were found or read all the same, sorted.
        duplicated: Keys acknowledged more than once, sorted: the load never repeats a key. With LISTs
            also what one of them held twice.
        missed: Reads that did not see a write acknowledged before to the same client.
        seen: Acknowledged writes that at least one read found.
        stale_reads: Reads that missed an element known before they were sent, and not lost.
        stale_keys: Elements that such reads missed.
        longest_stale_ns: The longest of the times that `StaleRead.stale_ns` gives.
        stale: The longest ones, longest first, one a key.
    """

    acked: int
    lost: tuple[int, ...]
    unknown: int
    appeared: int
    resurrected: tuple[int, ...]
    duplicated: tuple[int, ...]
    missed: int
    seen: int = 0
    stale_reads: int = 0
    stale_keys: int = 0
    longest_stale_ns: int = 0
    stale: tuple[StaleRead, ...] = ()

    @property
    def never_read(self) -> int:
        """Acknowledged writes that no read ever found; says nothing bad by itself."""
        return self.acked - self.seen


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """What is known of every element that was written or listed; columns over sorted `keys`.

    Args:
        keys: The elements.
        since: When each was known to be in, ns; _NEVER if that is not certain.
        writer: The row of its first acknowledgement; -1 if none.
    """

    keys: Ints
    since: Ints
    writer: Ints


@dataclass(frozen=True, slots=True, eq=False)
class _Misses:
    """Reads and LISTs without an element that was known: index into the elements, and the row."""

    element: Ints
    row: Ints


def check_elements(history: History, found: Collection[int] | None = None) -> Elements:
    """Compare a history's writes with the keys that a read-back found, and with its reads.

    WRITE and ADD rows write their `key`; an OK READ found it unless its value is NIL.

    Args:
        found: The keys that are there in the end; None if nobody looked, so that only LISTs can
            tell a loss.
    """
    put = (history.kind == Kind.WRITE) | (history.kind == Kind.ADD)
    acked_rows = np.flatnonzero(put & (history.outcome == Outcome.OK))
    acked, first, counts = np.unique(history.key[acked_rows], return_index=True, return_counts=True)
    unknown = history.key[put & (history.outcome == Outcome.INFO)]
    failed = history.key[put & (history.outcome == Outcome.FAIL)]
    read = _distinct(history.key[_answered(history) & (history.value != NIL)])
    listed, twice = _listed(history)
    known = _known(history, acked, acked_rows[first], listed)
    list_misses, gone = _list_misses(history, known)
    seen = _distinct(read, listed)
    there = seen if found is None else np.fromiter(found, dtype=np.int64, count=len(found))
    # What was found in the end came back, whatever the last LIST said.
    lost = known.keys[gone] if found is None else _without(_distinct(acked, known.keys[gone]), there)
    stale_reads, stale_keys, stale = _stale(history, known, lost, (_read_misses(history, known), list_misses))
    failed = _distinct(failed)
    failed = failed[np.isin(failed, there) | np.isin(failed, seen)]
    return Elements(
        acked=len(acked),
        lost=tuple(lost.tolist()),
        unknown=len(unknown),
        appeared=int(np.isin(unknown, there).sum()),
        resurrected=tuple(_without(failed, _distinct(acked, unknown)).tolist()),
        duplicated=tuple(_distinct(acked[counts > 1], twice).tolist()),
        missed=int((_answered(history) & (history.value == NIL)).sum()),
        seen=int(np.isin(acked, seen).sum()),
        stale_reads=stale_reads,
        stale_keys=stale_keys,
        longest_stale_ns=stale[0].stale_ns if stale else 0,
        stale=stale,
    )


def _distinct(*parts: Ints) -> Ints:
    """All values once, sorted. By sorting: numpy's own `unique` hashes, ten times slower on millions."""
    values = np.sort(np.concatenate(parts))
    first = np.ones(len(values), dtype=np.bool_)
    first[1:] = values[1:] != values[:-1]
    return values[first]


def _without(values: Ints, others: Ints) -> Ints:
    return values[~np.isin(values, others)]


def _answered(history: History) -> Mask:
    answered: Mask = (history.kind == Kind.READ) & (history.outcome == Outcome.OK)
    return answered


def _listings(history: History) -> list[int]:
    """Rows of LISTs that were answered, by when they were sent."""
    rows = np.flatnonzero((history.kind == Kind.LIST) & (history.outcome == Outcome.OK))
    ordered: list[int] = rows[np.argsort(history.sent[rows], kind="stable")].tolist()
    return ordered


def _listed(history: History) -> tuple[Ints, Ints]:
    """Elements that any LIST held, and those that one LIST held twice."""
    held, twice = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for row in _listings(history):
        keys, counts = np.unique(history.lists[history.value[row]], return_counts=True)
        held.append(keys)
        twice.append(keys[counts > 1])
    return _distinct(*held), _distinct(*twice)


def _known(history: History, acked: Ints, acked_rows: Ints, listed: Ints) -> _Known:
    keys = _distinct(acked, listed)
    since, writer = np.full(len(keys), _NEVER), np.full(len(keys), -1)
    places = np.searchsorted(keys, acked)
    writer[places] = acked_rows
    since[places] = history.completed[acked_rows]
    for row in _listings(history):
        places = np.searchsorted(keys, history.lists[history.value[row]])
        since[places] = np.minimum(since[places], history.completed[row])
    return _Known(keys, since, writer)


def _read_misses(history: History, known: _Known) -> _Misses:
    """Reads that found nothing though their key was known before they were sent."""
    rows = np.flatnonzero(_answered(history) & (history.value == NIL))
    if not len(known.keys):
        return _Misses(rows[:0], rows[:0])
    places = np.minimum(np.searchsorted(known.keys, history.key[rows]), len(known.keys) - 1)
    late = (known.keys[places] == history.key[rows]) & (history.sent[rows] > known.since[places])
    return _Misses(places[late], rows[late])


def _list_misses(history: History, known: _Known) -> tuple[_Misses, Mask]:
    """LISTs without an element that was known before they were sent, and which elements stayed away.

    An element is gone if no LIST held it that was sent after one that missed it.
    """
    held_at, missed_at = np.full(len(known.keys), _BEFORE), np.full(len(known.keys), _BEFORE)
    elements, rows = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for row in _listings(history):
        sent = history.sent[row]
        absent = known.since < sent
        places = np.searchsorted(known.keys, history.lists[history.value[row]])
        absent[places] = False
        held_at[places] = sent
        missed_at[absent] = sent
        elements.append(np.flatnonzero(absent))
        rows.append(np.full(len(elements[-1]), row))
    return _Misses(np.concatenate(elements), np.concatenate(rows)), missed_at > held_at


def _stale(
    history: History, known: _Known, lost: Ints, misses: tuple[_Misses, ...]
) -> tuple[int, int, tuple[StaleRead, ...]]:
    """How many reads were stale, of how many elements, and the longest: what is lost is not late."""
    element = np.concatenate([m.element for m in misses])
    row = np.concatenate([m.row for m in misses])
    kept = ~np.isin(known.keys, lost)[element]
    element, row = element[kept], row[kept]
    order = np.lexsort((history.sent[row], element))
    element, row = element[order], row[order]
    last = np.flatnonzero(np.diff(element, append=-1))
    length = history.sent[row[last]] - known.since[element[last]]
    worst = last[np.argsort(-length, kind="stable")[:_EVIDENCE]]
    evidence = tuple(_evidence(history, known, int(element[i]), int(row[i])) for i in worst)
    return len(element), len(last), evidence


def _evidence(history: History, known: _Known, element: int, row: int) -> StaleRead:
    writer = int(known.writer[element])
    return StaleRead(
        key=int(known.keys[element]),
        writer=int(history.process[writer]) if writer >= 0 else -1,
        reader=int(history.process[row]),
        node=history.nodes[history.node[row]],
        sent=int(history.sent[row]),
        acked_at=int(known.since[element]),
    )

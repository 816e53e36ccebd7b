"""What each client may expect of its own session, on histories of keys written once.

Read your writes, monotonic reads and monotonic writes (Terry et al., "Session
Guarantees for Weakly Consistent Replicated Data", 1994). A key is written once, so
"missing" needs no versions: a read found it, or found nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from haops.history.record import NIL, History, Ints, Kind, Outcome

_EVIDENCE: Final = 10
_BEFORE: Final = np.iinfo(np.int64).min


class Guarantee(StrEnum):
    """What a session promises."""

    READ_YOUR_WRITES = "read your writes"
    MONOTONIC_READS = "monotonic reads"
    MONOTONIC_WRITES = "monotonic writes"


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One breach of a guarantee.

    Args:
        guarantee: What was breached.
        process: Whose session it was; of MONOTONIC_WRITES the writer.
        key: What was missing.
        known_at: When that session had it: end of the write or of the read that found it, ns.
        known_node: Who acknowledged or showed it; empty if nobody is named.
        missed_at: When the read was sent that missed it, ns; -1 for the read-back at the end.
        missed_node: Who answered that; empty if nobody is named.
        later_key: MONOTONIC_WRITES: the later write, which was seen; otherwise `key`.
    """

    guarantee: Guarantee
    process: int
    key: int
    known_at: int
    known_node: str
    missed_at: int
    missed_node: str
    later_key: int


@dataclass(frozen=True, slots=True)
class Sessions:
    """Breaches of the session guarantees.

    Args:
        read_your_writes: Reads that missed a write acknowledged to the same client before.
        monotonic_reads: Reads that missed a key that the same client had read before.
        monotonic_writes: Acknowledged writes that were missing where a later one of the same client
            was seen: in the read-back, or by one reader, the later write first.
        evidence: The first ten of each, by time.
    """

    read_your_writes: int
    monotonic_reads: int
    monotonic_writes: int
    evidence: tuple[Anomaly, ...]

    @property
    def kept(self) -> bool:
        """Whether every session kept what it promised."""
        return not (self.read_your_writes or self.monotonic_reads or self.monotonic_writes)


def check_sessions(history: History, found: Collection[int] | None = None) -> Sessions:
    """Look for reads that took back what their own session had been told.

    WRITE and ADD rows write their `key`; an OK READ found it unless its value is NIL.

    Args:
        found: The keys that a read-back found in the end; None if nobody looked.
    """
    ok = history.outcome == Outcome.OK
    wrote = np.flatnonzero(ok & ((history.kind == Kind.WRITE) | (history.kind == Kind.ADD)))
    read = ok & (history.kind == Kind.READ)
    hit = np.flatnonzero(read & (history.value != NIL))
    missed = np.flatnonzero(read & (history.value == NIL))
    own = _broken(history, wrote, missed)
    back = _broken(history, hit, missed)
    writes = _overtaken(history, wrote, hit, missed, found)
    evidence = (
        *_anomalies(history, Guarantee.READ_YOUR_WRITES, own),
        *_anomalies(history, Guarantee.MONOTONIC_READS, back),
        *_anomalies(history, Guarantee.MONOTONIC_WRITES, writes),
    )
    return Sessions(len(own), len(back), len(np.unique(writes[:, 0])), evidence)


def _broken(history: History, known: Ints, missed: Ints) -> Ints:
    """Pairs (row that knew a key, later row of the same client that missed it), by the miss's time.

    A miss is paired with the client's first knowledge of the key.
    """
    if not len(known) or not len(missed):
        return np.empty((0, 3), dtype=np.int64)
    key, process = history.key, history.process
    # One number a key and client, so that one sorted look-up finds the pair.
    _, codes = np.unique(np.concatenate([key[known], key[missed]]), return_inverse=True)
    width = int(process.max()) + 1
    pair = codes.astype(np.int64) * width + np.concatenate([process[known], process[missed]])
    # Rows come by completion, so the first of equals is the first knowledge.
    owned, first = np.unique(pair[: len(known)], return_index=True)
    asked = pair[len(known) :]
    places = np.minimum(np.searchsorted(owned, asked), len(owned) - 1)
    knew = known[first[places]]
    late = (owned[places] == asked) & (history.sent[missed] > history.completed[knew])
    pairs = np.stack([knew[late], missed[late], knew[late]], axis=1)
    return pairs[np.argsort(history.sent[pairs[:, 1]], kind="stable")]


def _overtaken(history: History, wrote: Ints, hit: Ints, missed: Ints, found: Collection[int] | None) -> Ints:
    """Triples (the earlier write's row, the row that missed it or -1, the later write's row)."""
    parts = [_overtaken_by_readers(history, wrote, hit, missed)]
    if found is not None and len(wrote):
        there = np.isin(history.key[wrote], np.fromiter(found, dtype=np.int64, count=len(found)))
        order = np.lexsort((history.completed[wrote], history.process[wrote]))
        rows, there = wrote[order], there[order]
        process = history.process[rows]
        # The last write of each client that is there; what it wrote before that and is not, is overtaken.
        last = np.full(int(process.max()) + 1, -1)
        last[process[there]] = np.flatnonzero(there)
        place = last[process]
        lost = ~there & (np.arange(len(rows)) < place)
        parts.append(np.stack([rows[lost], np.full(int(lost.sum()), -1), rows[place[lost]]], axis=1))
    return np.concatenate(parts)


def _overtaken_by_readers(history: History, wrote: Ints, hit: Ints, missed: Ints) -> Ints:
    """What a reader missed after it had seen a later write of the same writer."""
    nothing = np.empty((0, 3), dtype=np.int64)
    if not len(wrote):
        return nothing
    keys, first = np.unique(history.key[wrote], return_index=True)
    writes = wrote[first]
    hit, hit_write = _match(history, hit, keys, writes)
    missed, missed_write = _match(history, missed, keys, writes)
    if not len(hit) or not len(missed):
        return nothing
    events = np.concatenate([hit, missed])
    write = np.concatenate([hit_write, missed_write])
    is_hit = np.repeat([True, False], [len(hit), len(missed)])
    # A hit counts from its completion, a miss from when it was sent; at one moment the miss is first.
    at = np.where(is_hit, history.completed[events], history.sent[events])
    reader, writer = history.process[events], history.process[write]
    order = np.lexsort((is_hit, at, writer, reader))
    group = np.flatnonzero(np.diff(reader[order], prepend=-1) | np.diff(writer[order], prepend=-1))
    newest = _newest_so_far(history.sent[write][order], is_hit[order], group)
    seen = np.where(newest >= 0, write[order][newest], -1)
    mine = write[order]
    # The later write was sent after the earlier one was acknowledged: that is their order.
    broken = ~is_hit[order] & (newest >= 0) & (history.sent[seen] > history.completed[mine])
    return np.stack([mine[broken], events[order][broken], seen[broken]], axis=1)


def _match(history: History, rows: Ints, keys: Ints, writes: Ints) -> tuple[Ints, Ints]:
    """Those reads whose key has an acknowledged write, and its row."""
    places = np.minimum(np.searchsorted(keys, history.key[rows]), len(keys) - 1)
    known = keys[places] == history.key[rows]
    return rows[known], writes[places[known]]


def _newest_so_far(sent: Ints, is_hit: Ints, group: Ints) -> Ints:
    """For each event the place of the hit with the latest write up to it in its group; -1 if none.

    The running maximum is taken over ranks that rise with the group, so that one
    pass over all groups cannot carry a maximum from one into the next.
    """
    count = len(sent)
    rank = np.empty(count, dtype=np.int64)
    rank[np.lexsort((np.arange(count), sent))] = np.arange(count)
    number = np.zeros(count, dtype=np.int64)
    number[group] = 1
    number = np.cumsum(number)
    scored = np.where(is_hit, rank + 1, 0) + number * (count + 1)
    best = np.maximum.accumulate(scored) - number * (count + 1)
    place = np.full(count + 1, -1, dtype=np.int64)
    place[rank + 1] = np.arange(count)
    return place[best]


def _anomalies(history: History, guarantee: Guarantee, triples: Ints) -> list[Anomaly]:
    return [
        Anomaly(
            guarantee=guarantee,
            process=int(history.process[knew]),
            key=int(history.key[knew]),
            known_at=int(history.completed[knew]),
            known_node=history.nodes[history.node[knew]],
            missed_at=int(history.sent[missed]) if missed >= 0 else -1,
            missed_node=history.nodes[history.node[missed]] if missed >= 0 else "",
            later_key=int(history.key[later]),
        )
        for knew, missed, later in triples[:_EVIDENCE].tolist()
    ]

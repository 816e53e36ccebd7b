"""Formulas of what copying a write costs while nothing is broken."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from haops.cluster.spec import StoreName
from haops.drills.result import Spread
from haops.faults.catalogue import FaultKind
from haops.matrix.cells import Cell, CellKey
from haops.matrix.prediction import (
    Better,
    Evidence,
    Formula,
    Missing,
    Part,
    Prediction,
    Unit,
    better,
    known,
    ratio,
)
from haops.matrix.summary import lost, stale

_NO_PRIMARY: Final = "it has no primary: whichever node is asked sends a write to all copies at once"
_NEVER_ALONE: Final = (
    "no write is acknowledged before a majority has it, so one copy's own time cannot be seen"
)

# The mode that waits for one copy alone, of the stores that have it.
_ALONE: Final = {StoreName.REDIS: "async", StoreName.CASSANDRA: "one"}
# Whose visible_ms is the time until another copy shows the write.
_FOLLOWED: Final = {
    StoreName.REDIS: "async",
    StoreName.ZOOKEEPER: "quorum",
    StoreName.CASSANDRA: "one",
}
# How many of n copies a write waits for, the first one included.
_WAITS: Final[Mapping[StoreName, Mapping[str, Callable[[int], int]]]] = {
    StoreName.REDIS: {"wait-1": lambda _: 2, "wait-all": lambda n: n},
    StoreName.ZOOKEEPER: {},
    StoreName.CASSANDRA: {"quorum": lambda n: n // 2 + 1, "all": lambda n: n},
}


def kth_of(spread: Spread, k: int, n: int) -> float:
    """Expected k-th shortest of n independent times that are spread like `spread`, ms.

    A shifted exponential through the lowest and the median: low + mean excess x (H(n) - H(n - k)),
    by Renyi, Acta Mathematica Hungarica 4, 1953, pages 191-231.
    """
    excess = (spread.median - spread.low) / math.log(2)
    return spread.low + excess * sum(1 / i for i in range(n - k + 1, n + 1))


def _primary_replica(formula: Formula, evidence: Evidence, store: StoreName) -> list[Prediction]:
    if store is not StoreName.REDIS:
        raise Missing(_NO_PRIMARY if store is StoreName.CASSANDRA else _NEVER_ALONE)
    alone = evidence.parts(store, "async")
    single = known(alone.single_write_ms, "a single write of async").median
    trip = known(alone.round_trip_ms, "a round trip to the primary").median
    seen = known(alone.visible_ms, "visibility at a replica").median
    whole = known(evidence.parts(store, "wait-1").single_write_ms, "a single write of wait-1").median
    return [
        Prediction(
            formula.text,
            formula.meaning,
            store,
            "wait-1",
            None,
            (
                Part("T_p", single, Unit.MS, "single write of async"),
                Part("T_s", seen, Unit.MS, "visible at a replica, async"),
            ),
            "single write of wait-1",
            Unit.MS,
            single + seen,
            whole,
            ratio(single + seen, whole),
            "The replica confirms a write once it has received it; T_s also holds the wait for the reader's next "
            "poll, and leaves out the confirmation's way back.",
            better(
                "T_p + T_rt",
                single + trip,
                whole,
                "WAIT adds one confirmation, about as long as one round trip to a server.",
            ),
        )
    ]


def _synchronous(formula: Formula, evidence: Evidence, store: StoreName) -> list[Prediction]:
    if store not in _ALONE:
        raise Missing(_NEVER_ALONE)
    measured = {cell.key.mode for cell in evidence.cells(store, FaultKind.NONE)}
    found = [_waiting(formula, evidence, store, mode) for mode in _WAITS[store] if mode in measured]
    if not found:
        raise Missing("no mode that waits for several copies was measured on an idle cluster")
    return found


def _waiting(formula: Formula, evidence: Evidence, store: StoreName, mode: str) -> Prediction:
    """One mode that waits for several copies."""
    parts = evidence.parts(store, _ALONE[store])
    single = known(parts.single_write_ms, f"a single write of {_ALONE[store]}").median
    trip = known(parts.round_trip_ms, "a round trip")
    copies = evidence.copies(store, mode)
    needed = _WAITS[store][mode](copies)
    whole = known(evidence.parts(store, mode).single_write_ms, f"a single write of {mode}").median
    others, slowest = copies - 1, needed - 1
    if not 0 < slowest <= others:
        raise Missing(f"{mode} waits for {needed} of {copies} copies, which is nothing to predict")
    closer = better(
        f"T_w + {slowest} of {others} round trips",
        single + kth_of(trip, slowest, others),
        whole,
        f"Waits for {slowest} of {others} other copies: an order statistic of round trips, taken from a "
        "client's, as servers' own were not measured.",
    )
    return Prediction(
        formula.text,
        formula.meaning,
        store,
        mode,
        None,
        (
            Part("n", needed, Unit.COUNT, f"copies that {mode} waits for, of {copies}"),
            Part("T_w", single, Unit.MS, f"single write of {_ALONE[store]}"),
        ),
        f"single write of {mode}",
        Unit.MS,
        needed * single,
        whole,
        ratio(needed * single, whole),
        "Copies are written at the same time, not one after another, so the slowest that is waited for counts, "
        "not the sum.",
        closer,
    )


def _asynchronous(formula: Formula, evidence: Evidence, store: StoreName) -> list[Prediction]:
    mode = _FOLLOWED[store]
    parts, copies = evidence.parts(store, mode), evidence.copies(store, mode)
    single = known(parts.single_write_ms, f"a single write of {mode}").median
    seen = known(parts.visible_ms, f"visibility in {mode}").median
    whole = single + seen
    return [
        Prediction(
            formula.text,
            formula.meaning,
            store,
            mode,
            None,
            (
                Part("n", copies, Unit.COUNT, "copies"),
                Part("T_w", single, Unit.MS, f"single write of {mode}"),
                Part("T_d", seen, Unit.MS, f"visible to another client, {mode}"),
            ),
            f"single write of {mode}, then visible to another client",
            Unit.MS,
            copies * single + seen,
            whole,
            ratio(copies * single + seen, whole),
            "The writer waits once, and the copies are made meanwhile and after: n does not belong to T_w.",
            better(
                "T_w + T_d",
                single + seen,
                whole,
                "One acknowledgement, then the delay: this holds by definition.",
            ),
        )
    ]


@dataclass(frozen=True, slots=True)
class _Odds:
    """Chance that a read at the moment of the acknowledgement misses it, and from what."""

    value: float
    copies: int
    trip_ms: float
    delay_ms: float


def beyond(delay: Spread, wait_ms: float) -> float:
    """Chance that a delay is longer than `wait_ms`: a shifted exponential through its lowest and its median."""
    if wait_ms <= delay.low:
        return 1.0
    if delay.median <= delay.low:
        return 0.0
    return math.exp2(-(wait_ms - delay.low) / (delay.median - delay.low))


def _odds(evidence: Evidence, store: StoreName, mode: str) -> _Odds:
    parts = evidence.parts(store, mode)
    delay = known(parts.visible_ms, f"visibility in {mode}")
    trip = known(parts.round_trip_ms, "a round trip").median
    copies = evidence.copies(store, mode)
    return _Odds((1 - 1 / copies) * beyond(delay, trip), copies, trip, delay.median)


def _pbs(evidence: Evidence, cell: Cell, fresh: float) -> Better | None:
    """For reads and writes at ONE of Cassandra; the chance is that of the worst moment."""
    if cell.key != CellKey(StoreName.CASSANDRA, "one", FaultKind.NONE):
        return None
    try:
        odds = _odds(evidence, cell.key.store, "one")
    except Missing:
        return None
    return better(
        "1 - (1 - 1/N) x P(delay > round trip)",
        1 - odds.value,
        fresh,
        f"The simplified form of Bailis et al., Probabilistically Bounded Staleness, VLDB 2012 (N {odds.copies}, "
        f"delay {odds.delay_ms:.2g} ms, round trip {odds.trip_ms:.2g} ms): for a read at the very moment of the "
        "acknowledgement and with no node down; the load reads later too, so it should miss less.",
    )


def _consistency(formula: Formula, evidence: Evidence, store: StoreName) -> list[Prediction]:
    cells = [cell for cell in evidence.cells(store) if stale(cell).whole]
    if not cells:
        raise Missing("no read of elements was answered")
    # Cassandra's `one` undisturbed has a prediction of its own to be held against.
    pbs = [c for c in cells if c.key == CellKey(StoreName.CASSANDRA, "one", FaultKind.NONE)]
    worst = max(cells, key=lambda cell: stale(cell).value or 0.0)
    found = []
    for cell in (*pbs, *(() if worst in pbs else (worst,))):
        share = stale(cell)
        missed, fresh = share.value or 0.0, (share.whole - share.some) / share.whole
        found.append(
            Prediction(
                formula.text,
                formula.meaning,
                store,
                cell.key.mode,
                cell.key.fault,
                (Part("P_e", missed, Unit.SHARE, f"{share.some:,} of {share.whole:,} reads were stale"),),
                "share of fresh reads",
                Unit.SHARE,
                1 - missed,
                fresh,
                ratio(1 - missed, fresh),
                "It holds by definition and predicts nothing: P_e has to be measured, or itself predicted.",
                _pbs(evidence, cell, fresh),
            )
        )
    return found


def _recovery(formula: Formula, evidence: Evidence, store: StoreName) -> list[Prediction]:
    cells = [cell for cell in evidence.cells(store) if lost(cell).whole]
    if not cells:
        raise Missing("no write of elements was acknowledged")
    worst = max(cells, key=lambda cell: lost(cell).value or 0.0)
    share = lost(worst)
    gone, kept = share.value or 0.0, (share.whole - share.some) / share.whole
    return [
        Prediction(
            formula.text,
            formula.meaning,
            store,
            worst.key.mode,
            worst.key.fault,
            (
                Part(
                    "P_l",
                    gone,
                    Unit.SHARE,
                    f"{share.some:,} of {share.whole:,} acknowledged writes were lost",
                ),
            ),
            "share of acknowledged writes found",
            Unit.SHARE,
            1 - gone,
            kept,
            ratio(1 - gone, kept),
            "It holds by definition; and P_l is no property of a store alone: it depends on the load, the fault "
            "and the moment, so it bounds nothing beyond these trials.",
        )
    ]


FORMULAS: Final = (
    Formula(
        "T = T_p + T_s",
        "Primary and replica: T_p is the primary's own write, T_s the time until the replica has it.",
        _primary_replica,
    ),
    Formula("T = n x T_w", "Synchronous: n copies, each written in T_w.", _synchronous),
    Formula(
        "T = n x T_w + T_d",
        "Asynchronous: n copies, each written in T_w, and T_d the delay until a copy shows it.",
        _asynchronous,
    ),
    Formula("P_c = 1 - P_e", "Consistency: P_e is the share of reads that missed a write.", _consistency),
    Formula("P_r = 1 - P_l", "Recovery: P_l is the share of acknowledged writes that were lost.", _recovery),
)

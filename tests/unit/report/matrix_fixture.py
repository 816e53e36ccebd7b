"""A matrix that looks like a real one, invented without a cluster."""

from __future__ import annotations

import functools
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from haops.cluster.spec import StoreName
from haops.drills.result import Latency, Spread
from haops.faults.catalogue import FaultKind
from haops.matrix.cells import (
    MATRIX_VERSION,
    Cell,
    CellKey,
    CellTrial,
    Consistency,
    Matrix,
    Parts,
    Recovery,
    WindowOperation,
)
from haops.stores.mode import Replication

NASTY = '<script>alert("1")</script> & <img src=x onerror=alert(1)> \x1b[31mred\x00'
BEGAN = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
SYNC, ASYNC = Replication.SYNCHRONOUS, Replication.ASYNCHRONOUS
R, Z, C = StoreName.REDIS, StoreName.ZOOKEEPER, StoreName.CASSANDRA

# Mode, kind, single write ms, visible ms, stale reads of 1,000 undisturbed, promise.
MODES = {
    R: (
        ("async", ASYNC, 0.42, 0.31, 0, "what the primary acknowledged is there as long as the primary is"),
        ("wait-1", SYNC, 0.78, 0.02, 0, "an acknowledged write is in the memory of two servers"),
        ("wait-all", SYNC, 0.93, 0.0, 0, "an acknowledged write is in the memory of every copy"),
        ("async-replica-reads", ASYNC, 0.43, 0.31, 9, "reads spread over the replicas"),
    ),
    Z: (
        ("quorum", SYNC, 3.1, 0.6, 4, "what a majority logged is never lost"),
        ("quorum-sync", SYNC, 3.2, 0.0, 0, "a read sees what was committed when its sync reached the leader"),
        ("observers", ASYNC, 3.3, 1.4, 12, "reads spread over servers that writes do not wait for"),
    ),
    C: (
        ("one", ASYNC, 1.2, 0.9, 7, "one copy has it"),
        ("quorum", SYNC, 1.7, 0.0, 0, "two of three copies have it, and a read asks two"),
        ("all", SYNC, 2.0, 0.0, 0, "every copy has it"),
    ),
}
FASTEST = {R: (940.0, 90.0, 160.0, 45.0), Z: (180.0, 210.0, 35.0, None), C: (None, None, None, None)}
SILENT = {R: (1_270.0, 90.0, 160.0, 45.0), Z: (2_380.0, 240.0, 35.0, None), C: (None, None, None, None)}


def recovery(store: StoreName, fault: FaultKind, rng: random.Random) -> Recovery:
    if fault is FaultKind.NONE:
        return Recovery(rng.uniform(1, 4))
    means = (FASTEST if fault is FaultKind.KILL else SILENT)[store]
    parts = [None if mean is None else mean * rng.uniform(0.85, 1.2) for mean in means]
    reconnect = rng.uniform(60, 420)
    told = sum(part or 0.0 for part in parts)
    return Recovery(told + reconnect, *parts, reconnect)


def latency(single: float, rng: random.Random) -> Latency:
    p50 = single * rng.uniform(1.15, 1.4)
    return Latency(1_500, p50, p50 * rng.uniform(3, 5), p50 * rng.uniform(8, 16))


def operation(
    process: int, words: str, node: str, sent_ms: float, completed_ms: float, outcome: str = "ok"
) -> WindowOperation:
    return WindowOperation(process, words, node, sent_ms, completed_ms, outcome)


def window(store: StoreName, number: int) -> tuple[WindowOperation, ...]:
    """A stale read; a new value that was seen and gone again; and a crowd, too many to draw, by `number`."""
    one, two, three = (f"{store}-{i}" for i in (1, 2, 3))
    stale = (
        operation(3, "wrote 10000079003", one, 0.0, 0.4),
        operation(1, "read 10000079003", two, 21.3, 58.8),
        operation(2, "read 10000026006", three, 59.1, 59.2),
    )
    gone = (
        operation(4, "wrote 10000031004", one, 0.0, 3.1),
        operation(1, "read 10000031004", two, 2.2, 2.9),
        operation(1, "read 10000031004", two, 3.0, 3.1),
        operation(2, "replaced 10000031004 by 10000031005", one, 3.3, 9.8),
        operation(5, "read 10000031004", three, 10.1, 10.9),
        operation(6, "may have written 10000031007", three, 1.4, 5_001.4, "info"),
    )
    crowd = tuple(
        operation(1 + i % 5, f"{('read', 'wrote')[i % 2]} {i}", (one, two)[i % 2], i * 2.5, i * 2.5 + 4.5)
        for i in range(14)
    )
    return (stale, gone, crowd)[(number - 1) % 3]


def trial(key: CellKey, number: int, single: float, stale_permille: int, rng: random.Random) -> CellTrial:
    broken = key.fault is not FaultKind.NONE
    never = broken and (key.store, key.mode) in {(C, "all"), (R, "wait-all")}
    found = Recovery(None) if never else recovery(key.store, key.fault, rng)
    acked = rng.randint(1_350, 1_450)
    lost = 0
    if key.store is R and broken and key.mode.startswith("async"):
        lost = rng.randint(70, 140) if key.fault is FaultKind.PARTITION else rng.choice((0, 0, 3))
    reads = rng.randint(1_300, 1_400)
    stale = round(reads * stale_permille / 1000 * rng.uniform(0.5, 1.5) * (3 if broken else 1))
    violated = lost > 50 or (stale > 20 and key.store is C)
    return CellTrial(
        number=number,
        node=f"{key.store}-1",
        began=BEGAN + timedelta(minutes=number),
        rate=800.0,
        ops=797.4,
        write=latency(single, rng),
        read=latency(single * 0.6, rng),
        write_recovery=found,
        read_recovery_ms=(found.total_ms or 400.0) * rng.uniform(0.4, 1.0) if broken else None,
        write_outage_ms=found.total_ms,
        read_outage_ms=None,
        all_back_ms=None if never or found.total_ms is None else found.total_ms + rng.uniform(20, 260),
        acked=acked,
        lost=lost,
        lost_why=(
            f"{lost} writes acknowledged by redis-1 until 2.91 s after the fault, discarded when it was made a "
            f"replica of redis-2 at 4.02 s",
        )
        if lost
        else (),
        lost_span_ms=2_910.0 if lost else None,
        unknown=rng.randint(0, 9) if broken else 0,
        reads=reads,
        stale=stale,
        longest_stale_ms=rng.uniform(2, 38) * (40 if broken else 1) if stale else None,
        write_availability=0.0 if never else (rng.uniform(0.71, 0.9) if broken else 1.0),
        read_availability=rng.uniform(0.85, 0.99) if broken else 1.0,
        consistency=Consistency.VIOLATED if violated else Consistency.LINEARIZABLE,
        consistency_why="11 of 16 registers; key 2: no order of the operations explains that process 2 read "
        "10000026006, whatever the register held before"
        if violated
        else "",
        window=window(key.store, number) if violated else (),
        sessions={"read your writes": stale // 3} if stale > 10 else {},
        harness_lag_ms=rng.uniform(0.5, 4.0),
        trouble="the harness was 61 ms late (p99)" if (key.mode, number) == ("quorum", 2) and broken else "",
    )


def parts(single: float, visible: float, bursts: int, rng: random.Random) -> Parts:
    def about(value: float) -> Spread:
        return Spread(value, value * 0.8, value * 3)

    return Parts(
        throughput=tuple(8_000 / single * rng.uniform(0.9, 1.05) / 4 for _ in range(bursts)),
        clients=8,
        round_trip_ms=about(0.22),
        single_write_ms=about(single),
        single_read_ms=about(single * 0.6),
        visible_ms=Spread(visible, 0.0, visible * 6),
        connect_ms=about(14.0),
    )


@functools.cache
def cells(trials: int = 3, seed: int = 5) -> tuple[Cell, ...]:
    rng = random.Random(seed)
    made = []
    for store, modes in MODES.items():
        for mode, kind, single, visible, stale, promise in modes:
            for fault in FaultKind:
                key = CellKey(store, mode, fault)
                rows = tuple(trial(key, i + 1, single, stale, rng) for i in range(trials))
                idle = parts(single, visible, trials, rng) if fault is FaultKind.NONE else None
                made.append(Cell(key, kind, promise, 4 if mode == "observers" else 3, rows, idle))
    return tuple(made)


@functools.cache
def matrix(trials: int = 3, seed: int = 5) -> Matrix:
    filled = cells(trials, seed)
    skipped = [
        replace(c, trials=(), parts=None, skipped="it has one data centre, and the mode needs two")
        for c in (replace(filled[-1], key=CellKey(C, "each-quorum", f)) for f in FaultKind)
    ]
    return Matrix(
        version=MATRIX_VERSION,
        run="matrix-20260304-050607",
        started=BEGAN,
        finished=BEGAN + timedelta(minutes=41, seconds=12),
        haops="1.4.0",
        seed=42,
        asked=trials,
        interrupted=False,
        versions={R: "8.2.1", Z: "3.9.4", C: "5.0.5"},
        cells=(*filled, *skipped),
    )


def hostile() -> Matrix:
    made = matrix(2)
    bad = replace(
        made.cells[1].trials[0], trouble=NASTY, node=NASTY, lost=3, lost_why=(NASTY,), sessions={NASTY: 2},
        consistency=Consistency.VIOLATED, consistency_why=NASTY,
        window=(operation(1, NASTY, NASTY, 0.0, 2.0), operation(2, NASTY * 3, NASTY * 2, 1.0, 1.1, "info")),
    )  # fmt: skip
    worse = replace(
        made.cells[1], key=replace(made.cells[1].key, mode=NASTY), promise=NASTY, trials=(bad, bad),
        over_budget=(NASTY,),
    )  # fmt: skip
    skipped = replace(made.cells[2], key=replace(made.cells[2].key, mode="x"), trials=(), skipped=NASTY)
    return replace(
        made,
        run=NASTY,
        haops=NASTY,
        versions={R: NASTY},
        interrupted=True,
        cells=(worse, skipped, *made.cells),
    )


def bare() -> Matrix:
    """Nothing was run yet."""
    return replace(matrix(1), cells=(), interrupted=True, versions={})

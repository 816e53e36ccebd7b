"""How long the checkers take: registers by search, the set by columns."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from bench_support import tell, timed

import haops
from haops.checkers.elements import Elements, check_elements
from haops.checkers.register import RegisterResult, Verdict, check_register
from haops.history.record import NIL, History, Kind, Outcome, RecordedColumns, Recorder, merge

RECORDED = Path(haops.__file__).parents[2] / "shared" / "histories"
ETCD_S = 20.0
KEYS, OPS, CLIENTS, REGISTERS_S = 100, 1000, 10, 10.0
ROWS, SET_S = 5_000_000, 10.0


def _recorded(path: Path) -> History:
    """A log of Jepsen's; a line is a moment."""
    recorders: dict[int, Recorder] = {}
    pending: dict[int, tuple[Kind, int, int, int]] = {}
    kinds = {":read": Kind.READ, ":write": Kind.WRITE, ":cas": Kind.CAS}
    outcomes = {":ok": Outcome.OK, ":fail": Outcome.FAIL, ":info": Outcome.INFO}
    lines = path.read_text(encoding="utf-8").splitlines()
    ends = [f"x - {p}\t:info\t:none\tnil" for p in range(1000)]
    for now, line in enumerate([*lines, *ends]):
        number, phase, kind, text = line.split(" - ", 1)[1].split("\t")
        process = int(number)
        if phase == ":invoke":
            given = [int(n) for n in text.strip("[]").split() if n != "nil"]
            wanted = given[0] if len(given) == 2 else NIL
            pending[process] = kinds[kind], given[-1] if given else NIL, wanted, now
        elif process in pending:
            what, value, wanted, sent = pending.pop(process)
            if what is Kind.READ and phase == ":ok":
                value = NIL if text == "nil" else int(text)
            recorder = recorders.setdefault(process, Recorder(process))
            recorder.record(what, 1, value, sent, sent, now, outcomes[phase], expected=wanted)
    return merge(r.export() for r in recorders.values())


def _register(rng: random.Random, key: int, values: int) -> list[RecordedColumns]:
    """One register under `CLIENTS` clients that are always at work; 1 % of outcomes are not known."""
    recorders = [Recorder(key * CLIENTS + c) for c in range(CLIENTS)]
    free = [rng.randrange(1000) for _ in range(CLIENTS)]
    slots = []
    for _ in range(OPS):
        client = min(range(CLIENTS), key=free.__getitem__)
        sent = free[client]
        effect = sent + rng.randrange(1, 1000)
        completed = effect + rng.randrange(1, 1000)
        free[client] = completed + 1
        slots.append((effect, sent, completed, client))
    state = NIL
    for number, (_, sent, completed, client) in enumerate(sorted(slots)):
        value = rng.randrange(values) if values else number
        known = rng.random() >= 0.01
        dice, outcome, expected = rng.random(), Outcome.OK if known else Outcome.INFO, NIL
        happens = known or rng.random() < 0.5
        if dice < 0.4:
            kind = Kind.WRITE
        elif dice < 0.6:
            kind = Kind.CAS
            expected = state if rng.random() < 0.5 else rng.randrange(values or OPS)
            if expected != state:
                happens, outcome = False, Outcome.FAIL if known else Outcome.INFO
        else:
            kind, value, happens = Kind.READ, state, False
        recorders[client].record(kind, key, value, sent, sent, completed, outcome, expected=expected)
        state = value if happens else state
    return [r.export() for r in recorders]


def _set() -> tuple[History, set[int]]:
    """As many writes as reads, each of a recent key; 1 % of the reads miss, ten keys are lost."""
    rng = np.random.default_rng(1)
    writes = ROWS // 2
    sent = np.arange(ROWS, dtype=np.int64) * 1000
    kind = np.tile(np.array([Kind.WRITE, Kind.READ], dtype="b"), writes)
    key = np.repeat(np.arange(writes, dtype=np.int64), 2)
    key[1::2] = np.maximum(key[1::2] - rng.integers(0, 5000, writes), 0)
    value = np.where((kind == Kind.READ) & (rng.random(ROWS) < 0.01), NIL, key)
    narrow = np.zeros(ROWS, dtype="h")
    history = History(
        process=np.arange(ROWS, dtype="i") % 8,
        kind=kind,
        key=key,
        value=value,
        expected=np.full(ROWS, NIL),
        intended=sent,
        sent=sent,
        completed=sent + 800,
        outcome=narrow.astype("b"),
        node=narrow,
        error=narrow,
    )
    return history, set(range(writes - 10))


def test_recorded_histories_of_etcd() -> None:
    if not RECORDED.is_dir():
        pytest.skip(f"waits for recorded histories in {RECORDED}")
    histories = [_recorded(p) for p in sorted(RECORDED.glob("*.log"))]
    figures = [timed(lambda: [check_register(h) for h in histories]) for _ in range(3)]
    tell(f"{len(histories)} recorded histories of etcd", figures, "s", f"<= {ETCD_S:.0f}")
    assert max(figures) <= ETCD_S


@pytest.mark.parametrize("values", [0, 5])
def test_a_hundred_registers_under_ten_clients(values: int) -> None:
    rng = random.Random(1)
    history = merge(part for key in range(KEYS) for part in _register(rng, key, values))
    results: list[RegisterResult] = []
    figures = [timed(lambda: results.append(check_register(history))) for _ in range(2)]
    kind = f"{values} values" if values else "unique values"
    tell(f"{KEYS} registers x {OPS:,} operations, {kind}", figures, "s", f"<= {REGISTERS_S:.0f}")
    assert {r.verdict for r in results} == {Verdict.LINEARIZABLE}
    assert max(figures) <= REGISTERS_S


def test_a_set_of_five_million_rows() -> None:
    history, found = _set()
    results: list[Elements] = []
    figures = [timed(lambda: results.append(check_elements(history, found))) for _ in range(3)]
    tell(f"set of {ROWS:,} rows", figures, "s", f"<= {SET_S:.0f}")
    assert len(results[0].lost) == 10
    assert results[0].stale_keys > 1000
    assert max(figures) <= SET_S

"""Simulated stores that break on purpose, and say what of it clients could see."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum, auto

from haops.history.record import NIL, History, Kind, Outcome, Recorder, merge


class Mode(Enum):
    CORRECT = auto()
    LOSING = auto()  # forgets what it acknowledged
    STALE = auto()  # answers reads from the past
    DUPLICATING = auto()  # does once what was asked twice, or twice what was asked once
    REORDERING = auto()  # lets a later thing pass an earlier one


class Book:
    """Rows of all clients."""

    def __init__(self) -> None:
        self._recorders: dict[int, Recorder] = {}

    def add(
        self,
        process: int,
        kind: Kind,
        key: int,
        value: int,
        sent: int,
        completed: int,
        outcome: Outcome = Outcome.OK,
        *,
        expected: int = NIL,
        node: str = "n1",
        error: str = "",
    ) -> None:
        recorder = self._recorders.setdefault(process, Recorder(process))
        recorder.record(
            kind, key, value, sent, sent, completed, outcome, node=node, error=error, expected=expected
        )

    def history(self) -> History:
        return merge(r.export() for r in self._recorders.values())


def timetable(rng: random.Random, clients: int, ops: int) -> list[tuple[int, int, int, int]]:
    """When each operation takes effect, is sent, is answered, and whose it is; by effect."""
    free = [rng.randrange(50) for _ in range(clients)]
    slots = []
    for _ in range(ops):
        client = rng.randrange(clients)
        sent = free[client]
        effect = sent + rng.randrange(1, 60)
        completed = effect + rng.randrange(1, 60)
        free[client] = completed + rng.randrange(1, 20)
        slots.append((effect, sent, completed, client))
    return sorted(slots)


def told(rng: random.Random, unknown: float = 0.1, failed: float = 0.05) -> Outcome:
    dice = rng.random()
    return Outcome.INFO if dice < unknown else Outcome.FAIL if dice < unknown + failed else Outcome.OK


@dataclass
class SetRun:
    """A set's history, what is in it at the end, and what was done to it that can be seen."""

    history: History = field(default_factory=lambda: Book().history())
    found: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    stale: dict[int, int] = field(default_factory=dict)  # key -> when the last such read was sent
    stale_reads: int = 0
    duplicated: set[int] = field(default_factory=set)
    own_missed: int = 0
    taken_back: int = 0
    overtaken: set[int] = field(default_factory=set)
    acked: dict[int, int] = field(default_factory=dict)


class FakeSet:
    """Keys written once; reads ask for one key."""

    def __init__(self, seed: int, mode: Mode) -> None:
        self._rng = random.Random(seed)
        self._mode = mode
        self._book = Book()
        self._applied: dict[int, int] = {}
        self._later: list[tuple[int, int]] = []
        self._writes: dict[int, tuple[int, int, int]] = {}  # acknowledged: client, sent, completed
        self._seen: dict[int, dict[int, int]] = defaultdict(dict)
        self._keys: list[int] = []
        self._run = SetRun()

    def run(self, ops: int = 60, clients: int = 4) -> SetRun:
        rng = self._rng
        for effect, sent, completed, client in timetable(rng, clients, ops):
            for at, key in self._later:
                if at <= effect:
                    self._applied.setdefault(key, at)
            self._later = [(at, key) for at, key in self._later if at > effect]
            if rng.random() < 0.4 or not self._keys:
                self._write(effect, sent, completed, client)
            else:
                self._read(effect, sent, completed, client)
            if self._mode is Mode.LOSING and self._applied and rng.random() < 0.1:
                gone = rng.choice(sorted(self._applied))
                del self._applied[gone]
                self._run.lost.add(gone)
        run = self._run
        run.history, run.found = self._book.history(), set(self._applied)
        run.acked = {key: completed for key, (_, _, completed) in self._writes.items()}
        run.lost &= set(run.acked)
        for key, (client, _, completed) in self._writes.items():
            later = (k for k, (c, sent, _) in self._writes.items() if c == client and sent > completed)
            if key not in run.found and any(k in run.found for k in later):
                run.overtaken.add(key)
        return run

    def _write(self, effect: int, sent: int, completed: int, client: int) -> None:
        key, rng = 1000 + len(self._keys), self._rng
        self._keys.append(key)
        outcome = told(rng)
        self._book.add(client, Kind.WRITE, key, key, sent, completed, outcome)
        if outcome is Outcome.FAIL:
            return
        if outcome is Outcome.INFO:
            if rng.random() < 0.5:
                self._later.append((effect + rng.randrange(500), key))
            return
        self._writes[key] = (client, sent, completed)
        if self._mode is Mode.REORDERING and rng.random() < 0.3:
            self._later.append((effect + rng.randrange(500, 2000), key))
        else:
            self._applied[key] = effect
        if self._mode is Mode.DUPLICATING and rng.random() < 0.2:
            self._book.add(client + 100, Kind.WRITE, key, key, sent, completed + 1)
            self._run.duplicated.add(key)

    def _read(self, effect: int, sent: int, completed: int, client: int) -> None:
        rng, run, seen = self._rng, self._run, self._seen[client]
        key = rng.choice(self._keys)
        if rng.random() < 0.1:
            self._book.add(client, Kind.READ, key, NIL, sent, completed, Outcome.INFO)
            return
        lag = rng.randrange(600) if self._mode is Mode.STALE else 0
        there = key in self._applied and self._applied[key] <= effect - lag
        node = "replica" if lag else "primary"
        self._book.add(client, Kind.READ, key, key if there else NIL, sent, completed, node=node)
        if there:
            seen.setdefault(key, completed)
            return
        run.taken_back += key in seen
        if key not in self._writes or self._writes[key][2] >= sent:
            return
        writer, _, acked = self._writes[key]
        run.stale[key] = max(run.stale.get(key, 0), sent)
        run.stale_reads += 1
        run.own_missed += writer == client
        later = {k for k in seen if k in self._writes and self._writes[k][0] == writer}
        if any(self._writes[k][1] > acked for k in later):
            run.overtaken.add(key)


@dataclass(frozen=True)
class RegisterRun:
    history: History
    visible: bool  # a read found a value that was overwritten before it was sent


def fake_register(seed: int, mode: Mode, ops: int = 60, clients: int = 3, key: int = 1) -> RegisterRun:
    """One register with unique values."""
    rng, book = random.Random(seed), Book()
    state, past = NIL, [NIL]
    wrote: dict[int, tuple[int, int]] = {}
    visible = False
    for value, (_, sent, completed, client) in enumerate(timetable(rng, clients, ops), 1):
        dice, outcome = rng.random(), told(rng)
        if dice < 0.4:
            book.add(client, Kind.WRITE, key, value, sent, completed, outcome)
            happens = outcome is Outcome.OK or (outcome is Outcome.INFO and rng.random() < 0.5)
            if outcome is Outcome.OK:
                wrote[value] = (sent, completed)
            if happens and not (mode is Mode.LOSING and rng.random() < 0.5):
                state = value
                past.append(value)
        elif dice < 0.55:
            expected = state if rng.random() < 0.6 else rng.choice(past)
            known = outcome is not Outcome.INFO
            fits = expected == state
            # A failure with an error did not get as far as comparing.
            broken = known and rng.random() < 0.1
            does = fits and not broken and (known or rng.random() < 0.5)
            said = Outcome.INFO if not known else Outcome.OK if does else Outcome.FAIL
            error = "ReadOnlyError" if broken else ""
            book.add(client, Kind.CAS, key, value, sent, completed, said, expected=expected, error=error)
            if does:
                state = value
                past.append(value)
        else:
            old = mode is Mode.STALE and rng.random() < 0.3
            found = rng.choice(past) if old else state
            answered = outcome is Outcome.OK
            book.add(client, Kind.READ, key, found if answered else NIL, sent, completed, outcome)
            if answered:
                after = 0 if found == NIL else wrote[found][1] if found in wrote else None
                visible |= after is not None and any(s > after and c < sent for s, c in wrote.values())
    return RegisterRun(book.history(), visible)


def fake_counter(seed: int, mode: Mode, ops: int = 40, clients: int = 4) -> tuple[History, bool]:
    """A counter with a read after everything; whether that read is certainly wrong."""
    rng, book = random.Random(seed), Book()
    total, maybe_down, maybe_up, sure = 0, 0, 0, 0
    end = 0
    for _, sent, completed, client in timetable(rng, clients, ops):
        end = max(end, completed)
        if rng.random() < 0.6:
            delta, outcome = rng.choice([-7, -2, 1, 3, 10]), told(rng)
            book.add(client, Kind.ADD, 1, delta, sent, completed, outcome)
            times = 1
            if outcome is Outcome.INFO:
                maybe_down, maybe_up = maybe_down + min(delta, 0), maybe_up + max(delta, 0)
                times = rng.randrange(2)
            elif outcome is Outcome.FAIL:
                times = 0
            else:
                sure += delta
                if rng.random() < 0.1:
                    times = {Mode.LOSING: 0, Mode.DUPLICATING: 2}.get(mode, 1)
            total += times * delta
        else:
            outcome = told(rng)
            book.add(client, Kind.READ, 1, total if outcome is Outcome.OK else NIL, sent, completed, outcome)
    book.add(0, Kind.READ, 1, total, end + 1, end + 2)
    return book.history(), not sure + maybe_down <= total <= sure + maybe_up


@dataclass
class LockRun:
    history: History
    overlaps: int = 0
    tokens: int = 0
    fenced: int = 0


def fake_lock(seed: int, mode: Mode, rounds: int = 12, clients: int = 3, key: int = 7) -> LockRun:
    """A lock passed around, with writes fenced by its tokens."""
    rng, book = random.Random(seed), Book()
    run = LockRun(book.history())
    now, token, last = 0, 0, -1
    accepted: tuple[int, int] | None = None  # the last holder that wrote, and its token
    for _ in range(rounds):
        client = rng.choice([c for c in range(clients) if c != last])
        if rng.random() < 0.2:
            # Nobody knows; the lease runs out before anybody else gets the lock.
            book.add(50 + client, Kind.ACQUIRE, key, NIL, now, now + 3, Outcome.INFO)
            now += 10
        token += rng.randrange(1, 3)
        book.add(client, Kind.ACQUIRE, key, token, now, now + 3)
        now += 5
        if mode is Mode.DUPLICATING and rng.random() < 0.3:
            token += 1
            book.add(90, Kind.ACQUIRE, key, token, now, now + 1)
            book.add(90, Kind.RELEASE, key, NIL, now + 2, now + 3)
            run.overlaps += 1
            book.add(client, Kind.WRITE, key, NIL, now + 4, now + 5)
            now += 6
        if mode is Mode.REORDERING and rng.random() < 0.3:
            book.add(client, Kind.RELEASE, key, NIL, now, now + 1)
            book.add(91, Kind.ACQUIRE, key, token - rng.randrange(2), now + 2, now + 3)
            book.add(91, Kind.RELEASE, key, NIL, now + 4, now + 5)
            run.tokens += 1
            now, last = now + 6, client
            continue
        for _ in range(rng.randrange(3)):
            if mode is Mode.STALE and accepted and accepted[1] < token and rng.random() < 0.4:
                book.add(client, Kind.WRITE, key, token, now, now + 1)
                # The last holder is awake again, and the store takes its old token.
                book.add(92, Kind.WRITE, key, accepted[1], now + 2, now + 3)
                run.fenced += 1
                now += 4
            else:
                book.add(client, Kind.WRITE, key, token, now, now + 2, rng.choice(list(Outcome)))
                now += 3
            accepted = (client, token)
        if rng.random() < 0.8:
            book.add(client, Kind.RELEASE, key, NIL, now, now + 2, told(rng))
        now, last = now + 5, client
    run.history = book.history()
    return run

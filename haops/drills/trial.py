"""One trial: steady load, a fault, recovery, the node's return, the read-back, a verdict."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from haops.checkers.elements import Elements, check_elements
from haops.cluster.spec import Cluster
from haops.control.healthy import await_healthy
from haops.control.lifecycle import Lifecycle
from haops.drills import measure
from haops.drills.load import LoadGenerator, LoadPlan
from haops.drills.playbook import Playbook
from haops.drills.result import Budget, Trial, TrialEvent
from haops.drills.verdict import Figures, judge
from haops.errors import DeadlineExceeded
from haops.faults.catalogue import DESCRIPTIONS, Breaker, FaultKind
from haops.faults.ledger import Ledger
from haops.history.record import History, Kind, Outcome, read_back
from haops.runtime.port import Moment
from haops.stores import load as load_store
from haops.stores.base import FIRST_ELEMENT, EventKind, StoreEvent, Workload

_LISTED_IDS: Final = 1000
_POLL_S: Final = 0.05
_LOG_POLL_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class TrialRun:
    """Everything that one trial needs."""

    haops: Lifecycle
    cluster: Cluster
    workload: Workload
    playbook: Playbook
    budget: Budget
    plan: LoadPlan
    run: str
    number: int
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Marks:
    """The harness's own moments, monotonic ns.

    Args:
        start: Of the load; what came before `steady` was warm-up.
        fault: When the engine was told to break the node: the zero of all figures.
        dead: When the fault had taken effect.
        restarted: When it had been undone.
    """

    start: int
    steady: int
    fault: int
    dead: int
    restarted: int
    rejoined: int | None
    end: int


@dataclass(frozen=True, slots=True)
class Record:
    """A trial with what its figures were made from.

    Args:
        found: The elements that the read-back found.
    """

    trial: Trial
    history: History
    found: frozenset[int]
    marks: Marks

    @property
    def kept(self) -> History:
        """The history as it goes to the disk: with what was looked for afterwards."""
        written = self.history.of(Kind.WRITE).key
        return read_back(self.history, np.unique(written[written >= FIRST_ELEMENT]), self.found)


def run_trial(trial: TrialRun) -> Record:
    """Run it; whatever happens, the broken node is put right at the end."""
    haops, cluster = trial.haops, trial.cluster
    victim = load_store(cluster.store).primary(haops.observe(cluster))
    phases = trial.playbook.phases
    with LoadGenerator(cluster, trial.run, trial.plan) as load:
        start = load.start()
        steady = start + int(phases.warmup.total_seconds() * 1e9)
        time.sleep((steady - time.monotonic_ns()) / 1e9 + phases.steady.total_seconds())
        moment, restarted = _break(trial, victim, load)
        rejoined = _await_rejoin(trial, phases.rejoin_within.total_seconds())
        time.sleep(phases.after.total_seconds())
        end = time.monotonic_ns()
        history = load.finish()
    found = frozenset(trial.workload.read_back(trial.plan.clients))
    marks = Marks(start, steady, moment.sent_ns, moment.seen_ns, restarted, rejoined, end)
    elements = check_elements(history.select(history.key >= FIRST_ELEMENT), found)
    return Record(_figures(trial, victim, history, elements, marks), history, found, marks)


def _break(trial: TrialRun, victim: str, load: LoadGenerator) -> tuple[Moment, int]:
    """The fault and its undo: when it took effect, and when it had been undone."""
    haops, cluster, phases = trial.haops, trial.cluster, trial.playbook.phases
    kind = trial.playbook.fault.kind
    if kind is FaultKind.NONE:
        now = time.monotonic_ns()
        time.sleep(phases.dead.total_seconds())
        return Moment(now, now), time.monotonic_ns()
    breaker = Breaker(haops.runtime, cluster, Ledger(haops.state.cluster_dir(cluster.name)), trial.run)
    trial.say(f"{cluster.name}: {victim}: {DESCRIPTIONS[kind].act}")
    with breaker.broken(kind, victim) as fault:
        _await_writes(load, fault.moment.seen_ns, phases.recover_within.total_seconds())
        _await_detection(trial, fault.moment.sent_ns, phases.detect_within.total_seconds())
        time.sleep(phases.dead.total_seconds())
        restarted = time.monotonic_ns()
        breaker.undo(fault)
    trial.say(f"{cluster.name}: {victim}: {DESCRIPTIONS[kind].undone}")
    return fault.moment, restarted


def _await_writes(load: LoadGenerator, dead_ns: int, deadline_s: float) -> None:
    """Until every client has written after the fault; without success the drill goes on and tells."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if min(load.progress().written) > dead_ns:
            return
        time.sleep(_POLL_S)


def _await_detection(trial: TrialRun, fault_ns: int, deadline_s: float) -> None:
    """Until a server has said that the node is gone; if none does, the result says so."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if any(event.kind is EventKind.DETECTED for event in _told(trial, fault_ns)):
            return
        time.sleep(_LOG_POLL_S)


def _await_rejoin(trial: TrialRun, deadline_s: float) -> int | None:
    try:
        await_healthy(trial.haops, trial.cluster, deadline_s)
    except DeadlineExceeded as error:
        trial.say(str(error))
        return None
    return time.monotonic_ns()


def _figures(trial: TrialRun, victim: str, history: History, elements: Elements, marks: Marks) -> Trial:
    writes = measure.outage(history, Kind.WRITE, marks.fault, marks.dead)
    reads = measure.outage(history, Kind.READ, marks.fault, marks.dead)
    restored = min(measure.all_clients_back_ns(history, marks.dead) or marks.end, marks.end)
    events = _events(trial, victim, marks)
    figures = _judged(trial, history, elements, marks, writes, reads)
    verdict, reasons = judge(figures, trial.budget)
    return Trial(
        number=trial.number,
        node=victim,
        verdict=verdict,
        reasons=reasons,
        write_outage_ms=figures.write_outage_ms,
        read_outage_ms=figures.read_outage_ms,
        write_recovery_ms=writes.recovery_ms if writes else None,
        read_recovery_ms=reads.recovery_ms if reads else None,
        worst_client_outage_ms=measure.worst_client_ms(history, Kind.WRITE, marks.fault, marks.dead),
        detected_ms=_first(events, EventKind.DETECTED, marks),
        promoted_ms=_first(events, EventKind.PROMOTED, marks),
        acked=elements.acked,
        lost=len(elements.lost),
        lost_ids=elements.lost[:_LISTED_IDS],
        unknown=elements.unknown,
        appeared=elements.appeared,
        failed=int((history.outcome == Outcome.FAIL).sum()),
        stale_reads=elements.missed,
        harness_lag_ms=figures.harness_lag_ms,
        offered_ops=figures.offered_ops,
        sent_ops=figures.sent_ops,
        phases=measure.phases(history, marks.start, (marks.steady, marks.fault, restored, marks.end)),
        events=events,
        timeline=measure.timeline(history, marks.start, marks.end),
        errors=measure.error_counts(history),
    )


def _judged(
    trial: TrialRun,
    history: History,
    elements: Elements,
    marks: Marks,
    writes: measure.Outage | None,
    reads: measure.Outage | None,
) -> Figures:
    """What the verdict rests on."""
    before = history.select((history.intended >= marks.steady) & (history.completed < marks.fault))
    return Figures(
        write_outage_ms=writes.gap_ms if writes else None,
        read_outage_ms=reads.gap_ms if reads else None,
        reads=len(history.of(Kind.READ)),
        elements=elements,
        harness_lag_ms=measure.harness_lag_ms(history),
        offered_ops=float(trial.plan.rate),
        sent_ops=measure.rate_between(history, marks.steady, marks.fault),
        done_before=len(before),
        failed_before=int((before.outcome != Outcome.OK).sum()),
        rejoined=marks.rejoined is not None,
    )


def _events(trial: TrialRun, victim: str, marks: Marks) -> tuple[TrialEvent, ...]:
    """The harness's own acts and the servers' words, from the fault on, in order of time."""
    kind, own = trial.playbook.fault.kind, []
    if kind is not FaultKind.NONE:
        words = DESCRIPTIONS[kind]
        own = [
            TrialEvent(_seconds(marks.fault, marks), "fault", victim, "haops", words.act),
            TrialEvent(_seconds(marks.restarted, marks), "restarted", victim, "haops", words.undone),
        ]
    if marks.rejoined is not None:
        whole = f"{trial.cluster.name} is healthy again"
        own.append(TrialEvent(_seconds(marks.rejoined, marks), "rejoined", victim, "haops", whole))
    heard = [
        TrialEvent(_seconds(event.at_ns, marks), event.kind.value, event.node, event.node, event.text)
        for event in _told(trial, marks.fault)
        if event.at_ns <= marks.end and not (event.node == victim and event.kind is EventKind.DETECTED)
    ]
    return tuple(sorted([*own, *heard], key=lambda event: event.at_s))


def _told(trial: TrialRun, fault_ns: int) -> list[StoreEvent]:
    """What servers logged since the fault, with their times on this process's monotonic clock."""
    # Logs carry wall-clock time; one machine's two clocks differ by a constant over a trial.
    offset = time.time_ns() - time.monotonic_ns()
    lines = [
        line
        for node in trial.cluster.nodes
        for line in trial.haops.runtime.logs(trial.cluster, node.name, since_ns=fault_ns + offset)
    ]
    told = load_store(trial.cluster.store).events(lines)
    return [replace(event, at_ns=event.at_ns - offset) for event in told]


def _seconds(moment_ns: int, marks: Marks) -> float:
    return (moment_ns - marks.start) / 1e9


def _first(events: tuple[TrialEvent, ...], kind: EventKind, marks: Marks) -> float | None:
    """From the fault to the first server's word of a kind, in ms."""
    fault_s = _seconds(marks.fault, marks)
    restarted_s = _seconds(marks.restarted, marks)
    times = [e.at_s for e in events if e.kind == kind.value and fault_s <= e.at_s < restarted_s]
    return (min(times) - fault_s) * 1000 if times else None

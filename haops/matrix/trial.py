"""From a trial's record to the matrix's figures; pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import numpy as np

from haops.checkers.elements import Elements, check_elements
from haops.checkers.loss import ClusterEvent, explain, rows_of_lost
from haops.checkers.register import KeyFinding, RegisterResult, check_register
from haops.checkers.sessions import Sessions, check_sessions
from haops.drills import measure
from haops.drills.result import DrillVerdict, Trial, TrialEvent
from haops.drills.trial import Marks, Record
from haops.faults.catalogue import FaultKind
from haops.history.record import History, Kind, Outcome
from haops.matrix.cells import CellTrial, Recovery, WindowOperation
from haops.stores.base import FIRST_ELEMENT, EventKind

_MS: Final = 1e6
_SLICE_NS: Final = 250_000_000
# The registers of one trial are ordered in well under a second where they can be.
_ORDERING_S: Final = 10.0
# The parts of a recovery, in the order in which they come.
_STEPS: Final = (EventKind.DETECTED, EventKind.ELECTED, EventKind.PROMOTED, EventKind.ADVERTISED)


def cell_trial(record: Record, fault: FaultKind, number: int, began: datetime) -> CellTrial:
    """A trial as the matrix shows it."""
    trial, marks, broken = record.trial, record.marks, fault is not FaultKind.NONE
    elements = record.history.select(record.history.key >= FIRST_ELEMENT)
    registers = record.history.select(record.history.key < FIRST_ELEMENT)
    seen = check_elements(elements, record.found)
    lost = rows_of_lost(elements, seen.lost)
    order = check_register(registers, deadline_s=_ORDERING_S)
    back_ns = measure.all_clients_back_ns(record.history, marks.dead)
    return CellTrial(
        number=number,
        node=trial.node,
        began=began,
        rate=trial.offered_ops,
        ops=trial.sent_ops,
        write=trial.phases[0].write,
        read=trial.phases[0].read,
        write_recovery=recovery(trial) if broken else Recovery(None),
        read_recovery_ms=trial.read_recovery_ms if broken else None,
        write_outage_ms=trial.write_outage_ms if broken else None,
        read_outage_ms=trial.read_outage_ms if broken else None,
        all_back_ms=(back_ns - marks.fault) / _MS if broken and back_ns else None,
        acked=seen.acked,
        lost=len(seen.lost),
        lost_why=_lost_why(lost, seen, trial, marks),
        lost_span_ms=float(np.ptp(lost.completed)) / _MS if len(lost) else None,
        unknown=seen.unknown,
        reads=len(elements.of(Kind.READ, Outcome.OK)),
        stale=seen.stale_reads,
        longest_stale_ms=seen.longest_stale_ns / _MS if seen.stale_reads else None,
        write_availability=availability(record.history, Kind.WRITE, marks),
        read_availability=availability(record.history, Kind.READ, marks),
        consistency=order.verdict,
        consistency_why=_why(order),
        window=_window(order),
        sessions=_sessions(check_sessions(elements, record.found)),
        harness_lag_ms=trial.harness_lag_ms,
        trouble="; ".join(trial.reasons) if trial.verdict is DrillVerdict.UNKNOWN else "",
    )


def recovery(trial: Trial) -> Recovery:
    """What the time from the fault to the first write went into, by the servers' own words.

    A word counts from the one before it, so that the parts add up; one that came after the first
    success has no part in it.
    """
    total = trial.write_recovery_ms
    if total is None:
        return Recovery(None)
    fault_s = next((e.at_s for e in trial.events if e.kind == "fault"), 0.0)
    undone_s = next((e.at_s for e in trial.events if e.kind == "restarted"), np.inf)
    parts: dict[EventKind, float] = {}
    before_ms = 0.0
    for step in _STEPS:
        at_ms = _first_ms(trial.events, step, fault_s, undone_s)
        if at_ms is not None and before_ms <= at_ms <= total:
            parts[step] = at_ms - before_ms
            before_ms = at_ms
    return Recovery(
        total_ms=total,
        detect_ms=parts.get(EventKind.DETECTED),
        decide_ms=parts.get(EventKind.ELECTED),
        promote_ms=parts.get(EventKind.PROMOTED),
        advertise_ms=parts.get(EventKind.ADVERTISED),
        reconnect_ms=total - before_ms,
    )


def _first_ms(events: Sequence[TrialEvent], kind: EventKind, from_s: float, to_s: float) -> float | None:
    times = [e.at_s for e in events if e.kind == kind.value and from_s <= e.at_s < to_s]
    return (min(times) - from_s) * 1000 if times else None


def availability(history: History, kind: Kind, marks: Marks) -> float | None:
    """Share of the time from the fault to the end for which a kind of operation worked, 0 to 1.

    Each slice of a quarter of a second counts by the share of operations that ended in it with a
    success, and as nothing where none ended. So an outage counts for as long as it lasts, however
    few operations clients that wait try in it and however many they make up for afterwards, and a
    node that fails its third of the operations counts as a third. None if none was tried at all.
    """
    ended = history.of(kind)
    ended = ended.select((ended.completed >= marks.fault) & (ended.completed < marks.end))
    slices = int((marks.end - marks.fault) // _SLICE_NS)
    if not len(ended) or not slices:
        return None
    place = (ended.completed - marks.fault) // _SLICE_NS
    inside = place < slices
    tried = np.bincount(place[inside], minlength=slices)
    good = np.bincount(place[inside], weights=ended.outcome[inside] == Outcome.OK, minlength=slices)
    return float((good / np.maximum(tried, 1)).mean())


def _lost_why(lost: History, seen: Elements, trial: Trial, marks: Marks) -> tuple[str, ...]:
    """Who had acknowledged what is lost, what had happened by then, and what discarded it."""
    if not seen.lost:
        return ()
    told = [*explain(lost, _milestones(trial, marks), marks.fault)]
    fault_s = (marks.fault - marks.start) / 1e9
    back = next((e for e in trial.events if e.kind == "rejoined" and e.source == trial.node), None)
    promoted = next((e for e in trial.events if e.kind == "promoted" and e.node != trial.node), None)
    if back and promoted:
        told.append(
            f"{trial.node} followed {promoted.node} from {back.at_s - fault_s:.2f} s on, and gave up what only "
            f"it had: {back.text}"
        )
    return tuple(told)


def _milestones(trial: Trial, marks: Marks) -> list[ClusterEvent]:
    """The first event of each kind, told as what had been done to a node."""
    first: dict[str, ClusterEvent] = {}
    for event in trial.events:
        at_ns = round(marks.start + event.at_s * 1e9)
        if event.kind == "fault":
            told = ClusterEvent(at_ns, "broken", event.node, event.text)
        elif event.kind == "detected":
            told = ClusterEvent(at_ns, "missed", trial.node, f"by {event.source}")
        elif event.kind == "promoted" and event.node != trial.node:
            told = ClusterEvent(at_ns, "promoted", event.node, event.text)
        elif event.kind == "restarted":
            told = ClusterEvent(at_ns, "put right", event.node, event.text)
        else:
            continue
        first.setdefault(told.kind, told)
    return list(first.values())


def _shown(order: RegisterResult) -> KeyFinding | None:
    """The finding that stands for all: the violation with the smallest window."""
    worst = [f for f in order.findings if f.verdict is order.verdict]
    return min(worst, key=lambda f: len(f.window), default=None)


def _why(order: RegisterResult) -> str:
    """What cannot be ordered, and in how many registers."""
    shown = _shown(order)
    return f"{len(order.findings)} of {order.keys} registers; {shown.sentence}" if shown else ""


def _window(order: RegisterResult) -> tuple[WindowOperation, ...]:
    shown = _shown(order)
    if shown is None or not shown.window:
        return ()
    begin = min(operation.sent for operation in shown.window)
    return tuple(
        WindowOperation(
            process=operation.process,
            words=operation.act,
            node=operation.node,
            sent_ms=(operation.sent - begin) / _MS,
            completed_ms=(operation.completed - begin) / _MS,
            outcome=operation.outcome.name.lower(),
        )
        for operation in shown.window
    )


def _sessions(found: Sessions) -> dict[str, int]:
    counts = {
        "read your writes": found.read_your_writes,
        "monotonic reads": found.monotonic_reads,
        "monotonic writes": found.monotonic_writes,
    }
    return {name: count for name, count in counts.items() if count}

"""The journal of a cluster: who did what, why, when, and how it ended.

One JSON object a line in `journal.jsonl`, appended and never rewritten. A step
is written down before it acts: what a process that died had begun can be read
off, and `haops heal` finishes or rolls it back.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from haops.cluster.state import disk_trouble
from haops.stores.plan import Operation, Plan, Step

_NAME: Final = "journal.jsonl"
_UNREADABLE: Final = (KeyError, TypeError, ValueError, IndexError, OverflowError)


class Outcome(StrEnum):
    """How an operation ended; RUNNING and CUT_OFF have no end in the journal yet."""

    DONE = "done"
    FAILED = "failed"
    PUT_BACK = "put back"
    MENDED = "mended"
    VETOED = "vetoed"
    RUNNING = "running"
    CUT_OFF = "cut off"


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step as it went (`at`: UTC, ISO-8601; `took_ms` None while it has no end)."""

    step: Step
    at: str
    took_ms: float | None = None
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One operation: its plan, its actor and reason, its steps, its end."""

    id: str
    at: str
    actor: str
    reason: str
    plan: Plan
    steps: tuple[StepRecord, ...] = ()
    outcome: Outcome = Outcome.RUNNING
    note: str = ""
    ended: str | None = None

    @property
    def open(self) -> bool:
        """Whether no end is written down."""
        return self.outcome in (Outcome.RUNNING, Outcome.CUT_OFF)

    @property
    def begun(self) -> tuple[Step, ...]:
        """The steps that were begun, the last of which may have acted or not."""
        return tuple(s.step for s in self.steps)


@dataclass(slots=True)
class Draft:
    """An operation while its lines are read."""

    head: Mapping[str, Any]
    steps: list[StepRecord] = field(default_factory=list)
    end: Mapping[str, Any] | None = None


class Entry:
    """One operation's open entry."""

    def __init__(self, journal: Journal, identity: str) -> None:
        self._journal = journal
        self.id = identity
        self.outcome: Outcome | None = None

    def step(self, step: Step) -> None:
        """Write down that a step begins."""
        self._journal.append({"event": "step", "id": self.id, **_step_line(step)})

    def did(self, took_ms: float, outcome: str) -> None:
        """Write down how the step begun last ended."""
        self._journal.append(
            {"event": "did", "id": self.id, "took_ms": round(took_ms, 2), "outcome": outcome}
        )

    def end(self, outcome: Outcome, note: str) -> None:
        """Close the entry, on disk."""
        self.outcome = outcome
        line = {"event": "end", "id": self.id, "outcome": outcome.value, "note": note}
        self._journal.append(line)
        self._journal.sync()


class Journal:
    """One cluster's journal file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME

    def begin(self, plan: Plan, actor: str, reason: str) -> Entry:
        """Open an entry, on disk before anything acts."""
        identity = f"{datetime.now(UTC):%Y%m%dt%H%M%S}-{uuid.uuid4().hex[:6]}"
        self.append(
            {
                "event": "begin",
                "id": identity,
                "actor": actor,
                "reason": reason,
                "process": os.getpid(),
                "cluster": plan.cluster,
                "operation": plan.operation.value,
                "source": plan.source,
                "target": plan.target,
                "risk": plan.risk,
                "steps": [_step_line(s) for s in plan.steps],
            }
        )
        self.sync()
        return Entry(self, identity)

    def close(self, record: Record, outcome: Outcome, note: str) -> None:
        """Close another process's entry."""
        Entry(self, record.id).end(outcome, note)

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line in one write: a SIGKILL after it cannot lose it, only a crash of the machine can."""
        stamped = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **line}
        data = (json.dumps(stamped, ensure_ascii=False) + "\n").encode()
        with self._open() as fd:
            if self._is_cut():
                data = b"\n" + data  # a full disk left half a line: what follows must not be glued to it
            while data:
                data = data[os.write(fd, data) :]

    def _is_cut(self) -> bool:
        """Whether the last line has no end."""
        with self._path.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"

    def sync(self) -> None:
        """Make the file survive a crash of the machine."""
        with self._open() as fd:
            os.fsync(fd)

    @contextlib.contextmanager
    def _open(self) -> Iterator[int]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                yield fd
            finally:
                os.close(fd)
        except OSError as error:
            raise disk_trouble(self._path, error) from error

    def read(self, *, busy: bool = False) -> tuple[Record, ...]:
        """Every operation, oldest first.

        A line that cannot be read (cut off by a full disk) is passed over.

        Args:
            busy: Whether a process is at work on the cluster: what has no end yet is then
                running, else it was cut off.
        """
        drafts: dict[str, Draft] = {}
        for line in self._lines():
            with contextlib.suppress(*_UNREADABLE):
                _take(drafts, line)
        found = []
        for draft in drafts.values():
            with contextlib.suppress(*_UNREADABLE):
                found.append(_record(draft, unfinished=Outcome.RUNNING if busy else Outcome.CUT_OFF))
        return tuple(found)

    def cut_off(self) -> tuple[Record, ...]:
        """Operations without an end; the caller holds the cluster's lock, or has seen that nobody does."""
        return tuple(r for r in self.read() if r.open)

    def _lines(self) -> Iterator[Mapping[str, Any]]:
        if not self._path.is_file():
            return
        with self._path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                with contextlib.suppress(ValueError, RecursionError):  # whatever stands there
                    document = json.loads(line)
                    if isinstance(document, dict):
                        yield document


def _take(drafts: dict[str, Draft], line: Mapping[str, Any]) -> None:
    match line["event"]:
        case "begin":
            drafts[line["id"]] = Draft(line)
        case "step":
            drafts[line["id"]].steps.append(StepRecord(_step(line), line["at"]))
        case "did":
            steps = drafts[line["id"]].steps
            last = steps[-1]
            steps[-1] = StepRecord(last.step, last.at, float(line["took_ms"]), str(line["outcome"]))
        case "end":
            drafts[line["id"]].end = line


def _record(draft: Draft, unfinished: Outcome) -> Record:
    head, end = draft.head, draft.end
    plan = Plan(
        cluster=head["cluster"],
        operation=Operation(head["operation"]),
        source=head["source"],
        target=head["target"],
        steps=tuple(map(_step, head["steps"])),
        risk=head["risk"],
    )
    return Record(
        id=head["id"],
        at=head["at"],
        actor=head["actor"],
        reason=head["reason"],
        plan=plan,
        steps=tuple(draft.steps),
        outcome=Outcome(end["outcome"]) if end else unfinished,
        note=end["note"] if end else "",
        ended=end["at"] if end else None,
    )


def _step_line(step: Step) -> dict[str, str | None]:
    return {"verb": step.verb, "node": step.node, "text": step.text}


def _step(line: Mapping[str, Any]) -> Step:
    return Step(line["verb"], line["node"], line["text"])


def last_open(records: Sequence[Record]) -> Record | None:
    """The operation that was cut off last, if one was."""
    return next((r for r in reversed(records) if r.open), None)


def unfinished(record: Record) -> str:
    """An operation that was cut off, in a sentence."""
    plan = record.plan
    at = record.steps[-1].step if record.steps else None
    way = (
        f"from {plan.source or '-'} to {plan.target}" if plan.target else f"of {plan.source or plan.cluster}"
    )
    where = f"at its step {at.verb}" if at else "before its first step"
    return f"a {plan.operation} {way} by {record.actor} was cut off {where}"

"""What a history may be judged as, with one shape of verdict for all checkers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import IntEnum, StrEnum
from typing import Any, Final

import numpy as np

from haops.checkers.counter import WrongRead, check_counters
from haops.checkers.elements import Elements, check_elements
from haops.checkers.locks import Overlap, Regression, check_locks
from haops.checkers.register import Verdict, check_register
from haops.history.record import NIL, History, Kind, Outcome

_LISTED: Final = 10


class Model(StrEnum):
    """What the store is held to be."""

    REGISTER = "register"
    SET = "set"
    COUNTER = "counter"
    LOCK = "lock"


class Judged(StrEnum):
    """What a model's checker says of a history."""

    VALID = "valid"
    VIOLATED = "violated"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Args:
        text: A sentence.
        breach: Whether it breaks the model; otherwise it is worth knowing, or why nothing is known.
        evidence: Plain records: operations and moments in ns, None for nothing.
    """

    text: str
    breach: bool
    evidence: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and its reasons.

    Args:
        verdict: VIOLATED if anything is; VALID only if the history has what the model is about.
        operations: How many operations the history has.
        findings: What was found, breaches first.
    """

    verdict: Judged
    operations: int
    findings: tuple[Finding, ...]


def judge(history: History, model: Model, *, deadline_s: float = 60.0) -> Judgement:
    """Hold a history against a model.

    Args:
        deadline_s: For the search that REGISTER needs; the others take a moment.
    """
    verdict, findings = _JUDGES[model](history, deadline_s)
    return Judgement(verdict, len(history), tuple(sorted(findings, key=lambda f: not f.breach)))


_Said = tuple[Judged, list[Finding]]


def _verdict(findings: list[Finding], unknown: str = "") -> _Said:
    """Violated by a breach, else unknown for a reason, else valid."""
    if any(f.breach for f in findings):
        return Judged.VIOLATED, findings
    if unknown:
        return Judged.UNKNOWN, [*findings, Finding(unknown, breach=False)]
    return Judged.VALID, findings


def _register(history: History, deadline_s: float) -> _Said:
    result = check_register(history, deadline_s=deadline_s)
    findings = [
        Finding(f.sentence, f.verdict is Verdict.VIOLATED, tuple(_record(o) for o in f.window))
        for f in result.findings
    ]
    if result.verdict is Verdict.UNKNOWN:
        return Judged.UNKNOWN, findings
    return _verdict(
        findings, "" if result.operations else "there is no write, read or cas that tells anything"
    )


def _set(history: History, _deadline_s: float) -> _Said:
    if len(history.of(Kind.LIST, Outcome.OK)):
        return _verdict(list(_set_findings(history, check_elements(history))), "")
    once, found = _last_reads(history)
    elements = check_elements(once, found) if found is not None else check_elements(once)
    unknown = (
        "" if found is not None else "no read of the whole set was answered, so that a loss cannot be told"
    )
    return _verdict(list(_set_findings(once, elements)), unknown)


def _last_reads(history: History) -> tuple[History, set[int] | None]:
    """The rows of keys that are written once, and which of these were there when last looked for.

    As haops keeps its drills' histories: each element is read once more after everything else. None
    where a written key was not read after the last write: then the end is not known.
    """
    written = history.of(Kind.WRITE)
    keys, times = np.unique(written.key, return_counts=True)
    once = history.select(np.isin(history.key, keys[times == 1]))
    last_ns = int(written.completed.max(initial=0))
    looked = once.of(Kind.READ, Outcome.OK)
    looked = looked.select(looked.sent >= last_ns)
    if not len(looked) or len(np.setdiff1d(keys[times == 1], looked.key)):
        return once, None
    there = {int(key): value != NIL for key, value in zip(looked.key, looked.value, strict=True)}
    return once, {key for key, is_there in there.items() if is_there}


def _set_findings(history: History, elements: Elements) -> Iterator[Finding]:
    if elements.lost:
        yield Finding(f"{len(elements.lost):,} elements are lost: {_listed(elements.lost)}", breach=True)
    if elements.resurrected:
        text = f"{len(elements.resurrected):,} elements are there although adding them had failed"
        yield Finding(f"{text}: {_listed(elements.resurrected)}", breach=True)
    twice = sum(len(np.unique(items)) < len(items) for items in history.lists)
    if twice:
        yield Finding(f"{twice:,} reads of the set held an element twice", breach=True)
    if elements.stale_reads:
        yield Finding(
            f"{elements.stale_reads:,} reads missed {elements.stale_keys:,} elements that were known before, for "
            f"up to {elements.longest_stale_ns / 1e6:,.1f} ms",
            breach=False,
            evidence=tuple(_record(s) for s in elements.stale),
        )


def _counter(history: History, _deadline_s: float) -> _Said:
    result = check_counters(history)
    findings = [
        Finding(_wrong_read(wrong), breach=True, evidence=(_record(wrong),)) for wrong in result.evidence
    ]
    if result.wrong > len(findings):
        more = f"{result.wrong - len(findings):,} more reads are out of their bounds"
        findings.append(Finding(more, breach=True))
    return _verdict(findings, "" if result.reads else "no read was answered")


def _wrong_read(wrong: WrongRead) -> str:
    where = f" at {wrong.node}" if wrong.node else ""
    return (
        f"key {wrong.key}: process {wrong.process} read {wrong.value}{where}, "
        f"where from {wrong.low} to {wrong.high} was possible"
    )


def _lock(history: History, _deadline_s: float) -> _Said:
    result = check_locks(history)
    findings = [Finding(_overlap(o), breach=True, evidence=(_record(o),)) for o in result.overlap_evidence]
    findings += [Finding(_regression(r), breach=True, evidence=(_record(r),)) for r in result.regressions]
    total = result.overlaps + result.tokens + result.fenced
    if total > len(findings):
        findings.append(Finding(f"{total - len(findings):,} more of this kind", breach=True))
    return _verdict(findings, "" if result.acquisitions else "no acquire was granted")


def _overlap(overlap: Overlap) -> str:
    first, second = overlap.first, overlap.second
    lasted = (overlap.until - second.begin) / 1e6
    return (
        f"lock {first.key}: process {second.process} was given it while process {first.process} held it, "
        f"for {lasted:,.1f} ms at least"
    )


def _regression(found: Regression) -> str:
    act = "was given" if found.kind is Kind.ACQUIRE else "could still write with"
    return (
        f"lock {found.key}: process {found.later_process} {act} token {found.later} "
        f"after process {found.earlier_process} had {found.earlier}"
    )


def _listed(keys: tuple[int, ...]) -> str:
    more = f" and {len(keys) - _LISTED:,} more" if len(keys) > _LISTED else ""
    return ", ".join(map(str, keys[:_LISTED])) + more


def _record(found: Any) -> dict[str, Any]:
    """A dataclass of a checker as a plain record."""
    return {f.name: _plain(getattr(found, f.name)) for f in fields(found)}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return _record(value)
    if isinstance(value, IntEnum):
        return value.name.lower()
    return None if isinstance(value, int) and value == NIL else value


_JUDGES: Final[Mapping[Model, Callable[[History, float], _Said]]] = {
    Model.REGISTER: _register,
    Model.SET: _set,
    Model.COUNTER: _counter,
    Model.LOCK: _lock,
}

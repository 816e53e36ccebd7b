"""Carrying plans out: locked, journalled step by step, put back when something goes wrong."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from haops.cluster.spec import Cluster
from haops.control import hooks
from haops.control.journal import Entry, Journal, Outcome, last_open, unfinished
from haops.control.lifecycle import Lifecycle
from haops.errors import Busy, HaopsError, Interrupted
from haops.interrupts import uninterrupted
from haops.stores import load
from haops.stores.plan import Conductor, Intent, Plan, Step, StepFailed, Tools


@dataclass(frozen=True, slots=True)
class StepProgress:
    """A step that begins, or (with an outcome) has ended."""

    step: Step
    outcome: str | None = None
    took_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """Who wants an operation, and what is to happen around it.

    Args:
        actor: Who asks, for the journal.
        reason: Why, for the journal.
        before: A command that may veto.
        after: A command that is told how it went.
        report: Hears of each step.
    """

    actor: str
    reason: str
    before: str | None = None
    after: str | None = None
    report: Callable[[StepProgress], None] = field(default=lambda _: None)


@dataclass(frozen=True, slots=True)
class Done:
    """How an operation went (`took_ms`: from the first step to the last)."""

    plan: Plan
    id: str
    took_ms: float
    warnings: tuple[str, ...] = ()


Opener = Callable[[Plan], AbstractContextManager[Conductor]]


def operator() -> str:
    """The person at the prompt: user@host, as far as the machine tells."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without an entry
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


@dataclass(frozen=True, slots=True)
class Operations:
    """Planned work on standing clusters."""

    lifecycle: Lifecycle

    def journal(self, cluster: Cluster) -> Journal:
        """A cluster's journal."""
        return Journal(self.lifecycle.state.cluster_dir(cluster.name))

    def plan(self, cluster: Cluster, intent: Intent) -> Plan:
        """What would be done; looks at the cluster, changes nothing.

        Raises:
            Busy: An operation was cut off in the middle; it comes first.
            NotPlannable: It cannot be done; says why.
        """
        if not self.lifecycle.state.locked(cluster.name):
            self._refuse_on_unfinished(cluster)
        return self._plan(cluster, intent)

    def _plan(self, cluster: Cluster, intent: Intent) -> Plan:
        return load(cluster.store).control.plan(cluster, self.lifecycle.observe(cluster), intent)

    def carry_out(self, cluster: Cluster, intent: Intent, order: Order) -> Done:
        """Plan on a fresh snapshot and do it.

        Raises:
            Busy: Another process is at work on the cluster, or one was cut off in the middle.
            NotPlannable: It cannot be done; nothing was changed.
            Vetoed: The `before` command said no; nothing was changed.
            StepFailed: A step failed; says what state the cluster is in.
        """
        for command, option in ((order.before, "--before"), (order.after, "--after")):
            if command:
                hooks.words(command, option)
        with self.lifecycle.state.lock(cluster.name, intent.operation):
            self._refuse_on_unfinished(cluster)
            cluster = self.lifecycle.state.get(cluster.name)
            plan = self._plan(cluster, intent)
            if order.before:
                hooks.ask(order.before, facts(plan, order.reason))
            return self.run(cluster, plan, order)

    def _refuse_on_unfinished(self, cluster: Cluster) -> None:
        if record := last_open(self.journal(cluster).cut_off()):
            raise Busy(
                f"{unfinished(record)}", hint=f"finish it, or have it put back: haops heal {cluster.name}"
            )

    def run(self, cluster: Cluster, plan: Plan, order: Order, conductor: Opener | None = None) -> Done:
        """Carry a plan out; the caller holds the cluster's lock.

        Args:
            conductor: Who carries it out, if not one with connections of its own.
        """
        opened = conductor(plan) if conductor else self._conductor(cluster, plan)
        entry = self.journal(cluster).begin(plan, order.actor, order.reason)
        started = time.perf_counter()
        try:
            with opened as acting:
                _steps(plan, acting, entry, order.report)
        except Undone as undone:
            self._tell(plan, order, undone.outcome)
            raise undone.error from undone.__cause__
        except BaseException as error:
            outcome = entry.outcome or Outcome.FAILED
            if entry.outcome is None:
                entry.end(outcome, str(error) or type(error).__name__)
            self._tell(plan, order, outcome)
            raise
        took_ms = (time.perf_counter() - started) * 1000
        entry.end(Outcome.DONE, f"{took_ms:.0f} ms")
        warning = self._tell(plan, order, Outcome.DONE)
        return Done(plan, entry.id, took_ms, (warning,) if warning else ())

    def _conductor(self, cluster: Cluster, plan: Plan) -> AbstractContextManager[Conductor]:
        return load(cluster.store).control.conductor(cluster, self.tools(), plan)

    def _tell(self, plan: Plan, order: Order, outcome: Outcome) -> str | None:
        if not order.after:
            return None
        return hooks.tell(order.after, {**facts(plan, order.reason), "HAOPS_OUTCOME": outcome.value})

    def mend(self, cluster: Cluster) -> tuple[str, ...]:
        """Finish or roll back whatever a dead process left half-done; says what was done.

        Raises:
            Busy: A process is still at work on the cluster.
            StepFailed: The servers do not let themselves be put right; says why.
        """
        with self.lifecycle.state.lock(cluster.name, "heal"):
            journal = self.journal(cluster)
            mended = []
            for record in journal.cut_off():
                control = load(cluster.store).control
                said = control.mend(cluster, self.tools(), record.plan, record.begun)
                journal.close(record, Outcome.MENDED, said)
                mended.append(f"{record.plan.operation} of {record.at}: {said}")
            return tuple(mended)

    def tools(self) -> Tools:
        """What conductors work with."""
        return Tools(
            runtime=self.lifecycle.runtime,
            lay_out=self.lifecycle.lay_out,
            forget_disk=self.lifecycle.runtime.forget_disk,
        )


class Undone(Exception):
    """A plan that failed, and what became of the cluster."""

    def __init__(self, error: BaseException, outcome: Outcome, text: str) -> None:
        super().__init__(text)
        self.error = error
        self.outcome = outcome
        self.text = text


def _steps(plan: Plan, conductor: Conductor, entry: Entry, report: Callable[[StepProgress], None]) -> None:
    done: list[Step] = []
    for step in plan.steps:
        started = time.perf_counter()
        try:
            entry.step(step)
            report(StepProgress(step))  # who hears of it may object
            outcome = conductor.perform(step)
            took_ms = (time.perf_counter() - started) * 1000
            entry.did(took_ms, outcome)
            report(StepProgress(step, outcome, took_ms))
        except BaseException as error:
            # A second Ctrl-C waits until the cluster serves again and the journal says so.
            with uninterrupted():
                undone = _put_back(conductor, done, step, error)
                entry.end(undone.outcome, undone.text)
            raise undone from error
        done.append(step)


def _put_back(conductor: Conductor, done: Sequence[Step], failed: Step, error: BaseException) -> Undone:
    """Undo, whatever the trouble was; an interruption is trouble like any other."""
    words = error.message if isinstance(error, HaopsError) else str(error) or type(error).__name__
    at = f"{failed.verb} {failed.node or ''}".strip()
    try:
        state = conductor.put_back(done, failed)
    except HaopsError as worse:
        text = f"{at}: {words}; could not be put back: {worse.message}"
        return Undone(_final(error, text, "see: haops status, haops heal"), Outcome.FAILED, text)
    text = f"{at}: {words}; {state}"
    return Undone(_final(error, f"{at}: {words}", state), Outcome.PUT_BACK, text)


def _final(error: BaseException, message: str, hint: str) -> BaseException:
    if isinstance(error, KeyboardInterrupt):
        return Interrupted(f"interrupted at {message}", hint=hint)
    if isinstance(error, HaopsError):
        return StepFailed(message, node=error.node, detail=error.detail, hint=hint)
    return error


def facts(plan: Plan, reason: str) -> dict[str, str]:
    """What hooks find in their environment."""
    return {
        "HAOPS_CLUSTER": plan.cluster,
        "HAOPS_OPERATION": plan.operation.value,
        "HAOPS_SOURCE": plan.source or "",
        "HAOPS_TARGET": plan.target or "",
        "HAOPS_REASON": reason,
    }

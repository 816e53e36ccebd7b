"""Automatic failover: watch the primary, be sure that it is gone, act once, say why.

Sentinel stays what clients ask, and acts alone when no guard does: the guard
wins its epoch by the Sentinels' votes, as any Sentinel must, so that the two
can never act for the same one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from haops.cluster.snapshot import Role, Snapshot
from haops.cluster.spec import Cluster
from haops.control.execute import Operations, Order, StepProgress
from haops.control.leadership import Leadership
from haops.control.orders import OrderFile, Orders
from haops.errors import Busy, HaopsError, StateDamaged
from haops.health.beat import Beat, Evidence, Opinion
from haops.health.corroborate import Conclusion, Standing, conclude
from haops.health.heartbeat import Heartbeat
from haops.health.lifeguard import Lifeguard, LifeguardSettings
from haops.stores import load
from haops.stores.plan import MAX_LAG_BYTES, Intent, Operation, Plan, StepFailed
from haops.stores.watch import Watch

_SURVEY_S: Final = 0.5
# While the primary is under suspicion, the next look follows at once.
_SUSPICIOUS_S: Final = 0.003
# And a probe is then only to see whether it is back: what is waited for is the others' word.
_SUSPICIOUS_PATIENCE_S: Final = 0.03
_AFTER_FAILURE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """How a guard watches and when it acts.

    Args:
        interval_s: Time between two probes.
        patience_s: How long a probe waits for its answer.
        refusals: Probes refused in a row that make a suspicion.
        silences: Probes unanswered in a row that make a suspicion.
        max_lag: Bytes that the promoted copy may be behind what the primary was last seen at.
        block_s: After a failover, no further one for so long: a cluster that needs two in a
            minute needs a person (the anti-flap block of orchestrator, there one hour).
    """

    interval_s: float = 0.02
    patience_s: float = 0.15
    refusals: int = 2
    silences: int = 2
    max_lag: int = MAX_LAG_BYTES
    block_s: float = 60.0


class Act(StrEnum):
    """What a guard tells of."""

    LEADS = "leads"
    STANDBY = "standby"
    WATCHES = "watches"
    SUSPECTS = "suspects"
    REASSURED = "reassured"
    PARTITIONED = "partitioned"
    HELD_BACK = "held back"
    FAILOVER = "failover"
    FAILED = "failed"
    DEMOTED = "demoted"


@dataclass(frozen=True, slots=True)
class Word:
    """One thing that a guard tells (`took_ms`: from the first lost probe to the end of the failover)."""

    at: datetime
    act: Act
    text: str
    took_ms: float | None = None


@dataclass(slots=True)
class Memory:
    """What a guard remembers between two looks."""

    snapshot: Snapshot | None = None
    reached: int | None = None
    last_failover: float | None = None
    suspected_since: float | None = None
    said: Act | None = None
    led: bool | None = None
    orders: Orders = field(default_factory=Orders)
    trouble: str | None = None


def blocked(memory: Memory, settings: GuardSettings, moment: datetime, clock_s: float) -> str | None:
    """Why a guard must not act now, whatever it sees; None if it may. Pure."""
    if memory.trouble:
        return memory.trouble
    if order := memory.orders.against(moment):
        return order
    if memory.last_failover is not None and clock_s - memory.last_failover < settings.block_s:
        left = settings.block_s - (clock_s - memory.last_failover)
        return (
            f"anti-flap: the last failover was {clock_s - memory.last_failover:.0f} s ago, {left:.0f} s to go"
        )
    return None


def behind(plan: Plan, snapshot: Snapshot, reached: int | None) -> int:
    """Bytes that the promoted copy lacks of what the primary was last seen at; 0 if not known. Pure."""
    position = next((v.position for v in snapshot.nodes if v.name == plan.target), None)
    return 0 if position is None or reached is None else max(reached - position, 0)


class Guard:
    """The loop around one cluster's primary."""

    def __init__(
        self,
        operations: Operations,
        cluster: Cluster,
        watch: Watch,
        leadership: Leadership,
        settings: GuardSettings,
        say: Callable[[Word], None],
    ) -> None:
        self._operations = operations
        self._cluster = cluster
        self._watch = watch
        self._leadership = leadership
        self._settings = settings
        self._say = say
        self._memory = Memory()
        self._orders = OrderFile(operations.lifecycle.state.cluster_dir(cluster.name))
        self._stop = threading.Event()
        self._detector = self._fresh_detector()

    def _fresh_detector(self) -> Lifeguard:
        plain = Heartbeat(refusals=self._settings.refusals, silences=self._settings.silences)
        return Lifeguard(plain, LifeguardSettings(patience_s=self._settings.patience_s))

    def stop(self) -> None:
        """Let `run` end."""
        self._stop.set()

    def run(self) -> None:
        """Watch until stopped."""
        self._look_around()
        self._start_at_the_named()
        surveyor = threading.Thread(target=self._survey_loop, daemon=True, name="survey")
        surveyor.start()
        self._tell(Act.WATCHES, f"{self._watch.primary} is the primary")
        due = time.monotonic()
        while not self._stop.is_set():
            late = time.monotonic() - due
            if late > 0:
                self._detector.late(time.monotonic_ns(), int(late * 1e9))
            pause = self._turn()
            due = time.monotonic() + pause
            self._stop.wait(pause)
        surveyor.join(timeout=2)

    def _start_at_the_named(self) -> None:
        """A guard that starts while the primary is dead takes the Sentinels' word for who it was."""
        snapshot = self._memory.snapshot
        if snapshot and not snapshot.with_role(Role.PRIMARY):
            named = [v.follows for v in snapshot.with_role(Role.SENTINEL) if v.follows]
            if named:
                self._aim(max(sorted(set(named)), key=named.count))
        self._follow_the_role()

    def _turn(self) -> float:
        """One probe and what follows from it; returns the time until the next."""
        if not self._leads():
            return _SURVEY_S
        self._follow_the_role()
        suspicious = self._memory.suspected_since is not None
        beat = self._watch.probe(_SUSPICIOUS_PATIENCE_S if suspicious else self._settings.patience_s)
        self._detector.feed(beat)
        opinion = self._detector.opinion(time.monotonic_ns())
        if not opinion.suspects:
            self._note(beat)
            return 0.001 if beat.evidence is not Evidence.ANSWERED else self._settings.interval_s
        return self._doubt(opinion)

    def _leads(self) -> bool:
        leads = self._leadership.held()
        if leads is not self._memory.led:
            self._memory.led = leads
            self._tell(Act.LEADS if leads else Act.STANDBY, self._leadership.words)
        return leads

    def _note(self, beat: Beat) -> None:
        memory = self._memory
        if beat.evidence is Evidence.ANSWERED and memory.suspected_since is not None:
            self._tell(Act.REASSURED, f"{self._watch.primary} answers again")
            memory.suspected_since = None
            self._watch.reassured()

    def _doubt(self, opinion: Opinion) -> float:
        """The primary is under suspicion: ask the others."""
        memory = self._memory
        if memory.suspected_since is None:
            memory.suspected_since = time.monotonic()
        conclusion = conclude(opinion, self._watch.witnesses(), majorities=self._watch.majorities)
        if conclusion.state is not Standing.DOWN:
            act = Act.PARTITIONED if conclusion.state is Standing.PARTITIONED else Act.SUSPECTS
            self._tell_once(act, conclusion.why)
            return _SUSPICIOUS_S
        if why := blocked(memory, self._settings, datetime.now(UTC), time.monotonic()):
            self._tell_once(Act.HELD_BACK, f"{why}; {self._watch.primary} is gone: {conclusion.why}")
            return _SURVEY_S
        return self._fail_over(conclusion)

    def _fail_over(self, conclusion: Conclusion) -> float:
        memory, watch = self._memory, self._watch
        since = memory.suspected_since or time.monotonic()
        try:
            with self._operations.lifecycle.state.lock(self._cluster.name, "guard's failover"):
                plan = self._plan(watch.glance())
                order = Order(self._actor, conclusion.why, report=self._still_leads)
                self._operations.run(self._cluster, plan, order, conductor=watch.conductor)
        except HaopsError as error:
            self._tell_once(Act.FAILED, str(error).replace("\n", "; "))
            return _AFTER_FAILURE_S
        took_ms = (time.monotonic() - since) * 1000
        self._tell(Act.FAILOVER, f"{plan.source} → {plan.target}: {conclusion.why}", took_ms)
        memory.last_failover = time.monotonic()
        self._aim(plan.target or watch.primary)
        return self._settings.interval_s

    def _plan(self, snapshot: Snapshot) -> Plan:
        """The failover's plan; the lag gate counts from what the primary was last seen at.

        Raises:
            NotPlannable: No replica may be promoted.
            StepFailed: The fittest one lacks more than allowed.
        """
        intent = Intent(Operation.FAILOVER, max_lag=self._settings.max_lag)
        plan = load(self._cluster.store).control.plan(self._cluster, snapshot, intent)
        lacks = behind(plan, snapshot, self._memory.reached)
        if lacks > self._settings.max_lag:
            raise StepFailed(
                f"{plan.target} lacks {lacks:,} B, allowed is {self._settings.max_lag:,} B",
                hint=f"to accept that loss: haops failover {self._cluster.name} --max-lag ...",
            )
        return plan

    @property
    def _actor(self) -> str:
        return f"guard ({self._leadership.words})"

    def _still_leads(self, progress: StepProgress) -> None:
        """Heard before each step: a guard whose lease runs out stops in time."""
        if progress.outcome is None and not self._leadership.held():
            raise StepFailed("this guard does not lead any more", detail=self._leadership.words)

    def _aim(self, node: str) -> None:
        self._watch.aim(node)
        self._memory.suspected_since = None
        self._memory.reached = None
        self._detector = self._fresh_detector()

    # The survey: a second thread, so that one silent replica does not delay the probes.

    def _survey_loop(self) -> None:
        while not self._stop.wait(_SURVEY_S):
            self._look_around()

    def _look_around(self) -> None:
        memory = self._memory
        try:
            memory.orders, memory.trouble = self._orders.read(), None
        except StateDamaged as error:
            memory.trouble = str(error)  # whether it may act cannot be told: it must not
        try:
            snapshot = self._watch.survey()
        except HaopsError:
            return
        memory.snapshot = snapshot
        if primaries := snapshot.with_role(Role.PRIMARY):
            named = [v for v in primaries if v.name == self._watch.primary]
            memory.reached = (named or list(primaries))[0].position
        self._bring_back(snapshot)

    def _follow_the_role(self) -> None:
        """Somebody else (a Sentinel, an operator) may have moved it."""
        snapshot = self._memory.snapshot
        if snapshot is None:
            return
        primaries = [v.name for v in snapshot.with_role(Role.PRIMARY)]
        if len(primaries) == 1 and primaries[0] != self._watch.primary and self._is_newer(snapshot):
            self._aim(primaries[0])
            self._tell(Act.WATCHES, f"{primaries[0]} is the primary now")

    def _is_newer(self, snapshot: Snapshot) -> bool:
        """Whether the picture was taken after the guard's own last failover."""
        last = self._memory.last_failover
        if last is None:
            return True
        return snapshot.taken > datetime.now(UTC) - timedelta(seconds=time.monotonic() - last)

    def _bring_back(self, snapshot: Snapshot) -> None:
        plan = self._watch.stray(snapshot)
        if plan is None or not self._leadership.held():
            return
        with suppress(Busy):
            try:
                with self._operations.lifecycle.state.lock(self._cluster.name, "guard's demotion"):
                    order = Order(self._actor, f"the Sentinels name {plan.target}")
                    self._operations.run(self._cluster, plan, order)
            except StepFailed as error:
                self._tell_once(Act.FAILED, error.message)
                return
            self._tell(Act.DEMOTED, f"{plan.source} came back as a primary and follows {plan.target} now")

    def _tell(self, act: Act, text: str, took_ms: float | None = None) -> None:
        self._memory.said = act
        self._say(Word(datetime.now(UTC), act, text, took_ms))

    def _tell_once(self, act: Act, text: str) -> None:
        """What stays so is told once: numbers in it change with every look."""
        if self._memory.said is not act:
            self._tell(act, text)

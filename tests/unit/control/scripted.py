"""A store whose steps follow a script: what carrying plans out is tested with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from haops.cluster.snapshot import Snapshot
from haops.cluster.spec import Cluster
from haops.control.execute import Done, Operations, Order
from haops.control.journal import Record
from haops.stores.plan import Conductor, Control, Intent, NotPlannable, Operation, Plan, Step, Tools

STEPS = (
    Step("one", None, "first"),
    Step("two", "redis-1", "second"),
    Step("three", "redis-2", "third"),
)
PLAN = Plan("redis", Operation.SWITCHOVER, "redis-1", "redis-2", STEPS, "nothing is lost")
INTENT = Intent(Operation.SWITCHOVER)


@dataclass
class Script:
    """A store's control that plays a script and writes down what happened, journal and acts alike.

    `raises[verb]` is what a step raises; `worse` what putting back raises.
    """

    log: list[str] = field(default_factory=list)
    raises: dict[str, BaseException] = field(default_factory=dict)
    worse: BaseException | None = None
    opens: BaseException | None = None
    unplannable: NotPlannable | None = None
    put_back_with: list[tuple[tuple[Step, ...], Step]] = field(default_factory=list)
    mends: list[tuple[Plan, tuple[Step, ...]]] = field(default_factory=list)
    mend_raises: BaseException | None = None
    during_put_back: Callable[[], None] = lambda: None

    def planner(self, cluster: Cluster, snapshot: Snapshot, intent: Intent) -> Plan:
        if self.unplannable:
            raise self.unplannable
        return PLAN

    @contextmanager
    def conductor(self, cluster: Cluster, tools: Tools, plan: Plan) -> Iterator[Conductor]:
        if self.opens:
            raise self.opens
        self.log.append("open")
        try:
            yield self
        finally:
            self.log.append("closed")

    def perform(self, step: Step) -> str:
        self.log.append(f"perform {step.verb}")
        if error := self.raises.get(step.verb):
            raise error
        return f"{step.verb} was done"

    def put_back(self, done: Sequence[Step], failed: Step) -> str:
        self.log.append("put back")
        self.put_back_with.append((tuple(done), failed))
        self.during_put_back()
        if self.worse:
            raise self.worse
        return "redis-1 serves as before"

    def mend(self, cluster: Cluster, tools: Tools, plan: Plan, begun: Sequence[Step]) -> str:
        self.log.append("mend")
        if self.mend_raises:
            raise self.mend_raises
        self.mends.append((plan, tuple(begun)))
        return "finished it"

    @property
    def control(self) -> Control:
        return Control({Operation.SWITCHOVER: self.planner}, self.conductor, self.mend)


def order(**about: object) -> Order:
    return Order("ann@host", "a test", **about)  # type: ignore[arg-type]


def last(ops: Operations, cluster: Cluster) -> Record:
    return ops.journal(cluster).read()[-1]


def carry_out(ops: Operations, cluster: Cluster, **about: object) -> Done:
    return ops.carry_out(cluster, INTENT, order(**about))


def leave_cut_off(ops: Operations, cluster: Cluster, steps: int = 1) -> str:
    """What a haops leaves that was killed."""
    entry = ops.journal(cluster).begin(PLAN, "bob@host", "died")
    for step in STEPS[:steps]:
        entry.step(step)
    return entry.id

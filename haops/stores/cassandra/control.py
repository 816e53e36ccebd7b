"""Which Cassandra node an action is aimed at, and what an operator can have done to a ring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from haops.cluster.snapshot import Role, Snapshot
from haops.cluster.spec import Cluster
from haops.stores.base import only
from haops.stores.cassandra import plan as plans
from haops.stores.cassandra.conductor import CassandraConductor
from haops.stores.plan import Conductor, Control, Operation, Plan, Step, Tools
from haops.stores.rebuild import LAY_OUT
from haops.stores.restart import STOP


def primary(snapshot: Snapshot) -> str:
    """A member that coordinates requests: every member that is up does. Raises NoRole."""
    return only(snapshot, Role.MEMBER)


@contextmanager
def conductor(cluster: Cluster, tools: Tools, plan: Plan) -> Iterator[Conductor]:
    """A plan's steps; the session that they need is opened by the first that needs it."""
    with opened(cluster, tools) as acting:
        yield acting


@contextmanager
def opened(cluster: Cluster, tools: Tools) -> Iterator[CassandraConductor]:
    """A conductor, and the end of its session."""
    acting = CassandraConductor(cluster, tools)
    try:
        yield acting
    finally:
        acting.close()


def mend(cluster: Cluster, tools: Tools, plan: Plan, begun: Sequence[Step]) -> str:
    """Finish what cannot be taken back; else bring every node back into service.

    A node whose disk is gone must be built, one that has left must be struck off,
    and a repair that was asked for is repeated: these go on with the step that was
    cut off, as each step does nothing that is done already.
    """
    with opened(cluster, tools) as acting:
        verbs = [s.verb for s in begun]
        struck = plan.source not in {n.name for n in cluster.nodes}
        if plan.operation is Operation.DECOMMISSION and not struck and _may_stay(acting, plan, verbs):
            return acting.make_whole(begun)
        if plan.operation not in _FINISHED or not verbs or verbs[-1] == plans.GIVEN_UP:
            return acting.make_whole(begun) + _left_over(plan, begun)
        left = plan.steps[-1:] if struck else plan.steps[_from(verbs) :]
        return "finished; " + "; ".join(f"{step.text}: {acting.perform(step)}" for step in left)


_FINISHED: Final = (Operation.REPLACE, Operation.REPAIR, Operation.DECOMMISSION)


def _may_stay(acting: CassandraConductor, plan: Plan, verbs: Sequence[str]) -> bool:
    """Whether a node that was to leave has not begun to."""
    return plans.LEAVE not in verbs or not acting.is_leaving(plan.source or "")


def _from(verbs: Sequence[str]) -> int:
    """The step to go on with; a container that died meanwhile is started by laying it out once more."""
    if LAY_OUT in verbs:
        return verbs.index(LAY_OUT)
    return len(verbs) - 1


def _left_over(plan: Plan, begun: Sequence[Step]) -> str:
    stopped = {s.node for s in begun if s.verb == STOP}
    left = [s.node for s in plan.steps if s.verb == STOP and s.node and s.node not in stopped]
    return f"; not restarted: {', '.join(left)}" if left else ""


_NO_PRIMARY: Final = (
    "a ring has no primary; to take a node out of service: haops node drain NAME NODE; "
    "to restart nodes one by one: haops restart NAME; to build a dead one anew: haops node replace NAME NODE"
)

CONTROL = Control(
    plans={
        Operation.RESTART: plans.restart,
        Operation.DRAIN: plans.drain,
        Operation.RESUME: plans.resume,
        Operation.REPLACE: plans.replace,
        Operation.REPAIR: plans.repair,
        Operation.DECOMMISSION: plans.decommission,
    },
    conductor=conductor,
    mend=mend,
    instead={
        Operation.SWITCHOVER: _NO_PRIMARY,
        Operation.FAILOVER: _NO_PRIMARY,
        Operation.RESTORE: "a backup is named: haops restore BACKUP --to NAME",
    },
)

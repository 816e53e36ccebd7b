"""Which ZooKeeper node an action is aimed at; a plan's steps, carried out on the ensemble."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from haops.cluster.snapshot import Role, Snapshot
from haops.cluster.spec import Cluster
from haops.errors import DeadlineExceeded
from haops.runtime.port import ContainerState, Runtime
from haops.stores.base import only
from haops.stores.plan import Conductor, Control, Operation, Plan, Step, StepFailed, Tools
from haops.stores.rebuild import FORGET, LAY_OUT, Rebuilder
from haops.stores.restart import AWAIT, START, STOP, Restarter
from haops.stores.zookeeper import plan as plans
from haops.stores.zookeeper.handover import Superuser
from haops.stores.zookeeper.observe import Reports, ServerReport, gather, majority
from haops.stores.zookeeper.readiness import readiness
from haops.wait import wait_until

# A successor that fails to get its followers gives up after initLimit x tickTime = 10 s; the
# servers then elect.
_LEADS_S: Final = 15.0
# A leader that has handed over stops leading within milliseconds. One that leads after this long did
# not take the order, or was elected again because its successor did not hear of its role in time.
_STEPS_DOWN_S: Final = 3.0
_HAND_OVERS: Final = 3
_POLL_S: Final = 0.02
_SERVING: Final = (Role.LEADER, Role.FOLLOWER)


def primary(snapshot: Snapshot) -> str:
    """The server that leads. Raises NoRole."""
    return only(snapshot, Role.LEADER)


class ZooKeeperConductor:
    """Carries out the steps that move a leader or restart servers."""

    def __init__(self, cluster: Cluster, tools: Tools, plan: Plan) -> None:
        self._cluster = cluster
        self._runtime = runtime = tools.runtime
        self._rebuilder = Rebuilder(cluster, tools)
        self._plan = plan
        self._restarter = Restarter(cluster, runtime, readiness)
        self._superuser: Superuser | None = None
        self._acts: Mapping[str, Callable[[str], str]] = {
            plans.FREEZE: self._freeze,
            plans.HAND_OVER: self._hand_over,
            plans.THAW: self._thaw,
            plans.LEADS: self._leads,
            FORGET: self._forget,
            LAY_OUT: self._rebuilder.lay_out,
            STOP: self._stop,
            START: self._restarter.start,
            AWAIT: lambda _: self._restarter.await_ready(),
        }

    def perform(self, step: Step) -> str:
        """Do one step."""
        return self._acts[step.verb](step.node or "")

    def close(self) -> None:
        """End the sessions that steps opened."""
        if self._superuser:
            self._superuser.close()

    def put_back(self, done: Sequence[Step], failed: Step) -> str:
        """Let every server run that the plan held or stopped; a role that has moved stays moved."""
        if self._plan.operation is Operation.REPLACE:
            return f"the others serve; try again: haops node replace {self._cluster.name} {failed.node}"
        return make_whole(self._cluster, self._runtime, (*done, failed))

    def _session(self) -> Superuser:
        if self._superuser is None:
            leader = next(s.node for s in self._plan.steps if s.verb == plans.HAND_OVER)
            self._superuser = Superuser(self._cluster, self._cluster.node(leader or ""))
        return self._superuser

    def _freeze(self, node: str) -> str:
        # Everything that takes time is done before a server is held.
        self._session().open()
        self._check_spare(node)
        self._runtime.pause(self._cluster, node)
        return "frozen"

    def _hand_over(self, node: str) -> str:
        leaders = _leaders(self._reports())
        if leaders != [node]:
            raise StepFailed(f"{' and '.join(leaders) or 'nobody'} leads, not {node}", node=node)
        return self._session().hand_over()

    def _thaw(self, node: str) -> str:
        self._runtime.unpause(self._cluster, node)
        return "thawed"

    def _leads(self, wanted: str) -> str:
        source = next(s.node for s in self._plan.steps if s.verb == plans.HAND_OVER) or ""
        began = time.monotonic()
        tries = 1
        while (seen := self._await_successor(source)) == [source]:
            if tries == _HAND_OVERS:
                raise StepFailed(f"{source} leads again after {tries} hand-overs", node=source)
            self._hand_over_again(source)
            tries += 1
        if wanted and seen != [wanted]:
            raise StepFailed(f"{seen[0]} leads, not {wanted}", node=wanted)
        often = f" and {tries} hand-overs" if tries > 1 else ""
        return f"{seen[0]} leads, after {(time.monotonic() - began) * 1000:.0f} ms{often}"

    def _await_successor(self, source: str) -> list[str]:
        """Who leads; the source itself if it has not stepped down, or was elected again."""
        stepped_down = time.monotonic() + _STEPS_DOWN_S
        try:
            return wait_until(
                lambda: _leaders(self._reports()),
                lambda seen: len(seen) == 1 and (seen != [source] or time.monotonic() > stepped_down),
                what=f"another leader than {source}",
                deadline_s=_LEADS_S,
                interval_s=_POLL_S,
                describe=lambda leaders: f"{' and '.join(leaders) or 'nobody'} leads",
            )
        except DeadlineExceeded as error:
            raise StepFailed(error.message, node=source, detail=error.detail) from error

    def _hand_over_again(self, source: str) -> None:
        self._restarter.await_ready()
        if _leaders(self._reports()) != [source]:
            return  # it was only slow
        self._session().close()  # the servers have closed it, or the ensemble has forgotten it
        for step in self._plan.steps:
            if step.verb in (plans.FREEZE, plans.HAND_OVER, plans.THAW):
                self.perform(step)

    def _stop(self, node: str) -> str:
        self._check_spare(node)
        return self._restarter.stop(node)

    def _forget(self, node: str) -> str:
        self._check_spare(node)
        return self._rebuilder.forget(node)

    def _check_spare(self, node: str) -> None:
        """The plan's snapshot may be minutes old: a majority must be left without `node` now."""
        serving = [n for n, r in self._reports().items() if _serves(r) and n != node]
        needed = majority(self._cluster)
        if len(serving) < needed:
            raise StepFailed(
                f"without {node} only {', '.join(serving) or 'no server'} would serve, a majority is {needed}",
                node=node,
                hint=f"see: haops status {self._cluster.name}",
            )

    def _reports(self) -> Reports:
        return gather(self._cluster, self._runtime.containers(self._cluster))


def _serves(report: object) -> bool:
    return isinstance(report, ServerReport) and report.role in _SERVING


def _leaders(reports: Reports) -> list[str]:
    return [n for n, r in reports.items() if isinstance(r, ServerReport) and r.role is Role.LEADER]


def make_whole(cluster: Cluster, runtime: Runtime, begun: Sequence[Step]) -> str:
    """Thaw what was frozen and start what was stopped by these steps; says what was done and who leads.

    Raises:
        StepFailed: The ensemble does not become whole.
    """
    touched = {s.node for s in begun if s.verb in (plans.FREEZE, STOP)}
    said = []
    for name, container in runtime.containers(cluster).items():
        if name not in touched:
            continue
        if container.state is ContainerState.PAUSED:
            runtime.unpause(cluster, name)
            said.append(f"thawed {name}")
        elif container.state is not ContainerState.RUNNING:
            runtime.start(cluster, name)
            said.append(f"started {name}")
    said.append(Restarter(cluster, runtime, readiness).await_ready())
    leaders = _leaders(gather(cluster, runtime.containers(cluster)))
    return "; ".join([*said, f"{' and '.join(leaders) or 'nobody'} leads"])


@contextmanager
def conductor(cluster: Cluster, tools: Tools, plan: Plan) -> Iterator[Conductor]:
    """A plan's steps; the superuser's session is opened by the step that needs it."""
    carrier = ZooKeeperConductor(cluster, tools, plan)
    try:
        yield carrier
    finally:
        carrier.close()


def mend(cluster: Cluster, tools: Tools, plan: Plan, begun: Sequence[Step]) -> str:
    """Let every server run that a dead process held or stopped, wait until the ensemble is whole.

    A hand-over is one transaction of the ensemble's: it was done or not, and needs no mending.
    """
    Rebuilder(cluster, tools).go_on(begun)
    said = make_whole(cluster, tools.runtime, begun)
    stopped = {s.node for s in begun if s.verb == STOP}
    left = [s.node for s in plan.steps if s.verb == STOP and s.node and s.node not in stopped]
    return f"{said}; not restarted yet: {', '.join(left)}" if left else said


_ELECTS: Final = "ZooKeeper elects by itself as soon as a majority runs"
_NODE: Final = "a server that was away takes what it missed from the leader by itself"

CONTROL = Control(
    plans={
        Operation.SWITCHOVER: plans.switchover,
        Operation.RESTART: plans.restart,
        Operation.REPLACE: plans.replace,
    },
    conductor=conductor,
    mend=mend,
    instead={
        Operation.FAILOVER: f"{_ELECTS}; to move a leader's role: haops switchover NAME",
        Operation.DRAIN: "a server needs no draining, its clients go to another one; to move the leader's "
        "role away: haops switchover NAME",
        Operation.RESUME: f"{_NODE}; to start it: haops heal NAME",
        Operation.REPAIR: f"{_NODE}; copies differ by what is on its way, never for good",
        Operation.RESTORE: "a backup is named: haops restore BACKUP --to NAME",
        Operation.DECOMMISSION: "an ensemble keeps the servers that it was made with; another size: "
        "haops down NAME, then haops up zookeeper --nodes N",
    },
)

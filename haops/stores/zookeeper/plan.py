"""Which steps move a ZooKeeper leader or restart an ensemble, decided from a snapshot; pure.

ZooKeeper has no command that moves the leader's role. Stopping the leader makes
the others elect one, which costs its clients a closed connection, an election
(200 ms at least: FastLeaderElection.finalizeWait) and a server that is away. The
better way is a reconfiguration: a leader whose own quorum address changes commits
that as its last act and names the follower that acknowledged most as its successor
(Leader.getDesignatedLeader). All servers keep running and keep their votes, and
nobody has to elect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from haops.cluster.snapshot import NodeState, NodeView, Role, Snapshot
from haops.cluster.spec import Cluster
from haops.stores import rebuild
from haops.stores.plan import Candidate, Intent, NotPlannable, Operation, Plan, Step, lacking
from haops.stores.restart import AWAIT, START, STOP

FREEZE: Final = "freeze"
HAND_OVER: Final = "hand-over"
THAW: Final = "thaw"
LEADS: Final = "leads"

# What a leader keeps in memory for followers that lag (zookeeper.commitLogCount): beyond it a
# follower needs a snapshot, and is not in sync by any reading.
MAX_BEHIND: Final = 500
# The successor is whoever acknowledged most. One follower held, one free: that is the free one.
_AIMABLE: Final = 3

_MOVE_RISK: Final = (
    "nothing acknowledged is lost; no write is acknowledged for 0.1 to 1 s while the role moves "
    "(longer with very much data: the new leader first writes a snapshot), and every client reconnects"
)
_RESTART_RISK: Final = (
    "nothing acknowledged is lost; only clients of the server that restarts have to reconnect"
)


def switchover(cluster: Cluster, snapshot: Snapshot, intent: Intent) -> Plan:
    """Have the leader hand its role to a follower.

    Raises:
        NotPlannable: Not one leader, no candidate, or no server to spare.
    """
    source = _one_leader(snapshot)
    if intent.node == source.name:
        raise NotPlannable(f"{source.name} leads already", hint=f"see: haops status {cluster.name}")
    _spare(cluster, snapshot, source.name)
    candidates = judge_candidates(snapshot, intent, source.name)
    target = _choose(snapshot, candidates, intent.node)
    return Plan(
        cluster=cluster.name,
        operation=Operation.SWITCHOVER,
        source=source.name,
        target=target,
        steps=_move(snapshot, source.name, target),
        risk=_MOVE_RISK,
        candidates=candidates,
    )


def _move(snapshot: Snapshot, source: str, target: str | None) -> tuple[Step, ...]:
    """The role's way; to a certain follower only while the other is held."""
    held = [v.name for v in _voters(snapshot) if target and v.name not in (source, target)]
    return (
        *(Step(FREEZE, name, f"freeze {name}, so that only {target} can succeed") for name in held),
        Step(HAND_OVER, source, f"have {source} name its successor (by a change of its quorum port)"),
        *(Step(THAW, name, f"thaw {name}") for name in held),
        Step(LEADS, target, f"wait until {target or 'the successor'} leads"),
        Step(AWAIT, None, "wait until all follow and are in sync"),
    )


def restart(cluster: Cluster, snapshot: Snapshot, intent: Intent) -> Plan:
    """Restart followers one by one, then the leader, which has handed its role over before.

    Raises:
        NotPlannable: Not one leader, a server is down, or none can be spared.
    """
    leader = _one_leader(snapshot)
    wanted = [intent.node] if intent.node else [n.name for n in cluster.servers]
    steps: list[Step] = []
    for name in sorted(wanted, key=lambda n: (n == leader.name, cluster.node(n).index)):
        _spare(cluster, snapshot, name, alone=intent.node is not None)
        if name == leader.name:
            candidates = judge_candidates(snapshot, Intent(Operation.SWITCHOVER), name)
            steps += _move(snapshot, name, _choose(snapshot, candidates, None))
        steps += [
            Step(STOP, name, f"stop {name}"),
            Step(START, name, f"start {name}"),
            Step(AWAIT, name, f"wait until {name} is in sync"),
        ]
    moves = leader.name in wanted
    return Plan(
        cluster=cluster.name,
        operation=Operation.RESTART,
        source=intent.node,
        target=None,
        steps=tuple(steps),
        risk=f"{_MOVE_RISK}; else only clients of the server that restarts have to reconnect"
        if moves
        else _RESTART_RISK,
    )


def replace(cluster: Cluster, snapshot: Snapshot, intent: Intent) -> Plan:
    """Build a follower that lost its disk anew; it takes a snapshot from the leader.

    A server that forgot what it had acknowledged may not be counted on in an election: all
    others must be up, so that what it forgot is with one that would win.

    Raises:
        NotPlannable: It leads, another server is not up, or none is there to copy from.
    """
    name = intent.node or ""
    if not name:
        raise NotPlannable("replace needs a node", hint=f"see: haops status {cluster.name}")
    rebuild.check_copies(cluster, snapshot)
    leader = _one_leader(snapshot)
    if leader.name == name:
        raise NotPlannable(
            f"{name} leads: its disk is the one to copy from",
            hint=f"move its role first: haops switchover {cluster.name}",
        )
    _spare(cluster, snapshot, name, alone=True)
    return Plan(
        cluster=cluster.name,
        operation=Operation.REPLACE,
        source=name,
        target=None,
        steps=rebuild.steps(name, f"wait until {name} has a snapshot from {leader.name} and is in sync"),
        risk=f"{rebuild.waste(snapshot, name)}the disk of {name} is removed for good; what was acknowledged is "
        "with the others. Until it is in sync one more failure may cost the majority",
    )


def judge_candidates(snapshot: Snapshot, intent: Intent, leader: str) -> tuple[Candidate, ...]:
    """Every server but the leader, with the reason against it if there is one."""
    voters = len(_voters(snapshot))
    return tuple(
        Candidate(v.name, _against(v, intent, voters), v.lag) for v in snapshot.nodes if v.name != leader
    )


def _against(view: NodeView, intent: Intent, voters: int) -> str | None:
    if view.state is not NodeState.UP:
        return f"it is {view.state}" + (f": {view.why}" if view.why else "")
    if view.role is Role.OBSERVER:
        return "it is an observer: it has no vote and cannot lead"
    if view.role is not Role.FOLLOWER:
        return f"it does not follow the leader: its role is {view.role}"
    if intent.zone and view.zone != intent.zone:
        return f"it stands in zone {view.zone or '-'}, not in {intent.zone}"
    behind = view.lag.zxid if view.lag else None
    if behind is None:
        return "not in sync: its last transaction is of an earlier epoch"
    if behind > MAX_BEHIND:
        return f"not in sync: {behind:,} transactions behind, allowed are {MAX_BEHIND}"
    if view.name == intent.node and voters > _AIMABLE:
        return f"with {voters} voting servers the leader chooses its successor itself: leave --to out"
    return None


def _choose(snapshot: Snapshot, candidates: Sequence[Candidate], wanted: str | None) -> str | None:
    """Whom to aim at; None where each follower that could be named is welcome.

    Raises:
        NotPlannable: Nobody may lead, the wanted one may not, or another one cannot be kept from it.
    """
    fit = [c.node for c in candidates if not c.rejected and wanted in (None, c.node)]
    if not fit:
        raise lacking(candidates, wanted)
    if wanted:
        return wanted
    voters = {v.name for v in _voters(snapshot)}
    unwelcome = [c.node for c in candidates if c.rejected and c.node in voters]
    if not unwelcome:
        return None
    if len(voters) > _AIMABLE:
        raise lacking(candidates, f"with {len(voters)} voting servers the successor")
    return fit[0]


def _voters(snapshot: Snapshot) -> tuple[NodeView, ...]:
    return tuple(v for v in snapshot.nodes if v.role is not Role.OBSERVER)


def _one_leader(snapshot: Snapshot) -> NodeView:
    leaders = snapshot.with_role(Role.LEADER)
    if len(leaders) == 1:
        return leaders[0]
    if leaders:
        raise NotPlannable(f"{' and '.join(v.name for v in leaders)} all say that they lead")
    raise NotPlannable(
        f"no server of {snapshot.name} leads",
        detail="; ".join(snapshot.reasons) or None,
        hint=f"start what is stopped; the servers then elect by themselves: haops heal {snapshot.name}",
    )


def _spare(cluster: Cluster, snapshot: Snapshot, name: str, *, alone: bool = False) -> None:
    """Nobody may be down, and a majority must be left when `name` is away.

    Args:
        alone: Only `name` is worked on, so it may be down itself.

    Raises:
        NotPlannable: Names who is missing.
    """
    down = [v for v in snapshot.nodes if v.state is not NodeState.UP and not (alone and v.name == name)]
    voters = _voters(snapshot)
    left = [v for v in voters if v.state is NodeState.UP and v.name != name]
    needed = len(voters) // 2 + 1
    if len(left) < needed:
        why = "; ".join(f"{v.name} is {v.state}" for v in down if v.name != name) or None
        raise NotPlannable(
            f"without {name} only {len(left)} of {len(voters)} servers would be left, a majority is {needed}",
            detail=why,
            hint=f"start the others first: haops heal {cluster.name}"
            if why
            else "an ensemble that can spare a server has three or more: haops up zookeeper --nodes 3",
        )
    if down:
        raise NotPlannable(
            f"{', '.join(v.name for v in down)} {'is' if len(down) == 1 else 'are'} not up",
            hint=f"make the ensemble whole first: haops heal {cluster.name}",
        )

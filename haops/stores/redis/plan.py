"""Which steps move a Redis primary, decided from a snapshot; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from haops.cluster.snapshot import NodeState, NodeView, Role, Snapshot
from haops.cluster.spec import Cluster
from haops.stores import rebuild
from haops.stores.plan import Candidate, Intent, NotPlannable, Operation, Plan, Step, lacking
from haops.stores.restart import AWAIT, START, STOP

EPOCH: Final = "take-epoch"
CHAIN: Final = "chain"
FENCE: Final = "fence"
PAUSE: Final = "pause"
CATCH_UP: Final = "catch-up"
PROMOTE: Final = "promote"
FOLLOW: Final = "follow"
ADVERTISE: Final = "advertise"
DEMOTE: Final = "demote"
SETTLE: Final = "settle"
REJOIN: Final = "rejoin"

_ALIVE: Final = (NodeState.UP, NodeState.SYNCING)


def switchover(cluster: Cluster, snapshot: Snapshot, intent: Intent) -> Plan:
    """Move the primary's role while writes are held.

    The other replicas follow the candidate before writes are paused: the promoted
    node so has replicas from its first moment, and the old primary has none left
    at that moment. With `min-replicas-to-write` 1 it then refuses writes by itself,
    whatever becomes of haops and of the pause.

    Raises:
        NotPlannable: No primary, no majority of Sentinels, or no candidate.
    """
    source = _one_primary(snapshot)
    _voters(cluster, snapshot)
    candidates = judge_candidates(snapshot, intent, source=source.name)
    target = _choose(snapshot, candidates, intent.node)
    others = [v.name for v in _replicas(snapshot) if v.name not in (source.name, target)]
    return Plan(
        cluster=cluster.name,
        operation=Operation.SWITCHOVER,
        source=source.name,
        target=target,
        steps=(*_move(source.name, target, others),),
        risk="nothing acknowledged is lost; writes stand still for some 30 ms, and the connections of "
        f"clients to {source.name} are closed so that they ask a Sentinel anew",
        candidates=candidates,
    )


def _move(source: str, target: str, others: Sequence[str]) -> list[Step]:
    return [
        Step(EPOCH, None, "win a new epoch by the Sentinels' votes"),
        *(Step(CHAIN, other, f"let {other} follow {target}") for other in others),
        Step(FENCE, source, f"make {source} refuse writes once it has no replica"),
        Step(PAUSE, source, f"pause writes on {source}"),
        Step(CATCH_UP, target, f"wait until {target} has every byte of {source}"),
        Step(PROMOTE, target, f"promote {target}"),
        Step(ADVERTISE, None, f"tell the Sentinels that {target} is the primary"),
        Step(DEMOTE, source, f"let {source} follow {target} and release its clients"),
        Step(SETTLE, None, "wait until copies and Sentinels agree, and keep it in the servers' files"),
    ]


def failover(cluster: Cluster, snapshot: Snapshot, intent: Intent) -> Plan:
    """Promote the fittest replica of a primary that is gone.

    Raises:
        NotPlannable: The primary is there, no majority of Sentinels is, or no candidate.
    """
    if primaries := snapshot.with_role(Role.PRIMARY):
        raise NotPlannable(
            f"{primaries[0].name} answers as the primary",
            hint=f"to move its role without loss: haops switchover {cluster.name}",
        )
    _voters(cluster, snapshot)
    source = lost_primary(cluster, snapshot)
    candidates = judge_candidates(snapshot, intent, source=source)
    target = _choose(snapshot, candidates, intent.node)
    others = [v.name for v in _replicas(snapshot) if v.name not in (source, target)]
    return Plan(
        cluster=cluster.name,
        operation=Operation.FAILOVER,
        source=source,
        target=target,
        steps=(
            Step(EPOCH, None, "win a new epoch by the Sentinels' votes"),
            Step(PROMOTE, target, f"promote {target}"),
            *(Step(FOLLOW, other, f"let {other} follow {target}") for other in others),
            Step(ADVERTISE, None, f"tell the Sentinels that {target} is the primary"),
            Step(SETTLE, None, "wait until copies and Sentinels agree, and keep it in the servers' files"),
        ),
        risk=f"what {source or 'the old primary'} acknowledged and no replica received is lost; "
        f"{target} comes first by priority, then by how far its copy has got",
        candidates=candidates,
    )


def demotion(cluster: Cluster, stray: str, primary: str) -> Plan:
    """An old primary came back and takes itself for one: it must follow before clients find it."""
    return Plan(
        cluster=cluster.name,
        operation=Operation.DEMOTE,
        source=stray,
        target=primary,
        steps=(Step(REJOIN, stray, f"let {stray} follow {primary}"),),
        risk=f"what {stray} took while it was cut off is lost; with a fence it took nothing",
    )


def restart(cluster: Cluster, snapshot: Snapshot, intent: Intent) -> Plan:
    """Restart replicas, then Sentinels, then move the primary's role away and restart it as a replica.

    Raises:
        NotPlannable: Something is down already, or a lone primary is to be restarted.
    """
    down = [v.name for v in snapshot.nodes if v.state is not NodeState.UP]
    wanted = [intent.node] if intent.node else [n.name for n in cluster.nodes]
    if trouble := [name for name in down if name not in wanted or intent.node is None]:
        raise NotPlannable(
            f"{', '.join(trouble)} is not up: a restart of another node would cost service",
            hint=f"see: haops status {cluster.name}",
        )
    source = _one_primary(snapshot)
    steps: list[Step] = []
    for name in sorted(wanted, key=lambda n: (n == source.name, n)):
        if name == source.name:
            moved = switchover(cluster, snapshot, Intent(Operation.SWITCHOVER))
            steps += moved.steps
        steps += [
            Step(STOP, name, f"stop {name}"),
            Step(START, name, f"start {name}"),
            Step(AWAIT, name, f"wait until {name} has caught up and all agree"),
        ]
    moves = any(s.verb == PROMOTE for s in steps)
    return Plan(
        cluster=cluster.name,
        operation=Operation.RESTART,
        source=source.name if moves else intent.node,
        target=next((s.node for s in steps if s.verb == PROMOTE), None),
        steps=tuple(steps),
        risk="nothing acknowledged is lost"
        + ("; writes stand still for some 30 ms while the primary's role moves" if moves else ""),
    )


def replace(cluster: Cluster, snapshot: Snapshot, intent: Intent) -> Plan:
    """Build a replica that lost its disk anew; it copies everything from the primary.

    Raises:
        NotPlannable: It is the primary, a Sentinel, or there is no primary, or no copy, to copy from.
    """
    name = intent.node or ""
    if name not in {n.name for n in cluster.servers}:
        raise NotPlannable(
            f"{name or 'nothing'} has no copy of the data",
            hint=f"could be: {', '.join(n.name for n in cluster.servers)}",
        )
    rebuild.check_copies(cluster, snapshot)
    source = _one_primary(snapshot)
    if source.name == name:
        raise NotPlannable(
            f"{name} is the primary: its disk is the one to copy from",
            hint=f"move its role first: haops switchover {cluster.name}",
        )
    _voters(cluster, snapshot)
    return Plan(
        cluster=cluster.name,
        operation=Operation.REPLACE,
        source=name,
        target=None,
        steps=rebuild.steps(name, f"wait until {name} has copied everything from {source.name}"),
        risk=f"{rebuild.waste(snapshot, name)}the disk of {name} is removed for good; {source.name} has every "
        "byte of it. Until the copy is whole there is one replica less",
    )


def _one_primary(snapshot: Snapshot) -> NodeView:
    primaries = snapshot.with_role(Role.PRIMARY)
    if len(primaries) == 1:
        return primaries[0]
    if primaries:
        names = " and ".join(p.name for p in primaries)
        raise NotPlannable(
            f"{names} all say that they are the primary", hint="the Sentinels turn one back within 20 s"
        )
    raise NotPlannable(
        f"{snapshot.name} has no primary that answers",
        hint=f"promote a replica: haops failover {snapshot.name}",
    )


def _voters(cluster: Cluster, snapshot: Snapshot) -> None:
    """A majority of the Sentinels must be there to vote."""
    voters = snapshot.with_role(Role.SENTINEL)
    if len(voters) < majority(cluster):
        raise NotPlannable(
            f"{len(voters)} of {len(cluster.sentinels)} Sentinels answer: no majority can vote for a new epoch",
            hint=f"start the others first: haops heal {cluster.name}",
        )


def majority(cluster: Cluster) -> int:
    """Sentinels whose votes win an epoch."""
    return len(cluster.sentinels) // 2 + 1


def _replicas(snapshot: Snapshot) -> tuple[NodeView, ...]:
    return snapshot.with_role(Role.REPLICA)


def lost_primary(cluster: Cluster, snapshot: Snapshot) -> str | None:
    """Whom most Sentinels take for the primary, else whom most replicas follow."""
    for role in (Role.SENTINEL, Role.REPLICA):
        named = [v.follows for v in snapshot.with_role(role) if v.follows]
        if named:
            return max(sorted(set(named)), key=named.count)
    return None


def judge_candidates(snapshot: Snapshot, intent: Intent, source: str | None) -> tuple[Candidate, ...]:
    """Every server but the primary, with the reason against it if there is one."""
    servers = [v for v in snapshot.nodes if v.role is not Role.SENTINEL and v.name != source]
    return tuple(Candidate(v.name, _against(v, intent, source), v.lag) for v in servers)


def _against(view: NodeView, intent: Intent, source: str | None) -> str | None:
    if view.state not in _ALIVE:
        return f"it is {view.state}" + (f": {view.why}" if view.why else "")
    if view.priority == 0:
        return "its priority is 0: never to be promoted"
    if intent.zone and view.zone != intent.zone:
        return f"it stands in zone {view.zone or '-'}, not in {intent.zone}"
    if source and view.follows != source:
        return f"it follows {view.follows or 'a stranger'}, not {source}"
    if intent.operation is not Operation.FAILOVER and view.state is NodeState.SYNCING:
        return f"it has not caught up: {view.why or 'syncing'}"
    behind = view.lag.bytes if view.lag else None
    if behind is None or behind > intent.max_lag:
        known = "unknown" if behind is None else f"{behind:,} B"
        return f"its lag is {known}, allowed is {intent.max_lag:,} B"
    return None


def _choose(snapshot: Snapshot, candidates: Sequence[Candidate], wanted: str | None) -> str:
    """The wanted node, or the fittest: priority, then position, as Sentinel chooses (sentinel.c)."""
    if wanted is not None and all(c.node != wanted for c in candidates):
        raise NotPlannable(
            f"{wanted} cannot be promoted: it is "
            + ("a Sentinel" if wanted.startswith("sentinel") else "the primary already"),
            hint=f"could be: {', '.join(c.node for c in candidates if not c.rejected) or 'none'}",
        )
    fit = [c.node for c in candidates if not c.rejected and wanted in (None, c.node)]
    if not fit:
        raise lacking(candidates, wanted)
    views = {v.name: v for v in snapshot.nodes}
    return min(fit, key=lambda n: (views[n].priority or 100, -(views[n].position or 0), n))

"""Which steps take a Cassandra node out of service, back, or out for good, decided from a snapshot; pure.

A ring has no primary. What a plan must keep is QUORUM: of each token range, more
than half of the copies have to be up while one node is away.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from haops.cluster.snapshot import NodeState, NodeView, Snapshot
from haops.cluster.spec import Cluster
from haops.stores.cassandra.topology import copies_by_dc, copies_of, datacenter, holders, quorum
from haops.stores.plan import Intent, NotPlannable, Operation, Plan, Step
from haops.stores.rebuild import check_copies, forget_step, lay_out_step
from haops.stores.restart import AWAIT, START, STOP

CLOSE: Final = "close"
DRAIN: Final = "drain"
OPEN: Final = "open"
GIVEN_UP: Final = "given-up"
JOIN: Final = "join"
COMPARE: Final = "compare"
REPAIR: Final = "repair"
LEAVE: Final = "leave"
STRIKE: Final = "strike"

_DEAD: Final = (NodeState.STOPPED, NodeState.MISSING)
# Measured with 500 requests/s: a node that closes turned some 50 requests away (OverloadedErrorMessage)
# and cut as many off (ConnectionShutdown); the default policy repeated all of them.
_RETRIED: Final = (
    "requests that a closing node turns away or cuts off are repeated on another one by drivers with their "
    "default retry policy, and none fails; clients that never retry see some fail"
)
_AWAY: Final = "until it is back, one more failure may cost QUORUM"


def restart(cluster: Cluster, snapshot: Snapshot, intent: Intent) -> Plan:
    """Restart nodes one by one; the next when all others see the last one up and clients are back.

    Raises:
        NotPlannable: A range would be left without QUORUM; names who is down.
    """
    wanted = [intent.node] if intent.node else [n.name for n in cluster.servers]
    steps: list[Step] = []
    for name in wanted:
        check_spare(cluster, _up(snapshot), name)
        view = _view(snapshot, name)
        if view.state is NodeState.MISSING:
            raise _has_no_container(cluster, name)
        if view.state is NodeState.UP:  # one that is drained or dead needs no leave-taking
            steps += _out(name)
        steps += [
            Step(STOP, name, f"stop {name}"),
            Step(START, name, f"start {name}"),
            _await(name),
        ]
    return Plan(
        cluster=cluster.name,
        operation=Operation.RESTART,
        source=intent.node,
        target=None,
        steps=tuple(steps),
        risk=f"nothing acknowledged is lost; {_RETRIED}; one node at a time is away, and {_AWAY}",
    )


def _out(name: str) -> list[Step]:
    return [
        Step(CLOSE, name, f"close {name} to clients"),
        Step(DRAIN, name, f"drain {name}: it leaves the ring's gossip and writes its memory to disk"),
    ]


def _await(name: str) -> Step:
    return Step(AWAIT, name, f"wait until all see {name} up, it has its hints and its clients")


def drain(cluster: Cluster, snapshot: Snapshot, intent: Intent) -> Plan:
    """Take a node out of service, its process still running.

    Raises:
        NotPlannable: It is not up, or a range would be left without QUORUM.
    """
    name = _named(intent)
    view = _view(snapshot, name)
    if view.state is not NodeState.UP:
        raise NotPlannable(
            f"{name} is {_words(view)}",
            hint=f"a node is drained while it serves; to bring it back: haops node resume {cluster.name} {name}",
        )
    check_spare(cluster, _up(snapshot), name)
    return Plan(
        cluster=cluster.name,
        operation=Operation.DRAIN,
        source=name,
        target=None,
        steps=tuple(_out(name)),
        risk=f"{_RETRIED}; {_AWAY}; what it misses the others keep as hints for three hours",
    )


def resume(cluster: Cluster, snapshot: Snapshot, intent: Intent) -> Plan:
    """Bring a node back into service that was closed, drained or stopped.

    Raises:
        NotPlannable: It serves already, or has no disk to come back with.
    """
    name = _named(intent)
    view = _view(snapshot, name)
    if view.state is NodeState.UP:
        raise NotPlannable(f"{name} is in service", hint=f"see: haops status {cluster.name}")
    if view.state is NodeState.MISSING:
        raise _has_no_container(cluster, name)
    return Plan(
        cluster=cluster.name,
        operation=Operation.RESUME,
        source=name,
        target=None,
        steps=(
            Step(OPEN, name, f"open {name} to clients; if it is drained or stopped, by starting it anew"),
            _await(name),
        ),
        risk="nothing is lost; a node that was away for more than three hours misses what no hint was kept "
        f"for: haops node repair {cluster.name} {name}",
    )


def replace(cluster: Cluster, snapshot: Snapshot, intent: Intent) -> Plan:
    """Build a dead node anew at its address, with an empty disk, from the others' copies; then repair it.

    Raises:
        NotPlannable: It is alive, another one is down, or nobody else has a copy.
    """
    name = _named(intent)
    view = _view(snapshot, name)
    if view.state not in _DEAD:
        raise NotPlannable(
            f"{name} is alive ({_words(view)}): only a dead node is replaced",
            hint=f"restart it: haops restart {cluster.name} --node {name}; "
            f"or take it out for good: haops node decommission {cluster.name} {name}",
        )
    copies = copies_of(cluster)
    if copies < 2:
        raise NotPlannable(
            f"nobody has a copy of what {name} had: the replication factor is {copies}",
            hint=f"start it with its own disk: haops heal {cluster.name}",
        )
    check_copies(cluster, snapshot)
    _nobody_down(cluster, snapshot, but=name)
    return Plan(
        cluster=cluster.name,
        operation=Operation.REPLACE,
        source=name,
        target=None,
        steps=(
            Step(GIVEN_UP, name, f"wait until all others have given {name} up"),
            forget_step(name),
            lay_out_step(name),
            Step(JOIN, name, f"wait until {name} has streamed its copies and joined"),
            _await(name),
            *_repair(name),
        ),
        risk=f"the disk of {name} is removed for good: what was acknowledged on its copy alone (level ONE) is "
        f"lost; QUORUM writes are on another copy too. Until it has joined {_AWAY.partition(', ')[2]}",
    )


def repair(cluster: Cluster, snapshot: Snapshot, intent: Intent) -> Plan:
    """Make a node's copies equal to the others' copies, in all keyspaces but the server's own.

    Raises:
        NotPlannable: A node is down: a repair would leave its copies out.
    """
    name = _named(intent)
    if copies_of(cluster) < 2:
        raise NotPlannable(f"{name} has the only copy of everything: there is nothing to repair it from")
    _nobody_down(cluster, snapshot)
    return Plan(
        cluster=cluster.name,
        operation=Operation.REPAIR,
        source=name,
        target=None,
        steps=tuple(_repair(name)),
        risk="nothing is lost; reading and sending copies takes disk, processor and network from clients",
    )


def _repair(name: str) -> list[Step]:
    return [
        Step(COMPARE, name, f"compare the copies of {name} with the others'"),
        Step(REPAIR, name, f"repair all ranges of {name}"),
    ]


def decommission(cluster: Cluster, snapshot: Snapshot, intent: Intent) -> Plan:
    """Move a node's data to the others and take it out of the ring and of the cluster's record.

    Raises:
        NotPlannable: Too few nodes would be left for the copies, or one is down.
    """
    name = _named(intent)
    by_dc, dc = copies_by_dc(cluster), datacenter(cluster.node(name))
    here = [n for n in cluster.servers if datacenter(n) == dc and n.name != name]
    if len(here) < by_dc[dc]:
        where = f" in {dc}" if len(by_dc) > 1 else ""
        raise NotPlannable(
            f"without {name} {len(here)} nodes would be left{where} for {by_dc[dc]} copies of each row",
            hint=f"a node can leave a {'data centre' if where else 'ring'} of four or more; a dead one is replaced: "
            f"haops node replace {cluster.name} {name}",
        )
    _nobody_down(cluster, snapshot)
    return Plan(
        cluster=cluster.name,
        operation=Operation.DECOMMISSION,
        source=name,
        target=None,
        steps=(
            Step(CLOSE, name, f"close {name} to clients"),
            Step(LEAVE, name, f"let {name} stream its data to the others and leave the ring"),
            Step(STRIKE, name, f"take {name} off the cluster's record"),
            forget_step(name),
        ),
        risk=f"nothing acknowledged is lost; {name} and its disk are removed for good, and the {len(here)} others "
        f"{'there ' if len(by_dc) > 1 else ''}have more data each; a ring of haops does not grow again",
    )


def spare_trouble(cluster: Cluster, up: Collection[str], away: str) -> str | None:
    """What would be lost if `away` went while `up` are up; None if QUORUM is kept everywhere."""
    needed = quorum(cluster)
    short = [
        names
        for names in holders(cluster).values()
        if away in names and sum(n in up and n != away for n in names) < needed
    ]
    if not short:
        return None
    left = min(sum(n in up and n != away for n in names) for names in short)
    ranges = f"{len(short)} of {len(cluster.servers)} token ranges"
    return f"without {away} {ranges} would have {left} of {copies_of(cluster)} copies, QUORUM needs {needed}"


def check_spare(cluster: Cluster, up: Collection[str], away: str) -> None:
    """Every range must keep QUORUM while `away` is away.

    Raises:
        NotPlannable: It would not; names who is down.
    """
    trouble = spare_trouble(cluster, up, away)
    if trouble is None:
        return
    down = [n.name for n in cluster.servers if n.name not in up and n.name != away]
    raise NotPlannable(
        trouble,
        detail=f"not up: {', '.join(down)}" if down else None,
        hint=f"bring it back first: haops node resume {cluster.name} {down[0]}"
        if down
        else "a ring that can spare a node has three or more: haops up cassandra --nodes 3",
    )


def _nobody_down(cluster: Cluster, snapshot: Snapshot, but: str | None = None) -> None:
    down = [v for v in snapshot.nodes if v.state is not NodeState.UP and v.name != but]
    if down:
        raise NotPlannable(
            f"{', '.join(f'{v.name} is {_words(v)}' for v in down)}",
            hint=f"bring it back first: haops node resume {cluster.name} {down[0].name}; "
            f"if its disk is gone: haops node replace {cluster.name} {down[0].name}",
        )


def _has_no_container(cluster: Cluster, name: str) -> NotPlannable:
    return NotPlannable(
        f"{name} has no container to start",
        hint=f"build it anew, with an empty disk: haops node replace {cluster.name} {name}",
    )


def _words(view: NodeView) -> str:
    return f"{view.state}" + (f": {view.why}" if view.why else "")


def _up(snapshot: Snapshot) -> frozenset[str]:
    return frozenset(v.name for v in snapshot.nodes if v.state is NodeState.UP)


def _view(snapshot: Snapshot, name: str) -> NodeView:
    return next(v for v in snapshot.nodes if v.name == name)


def _named(intent: Intent) -> str:
    if intent.node is None:
        raise NotPlannable(f"{intent.operation} needs a node", hint="see: haops status")
    return intent.node

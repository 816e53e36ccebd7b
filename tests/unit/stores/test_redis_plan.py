"""Which steps move a Redis primary, and whom they may promote."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.snapshot import Lag, NodeState, NodeView, Role, Snapshot, Verdict
from haops.cluster.spec import Cluster
from haops.stores.plan import Intent, NotPlannable, Operation, Plan, StepFailed
from haops.stores.redis.control import CONTROL
from haops.stores.redis.plan import (
    ADVERTISE,
    CATCH_UP,
    CHAIN,
    DEMOTE,
    EPOCH,
    FENCE,
    FOLLOW,
    PAUSE,
    PROMOTE,
    REJOIN,
    SETTLE,
    demotion,
    judge_candidates,
    lost_primary,
    majority,
)
from haops.stores.restart import AWAIT, START, STOP

from ...fakes import CREATED, make_cluster

ONE, TWO, THREE = "redis-1", "redis-2", "redis-3"
STOPPED = {"role": Role.UNKNOWN, "state": NodeState.STOPPED, "lag": None, "why": "Exited (137)"}
SENTINELS = ("sentinel-1", "sentinel-2", "sentinel-3")


def replica_set(primary: str | None = ONE, nodes: int = 3, **changed: dict[str, object]) -> Snapshot:
    """All up and in sync behind `primary`; `changed` by node, with _ for -."""
    cluster = make_cluster(nodes=nodes)
    views = []
    for node in cluster.nodes:
        sentinel = node in cluster.sentinels
        role = Role.SENTINEL if sentinel else Role.PRIMARY if node.name == primary else Role.REPLICA
        view = NodeView(node.name, role, NodeState.UP, node.host, node.host_port, follows=primary or ONE)
        if not sentinel:
            view = replace(view, lag=Lag(bytes=0, seconds=0), position=1000, priority=100)
        if role is Role.PRIMARY:
            view = replace(view, follows=None, priority=None)
        views.append(replace(view, **changed.get(node.name.replace("-", "_"), {})))
    return Snapshot(cluster.name, cluster.store, "async", CREATED, Verdict.HEALTHY, (), tuple(views))


def cluster_of(snapshot: Snapshot) -> Cluster:
    return make_cluster(nodes=len(snapshot.nodes) - 3)


def plan(operation: Operation, snapshot: Snapshot, **about: object) -> Plan:
    return CONTROL.plan(cluster_of(snapshot), snapshot, Intent(operation, **about))  # type: ignore[arg-type]


def switchover(snapshot: Snapshot, **about: object) -> Plan:
    return plan(Operation.SWITCHOVER, snapshot, **about)


def failover(snapshot: Snapshot, **about: object) -> Plan:
    return plan(Operation.FAILOVER, snapshot, **about)


def restart(snapshot: Snapshot, **about: object) -> Plan:
    return plan(Operation.RESTART, snapshot, **about)


def steps(made: Plan) -> list[tuple[str, str | None]]:
    return [(s.verb, s.node) for s in made.steps]


def rejected(made: Plan) -> dict[str, str | None]:
    return {c.node: c.rejected for c in made.candidates}


# ---- switchover


def test_a_switchover_chains_then_pauses_then_promotes_then_tells_then_demotes() -> None:
    made = switchover(replica_set())
    assert steps(made) == [
        (EPOCH, None),
        (CHAIN, THREE),
        (FENCE, ONE),
        (PAUSE, ONE),
        (CATCH_UP, TWO),
        (PROMOTE, TWO),
        (ADVERTISE, None),
        (DEMOTE, ONE),
        (SETTLE, None),
    ]
    assert (made.operation, made.source, made.target) == (Operation.SWITCHOVER, ONE, TWO)
    assert rejected(made) == {TWO: None, THREE: None}
    assert "nothing acknowledged is lost" in made.risk


def test_a_set_of_two_has_nobody_to_chain() -> None:
    assert CHAIN not in [verb for verb, _ in steps(switchover(replica_set(nodes=2)))]


def test_the_wanted_node_is_promoted() -> None:
    made = switchover(replica_set(), node=THREE)
    assert made.target == THREE
    assert (CHAIN, TWO) in steps(made)


REASONS = [
    ({"lag": Lag(bytes=1024 * 1024 + 1)}, "its lag is 1,048,577 B, allowed is 1,048,576 B"),
    ({"lag": None}, "its lag is unknown"),
    ({"lag": Lag(seconds=1)}, "its lag is unknown"),
    ({"priority": 0}, "its priority is 0: never to be promoted"),
    ({"role": Role.UNKNOWN, "state": NodeState.UNREACHABLE, "why": "refused"}, "it is unreachable: refused"),
    ({"role": Role.UNKNOWN, "state": NodeState.PAUSED, "why": "Up (Paused)"}, "it is paused: Up (Paused)"),
    (STOPPED, "it is stopped: Exited (137)"),
    ({"role": Role.UNKNOWN, "state": NodeState.MISSING}, "it is missing"),
    ({"follows": THREE}, "it follows redis-3, not redis-1"),
    ({"state": NodeState.SYNCING, "why": "copying from redis-1"}, "it has not caught up: copying from redis-1"),
    ({"state": NodeState.SYNCING}, "it has not caught up: syncing"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "reason"), REASONS, ids=[reason for _, reason in REASONS])
def test_an_unfit_candidate_is_rejected_with_the_reason_and_another_one_taken(
    changed: dict[str, object], reason: str
) -> None:
    made = switchover(replica_set(redis_2=changed))
    assert made.target == THREE
    assert rejected(made)[THREE] is None
    assert str(rejected(made)[TWO]).startswith(reason)


@pytest.mark.parametrize(("changed", "reason"), REASONS, ids=[reason for _, reason in REASONS])
def test_an_unfit_node_that_was_asked_for_is_refused_with_the_reason(
    changed: dict[str, object], reason: str
) -> None:
    with pytest.raises(NotPlannable) as caught:
        switchover(replica_set(redis_2=changed), node=TWO)
    assert caught.value.exit_code == 2
    assert caught.value.message == "redis-2 cannot be promoted"
    assert f"redis-2: {reason}" in str(caught.value.detail)
    assert caught.value.hint == "could be: redis-3"


def test_no_candidate_at_all_names_every_reason() -> None:
    with pytest.raises(NotPlannable) as caught:
        switchover(replica_set(redis_2=STOPPED, redis_3={"priority": 0}))
    assert caught.value.message == "no node can be promoted"
    assert caught.value.detail == (
        "redis-2: it is stopped: Exited (137)\nredis-3: its priority is 0: never to be promoted"
    )


def test_a_lone_primary_cannot_give_its_role_away() -> None:
    with pytest.raises(NotPlannable, match="no node can be promoted"):
        switchover(replica_set(nodes=1))


def test_a_replica_of_a_stranger_is_rejected() -> None:
    # Its upstream is none of this cluster's nodes: whatever its offset counts, it is not our data.
    made = switchover(replica_set(redis_2={"follows": None}))
    assert rejected(made)[TWO] is not None


def test_only_nodes_of_the_wanted_zone_are_promoted() -> None:
    seen = replica_set(redis_2={"zone": "a"}, redis_3={"zone": "b"})
    made = switchover(seen, zone="b")
    assert made.target == THREE
    assert rejected(made)[TWO] == "it stands in zone a, not in b"
    with pytest.raises(NotPlannable, match="no node can be promoted"):
        switchover(seen, zone="c")
    nowhere = switchover(replica_set(redis_3={"zone": "b"}), zone="b")
    assert rejected(nowhere)[TWO] == "it stands in zone -, not in b"


@pytest.mark.parametrize(
    ("behind", "allowed", "fit"), [(0, 0, True), (1, 0, False), (9, 9, True), (10, 9, False)]
)
def test_max_lag_is_the_last_lag_that_is_allowed(behind: int, allowed: int, fit: bool) -> None:
    made = switchover(replica_set(redis_2={"lag": Lag(bytes=behind)}), max_lag=allowed)
    assert (rejected(made)[TWO] is None) == fit


def test_the_fittest_is_chosen_as_sentinel_does_by_priority_then_offset_then_name() -> None:
    def chosen(two: dict[str, object], three: dict[str, object]) -> str | None:
        return switchover(replica_set(redis_2=two, redis_3=three)).target

    assert chosen({}, {}) == TWO
    assert chosen({"position": 1000}, {"position": 1001}) == THREE
    assert chosen({"position": 1001}, {"position": 1000}) == TWO
    assert chosen({"position": 1001, "priority": 100}, {"position": 1000, "priority": 99}) == THREE
    assert chosen({"position": None}, {"position": 1}) == THREE


@pytest.mark.parametrize("there", [0, 1])
def test_without_a_majority_of_sentinels_nothing_is_moved(there: int) -> None:
    gone = {f"sentinel_{i}": {"state": NodeState.STOPPED} for i in range(there + 1, 4)}
    for made in (switchover, failover):
        with pytest.raises(NotPlannable) as caught:
            made(replica_set(None if made is failover else ONE, **gone))
        assert caught.value.message.startswith(f"{there} of 3 Sentinels answer")
        assert caught.value.hint == "start the others first: haops heal redis"


def test_two_of_three_sentinels_are_a_majority() -> None:
    assert switchover(replica_set(sentinel_3={"state": NodeState.PAUSED})).target == TWO
    assert majority(make_cluster()) == 2


def test_two_primaries_are_not_made_worse() -> None:
    two = replica_set(redis_2={"role": Role.PRIMARY, "follows": None})
    for made in (switchover, restart):
        with pytest.raises(NotPlannable, match="redis-1 and redis-2 all say that they are the primary"):
            made(two)


def test_without_a_primary_the_way_is_a_failover() -> None:
    with pytest.raises(NotPlannable, match="no primary that answers") as caught:
        switchover(replica_set(redis_1=STOPPED))
    assert caught.value.hint == "promote a replica: haops failover redis"


def test_the_primary_and_a_sentinel_cannot_be_promoted() -> None:
    for node, words in ((ONE, "the primary already"), ("sentinel-1", "a Sentinel")):
        with pytest.raises(NotPlannable, match=f"{node} cannot be promoted: it is {words}") as caught:
            switchover(replica_set(redis_3=STOPPED), node=node)
        assert caught.value.hint == "could be: redis-2"


# ---- failover


def lost(**changed: dict[str, object]) -> Snapshot:
    return replica_set(None, redis_1=STOPPED, **changed)


SYNCING = {"state": NodeState.SYNCING, "why": "its link to redis-1 is down"}


def test_a_failover_promotes_at_once_and_lets_the_others_follow() -> None:
    made = failover(lost(redis_2=SYNCING, redis_3=SYNCING))
    assert steps(made) == [
        (EPOCH, None),
        (PROMOTE, TWO),
        (FOLLOW, THREE),
        (ADVERTISE, None),
        (SETTLE, None),
    ]
    assert (made.source, made.target) == (ONE, TWO)
    assert "redis-1 acknowledged and no replica received is lost" in made.risk


def test_a_failover_is_refused_while_a_primary_answers() -> None:
    with pytest.raises(NotPlannable, match="redis-1 answers as the primary") as caught:
        failover(replica_set())
    assert "haops switchover redis" in str(caught.value.hint)


def test_a_failover_promotes_the_most_advanced_copy() -> None:
    assert failover(lost(redis_2={"position": 5}, redis_3={"position": 6})).target == THREE
    assert failover(lost(redis_2={"position": 6}, redis_3={"position": 5})).target == TWO


def test_a_failover_says_what_it_promotes_when_priority_outweighs_the_most_advanced_copy() -> None:
    behind = {"position": 5, "priority": 50, "lag": Lag(bytes=1)}
    made = failover(lost(redis_2={"position": 6}, redis_3=behind))
    assert made.target == THREE  # as Sentinel would
    assert "redis-3 has the most advanced copy" not in made.risk


def test_a_failover_heeds_lag_priority_and_zone_as_well() -> None:
    made = failover(lost(redis_2={"priority": 0}))
    assert made.target == THREE
    with pytest.raises(NotPlannable):
        failover(lost(redis_2={"priority": 0}, redis_3={"lag": Lag(bytes=2**20 + 1)}))
    with pytest.raises(NotPlannable):
        failover(lost(), zone="elsewhere")
    assert failover(lost(), node=THREE).target == THREE
    with pytest.raises(NotPlannable, match="redis-1 cannot be promoted"):
        failover(lost(), node=ONE)


def test_the_lost_primary_is_whom_most_sentinels_name() -> None:
    cluster = make_cluster()
    assert lost_primary(cluster, lost()) == ONE
    divided = lost(sentinel_1={"follows": TWO}, sentinel_2={"follows": ONE}, sentinel_3={"follows": ONE})
    assert lost_primary(cluster, divided) == ONE
    silent = {name.replace("-", "_"): {"state": NodeState.STOPPED} for name in SENTINELS}
    assert (
        lost_primary(cluster, lost(**silent, redis_2={"follows": THREE}, redis_3={"follows": THREE})) == THREE
    )
    assert lost_primary(cluster, lost(**silent, redis_2=STOPPED, redis_3=STOPPED)) is None


# ---- restart


def test_a_restart_goes_through_replicas_then_sentinels_and_moves_the_role_before_the_primary() -> None:
    made = restart(replica_set())
    nodes = [node for verb, node in steps(made) if verb == STOP]
    assert nodes == [TWO, THREE, *SENTINELS, ONE]
    verbs = steps(made)
    assert verbs.index((PROMOTE, TWO)) < verbs.index((DEMOTE, ONE)) < verbs.index((STOP, ONE))
    assert verbs.index((EPOCH, None)) > verbs.index((AWAIT, SENTINELS[-1]))
    assert (made.source, made.target) == (ONE, TWO)
    for node in nodes:
        first = verbs.index((STOP, node))
        assert verbs[first : first + 3] == [(STOP, node), (START, node), (AWAIT, node)]


def test_a_restart_waits_for_the_whole_cluster_before_it_stops_the_next_node() -> None:
    down: list[str | None] = []
    for step in restart(replica_set(nodes=5)).steps:
        if step.verb == STOP:
            assert down == []
            down.append(step.node)
        elif step.verb == AWAIT:
            down.remove(step.node)
    assert down == []


@pytest.mark.parametrize("node", [TWO, THREE, "sentinel-2"])
def test_a_restart_of_one_node_touches_no_other_one(node: str) -> None:
    made = restart(replica_set(), node=node)
    assert steps(made) == [(STOP, node), (START, node), (AWAIT, node)]
    assert (made.source, made.target, made.risk) == (node, None, "nothing acknowledged is lost")


def test_a_restart_of_the_primary_moves_its_role_first() -> None:
    verbs = [verb for verb, _ in steps(restart(replica_set(), node=ONE))]
    assert verbs[-3:] == [STOP, START, AWAIT]
    assert verbs[:-3] == [verb for verb, _ in steps(switchover(replica_set()))]


def test_a_restart_is_refused_while_another_node_is_down() -> None:
    for node in (None, THREE, ONE):
        with pytest.raises(NotPlannable, match="redis-2 is not up"):
            restart(replica_set(redis_2=STOPPED), node=node)


def test_a_node_that_is_down_may_itself_be_restarted() -> None:
    assert steps(restart(replica_set(redis_2=STOPPED), node=TWO))[0] == (STOP, TWO)


def test_a_lone_primary_is_not_restarted() -> None:
    with pytest.raises(NotPlannable, match="no node can be promoted"):
        restart(replica_set(nodes=1))


def test_a_stray_follows_the_primary() -> None:
    made = demotion(make_cluster(), THREE, ONE)
    assert (made.operation, made.source, made.target) == (Operation.DEMOTE, THREE, ONE)
    assert steps(made) == [(REJOIN, THREE)]


# ---- whatever the cluster looks like


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    nodes = draw(st.integers(1, 5))
    names = [f"redis-{i}" for i in range(1, nodes + 1)]
    views = []
    for node in make_cluster(nodes=nodes).nodes:
        state = draw(st.sampled_from([NodeState.UP] * 4 + list(NodeState)))
        answers = state in (NodeState.UP, NodeState.SYNCING)
        view = NodeView(
            node.name, Role.UNKNOWN, state, node.host, node.host_port, why=draw(st.none() | st.just("x"))
        )
        if node.name.startswith("sentinel"):
            view = replace(view, role=Role.SENTINEL, follows=draw(st.none() | st.sampled_from(names)))
        elif answers:
            view = replace(
                view,
                role=draw(st.sampled_from([Role.PRIMARY, Role.REPLICA, Role.REPLICA])),
                lag=draw(st.none() | st.builds(Lag, bytes=st.none() | st.integers(0, 2**21))),
                position=draw(st.none() | st.integers(0, 2**40)),
                priority=draw(st.none() | st.integers(0, 200)),
                zone=draw(st.none() | st.sampled_from("ab")),
                follows=draw(st.none() | st.sampled_from(names)),
            )
        views.append(view)
    return Snapshot("redis", make_cluster().store, "async", CREATED, Verdict.UNKNOWN, (), tuple(views))


@st.composite
def intents(draw: st.DrawFn) -> Intent:
    node = st.none() | st.sampled_from([*(f"redis-{i}" for i in range(1, 6)), *SENTINELS])
    return Intent(
        draw(st.sampled_from([Operation.SWITCHOVER, Operation.FAILOVER, Operation.RESTART])),
        node=draw(node),
        zone=draw(st.none() | st.sampled_from("ab")),
        max_lag=draw(st.integers(0, 2**21)),
    )


def before(verbs: list[str], first: str, then: str) -> bool:
    """Every `first` stands before every `then`."""
    return not (first in verbs and then in verbs) or (
        len(verbs) - 1 - verbs[::-1].index(first) < verbs.index(then)
    )


@given(snapshots(), intents())
def test_a_plan_promotes_nobody_who_may_not_be_and_keeps_the_order_that_loses_nothing(
    seen: Snapshot, intent: Intent
) -> None:
    cluster = cluster_of(seen)
    if intent.node and all(n.name != intent.node for n in cluster.nodes):
        return  # refused by name before anything is planned
    try:
        made = CONTROL.plan(cluster, seen, intent)
    except NotPlannable as refusal:
        assert refusal.hint
        return
    assert made == CONTROL.plan(cluster, seen, intent)
    views = {v.name: v for v in seen.nodes}
    if made.target is not None:
        asked = intent if intent.operation is not Operation.RESTART else Intent(Operation.SWITCHOVER)
        reasons = {c.node: c.rejected for c in judge_candidates(seen, asked, made.source)}
        assert reasons[made.target] is None
        assert made.target != made.source
        assert views[made.target].state in (NodeState.UP, NodeState.SYNCING)
        if asked.zone:
            assert views[made.target].zone == asked.zone
        if asked is intent and intent.node:
            assert made.target == intent.node
    keeps_the_order(made)


def keeps_the_order(made: Plan) -> None:
    verbs = [s.verb for s in made.steps]
    assert verbs.count(PROMOTE) == (made.target is not None)
    for first, then in (
        (EPOCH, CHAIN),
        (EPOCH, PROMOTE),
        (CHAIN, PAUSE),
        (FENCE, PAUSE),
        (PAUSE, CATCH_UP),
        (CATCH_UP, PROMOTE),
        (PROMOTE, ADVERTISE),
        (ADVERTISE, DEMOTE),
        (DEMOTE, SETTLE),
    ):
        assert before(verbs, first, then), f"{first} before {then}: {verbs}"
    if made.operation is Operation.SWITCHOVER:
        assert {EPOCH, FENCE, PAUSE, CATCH_UP, PROMOTE, ADVERTISE, DEMOTE, SETTLE} <= set(verbs)


def test_a_failed_step_is_no_bad_input() -> None:
    assert StepFailed("x").exit_code == 1

"""ZooKeeper's plans, and their steps on a runtime in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.snapshot import Lag, NodeState, NodeView, Role, Snapshot, Verdict
from haops.cluster.spec import Cluster, StoreName
from haops.errors import BadInput
from haops.runtime.port import ContainerState
from haops.stores.base import Unanswered
from haops.stores.plan import Intent, NotPlannable, Operation, Plan, Step, StepFailed, Tools
from haops.stores.restart import AWAIT, START, STOP
from haops.stores.zookeeper import control, handover
from haops.stores.zookeeper.control import CONTROL
from haops.stores.zookeeper.handover import with_other_port
from haops.stores.zookeeper.observe import Report, Reports, ServerReport
from haops.stores.zookeeper.plan import FREEZE, HAND_OVER, LEADS, MAX_BEHIND, THAW
from haops.stores.zookeeper.topology import is_observer, render_context, superuser

from ...fakes import CREATED, FakeReadiness, FakeRuntime, make_cluster

ONE, TWO, THREE = "zookeeper-1", "zookeeper-2", "zookeeper-3"


def ensemble(nodes: int = 3, leader: int | None = 3, **changed: Mapping[str, object]) -> Snapshot:
    """All up and in sync; `changed` by z1, z2 and so on."""
    cluster = make_cluster(StoreName.ZOOKEEPER, nodes)
    views = []
    for node in cluster.nodes:
        role = Role.LEADER if node.index == leader else Role.FOLLOWER
        view = NodeView(node.name, role, NodeState.UP, node.host, node.host_port, lag=Lag(zxid=0))
        views.append(replace(view, **changed.get(f"z{node.index}", {})))  # type: ignore[arg-type]
    return Snapshot(cluster.name, cluster.store, cluster.mode, CREATED, Verdict.HEALTHY, (), tuple(views))


def plan(operation: Operation, snapshot: Snapshot, **about: object) -> Plan:
    cluster = make_cluster(StoreName.ZOOKEEPER, len(snapshot.nodes))
    return CONTROL.plan(cluster, snapshot, Intent(operation, **about))  # type: ignore[arg-type]


def switchover(snapshot: Snapshot, **about: object) -> Plan:
    return plan(Operation.SWITCHOVER, snapshot, **about)


def restart(snapshot: Snapshot, **about: object) -> Plan:
    return plan(Operation.RESTART, snapshot, **about)


def verbs(made: Plan) -> list[tuple[str, str | None]]:
    return [(s.verb, s.node) for s in made.steps]


DOWN = {"role": Role.UNKNOWN, "state": NodeState.STOPPED, "lag": None, "why": "Exited (137)"}


# ---- switchover


def test_a_switchover_lets_the_leader_name_its_successor_and_holds_nobody() -> None:
    made = switchover(ensemble())
    assert verbs(made) == [(HAND_OVER, THREE), (LEADS, None), (AWAIT, None)]
    assert (made.source, made.target) == (THREE, None)
    assert [(c.node, c.rejected) for c in made.candidates] == [(ONE, None), (TWO, None)]
    assert "nothing acknowledged is lost" in made.risk


def test_a_switchover_to_a_node_holds_the_other_one_until_the_role_is_given_up() -> None:
    made = switchover(ensemble(), node=ONE)
    assert verbs(made) == [(FREEZE, TWO), (HAND_OVER, THREE), (THAW, TWO), (LEADS, ONE), (AWAIT, None)]
    assert (made.source, made.target) == (THREE, ONE)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"role": Role.UNKNOWN}, "it does not follow the leader: its role is unknown"),
        ({"lag": None}, "not in sync: its last transaction is of an earlier epoch"),
        ({"lag": Lag(zxid=MAX_BEHIND + 1)}, "not in sync: 501 transactions behind, allowed are 500"),
        ({"zone": "b"}, "it stands in zone b, not in a"),
    ],
)
def test_a_candidate_is_rejected_with_the_reason(changed: Mapping[str, object], reason: str) -> None:
    zone = "a" if "zone" in changed else None
    snapshot = ensemble(z1={"zone": "a"}, z2={"zone": "a", **changed})
    made = switchover(snapshot, zone=zone)
    assert [(c.node, (c.rejected or "").startswith(reason)) for c in made.candidates] == [
        (ONE, False),
        (TWO, True),
    ]
    with pytest.raises(NotPlannable, match=f"{TWO} cannot be promoted") as caught:
        switchover(snapshot, node=TWO, zone=zone)
    assert reason in (caught.value.detail or "")
    assert caught.value.hint == f"could be: {ONE}"


def test_an_observer_is_no_candidate_and_does_not_count_for_the_majority() -> None:
    made = switchover(ensemble(4, leader=3, z4={"role": Role.OBSERVER}), node=ONE)
    assert [c.rejected for c in made.candidates] == [
        None, None, "it is an observer: it has no vote and cannot lead",
    ]  # fmt: skip
    assert [s.node for s in made.steps if s.verb == FREEZE] == [TWO]
    with pytest.raises(NotPlannable, match="only 1 of 2 servers would be left"):
        switchover(ensemble(z1={"role": Role.OBSERVER}))


def test_an_observer_that_is_down_has_no_vote_to_miss() -> None:
    away = {"role": Role.OBSERVER, "state": NodeState.STOPPED, "lag": None}
    with pytest.raises(NotPlannable, match="zookeeper-4 is not up"):
        switchover(ensemble(4, leader=3, z4=away))
    assert restart(ensemble(4, leader=3, z4=away), node="zookeeper-4").steps


def test_who_may_not_succeed_is_held_even_when_nobody_was_asked_for() -> None:
    made = switchover(ensemble(z1={"zone": "b"}, z2={"zone": "a"}), zone="b")
    assert made.target == ONE
    assert verbs(made)[0] == (FREEZE, TWO)


def test_what_is_in_flight_under_load_does_not_reject_a_follower() -> None:
    made = switchover(ensemble(z1={"lag": Lag(zxid=MAX_BEHIND)}))
    assert not any(c.rejected for c in made.candidates)


def test_five_servers_choose_the_successor_themselves() -> None:
    assert switchover(ensemble(5)).steps[0].verb == HAND_OVER
    with pytest.raises(NotPlannable) as caught:
        switchover(ensemble(5), node=ONE)
    assert "leave --to out" in (caught.value.detail or "")
    with pytest.raises(NotPlannable, match="with 5 voting servers the successor"):
        switchover(ensemble(5, z1={"zone": "a"}), zone="a")


def test_the_leader_cannot_be_its_own_successor() -> None:
    with pytest.raises(NotPlannable, match="zookeeper-3 leads already"):
        switchover(ensemble(), node=THREE)


def test_without_a_server_to_spare_nothing_is_planned_and_the_missing_one_is_named() -> None:
    with pytest.raises(NotPlannable, match=r"without zookeeper-3 only 1 of 3 .* a majority is 2") as caught:
        switchover(ensemble(z1=DOWN))
    assert caught.value.detail == f"{ONE} is stopped"
    for make in (switchover, restart):
        with pytest.raises(NotPlannable, match=f"{ONE} is not up"):
            make(ensemble(5, z1=DOWN))
        with pytest.raises(NotPlannable, match="without zookeeper-1 only 0 of 1"):
            make(ensemble(1, leader=1))
    with pytest.raises(NotPlannable, match=f"{TWO} is not up"):
        restart(ensemble(5, z2=DOWN), node=ONE)
    with pytest.raises(NotPlannable, match="only 1 of 2 servers would be left"):
        restart(ensemble(2, leader=1))


@pytest.mark.parametrize("make", [switchover, restart])
def test_no_leader_or_two_is_no_ground_for_a_plan(make: object) -> None:
    with pytest.raises(NotPlannable, match="no server of zookeeper leads"):
        make(ensemble(leader=None))  # type: ignore[operator]
    with pytest.raises(NotPlannable, match="zookeeper-1 and zookeeper-3 all say that they lead"):
        make(ensemble(z1={"role": Role.LEADER}))  # type: ignore[operator]


# ---- restart


def test_a_restart_takes_followers_one_by_one_and_the_leader_last_after_it_has_handed_over() -> None:
    made = restart(ensemble(leader=2))
    assert verbs(made) == [
        (STOP, ONE), (START, ONE), (AWAIT, ONE),
        (STOP, THREE), (START, THREE), (AWAIT, THREE),
        (HAND_OVER, TWO), (LEADS, None), (AWAIT, None),
        (STOP, TWO), (START, TWO), (AWAIT, TWO),
    ]  # fmt: skip


def test_a_restart_of_one_follower_moves_no_role() -> None:
    made = restart(ensemble(), node=ONE)
    assert verbs(made) == [(STOP, ONE), (START, ONE), (AWAIT, ONE)]
    assert made.source == ONE
    assert "no write is acknowledged" not in made.risk


def test_a_follower_that_is_down_may_be_restarted_alone() -> None:
    assert restart(ensemble(z1=DOWN), node=ONE).steps
    with pytest.raises(NotPlannable, match="a majority is 2"):
        restart(ensemble(z1=DOWN), node=TWO)


def test_a_leader_whose_followers_are_not_in_sync_is_not_restarted() -> None:
    behind = {"lag": Lag(zxid=100_000)}
    with pytest.raises(NotPlannable, match="no node can be promoted"):
        restart(ensemble(z1=behind, z2=behind))


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (Operation.FAILOVER, "ZooKeeper elects by itself"),
        (Operation.DRAIN, "haops switchover"),
        (Operation.RESUME, "haops heal"),
        (Operation.REPAIR, "by itself"),
        (Operation.DECOMMISSION, "--nodes N"),
    ],
)
def test_what_zookeeper_does_not_have_is_refused_with_what_to_use(operation: Operation, words: str) -> None:
    with pytest.raises(NotPlannable, match=f"zookeeper has no {operation}") as caught:
        plan(operation, ensemble())
    assert words in (caught.value.hint or "")


views = st.fixed_dictionaries(
    {
        "role": st.sampled_from([Role.FOLLOWER, Role.FOLLOWER, Role.FOLLOWER, Role.OBSERVER, Role.UNKNOWN]),
        "state": st.sampled_from([NodeState.UP, NodeState.UP, NodeState.UP, NodeState.STOPPED]),
        "lag": st.sampled_from([Lag(zxid=0), Lag(zxid=3), Lag(zxid=9999), None]),
        "zone": st.sampled_from([None, "a", "b"]),
    }
)


@given(
    st.integers(1, 7).flatmap(
        lambda n: st.tuples(st.lists(views, min_size=n, max_size=n), st.integers(1, n))
    ),
    st.sampled_from([Operation.SWITCHOVER, Operation.RESTART]),
    st.sampled_from([None, None, ONE, TWO]),
    st.sampled_from([None, "a"]),
)
def test_no_plan_ever_takes_the_running_voters_below_a_majority_and_the_leader_is_last(
    drawn: tuple[list[dict[str, object]], int], operation: Operation, node: str | None, zone: str | None
) -> None:
    changed, leader = drawn
    changed[leader - 1] |= {"role": Role.LEADER, "state": NodeState.UP}
    snapshot = ensemble(len(changed), leader, **{f"z{i}": c for i, c in enumerate(changed, start=1)})
    try:
        made = plan(operation, snapshot, node=node, zone=zone)
    except BadInput:  # it may name a server that so small an ensemble has not
        return
    voters = {v.name for v in snapshot.nodes if v.role is not Role.OBSERVER}
    running = {v.name for v in snapshot.nodes if v.state is NodeState.UP}
    leads = f"zookeeper-{leader}"
    for step in made.steps:
        if step.verb in (STOP, FREEZE):
            assert step.node != leads, "the leader is stopped while it leads"
            running.discard(step.node or "")
        elif step.verb in (START, THAW):
            running.add(step.node or "")
        elif step.verb == HAND_OVER:
            assert step.node == leads
            leads = ""
        assert len(running & voters) > len(voters) // 2, f"no quorum after {step.text}"
    assert running >= {v.name for v in snapshot.nodes if v.state is NodeState.UP}
    stops = [s.node for s in made.steps if s.verb == STOP]
    if f"zookeeper-{leader}" in stops:
        assert stops[-1] == f"zookeeper-{leader}"


# ---- the reconfiguration

CONFIG = (
    "server.1=10.231.0.10:2888:3888:participant;0.0.0.0:2181\n"
    "server.3=10.231.0.12:2889:3888:participant;0.0.0.0:2181\nversion=400000002"
)


@pytest.mark.parametrize(
    ("node", "line"),
    [
        (ONE, "server.1=10.231.0.10:2889:3888:participant;0.0.0.0:2181"),
        (THREE, "server.3=10.231.0.12:2888:3888:participant;0.0.0.0:2181"),
    ],
)
def test_the_quorum_port_goes_to_and_fro(node: str, line: str) -> None:
    assert with_other_port(CONFIG, make_cluster(StoreName.ZOOKEEPER).node(node)) == line


def test_a_server_that_the_ensemble_does_not_know_is_told() -> None:
    with pytest.raises(StepFailed, match="zookeeper-2 does not stand in the ensemble's configuration"):
        with_other_port(CONFIG, make_cluster(StoreName.ZOOKEEPER).node(TWO))


def test_the_superusers_digest_is_the_one_that_zookeeper_computes() -> None:
    # The documented example: DigestAuthenticationProvider super:test.
    cluster = make_cluster(StoreName.ZOOKEEPER, owner="test")
    assert superuser(cluster) == "super:test"
    assert render_context(cluster)["super_digest"] == "super:D/InIHSb7yEEbrWz8b9l71RjZJU="


# ---- steps on a runtime in memory


@dataclass
class FakeEnsemble:
    """Servers that lead and follow as the runtime lets them."""

    cluster: Cluster
    runtime: FakeRuntime
    leader: str = THREE
    successor: str = ONE
    in_vain: int = 0
    asked: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def reports(self, cluster: Cluster, containers: Mapping[str, object]) -> Reports:
        def one(name: str) -> Report:
            if self.runtime.of(self.cluster).nodes[name] is not ContainerState.RUNNING:
                return Unanswered(NodeState.STOPPED, "stopped")
            role = Role.LEADER if name == self.leader else Role.FOLLOWER
            if is_observer(self.cluster.node(name)):
                role = Role.OBSERVER
            return ServerReport(role, 1, "3.9.5", None, 0, 0)

        return {n.name: one(n.name) for n in self.cluster.nodes}

    @contextmanager
    def readiness(self, cluster: Cluster) -> Iterator[FakeReadiness]:
        states = self.runtime.of(self.cluster).nodes.values()
        assert set(states) == {ContainerState.RUNNING}, "waited for a node that nobody started"
        yield FakeReadiness((self.missing,))

    def hand_over(self) -> str:
        self.asked.append("hand over")
        if self.in_vain:
            self.in_vain -= 1
        else:
            self.leader = self.successor
        return "done"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEnsemble:
    cluster = make_cluster(StoreName.ZOOKEEPER)
    made = FakeEnsemble(cluster, FakeRuntime())
    made.runtime.of(cluster).nodes.update({n.name: ContainerState.RUNNING for n in cluster.nodes})

    class Session:
        def __init__(self, cluster: Cluster, leader: object) -> None: ...

        def open(self) -> None:
            made.asked.append("open")

        def close(self) -> None:
            made.asked.append("close")

        def hand_over(self) -> str:
            return made.hand_over()

    monkeypatch.setattr(control, "gather", made.reports)
    monkeypatch.setattr(control, "readiness", made.readiness)
    monkeypatch.setattr(control, "Superuser", Session)
    monkeypatch.setattr(control, "_LEADS_S", 0.1)
    monkeypatch.setattr(control, "_STEPS_DOWN_S", 0.02)
    monkeypatch.setattr("haops.stores.restart.READY_S", 0.1)
    return made


def tools(fake: FakeEnsemble) -> Tools:
    return Tools(fake.runtime, lambda cluster: None, lambda cluster, node: None)


def acts(fake: FakeEnsemble) -> list[tuple[str, ...]]:
    return [c for c in fake.runtime.calls if c[0] in ("stop", "start", "pause", "unpause")]


def carry_out(fake: FakeEnsemble, made: Plan) -> list[str]:
    with CONTROL.conductor(fake.cluster, tools(fake), made) as conductor:
        return [conductor.perform(step) for step in made.steps]


def test_a_rolling_restart_touches_each_server_once_the_old_leader_last(fake: FakeEnsemble) -> None:
    carry_out(fake, restart(ensemble()))
    assert acts(fake) == [
        ("stop", ONE), ("start", ONE), ("stop", TWO), ("start", TWO), ("stop", THREE), ("start", THREE),
    ]  # fmt: skip
    assert fake.leader == ONE
    assert fake.asked == ["hand over", "close"]


def test_an_aimed_switchover_opens_its_session_before_it_holds_a_server(fake: FakeEnsemble) -> None:
    said = carry_out(fake, switchover(ensemble(), node=ONE))
    assert acts(fake) == [("pause", TWO), ("unpause", TWO)]
    assert fake.asked == ["open", "hand over", "close"]
    assert said[3].startswith(f"{ONE} leads")


def test_another_successor_than_the_wanted_one_is_a_failure(fake: FakeEnsemble) -> None:
    fake.successor = TWO
    with pytest.raises(StepFailed, match="zookeeper-2 leads, not zookeeper-1"):
        carry_out(fake, switchover(ensemble(), node=ONE))


def test_a_hand_over_that_came_to_nothing_is_done_again_just_as_before(fake: FakeEnsemble) -> None:
    fake.in_vain = 2
    said = carry_out(fake, switchover(ensemble(), node=ONE))
    assert acts(fake) == [("pause", TWO), ("unpause", TWO)] * 3
    assert fake.asked == ["open", "hand over", "close"] * 3
    assert said[3].endswith("and 3 hand-overs")


def test_a_leader_that_keeps_leading_is_told_with_how_often_it_was_asked(fake: FakeEnsemble) -> None:
    fake.successor = THREE
    with pytest.raises(StepFailed, match="zookeeper-3 leads again after 3 hand-overs"):
        carry_out(fake, switchover(ensemble()))


def test_a_leader_that_was_only_slow_to_step_down_is_not_asked_again(
    fake: FakeEnsemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.in_vain = 1

    @contextmanager
    def steps_down(cluster: Cluster) -> Iterator[FakeReadiness]:
        fake.leader = TWO
        yield FakeReadiness(({},))

    monkeypatch.setattr(control, "readiness", steps_down)
    said = carry_out(fake, switchover(ensemble()))
    assert said[1].startswith(f"{TWO} leads")
    assert fake.asked == ["hand over", "close"]


def test_nobody_who_leads_is_told_with_what_was_seen_last(fake: FakeEnsemble) -> None:
    fake.successor = "nobody"
    with pytest.raises(StepFailed, match="another leader than zookeeper-3") as caught:
        carry_out(fake, switchover(ensemble()))
    assert caught.value.detail == "last seen: nobody leads"


def test_nothing_is_handed_over_by_one_who_does_not_lead_any_more(fake: FakeEnsemble) -> None:
    fake.leader = TWO
    with pytest.raises(StepFailed, match="zookeeper-2 leads, not zookeeper-3"):
        carry_out(fake, switchover(ensemble()))
    assert fake.asked == []


@pytest.mark.parametrize("make", [restart, lambda s: switchover(s, node=TWO)])
def test_a_server_that_went_down_since_the_plan_keeps_the_others_from_being_stopped(
    fake: FakeEnsemble, make: object
) -> None:
    made = make(ensemble())  # type: ignore[operator]
    fake.runtime.of(fake.cluster).nodes[TWO] = ContainerState.STOPPED
    with pytest.raises(StepFailed, match="without zookeeper-1 only zookeeper-3 would serve"):
        carry_out(fake, made)
    assert acts(fake) == []


def test_observers_that_run_are_no_majority(fake: FakeEnsemble) -> None:
    cluster = make_cluster(StoreName.ZOOKEEPER, 3, observers=2)
    nodes = fake.runtime.of(cluster).nodes
    nodes.update({n.name: ContainerState.RUNNING for n in cluster.nodes} | {TWO: ContainerState.STOPPED})
    fake.cluster = cluster
    with (
        CONTROL.conductor(cluster, tools(fake), restart(ensemble())) as conductor,
        pytest.raises(StepFailed, match="without zookeeper-1 only zookeeper-3 would serve, a majority is 2"),
    ):
        conductor.perform(Step(STOP, ONE, ""))


def test_an_ensemble_that_does_not_become_whole_says_what_it_waits_for(fake: FakeEnsemble) -> None:
    fake.missing = {THREE: "1 followers in sync"}
    with pytest.raises(StepFailed) as caught:
        carry_out(fake, restart(ensemble()))
    assert "zookeeper-3 waits for 1 followers in sync" in (caught.value.detail or "")


@pytest.mark.parametrize("cut", range(1, 13))
def test_a_restart_that_is_cut_off_at_any_step_is_mended_and_says_what_is_left(
    fake: FakeEnsemble, cut: int
) -> None:
    made = restart(ensemble())
    with CONTROL.conductor(fake.cluster, tools(fake), made) as conductor:
        for step in made.steps[:cut]:
            conductor.perform(step)
    said = CONTROL.mend(fake.cluster, tools(fake), made, made.steps[:cut])
    assert set(fake.runtime.of(fake.cluster).nodes.values()) == {ContainerState.RUNNING}
    last = made.steps[cut - 1]
    assert (f"started {last.node}" in said) == (last.verb == STOP)
    stopped = {s.node for s in made.steps[:cut] if s.verb == STOP}
    left = [n for n in (ONE, TWO, THREE) if n not in stopped]
    assert said.partition("not restarted yet: ")[2] == ", ".join(left)
    assert f"{fake.leader} leads" in said
    before = acts(fake)
    CONTROL.mend(fake.cluster, tools(fake), made, made.steps[:cut])
    assert acts(fake) == before, "mending twice does nothing twice"


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_switchover_that_fails_or_is_cut_off_leaves_nobody_frozen(fake: FakeEnsemble, cut: int) -> None:
    made = switchover(ensemble(), node=ONE)
    with CONTROL.conductor(fake.cluster, tools(fake), made) as conductor:
        for step in made.steps[:cut]:
            conductor.perform(step)
        said = conductor.put_back(made.steps[: cut - 1], made.steps[cut - 1])
    assert set(fake.runtime.of(fake.cluster).nodes.values()) == {ContainerState.RUNNING}
    assert (f"thawed {TWO}" in said) == (cut in (1, 2))
    assert f"{fake.leader} leads" in said


def test_only_what_the_plan_touched_is_started(fake: FakeEnsemble) -> None:
    fake.runtime.of(fake.cluster).nodes[TWO] = ContainerState.STOPPED
    step = Step(STOP, ONE, "")
    with pytest.raises(AssertionError, match="nobody started"):
        control.make_whole(fake.cluster, fake.runtime, (step,))
    assert acts(fake) == []


def test_the_session_that_reconfigures_ends_with_the_plan_whatever_happens(fake: FakeEnsemble) -> None:
    fake.successor = THREE
    with pytest.raises(StepFailed):
        carry_out(fake, switchover(ensemble(), node=ONE))
    assert fake.asked[-1] == "close"


def test_a_leader_that_does_not_answer_is_a_failed_step_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "_ANSWER_S", 0.2)
    cluster = make_cluster(StoreName.ZOOKEEPER, ports=[1] * 6)
    with pytest.raises(StepFailed, match="zookeeper-3 did not hand its role over"):
        handover.Superuser(cluster, cluster.node(THREE)).open()

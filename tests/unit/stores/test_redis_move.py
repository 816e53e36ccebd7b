"""Moving a primary on servers and Sentinels in memory: every step, every failure, every way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from haops.cluster.state import StateDir
from haops.control.execute import Operations, Order, StepProgress
from haops.control.journal import Outcome
from haops.control.lifecycle import Lifecycle
from haops.errors import HaopsError, Interrupted
from haops.runtime.port import ContainerState
from haops.stores.plan import Intent, Operation, Plan, Step, StepFailed, Tools
from haops.stores.redis import move
from haops.stores.redis import plan as plans
from haops.stores.redis.control import CONTROL
from haops.stores.redis.links import Links
from haops.stores.redis.move import RedisConductor
from haops.stores.redis.sentinel import Mandate, Sentinels
from haops.stores.redis.servers import Servers
from haops.stores.restart import AWAIT, START, STOP

from ...fake_redis import FakeSentinel, FakeSet
from ...fakes import FakeRuntime
from .conftest import LinkTime

ONE, TWO, THREE = "redis-1", "redis-2", "redis-3"
INTENT = Intent(Operation.SWITCHOVER)
VERBS = (
    plans.EPOCH, plans.CHAIN, plans.FENCE, plans.PAUSE, plans.CATCH_UP,
    plans.PROMOTE, plans.ADVERTISE, plans.DEMOTE, plans.SETTLE,
)  # fmt: skip


@pytest.fixture(autouse=True)
def patience(link_time: LinkTime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers and Sentinels in a busy test process answer later than real ones."""
    monkeypatch.setattr("haops.stores.redis.sentinel.ROUND_S", 1.0)
    monkeypatch.setattr(Servers.views, "__defaults__", (2.0,))
    monkeypatch.setattr(move, "_TIMEOUT_S", 3.0)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that no test wants to sit out."""
    for name in ("_CATCH_UP_S", "_CHAIN_S", "_SETTLE_S", "_WINNER_S"):
        monkeypatch.setattr(move, name, 0.3)


@pytest.fixture
def tools(runtime: FakeRuntime) -> Tools:
    return Tools(runtime, lambda cluster: None, lambda cluster, node: None)


@pytest.fixture
def ops(group: FakeSet, state: StateDir, runtime: FakeRuntime) -> Operations:
    cluster = replace(group.cluster, owner=state.owner())
    # The Sentinels' ids hang on the project's name, which hangs on the owner.
    group.cluster = cluster
    group.settle_in([n.host_port for n in cluster.nodes])
    state.save(group.cluster)
    runtime.of(group.cluster).nodes = {n.name: ContainerState.RUNNING for n in group.cluster.nodes}
    return Operations(Lifecycle(state, runtime, lambda store, image: "image:1"))


def switchover(group: FakeSet, node: str = TWO) -> Plan:
    return Plan(group.cluster.name, Operation.SWITCHOVER, ONE, node, (), "")


def put_back(group: FakeSet, links: Links, mandate: Mandate | None = None) -> str:
    return move.put_back(group.cluster, links, switchover(group), mandate)


def order(report: Callable[[StepProgress], None] = lambda _: None) -> Order:
    return Order("ann@host", "a test", report=report)


def serves(group: FakeSet, primary: str) -> None:
    """One primary that takes writes, which all Sentinels name and all servers follow."""
    assert group.primaries == [primary]
    assert group.named() == {primary}
    leading = group.servers[primary]
    assert all(
        s.upstream == leading.address and s.link_up for s in group.servers.values() if s is not leading
    )
    assert not any(s.paused for s in group.servers.values())
    assert leading.config["min-replicas-to-write"] == "1"
    assert group.mistakes == []


# ---- a whole switchover


def test_a_switchover_ends_with_one_primary_that_everybody_names(ops: Operations, group: FakeSet) -> None:
    done = ops.carry_out(group.cluster, INTENT, order())
    assert [s.verb for s in done.plan.steps] == list(VERBS)
    serves(group, TWO)
    (record,) = ops.journal(group.cluster).read()
    assert record.outcome is Outcome.DONE
    assert all(name in record.steps[0].outcome for name in group.sentinels)
    assert record.steps[-1].outcome == "3 Sentinels agree, 2 replicas in sync, 0 full copies"


def test_writes_are_paused_before_the_promotion_and_released_after_the_demotion(
    ops: Operations, group: FakeSet
) -> None:
    log: list[str] = []
    for name, server in group.servers.items():

        def note(words: tuple[str, ...], name: str = name) -> None:
            log.append(f"{name} {' '.join(words[:2])}")

        server.before = note
    ops.carry_out(group.cluster, INTENT, order())
    acts = [line for line in log if any(w in line for w in ("PAUSE", "REPLICAOF", "KILL"))]
    addresses = {name: s.address[0] for name, s in group.servers.items()}
    assert acts == [
        f"{THREE} REPLICAOF {addresses[TWO]}",
        f"{ONE} CLIENT PAUSE",
        f"{TWO} REPLICAOF NO",
        f"{ONE} REPLICAOF {addresses[TWO]}",
        f"{ONE} CLIENT UNPAUSE",
        f"{ONE} CLIENT KILL",
    ]
    assert log.index(f"{ONE} CLIENT PAUSE") < log.index(f"{TWO} REPLICAOF NO")
    assert sum(line.endswith("CONFIG REWRITE") for line in log) == 3


def test_a_pause_has_an_end_of_its_own_and_holds_only_writes(ops: Operations, group: FakeSet) -> None:
    ops.carry_out(group.cluster, INTENT, order())
    assert group.servers[ONE].said("CLIENT PAUSE") == [("CLIENT", "PAUSE", str(move.PAUSE_MS), "WRITE")]
    assert group.servers[ONE].said("CLIENT KILL") == [("CLIENT", "KILL", "TYPE", "normal")]


def test_a_switchover_and_back_again_wins_a_higher_epoch(ops: Operations, group: FakeSet) -> None:
    for target in (TWO, ONE, THREE):
        ops.carry_out(group.cluster, Intent(Operation.SWITCHOVER, node=target), order())
        serves(group, target)
    assert {s.config_epoch for s in group.sentinels.values()} == {3}


def test_a_failover_of_a_dead_primary_needs_no_word_of_it(
    ops: Operations, group: FakeSet, runtime: FakeRuntime
) -> None:
    runtime.of(group.cluster).nodes[ONE] = ContainerState.STOPPED
    dead = group.servers[ONE]
    dead.silent = True
    for server in (group.servers[TWO], group.servers[THREE]):
        server.link_up = False
    ops.carry_out(group.cluster, Intent(Operation.FAILOVER), order())
    assert dead.said("REPLICAOF") == dead.said("CLIENT") == []
    assert group.named() == {TWO}
    assert group.servers[THREE].upstream == group.servers[TWO].address


# ---- a failure at each step


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("trouble", [StepFailed("a test"), KeyboardInterrupt()], ids=["failure", "Ctrl-C"])
def test_trouble_at_any_step_leaves_one_primary_that_takes_writes(
    ops: Operations,
    group: FakeSet,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    moment: str,
    trouble: BaseException,
) -> None:
    original = RedisConductor.perform

    def perform(self: RedisConductor, step: Step) -> str:
        if step.verb == verb and moment == "before":
            raise trouble
        outcome = original(self, step)
        if step.verb == verb:
            raise trouble
        return outcome

    monkeypatch.setattr(RedisConductor, "perform", perform)
    with pytest.raises((StepFailed, Interrupted, KeyboardInterrupt)) as caught:
        ops.carry_out(group.cluster, INTENT, order())
    assert isinstance(caught.value, HaopsError)
    promoted = VERBS.index(verb) + (moment == "after") > VERBS.index(plans.PROMOTE)
    serves(group, TWO if promoted else ONE)
    (record,) = ops.journal(group.cluster).read()
    assert record.outcome is Outcome.PUT_BACK


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("moment", ["begun", "ended"])
def test_a_haops_that_dies_at_any_step_leaves_what_mend_puts_right(
    ops: Operations, group: FakeSet, tools: Tools, monkeypatch: pytest.MonkeyPatch, verb: str, moment: str
) -> None:
    monkeypatch.setattr(move.Restarter, "await_ready", lambda self: "whole again")
    plan = ops.plan(group.cluster, INTENT)
    entry = ops.journal(group.cluster).begin(plan, "bob@host", "died")
    with CONTROL.conductor(group.cluster, tools, plan) as conductor:
        for step in plan.steps:
            entry.step(step)
            if step.verb == verb and moment == "begun":
                break
            conductor.perform(step)
            if step.verb == verb:
                break
    ops.mend(group.cluster)
    promoted = VERBS.index(verb) + (moment == "ended") > VERBS.index(plans.PROMOTE)
    serves(group, TWO if promoted else ONE)
    assert ops.mend(group.cluster) == ()
    serves(group, TWO if promoted else ONE)


def test_a_candidate_that_does_not_catch_up_leaves_the_old_primary_in_service(
    ops: Operations, group: FakeSet, quick: None
) -> None:
    group.servers[TWO].stuck = True
    group.servers[ONE].write(500)
    with pytest.raises(StepFailed, match="500 B behind redis-1") as caught:
        ops.carry_out(group.cluster, Intent(Operation.SWITCHOVER, node=TWO), order())
    assert caught.value.message.startswith("catch-up redis-2")
    assert "redis-1 is the primary as before" in str(caught.value.hint)
    serves(group, ONE)


def test_a_failover_of_the_sentinels_own_during_the_pause_is_not_overrun(
    ops: Operations, group: FakeSet, quick: None
) -> None:
    three = group.servers[THREE]

    def moved(words: tuple[str, ...]) -> None:
        if words[:2] == ("CLIENT", "PAUSE"):
            three.follow(None)
            for sentinel in group.sentinels.values():
                sentinel.primary, sentinel.config_epoch = three.address, 9

    group.servers[ONE].before = moved
    with pytest.raises(StepFailed, match="send clients elsewhere") as caught:
        ops.carry_out(group.cluster, INTENT, order())
    assert "the Sentinels have made redis-3 the primary" in str(caught.value.hint)
    assert group.primaries == [THREE]
    assert group.named() == {THREE}
    assert group.servers[ONE].upstream == three.address
    assert not group.servers[ONE].paused


def test_too_few_sentinels_that_hear_is_a_failure(ops: Operations, group: FakeSet, quick: None) -> None:
    for sentinel in list(group.sentinels.values())[:2]:

        def deaf(words: tuple[str, ...], sentinel: FakeSentinel = sentinel) -> None:
            sentinel.silent = sentinel.silent or words[0] == "PUBLISH"

        sentinel.before = deaf
    with pytest.raises(HaopsError) as caught:
        ops.carry_out(group.cluster, INTENT, order())
    assert "1 of 3 Sentinels heard of it" in caught.value.message


def test_a_replica_that_does_not_answer_is_left_to_the_sentinels(
    group: FakeSet, tools: Tools, links: Links
) -> None:
    links[THREE].close()
    conductor = RedisConductor(group.cluster, tools, switchover(group), links)
    for verb in (plans.CHAIN, plans.FOLLOW):
        assert "it does not answer" in conductor.perform(Step(verb, THREE, ""))
    assert group.servers[THREE].said("REPLICAOF") == []


def test_every_step_of_a_redis_plan_is_known_to_its_conductor(
    group: FakeSet, tools: Tools, links: Links
) -> None:
    conductor = RedisConductor(group.cluster, tools, switchover(group), links)
    known = set(conductor._acts)
    assert {*VERBS, plans.FOLLOW, plans.REJOIN, STOP, START, AWAIT} <= known


# ---- putting back


def promote(group: FakeSet, name: str = TWO) -> None:
    group.servers[name].follow(None)


def test_a_candidate_that_is_no_primary_yet_goes_back(group: FakeSet, links: Links) -> None:
    group.servers[THREE].follow(group.servers[TWO].address)
    group.servers[ONE].paused = True
    said = put_back(group, links)
    assert said == "redis-1 is the primary as before, and takes writes"
    serves(group, ONE)


def test_a_promoted_candidate_goes_forward_while_the_old_one_has_taken_nothing_since(
    group: FakeSet, links: Links
) -> None:
    group.servers[THREE].follow(group.servers[TWO].address)
    group.servers[ONE].paused = True
    promote(group)
    assert put_back(group, links).startswith("redis-2 is the primary: ")
    serves(group, TWO)


def test_a_move_goes_forward_under_the_epoch_that_it_won_already(group: FakeSet, links: Links) -> None:
    promote(group)
    mandate = Sentinels(group.cluster, links).win_epoch(group.cluster.node(ONE))
    put_back(group, links, mandate)
    assert {s.config_epoch for s in group.sentinels.values()} == {mandate.epoch}
    assert all(len(s.said("SENTINEL IS-MASTER")) == 1 for s in group.sentinels.values())


def test_a_promoted_candidate_goes_back_when_the_old_one_wrote_and_is_still_named(
    group: FakeSet, links: Links
) -> None:
    promote(group)
    group.servers[ONE].write(100)
    assert put_back(group, links).startswith("redis-1 is the primary as before")
    serves(group, ONE)


def test_two_that_wrote_and_of_whom_nobody_is_named_are_left_alone_and_both_told(
    group: FakeSet, links: Links
) -> None:
    promote(group)
    group.servers[ONE].write(100)
    group.servers[TWO].write(50)
    for sentinel, name in zip(group.sentinels.values(), (ONE, TWO, THREE), strict=True):
        sentinel.primary = group.servers[name].address
    with pytest.raises(StepFailed, match="redis-1 and redis-2 are both primaries"):
        put_back(group, links)
    assert sorted(group.primaries) == [ONE, TWO]
    assert group.servers[ONE].said("REPLICAOF") == group.servers[TWO].said("REPLICAOF") == []


def test_a_third_that_the_sentinels_named_is_left_the_primary(group: FakeSet, links: Links) -> None:
    promote(group, THREE)
    for sentinel in group.sentinels.values():
        sentinel.primary = group.servers[THREE].address
    group.servers[ONE].paused = True
    said = put_back(group, links)
    assert said == "the Sentinels have made redis-3 the primary; redis-1 follows it"
    assert group.servers[ONE].upstream == group.servers[THREE].address
    assert not group.servers[ONE].paused
    calls = [c[:2] for c in group.servers[ONE].calls if c[0] in ("REPLICAOF", "CLIENT")]
    assert calls[0][0] == "REPLICAOF"  # before its writes are released


def test_what_the_sentinels_told_clients_of_goes_forward_even_if_the_old_one_wrote(
    group: FakeSet, links: Links
) -> None:
    promote(group)
    group.servers[ONE].write(100)
    for sentinel in group.sentinels.values():
        sentinel.primary, sentinel.config_epoch = group.servers[TWO].address, 1
    put_back(group, links)
    serves(group, TWO)
    assert not any(s.said("SENTINEL IS-MASTER") for s in group.sentinels.values())


def test_an_old_primary_that_does_not_answer_cannot_be_put_back(group: FakeSet, links: Links) -> None:
    group.servers[ONE].silent = True
    with pytest.raises(StepFailed, match="does not answer") as caught:
        put_back(group, links)
    assert "haops failover" in str(caught.value.hint)


def test_a_replica_that_became_a_primary_meanwhile_is_not_turned_back(group: FakeSet, links: Links) -> None:
    promote(group, THREE)
    put_back(group, links)
    assert group.servers[THREE].upstream is None


def test_nothing_is_touched_when_only_votes_were_asked_for(
    group: FakeSet, links: Links, tools: Tools
) -> None:
    conductor = RedisConductor(group.cluster, tools, switchover(group), links)
    assert conductor.put_back([], Step(plans.EPOCH, None, "")) == "nothing was changed"
    assert all(s.calls == [] for s in group.servers.values())


@pytest.mark.parametrize("failed", [STOP, START, AWAIT])
def test_a_node_that_a_restart_stopped_is_started_again(
    group: FakeSet, links: Links, tools: Tools, runtime: FakeRuntime, failed: str
) -> None:
    conductor = RedisConductor(group.cluster, tools, switchover(group), links)
    said = conductor.put_back([Step(STOP, THREE, "")], Step(failed, THREE, ""))
    assert said == "redis-3 was started; the others were left as they are"
    assert runtime.calls == [("start", THREE)]


@pytest.mark.parametrize("failed", [STOP, START])
def test_the_old_primary_that_a_restart_stopped_after_the_move_is_started_again(
    ops: Operations,
    group: FakeSet,
    tools: Tools,
    runtime: FakeRuntime,
    monkeypatch: pytest.MonkeyPatch,
    failed: str,
) -> None:
    made = ops.plan(group.cluster, Intent(Operation.RESTART, node=ONE))
    runtime.fail[failed] = [KeyboardInterrupt()]
    runtime.calls.clear()
    with (
        pytest.raises((Interrupted, KeyboardInterrupt)),
        ops.lifecycle.state.lock(group.cluster.name, "restart"),
    ):
        ops.run(group.cluster, made, order())
    assert group.primaries == [TWO]
    starts = runtime.calls.count(("start", ONE))
    assert starts == (2 if failed == START else 1)  # the one that failed counts


# ---- mend


def test_mend_of_a_plan_that_began_nothing_changes_nothing(group: FakeSet, tools: Tools) -> None:
    assert CONTROL.mend(group.cluster, tools, switchover(group), ()) == "nothing had been changed"
    assert all(m.calls == [] for m in group.members.values())


def test_mend_starts_what_a_restart_had_stopped(
    group: FakeSet, tools: Tools, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(move.Restarter, "await_ready", lambda self: "whole again")
    plan = Plan(group.cluster.name, Operation.RESTART, THREE, None, (), "")
    assert CONTROL.mend(group.cluster, tools, plan, [Step(STOP, THREE, "")]) == "whole again"
    assert runtime.calls == [("start", THREE)]


def test_mend_of_a_half_done_failover_ends_with_one_primary(group: FakeSet, tools: Tools) -> None:
    promote(group)
    group.servers[ONE].silent = True
    plan = Plan(group.cluster.name, Operation.FAILOVER, ONE, TWO, (), "")
    CONTROL.mend(group.cluster, tools, plan, [Step(plans.EPOCH, None, ""), Step(plans.PROMOTE, TWO, "")])
    assert group.named() == {TWO}
    assert group.servers[THREE].upstream == group.servers[TWO].address

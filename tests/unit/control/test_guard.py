"""The guard's decisions, on a watch that plays a script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fakes import FakeRuntime, make_cluster

from haops.cluster.snapshot import Lag, NodeState, NodeView, Role, Snapshot, Verdict
from haops.cluster.spec import Cluster
from haops.cluster.state import StateDir
from haops.control.execute import Operations
from haops.control.guard import Act, Guard, GuardSettings, Memory, Word, behind, blocked
from haops.control.journal import Outcome
from haops.control.lifecycle import Lifecycle
from haops.control.orders import OrderFile, Orders
from haops.health.beat import Beat, Evidence
from haops.health.corroborate import Reach, Witness
from haops.stores.plan import Conductor, Operation, Plan, Step, StepFailed

NOW = datetime(2025, 6, 1, tzinfo=UTC)


def views(cluster: Cluster, primary: str | None, lost: str | None = None, position: int = 100) -> Snapshot:
    named = primary or lost
    nodes = []
    for node in cluster.nodes:
        view = NodeView(node.name, Role.REPLICA, NodeState.UP, node.host, node.host_port)
        if node in cluster.sentinels:
            view = replace(view, role=Role.SENTINEL, follows=named)
        elif node.name == lost:
            view = replace(view, role=Role.UNKNOWN, state=NodeState.UNREACHABLE)
        elif node.name == primary:
            view = replace(view, role=Role.PRIMARY, position=position, lag=Lag(bytes=0))
        else:
            view = replace(view, follows=named, position=position, lag=Lag(bytes=0), priority=100)
        nodes.append(view)
    return Snapshot(cluster.name, cluster.store, "async", NOW, Verdict.HEALTHY, (), tuple(nodes))


class Hand:
    """A conductor that only writes down."""

    def __init__(self, fails_at: str | None) -> None:
        self.did: list[str] = []
        self.fails_at = fails_at

    def perform(self, step: Step) -> str:
        self.did.append(step.verb)
        if step.verb == self.fails_at:
            raise StepFailed("the Sentinels voted for somebody else")
        return "done"

    def put_back(self, done: Sequence[Step], failed: Step) -> str:
        return "nothing was changed"


class ScriptedWatch:
    """Plays probes; its witnesses and pictures are set by the test."""

    def __init__(self, cluster: Cluster, beats: Sequence[Evidence]) -> None:
        self.cluster = cluster
        self.primary = "redis-1"
        self.majorities: Mapping[str, int] = {"sentinel": 2}
        self.beats = list(beats)
        self.said: list[Witness] = witnesses(Reach.LOST)
        self.picture = views(cluster, None, lost="redis-1")
        self.surveyed = views(cluster, "redis-1")
        self.hand = Hand(None)
        self.clock = 0
        self.guard: Guard | None = None

    def aim(self, node: str) -> None:
        self.primary = node

    def probe(self, patience_s: float) -> Beat:
        sent = self.clock
        self.clock += 1_000_000
        if not self.beats:
            assert self.guard
            self.guard.stop()
            return Beat(sent, self.clock, Evidence.ANSWERED)
        return Beat(sent, self.clock, self.beats.pop(0))

    def witnesses(self) -> Sequence[Witness]:
        return self.said

    def reassured(self) -> None:
        pass

    def glance(self) -> Snapshot:
        return self.picture

    def survey(self) -> Snapshot:
        return self.surveyed

    def stray(self, snapshot: Snapshot) -> Plan | None:
        return None

    @contextmanager
    def conductor(self, plan: Plan) -> Iterator[Conductor]:
        yield self.hand


class Leads:
    words = "leads by the test"

    def __init__(self, *answers: bool) -> None:
        self._answers = list(answers)

    def held(self) -> bool:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def witnesses(reach: Reach) -> list[Witness]:
    servers = [Witness(f"redis-{i}", "replica", reach, "its link is down") for i in (2, 3)]
    return [*servers, *(Witness(f"sentinel-{i}", "sentinel", reach, "disconnected") for i in (1, 2, 3))]


@pytest.fixture
def cluster() -> Cluster:
    return make_cluster("redis")


class Scene:
    """A guard over a scripted watch."""

    def __init__(self, tmp_path: Path, cluster: Cluster, beats: Sequence[Evidence]) -> None:
        state = StateDir(tmp_path)
        state.save(cluster)
        self.operations = Operations(Lifecycle(state, FakeRuntime(), lambda *_: "image:1"))
        self.cluster = cluster
        self.watch = ScriptedWatch(cluster, beats)
        self.words: list[Word] = []
        self.leadership = Leads(True)
        self.settings = GuardSettings(interval_s=0.0001)
        self.orders = OrderFile(state.cluster_dir(cluster.name))

    def run(self) -> list[Act]:
        guard = Guard(
            self.operations, self.cluster, self.watch, self.leadership, self.settings, self.words.append
        )
        self.watch.guard = guard
        guard.run()
        return [w.act for w in self.words]

    def journal(self) -> list[tuple[Operation, Outcome]]:
        return [(r.plan.operation, r.outcome) for r in self.operations.journal(self.cluster).read()]


DEAD = [Evidence.ANSWERED, Evidence.REFUSED, Evidence.REFUSED]


def test_a_dead_primary_that_all_have_lost_is_succeeded_once(tmp_path: Path, cluster: Cluster) -> None:
    scene = Scene(tmp_path, cluster, [*DEAD, Evidence.ANSWERED, Evidence.ANSWERED])
    acts = scene.run()
    assert acts.count(Act.FAILOVER) == 1
    assert scene.journal() == [(Operation.FAILOVER, Outcome.DONE)]
    assert scene.watch.primary == "redis-2"
    (record,) = scene.operations.journal(cluster).read()
    assert "refused" in record.reason and record.actor.startswith("guard")


def test_one_refused_probe_is_no_suspicion(tmp_path: Path, cluster: Cluster) -> None:
    scene = Scene(tmp_path, cluster, [Evidence.ANSWERED, Evidence.REFUSED, Evidence.ANSWERED])
    assert Act.FAILOVER not in scene.run()
    assert scene.journal() == []


@pytest.mark.parametrize("reacher", [0, 1, 2, 3, 4])
def test_whoever_still_reaches_the_primary_holds_the_guard_back(
    tmp_path: Path, cluster: Cluster, reacher: int
) -> None:
    scene = Scene(tmp_path, cluster, [*DEAD, Evidence.REFUSED])
    scene.watch.said[reacher] = replace(scene.watch.said[reacher], reach=Reach.REACHED)
    acts = scene.run()
    assert Act.PARTITIONED in acts
    assert scene.journal() == []


def test_without_a_majority_of_sentinels_it_only_suspects(tmp_path: Path, cluster: Cluster) -> None:
    scene = Scene(tmp_path, cluster, [*DEAD, Evidence.REFUSED])
    for i in (2, 3):
        scene.watch.said[i] = replace(scene.watch.said[i], reach=Reach.CANNOT_SAY)
    assert Act.SUSPECTS in scene.run()
    assert scene.journal() == []


def test_a_paused_guard_tells_but_does_not_act(tmp_path: Path, cluster: Cluster) -> None:
    scene = Scene(tmp_path, cluster, DEAD)
    scene.orders.pause(None)
    assert Act.HELD_BACK in scene.run()
    assert scene.journal() == []
    assert any("paused" in w.text for w in scene.words)


def test_orders_that_cannot_be_read_hold_it_back(tmp_path: Path, cluster: Cluster) -> None:
    scene = Scene(tmp_path, cluster, DEAD)
    (scene.operations.lifecycle.state.cluster_dir(cluster.name) / "guard.json").write_text("{")
    assert Act.HELD_BACK in scene.run()
    assert scene.journal() == []


def test_a_second_failover_within_the_block_is_held_back(tmp_path: Path, cluster: Cluster) -> None:
    scene = Scene(tmp_path, cluster, [*DEAD, *DEAD])
    acts = scene.run()
    assert acts.count(Act.FAILOVER) == 1
    assert Act.HELD_BACK in acts
    assert any("anti-flap" in w.text for w in scene.words)


def test_a_copy_that_lacks_too_much_is_not_promoted(tmp_path: Path, cluster: Cluster) -> None:
    scene = Scene(tmp_path, cluster, DEAD)
    scene.settings = replace(scene.settings, max_lag=1000)
    scene.watch.surveyed = views(cluster, "redis-1", position=5000)
    scene.watch.picture = views(cluster, None, lost="redis-1", position=100)
    assert Act.FAILED in scene.run()
    assert scene.journal() == []
    assert any("lacks 4,900 B" in w.text for w in scene.words)


def test_a_guard_that_loses_its_lease_before_a_step_does_not_do_it(tmp_path: Path, cluster: Cluster) -> None:
    scene = Scene(tmp_path, cluster, DEAD)
    # Held for three probes and the first step, gone before the second.
    leadership = Leads(True, True, True, True, False)
    guard = Guard(scene.operations, cluster, scene.watch, leadership, scene.settings, scene.words.append)
    for _ in range(4):
        guard._turn()
    assert scene.watch.hand.did == ["take-epoch"]
    assert scene.journal()[0] == (Operation.FAILOVER, Outcome.PUT_BACK)


def test_a_standby_neither_probes_nor_acts(tmp_path: Path, cluster: Cluster) -> None:
    scene = Scene(tmp_path, cluster, DEAD)
    guard = Guard(scene.operations, cluster, scene.watch, Leads(False), scene.settings, scene.words.append)
    guard._turn()
    assert scene.watch.beats == DEAD
    assert [w.act for w in scene.words] == [Act.STANDBY]


def test_lost_votes_leave_it_to_the_winner(tmp_path: Path, cluster: Cluster) -> None:
    scene = Scene(tmp_path, cluster, [*DEAD, Evidence.ANSWERED])
    scene.watch.hand.fails_at = "take-epoch"
    acts = scene.run()
    assert Act.FAILED in acts and Act.FAILOVER not in acts
    assert scene.watch.hand.did == ["take-epoch"]


def test_a_role_that_somebody_else_moved_is_followed(tmp_path: Path, cluster: Cluster) -> None:
    scene = Scene(tmp_path, cluster, [Evidence.ANSWERED])
    scene.watch.surveyed = views(cluster, "redis-3")
    scene.run()
    assert scene.watch.primary == "redis-3"


def test_a_guard_that_starts_without_a_primary_takes_the_sentinels_word(
    tmp_path: Path, cluster: Cluster
) -> None:
    scene = Scene(tmp_path, cluster, [])
    scene.watch.surveyed = views(cluster, None, lost="redis-2")
    scene.run()
    assert scene.watch.primary == "redis-2"


def test_the_block_ends() -> None:
    settings = GuardSettings(block_s=60)
    assert blocked(Memory(last_failover=100.0), settings, NOW, 159.0) is not None
    assert blocked(Memory(last_failover=100.0), settings, NOW, 160.0) is None
    assert blocked(Memory(orders=Orders(paused=True)), settings, NOW, 0.0) == "paused"


def test_what_a_copy_lacks_is_never_negative(cluster: Cluster) -> None:
    plan = Plan("redis", Operation.FAILOVER, "redis-1", "redis-2", (), "")
    assert behind(plan, views(cluster, None, lost="redis-1", position=100), 40) == 0
    assert behind(plan, views(cluster, None, lost="redis-1", position=100), None) == 0
    assert behind(plan, views(cluster, None, lost="redis-1", position=100), 140) == 40

"""Carrying plans out on a ring of fake servers; cutting them off at every step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import fakes
import pytest

from haops.cluster.snapshot import NodeState
from haops.cluster.spec import Cluster, Node
from haops.errors import EnvironmentTrouble, HaopsError
from haops.runtime.port import ContainerState
from haops.stores import load
from haops.stores.cassandra import conductor as work
from haops.stores.cassandra import plan as plans
from haops.stores.cassandra.nodetool import Nodetool
from haops.stores.cassandra.ring import quiet_clients
from haops.stores.cassandra.topology import is_replaced
from haops.stores.plan import Intent, Operation, Plan, Step, StepFailed, Tools
from haops.stores.restart import AWAIT, STOP

NAMES: Final = ("cassandra-1", "cassandra-2", "cassandra-3", "cassandra-4")
VICTIM: Final = "cassandra-4"


@dataclass
class Server:
    """What a node's process is at; its container stands in the fake runtime."""

    mode: str = "NORMAL"
    open: bool = True
    rows: bool = True
    jobs: dict[str, str] = field(default_factory=dict)


class World:
    """Four servers, an engine, a record."""

    def __init__(self) -> None:
        self.cluster = fakes.make_cluster("cassandra", 4, name="cash")
        self.runtime = fakes.FakeRuntime()
        self.runtime.answer = self.execute
        self.servers = {n.name: Server() for n in self.cluster.nodes}
        self.nodes = self.runtime.of(self.cluster).nodes
        self.nodes.update({n.name: ContainerState.RUNNING for n in self.cluster.nodes})
        self.refuses: dict[str, str] = {}
        self.laid_out: list[Cluster] = []

    @property
    def tools(self) -> Tools:
        return Tools(self.runtime, self.lay_out, self.forget_disk)

    def lay_out(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.laid_out.append(cluster)
        for node in cluster.nodes:
            if node.name not in self.nodes:
                assert is_replaced(node), "an empty disk may not come back without its copies"
                self.servers[node.name] = Server()
            self.nodes[node.name] = ContainerState.RUNNING

    def forget_disk(self, cluster: Cluster, node: str) -> None:
        self.runtime.forget_disk(cluster, node)
        self.servers.pop(node, None)

    def execute(self, node: str, argv: Sequence[str]) -> tuple[int, str]:
        if self.nodes.get(node) is not ContainerState.RUNNING:
            raise EnvironmentTrouble("the engine refused, or is gone")
        server = self.servers[node]
        if argv[:2] == ["nodetool", "netstats"]:
            return 0, f"Mode: {server.mode}\nNot sending any streams.\n"
        if argv[0] == "bash" and len(argv) > 4 and "nodetool" in argv[2] and ">$job.log" in argv[2]:
            return self.order(node, argv[5])
        if argv[0] == "bash" and len(argv) > 3:
            return 0, f"{server.jobs.get(argv[4], 'none')}\nPreviewed data was in sync\n"
        for order in argv[2].replace("nodetool ", "").split(" && "):
            code, said = self.order(node, order)
            if code:
                return code, said
        return 0, ""

    def order(self, node: str, order: str) -> tuple[int, str]:
        if order in self.refuses:
            return 1, f"error: {self.refuses[order]}"
        server = self.servers[node]
        match order:
            case "disablebinary":
                server.open = False
            case "enablebinary":
                assert server.mode == "NORMAL"
                server.open = True
            case "drain":
                server.mode, server.open = "DRAINED", False
            case "decommission":
                assert not server.open, "clients are sent away before a node leaves"
                server.mode = "DECOMMISSIONED"
                server.jobs["decommission"] = "0"
            case "repair":
                for keyspace in ("repair-haops", "compare-haops"):
                    server.jobs[keyspace] = "0"
        return 0, ""

    def started(self) -> None:
        """A server that was started serves as new."""
        last = self.runtime.calls[-1] if self.runtime.calls else ("",)
        if last[0] == "start":
            kept = self.servers[last[1]]
            kept.mode, kept.open, kept.jobs = "NORMAL", True, {}

    def answers(self, node: Node) -> bool:
        running = self.nodes.get(node.name) is ContainerState.RUNNING
        server = self.servers.get(node.name)
        return running and server is not None and server.open and server.mode == "NORMAL"

    def whole(self) -> list[str]:
        return [n.name for n in self.cluster.nodes if not self.answers(n)]


class FakeRing:
    """What the members say, from the world."""

    world: World

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def close(self) -> None:
        """Nothing is open."""

    def doubts(self, node: str, coordinators: Sequence[str]) -> Mapping[str, str]:
        return {}

    def not_given_up(self, node: str, coordinators: Sequence[str]) -> Mapping[str, str]:
        return {}

    def hints(self, node: str, keepers: Sequence[str]) -> int:
        return 0

    def clients(self, node: str) -> int:
        return 2

    def keyspaces(self) -> Sequence[str]:
        return ["haops"]

    def last_repair(self) -> str:
        return "never repaired before"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World()
    start = world.runtime.start

    def started(cluster: Cluster, node: str) -> None:
        begun = world.nodes.get(node) is not ContainerState.RUNNING
        start(cluster, node)
        if begun:
            world.started()

    monkeypatch.setattr(world.runtime, "start", started)
    monkeypatch.setattr(work, "Ring", FakeRing)
    monkeypatch.setattr(work, "answers", world.answers)
    monkeypatch.setattr(work, "READY_S", 0.0)
    monkeypatch.setattr(work, "_POLL_S", 0.0)
    monkeypatch.setattr(work, "_DISPATCH_S", 0.0)
    yield world


def planned(world: World, operation: Operation) -> Plan:
    """A plan on the last node, dead where the operation wants it so."""
    states = {}
    if operation in (Operation.REPLACE, Operation.RESUME):
        world.nodes[VICTIM] = ContainerState.STOPPED
        states = {VICTIM: NodeState.STOPPED}
    whole = fakes.snapshot(world.cluster)
    views = tuple(replace(v, state=states.get(v.name, v.state)) for v in whole.nodes)
    snapshot = replace(whole, nodes=views)
    return load(world.cluster.store).control.plan(world.cluster, snapshot, Intent(operation, node=VICTIM))


def conductor(world: World) -> work.CassandraConductor:
    return work.CassandraConductor(world.cluster, world.tools)


OPERATIONS = (
    Operation.RESTART,
    Operation.DRAIN,
    Operation.RESUME,
    Operation.REPLACE,
    Operation.REPAIR,
    Operation.DECOMMISSION,
)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_plan_does_what_it_says(world: World, operation: Operation) -> None:
    plan, acting = planned(world, operation), conductor(world)
    outcomes = {step.verb: acting.perform(step) for step in plan.steps}
    assert all(outcomes.values())
    assert world.whole() == ([VICTIM] if operation is Operation.DRAIN else [])
    assert (VICTIM in world.nodes) is (operation is not Operation.DECOMMISSION)
    assert len(world.cluster.nodes) == (3 if operation is Operation.DECOMMISSION else 4)


STEPS = [
    (operation, number, acted)
    for operation, count in zip(OPERATIONS, (5, 2, 2, 7, 2, 4), strict=True)
    for number in range(count)
    for acted in (False, True)
]


@pytest.mark.parametrize(("operation", "number", "acted"), STEPS)
def test_a_plan_cut_off_at_any_step_is_mended(
    world: World, operation: Operation, number: int, acted: bool
) -> None:
    plan, acting = planned(world, operation), conductor(world)
    for step in plan.steps[:number]:
        acting.perform(step)
    if acted:
        acting.perform(plan.steps[number])
    begun = plan.steps[: number + 1]
    said = load(world.cluster.store).control.mend(world.cluster, world.tools, plan, begun)
    assert said
    untouched = operation is Operation.REPLACE and number == 0
    assert world.whole() == ([VICTIM] if untouched else []), said
    assert set(world.nodes) == {n.name for n in world.cluster.nodes}, said
    again = load(world.cluster.store).control.mend(world.cluster, world.tools, plan, begun)
    assert again
    assert world.whole() == ([VICTIM] if untouched else []), again


def test_a_replacement_whose_process_died_with_haops_is_started_again(world: World) -> None:
    plan, acting = planned(world, Operation.REPLACE), conductor(world)
    for step in plan.steps[:3]:
        acting.perform(step)
    world.nodes[VICTIM] = ContainerState.STOPPED
    load(world.cluster.store).control.mend(world.cluster, world.tools, plan, plan.steps[:4])
    assert world.whole() == []


@pytest.mark.parametrize("left", [True, False])
def test_a_node_that_died_while_it_left_is_asked_whether_it_has(world: World, left: bool) -> None:
    plan, acting = planned(world, Operation.DECOMMISSION), conductor(world)
    acting.perform(plan.steps[0])
    world.nodes[VICTIM] = ContainerState.STOPPED
    if left:
        world.runtime.lines[VICTIM] = [work_line("This node was decommissioned and will not rejoin the ring")]
        world.runtime.start = lambda cluster, node: None  # type: ignore[method-assign]
    load(world.cluster.store).control.mend(world.cluster, world.tools, plan, plan.steps[:2])
    assert (VICTIM in world.nodes) is not left
    assert world.whole() == []


@pytest.mark.parametrize("mode", ["NORMAL", "DRAINED"])
def test_a_node_that_is_closed_or_drained_is_opened_as_it_needs(world: World, mode: str) -> None:
    server = world.servers[VICTIM]
    server.mode, server.open = mode, False
    conductor(world).perform(Step(plans.OPEN, VICTIM, ""))
    assert world.answers(world.cluster.node(VICTIM))
    assert (("stop", VICTIM) in world.runtime.calls) is (mode == "DRAINED")


@pytest.mark.parametrize("operation", [Operation.RESTART, Operation.DRAIN, Operation.RESUME])
def test_a_failed_step_brings_the_node_back(world: World, operation: Operation) -> None:
    plan, acting = planned(world, operation), conductor(world)
    for number, step in enumerate(plan.steps):
        acting.perform(step)
        acting.put_back(plan.steps[:number], step)
        assert world.whole() == []


def test_a_refusal_is_told_in_the_servers_words(world: World) -> None:
    world.refuses["decommission"] = "Not enough live nodes to maintain replication factor"
    plan, acting = planned(world, Operation.DECOMMISSION), conductor(world)
    acting.perform(plan.steps[0])
    world.servers[VICTIM].jobs["decommission"] = "1"
    with pytest.raises(StepFailed) as failed:
        acting.perform(plan.steps[1])
    assert "Not enough live nodes" in (failed.value.detail or "")
    assert "in service" in acting.put_back(plan.steps[:1], plan.steps[1])
    assert world.whole() == []


def test_a_ring_that_lost_a_node_meanwhile_is_not_robbed_of_another(world: World) -> None:
    plan = planned(world, Operation.RESTART)
    world.nodes["cassandra-1"] = ContainerState.STOPPED
    with pytest.raises(StepFailed, match="QUORUM needs 2"):
        conductor(world).perform(plan.steps[0])
    assert world.servers[VICTIM].open


def test_a_node_that_runs_is_never_replaced(world: World) -> None:
    plan = planned(world, Operation.REPLACE)
    world.nodes[VICTIM] = ContainerState.RUNNING
    with pytest.raises(StepFailed, match="only a dead node"):
        conductor(world).perform(plan.steps[0])


def test_a_replacement_that_fails_to_join_leaves_a_dead_node_to_replace_again(world: World) -> None:
    plan, acting = planned(world, Operation.REPLACE), conductor(world)
    for step in plan.steps[:3]:
        acting.perform(step)
    said = acting.put_back(plan.steps[:3], plan.steps[3])
    assert "haops node replace cash cassandra-4" in said
    assert world.nodes[VICTIM] is ContainerState.STOPPED


def test_a_node_whose_process_ends_fails_the_wait_at_once_with_its_last_words(world: World) -> None:
    world.nodes[VICTIM] = ContainerState.STOPPED
    world.runtime.lines[VICTIM] = [work_line("Exception: no space left on device")]
    with pytest.raises(StepFailed) as failed:
        conductor(world).perform(Step(AWAIT, VICTIM, ""))
    assert "no space left" in (failed.value.detail or "")


def work_line(text: str) -> fakes.LogLine:
    return fakes.LogLine(VICTIM, 1, text)


def test_a_node_that_does_not_come_back_is_told_with_what_was_seen_last(world: World) -> None:
    world.servers[VICTIM].open = False
    with pytest.raises(StepFailed) as failed:
        conductor(world).perform(Step(AWAIT, VICTIM, ""))
    assert "takes no clients" in (failed.value.detail or "")


def test_a_rolling_restart_cut_off_says_who_is_left(world: World) -> None:
    control = load(world.cluster.store).control
    plan = control.plan(world.cluster, fakes.snapshot(world.cluster), Intent(Operation.RESTART))
    begun = plan.steps[: [s.verb for s in plan.steps].index(STOP) + 1]
    said = control.mend(world.cluster, world.tools, plan, begun)
    assert "not restarted: cassandra-2, cassandra-3, cassandra-4" in said


def test_an_empty_answer_of_the_engine_is_no_end_of_a_job(world: World) -> None:
    world.runtime.answer = lambda node, argv: (0, "")
    assert Nodetool(world.cluster, world.runtime).look(VICTIM, "repair").code is None


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Repair preview completed successfully; Previewed data was in sync", "in sync"),
        (
            "Total estimated streaming: 3 ranges, 10 sstables, 5KiB bytes",
            "out of sync: 3 ranges, 10 sstables",
        ),
    ],
)
def test_a_comparison_is_told_in_few_words(said: str, words: str) -> None:
    assert work.sync_words(said).startswith(words)


def test_clients_that_do_not_come_back_are_not_waited_for_for_ever() -> None:
    assert quiet_clients(lambda: 3, 3, quiet_s=9, deadline_s=9) == 3
    assert quiet_clients(lambda: 1, 3, quiet_s=0.0, deadline_s=9, poll_s=0) == 1
    assert quiet_clients(lambda: 0, 3, quiet_s=9, deadline_s=0.0, poll_s=0) == 0


def test_errors_are_of_the_projects_own_tree(world: World) -> None:
    world.refuses["drain"] = "no"
    with pytest.raises(HaopsError, match="nodetool drain was refused"):
        conductor(world).perform(Step(plans.DRAIN, VICTIM, ""))


def test_hints_that_come_back_from_a_failed_dispatch_are_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([0, 2, 1, 0, 0])
    monkeypatch.setattr(FakeRing, "hints", lambda *_: next(counts))
    plan, acting = planned(world, Operation.RESTART), conductor(world)
    for step in plan.steps:
        acting.perform(step)
    assert not list(counts), "the wait ended while a file was only on its way"

"""What every store must do, one suite for all three; no engine and no servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from haops.cluster.snapshot import NodeState, Role, Snapshot, Verdict
from haops.cluster.spec import MAX_NODES, Cluster, ClusterSpec, NodeKind, StoreName
from haops.control.journal import Journal
from haops.errors import ClusterUnhealthy
from haops.runtime import compose
from haops.runtime.port import ContainerState, LogLine
from haops.stores import load
from haops.stores.base import (
    EventKind,
    NoRole,
    OperationFailed,
    OutcomeUnknown,
    Store,
    Unanswered,
    not_running,
    unreachable,
)
from haops.stores.cassandra.observe import MemberReport
from haops.stores.plan import Intent, NotPlannable, Operation
from haops.stores.redis.observe import SentinelReport
from haops.stores.redis.observe import ServerReport as RedisReport
from haops.stores.restart import START, STOP
from haops.stores.zookeeper.observe import ServerReport as ZooKeeperReport

from .. import fake_zookeeper
from ..fakes import all_running, container, make_cluster

SIZES = range(1, MAX_NODES + 1)


def redis_reports(cluster: Cluster) -> dict[str, Any]:
    first, replicas = cluster.servers[0], len(cluster.servers) - 1
    reports: dict[str, Any] = {
        n.name: RedisReport(False, 100, "8.0.2", upstream=(first.address, first.port))
        for n in cluster.servers
    }
    reports[first.name] = RedisReport(True, 100, "8.0.2", replicas=replicas)
    opinion = SentinelReport((first.address, first.port), ("master",), replicas, len(cluster.sentinels), 2, 0)
    return reports | {n.name: opinion for n in cluster.sentinels}


def zookeeper_reports(cluster: Cluster) -> dict[str, Any]:
    others = len(cluster.servers) - 1
    reports = {
        n.name: ZooKeeperReport(Role.FOLLOWER, 0x100000001, "3.9.5", None, 0, 1) for n in cluster.servers
    }
    reports[cluster.servers[0].name] = ZooKeeperReport(Role.LEADER, 0x100000001, "3.9.5", others, 0, 1)
    return reports


def cassandra_reports(cluster: Cluster) -> dict[str, Any]:
    others = len(cluster.servers) - 1
    return {
        n.name: MemberReport("5.0.6", (int(n.params["token"]),), "schema-1", others, {})
        for n in cluster.servers
    }


GOOD: Mapping[StoreName, Callable[[Cluster], dict[str, Any]]] = {
    StoreName.REDIS: redis_reports,
    StoreName.ZOOKEEPER: zookeeper_reports,
    StoreName.CASSANDRA: cassandra_reports,
}


@pytest.fixture(params=list(StoreName), ids=str)
def store(request: pytest.FixtureRequest) -> Store:
    return load(request.param)


def judge(cluster: Cluster, reports: Mapping[str, Any]) -> Snapshot:
    module = import_module(f"haops.stores.{cluster.store.value}.observe")
    seen: Snapshot = module.judge(cluster, reports)
    return seen


def lost(why: str = "Exited (137)", state: NodeState = NodeState.STOPPED) -> Unanswered:
    return Unanswered(state, why)


def on_closed_ports(store: Store, closed_ports: Callable[[int], list[int]], nodes: int = 3) -> Cluster:
    wanted = sum(2 if p.has_admin else 1 for p in store.layout(ClusterSpec("x", store.name, nodes=nodes)))
    return make_cluster(store.name, nodes, ports=closed_ports(wanted))


# ---- layout and rendering


def test_a_store_is_loaded_by_its_own_name(store: Store) -> None:
    assert load(store.name) is store
    assert store.modes.offered[0].name in ("async", "quorum")


@pytest.mark.parametrize("nodes", SIZES)
def test_a_layout_has_so_many_servers_with_names_and_indexes_of_their_own(store: Store, nodes: int) -> None:
    plans = store.layout(ClusterSpec("x", store.name, nodes=nodes))
    servers = [p for p in plans if p.kind is NodeKind.SERVER]
    assert [p.index for p in servers] == list(range(1, nodes + 1))
    assert len({p.name for p in plans}) == len(plans)
    assert all(p.port is None or 1024 <= p.port <= 65535 for p in plans)


@pytest.mark.parametrize("nodes", SIZES)
def test_a_larger_layout_begins_with_the_servers_of_a_smaller_one(store: Store, nodes: int) -> None:
    def names(count: int) -> list[str]:
        return [
            p.name
            for p in store.layout(ClusterSpec("x", store.name, nodes=count))
            if p.kind is NodeKind.SERVER
        ]

    assert names(MAX_NODES)[:nodes] == names(nodes)


@pytest.mark.parametrize("nodes", SIZES)
def test_every_size_renders_with_host_ports_of_its_own(store: Store, nodes: int) -> None:
    cluster = make_cluster(store.name, nodes)
    document = yaml.safe_load(compose.render(cluster, store.render_context(cluster)))
    published = [p.split(":")[1] for s in document["services"].values() for p in s["ports"]]
    assert len(published) == len(set(published)) >= len(cluster.nodes)


# ---- verdicts


@pytest.mark.parametrize("nodes", SIZES)
def test_a_cluster_whose_nodes_all_answer_well_is_healthy_without_reasons(store: Store, nodes: int) -> None:
    cluster = make_cluster(store.name, nodes)
    seen = judge(cluster, GOOD[store.name](cluster))
    assert (seen.verdict, seen.reasons) == (Verdict.HEALTHY, ())
    assert [n.name for n in seen.nodes] == [n.name for n in cluster.nodes]
    assert all(n.state is NodeState.UP for n in seen.nodes)
    assert [(n.host, n.port) for n in seen.nodes] == [(n.host, n.host_port) for n in cluster.nodes]
    assert (seen.name, seen.store, seen.mode) == (cluster.name, cluster.store, cluster.mode)


@pytest.mark.parametrize("nodes", [3, 5, 9])
def test_a_lost_node_that_does_not_lead_makes_it_degraded_and_is_named(store: Store, nodes: int) -> None:
    cluster = make_cluster(store.name, nodes)
    for victim in cluster.nodes:
        if store.name is not StoreName.CASSANDRA and victim == cluster.servers[0]:
            continue
        reports = GOOD[store.name](cluster) | {victim.name: lost()}
        seen = judge(cluster, reports)
        assert seen.verdict is Verdict.DEGRADED, victim.name
        assert f"{victim.name} is stopped: Exited (137)" in seen.reasons


def test_a_lost_leader_without_a_successor_makes_it_down(store: Store) -> None:
    if store.name is StoreName.CASSANDRA:
        pytest.skip("no member leads")
    cluster = make_cluster(store.name, 3)
    seen = judge(cluster, GOOD[store.name](cluster) | {cluster.servers[0].name: lost()})
    assert seen.verdict is Verdict.DOWN
    assert f"{cluster.servers[0].name} is stopped: Exited (137)" in seen.reasons


@pytest.mark.parametrize("nodes", SIZES)
def test_a_cluster_without_a_single_server_is_down(store: Store, nodes: int) -> None:
    cluster = make_cluster(store.name, nodes)
    seen = judge(cluster, GOOD[store.name](cluster) | {n.name: lost() for n in cluster.servers})
    assert seen.verdict is Verdict.DOWN
    for node in cluster.servers:
        assert any(reason.startswith(f"{node.name} is stopped") for reason in seen.reasons)


def test_the_first_majority_lost_makes_it_down(store: Store) -> None:
    cluster = make_cluster(store.name, 5)
    seen = judge(cluster, GOOD[store.name](cluster) | {n.name: lost() for n in cluster.servers[:3]})
    assert seen.verdict is Verdict.DOWN


def test_an_ensemble_of_which_only_the_leader_is_left_is_down() -> None:
    cluster = make_cluster("zookeeper", 3)
    seen = judge(cluster, zookeeper_reports(cluster) | {n.name: lost() for n in cluster.servers[1:]})
    assert seen.verdict is Verdict.DOWN


@pytest.mark.parametrize(
    ("state", "expected", "why"),
    [
        (ContainerState.PAUSED, NodeState.PAUSED, "frozen"),
        (ContainerState.STOPPED, NodeState.STOPPED, "Exited (137)"),
        (ContainerState.CREATED, NodeState.STOPPED, "created"),
        (ContainerState.MISSING, NodeState.MISSING, "no container"),
        (ContainerState.RUNNING, NodeState.UNREACHABLE, ""),
    ],
)
def test_the_containers_state_tells_why_a_node_is_silent(
    store: Store,
    closed_ports: Callable[[int], list[int]],
    state: ContainerState,
    expected: NodeState,
    why: str,
) -> None:
    cluster = on_closed_ports(store, closed_ports)
    containers = all_running(cluster)
    target = cluster.nodes[1]
    if state is ContainerState.MISSING:
        del containers[target.name]
    else:
        containers[target.name] = container(cluster, target.name, state)
    seen = store.observe(cluster, containers)
    view = next(n for n in seen.nodes if n.name == target.name)
    assert view.state is expected
    assert view.why
    assert why in view.why


# ---- roles


def test_the_primary_is_the_node_that_leads(store: Store) -> None:
    cluster = make_cluster(store.name, 3)
    assert store.primary(judge(cluster, GOOD[store.name](cluster))) == cluster.servers[0].name


def test_a_cluster_that_nobody_leads_has_no_primary_and_says_why(store: Store) -> None:
    cluster = make_cluster(store.name, 3)
    seen = judge(cluster, GOOD[store.name](cluster) | {n.name: lost() for n in cluster.servers})
    with pytest.raises(NoRole, match=f"cluster {cluster.name} has no") as caught:
        store.primary(seen)
    assert isinstance(caught.value, ClusterUnhealthy)
    assert "Exited (137)" in str(caught.value.detail)
    assert f"haops status {cluster.name}" in str(caught.value.hint)


# ---- events

FAILOVER = {
    StoreName.REDIS: [
        ("sentinel-2", "7:X 24 Nov 2025 05:48:01.015 # +sdown master mymaster 10.231.0.10 6379"),
        ("sentinel-2", "7:X 24 Nov 2025 05:48:01.080 # +odown master mymaster 10.231.0.10 6379 #quorum 2/2"),
        ("sentinel-2", "7:X 24 Nov 2025 05:48:01.200 # +elected-leader master mymaster 10.231.0.10 6379"),
        ("redis-2", "1:M 24 Nov 2025 05:48:01.300 * MASTER MODE enabled (user request from 'id=9 addr=...')"),
        ("sentinel-2", "7:X 24 Nov 2025 05:48:02.100 # +switch-master mymaster 10.231.0.10 6379 10.231.0.11 6379"),
        ("redis-1", "1:S 24 Nov 2025 05:48:09.000 * MASTER <-> REPLICA sync: Finished with success"),
    ],
    StoreName.ZOOKEEPER: [
        ("zookeeper-2", "2025-11-24 05:48:01,015 [myid:2] - WARN - Exception when following the leader"),
        ("zookeeper-2", "2025-11-24 05:48:01,020 [myid:2] - WARN  - PeerState set to LOOKING"),
        ("zookeeper-3", "2025-11-24 05:48:01,300 [myid:3] - INFO  - LEADING - LEADER ELECTION TOOK - 23 MS"),
        ("zookeeper-3", "2025-11-24 05:48:01,400 [myid:3] - INFO  - Have quorum of supporters, sids: [2,3]"),
        ("zookeeper-1", "2025-11-24 05:48:09,000 [myid:1] - INFO - FOLLOWING - LEADER ELECTION TOOK - 9 MS"),
    ],
    StoreName.CASSANDRA: [
        ("cassandra-2", "INFO 2025-11-24 05:48:01,015 - InetAddress /10.231.0.10:7000 is now DOWN"),
        ("cassandra-2", "INFO 2025-11-24 05:48:09,015 - InetAddress /10.231.0.10:7000 is now UP"),
    ],
}  # fmt: skip
KINDS = {
    StoreName.REDIS: ["detected", "detected", "elected", "promoted", "advertised", "rejoined"],
    StoreName.ZOOKEEPER: ["detected", "detected", "promoted", "advertised", "rejoined"],
    StoreName.CASSANDRA: ["detected", "rejoined"],
}


def failover(store: Store) -> list[LogLine]:
    told = FAILOVER[store.name]
    lines = [LogLine(node, 1000 * (i + 1), text) for i, (node, text) in enumerate(told)]
    noise = [LogLine(lines[0].node, 1500 * i, "1:M * Background saving started by pid 12") for i in range(3)]
    return [*lines, *noise]


def test_a_failovers_log_lines_become_its_events_in_order_of_time(store: Store) -> None:
    for lines in (failover(store), failover(store)[::-1]):
        found = store.events(lines)
        assert [e.kind.value for e in found] == KINDS[store.name]
        assert [e.at_ns for e in found] == sorted(e.at_ns for e in found)
    assert found[0].node == FAILOVER[store.name][0][0]
    assert found[0].at_ns == 1000


def test_an_events_text_is_the_servers_words_without_its_time_stamp(store: Store) -> None:
    for event in store.events(failover(store)):
        assert "2025" not in event.text
        assert any(event.text in text for _, text in FAILOVER[store.name])


def test_a_quiet_log_has_no_events(store: Store) -> None:
    assert store.events([]) == ()
    assert store.events([LogLine("x", 1, "Ready to accept connections tcp")]) == ()


def test_every_store_tells_of_detection_and_return(store: Store) -> None:
    assert {EventKind.DETECTED, EventKind.REJOINED} <= {e.kind for e in store.events(failover(store))}


# ---- with nothing listening


def test_a_look_at_a_cluster_that_does_not_listen_says_so_and_does_not_raise(
    store: Store, closed_ports: Callable[[int], list[int]]
) -> None:
    cluster = on_closed_ports(store, closed_ports)
    started = time.monotonic()
    seen = store.observe(cluster, all_running(cluster))
    assert time.monotonic() - started < 2
    assert seen.verdict is Verdict.DOWN
    assert all(n.state is NodeState.UNREACHABLE and n.why for n in seen.nodes)
    assert "\n" not in "".join(seen.reasons)


def test_a_look_at_a_cluster_without_containers_finds_every_node_missing(
    store: Store, closed_ports: Callable[[int], list[int]]
) -> None:
    seen = store.observe(on_closed_ports(store, closed_ports), {})
    assert seen.verdict is Verdict.DOWN
    assert {n.state for n in seen.nodes} == {NodeState.MISSING}


def test_readiness_names_every_node_that_does_not_listen(
    store: Store, closed_ports: Callable[[int], list[int]]
) -> None:
    cluster = on_closed_ports(store, closed_ports)
    with store.readiness(cluster) as readiness:
        for _ in range(2):
            pending = readiness.pending()
            assert list(pending) == [n.name for n in cluster.nodes]
            assert all(pending.values())


def test_a_client_that_reaches_nobody_fails_within_its_patience(
    store: Store, closed_ports: Callable[[int], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = on_closed_ports(store, closed_ports)
    if store.name is StoreName.ZOOKEEPER:
        monkeypatch.setattr("haops.stores.zookeeper.workload._CONNECT_S", 0.3)
    workload = store.workload(cluster, "20250101t000000-test", 0.3)
    started = time.monotonic()
    try:
        if store.name is StoreName.REDIS:
            client = workload.client(0)
            with pytest.raises(OperationFailed):
                client.write(1, 1)
            with pytest.raises(OperationFailed):
                client.read(1)
            client.close()
        else:  # these connect before their first operation; the load tells the drill
            with pytest.raises(Exception, match=r".+"):
                workload.client(0)
    finally:
        workload.close()
    assert time.monotonic() - started < 2


def test_a_read_back_that_reaches_nobody_finds_the_cluster_unhealthy(
    store: Store, closed_ports: Callable[[int], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if store.name is StoreName.ZOOKEEPER:
        monkeypatch.setattr("haops.stores.zookeeper.workload._CONNECT_S", 0.3)
    workload = store.workload(on_closed_ports(store, closed_ports), "20250101t000000-test", 0.3)
    with pytest.raises(ClusterUnhealthy):
        workload.read_back(1)


def test_the_two_ways_to_fail_are_no_errors_of_the_tree() -> None:
    # A drill records them; they must never be mistaken for trouble of haops itself.
    from haops.errors import HaopsError

    assert not issubclass(OperationFailed, HaopsError)
    assert not issubclass(OutcomeUnknown, HaopsError)


def test_a_node_is_found_unreachable_in_the_sockets_own_words() -> None:
    refused = unreachable(ConnectionRefusedError(111, "Connection refused\nmore"))
    assert refused == Unanswered(NodeState.UNREACHABLE, "[Errno 111] Connection refused")
    assert unreachable(TimeoutError()).why == "TimeoutError"


def test_a_node_whose_container_runs_is_worth_asking() -> None:
    cluster = make_cluster()
    containers = all_running(cluster)
    assert not_running(cluster.nodes[0], containers) is None
    del containers[cluster.nodes[0].name]
    assert not_running(cluster.nodes[0], containers) == Unanswered(NodeState.MISSING, "it has no container")


def test_a_stranger_at_the_port_of_a_node_without_a_container_is_not_the_node() -> None:
    leader = {"srvr": fake_zookeeper.srvr("standalone"), "mntr": fake_zookeeper.mntr("standalone")}
    with fake_zookeeper.serve(leader) as port:
        cluster = make_cluster("zookeeper", 1, ports=[port, 1])
        zookeeper = load(StoreName.ZOOKEEPER)
        assert zookeeper.observe(cluster, all_running(cluster)).nodes[0].state is NodeState.UP
        assert zookeeper.observe(cluster, {}).nodes[0].state is NodeState.MISSING


# ---- what an operator can have done


def healthy(store: Store, nodes: int = 3) -> tuple[Cluster, Snapshot]:
    cluster = make_cluster(store.name, nodes)
    return cluster, judge(cluster, GOOD[store.name](cluster))


def fits(cluster: Cluster, snapshot: Snapshot, operation: Operation) -> Intent:
    """An intent that names a node where the operation is one on a node."""
    on_a_node = operation in (
        Operation.DRAIN,
        Operation.RESUME,
        Operation.REPLACE,
        Operation.REPAIR,
        Operation.DECOMMISSION,
    )
    return Intent(operation, node=cluster.servers[-1].name if on_a_node else None)


# A guard plans it for itself; no operator asks for it by name.
INTERNAL = {Operation.DEMOTE}


@pytest.mark.parametrize("operation", [o for o in Operation if o not in INTERNAL], ids=str)
def test_a_store_plans_an_operation_or_says_what_to_use_instead(store: Store, operation: Operation) -> None:
    cluster, seen = healthy(store, 4)
    control = store.control
    assert (operation in control.plans) != (operation in control.instead)
    if operation in control.plans:
        return
    with pytest.raises(NotPlannable) as caught:
        control.plan(cluster, seen, fits(cluster, seen, operation))
    assert caught.value.exit_code == 2
    assert caught.value.message == f"{store.name} has no {operation}"
    assert caught.value.hint == control.instead[operation]
    assert len(str(caught.value.hint)) > 10


@pytest.mark.parametrize("operation", list(Operation), ids=str)
def test_a_plan_is_the_same_each_time_and_says_what_can_be_lost(store: Store, operation: Operation) -> None:
    cluster, seen = healthy(store, 4)
    intent = fits(cluster, seen, operation)
    try:
        made = store.control.plan(cluster, seen, intent)
    except NotPlannable as refusal:
        assert refusal.message
        assert refusal.hint
        return
    assert made == store.control.plan(cluster, seen, intent)
    assert (made.cluster, made.operation) == (cluster.name, operation)
    assert made.steps
    assert made.risk
    known = {n.name for n in cluster.nodes}
    assert {made.source, made.target, *(s.node for s in made.steps)} <= known | {None}
    assert all(s.verb and s.text and "\n" not in s.text for s in made.steps)
    assert {c.node for c in made.candidates} <= known


@pytest.mark.parametrize("operation", [Operation.SWITCHOVER, Operation.RESTART], ids=str)
def test_a_healthy_cluster_can_be_worked_on_unless_the_store_says_what_to_use_instead(
    store: Store, operation: Operation
) -> None:
    cluster, seen = healthy(store)
    if operation in store.control.plans:
        assert store.control.plan(cluster, seen, Intent(operation)).steps


def test_a_restart_stops_every_node_once_and_waits_after_each(store: Store) -> None:
    cluster, seen = healthy(store)
    made = store.control.plan(cluster, seen, Intent(Operation.RESTART))
    verbs = [(s.verb, s.node) for s in made.steps]
    assert sorted(str(n) for v, n in verbs if v == STOP) == sorted(n.name for n in cluster.nodes)
    down = 0
    for verb, _ in verbs:
        down += (verb == STOP) - (verb == START)
        assert 0 <= down <= 1
    assert down == 0
    assert [v for v, _ in verbs if v in (STOP, START)] == [STOP, START] * len(cluster.nodes)


def test_a_plan_is_carried_through_the_journal_without_a_change(store: Store, tmp_path: Path) -> None:
    cluster, seen = healthy(store)
    made = store.control.plan(cluster, seen, Intent(Operation.RESTART))
    journal = Journal(tmp_path)
    entry = journal.begin(made, "ann@host", "a test")
    for step in made.steps:
        entry.step(step)
    (record,) = journal.read()
    assert record.plan == replace(made, candidates=())
    assert record.begun == made.steps


def test_nothing_is_planned_for_a_cluster_that_does_not_answer(store: Store) -> None:
    cluster = make_cluster(store.name, 3)
    seen = judge(cluster, dict.fromkeys((n.name for n in cluster.nodes), lost()))
    for operation in (Operation.SWITCHOVER, Operation.FAILOVER, Operation.RESTART):
        with pytest.raises(NotPlannable):
            store.control.plan(cluster, seen, Intent(operation))

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.snapshot import FindingKind, Lag, NodeState, Role, Snapshot, Verdict
from haops.cluster.spec import Cluster
from haops.stores.base import Unanswered
from haops.stores.redis import STORE
from haops.stores.redis.observe import (
    SentinelReport,
    ServerReport,
    judge,
    parse_info,
    parse_sentinel,
)

from ....fake_redis import RedisState, serve
from ....fakes import all_running, make_cluster

# INFO of Redis 8 as redis-py 8 gives it, shortened.
PRIMARY_INFO: dict[str, Any] = {
    "redis_version": "8.0.2",
    "role": "master",
    "connected_slaves": 2,
    "slave0": {"ip": "10.231.0.11", "port": 6379, "state": "online", "offset": 14120, "lag": 0},
    "slave1": {"ip": "10.231.0.12", "port": 6379, "state": "wait_bgsave", "offset": 0, "lag": 1},
    "master_failover_state": "no-failover",
    "master_replid": "4f1c",
    "master_repl_offset": 14134,
    "second_repl_offset": -1,
    "repl_backlog_active": 1,
}
REPLICA_INFO: dict[str, Any] = {
    "redis_version": "8.0.2",
    "role": "slave",
    "master_host": "10.231.0.10",
    "master_port": 6379,
    "master_link_status": "up",
    "master_last_io_seconds_ago": 1,
    "master_sync_in_progress": 0,
    "slave_read_repl_offset": 14120,
    "slave_repl_offset": 14120,
    "slave_priority": 100,
    "connected_slaves": 0,
    "master_repl_offset": 14120,
}
SENTINEL_STATE: dict[str, Any] = {
    "name": "mymaster",
    "ip": "10.231.0.10",
    "port": 6379,
    "runid": "88d3",
    "flags": {"master"},
    "num-slaves": 2,
    "num-other-sentinels": 2,
    "quorum": 2,
    "config-epoch": 7,
    "is_master": True,
    "is_odown": False,
}


def test_a_primarys_info_counts_only_replicas_that_are_online() -> None:
    assert parse_info(PRIMARY_INFO) == ServerReport(
        True, 14134, "8.0.2", replicas=1, good=1, heard=(("10.231.0.11", 6379),)
    )


def test_a_replicas_info_tells_whom_it_follows_and_how_far_it_is() -> None:
    assert parse_info(REPLICA_INFO) == ServerReport(
        False, 14120, "8.0.2", upstream=("10.231.0.10", 6379), link_up=True, silent_s=1.0
    )


def test_a_replica_without_a_link_is_not_negative_seconds_old() -> None:
    cut_off = REPLICA_INFO | {
        "master_link_status": "down",
        "master_last_io_seconds_ago": -1,
        "master_sync_in_progress": 1,
    }
    report = parse_info(cut_off)
    assert (report.link_up, report.syncing, report.silent_s) == (False, True, 0.0)


@pytest.mark.parametrize(
    ("flags", "suspects"),
    [
        ({"master"}, False),
        ("master", False),
        ({"master", "s_down"}, True),
        ("s_down,o_down,master", True),
        (["master", "o_down"], True),
        ("master,disconnected", False),
    ],
)
def test_a_sentinels_flags_are_read_in_every_form(flags: object, suspects: bool) -> None:
    report = parse_sentinel(SENTINEL_STATE | {"flags": flags})
    assert report.suspects is suspects
    assert (report.primary, report.replicas, report.sentinels, report.quorum, report.epoch) == (
        ("10.231.0.10", 6379),
        2,
        3,
        2,
        7,
    )


# ---- judge


@pytest.fixture
def cluster() -> Cluster:
    return make_cluster("redis", 3)


def reports(cluster: Cluster, **changed: Any) -> dict[str, Any]:
    first = cluster.servers[0]
    upstream = (first.address, first.port)
    found: dict[str, Any] = {
        n.name: ServerReport(False, 1000, "8.0.2", upstream=upstream) for n in cluster.servers
    }
    found[first.name] = ServerReport(True, 1000, "8.0.2", replicas=2)
    found |= {n.name: SentinelReport(upstream, ("master",), 2, 3, 2, 0) for n in cluster.sentinels}
    return found | {name.replace("_", "-"): report for name, report in changed.items()}


def view(seen: Snapshot, name: str) -> Any:
    return next(n for n in seen.nodes if n.name == name)


def opinion(cluster: Cluster, name: str, *flags: str) -> SentinelReport:
    node = cluster.node(name)
    return SentinelReport((node.address, node.port), ("master", *flags), 2, 3, 2, 1)


def test_two_primaries_are_a_split_brain_that_names_both(cluster: Cluster) -> None:
    seen = judge(cluster, reports(cluster, redis_2=ServerReport(True, 1200, "8.0.2")))
    assert seen.verdict is not Verdict.HEALTHY
    assert seen.reasons[0] == (
        "split brain: redis-1 and redis-2 all say that they are the primary;"
        " redis-1: named by sentinel-1, sentinel-2, sentinel-3, followed by redis-3;"
        " redis-2: named by no Sentinel, followed by nobody;"
        " the Sentinels turn the other back, what it took meanwhile is lost: write to redis-1"
    )


def test_in_a_split_brain_lag_counts_from_the_primary_that_is_ahead(cluster: Cluster) -> None:
    seen = judge(cluster, reports(cluster, redis_2=ServerReport(True, 1200, "8.0.2")))
    assert view(seen, "redis-3").lag == Lag(bytes=200, seconds=0.0)


def test_a_sentinel_that_names_another_primary_is_told(cluster: Cluster) -> None:
    seen = judge(cluster, reports(cluster, sentinel_2=opinion(cluster, "redis-2")))
    assert seen.verdict is Verdict.DEGRADED
    assert "sentinel-2 takes redis-2 for the primary, but it is redis-1" in seen.reasons
    assert view(seen, "sentinel-2").detail == "watches redis-2, epoch 1"


def test_a_sentinel_that_names_a_stranger_is_told_with_the_strangers_address(cluster: Cluster) -> None:
    stranger = SentinelReport(("192.0.2.7", 6379), ("master",), 0, 3, 2, 1)
    seen = judge(cluster, reports(cluster, sentinel_1=stranger))
    assert "sentinel-1 takes 192.0.2.7 for the primary, but it is redis-1" in seen.reasons


def test_a_sentinel_that_holds_the_primary_for_dead_is_told(cluster: Cluster) -> None:
    seen = judge(cluster, reports(cluster, sentinel_1=opinion(cluster, "redis-1", "s_down")))
    assert seen.verdict is Verdict.DEGRADED
    assert seen.reasons[0] == "sentinel-1 holds redis-1 for dead"


@pytest.mark.parametrize(("dead", "told"), [(1, False), (2, True), (3, True)])
def test_the_loss_of_the_sentinels_majority_is_told(cluster: Cluster, dead: int, told: bool) -> None:
    gone = Unanswered(NodeState.STOPPED, "Exited (137)")
    seen = judge(cluster, reports(cluster, **{f"sentinel_{i}": gone for i in range(1, dead + 1)}))
    assert seen.verdict is Verdict.DEGRADED
    assert (f"{3 - dead} of 3 Sentinels answer: no majority can fail over" in seen.reasons) is told


@pytest.mark.parametrize(
    ("syncing", "why"), [(False, "its link to redis-1 is down"), (True, "copying from redis-1")]
)
def test_a_replica_without_a_link_is_syncing_with_its_lag(cluster: Cluster, syncing: bool, why: str) -> None:
    cut_off = ServerReport(
        False, 400, "8.0.2", upstream=("10.231.0.10", 6379), link_up=False, syncing=syncing, silent_s=7.0
    )
    seen = judge(cluster, reports(cluster, redis_3=cut_off))
    found = view(seen, "redis-3")
    assert (found.role, found.state, found.why) == (Role.REPLICA, NodeState.SYNCING, why)
    assert found.lag == Lag(bytes=600, seconds=7.0)
    assert seen.verdict is Verdict.DEGRADED
    assert f"redis-3 is syncing: {why}" in seen.reasons


def test_a_replica_ahead_of_the_figure_that_the_primary_gave_is_not_behind(cluster: Cluster) -> None:
    seen = judge(
        cluster, reports(cluster, redis_2=ServerReport(False, 1007, "8", upstream=("10.231.0.10", 6379)))
    )
    assert view(seen, "redis-2").lag == Lag(bytes=0, seconds=0.0)


def test_without_a_primary_lag_counts_from_the_most_advanced_copy(cluster: Cluster) -> None:
    seen = judge(cluster, reports(cluster, redis_1=Unanswered(NodeState.STOPPED, "Exited (137)")))
    assert seen.verdict is Verdict.DOWN
    assert seen.reasons[0] == "no server that answers is a primary: nothing takes writes"
    assert view(seen, "redis-2").lag == Lag(bytes=0, seconds=0.0)
    assert view(seen, "redis-1").role is Role.UNKNOWN


def test_a_dead_sentinel_still_is_a_sentinel(cluster: Cluster) -> None:
    seen = judge(cluster, reports(cluster, sentinel_1=Unanswered(NodeState.STOPPED, "x")))
    assert view(seen, "sentinel-1").role is Role.SENTINEL


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10**9)), min_size=3, max_size=3))
def test_lag_is_never_negative_and_down_means_no_primary(servers: list[tuple[bool, int]]) -> None:
    cluster = make_cluster("redis", 3)
    given_reports = reports(
        cluster,
        **{
            f"redis_{i}": ServerReport(lead, offset, "8", upstream=None if lead else ("10.231.0.10", 6379))
            for i, (lead, offset) in enumerate(servers, start=1)
        },
    )
    seen = judge(cluster, given_reports)
    assert (seen.verdict is Verdict.DOWN) == (not any(lead for lead, _ in servers))
    assert all(n.lag is None or n.lag.bytes is None or n.lag.bytes >= 0 for n in seen.nodes)


# ---- over a socket


@pytest.fixture
def served() -> Iterator[tuple[Cluster, list[RedisState]]]:
    """A replica set of one server and three Sentinels."""
    states = [RedisState() for _ in range(4)]
    with ExitStack() as stack:
        ports = [stack.enter_context(serve(s)) for s in states]
        cluster = make_cluster("redis", 1, ports=ports)
        first = cluster.servers[0]
        states[0].info = "# Server\r\nredis_version:8.0.2\r\nrole:master\r\nmaster_repl_offset:7\r\n"
        for s in states[1:]:
            s.watch(first.address, first.port)
        yield cluster, states


def test_a_standing_replica_set_is_seen_healthy(served: tuple[Cluster, list[RedisState]]) -> None:
    cluster, _ = served
    seen = STORE.observe(cluster, all_running(cluster))
    assert (seen.verdict, seen.reasons) == (Verdict.HEALTHY, ())
    assert view(seen, "redis-1").version == "8.0.2"


def test_a_standing_replica_set_is_ready_and_keeps_nothing_of_the_proof(
    served: tuple[Cluster, list[RedisState]],
) -> None:
    cluster, states = served
    with STORE.readiness(cluster) as readiness:
        assert readiness.pending() == {}
    assert states[0].keys == {}


def test_readiness_waits_for_the_write_that_a_client_would_do(
    served: tuple[Cluster, list[RedisState]],
) -> None:
    cluster, states = served
    states[0].refuse_writes = "READONLY You can't write against a read only replica."
    with STORE.readiness(cluster) as readiness:
        pending = readiness.pending()
    assert list(pending) == ["redis-1"]
    assert "a client's first write" in pending["redis-1"]


def test_readiness_waits_until_the_sentinels_know_each_other(
    served: tuple[Cluster, list[RedisState]],
) -> None:
    cluster, states = served
    states[2].masters[0]["num-other-sentinels"] = "1"
    with STORE.readiness(cluster) as readiness:
        assert readiness.pending() == {"sentinel-2": "1 other Sentinels"}


def test_a_sentinel_that_watches_nothing_yet_is_not_ready_and_not_reachable(
    served: tuple[Cluster, list[RedisState]],
) -> None:
    cluster, states = served
    states[1].masters = []
    with STORE.readiness(cluster) as readiness:
        assert list(readiness.pending()) == ["sentinel-1"]
    seen = STORE.observe(cluster, all_running(cluster))
    assert view(seen, "sentinel-1").state is NodeState.UNREACHABLE


# What a set whose Sentinels and servers are whole says; each test spoils one thing.
AT = {name: (f"10.231.0.{10 + i}", 6379) for i, name in enumerate(("redis-1", "redis-2", "redis-3"))}


def told(cluster: Cluster, **spoilt: ServerReport | SentinelReport | Unanswered) -> Snapshot:
    whole: dict[str, ServerReport | SentinelReport | Unanswered] = {
        "redis-1": ServerReport(True, 100, "8", replicas=2, needs=1, good=2),
        "redis-2": ServerReport(False, 100, "8", upstream=AT["redis-1"]),
        "redis-3": ServerReport(False, 100, "8", upstream=AT["redis-1"]),
    }
    whole |= {f"sentinel-{i}": SentinelReport(AT["redis-1"], ("master",), 2, 3, 2, 7) for i in (1, 2, 3)}
    return judge(cluster, whole | {name.replace("_", "-"): report for name, report in spoilt.items()})


SILENT = Unanswered(NodeState.UNREACHABLE, "timed out", silent=True)
REFUSED = Unanswered(NodeState.UNREACHABLE, "connection refused")


def test_a_primary_without_the_replicas_it_needs_takes_no_writes(cluster: Cluster) -> None:
    seen = told(cluster, redis_1=ServerReport(True, 100, "8", needs=1, good=0))
    assert seen.verdict is Verdict.DOWN
    assert seen.reasons[0] == (
        "redis-1 refuses writes: 0 of the 1 replicas that it needs are there (min-replicas-to-write)"
    )


def test_held_writes_are_told(cluster: Cluster) -> None:
    seen = told(cluster, redis_1=ServerReport(True, 100, "8", needs=1, good=2, paused=True))
    assert seen.reasons == ("redis-1 holds writes back (CLIENT PAUSE)",)


def test_a_stale_sentinel_is_told_with_both_epochs(cluster: Cluster) -> None:
    seen = told(cluster, sentinel_2=SentinelReport(AT["redis-1"], ("master",), 2, 3, 2, 5))
    assert seen.reasons == ("sentinel-2 is stale: it knows epoch 5, others know 7",)


def test_sentinels_that_differ_in_a_setting_are_told(cluster: Cluster) -> None:
    seen = told(cluster, sentinel_2=SentinelReport(AT["redis-1"], ("master",), 2, 3, 1, 7))
    assert seen.reasons == (
        "the Sentinels differ in quorum: sentinel-1 has 2, sentinel-2 has 1, sentinel-3 has 2",
    )


def test_a_running_failover_is_told(cluster: Cluster) -> None:
    flags = ("failover_in_progress", "master")
    assert told(cluster, sentinel_1=SentinelReport(AT["redis-1"], flags, 2, 3, 2, 7)).reasons == (
        "sentinel-1 runs a failover",
    )


def test_a_replica_of_a_replica_is_told(cluster: Cluster) -> None:
    seen = told(cluster, redis_3=ServerReport(False, 100, "8", upstream=AT["redis-2"]))
    assert seen.reasons == ("redis-3 follows redis-2, not redis-1: a chain, which ends if redis-2 does",)


def test_a_replica_far_behind_or_without_news_is_told(cluster: Cluster) -> None:
    ahead = ServerReport(True, 20_000_000, "8", replicas=2, needs=1, good=2)
    assert "redis-2 is 19,999,900 B behind (limit 10,485,760 B)" in told(cluster, redis_1=ahead).reasons
    stuck = ServerReport(False, 100, "8", upstream=AT["redis-1"], silent_s=6.0)
    assert told(cluster, redis_2=stuck).reasons == (
        "redis-2 has heard nothing from redis-1 for 6 s (limit 4 s)",
    )


def test_a_primary_that_its_replicas_reach_is_partitioned_not_down(cluster: Cluster) -> None:
    seen = told(cluster, redis_1=SILENT)
    assert seen.verdict is Verdict.DEGRADED
    (lost,) = (n for n in seen.nodes if n.name == "redis-1")
    assert lost.state is NodeState.PARTITIONED
    assert "reached by redis-2, redis-3" in (lost.why or "")


def test_who_reaches_nobody_and_is_refused_by_nobody_cannot_tell(cluster: Cluster) -> None:
    everybody = {n.name.replace("-", "_"): SILENT for n in cluster.nodes}
    assert told(cluster, **everybody).verdict is Verdict.UNKNOWN
    assert told(cluster, **(everybody | {"redis_1": REFUSED})).verdict is Verdict.DOWN


def test_a_silent_replica_of_which_its_primary_hears_is_partitioned(cluster: Cluster) -> None:
    primary = ServerReport(True, 100, "8", replicas=2, needs=1, good=2, heard=(AT["redis-2"],))
    seen = told(cluster, redis_1=primary, redis_2=SILENT, redis_3=SILENT)
    states = {n.name: n.state for n in seen.nodes}
    assert (states["redis-2"], states["redis-3"]) == (NodeState.PARTITIONED, NodeState.UNREACHABLE)
    assert "redis-2 is partitioned: lost from here (timed out), reached by redis-1" in seen.reasons


@pytest.mark.parametrize(("link_up", "silent_s"), [(False, 0.0), (True, 3.0)])
def test_a_link_that_is_down_or_quiet_is_no_witness(cluster: Cluster, link_up: bool, silent_s: float) -> None:
    stale = ServerReport(False, 100, "8", upstream=AT["redis-1"], link_up=link_up, silent_s=silent_s)
    seen = told(cluster, redis_1=SILENT, redis_2=stale, redis_3=stale)
    assert seen.verdict is Verdict.DOWN
    assert view(seen, "redis-1").state is NodeState.UNREACHABLE


def test_a_primary_that_only_the_observer_reaches_is_told(cluster: Cluster) -> None:
    cut = ServerReport(False, 100, "8", upstream=AT["redis-1"], link_up=False)
    seen = told(cluster, redis_2=cut, redis_3=cut, sentinel_1=opinion(cluster, "redis-1", "s_down"))
    (found,) = [f for f in seen.findings if f.kind is FindingKind.PARTITION]
    assert found.text == "redis-1 answers from here, but redis-2, redis-3, sentinel-1 have lost it"
    assert view(seen, "redis-1").state is NodeState.UP
    one = told(cluster, redis_2=cut)
    assert not [f for f in one.findings if f.kind is FindingKind.PARTITION]


def test_a_pause_is_told_with_the_time_that_is_left(cluster: Cluster) -> None:
    info = PRIMARY_INFO | {"paused_actions": "write", "paused_timeout_milliseconds": 1500}
    report = parse_info(info, needs=1)
    assert (report.paused, report.pause_left_s) == (True, 1.5)
    assert "redis-1 holds writes back (CLIENT PAUSE, for 1.5 s more)" in told(cluster, redis_1=report).reasons
    assert not parse_info(PRIMARY_INFO | {"paused_actions": "none"}).paused


def test_without_a_primary_the_sentinel_against_the_others_is_told(cluster: Cluster) -> None:
    gone = Unanswered(NodeState.STOPPED, "Exited (137)")
    odd = SentinelReport(AT["redis-2"], ("master",), 2, 3, 2, 7)
    seen = told(cluster, redis_1=gone, sentinel_3=odd)
    assert "sentinel-3 takes redis-2 for the primary, but the others take redis-1" in seen.reasons


def test_every_setting_in_which_sentinels_differ_is_a_finding_of_its_own(cluster: Cluster) -> None:
    odd = SentinelReport(AT["redis-1"], ("master",), 3, 3, 1, 7, down_after_ms=5000)
    found = [f for f in told(cluster, sentinel_2=odd).findings if f.kind is FindingKind.CONFIGURATION]
    assert [f.about for f in found] == ["quorum", "down-after-milliseconds", "number of known replicas"]


def test_sentinels_that_are_no_more_are_told_for_the_majority_that_they_raise(cluster: Cluster) -> None:
    ghosts = {f"sentinel_{i}": SentinelReport(AT["redis-1"], ("master",), 2, 5, 2, 7) for i in (1, 2, 3)}
    seen = told(cluster, **ghosts)
    assert len(seen.reasons) == 3
    assert seen.reasons[0].startswith("sentinel-1 counts 5 Sentinels, but there are 3")


def test_a_view_has_zone_and_priority() -> None:
    cluster = make_cluster("redis", 3)
    nodes = tuple(replace(n, params={**n.params, "zone": f"z{n.index}"}) for n in cluster.nodes)
    cluster = replace(cluster, nodes=nodes)
    never = ServerReport(False, 100, "8", upstream=AT["redis-1"], priority=0)
    seen = told(cluster, redis_2=never, redis_3=SILENT)
    assert [n.zone for n in seen.nodes] == ["z1", "z2", "z3", "z1", "z2", "z3"]
    assert [n.priority for n in seen.nodes[:2]] == [None, 0]


def test_a_server_where_config_is_forbidden_still_tells_whether_it_needs_replicas(
    served: tuple[Cluster, list[RedisState]],
) -> None:
    cluster, states = served
    states[0].info += "min_slaves_good_slaves:0\r\n"
    seen = STORE.observe(cluster, all_running(cluster))
    assert seen.verdict is Verdict.DOWN
    assert "redis-1 refuses writes: 0 of the 1 replicas" in seen.reasons[0]

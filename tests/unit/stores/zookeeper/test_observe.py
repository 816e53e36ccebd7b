from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.snapshot import FindingKind, Lag, NodeState, Role, Snapshot, Verdict
from haops.cluster.spec import Cluster
from haops.stores.base import Unanswered
from haops.stores.zookeeper import STORE
from haops.stores.zookeeper.observe import (
    NotServing,
    ServerReport,
    judge,
    parse_conf,
    parse_mntr,
    parse_zxid,
    transactions_behind,
)

from ....fake_zookeeper import NOT_SERVING, mntr, serve, srvr
from ....fakes import all_running, make_cluster

# ---- parsers


def test_a_leaders_mntr_tells_role_version_and_synced_followers() -> None:
    assert parse_mntr(mntr("leader", synced=2), 5) == ServerReport(Role.LEADER, 5, "3.9.5", 2, 0, 3)


def test_a_followers_mntr_has_no_count_of_followers() -> None:
    assert parse_mntr(mntr("follower"), 5) == ServerReport(Role.FOLLOWER, 5, "3.9.5", None, 0, 3)


@pytest.mark.parametrize(
    ("state", "role"),
    [
        ("leader", Role.LEADER),
        ("standalone", Role.LEADER),
        ("follower", Role.FOLLOWER),
        ("observer", Role.OBSERVER),
        ("read-only", Role.UNKNOWN),
    ],
)
def test_every_state_of_a_server_has_a_role(state: str, role: Role) -> None:
    assert parse_mntr(mntr(state), 0).role is role


def test_figures_with_a_decimal_point_are_read() -> None:
    text = mntr("leader").replace("zk_outstanding_requests\t0", "zk_outstanding_requests\t4.0")
    assert parse_mntr(text + "zk_synced_followers\t2.0\n", 0).synced == 2
    assert parse_mntr(text, 0).outstanding == 4


def test_the_zxid_is_read_from_srvr() -> None:
    assert parse_zxid(srvr(zxid=0x500000012)) == 0x500000012


@pytest.mark.parametrize("parse", [lambda t: parse_mntr(t, 0), parse_zxid])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (NOT_SERVING, "This ZooKeeper instance is not currently serving requests"),
        ("", "closed the connection without an answer"),
    ],
)
def test_a_server_that_does_not_serve_is_told_in_its_own_words(parse: Any, text: str, words: str) -> None:
    with pytest.raises(NotServing) as caught:
        parse(text)
    assert str(caught.value) == words
    assert isinstance(caught.value, OSError)


def test_a_cut_off_answer_is_parsed_or_not_serving_but_never_a_crash() -> None:
    for text, parse in ((srvr(), parse_zxid), (mntr("leader", synced=2), lambda t: parse_mntr(t, 0))):
        for length in range(len(text)):
            try:
                parse(text[:length])
            except NotServing:
                continue


# ---- zxids


@pytest.mark.parametrize(
    ("zxid", "newest", "behind"),
    [
        (0x100000005, 0x100000005, 0),
        (0x100000005, 0x100000009, 4),
        (0x100000009, 0x100000005, 0),
        (0x1FFFFFFFF, 0x200000001, None),
        (0x200000001, 0x1FFFFFFFF, 0),
    ],
)
def test_the_distance_of_two_zxids_counts_within_an_epoch_only(
    zxid: int, newest: int, behind: int | None
) -> None:
    assert transactions_behind(zxid, newest) == behind


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_distance_is_never_negative_and_nobody_is_behind_itself(a: int, b: int) -> None:
    assert transactions_behind(a, a) == 0
    assert (transactions_behind(a, b) or 0) >= 0
    if a >= b:
        assert transactions_behind(a, b) == 0


# ---- judge


@pytest.fixture
def cluster() -> Cluster:
    return make_cluster("zookeeper", 3)


def reports(cluster: Cluster, **changed: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        n.name: ServerReport(Role.FOLLOWER, 0x100000009, "3.9.5", None, 0, 1) for n in cluster.servers
    }
    found["zookeeper-1"] = ServerReport(Role.LEADER, 0x100000009, "3.9.5", len(cluster.servers) - 1, 0, 1)
    return found | {name.replace("_", "-"): report for name, report in changed.items()}


def view(seen: Snapshot, name: str) -> Any:
    return next(n for n in seen.nodes if n.name == name)


GONE = Unanswered(NodeState.UNREACHABLE, "This ZooKeeper instance is not currently serving requests")


def test_without_a_leader_nothing_serves_and_the_majority_is_told(cluster: Cluster) -> None:
    seen = judge(cluster, {n.name: GONE for n in cluster.nodes})
    assert seen.verdict is Verdict.DOWN
    assert seen.reasons[0] == "no server leads; 0 of 3 serve, a majority is 2"
    assert view(seen, "zookeeper-1").why == GONE.why


def test_two_leaders_are_a_split_brain_that_names_both(cluster: Cluster) -> None:
    second = ServerReport(Role.LEADER, 0x200000001, "3.9.5", 2, 0, 1)
    seen = judge(cluster, reports(cluster, zookeeper_3=second))
    assert seen.verdict is not Verdict.HEALTHY
    assert seen.reasons[0] == (
        "split brain: zookeeper-1 and zookeeper-3 all say that they lead;"
        " zookeeper-1: epoch 1, 2 followers in sync; zookeeper-3: epoch 2, 2 followers in sync"
    )


def test_a_follower_that_is_not_in_sync_is_counted(cluster: Cluster) -> None:
    leader = ServerReport(Role.LEADER, 0x100000009, "3.9.5", 1, 0, 1)
    seen = judge(cluster, reports(cluster, zookeeper_1=leader))
    assert seen.verdict is Verdict.DEGRADED
    assert seen.reasons == ("zookeeper-1 counts 1 of 2 followers in sync",)


@pytest.mark.parametrize(
    ("nodes", "dead", "at_risk"), [(3, 1, True), (5, 1, False), (5, 2, True), (9, 4, True)]
)
def test_a_quorum_that_can_lose_no_further_server_is_at_risk(nodes: int, dead: int, at_risk: bool) -> None:
    cluster = make_cluster("zookeeper", nodes)
    gone = {f"zookeeper_{nodes - i}": GONE for i in range(dead)}
    seen = judge(cluster, reports(cluster, **gone))
    assert seen.verdict is Verdict.DEGRADED
    assert ("quorum at risk: no server may be lost any more" in seen.reasons) is at_risk


def test_a_single_server_is_healthy_though_it_may_not_be_lost() -> None:
    cluster = make_cluster("zookeeper", 1)
    alone = ServerReport(Role.LEADER, 1, "3.9.5", None, 0, 1)
    assert judge(cluster, {"zookeeper-1": alone}).verdict is Verdict.HEALTHY


def test_lag_is_counted_from_the_newest_transaction_that_any_server_has(cluster: Cluster) -> None:
    behind = ServerReport(Role.FOLLOWER, 0x100000004, "3.9.5", None, 0, 1)
    seen = judge(cluster, reports(cluster, zookeeper_2=behind))
    assert view(seen, "zookeeper-2").lag == Lag(zxid=5)
    assert view(seen, "zookeeper-1").lag == Lag(zxid=0)
    assert "zxid 0x100000004" in view(seen, "zookeeper-2").detail


# ---- over a socket


def test_a_standing_ensemble_is_seen_through_its_four_letter_words() -> None:
    answers = [
        {"srvr": srvr("leader"), "mntr": mntr("leader", synced=1)},
        {"srvr": srvr(), "mntr": mntr()},
        {"srvr": NOT_SERVING, "mntr": NOT_SERVING},
    ]
    with ExitStack() as stack:
        ports = [stack.enter_context(serve(a)) for a in answers]
        # Client and administrative port of each server in turn.
        cluster = make_cluster("zookeeper", 3, ports=[p for port in ports for p in (port, 1)])
        seen = STORE.observe(cluster, all_running(cluster))
        with STORE.readiness(cluster) as readiness:
            pending = readiness.pending()
    assert [n.role for n in seen.nodes] == [Role.LEADER, Role.FOLLOWER, Role.UNKNOWN]
    assert seen.verdict is Verdict.DEGRADED
    assert view(seen, "zookeeper-3").why == NOT_SERVING.strip()
    assert pending == {"zookeeper-3": f"answer ({NOT_SERVING.strip()})"}


def test_readiness_waits_for_followers_in_sync() -> None:
    answers = [
        {"srvr": srvr("leader"), "mntr": mntr("leader", synced=1)},
        *[{"srvr": srvr(), "mntr": mntr()}] * 2,
    ]
    with ExitStack() as stack:
        ports = [stack.enter_context(serve(a)) for a in answers]
        cluster = make_cluster("zookeeper", 3, ports=[p for port in ports for p in (port, 1)])
        with STORE.readiness(cluster) as readiness:
            assert readiness.pending() == {"zookeeper-1": "1 followers in sync"}


# ---- what others see, settings, load

SILENT = Unanswered(NodeState.UNREACHABLE, "timed out", silent=True)
FOLLOWER = ServerReport(Role.FOLLOWER, 0x100000009, "3.9.5", None, 0, 1)
LEADER = ServerReport(Role.LEADER, 0x100000009, "3.9.5", 2, 0, 1)


def test_a_lost_leader_under_which_followers_serve_is_partitioned(cluster: Cluster) -> None:
    seen = judge(cluster, reports(cluster, zookeeper_1=SILENT))
    assert seen.verdict is Verdict.DEGRADED
    assert view(seen, "zookeeper-1").state is NodeState.PARTITIONED
    words = "lost from here (timed out), but zookeeper-2, zookeeper-3 serve under it"
    assert f"zookeeper-1 is partitioned: {words}" in seen.reasons


def test_a_lost_follower_that_the_leader_counts_is_partitioned(cluster: Cluster) -> None:
    seen = judge(cluster, reports(cluster, zookeeper_3=SILENT))
    assert view(seen, "zookeeper-3").state is NodeState.PARTITIONED
    assert "the leader zookeeper-1 counts it in sync" in view(seen, "zookeeper-3").why
    alone = judge(cluster, reports(cluster, zookeeper_1=replace(LEADER, synced=1), zookeeper_3=SILENT))
    assert view(alone, "zookeeper-3").state is NodeState.UNREACHABLE


def test_of_two_that_are_lost_neither_is_named_but_the_leader_is_known_to_be_there() -> None:
    cluster = make_cluster("zookeeper", 5)
    seen = judge(cluster, reports(cluster, zookeeper_1=SILENT, zookeeper_2=SILENT))
    assert [n.state for n in seen.nodes[:2]] == [NodeState.UNREACHABLE] * 2
    assert seen.verdict is Verdict.DEGRADED
    words = "zookeeper-3, zookeeper-4, zookeeper-5 serve under one"
    assert f"the leader is not seen from here, but {words}" in seen.reasons


def test_followers_of_a_leader_whose_container_has_ended_prove_nothing(cluster: Cluster) -> None:
    ended = Unanswered(NodeState.STOPPED, "Exited (137)")
    assert judge(cluster, reports(cluster, zookeeper_1=ended)).verdict is Verdict.DOWN


def test_who_reaches_nobody_and_is_refused_by_nobody_cannot_tell(cluster: Cluster) -> None:
    everybody = {n.name: SILENT for n in cluster.nodes}
    assert judge(cluster, everybody).verdict is Verdict.UNKNOWN
    refused = Unanswered(NodeState.UNREACHABLE, "Connection refused")
    assert judge(cluster, everybody | {"zookeeper-1": refused}).verdict is Verdict.DOWN


def test_settings_that_differ_are_told_with_every_servers_value(cluster: Cluster) -> None:
    alike = parse_conf("tickTime=500\nserverId=1\nserver.1=a\nserver.2=b\n")
    other = parse_conf("tickTime=400\nserverId=2\nserver.1=a\n")
    assert alike == ("server.1=a", "server.2=b", "tickTime=500")
    seen = judge(
        cluster,
        reports(
            cluster,
            zookeeper_1=replace(LEADER, shared=alike),
            zookeeper_2=replace(FOLLOWER, shared=alike),
            zookeeper_3=replace(FOLLOWER, shared=other),
        ),
    )
    assert seen.reasons == (
        "configurations differ in server.2: zookeeper-1 has b, zookeeper-2 has b, zookeeper-3 has none",
        "configurations differ in tickTime: zookeeper-1 has 500, zookeeper-2 has 500, zookeeper-3 has 400",
    )
    assert [f.about for f in seen.findings] == ["server.2", "tickTime"]


@pytest.mark.parametrize(("waiting", "told"), [(100, False), (101, True)])
def test_many_requests_that_wait_are_told(cluster: Cluster, waiting: int, told: bool) -> None:
    seen = judge(cluster, reports(cluster, zookeeper_2=replace(FOLLOWER, outstanding=waiting)))
    assert [f.kind for f in seen.findings] == [FindingKind.BACKLOG] * told


@pytest.mark.parametrize(("behind", "told"), [(500, False), (501, True)])
def test_a_follower_far_behind_is_told(cluster: Cluster, behind: int, told: bool) -> None:
    ahead = replace(LEADER, zxid=FOLLOWER.zxid + behind)
    seen = judge(cluster, reports(cluster, zookeeper_1=ahead, zookeeper_3=replace(FOLLOWER, zxid=ahead.zxid)))
    assert [(f.kind, f.node) for f in seen.findings] == [(FindingKind.LAG, "zookeeper-2")] * told


# ---- observers


@pytest.fixture
def watched() -> Cluster:
    return make_cluster("zookeeper", 3, observers=1)


WATCHER = ServerReport(Role.OBSERVER, 0x100000009, "3.9.5", None, 0, 1)
HEAD = ServerReport(Role.LEADER, 0x100000009, "3.9.5", 2, 0, 1, watched=1)


def watched_reports(cluster: Cluster, **changed: Any) -> dict[str, Any]:
    return reports(cluster, **{"zookeeper_1": HEAD, "zookeeper_4": WATCHER, **changed})


def test_a_leader_counts_its_observers_and_nobody_else_does() -> None:
    figures = "zk_synced_observers\t1\n"
    assert parse_mntr(mntr("leader", synced=2) + figures, 0).watched == 1
    assert parse_mntr(mntr("follower") + figures, 0).watched is None


def test_an_ensemble_with_observers_is_whole(watched: Cluster) -> None:
    seen = judge(watched, watched_reports(watched))
    assert (seen.verdict, seen.reasons) == (Verdict.HEALTHY, ())
    assert [n.role for n in seen.nodes] == [Role.LEADER, Role.FOLLOWER, Role.FOLLOWER, Role.OBSERVER]


def test_an_observer_that_is_down_degrades_but_risks_no_quorum(watched: Cluster) -> None:
    ended = Unanswered(NodeState.STOPPED, "Exited (137)")
    seen = judge(watched, watched_reports(watched, zookeeper_1=replace(HEAD, watched=0), zookeeper_4=ended))
    assert seen.verdict is Verdict.DEGRADED
    assert seen.reasons == (
        "zookeeper-1 counts 0 of 1 observers in sync",
        "zookeeper-4 is stopped: Exited (137)",
    )
    assert view(seen, "zookeeper-4").role is Role.OBSERVER


def test_observers_do_not_replace_voters(watched: Cluster) -> None:
    one_away = judge(watched, watched_reports(watched, zookeeper_3=GONE))
    assert "quorum at risk: no server may be lost any more" in one_away.reasons
    two_away = judge(watched, watched_reports(watched, zookeeper_2=GONE, zookeeper_3=GONE))
    assert two_away.verdict is Verdict.DOWN
    assert "1 of 3 serve, a majority is 2: no write can be acknowledged" in two_away.reasons


def test_a_lost_observer_that_the_leader_counts_is_partitioned(watched: Cluster) -> None:
    seen = judge(watched, watched_reports(watched, zookeeper_4=SILENT))
    assert view(seen, "zookeeper-4").state is NodeState.PARTITIONED
    apart = judge(watched, watched_reports(watched, zookeeper_1=replace(HEAD, watched=0), zookeeper_4=SILENT))
    assert view(apart, "zookeeper-4").state is NodeState.UNREACHABLE


def test_a_lost_observer_is_no_sign_of_a_leader_that_is_only_out_of_sight(watched: Cluster) -> None:
    ended = Unanswered(NodeState.STOPPED, "Exited (137)")
    seen = judge(watched, watched_reports(watched, zookeeper_1=ended, zookeeper_4=SILENT))
    assert seen.verdict is Verdict.DOWN
    assert view(seen, "zookeeper-4").state is NodeState.UNREACHABLE


@pytest.mark.parametrize(
    ("synced", "seeing", "waits"),
    [
        (2, 0, "1 observers in sync"),
        (1, 1, "1 followers in sync"),
        (1, 0, "1 followers in sync and 1 observers in sync"),
    ],
)
def test_readiness_waits_for_observers_too(synced: int, seeing: int, waits: str) -> None:
    head = mntr("leader", synced=synced) + f"zk_synced_observers\t{seeing}\n"
    answers = [
        {"srvr": srvr("leader"), "mntr": head},
        *[{"srvr": srvr(), "mntr": mntr()}] * 2,
        {"srvr": srvr("observer"), "mntr": mntr("observer")},
    ]
    with ExitStack() as stack:
        ports = [stack.enter_context(serve(a)) for a in answers]
        cluster = make_cluster("zookeeper", 3, observers=1, ports=[p for port in ports for p in (port, 1)])
        with STORE.readiness(cluster) as readiness:
            assert readiness.pending() == {"zookeeper-1": waits}

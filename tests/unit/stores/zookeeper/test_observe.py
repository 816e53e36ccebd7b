from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.snapshot import Lag, NodeState, Role, Snapshot, Verdict
from haops.cluster.spec import Cluster
from haops.stores.base import Unanswered
from haops.stores.zookeeper import STORE
from haops.stores.zookeeper.observe import (
    NotServing,
    ServerReport,
    judge,
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
    assert seen.reasons[0].startswith("split brain: zookeeper-1 and zookeeper-3 all say that they lead")


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

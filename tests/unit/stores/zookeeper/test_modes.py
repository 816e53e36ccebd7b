from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import pytest

from haops.cluster.spec import Cluster
from haops.errors import BadInput
from haops.stores.mode import Fact, Replication
from haops.stores.zookeeper.modes import STORE_MODES, way

from ....fake_zookeeper import NOT_SERVING, mntr, serve, srvr
from ....fakes import make_cluster


def words(state: str, synced: int | None = None, watched: int | None = None) -> Mapping[str, str]:
    figures = mntr(state, synced) + (f"zk_synced_observers\t{watched}\n" if watched is not None else "")
    return {"srvr": srvr(state), "mntr": figures}


DUMB = {"srvr": NOT_SERVING, "mntr": NOT_SERVING}


@contextmanager
def served(*answers: Mapping[str, str], observers: int = 0) -> Iterator[Cluster]:
    with ExitStack() as stack:
        ports = [port for a in answers for port in (stack.enter_context(serve(a)), 1)]
        yield make_cluster("zookeeper", len(answers) - observers, observers=observers, ports=ports)


def asked(cluster: Cluster, mode: str) -> tuple[Fact, ...]:
    return STORE_MODES.ask(cluster, STORE_MODES.get(mode))


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("quorum", "quorum"),
        ("local", "quorum"),
        ("quorum-local", "quorum"),
        ("quorum-sync", "quorum-sync"),
        ("sync", "quorum-sync"),
        ("observers", "observers"),
        ("observer", "observers"),
    ],
)
def test_a_mode_has_further_names(name: str, mode: str) -> None:
    assert STORE_MODES.get(name).name == mode


def test_an_unknown_mode_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match="unknown mode 'wait-1'") as caught:
        STORE_MODES.get("wait-1")
    assert caught.value.hint == "allowed: quorum, quorum-sync, observers"


def test_the_first_mode_is_what_clusters_of_an_older_haops_have_recorded() -> None:
    assert STORE_MODES.offered[0].name == "quorum"


def test_a_mode_says_whether_readers_are_waited_for() -> None:
    kinds = {mode.name: mode.replication for mode in STORE_MODES.offered}
    assert kinds == {
        "quorum": Replication.SYNCHRONOUS,
        "quorum-sync": Replication.SYNCHRONOUS,
        "observers": Replication.ASYNCHRONOUS,
    }
    assert "ZOOKEEPER-1675" in STORE_MODES.get("quorum-sync").limits


def test_each_mode_is_a_way_of_its_own() -> None:
    ways = [way(mode.name) for mode in STORE_MODES.offered]
    assert [(w.syncs, w.at_observers) for w in ways] == [(False, False), (True, False), (False, True)]


def test_observers_can_be_read_only_where_there_is_one() -> None:
    with pytest.raises(BadInput, match="it has no observer") as caught:
        STORE_MODES.check(make_cluster("zookeeper"), "observers")
    assert "haops up zookeeper --observers 1" in (caught.value.hint or "")
    for mode in STORE_MODES.offered:
        assert STORE_MODES.check(make_cluster("zookeeper", observers=1), mode.name) is mode


def test_there_is_nothing_to_set_on_the_servers() -> None:
    assert STORE_MODES.settle(make_cluster("zookeeper"), STORE_MODES.offered[1]) == ()


def test_a_whole_ensemble_is_confirmed_by_its_servers_words() -> None:
    with served(words("follower"), words("leader", 2, 0), words("follower")) as cluster:
        facts = asked(cluster, "quorum")
    assert [(f.node, f.what, f.found) for f in facts] == [
        ("zookeeper-1", "role", "follower"),
        ("zookeeper-2", "role", "leader"),
        ("zookeeper-3", "role", "follower"),
        ("zookeeper-2", "synced followers", "2"),
    ]
    assert all(f.holds for f in facts)
    assert facts[-1].wanted == "1 or more"


def test_a_leader_whose_followers_are_not_in_sync_is_told() -> None:
    with served(words("leader", 0, 0), words("follower"), words("follower")) as cluster:
        assert [f.what for f in asked(cluster, "quorum") if not f.holds] == ["synced followers"]


def test_without_a_leader_that_is_told_with_each_servers_words() -> None:
    with served(DUMB, DUMB, DUMB) as cluster:
        facts = asked(cluster, "quorum-sync")
    assert not any(f.holds for f in facts)
    assert facts[0].found == NOT_SERVING.strip()
    assert (facts[-1].node, facts[-1].found) == ("zookeeper", "nobody")


def test_a_server_that_stands_alone_needs_no_followers() -> None:
    with served(words("standalone")) as cluster:
        assert all(f.holds for f in asked(cluster, "quorum"))


ENSEMBLE = (words("leader", 2, 1), words("follower"), words("follower"))


@pytest.mark.parametrize(("state", "holds"), [("observer", True), ("follower", False)])
def test_who_is_read_as_an_observer_says_that_it_is_one(state: str, holds: bool) -> None:
    with served(*ENSEMBLE, words(state), observers=1) as cluster:
        facts = {(f.node, f.what): f for f in asked(cluster, "observers")}
    assert facts["zookeeper-4", "role"].holds is holds
    assert facts["zookeeper-1", "synced observers"].holds


def test_an_observer_that_votes_for_nothing_is_no_ground_of_the_other_modes() -> None:
    with served(*ENSEMBLE, DUMB, observers=1) as cluster:
        assert all(f.holds for f in asked(cluster, "quorum"))
        assert [f.node for f in asked(cluster, "observers") if not f.holds] == ["zookeeper-4"]

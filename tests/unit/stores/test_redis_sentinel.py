"""Taking part in Sentinel's protocol, against three Sentinels that vote and hear as in sentinel.c."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from haops.stores.plan import StepFailed
from haops.stores.redis.links import Links
from haops.stores.redis.sentinel import Mandate, Opinion, Sentinels
from haops.stores.redis.topology import sentinel_id

from ...fake_redis import FakeSentinel, FakeSet
from .conftest import LinkTime

RIVAL = "f" * 40
ALL = ("sentinel-1", "sentinel-2", "sentinel-3")
# Longer than the real one: Sentinels in a busy test process answer later.
ROUND_S = 0.6


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haops.stores.redis.sentinel.ROUND_S", ROUND_S)


@pytest.fixture
def sentinels(group: FakeSet, link_time: LinkTime) -> Iterator[Sentinels]:
    links = Links(group.cluster.nodes, 1.0)
    yield Sentinels(group.cluster, links)
    links.close()


def win(group: FakeSet, sentinels: Sentinels) -> Mandate:
    return sentinels.win_epoch(group.cluster.node("redis-1"))


def each(group: FakeSet) -> list[FakeSentinel]:
    return list(group.sentinels.values())


# ---- votes


def test_an_epoch_is_won_with_the_votes_of_all(group: FakeSet, sentinels: Sentinels) -> None:
    mandate = win(group, sentinels)
    assert (mandate.epoch, sorted(mandate.voters)) == (1, list(ALL))
    assert len(mandate.run_id) == 40
    assert int(mandate.run_id, 16)
    assert {(s.leader, s.leader_epoch) for s in each(group)} == {(mandate.run_id, 1)}


def test_an_epoch_is_asked_for_one_above_the_highest_that_is_told(
    group: FakeSet, sentinels: Sentinels
) -> None:
    for sentinel, epoch in zip(each(group), (3, 8, 5), strict=True):
        sentinel.config_epoch = sentinel.current_epoch = epoch
    assert win(group, sentinels).epoch == 9
    assert all(len(s.said("SENTINEL IS-MASTER")) == 1 for s in each(group))


def test_a_request_for_a_vote_is_what_sentinels_ask_each_other(group: FakeSet, sentinels: Sentinels) -> None:
    mandate = win(group, sentinels)
    node = group.cluster.node("redis-1")
    ((*asked,),) = each(group)[0].said("SENTINEL IS-MASTER")
    assert asked == [
        "SENTINEL", "IS-MASTER-DOWN-BY-ADDR", node.address, str(node.port), "1", mandate.run_id,
    ]  # fmt: skip


def test_each_attempt_is_in_a_name_of_its_own(group: FakeSet, sentinels: Sentinels) -> None:
    first, second = win(group, sentinels), win(group, sentinels)
    assert first.run_id != second.run_id
    assert second.epoch > first.epoch


def test_a_rival_of_a_higher_epoch_wins_it_and_ours_is_the_next(group: FakeSet, sentinels: Sentinels) -> None:
    for sentinel in each(group):
        sentinel.vote(RIVAL, 5)  # config epochs, which can be asked for, are 0 still
    mandate = win(group, sentinels)
    assert mandate.epoch == 6
    assert [int(words[4]) for words in each(group)[0].said("SENTINEL IS-MASTER")] == [1, 6]


def test_a_rival_of_the_same_epoch_who_was_faster_is_not_overrun(
    group: FakeSet, sentinels: Sentinels
) -> None:
    for sentinel in each(group)[:2]:
        sentinel.vote(RIVAL, 1)
    mandate = win(group, sentinels)
    assert mandate.epoch == 2
    assert len(each(group)[0].said("SENTINEL IS-MASTER")) == 2


def test_one_vote_for_a_rival_does_not_hinder_a_majority(group: FakeSet, sentinels: Sentinels) -> None:
    each(group)[0].vote(RIVAL, 1)
    mandate = win(group, sentinels)
    assert (mandate.epoch, sorted(mandate.voters)) == (1, ["sentinel-2", "sentinel-3"])


def test_failed_elections_that_nobody_tells_of_are_overtaken(group: FakeSet, sentinels: Sentinels) -> None:
    for sentinel in each(group):
        sentinel.current_epoch = 9
    assert win(group, sentinels).epoch >= 9


def test_a_rival_who_is_always_faster_is_given_way_to(group: FakeSet, sentinels: Sentinels) -> None:
    for sentinel in each(group):

        def faster(words: tuple[str, ...], sentinel: FakeSentinel = sentinel) -> None:
            if words[1] == "IS-MASTER-DOWN-BY-ADDR":
                sentinel.vote(RIVAL, int(words[4]))

        sentinel.before = faster
    with pytest.raises(StepFailed, match="voted for somebody else") as caught:
        win(group, sentinels)
    assert "sentinel-1 voted in epoch" in str(caught.value.detail)
    assert all(s.leader == RIVAL for s in each(group))


@pytest.mark.parametrize("answering", [0, 1])
def test_without_a_majority_nothing_is_won(
    group: FakeSet, sentinels: Sentinels, link_time: LinkTime, answering: int
) -> None:
    for sentinel in each(group)[answering:]:
        sentinel.silent = True
    began = link_time.monotonic()
    with pytest.raises(StepFailed, match=f"{answering} of 3 Sentinels answer"):
        win(group, sentinels)
    assert link_time.monotonic() - began < 2 * ROUND_S + 1


def test_a_sentinel_that_knows_another_primary_gives_no_vote(group: FakeSet, sentinels: Sentinels) -> None:
    for sentinel in each(group)[:2]:
        sentinel.primary = group.servers["redis-3"].address
    with pytest.raises(StepFailed):
        win(group, sentinels)


def test_a_silent_sentinel_costs_one_round_and_is_left_out_afterwards(
    group: FakeSet, sentinels: Sentinels, link_time: LinkTime
) -> None:
    group.sentinels["sentinel-1"].silent = True
    began = link_time.monotonic()
    mandate = win(group, sentinels)
    assert link_time.monotonic() - began < ROUND_S + 1
    assert sorted(mandate.voters) == ["sentinel-2", "sentinel-3"]
    assert len(group.sentinels["sentinel-1"].calls) == 1  # not waited for a second time
    assert sentinels.names == ["sentinel-2", "sentinel-3"]
    heard = sentinels.announce(group.cluster.node("redis-2"), mandate)
    opinions = sentinels.opinions()
    assert len(group.sentinels["sentinel-1"].calls) == 1
    assert sorted(heard) == sorted(opinions) == ["sentinel-2", "sentinel-3"]


def test_a_sentinel_that_falls_silent_during_the_vote_costs_one_round(
    group: FakeSet, sentinels: Sentinels
) -> None:
    def freeze(words: tuple[str, ...]) -> None:
        if words[1] == "GET-MASTER-ADDR-BY-NAME":
            group.sentinels["sentinel-2"].silent = True

    group.sentinels["sentinel-2"].before = freeze
    assert sorted(win(group, sentinels).voters) == ["sentinel-1", "sentinel-3"]
    assert len(group.sentinels["sentinel-2"].calls) == 2


def test_sentinels_that_wait_for_their_disk_are_waited_for_until_there_is_a_majority(
    group: FakeSet, sentinels: Sentinels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("haops.stores.redis.sentinel.ROUND_S", 0.05)
    for sentinel in each(group):
        sentinel.before = lambda words: time.sleep(0.06)
    assert len(win(group, sentinels).voters) >= 2


# ---- the word


def test_a_hello_has_the_eight_fields_that_sentinel_reads(group: FakeSet, sentinels: Sentinels) -> None:
    sentinels.announce(group.cluster.node("redis-2"), Mandate(7, "a" * 40, ALL))
    known = {n.name: n for n in group.cluster.sentinels}
    for name, sentinel in group.sentinels.items():
        (hello,) = sentinel.heard
        address, port, run_id, current, service, to, to_port, config = hello.split(",")
        sender = next(n for n in known.values() if n.address == address)
        assert sender.name != name
        assert (int(port), run_id) == (sender.port, sentinel_id(group.cluster, sender))
        assert (current, service, config) == ("7", "mymaster", "7")
        target = group.cluster.node("redis-2")
        assert (to, int(to_port)) == (target.address, target.port)
    assert group.mistakes == []


def test_all_sentinels_move_their_word_to_the_new_primary_under_the_epoch(
    group: FakeSet, sentinels: Sentinels
) -> None:
    mandate = win(group, sentinels)
    assert group.named() == {"redis-1"}
    assert sorted(sentinels.announce(group.cluster.node("redis-2"), mandate)) == list(ALL)
    assert group.named() == {"redis-2"}
    assert {s.config_epoch for s in each(group)} == {mandate.epoch}
    opinions = sentinels.opinions()
    assert sorted(sentinels.agree(group.cluster.node("redis-2"), opinions)) == list(ALL)
    assert sentinels.agree(group.cluster.node("redis-1"), opinions) == ()


def test_a_word_of_an_older_epoch_moves_nobody(group: FakeSet, sentinels: Sentinels) -> None:
    for sentinel in each(group):
        sentinel.config_epoch = sentinel.current_epoch = 9
    sentinels.announce(group.cluster.node("redis-2"), Mandate(5, "a" * 40, ALL))
    assert group.named() == {"redis-1"}


def test_who_refuses_the_word_has_not_heard_it(group: FakeSet, sentinels: Sentinels) -> None:
    group.sentinels["sentinel-2"].refuse["PUBLISH"] = "ERR Only HELLO messages are accepted"
    heard = sentinels.announce(group.cluster.node("redis-2"), Mandate(1, "a" * 40, ALL))
    assert sorted(heard) == ["sentinel-1", "sentinel-3"]


# ---- opinions


def test_an_opinion_is_where_clients_are_sent_and_under_which_epoch(
    group: FakeSet, sentinels: Sentinels
) -> None:
    group.sentinels["sentinel-2"].flags = "master,s_down,failover_in_progress"
    group.sentinels["sentinel-2"].config_epoch = 4
    opinions = sentinels.opinions()
    address = group.servers["redis-1"].address
    assert opinions["sentinel-1"] == Opinion(address, 0, ("master",), 0)
    assert not opinions["sentinel-1"].suspects
    assert opinions["sentinel-2"].epoch == 4
    assert opinions["sentinel-2"].suspects


def test_a_sentinel_that_does_not_know_the_service_has_no_opinion(
    group: FakeSet, sentinels: Sentinels
) -> None:
    group.sentinels["sentinel-3"].refuse["SENTINEL MASTER"] = "ERR No such master with that name"
    assert sorted(sentinels.opinions()) == ["sentinel-1", "sentinel-2"]
    assert sentinels.names == list(ALL)  # it answers, and is asked again

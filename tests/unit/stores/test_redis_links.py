"""Connections on which nobody waits for anybody: refusals, silence, resets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from redis.exceptions import RedisError, ResponseError

from haops.stores.plan import StepFailed
from haops.stores.redis.links import Link, Links, ask_each, good

from ...fake_redis import FakeSet

PING = ("PING",)
WITHIN_S = 0.3


@pytest.fixture
def links(group: FakeSet) -> Iterator[Links]:
    made = Links(group.cluster.nodes, 0.3)
    yield made
    made.close()


def names(group: FakeSet) -> list[str]:
    return [n.name for n in group.cluster.nodes]


def test_every_node_answers_for_itself(group: FakeSet, links: Links) -> None:
    group.servers["redis-2"].config["min-replicas-to-write"] = "7"
    command = ("CONFIG", "GET", "min-replicas-to-write")
    answers = ask_each(dict.fromkeys(group.servers, command), links, WITHIN_S)
    assert {name: answer[1] for name, answer in answers.items()} == {
        "redis-1": "1",
        "redis-2": "7",
        "redis-3": "1",
    }


def test_a_refusal_keeps_the_connection(group: FakeSet, links: Links) -> None:
    group.servers["redis-1"].refuse["PING"] = "ERR not you"
    answers = ask_each({"redis-1": PING, "redis-2": PING}, links, WITHIN_S)
    assert isinstance(answers["redis-1"], ResponseError)
    assert "not you" in str(answers["redis-1"])
    assert good(answers) == {"redis-2": "PONG"}
    assert links["redis-1"].usable
    group.servers["redis-1"].refuse.clear()
    assert links["redis-1"].ask("PING") == "PONG"


def test_silence_drops_the_connection_so_that_a_late_answer_answers_nothing_else(
    group: FakeSet, links: Links
) -> None:
    group.servers["redis-1"].silent = True
    answers = ask_each({"redis-1": PING, "redis-2": PING}, links, 0.1)
    assert isinstance(answers["redis-1"], RedisError)
    assert not links["redis-1"].usable
    assert [link.name for link in links.usable(group.servers)] == ["redis-2", "redis-3"]
    group.servers["redis-1"].silent = False
    with pytest.raises(StepFailed, match="no connection"):
        links["redis-1"].ask("PING")
    links.revive()
    assert links["redis-1"].ask("PING") == "PONG"


def test_a_reset_drops_the_connection_at_once(group: FakeSet, links: Links) -> None:
    group.servers["redis-1"].reset = True
    began = time.monotonic()
    answers = ask_each({"redis-1": PING, "redis-2": PING}, links, 2.0)
    assert time.monotonic() - began < 1.5
    assert isinstance(answers["redis-1"], RedisError | OSError)
    assert not links["redis-1"].usable
    assert links["redis-2"].usable


def test_silent_nodes_cost_the_deadline_once_and_delay_nobody(group: FakeSet, links: Links) -> None:
    for name in ("redis-1", "redis-2", "sentinel-1"):
        group.members[name].silent = True
    began = time.monotonic()
    answers = ask_each(dict.fromkeys(names(group), PING), links, WITHIN_S)
    assert time.monotonic() - began < WITHIN_S + 0.5  # three in a row would cost 0.9 s
    assert sorted(good(answers)) == ["redis-3", "sentinel-2", "sentinel-3"]
    assert sorted(answers) == sorted(names(group))
    answers = ask_each(dict.fromkeys(names(group), PING), links, 5.0)
    assert len(group.servers["redis-1"].calls) == 1  # they are not waited for again
    assert sorted(good(answers)) == ["redis-3", "sentinel-2", "sentinel-3"]


def test_when_all_answer_nobody_waits_for_the_deadline(group: FakeSet, links: Links) -> None:
    began = time.monotonic()
    assert len(good(ask_each(dict.fromkeys(names(group), PING), links, 5.0))) == 6
    assert time.monotonic() - began < 2.0


def test_a_silent_node_asked_first_does_not_use_up_the_others_time(group: FakeSet, links: Links) -> None:
    group.servers["redis-1"].silent = True
    group.servers["redis-3"].before = lambda words: time.sleep(0.1)
    answers = ask_each(dict.fromkeys(group.servers, PING), links, WITHIN_S)
    assert sorted(good(answers)) == ["redis-2", "redis-3"]


def test_a_node_that_does_not_listen_is_left_out_and_told(
    group: FakeSet, closed_ports: Callable[[int], list[int]]
) -> None:
    gone = replace(group.cluster.nodes[0], host_port=closed_ports(1)[0])
    links = Links([gone, *group.cluster.nodes[1:]], 0.3)
    try:
        assert not links[gone.name].usable
        answers = ask_each(dict.fromkeys(names(group), PING), links, WITHIN_S)
        assert isinstance(answers[gone.name], StepFailed)
        assert len(good(answers)) == 5
    finally:
        links.close()


def test_a_node_known_to_be_gone_is_not_connected_to(group: FakeSet) -> None:
    links = Links(group.cluster.nodes, 0.3, closed="redis-1")
    try:
        assert [link.name for link in links.usable()] == names(group)[1:]
        links.revive()
        assert links["redis-1"].usable
    finally:
        links.close()


def test_a_question_that_is_refused_tells_the_servers_own_words(group: FakeSet, links: Links) -> None:
    group.servers["redis-1"].refuse["REPLICAOF"] = "ERR not in cluster mode"
    with pytest.raises(StepFailed) as caught:
        links["redis-1"].ask("REPLICAOF", "10.0.0.1", 6379)
    assert (caught.value.node, caught.value.message) == ("redis-1", "REPLICAOF failed")
    assert "not in cluster mode" in str(caught.value.detail)
    assert links["redis-1"].usable


def test_a_question_without_an_answer_fails_in_time(group: FakeSet, links: Links) -> None:
    group.servers["redis-1"].silent = True
    began = time.monotonic()
    with pytest.raises(StepFailed, match="PING failed"):
        links["redis-1"].ask("PING")
    assert 0.2 < time.monotonic() - began < 1.0
    assert not links["redis-1"].usable


def test_a_closed_link_is_closed_twice_without_complaint(group: FakeSet) -> None:
    link = Link(group.cluster.nodes[0], 0.3)
    assert not link.usable
    assert link.reopen()
    link.close()
    link.close()
    assert not link.usable

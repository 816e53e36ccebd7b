from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from haops.stores.zookeeper import pipeline
from haops.stores.zookeeper.pipeline import Code, Link, LinkLost, create, exists
from haops.stores.zookeeper.writing import create_all, raise_suffixes

from .archives import node
from .fake_server import FakeServer, ensemble


def slowly(*paths: str) -> Iterator[str]:
    """As an archive that is far away hands out its nodes: each after more than a session's time."""
    for path in paths:
        time.sleep(0.5)
        yield path


def test_a_session_outlives_a_producer_that_is_slower_than_its_time_out() -> None:
    server = FakeServer(session_ms=200)
    with ensemble(server) as cluster, Link(cluster, cluster.servers[0]) as link:
        list(create_all(link, (node(p, following=0) for p in slowly("/", "/a", "/b"))))
        list(raise_suffixes(link, (node(p) for p in slowly("/", "/a"))))
        assert link.ask(exists(b"/b")).code == Code.OK
    assert server.sessions == 1
    assert {b"/a", b"/b"} <= set(server.nodes)


def test_answers_to_pings_are_never_taken_for_those_of_requests() -> None:
    server = FakeServer(session_ms=30)
    with ensemble(server) as cluster, Link(cluster, cluster.servers[0]) as link:
        made = []
        for number in range(40):
            link.send(create(node(f"/n{number}")))
            time.sleep(0.01)
        made = [link.receive().code for _ in range(40)]
    assert made == [Code.OK] * 40


def test_a_server_that_answers_pings_but_no_request_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeServer(session_ms=120)
    with ensemble(server) as cluster, Link(cluster, cluster.servers[0]) as link:
        monkeypatch.setattr(pipeline, "_ANSWER_S", 0.3)
        server.mute = True
        with pytest.raises(LinkLost, match="answers pings, but no request"):
            link.ask(exists(b"/"))


def test_nothing_goes_on_pinging_when_a_link_is_closed() -> None:
    before = set(threading.enumerate())
    with ensemble(FakeServer(session_ms=60_000)) as cluster:
        begun = time.monotonic()
        with Link(cluster, cluster.servers[0]) as link:
            assert link.ask(exists(b"/")).code == Code.OK
        assert time.monotonic() - begun < 5
    assert set(threading.enumerate()) <= before

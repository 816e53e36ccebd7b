"""Probes and copies against servers in memory."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from haops.cluster.spec import Cluster, Node, StoreName
from haops.health.beat import Evidence
from haops.stores import cassandra, redis, zookeeper
from haops.stores.base import Store
from haops.stores.redis.probe import digest
from haops.stores.zookeeper.probe import copies as zookeeper_copies
from haops.stores.zookeeper.probe import parse_hash

from ... import fake_zookeeper
from ...fake_redis import RedisState, serve
from ...fakes import make_cluster

STORES = (redis.STORE, zookeeper.STORE, cassandra.STORE)


def at(store: Store, port: int) -> Node:
    return replace(make_cluster(store.name).nodes[0], host_port=port)


@contextmanager
def scripted(*answers: bytes | None) -> Iterator[int]:
    """Connections in turn: bytes answer one question, None keeps silent, b"" closes."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as door:

        def work() -> None:
            for answer in answers:
                link, _ = door.accept()
                with link:
                    link.recv(64)
                    if answer is None:
                        over.wait(2)
                    else:
                        link.sendall(answer)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield door.getsockname()[1]
        finally:
            over.set()
            thread.join(2)


@pytest.mark.parametrize("store", STORES, ids=lambda s: s.name)
def test_a_closed_port_refuses(store: Store, closed_ports: Any) -> None:
    beat = store.probe(at(store, closed_ports(1)[0])).probe(0.5)
    assert beat.evidence is Evidence.REFUSED
    assert beat.round_trip_ns < 0.4e9


@pytest.mark.parametrize("store", STORES, ids=lambda s: s.name)
def test_a_connection_closed_without_a_word_is_refused(store: Store) -> None:
    with scripted(b"") as port:
        assert store.probe(at(store, port)).probe(0.5).evidence is Evidence.REFUSED


@pytest.mark.parametrize("store", STORES, ids=lambda s: s.name)
def test_silence_takes_the_patience_and_no_longer(store: Store) -> None:
    with scripted(None) as port:
        probe = store.probe(at(store, port))
        beat = probe.probe(0.1)
        probe.close()
    assert beat.evidence is Evidence.SILENT
    assert 0.09e9 < beat.round_trip_ns < 0.6e9


def test_redis_answers_over_one_connection() -> None:
    with scripted(b"+PONG\r\n") as port:
        probe = redis.STORE.probe(at(redis.STORE, port))
        assert probe.probe(0.5).evidence is Evidence.ANSWERED
        assert probe.says == ""
        assert probe.probe(0.5).evidence is Evidence.REFUSED  # it was closed in the meantime
        probe.close()


def test_a_loading_redis_answers_and_says_so() -> None:
    with scripted(b"-LOADING Redis is loading the dataset in memory\r\n") as port:
        probe = redis.STORE.probe(at(redis.STORE, port))
        assert probe.probe(0.5).evidence is Evidence.ANSWERED
        assert probe.says == "LOADING Redis is loading the dataset in memory"
        probe.close()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"\x85\x00\x00\x00\x06\x00\x00\x00\x02\x00\x00", ""),
        (b"\x85\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00", "answers OPTIONS with opcode 0x00"),
    ],
)
def test_cassandra_answers_options(answer: bytes, says: str) -> None:
    with scripted(answer) as port:
        probe = cassandra.STORE.probe(at(cassandra.STORE, port))
        assert probe.probe(0.5).evidence is Evidence.ANSWERED
        assert probe.says == says
        probe.close()


@pytest.mark.parametrize(
    ("srvr", "says"),
    [
        (fake_zookeeper.srvr(), ""),
        (fake_zookeeper.NOT_SERVING, "This ZooKeeper instance is not currently serving requests"),
    ],
)
def test_a_zookeeper_that_does_not_serve_lives(srvr: str, says: str) -> None:
    with fake_zookeeper.serve({"ruok": "imok", "srvr": srvr}) as port:
        probe = zookeeper.STORE.probe(at(zookeeper.STORE, port))
        assert probe.probe(1).evidence is Evidence.ANSWERED
        assert probe.says == says
        probe.close()


def one_server(store: StoreName, port: int) -> Cluster:
    cluster = make_cluster(store)
    return replace(cluster, nodes=(replace(cluster.nodes[0], host_port=port),))


def test_hash_is_read_or_known_to_be_forbidden() -> None:
    assert parse_hash("100000080: 42\n100000100: 62\n") == ((0x100000080, "42"), (0x100000100, "62"))
    assert parse_hash("hash is not executed because it is not in the whitelist.\n") == ()
    assert parse_hash("") == ()


def test_zookeeper_tells_each_digest_once_and_its_place_last() -> None:
    answers = {"srvr": fake_zookeeper.srvr(zxid=0x100000133), "hash": "100000080: 42\n100000100: 62\n"}
    with (
        fake_zookeeper.serve(answers) as port,
        zookeeper_copies(one_server(StoreName.ZOOKEEPER, port)) as reader,
    ):
        first = [(r.position, r.digest) for r in reader.read()]
        again = [(r.position, r.digest) for r in reader.read()]
    assert first == [(0x100000080, "42"), (0x100000100, "62"), (0x100000133, None)]
    assert again == [(0x100000133, None)]


def test_the_first_zxid_of_an_epoch_is_no_place() -> None:
    with (
        fake_zookeeper.serve({"srvr": fake_zookeeper.srvr(zxid=0x200000000), "hash": ""}) as port,
        zookeeper_copies(one_server(StoreName.ZOOKEEPER, port)) as reader,
    ):
        assert [r.position for r in reader.read()] == [None]


def test_copies_of_a_zookeeper_that_does_not_serve_are_not_read() -> None:
    with (
        fake_zookeeper.serve({"srvr": fake_zookeeper.NOT_SERVING}) as port,
        zookeeper_copies(one_server(StoreName.ZOOKEEPER, port)) as reader,
    ):
        assert reader.read() == ()


def test_redis_copies_of_nobody_are_not_read(closed_ports: Any) -> None:
    with redis.STORE.copies(one_server(StoreName.REDIS, closed_ports(1)[0])) as reader:
        assert reader.read() == ()


def test_a_server_that_refuses_transactions_is_not_read() -> None:
    with (
        serve(RedisState()) as port,
        redis.STORE.copies(one_server(StoreName.REDIS, port)) as reader,
    ):
        assert reader.read() == ()


def test_values_without_an_order_are_equal_in_any() -> None:
    sample = ((b"s", b"set"), (b"h", b"hash"))
    one = digest(sample, [{b"a", b"b"}, {b"x": b"1", b"y": b"2"}])
    two = digest(sample, [[b"b", b"a"], {b"y": b"2", b"x": b"1"}])
    other = digest(sample, [{b"a", b"c"}, {b"x": b"1", b"y": b"2"}])
    assert one == digest(sample, [{b"b", b"a"}, {b"y": b"2", b"x": b"1"}])
    assert one != other
    assert one != two  # a list keeps its order


def test_cassandra_copies_of_nobody_are_not_read(closed_ports: Any) -> None:
    with cassandra.STORE.copies(one_server(StoreName.CASSANDRA, closed_ports(1)[0])) as reader:
        assert reader.read() == ()

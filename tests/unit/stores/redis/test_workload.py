from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest

from haops.cluster.spec import Cluster
from haops.errors import HaopsError
from haops.stores.base import OperationFailed, OutcomeUnknown
from haops.stores.redis.connect import MappedSentinel
from haops.stores.redis.workload import RedisClient, RedisWorkload

from ....fake_redis import RedisState, serve
from ....fakes import held_ports, make_cluster


@dataclass
class Served:
    cluster: Cluster
    servers: list[RedisState]
    sentinels: list[RedisState]

    def advertise(self, index: int) -> None:
        node = self.cluster.servers[index]
        for sentinel in self.sentinels:
            sentinel.watch(node.address, node.port)


@pytest.fixture
def served() -> Iterator[Served]:
    """Two servers, of which the first is primary, and three Sentinels, of which the first is dead."""
    servers = [RedisState(), RedisState(role="slave")]
    sentinels = [RedisState(), RedisState()]
    with ExitStack() as stack:
        ports = [stack.enter_context(serve(s)) for s in servers]
        ports += stack.enter_context(held_ports(1))
        ports += [stack.enter_context(serve(s)) for s in sentinels]
        found = Served(make_cluster("redis", 2, ports=ports), servers, sentinels)
        found.advertise(0)
        yield found


@pytest.fixture
def workload(served: Served) -> RedisWorkload:
    return RedisWorkload(served.cluster, "run-1", 0.5)


@pytest.fixture
def client(workload: RedisWorkload) -> Iterator[RedisClient]:
    made = workload.client(0)
    yield made
    made.close()


def test_sentinels_answers_are_translated_for_this_machine(served: Served) -> None:
    node = served.cluster.servers[0]
    sentinel = MappedSentinel(served.cluster)
    assert sentinel.discover_master() == ("127.0.0.1", node.host_port)
    for connection in sentinel.sentinels:
        connection.close()


def test_a_write_reaches_the_primary_and_is_read_back(
    served: Served, workload: RedisWorkload, client: RedisClient
) -> None:
    for key in (5, 1005):
        client.write(key, key + 1)
    assert client.read(5) == 6
    assert client.read(6) is None
    assert client.node == "redis-1"
    assert served.servers[0].keys == {"haops:run-1:5": "6", "haops:run-1:1005": "1006"}
    assert workload.read_back(1) == {1005}, "a register is no element"


def test_a_read_back_and_a_clean_touch_this_run_alone(served: Served, workload: RedisWorkload) -> None:
    served.servers[0].keys |= {"haops:run-1:7007": "7", "haops:run-2:8008": "8", "other": "x"}
    assert workload.read_back(1) == {7007}
    workload.clean()
    assert set(served.servers[0].keys) == {"haops:run-2:8008", "other"}


def test_a_refused_write_has_certainly_failed(served: Served, client: RedisClient) -> None:
    served.servers[0].refuse_writes = "READONLY You can't write against a read only replica."
    with pytest.raises(OperationFailed, match="ReadOnlyError"):
        client.write(1, 1)


def test_a_write_whose_connection_breaks_is_unknown_and_the_next_one_connects_anew(
    served: Served, client: RedisClient
) -> None:
    client.write(1, 1)
    served.servers[0].cut_off_writes = True
    with pytest.raises(OutcomeUnknown):
        client.write(2, 2)
    served.servers[0].cut_off_writes = False
    client.write(3, 3)
    assert set(served.servers[0].keys) == {"haops:run-1:1", "haops:run-1:3"}


def test_a_client_follows_the_sentinels_to_the_new_primary(served: Served, client: RedisClient) -> None:
    client.write(1, 1)
    served.servers[0].refuse_writes = "READONLY You can't write against a read only replica."
    served.servers[1].role = "master"
    served.advertise(1)
    with pytest.raises(OperationFailed):
        client.write(2, 2)
    client.write(3, 3)
    assert served.servers[1].keys == {"haops:run-1:3": "3"}


def test_a_server_that_the_sentinels_name_but_that_is_no_primary_gets_no_write(
    served: Served, client: RedisClient
) -> None:
    served.advertise(1)
    with pytest.raises(OperationFailed, match="NotPrimary"):
        client.write(1, 1)
    assert served.servers[1].keys == {}


def test_a_read_back_from_a_server_that_is_no_primary_is_refused(
    served: Served, workload: RedisWorkload
) -> None:
    served.advertise(1)
    with pytest.raises(HaopsError):
        workload.read_back(1)


def test_without_a_word_from_the_sentinels_a_write_was_never_sent(
    served: Served, client: RedisClient
) -> None:
    for sentinel in served.sentinels:
        sentinel.masters = []
    with pytest.raises(OperationFailed, match="MasterNotFoundError"):
        client.write(1, 1)


def test_a_closed_client_may_be_closed_again(workload: RedisWorkload) -> None:
    client = workload.client(0)
    client.write(1, 1)
    client.close()
    client.close()


# ---- modes


def in_mode(served: Served, mode: str) -> RedisClient:
    return RedisWorkload(replace(served.cluster, mode=mode), "run-1", 0.5).client(0)


@pytest.mark.parametrize("mode", ["wait-1", "wait-all"])
def test_a_write_counts_when_copies_enough_confirmed_it_and_is_unknown_else(
    served: Served, mode: str
) -> None:
    client = in_mode(served, mode)
    served.servers[0].copies = 1
    client.write(1001, 1)
    served.servers[0].copies = 0
    with pytest.raises(OutcomeUnknown, match="NotConfirmed"):
        client.write(2001, 1)
    assert set(served.servers[0].keys) == {"haops:run-1:1001", "haops:run-1:2001"}, "it is there all the same"
    assert ["WAIT", "1", "450"] in served.servers[0].calls
    client.close()


@pytest.mark.parametrize(("on_disk", "counts"), [((1, 1), True), ((0, 1), False), ((1, 0), False)])
def test_waitaof_needs_the_disk_here_and_there(
    served: Served, on_disk: tuple[int, int], counts: bool
) -> None:
    client = in_mode(served, "waitaof")
    served.servers[0].on_disk = on_disk
    if counts:
        client.write(1001, 1)
    else:
        with pytest.raises(OutcomeUnknown, match="NotConfirmed"):
            client.write(1001, 1)
    client.close()


def test_a_write_that_is_refused_is_not_waited_for(served: Served) -> None:
    client = in_mode(served, "wait-1")
    served.servers[0].copies = 1
    served.servers[0].refuse_writes = "NOREPLICAS Not enough good replicas to write."
    with pytest.raises(OperationFailed):
        client.write(1001, 1)
    client.close()


def test_reads_go_to_a_replica_where_the_mode_reads_there(served: Served) -> None:
    client, replica = in_mode(served, "async-replica-reads"), served.cluster.servers[1]
    entry = {"name": "x", "ip": replica.address, "port": str(replica.port), "flags": "slave"}
    for sentinel in served.sentinels:
        sentinel.replicas = [entry]
    served.servers[1].keys = {"haops:run-1:1001": "7"}
    assert (client.read(1001), client.node) == (7, "redis-2")
    client.write(2001, 1)
    assert client.node == "redis-1"
    client.close()

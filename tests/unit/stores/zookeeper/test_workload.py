from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from kazoo.exceptions import ConnectionLoss, NodeExistsError, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError

from haops.stores.base import REGISTERS, OperationFailed, OutcomeUnknown
from haops.stores.zookeeper.workload import ZooKeeperClient, ZooKeeperWorkload, path_of

from ....fakes import make_cluster

workload = sys.modules["haops.stores.zookeeper.workload"]


class Answer:
    """A request in flight; its result stands when it is asked for."""

    def __init__(self, asked: list[tuple[Any, ...]], result: Callable[[], Any]) -> None:
        self._asked = asked
        self._result = result

    def get(self, timeout: float) -> Any:
        assert 0 < timeout <= 0.5 or timeout == 10.0
        self._asked.append(("wait",))
        return self._result()


class Socket:
    def __init__(self, peer: tuple[str, int] | None) -> None:
        self.peer = peer
        self.looks = 0

    def getpeername(self) -> tuple[str, int]:
        self.looks += 1
        if self.peer is None:
            raise OSError("not connected")
        return self.peer


class FakeKazoo:
    """A tree in memory, and what was asked of it."""

    def __init__(self) -> None:
        self.tree: dict[str, bytes] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.errors: dict[str, Exception] = {}
        self.listeners: list[Callable[[object], None]] = []
        self.socket = Socket(None)
        self.started = self.stopped = False

    @property
    def _connection(self) -> Any:
        return type("Connection", (), {"_socket": self.socket})

    def add_listener(self, listener: Callable[[object], None]) -> None:
        self.listeners.append(listener)

    def moved(self, peer: tuple[str, int] | None) -> None:
        self.socket = Socket(peer)
        for listener in self.listeners:
            listener("CONNECTED")

    def start(self, timeout: float) -> None:
        self.started = True

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        """Nothing is open."""

    def _sent(self, verb: str, path: str, act: Callable[[], Any]) -> Answer:
        self.asked.append((verb, path))

        def result() -> Any:
            if verb in self.errors:
                raise self.errors[verb]
            return act()

        return Answer(self.asked, result)

    def create_async(self, path: str, data: bytes) -> Answer:
        def act() -> None:
            if path in self.tree:
                raise NodeExistsError
            self.tree[path] = data

        return self._sent("create", path, act)

    def set_async(self, path: str, data: bytes) -> Answer:
        def act() -> None:
            self._get(path)
            self.tree[path] = data

        return self._sent("set", path, act)

    def ensure_path_async(self, path: str) -> Answer:
        return self._sent("ensure", path, lambda: self.tree.setdefault(path, b""))

    def sync_async(self, path: str) -> Answer:
        return self._sent("sync", path, lambda: path)

    def get_async(self, path: str) -> Answer:
        return self._sent("get", path, lambda: (self._get(path), object()))

    def get_children_async(self, path: str) -> Answer:
        def act() -> list[str]:
            return [p.rpartition("/")[2] for p in self.tree if p.rpartition("/")[0] == path]

        return self._sent("children", path, act)

    def _get(self, path: str) -> bytes:
        if path not in self.tree:
            raise NoNodeError
        return self.tree[path]


@pytest.fixture
def kazoo() -> FakeKazoo:
    return FakeKazoo()


def client(kazoo: FakeKazoo, *, syncs: bool = False) -> ZooKeeperClient:
    names = {("127.0.0.1", 20000): "zookeeper-1", ("127.0.0.1", 20002): "zookeeper-2"}
    return ZooKeeperClient(kazoo, "/haops-r", 0.5, syncs=syncs, names=names)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("key", "path"),
    [(0, "/x/r0"), (15, "/x/r15"), (1000, "/x/0/1000"), (1003, "/x/3/1003"), (4003, "/x/3/4003")],
)
def test_a_keys_place_is_the_same_for_every_client(key: int, path: str) -> None:
    assert path_of("/x", key) == path


def test_registers_are_there_and_empty_after_the_preparation(
    kazoo: FakeKazoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workload, "connect", lambda nodes: kazoo)
    made = ZooKeeperWorkload(make_cluster("zookeeper"), "r", 0.5)
    made.prepare(2)
    assert set(kazoo.tree) == {"/haops-r/0", "/haops-r/1", *(f"/haops-r/r{k}" for k in range(REGISTERS))}
    assert [client(kazoo).read(key) for key in range(REGISTERS)] == [None] * REGISTERS


def test_a_register_is_set_again_and_again_and_an_element_is_created_once(kazoo: FakeKazoo) -> None:
    kazoo.tree["/haops-r/r3"] = b""
    one = client(kazoo)
    one.write(3, 7)
    one.write(3, 8)
    one.write(2005, 2005)
    assert (one.read(3), client(kazoo).read(2005), one.read(2006)) == (8, 2005, None)
    with pytest.raises(OperationFailed, match="NodeExistsError"):
        one.write(2005, 2005)


def test_a_read_back_has_the_elements_alone(kazoo: FakeKazoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload, "connect", lambda nodes: kazoo)
    made = ZooKeeperWorkload(make_cluster("zookeeper"), "r", 0.5)
    made.prepare(2)
    for key in (3, 1000, 1001, 2001):
        client(kazoo).write(key, key)
    assert made.read_back(2) == {1000, 1001, 2001}


@pytest.mark.parametrize("key", [3, 1003])
@pytest.mark.parametrize("error", [ConnectionLoss(), KazooTimeoutError()])
def test_a_write_without_an_answer_is_unknown(kazoo: FakeKazoo, key: int, error: Exception) -> None:
    kazoo.errors = {"set": error, "create": error}
    with pytest.raises(OutcomeUnknown):
        client(kazoo).write(key, 1)


def test_a_plain_read_asks_once(kazoo: FakeKazoo) -> None:
    client(kazoo).read(3)
    assert [verb for verb, *_ in kazoo.asked] == ["get", "wait"]


def test_a_read_behind_a_sync_sends_both_before_it_waits(kazoo: FakeKazoo) -> None:
    kazoo.tree["/haops-r/r3"] = b"5"
    assert client(kazoo, syncs=True).read(3) == 5
    assert kazoo.asked == [("sync", "/haops-r/r3"), ("get", "/haops-r/r3"), ("wait",), ("wait",)]


@pytest.mark.parametrize("verb", ["sync", "get"])
def test_a_read_whose_sync_or_get_fails_has_failed(kazoo: FakeKazoo, verb: str) -> None:
    kazoo.tree["/haops-r/r3"] = b"5"
    kazoo.errors = {verb: ConnectionLoss()}
    with pytest.raises(OperationFailed, match="ConnectionLoss"):
        client(kazoo, syncs=True).read(3)


def test_the_sessions_server_is_looked_up_once_for_each_connection(kazoo: FakeKazoo) -> None:
    one = client(kazoo)
    assert one.node == ""
    kazoo.moved(("127.0.0.1", 20000))
    assert [one.node, one.node] == ["zookeeper-1"] * 2
    assert kazoo.socket.looks == 1
    kazoo.moved(None)
    assert one.node == "zookeeper-1", "between two connections it is the last one's"
    kazoo.moved(("127.0.0.1", 20002))
    assert one.node == "zookeeper-2"


@pytest.mark.parametrize(
    ("mode", "number", "order"),
    [
        ("quorum", 0, [1, 2, 3]),
        ("quorum", 1, [2, 3, 1]),
        ("quorum-sync", 5, [3, 1, 2]),
        ("observers", 0, [4, 5, 1, 2, 3]),
        ("observers", 1, [5, 4, 2, 3, 1]),
    ],
)
def test_sessions_are_spread_over_the_servers_that_the_mode_reads(
    kazoo: FakeKazoo, monkeypatch: pytest.MonkeyPatch, mode: str, number: int, order: list[int]
) -> None:
    seen: list[int] = []

    def connect(nodes: Any) -> FakeKazoo:
        seen.extend(n.index for n in nodes)
        return kazoo

    monkeypatch.setattr(workload, "connect", connect)
    made = ZooKeeperWorkload(make_cluster("zookeeper", 3, observers=2, mode=mode), "r", 0.5)
    one = made.client(number)
    assert seen == order
    assert kazoo.started
    one.read(3)
    assert (("sync", "/haops-r/r3") in kazoo.asked) is (mode == "quorum-sync")
    one.close()
    assert kazoo.stopped

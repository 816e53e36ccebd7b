"""What is borrowed from servers goes back in the order in which that does no harm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from haops.cluster.loans import Loan, Loans
from haops.cluster.spec import Cluster
from haops.errors import HaopsError
from haops.stores.redis import borrow
from haops.stores.redis.borrow import (
    KEPT,
    PATIENCE,
    UPSTREAM,
    Borrowed,
    give_back,
    giving_back,
    may_be_impatient,
)
from tests.fakes import make_cluster
from tests.unit.stores.redis.fake_server import FakeServer, Words, cluster_of

SENTINEL = "sentinel-1"
FIRST = make_cluster("redis").servers[0].address


class Runs:
    """A runtime that only carries out commands."""

    def __init__(self) -> None:
        self.done: list[list[str]] = []

    def execute(self, cluster: Cluster, node: str, argv: list[str]) -> tuple[int, str]:
        self.done.append(argv)
        return 0, ""


class Watcher(FakeServer):
    """A Sentinel that says the same each time, but the last one, which it goes on to say."""

    def __init__(self, *roles: str, since_ms: int = 60_000) -> None:
        super().__init__(says={"SENTINEL": self._sentinel})
        self.roles = list(roles)
        self.patience = "3600000"
        self._since = since_ms

    def _sentinel(self, words: Words) -> object:
        if words[1] == "SET":
            self.patience = words[4]
            return "OK"
        role = self.roles.pop(0) if len(self.roles) > 1 else self.roles[0]
        told = {"ip": FIRST, "role-reported": role, "role-reported-time": str(self._since), PATIENCE: "1000"}
        return [part for pair in told.items() for part in pair]


@pytest.fixture
def server() -> FakeServer:
    """A primary."""
    return FakeServer(says={"ROLE": lambda _: ["master", 0, []]}, info={"loading": "0"})


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(borrow, "_ROLE_S", 0.3)
    monkeypatch.setattr(borrow, "_TIMEOUT_S", 2.0)
    yield


def returned(cluster: Cluster, loan: Loan) -> str:
    return give_back(cluster, Runs(), loan)  # type: ignore[arg-type]


PATIENT = Loan(SENTINEL, PATIENCE, "1000")


def follows(_: Words) -> object:
    return ["slave", "192.0.2.1", 7000, "connect", 0]


def test_a_sentinel_is_patient_until_it_has_heard_that_the_server_is_a_primary(server: FakeServer) -> None:
    watcher = Watcher("slave", "slave", "slave", "master")
    with cluster_of(make_cluster("redis"), {"redis-1": server, SENTINEL: watcher}) as cluster:
        returned(cluster, PATIENT)
    assert (watcher.patience, watcher.roles) == ("1000", ["master"])


def test_a_sentinel_that_hears_nothing_else_stays_patient(server: FakeServer) -> None:
    watcher = Watcher("slave")
    with (
        cluster_of(make_cluster("redis"), {"redis-1": server, SENTINEL: watcher}) as cluster,
        pytest.raises(HaopsError, match="a primary again"),
    ):
        returned(cluster, PATIENT)
    assert watcher.patience == "3600000"


def test_a_sentinel_stays_patient_while_the_primary_follows_haops_though_it_has_not_heard_of_it(
    server: FakeServer,
) -> None:
    watcher = Watcher("master")
    server.says["ROLE"] = follows
    with (
        cluster_of(make_cluster("redis"), {"redis-1": server, SENTINEL: watcher}) as cluster,
        pytest.raises(HaopsError, match="stay patient"),
    ):
        returned(cluster, PATIENT)
    assert watcher.patience == "3600000"


def test_a_dead_primary_does_not_keep_the_sentinels_patient() -> None:
    watcher = Watcher("master")
    with cluster_of(make_cluster("redis", ports=[1] * 6), {SENTINEL: watcher}) as cluster:
        returned(cluster, PATIENT)
    assert watcher.patience == "1000"


@pytest.mark.parametrize(
    ("role", "since", "may"),
    [
        ("master", "99999", True),
        ("slave", "5999", True),
        ("slave", "6000", False),
        ("slave", "", False),
    ],
)
def test_a_sentinel_that_hears_the_truth_in_time_need_not_be_waited_for(
    role: str, since: str, may: bool
) -> None:
    assert may_be_impatient({"role-reported": role, "role-reported-time": since}, 1000) is may


def test_a_server_that_loads_is_made_a_primary_when_it_has_ended() -> None:
    loads = ["1", "1", "0"]

    def info(_: Words) -> str:
        return f"loading:{loads.pop(0) if len(loads) > 1 else loads[0]}\r\n"

    def replicaof(_: Words) -> object:
        return "OK" if loads == ["0"] else Exception("LOADING Redis is loading the dataset in memory")

    server = FakeServer(says={"INFO": info, "ROLE": follows, "REPLICAOF": replicaof})
    with cluster_of(make_cluster("redis"), {"redis-1": server}) as cluster:
        returned(cluster, Loan("redis-1", UPSTREAM, "nobody"))
    assert server.told("REPLICAOF") == [["REPLICAOF", "NO", "ONE"]]


def test_while_the_server_cannot_be_freed_no_sentinel_is_made_impatient(
    server: FakeServer, tmp_path: Path
) -> None:
    watcher, loans = Watcher("master"), Loans(tmp_path)
    server.says["ROLE"] = follows
    server.says["REPLICAOF"] = lambda _: Exception("ERR not now")
    with cluster_of(make_cluster("redis"), {"redis-1": server, SENTINEL: watcher}) as cluster:
        borrowed = Borrowed(cluster, Runs(), loans, HaopsError)  # type: ignore[arg-type]
        borrowed.note(cluster.node(SENTINEL), PATIENCE, "1000")
        borrowed.note(cluster.node("redis-1"), UPSTREAM, "nobody")
        with pytest.raises(HaopsError, match="refused REPLICAOF"):
            borrowed.end()
    assert {loan.setting for loan in loans.open()} == {PATIENCE, UPSTREAM}
    assert watcher.heard == []


def test_kept_folders_of_two_backups_are_both_on_record_and_both_removed(tmp_path: Path) -> None:
    loans, runtime, cluster = Loans(tmp_path), Runs(), make_cluster("redis")
    borrowed = Borrowed(cluster, runtime, loans, HaopsError)  # type: ignore[arg-type]
    for name in ("haops-a", "haops-b"):
        borrowed.note(cluster.node("redis-2"), KEPT + name, f"/data/{name}")
    assert len(loans.open()) == 2
    borrowed.end()
    assert runtime.done == [["rm", "-rf", "/data/haops-b"], ["rm", "-rf", "/data/haops-a"]]
    assert loans.open() == ()


def trouble() -> None:
    raise HaopsError("it does not take it back")


def test_trouble_with_giving_back_does_not_hide_the_error_before_it() -> None:
    with pytest.raises(ValueError, match="the real one") as caught, giving_back(trouble):
        raise ValueError("the real one")
    assert "does not take it back" in caught.value.__notes__[0]


def test_trouble_with_giving_back_alone_is_raised() -> None:
    with pytest.raises(HaopsError, match="take it back"), giving_back(trouble):
        pass

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest

from haops.cluster.spec import Cluster
from haops.drills.load import ClientLoop, LoadGenerator, LoadPlan, _Shared
from haops.errors import ClusterUnhealthy
from haops.history.record import History, Kind, Outcome, Recorder, merge
from haops.stores.base import FIRST_ELEMENT, OperationFailed, OutcomeUnknown

from ...fake_redis import RedisState, serve
from ...fakes import make_cluster

PLAN = LoadPlan(rate=1000, clients=2, processes=1, writes=0.5, timeout_s=0.5, first_key=3, seed=7)


class FakeTime:
    """The clock of the loop: sleeping and operations move it, nothing else does."""

    def __init__(self) -> None:
        self.now = 1_000_000_000

    def monotonic_ns(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(round(seconds * 1e9), 1)


class FakeClient:
    """Takes a while for each operation, and does as told by the operation's number."""

    def __init__(self, clock: FakeTime, took_ns: int = 100_000) -> None:
        self.clock = clock
        self.took_ns = took_ns
        self.blocked: dict[int, int] = {}
        self.write_errors: dict[int, Exception] = {}
        self.missing: set[int] = set()
        self.read_error: Exception | None = None
        self.count = 0
        self.node = "redis-1"
        self.written: list[int] = []
        self.acked: set[int] = set()
        self.read_keys: list[int] = []

    def _work(self) -> int:
        number, self.count = self.count, self.count + 1
        self.clock.now += self.blocked.get(number, self.took_ns)
        return number

    def write(self, key: int, value: int) -> None:
        number = self._work()
        self.written.append(key)
        if error := self.write_errors.get(number):
            raise error
        self.acked.add(key)

    def read(self, key: int) -> int | None:
        self._work()
        self.read_keys.append(key)
        if self.read_error:
            raise self.read_error
        return None if key in self.missing else key

    def close(self) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr("haops.drills.load.time", fake)
    return fake


@pytest.fixture
def client(clock: FakeTime) -> FakeClient:
    return FakeClient(clock)


def run(
    client: FakeClient, plan: LoadPlan = PLAN, *, number: int = 0, for_ms: int = 1000
) -> tuple[History, _Shared, int]:
    """Run a loop for a while; its history, the shared memory, and its start."""
    shared = _Shared(plan.clients)
    start = client.clock.now + 50_000_000
    shared.started.value = start
    recorder = Recorder(number)
    end = start + for_ms * 1_000_000
    ClientLoop(plan, number, client, recorder, shared, lambda: client.clock.now >= end).run()
    return merge([recorder.export()]), shared, start


def test_operations_are_due_on_a_grid_that_starts_with_the_load(client: FakeClient) -> None:
    seen, _, start = run(client, for_ms=500)
    interval = 2 * 1_000_000  # two clients share 1000 operations a second
    assert seen.intended.tolist() == [start + i * interval for i in range(len(seen))]
    assert len(seen) >= 250
    assert (seen.sent == seen.intended).all()


def test_clients_take_turns_within_an_interval(client: FakeClient) -> None:
    seen, _, start = run(client, number=1, for_ms=200)
    assert seen.intended[0] == start + 1_000_000
    assert set(np.diff(seen.intended).tolist()) == {2_000_000}


def test_a_blocked_client_still_does_all_that_became_due_with_the_times_of_the_grid(
    client: FakeClient,
) -> None:
    client.blocked[20] = 300_000_000
    seen, _, start = run(client, for_ms=1000)
    assert seen.intended.tolist() == [start + i * 2_000_000 for i in range(len(seen))]
    assert len(seen) >= 500
    late = seen.select((seen.intended > seen.intended[20]) & (seen.intended < seen.completed[20]))
    assert len(late) == 149
    assert (late.sent >= seen.completed[20]).all()
    assert late.sent[0] == seen.completed[20]  # at once, without another wait
    assert (seen.sent[-50:] == seen.intended[-50:]).all()  # it has caught up


def test_every_key_is_written_once_and_tells_its_client_and_trial(client: FakeClient) -> None:
    seen, _, _ = run(client, number=1)
    writes = seen.of(Kind.WRITE).key
    assert writes.tolist() == client.written
    assert writes.tolist() == [3 * FIRST_ELEMENT + 1 + i * FIRST_ELEMENT for i in range(len(writes))]


def test_no_two_clients_and_no_two_trials_share_a_key(clock: FakeTime) -> None:
    keys: list[int] = []
    for first_key in (0, 10_000_000):
        for number in (0, 1):
            seen, _, _ = run(FakeClient(clock), replace(PLAN, first_key=first_key), number=number, for_ms=300)
            keys += seen.of(Kind.WRITE).key.tolist()
    assert len(set(keys)) == len(keys)


def test_only_keys_that_were_acknowledged_are_read(client: FakeClient) -> None:
    client.write_errors = {i: OutcomeUnknown("TimeoutError") for i in range(0, 400, 3)}
    run(client)
    assert client.read_keys
    assert set(client.read_keys) <= client.acked


def test_each_way_to_fail_is_recorded_as_what_it_is(client: FakeClient) -> None:
    client.write_errors = {0: OperationFailed("ReadOnlyError"), 1: OutcomeUnknown("TimeoutError")}
    seen, shared, _ = run(client, replace(PLAN, writes=1.0), for_ms=200)
    found = [(Outcome(o), seen.errors[e]) for o, e in zip(seen.outcome[:3], seen.error[:3], strict=True)]
    assert found == [(Outcome.FAIL, "ReadOnlyError"), (Outcome.INFO, "TimeoutError"), (Outcome.OK, "")]
    assert shared.failed[0] == 2
    assert shared.done[0] == len(seen)


def test_a_read_that_finds_nothing_is_a_miss_and_no_failure(client: FakeClient) -> None:
    class Everything(set[int]):
        def __contains__(self, key: object) -> bool:
            return True

    client.missing = Everything()
    seen, shared, _ = run(client)
    assert len(seen.missed) == len(seen.of(Kind.READ))
    assert shared.failed[0] == 0
    assert shared.read[0] > 0


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(OperationFailed("Unavailable"), Outcome.FAIL), (OutcomeUnknown("Timeout"), Outcome.INFO)],
)
def test_a_read_that_fails_is_recorded_and_is_no_sign_of_life(
    client: FakeClient, error: Exception, outcome: Outcome
) -> None:
    client.read_error = error
    seen, shared, _ = run(client)
    reads = seen.of(Kind.READ)
    assert set(reads.outcome.tolist()) == {outcome}
    assert {seen.errors[e] for e in reads.error} == {str(error)}
    assert shared.read[0] == 0
    assert shared.failed[0] == len(reads)


def test_progress_shows_when_the_last_success_was_sent(client: FakeClient) -> None:
    seen, shared, _ = run(client)
    assert shared.written[0] == seen.of(Kind.WRITE, Outcome.OK).sent.max()
    assert shared.read[0] == seen.of(Kind.READ, Outcome.OK).sent.max()
    assert shared.written[1] == 0  # the other client's slot


def test_an_operation_takes_from_its_sending_to_its_answer(client: FakeClient) -> None:
    client.took_ns = 1_234_567
    seen, _, _ = run(client, for_ms=200)
    assert set((seen.completed - seen.sent).tolist()) == {1_234_567}


def test_the_share_of_writes_is_kept_and_a_seed_repeats_a_run(clock: FakeTime) -> None:
    def kinds(seed: int) -> list[int]:
        plan = replace(PLAN, writes=0.25, seed=seed)
        return run(FakeClient(clock), plan, for_ms=4000)[0].kind.tolist()

    first = kinds(1)
    assert 0.2 < 1 - sum(first) / len(first) < 0.3
    assert kinds(1)[: len(first)] == first[: len(kinds(1))]
    assert kinds(2)[:500] != first[:500]


def test_a_load_that_is_stopped_before_its_start_does_nothing(client: FakeClient) -> None:
    shared = _Shared(2)
    recorder = Recorder(0)
    ClientLoop(PLAN, 0, client, recorder, shared, lambda: True).run()
    assert client.count == 0


# ---- real processes against a fake server


@pytest.fixture
def served() -> Iterator[tuple[Cluster, RedisState]]:
    states = [RedisState() for _ in range(4)]
    with ExitStack() as stack:
        ports = [stack.enter_context(serve(s)) for s in states]
        cluster = make_cluster("redis", 1, ports=ports)
        first = cluster.servers[0]
        for sentinel in states[1:]:
            sentinel.watch(first.address, first.port)
        yield cluster, states[0]


def test_a_load_in_processes_of_its_own_records_every_operation(served: tuple[Cluster, RedisState]) -> None:
    cluster, server = served
    plan = LoadPlan(rate=200, clients=3, processes=2, writes=0.5, timeout_s=1, first_key=1, seed=1)
    with LoadGenerator(cluster, "run-1", plan) as load:
        start = load.start()
        end = time.monotonic() + 10
        while min(load.progress().written) == 0 or load.progress().done < 60:
            assert time.monotonic() < end, load.progress()
            time.sleep(0.02)
        seen = load.finish()
    assert set(seen.process.tolist()) == {0, 1, 2}
    assert seen.intended.min() >= start
    assert set(seen.outcome.tolist()) == {Outcome.OK}
    stored = {int(key.rpartition(":")[2]) for key in server.keys}
    assert stored == set(seen.of(Kind.WRITE).key.tolist())
    assert load.progress().done == len(seen)


def test_clients_that_cannot_connect_end_the_load_with_their_words(
    closed_ports: Callable[[int], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("haops.drills.load._CONNECT_S", 20)
    cluster = make_cluster("cassandra", 1, ports=closed_ports(1))
    plan = LoadPlan(rate=10, clients=1, processes=1, writes=0.5, timeout_s=0.2, first_key=1, seed=1)
    with (
        pytest.raises(ClusterUnhealthy, match="could not connect") as caught,
        LoadGenerator(cluster, "r", plan),
    ):
        pass
    assert "NoHostAvailable" in str(caught.value.detail)

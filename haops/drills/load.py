"""The open-loop load: client threads in processes of their own, on a schedule that outages do not slow.

Every operation has an intended start time that depends on nothing that
happened before, so latencies measured from it hold what users would have
waited (no coordinated omission). A client that is held up sends what has
become due as fast as it can; how late the *harness* itself is, while the
client was free, is recorded apart.
"""

from __future__ import annotations

import gc
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import RawArray, RawValue
from multiprocessing.synchronize import Barrier
from random import Random
from typing import Any, Final

from haops.cluster.spec import Cluster
from haops.errors import ClusterUnhealthy, HaopsError
from haops.history.record import NIL, History, Kind, Outcome, RecordedColumns, Recorder, merge
from haops.stores import load as load_store
from haops.stores.base import FIRST_ELEMENT, REGISTERS, OperationFailed, OutcomeUnknown, WorkloadClient

_START_LEAD_S: Final = 0.3
_CONNECT_S: Final = 60.0
# A blocked client thread must get the interpreter at once when its answer arrives; the default
# switch interval of 5 ms would be seen as harness lag.
_SWITCH_S: Final = 0.0005
# What a client reads: half the time what somebody wrote last, else something that it knows of from
# before, half of that from the last hundred: staleness of moments is seen so, and that of seconds.
_FRESH: Final = 0.5
_RECENT: Final = 100


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What the load does.

    Args:
        rate: Operations a second of all clients together; 0 is as many as they can (closed loop).
        clients: Client threads.
        processes: Processes they are spread over.
        writes: Share of writes, 0 to 1.
        timeout_s: A client's own patience with one operation.
        first_key: First number that no earlier trial of the run has used.
        seed: Of the random choices.
        registers: Share of operations on registers, which all clients write and read, 0 to 1.
        recorded: Whether the operations are kept; without, `finish` returns an empty history.
    """

    rate: int
    clients: int
    processes: int
    writes: float
    timeout_s: float
    first_key: int
    seed: int
    registers: float = 0.0
    recorded: bool = True


@dataclass(frozen=True, slots=True)
class Progress:
    """What the load has done so far.

    Args:
        written: Each client's last successful write by the time it was sent (ns), 0 for none.
        read: Likewise for reads.
        done: Operations that ended.
        failed: Operations that ended in an error or unknown.
    """

    written: tuple[int, ...]
    read: tuple[int, ...]
    done: int
    failed: int


class _Shared:
    """Plain shared memory: one slot a client, one writer a slot, so no lock is needed."""

    def __init__(self, clients: int) -> None:
        self.written = RawArray("q", clients)
        self.latest = RawArray("q", clients)  # the key of each client's last acknowledged element
        self.read = RawArray("q", clients)
        self.done = RawArray("q", clients)
        self.failed = RawArray("q", clients)
        self.started = RawValue("q", 0)
        self.stop = RawValue("b", 0)


class LoadGenerator:
    """Runs a `LoadPlan` against a cluster; a context manager that always ends its processes."""

    def __init__(self, cluster: Cluster, run: str, plan: LoadPlan) -> None:
        self._cluster = cluster
        self._run = run
        self._plan = plan
        # Not fork: the drivers keep threads and locks that do not survive it.
        self._context = multiprocessing.get_context("spawn")
        self._shared = _Shared(plan.clients)
        self._workers: list[tuple[Any, Connection]] = []

    def __enter__(self) -> LoadGenerator:
        barrier = self._context.Barrier(self._plan.processes + 1)
        try:
            for number in range(self._plan.processes):
                self._launch(number, barrier)
            barrier.wait(timeout=_CONNECT_S)
        except threading.BrokenBarrierError:
            self._end()
            raise ClusterUnhealthy(
                "the load's clients could not connect", detail=self._complaint(), hint="see: haops status"
            ) from None
        except BaseException:
            self._end()
            raise
        return self

    def _launch(self, number: int, barrier: Barrier) -> None:
        ours, theirs = self._context.Pipe()
        mine = tuple(range(number, self._plan.clients, self._plan.processes))
        job = _Job(self._cluster, self._run, self._plan, mine)
        process = self._context.Process(
            target=_work, args=(job, self._shared, barrier, theirs), daemon=True, name=f"haops-load-{number}"
        )
        process.start()
        theirs.close()
        self._workers.append((process, ours))

    def __exit__(self, *_: object) -> None:
        self._end()

    def start(self) -> int:
        """Let all clients begin together; returns the start in monotonic ns."""
        self._shared.started.value = time.monotonic_ns() + int(_START_LEAD_S * 1e9)
        return int(self._shared.started.value)

    def progress(self) -> Progress:
        """A look at the shared memory."""
        shared = self._shared
        return Progress(tuple(shared.written), tuple(shared.read), sum(shared.done), sum(shared.failed))

    def finish(self) -> History:
        """Stop all clients and collect what they recorded.

        Raises:
            HaopsError: A load process died.
        """
        self._shared.stop.value = 1
        parts: list[RecordedColumns] = []
        for process, pipe in self._workers:
            try:
                if not pipe.poll(_CONNECT_S):
                    raise EOFError
                parts += pipe.recv()
            except EOFError:
                raise HaopsError(f"{process.name} died and took its part of the history with it") from None
        return merge(parts)

    def _complaint(self) -> str | None:
        for _, pipe in self._workers:
            try:
                if pipe.poll(0) and isinstance(said := pipe.recv(), str):
                    return said
            except EOFError:
                continue
        return None

    def _end(self) -> None:
        self._shared.stop.value = 1
        for process, _ in self._workers:
            process.join(timeout=5)
            if process.is_alive():
                process.kill()
                process.join(timeout=5)


@dataclass(frozen=True, slots=True)
class _Job:
    cluster: Cluster
    run: str
    plan: LoadPlan
    clients: tuple[int, ...]


def _work(job: _Job, shared: _Shared, barrier: Barrier, pipe: Connection) -> None:
    """A load process: connect, wait for the others, run the clients' threads, send the records."""
    import signal

    # Ctrl-C reaches the whole process group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.setswitchinterval(_SWITCH_S)
    workload = load_store(job.cluster.store).workload(job.cluster, job.run, job.plan.timeout_s)
    try:
        clients = [(number, workload.client(number)) for number in job.clients]
    except Exception as error:  # told to the parent, which raises it
        pipe.send(f"{type(error).__name__}: {error}")
        barrier.abort()
        return
    # A collection of the driver's many objects would stop all client threads for milliseconds.
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        barrier.wait(timeout=_CONNECT_S)
    except threading.BrokenBarrierError:
        return
    stopped = _stop_check(shared)
    recorders = [Recorder(number) for number, _ in clients]
    threads = [
        threading.Thread(
            target=ClientLoop(job.plan, number, client, recorder, shared, stopped).run, daemon=True
        )
        for (number, client), recorder in zip(clients, recorders, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pipe.send([recorder.export() for recorder in recorders])
    for _, client in clients:
        client.close()
    workload.close()


def _stop_check(shared: _Shared) -> Callable[[], bool]:
    parent = multiprocessing.parent_process()

    def stopped() -> bool:
        return bool(shared.stop.value) or parent is None or not parent.is_alive()

    return stopped


class ClientLoop:
    """One client thread: its schedule, its operations, its records."""

    def __init__(
        self,
        plan: LoadPlan,
        number: int,
        client: WorkloadClient,
        recorder: Recorder,
        shared: Any,
        stopped: Callable[[], bool],
    ) -> None:
        self._plan = plan
        self._number = number
        self._client = client
        self._recorder = recorder
        self._shared = shared
        self._stopped = stopped
        self._random = Random(f"{plan.seed}/{number}")
        self._next_key = plan.first_key * FIRST_ELEMENT + number
        # A register's values must differ: value 7003 is the seventh of client 3.
        self._next_value = number
        self._known: list[int] = []

    def run(self) -> None:
        """Run until told to stop."""
        start = self._await_start()
        interval = self._plan.clients * 1e9 / self._plan.rate if self._plan.rate else 0.0
        # Clients take turns: spread over one interval, they make one even stream.
        intended = start + interval * self._number / self._plan.clients
        last_check = 0
        while True:
            now = time.monotonic_ns()
            # The liveness of the parent is a system call; ten looks a second are enough.
            if now - last_check > 100_000_000:
                if self._stopped():
                    return
                last_check = now
            if now < intended:
                time.sleep(min(intended - now, 50_000_000) / 1e9)
                continue
            self._operate(int(intended) if interval else now)
            intended += interval

    def _await_start(self) -> int:
        while not self._shared.started.value and not self._stopped():
            time.sleep(0.01)
        return int(self._shared.started.value)

    def _operate(self, intended: int) -> None:
        writes = self._random.random() < self._plan.writes
        if self._plan.registers and self._random.random() < self._plan.registers:
            self._on_register(intended, writes=writes)
        elif writes or (key := self._choose()) is None:
            self._write(intended)
        else:
            self._read(key, intended)

    def _on_register(self, intended: int, *, writes: bool) -> None:
        key = self._random.randrange(REGISTERS)
        if writes:
            self._next_value += FIRST_ELEMENT
            self._attempt(Kind.WRITE, key, self._next_value, intended)
        else:
            self._attempt(Kind.READ, key, NIL, intended)

    def _write(self, intended: int) -> None:
        key = self._next_key
        self._next_key += FIRST_ELEMENT
        sent, outcome = self._attempt(Kind.WRITE, key, key, intended)
        if outcome is Outcome.OK:
            self._shared.written[self._number] = sent
            self._shared.latest[self._number] = key

    def _choose(self) -> int | None:
        """An element to look for: acknowledged to some client before now."""
        fresh = self._shared.latest[self._random.randrange(self._plan.clients)]
        known = self._known
        if fresh and (not known or known[-1] != fresh):
            known.append(fresh)
        if not known:
            return None
        chance = self._random.random()
        if fresh and chance < _FRESH:
            return int(fresh)
        newest = len(known) if chance < _FRESH + (1 - _FRESH) / 2 else min(len(known), _RECENT)
        return known[-1 - self._random.randrange(newest)]

    def _read(self, key: int, intended: int) -> None:
        sent, outcome = self._attempt(Kind.READ, key, NIL, intended)
        if outcome is Outcome.OK:
            self._shared.read[self._number] = sent

    def _attempt(self, kind: Kind, key: int, value: int, intended: int) -> tuple[int, Outcome]:
        """Do one operation and record it; returns when it was sent, and what became of it."""
        outcome, error = Outcome.OK, ""
        sent = time.monotonic_ns()
        try:
            if kind is Kind.WRITE:
                self._client.write(key, value)
            elif (found := self._client.read(key)) is not None:
                value = found
        except OperationFailed as failure:
            outcome, error = Outcome.FAIL, str(failure)
        except OutcomeUnknown as failure:
            outcome, error = Outcome.INFO, str(failure)
        except Exception as failure:  # a driver's own surprise: its class stands in the result
            outcome, error = Outcome.INFO, type(failure).__name__
        completed = time.monotonic_ns()
        if self._plan.recorded:
            node = self._client.node
            self._recorder.record(kind, key, value, intended, sent, completed, outcome, node, error)
        self._count(outcome)
        return sent, outcome

    def _count(self, outcome: Outcome) -> None:
        self._shared.done[self._number] += 1
        if outcome in (Outcome.FAIL, Outcome.INFO):
            self._shared.failed[self._number] += 1

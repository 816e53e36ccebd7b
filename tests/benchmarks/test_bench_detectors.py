"""Detectors on heartbeats of a real Redis: how soon they see a death, how often they err.

Each trace is 50 PINGs a second from one loop: idle; loaded (a busy process a
core); paused (the freezer holds the server for 300 ms, again and again, which
is no failure); lossy (a proxy in this process drops 5 % of the replies, since
real packet loss needs rights that a test should not have); killed (SIGKILL);
frozen (SIGSTOP for seconds, a real death without a word).
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import Process
from pathlib import Path

import pytest
from bench_support import haops

from haops.cluster.spec import Node
from haops.cluster.state import StateDir
from haops.health.advise import advise
from haops.health.beat import Beat, Detector, Evidence
from haops.health.heartbeat import Heartbeat
from haops.health.lifeguard import Lifeguard
from haops.health.phi import PhiAccrual, PhiSettings, Shape
from haops.health.replay import Outcome, replay
from haops.health.timeout import AdaptiveTimeout, FixedTimeout
from haops.health.trace import Trace, TraceWriter, Truth, read_trace

SECONDS = float(os.environ.get("HAOPS_BENCH_SECONDS", "60"))
INTERVAL_S = 0.02
PATIENCE_S = 0.15
PAUSE_S = 0.3
LOSS = 0.05

MAKERS: dict[str, Callable[[], Detector]] = {
    "heartbeat, 2 refusals or silences": Heartbeat,
    "the same with Lifeguard": lambda: Lifeguard(Heartbeat()),
    "fixed time-out 300 ms": lambda: FixedTimeout(0.3),
    "fixed time-out 1 s": lambda: FixedTimeout(1.0),
    "adaptive time-out, k 4, floor 200 ms": AdaptiveTimeout,
    "phi 8, normal": PhiAccrual,
    "phi 8, exponential": lambda: PhiAccrual(PhiSettings(shape=Shape.EXPONENTIAL)),
}


class Bench:
    """One server, and traces of it by name."""

    def __init__(self, folder: Path, node: Node, container: str) -> None:
        self.folder = folder
        self.node = node
        self.container = container
        self.traces: dict[str, Trace] = {}

    def docker(self, *args: str) -> str:
        done = subprocess.run(["docker", *args], check=True, capture_output=True, text=True, timeout=60)
        return done.stdout.strip()

    def pid(self) -> int:
        return int(self.docker("inspect", "-f", "{{.State.Pid}}", self.container))

    def record(
        self, name: str, act: Callable[[Recorder], None] | None = None, port: int | None = None
    ) -> Trace:
        """A trace while `act` runs, or for as long as traces are by default."""
        path = self.folder / f"{name}.trace.gz"
        recorder = Recorder(path, self.node.host, port or self.node.host_port)
        thread = threading.Thread(target=recorder.run)
        thread.start()
        try:
            (act or (lambda _: time.sleep(SECONDS)))(recorder)
        finally:
            recorder.stop.set()
            thread.join()
        self.traces[name] = read_trace(path)
        return self.traces[name]


class Recorder:
    """Probes and writes down; the next probe goes out an interval after the last, or at once if that took longer."""

    def __init__(self, path: Path, host: str, port: int) -> None:
        self.stop = threading.Event()
        self.marks: list[tuple[int, Truth | None]] = []
        self._path = path
        self._address = (host, port)
        self._socket: socket.socket | None = None

    def mark(self, truth: Truth | None) -> None:
        self.marks.append((time.monotonic_ns(), truth))

    def run(self) -> None:
        origin = time.monotonic_ns()
        with TraceWriter(
            self._path, "redis-1", interval_s=INTERVAL_S, patience_s=PATIENCE_S, origin_ns=origin
        ) as writer:
            while not self.stop.is_set():
                due = time.monotonic() + INTERVAL_S
                writer.append(self._probe())
                while self.marks:
                    writer.mark(*self.marks.pop(0))
                time.sleep(max(due - time.monotonic(), 0))
        self._close()

    def _probe(self) -> Beat:
        sent = time.monotonic_ns()
        evidence = Evidence.REFUSED
        try:
            if self._socket is None:
                self._socket = socket.create_connection(self._address, PATIENCE_S)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(b"PING\r\n")
            if self._socket.recv(64).startswith(b"+PONG"):
                return Beat(sent, time.monotonic_ns(), Evidence.ANSWERED)
        except TimeoutError:
            evidence = Evidence.SILENT
        except OSError:
            pass
        self._close()
        return Beat(sent, time.monotonic_ns(), evidence)

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _burn() -> None:
    while True:
        sum(range(10_000))


@contextmanager
def both_cores_busy() -> Iterator[None]:
    burners = [Process(target=_burn, daemon=True) for _ in range(os.cpu_count() or 2)]
    for burner in burners:
        burner.start()
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.join()


@contextmanager
def losing_replies(address: tuple[str, int], share: float, seed: int) -> Iterator[int]:
    """A proxy before the server; a lost reply is one that it does not pass on."""
    rng = random.Random(seed)
    door = socket.create_server(("127.0.0.1", 0))

    def carry(client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(address) as server:
            while request := client.recv(4096):
                server.sendall(request)
                reply = server.recv(4096)
                if rng.random() >= share:
                    client.sendall(reply)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=carry, args=(door.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield door.getsockname()[1]
    finally:
        door.shutdown(socket.SHUT_RDWR)
        door.close()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    state = tmp_path_factory.mktemp("detectors")
    with ExitStack() as stack:
        stack.callback(haops, state, "down", "--all", "--volumes", check=False)
        haops(state, "up", "redis", "--name", "detect", "--nodes", "1", "--ttl", "1h")
        cluster = StateDir(state).get("detect")
        server = cluster.servers[0]
        yield Bench(state / "traces", server, f"{cluster.project}-{server.name}-1")


def repeat(bench: Bench, truth: Truth, every_s: float, lasts_s: float, begin: Callable[[], None],
           end: Callable[[], object]) -> Callable[[Recorder], None]:  # fmt: skip
    """Something done to the server again and again, marked as what it is."""

    def act(recorder: Recorder) -> None:
        stop = time.monotonic() + SECONDS
        time.sleep(2)
        while time.monotonic() < stop:
            recorder.mark(truth)
            begin()
            time.sleep(lasts_s)
            end()
            recorder.mark(None)
            time.sleep(every_s)

    return act


def test_traces_are_recorded(bench: Bench) -> None:
    bench.record("idle")
    with both_cores_busy():
        bench.record("loaded")
    with losing_replies((bench.node.host, bench.node.host_port), LOSS, seed=1) as port:
        bench.record("lossy", port=port)
    pause = (lambda: bench.docker("pause", bench.container), lambda: bench.docker("unpause", bench.container))
    bench.record("paused 300 ms", repeat(bench, Truth.PAUSED, 1.5, PAUSE_S, *pause))
    pid = bench.pid()
    freeze = (lambda: os.kill(pid, signal.SIGSTOP), lambda: os.kill(pid, signal.SIGCONT))
    bench.record("frozen", repeat(bench, Truth.DOWN, 1.5, 2.5, *freeze))
    kill = (lambda: os.kill(bench.pid(), signal.SIGKILL), lambda: bench.docker("start", bench.container))
    bench.record("killed", repeat(bench, Truth.DOWN, 2.5, 0.5, *kill))
    print(
        "\n\n  | trace | probes | answered | round trip p50 | p99 | longest gap |\n  |---|---|---|---|---|---|"
    )
    for name, trace in bench.traces.items():
        print(f"  | {name} {_facts(trace)}")


def _facts(trace: Trace) -> str:
    import numpy as np

    answered = trace.evidence == 0
    trips = (trace.known - trace.sent)[answered] / 1e6
    gap = np.diff(trace.known[answered]).max() / 1e6
    p50, p99 = np.percentile(trips, (50, 99))
    return f"| {len(trace):,} | {answered.mean():.1%} | {p50:.2f} ms | {p99:.2f} ms | {gap:,.0f} ms |"


def _cell(outcome: Outcome) -> str:
    detection = outcome.real or outcome.silent
    seen = f"{detection.median_s * 1000:,.0f} / {detection.worst_s * 1000:,.0f} ms"
    errs = f"{outcome.per_hour:,.0f}/h" if outcome.mistakes else f"0 (≤ {outcome.bound_per_hour:,.0f}/h)"
    return f"{seen}; {errs}"


def test_detectors_on_the_traces(bench: Bench) -> None:
    assert bench.traces, "the traces are recorded by the test before"
    found = {
        (name, trace): replay(data, make, name=name)
        for trace, data in bench.traces.items()
        for name, make in MAKERS.items()
    }
    print(
        "\n\n  median / worst time until suspected; mistakes. Real deaths in `frozen` and `killed`, in the others"
    )
    print("  a silent death that is assumed at many points.\n")
    print("  | detector | " + " | ".join(bench.traces) + " |")
    print("  |---|" + "---|" * len(bench.traces))
    for name in MAKERS:
        print(f"  | {name} | " + " | ".join(_cell(found[name, trace]) for trace in bench.traces) + " |")
    for trace, data in bench.traces.items():
        print(f"\n  {trace}: {' '.join(advise(data).words)}", end="")
    print()
    for name in MAKERS:
        killed = found[name, "killed"].real
        assert killed and killed.missed == 0 and killed.median_s < 0.25, name
        frozen = found[name, "frozen"].real
        assert frozen and frozen.missed == 0, name
    assert found["fixed time-out 1 s", "paused 300 ms"].mistakes == 0
    assert found["heartbeat, 2 refusals or silences", "idle"].mistakes == 0

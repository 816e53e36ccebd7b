"""A Redis primary that dies or freezes under load: with haops' guard, and with Sentinel alone."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from bench_support import HAOPS, haops
from redis_bench import Bench, docker
from redis_trials import HEAD, Report

from haops.cluster.state import StateDir

TRIALS = int(os.environ.get("HAOPS_BENCH_TRIALS", "20"))
PLAIN = max(TRIALS // 4, 2)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    state = tmp_path_factory.mktemp("guard")
    haops(state, "up", "redis", "--name", "gd", "--ttl", "2h")
    print("\n" + HEAD)
    yield Bench(state, StateDir(state).get("gd"))
    haops(state, "down", "--all", "--volumes", check=False)


@contextmanager
def guarded(bench: Bench) -> Iterator[None]:
    """`haops guard`, as an operator starts it."""
    log = bench.state / "guard.log"
    with log.open("w") as file:
        guard = subprocess.Popen(
            [HAOPS, "guard", bench.cluster.name, "--block", "100ms"],
            env={**os.environ, "HAOPS_STATE": str(bench.state)},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        end = time.monotonic() + 10
        while "watches" not in log.read_text():
            assert time.monotonic() < end and guard.poll() is None, log.read_text()
            time.sleep(0.1)
        time.sleep(1.0)
        try:
            yield
            assert guard.poll() is None, log.read_text()
        finally:
            guard.send_signal(signal.SIGTERM)
            guard.wait(timeout=10)
            print("\n".join(line for line in log.read_text().splitlines() if "failover" in line)[:4000])


class Advertised:
    """How long after an act a majority of Sentinels names another primary, ms."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.times: list[float] = []

    def after(self, act: list[str], within_s: float) -> None:
        old = self._bench.primary().address
        began = time.monotonic()
        thread = threading.Thread(target=docker, args=act)
        thread.start()
        while time.monotonic() < began + within_s:
            if sum(named != old for named in self._bench.named()) >= 2:
                self.times.append((time.monotonic() - began) * 1000)
                break
            time.sleep(0.004)
        thread.join()

    def row(self, name: str) -> str:
        p = np.percentile(self.times, (50, 95, 100))
        return f"  {name}: new primary advertised after median {p[0]:.0f} ms, p95 {p[1]:.0f}, max {p[2]:.0f}"


def broken(bench: Bench, report: Report, trials: int, verb: str, undo: str, window_s: float) -> Advertised:
    """`trials` times: break the primary, wait, mend it."""
    advertised = Advertised(bench)

    def act(_: int) -> None:
        victim = bench.container(bench.primary().name)
        began = time.monotonic()
        try:
            advertised.after([verb, victim], window_s)
            time.sleep(max(began + window_s - time.monotonic(), 0))
        finally:
            docker(undo, victim)

    bench.run(report, trials, act, window_s=window_s)
    print(advertised.row(report.name))
    return advertised


def test_guarded_sigkill(bench: Bench) -> None:
    report = Report("SIGKILL, guarded")
    with guarded(bench):
        broken(bench, report, TRIALS, "kill", "start", 1.5)
    assert report.lost == 0
    assert np.median(report.outages) <= 250
    assert np.percentile(report.outages, 95) <= 500


def test_guarded_pause(bench: Bench) -> None:
    report = Report("pause, guarded")
    with guarded(bench):
        advertised = broken(bench, report, TRIALS, "pause", "unpause", 1.5)
    assert np.median(advertised.times) <= 500


def test_plain_sigkill(bench: Bench) -> None:
    broken(bench, Report("SIGKILL, Sentinel alone"), PLAIN, "kill", "start", 8.0)


def test_plain_pause(bench: Bench) -> None:
    broken(bench, Report("pause, Sentinel alone"), PLAIN, "pause", "unpause", 8.0)

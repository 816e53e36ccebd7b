"""Rolling restart and switchover of a ZooKeeper ensemble under kazoo clients, beside `docker restart`.

The clients are an application's: three of them, kazoo's defaults, a host string of all
servers, a `create` of 32 bytes every few ms. An outage is the longest time without an
acknowledged write of any client, the ordinary time between two writes included.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest
from bench_support import haops, tell
from zookeeper_app import Application

from haops.cluster.snapshot import Role
from haops.cluster.spec import Cluster
from haops.cluster.state import StateDir
from haops.stores.restart import AWAIT, START, STOP
from haops.stores.zookeeper.observe import ask
from haops.stores.zookeeper.readiness import readiness
from haops.wait import wait_until

NAME = "zkbench"
TRIALS = int(os.environ.get("HAOPS_BENCH_TRIALS", "7"))
SETTLE_S = 1.0
QUIET_S = 3.0
pytestmark = pytest.mark.timeout(1800)

Span = tuple[str, float, float]


@dataclass
class Report:
    """The outages of one way to do it (ms), by step, in total and of the client that was worst off."""

    name: str
    steps: dict[str, list[float]] = field(default_factory=dict)
    totals: list[float] = field(default_factory=list)
    longest: list[float] = field(default_factory=list)
    worst: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    quiet: list[float] = field(default_factory=list)
    lost: int = 0

    def add(self, application: Application, spans: list[Span], took_s: float) -> None:
        """One trial."""
        gaps = {name: application.service_gap_ms(begin, end) for name, begin, end in spans}
        for name, gap in gaps.items():
            self.steps.setdefault(name, []).append(gap)
        self.totals.append(sum(gaps.values()))
        self.longest.append(max(gaps.values()))
        self.worst.append(application.client_gap_ms(spans[0][1], spans[-1][2]))
        self.took.append(took_s)
        self.lost += len(application.lost)

    def show(self, aim: str = "") -> None:
        print(f"\n\n  {self.name}")
        tell("  nothing done, 3 s: the machine's own noise", self.quiet, "ms")
        for name, figures in self.steps.items():
            tell(f"  {name}", figures, "ms")
        tell("  total of all steps", self.totals, "ms", aim)
        tell("  longest outage, any client", self.longest, "ms")
        tell("  longest outage, the worst single client", self.worst, "ms")
        tell("  duration", self.took, "s")
        print(f"\n  {'  acknowledged and lost':<58} {self.lost:>8}")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("zookeeper-restart")
    haops(folder, "up", "zookeeper", "--name", NAME, "--ttl", "2h")
    yield folder
    haops(folder, "down", "--all", "--volumes", check=False)


@pytest.fixture
def ensemble(state: Path) -> Cluster:
    haops(state, "up", "zookeeper", "--name", NAME)
    return StateDir(state).get(NAME)


def await_whole(ensemble: Cluster) -> None:
    with readiness(ensemble) as checker:
        wait_until(
            checker.pending, lambda p: not p, what="the ensemble to be whole", deadline_s=60, interval_s=0.05
        )


def leader(ensemble: Cluster) -> str:
    (found,) = (n.name for n in ensemble.servers if ask(n).role is Role.LEADER)
    return found


def trial(ensemble: Cluster, report: Report, act: Callable[[], list[Span]]) -> None:
    """One act under load; its last span lasts until all is settled."""
    with Application(ensemble) as application:
        quiet = time.time()
        time.sleep(QUIET_S)
        began = time.time()
        spans = act()
        took = time.time() - began
        await_whole(ensemble)
        application.goes_on()
        time.sleep(SETTLE_S)
        name, begin, _ = spans[-1]
        spans[-1] = (name, begin, time.time())
    report.quiet.append(application.service_gap_ms(quiet, began))
    report.add(application, spans, took)
    time.sleep(SETTLE_S)


def operate(state: Path, ensemble: Cluster, *args: str) -> list[Span]:
    """A command of haops's; its spans are the journal's steps, put together by server and role.

    One span a server, as the plain way has, and one for the move of the role.
    """
    led = leader(ensemble)
    others = [n.name for n in ensemble.servers if n.name != led]
    haops(state, *args, "--yes")
    journal = json.loads(haops(state, "journal", NAME, "-o", "json").stdout)
    steps = journal["operations"][-1]["done"]
    words = {name: f"restart follower {i}" for i, name in enumerate(others, start=1)} | {
        led: "restart old leader"
    }
    begins: dict[str, float] = {}
    for step in steps:
        of_one = step["verb"] in (STOP, START, AWAIT) and step["node"]
        begins.setdefault(
            words[step["node"]] if of_one else "role moves", datetime.fromisoformat(step["at"]).timestamp()
        )
    ends = [*list(begins.values())[1:], time.time()]
    return [(name, begin, end) for (name, begin), end in zip(begins.items(), ends, strict=True)]


def restart_plainly(ensemble: Cluster, *, waits: bool) -> list[Span]:
    """`docker restart` in the order of their numbers, the leader whenever it comes."""
    spans = []
    for node in ensemble.servers:
        began = time.time()
        box = f"{ensemble.project}-{node.name}-1"
        subprocess.run(["docker", "restart", box], check=True, capture_output=True, timeout=120)
        if waits:
            await_whole(ensemble)
        spans.append((f"restart {node.name}", began, time.time()))
    return spans


def test_rolling_restart_with_the_leader_last(state: Path, ensemble: Cluster) -> None:
    ours = Report("haops restart")
    bare = Report("docker restart, one after the other")
    patient = Report("docker restart, each waited for until it is in sync")
    for _ in range(TRIALS):
        trial(ensemble, ours, lambda: operate(state, ensemble, "restart", NAME))
        trial(ensemble, bare, lambda: restart_plainly(ensemble, waits=False))
        trial(ensemble, patient, lambda: restart_plainly(ensemble, waits=True))
    ours.show("total <= 1000 ms")
    bare.show()
    patient.show()
    assert ours.lost == 0
    assert statistics.median(ours.totals) <= 1000
    assert statistics.median(ours.totals) < statistics.median(bare.totals)


def test_switchover_beside_a_restart_of_the_leader(state: Path, ensemble: Cluster) -> None:
    ours, aimed = Report("haops switchover"), Report("haops switchover --to")
    plain = Report("docker restart of the leader")

    def to_another() -> list[Span]:
        other = next(n.name for n in ensemble.servers if n.name != leader(ensemble))
        return operate(state, ensemble, "switchover", NAME, "--to", other)

    def restart_leader() -> list[Span]:
        began = time.time()
        box = f"{ensemble.project}-{leader(ensemble)}-1"
        subprocess.run(["docker", "restart", box], check=True, capture_output=True, timeout=120)
        return [("restart", began, time.time())]

    for _ in range(TRIALS):
        trial(ensemble, ours, lambda: operate(state, ensemble, "switchover", NAME))
        trial(ensemble, aimed, to_another)
        trial(ensemble, plain, restart_leader)
    for report in (ours, aimed, plain):
        report.show()
    assert ours.lost + aimed.lost == 0
    assert statistics.median(ours.longest) < statistics.median(plain.longest)

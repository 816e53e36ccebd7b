"""The recording loop over a store in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from haops.cluster.spec import Cluster, Node, StoreName
from haops.control import heartbeats
from haops.control.heartbeats import Pace, Pulse, listen
from haops.errors import BadInput, EnvironmentTrouble
from haops.health.beat import Beat, Evidence
from haops.health.redundancy import CopyReading
from haops.health.trace import read_trace
from haops.stores import redis
from haops.stores.base import Store

from ...fakes import make_cluster

PACE = Pace(interval_s=0.01, patience_s=0.03, limit_s=0.2, copies_every_s=0.02, grace_s=0.1)
FOR_S = 30.0


@dataclass
class FakeProbe:
    """Comes to the same each time; silence lasts as long as the patience."""

    evidence: Evidence
    says: str = ""
    closed: bool = False
    beats: int = 0

    def probe(self, patience_s: float) -> Beat:
        self.beats += 1
        sent = time.monotonic_ns()
        if self.evidence is Evidence.SILENT:
            time.sleep(patience_s)
        return Beat(sent, time.monotonic_ns(), self.evidence)

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeStore:
    """What each node's probes come to, and what its copy's digest is."""

    cluster: Cluster = field(default_factory=lambda: make_cluster(StoreName.REDIS))
    evidence: dict[str, Evidence] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    probes: list[FakeProbe] = field(default_factory=list)
    reads: int = 0

    def probe(self, node: Node) -> FakeProbe:
        self.probes.append(FakeProbe(self.evidence.get(node.name, Evidence.ANSWERED), f"I am {node.name}"))
        return self.probes[-1]

    @contextmanager
    def copies(self, _cluster: Cluster) -> Iterator[FakeStore]:
        yield self

    def read(self) -> Sequence[CopyReading]:
        self.reads += 1
        return tuple(
            CopyReading(n.name, time.monotonic_ns(), 7, self.digests.get(n.name, "same"))
            for n in self.cluster.servers
        )

    @property
    def store(self) -> Store:
        return replace(redis.STORE, probe=self.probe, copies=self.copies)  # type: ignore[arg-type]

    def listen(self, record: Path | None = None, beats: int = 10) -> Pulse:
        """Until every node was probed so often, and its copies were read so often."""

        def monotonic() -> float:
            nodes = len(self.cluster.nodes)
            whole = len(self.probes) == nodes and min(p.beats for p in self.probes) >= beats
            return time.monotonic() + (FOR_S if whole and self.reads >= beats else 0)

        clock = SimpleNamespace(monotonic=monotonic, monotonic_ns=time.monotonic_ns)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(heartbeats, "time", clock)
            return listen(self.cluster, self.store, FOR_S, PACE, record)


def test_all_well() -> None:
    fake = FakeStore()
    pulse = fake.listen()
    assert pulse.healthy
    assert [n.node for n in pulse.nodes] == [n.name for n in fake.cluster.nodes]
    for node in pulse.nodes:
        assert node.count(Evidence.ANSWERED) == len(node.trace) > 5
        assert list(node.opinions) == ["heartbeat", "fixed", "adaptive", "phi"]
        assert not node.suspected
        assert node.says == f"I am {node.node}"
        trip = node.trip_ms(50)
        assert trip is not None
        assert trip >= 0
    assert pulse.copies.nodes == tuple(n.name for n in fake.cluster.servers)
    assert pulse.copies.readings == pulse.copies.digests > 6
    assert all(p.closed for p in fake.probes)


@pytest.mark.parametrize("evidence", [Evidence.REFUSED, Evidence.SILENT])
def test_one_node_is_gone(evidence: Evidence) -> None:
    pulse = FakeStore(evidence={"redis-2": evidence}).listen(beats=30)
    assert not pulse.healthy
    assert [n.node for n in pulse.nodes if n.suspected] == ["redis-2"]
    (lost,) = (n for n in pulse.nodes if n.suspected)
    assert lost.count(evidence) == len(lost.trace)
    assert lost.trip_ms(50) is None
    assert lost.opinions["heartbeat"].suspects


def test_a_copy_deviates_although_its_node_answers() -> None:
    pulse = FakeStore(digests={"redis-3": "other"}).listen()
    assert not pulse.healthy
    assert not any(n.suspected for n in pulse.nodes)
    assert [d.node for d in pulse.copies.deviations] == ["redis-3"]


def test_each_node_has_its_trace(tmp_path: Path) -> None:
    fake = FakeStore()
    pulse = fake.listen(tmp_path / "new" / "traces")
    for node in pulse.nodes:
        kept = read_trace(tmp_path / "new" / "traces" / f"{node.node}.jsonl.gz")
        assert kept.target == f"{fake.cluster.name}/{node.node}"
        assert kept.interval_s == pytest.approx(PACE.interval_s)
        assert kept.sent.tolist() == node.trace.sent.tolist()
        assert kept.evidence.tolist() == node.trace.evidence.tolist()


def test_a_trace_that_cannot_be_written_ends_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    started = time.monotonic()
    with pytest.raises(EnvironmentTrouble):
        FakeStore().listen(tmp_path / "file" / "traces")
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    "bad", [{"interval_s": 0.0}, {"patience_s": -1.0}, {"limit_s": 0.05}, {"grace_s": 0.0}]
)
def test_a_pace_that_makes_no_sense(bad: dict[str, float]) -> None:
    with pytest.raises(BadInput):
        replace(Pace(), **bad)

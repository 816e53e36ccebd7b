"""How long clusters take to come up, warm: images built, nothing running."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

import pytest
from bench_support import haops, pairs, tell, timed

import haops.stores.cassandra as cassandra
from haops.cluster.spec import Cluster, ClusterSpec, StoreName
from haops.cluster.state import StateDir
from haops.control.lifecycle import Lifecycle
from haops.runtime.docker import DockerRuntime
from haops.runtime.images import resolve
from haops.stores.cassandra.topology import render_context

ALL_S = 30.0
CASSANDRA_S = 14.0
ZOOKEEPER_S = 3.0

# What a plain start has: the same image, tokens and settings of gossip, but the JVM's own choices
# and no archive of classes.
_TUNED = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-AlwaysPreTouch", "-Dcassandra.memtable.")


def _plain_context(cluster: Cluster) -> Mapping[str, object]:
    options = render_context(cluster)["jvm_options"]
    assert isinstance(options, tuple)
    return {"jvm_options": (*(o for o in options if not o.startswith(_TUNED)), "-Xshare:off")}


def _up_and_down(state: Path, store: str) -> float:
    took = timed(lambda: haops(state, "up", store, "--ttl", "1h"))
    haops(state, "down", "--all", "--volumes")
    return took


def test_all_three_stores_within_30_s(tmp_path: Path) -> None:
    figures = [_up_and_down(tmp_path, "all") for _ in range(3)]
    tell("haops up all: 12 containers", figures, "s", f"<= {ALL_S:g}")
    one_by_one = [sum(_up_and_down(tmp_path, s) for s in ("redis", "zookeeper", "cassandra"))]
    tell("plain: the three one after the other", one_by_one, "s")
    assert statistics.median(figures) <= ALL_S


def test_zookeeper_within_3_s(tmp_path: Path) -> None:
    figures = [_up_and_down(tmp_path, "zookeeper") for _ in range(5)]
    tell(
        "haops up zookeeper: 3 servers (command's start included)",
        figures,
        "s",
        f"<= {ZOOKEEPER_S:g}, plain 3.9",
    )


def test_cassandra_within_14_s_beside_a_plain_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lifecycle = Lifecycle(StateDir(tmp_path), DockerRuntime(), resolve)

    def up_down() -> float:
        took = timed(lambda: lifecycle.up(ClusterSpec("bench", StoreName.CASSANDRA)))
        lifecycle.down("bench", keep_volumes=False)
        return took

    def plain() -> float:
        with monkeypatch.context() as patch:
            patch.setattr(cassandra, "STORE", _with_plain_options())
            return up_down()

    ours, theirs = pairs(3, up_down, plain)
    tell("up of a 3-node Cassandra ring", ours, "s", f"<= {CASSANDRA_S:g}")
    tell("plain: default JIT and collector, no class archive", theirs, "s")
    assert statistics.median(ours) <= CASSANDRA_S


def _with_plain_options() -> object:
    from dataclasses import replace

    return replace(cassandra.STORE, render_context=_plain_context)

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from haops.cli.health import parse_budget
from haops.cluster.spec import Cluster, StoreName
from haops.control.lifecycle import Lifecycle
from haops.errors import BadInput
from haops.health.beat import Beat, Evidence
from haops.health.trace import TraceWriter

from ... import fake_zookeeper
from ...fakes import make_cluster
from .conftest import Run

ANSWERS = {"ruok": "imok", "srvr": fake_zookeeper.srvr(), "hash": "100000001: 42\n"}
# Patient: the machine that tests run on may be busy.
QUICK = ("--for", "400ms", "--interval", "20ms", "--patience", "1s", "--limit", "2s", "--grace", "100ms")


@pytest.fixture
def ensemble(fake: Lifecycle, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Three servers' four-letter words on loopback."""
    monkeypatch.setattr("haops.cli.health.lifecycle", lambda: fake)
    made = make_cluster(StoreName.ZOOKEEPER)
    with ExitStack() as stack:
        ports = [stack.enter_context(fake_zookeeper.serve(ANSWERS)) for _ in made.nodes]
        nodes = tuple(replace(n, host_port=p) for n, p in zip(made.nodes, ports, strict=True))
        cluster = replace(made, nodes=nodes)
        fake.state.save(cluster)
        yield cluster


def test_a_healthy_cluster(run: Run, ensemble: Cluster, tmp_path: Path) -> None:
    ended = run("health", ensemble.name, *QUICK, "--record", str(tmp_path), "-o", "json")
    assert ended.code == 0, ended
    document = json.loads(ended.out)
    assert document["version"] == 1
    health = document["health"]
    assert health["healthy"] is True
    assert [n["name"] for n in health["nodes"]] == [n.name for n in ensemble.nodes]
    for node in health["nodes"]:
        assert node["answered"] + node["refused"] + node["silent"] == node["probes"] > 3
        assert set(node["round_trip_ms"]) == {"p50", "p99", "max"}
        assert [d["name"] for d in node["detectors"]] == ["heartbeat", "fixed", "adaptive", "phi"]
        assert all(d["why"] for d in node["detectors"])
        assert "too short to prove" in " ".join(node["advice"]["words"])
    assert health["copies"]["agree"] is True
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{n.name}.jsonl.gz" for n in ensemble.nodes]


def test_a_dead_node_is_named(
    run: Run, fake: Lifecycle, ensemble: Cluster, closed_ports: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # narrow tables break the lines that are looked for
    port = closed_ports(1)[0]  # type: ignore[operator]
    nodes = (*ensemble.nodes[:2], replace(ensemble.nodes[2], host_port=port))
    fake.state.save(replace(ensemble, nodes=nodes))
    ended = run("health", "check", ensemble.name, *QUICK)
    assert ended.code == 5, ended
    lines = [each for each in ended.out.splitlines() if each.startswith(nodes[2].name)]
    assert any("heartbeat, fixed, adaptive, phi" in line for line in lines), ended.out
    assert "refused (threshold 2)" in ended.out
    assert run("health", ensemble.name, *QUICK, "-o", "name").out.split() == [nodes[2].name]


def test_options_may_come_first_and_yaml_is_spoken(run: Run, ensemble: Cluster) -> None:
    ended = run("health", *QUICK, "-o", "yaml", ensemble.name)
    assert ended.code == 0
    assert ended.out.startswith("version: 1\n")


def test_an_unknown_cluster_and_a_wrong_pace(run: Run, ensemble: Cluster) -> None:
    assert run("health", "nobody").code == 2
    assert run("health", ensemble.name, "--interval", "soon").code == 2
    assert (
        run("health", ensemble.name, "--interval", "1s", "--limit", "500ms").code == 2
    )  # above the fixed limit


def record(path: Path, silent: int = 0) -> Path:
    """A minute of punctual answers, and some silence in the middle."""
    step, answers = 50_000_000, 1200
    with TraceWriter(path, f"zoo/{path.name}", interval_s=0.05, patience_s=0.15, origin_ns=0) as writer:
        for number in range(answers):
            quiet = 600 <= number < 600 + silent
            evidence = Evidence.SILENT if quiet else Evidence.ANSWERED
            sent = number * step
            writer.append(Beat(sent, sent + (40_000_000 if quiet else 1_000_000), evidence))
    return path


def test_traces_are_replayed(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "advice.html"
    ended = run("health", "advise", str(record(tmp_path / "a.jsonl.gz")), "--html", str(page))
    assert ended.code == 0, ended
    assert "DETECTOR" in ended.out
    assert "too short to prove" in ended.out
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_several_traces_have_a_page_each(run: Run, tmp_path: Path) -> None:
    traces = [record(tmp_path / "a.jsonl.gz"), record(tmp_path / "b.jsonl", silent=4)]
    page = tmp_path / "advice.html"
    ended = run("health", "advise", *map(str, traces), "--html", str(page), "--budget", "60/hour")
    assert ended.code == 0, ended
    assert all(f"{trace}: zoo/{trace.name}" in ended.out for trace in traces)
    assert sorted(p.name for p in tmp_path.glob("*.html")) == ["advice-a.html", "advice-b.html"]


def test_a_damaged_trace_is_named_with_its_place(run: Run, tmp_path: Path) -> None:
    path = record(tmp_path / "a.jsonl")
    lines = path.read_text().splitlines()
    lines[2] = "12 what a"
    path.write_text("\n".join(lines) + "\n")
    ended = run("health", "advise", str(path))
    assert ended.code == 2
    assert f"{path}:3:4: " in ended.err
    missing = run("health", "advise", str(tmp_path / "none.jsonl"))
    assert missing.code == 2
    assert f"{tmp_path / 'none.jsonl'}:1:1: " in missing.err


def test_a_page_that_cannot_be_written(run: Run, tmp_path: Path) -> None:
    trace = record(tmp_path / "a.jsonl.gz")
    assert run("health", "advise", str(trace), "--html", str(tmp_path / "no" / "a.html")).code == 3


@pytest.mark.parametrize(
    ("text", "rate"), [("1/day", 1 / 24), ("2/hour", 2.0), ("0/week", 0.0), ("7 / week", 1 / 24)]
)
def test_budgets(text: str, rate: float) -> None:
    assert parse_budget(text) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["", "1", "1/", "/day", "-1/day", "nan/day", "inf/day", "1/fortnight"])
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(BadInput, match="is not a budget"):
        parse_budget(text)


def test_help_shows_both_ways(run: Run) -> None:
    assert "advise" in run("health", "--help").out
    assert "Examples:" in run("health", "check", "--help").out
    assert "Examples:" in run("health", "advise", "--help").out


def test_the_command_line_pays_for_none_of_it() -> None:
    code = "import sys, haops.cli.main; print({'numpy', 'redis', 'kazoo', 'cassandra'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

"""Drills on real servers: what they measure, and that they leave nothing broken however they end."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from live_helpers import Haops, end_process, labelled

from haops.cluster.state import StateDir
from haops.faults.ledger import Ledger
from haops.history.files import load
from haops.history.record import Kind, Outcome

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]


def _drill(haops: Haops, trio: Mapping[str, str], store: str, *args: str) -> tuple[Mapping[str, Any], Path]:
    done = haops.run(
        "drill", "run", "kill-primary", "--store", store, "--cluster", trio[store], "-o", "json", *args,
        timeout=220,
    )  # fmt: skip
    document = json.loads(done.stdout)
    return document, haops.state / "runs" / document["run"]


@pytest.mark.parametrize("store", ["redis", "zookeeper", "cassandra"])
def test_killing_the_primary_is_survived_measured_and_reported(
    haops: Haops, owner: str, trio: Mapping[str, str], store: str
) -> None:
    haops.await_verdict(trio[store], "healthy")
    document, folder = _drill(haops, trio, store)
    assert document["verdict"] == "pass"
    (trial,) = document["stores"][store]["trials"]
    assert trial["acked"] > 1000
    assert 0 < trial["write_outage_ms"] < 8000
    assert 0 < trial["read_outage_ms"] < 8000
    assert trial["lost"] <= document["stores"][store]["budget"]["lost"]
    assert len(trial["lost_ids"]) == trial["lost"]
    assert {p["name"] for p in trial["phases"]} == {"before", "during", "after"}
    kinds = [e["kind"] for e in trial["events"]]
    assert {"fault", "detected", "restarted", "rejoined"} <= set(kinds)
    assert trial["detected_ms"] > 0
    if store != "cassandra":
        assert trial["promoted_ms"] > 0
    assert haops.status(trio[store])["verdict"] == "healthy"
    assert not Ledger(StateDir(haops.state).cluster_dir(trio[store])).open_faults()
    _check_files(folder, store, trial)


def _check_files(folder: Path, store: str, trial: Mapping[str, Any]) -> None:
    assert json.loads((folder / "result.json").read_text())["stores"][store]["trials"][0] == trial
    page = (folder / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert (folder / "junit.xml").read_text().startswith("<?xml")
    history = load(folder / f"history-{store}-1.parquet")
    assert len(history.of(Kind.WRITE, Outcome.OK)) == trial["acked"]


def test_ctrl_c_in_a_drill_leaves_no_node_stopped(haops: Haops, owner: str, trio: Mapping[str, str]) -> None:
    name = trio["redis"]
    process = haops.start("drill", "run", "kill-primary", "--store", "redis", "--cluster", name)
    _await_fault(haops, name)
    _, err = end_process(process, signal.SIGINT)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert labelled(owner, name, "--filter", "status=exited")["containers"] == []
    assert not Ledger(StateDir(haops.state).cluster_dir(name)).open_faults()
    haops.await_verdict(name, "healthy")


def test_sigkill_in_a_drill_is_told_by_doctor_and_put_right_by_heal(
    haops: Haops, owner: str, trio: Mapping[str, str]
) -> None:
    name = trio["zookeeper"]
    haops.await_verdict(name, "healthy")
    process = haops.start("drill", "run", "kill-primary", "--store", "zookeeper", "--cluster", name)
    _await_fault(haops, name)
    end_process(process, signal.SIGKILL)
    assert Ledger(StateDir(haops.state).cluster_dir(name)).open_faults()
    assert "was not undone" in haops.run("doctor", check=None).stdout
    haops.run("heal", name)
    haops.await_verdict(name, "healthy")
    assert not Ledger(StateDir(haops.state).cluster_dir(name)).open_faults()


def _await_fault(haops: Haops, name: str) -> None:
    ledger = Ledger(StateDir(haops.state).cluster_dir(name))
    end = time.monotonic() + 60
    while not ledger.open_faults():
        assert time.monotonic() < end, "no fault after 60 s"
        time.sleep(0.02)


def test_a_rate_that_cannot_be_held_is_unknown_not_pass(haops: Haops, trio: Mapping[str, str]) -> None:
    name = trio["redis"]
    haops.await_verdict(name, "healthy")
    done = haops.run(
        "drill", "run", "kill-primary", "--store", "redis", "--cluster", name, "--rate", "60000", "-o", "json",
        check=4,
        timeout=220,
    )  # fmt: skip
    assert json.loads(done.stdout)["verdict"] == "unknown"


def test_down_is_refused_while_a_drill_holds_the_cluster(
    haops: Haops, owner: str, trio: Mapping[str, str]
) -> None:
    name = trio["redis"]
    haops.await_verdict(name, "healthy")
    process = haops.start("drill", "run", "kill-primary", "--store", "redis", "--cluster", name)
    try:
        _await_fault(haops, name)
        refused = haops.run("down", name, check=1)
        assert "drill" in refused.stderr
    finally:
        end_process(process, signal.SIGINT)
    haops.await_verdict(name, "healthy")

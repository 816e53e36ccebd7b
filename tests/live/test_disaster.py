"""The disaster drill on real servers: everything is destroyed, and what was backed up comes back."""

from __future__ import annotations

import json

import pytest
from live_helpers import Haops, labelled

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]


def test_every_store_survives_the_loss_of_all_its_nodes_and_volumes(haops: Haops, owner: str) -> None:
    done = haops.run("drill", "run", "restore-after-disaster", "-o", "json", timeout=280)
    document = json.loads(done.stdout)
    assert document["verdict"] == "pass"
    assert [t["store"] for t in document["stores"]] == ["redis", "zookeeper", "cassandra"]
    for trial in document["stores"]:
        survival, proof = trial["survival"], trial["proof"]
        assert survival["acked_before"] > 100
        assert survival["acked"] > survival["acked_before"]
        assert survival["lost_before"] == 0
        assert 0 < survival["lost"] < survival["acked"]
        assert 0 < survival["recovery_point_s"] < 90
        assert trial["p_recovered"] == pytest.approx(1 - survival["lost"] / survival["acked"])
        assert proof["records"] > 100
        assert proof["differences"] == 0
        assert 0 < trial["recovery_time_s"] < 180
        assert not any(labelled(owner, trial["cluster"]).values())
    folder = haops.state / "runs" / document["run"]
    assert json.loads((folder / "result.json").read_text()) == document
    assert "<html" in (folder / "report.html").read_text()
    assert "<testsuites" in (folder / "junit.xml").read_text()
    assert not (folder / "repository").exists()

"""The matrix on real servers: what each mode loses, and that a run which is broken off leaves nothing broken."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from live_helpers import Haops, end_process, labelled

from haops.faults.ledger import Ledger

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]

Cells = Mapping[tuple[str, str, str], Mapping[str, Any]]


def matrix(haops: Haops, *args: str, check: int | None = 0) -> tuple[Cells, Path]:
    done = haops.run("matrix", *args, "-o", "json", timeout=380, check=check)
    document = json.loads(done.stdout)
    cells = {(c["key"]["store"], c["key"]["mode"], c["key"]["fault"]): c for c in document["cells"]}
    return cells, haops.state / "runs" / document["run"]


def only(cell: Mapping[str, Any]) -> Mapping[str, Any]:
    (trial,) = cell["trials"]
    return trial  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def redis(haops: Haops) -> tuple[Cells, Path]:
    return matrix(
        haops, "redis", "--modes", "async,wait-all", "--faults", "none,kill,partition", "--seed", "1"
    )


def test_asynchronous_redis_loses_what_a_primary_cut_off_acknowledged_and_says_why(
    redis: tuple[Cells, Path],
) -> None:
    cut_off = only(redis[0]["redis", "async", "partition"])
    assert cut_off["lost"] > 100
    assert cut_off["lost"] < cut_off["acked"]
    assert cut_off["lost_why"][0].startswith(f"{cut_off['node']} acknowledged ")
    assert any("gave up what only it had" in words for words in cut_off["lost_why"])
    assert cut_off["consistency"] == "violated"


def test_redis_that_waits_for_all_copies_loses_nothing_and_stops_while_one_is_away(
    redis: tuple[Cells, Path],
) -> None:
    for fault in ("none", "kill", "partition"):
        assert only(redis[0]["redis", "wait-all", fault])["lost"] == 0
    killed = only(redis[0]["redis", "wait-all", "kill"])
    assert killed["write_recovery"]["total_ms"] > 4000, "writes came back without the copy that was away"
    assert killed["read_recovery_ms"] < 1000, "reads do not need all copies"
    assert killed["read_availability"] > killed["write_availability"]


def test_a_recovery_is_split_by_the_servers_own_words(redis: tuple[Cells, Path]) -> None:
    found = only(redis[0]["redis", "async", "kill"])["write_recovery"]
    parts = [found[f"{part}_ms"] for part in ("detect", "decide", "promote", "advertise", "reconnect")]
    assert all(part is not None for part in parts)
    assert sum(parts) == pytest.approx(found["total_ms"])
    assert 900 < found["detect_ms"] < found["total_ms"] < 8000


def test_what_modes_cost_at_rest_is_measured_where_nothing_is_broken(redis: tuple[Cells, Path]) -> None:
    alone = {mode: redis[0]["redis", mode, "none"]["parts"] for mode in ("async", "wait-all")}
    for parts in alone.values():
        assert parts["throughput"][0] > 500
        assert parts["visible_ms"]["median"] >= 0
    assert alone["wait-all"]["single_write_ms"]["median"] > alone["async"]["single_write_ms"]["median"]


def test_a_run_leaves_its_report_and_its_histories_and_no_cluster(
    haops: Haops, owner: str, redis: tuple[Cells, Path]
) -> None:
    folder = redis[1]
    page = (folder / "matrix.html").read_text()
    assert "wait-all" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert len(list((folder / "histories").glob("*.parquet"))) == 6
    assert labelled(owner, "matrix-redis") == {"containers": [], "networks": [], "volumes": []}
    name = folder.name
    assert "wait-all" in haops.run("matrix", "show", name).stdout
    assert "T_p" in haops.run("model", name).stdout
    assert haops.run("matrix", "diff", name, name, check=4).stdout is not None
    history = folder / "histories" / "redis-async-partition-1.parquet"
    judged = json.loads(
        haops.run("history", "check", str(history), "--model", "register", "-o", "json", check=1).stdout
    )
    assert judged["verdict"] == "violated"


def test_cassandra_at_one_misses_what_a_node_cut_off_took_and_at_quorum_does_not(haops: Haops) -> None:
    cells, _ = matrix(haops, "cassandra", "--modes", "one,quorum,all", "--faults", "partition", "--seed", "1")
    one, quorum, every = (only(cells["cassandra", mode, "partition"]) for mode in ("one", "quorum", "all"))
    assert {t["lost"] for t in (one, quorum, every)} == {0}
    assert one["stale"] > 0
    assert one["longest_stale_ms"] > 100
    assert quorum["stale"] == 0
    # Writes at ALL wait for the node, which is away until they have been waited for for four seconds.
    assert every["write_outage_ms"] > 4000
    assert one["write_outage_ms"] < 2000
    assert every["write_availability"] < one["write_availability"]


def test_a_run_that_is_interrupted_is_resumed_and_keeps_what_was_finished(haops: Haops, owner: str) -> None:
    runs = haops.state / "runs"
    before = set(runs.iterdir()) if runs.is_dir() else set()
    process = haops.start("matrix", "redis", "--modes", "async", "--faults", "none,partition")
    end = time.monotonic() + 120
    while not (fresh := [p for p in runs.glob("*-matrix/trials.jsonl") if p.parent not in before]):
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.1)
    folder = fresh[0].parent
    while "partition" not in str(_open_faults(haops)):
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.05)
    _, said = end_process(process, signal.SIGINT)
    assert process.returncode == 130
    assert f"haops matrix --resume {folder.name}" in said
    assert labelled(owner, "matrix-redis") == {"containers": [], "networks": [], "volumes": []}
    finished = (folder / "trials.jsonl").read_text().splitlines()
    cells, _ = matrix(haops, "--resume", folder.name)
    assert (folder / "trials.jsonl").read_text().splitlines()[: len(finished)] == finished
    assert {len(c["trials"]) for c in cells.values()} == {1}


def _open_faults(haops: Haops) -> list[str]:
    return [f.kind for f in Ledger(haops.state / "clusters" / "matrix-redis").open_faults()]


@pytest.fixture
def pair(haops: Haops) -> Iterator[str]:
    haops.run("up", "redis", "--name", "cut", "--ttl", "90m")
    yield "cut"
    haops.run("down", "cut", "--volumes", check=None)


def test_a_partition_whose_haops_was_killed_is_healed(haops: Haops, pair: str) -> None:
    process = haops.start("drill", "lock", pair, "--fault", "partition")
    ledger = Ledger(haops.state / "clusters" / pair)
    end = time.monotonic() + 60
    while not ledger.open_faults():
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.05)
    time.sleep(2)  # it acts
    end_process(process, signal.SIGKILL)
    (fault,) = ledger.open_faults()
    assert fault.undo == "join"
    # The replicas see it, and so does an operator: nothing heals by itself.
    assert haops.status(pair)["verdict"] != "healthy"
    haops.run("heal", pair)
    assert ledger.open_faults() == ()
    haops.await_verdict(pair, "healthy")


def test_the_redis_lock_is_held_twice_across_a_partition_and_zookeepers_is_not(
    haops: Haops, pair: str, trio: Mapping[str, str]
) -> None:
    broken = json.loads(
        haops.run("drill", "lock", pair, "--fault", "partition", "-o", "json", check=1).stdout
    )
    assert broken["overlaps"] > 0
    haops.await_verdict(trio["zookeeper"], "healthy")
    for fault in ("kill", "partition"):
        kept = haops.run("drill", "lock", trio["zookeeper"], "--fault", fault, "-o", "json").stdout
        assert json.loads(kept)["overlaps"] == 0
        haops.await_verdict(trio["zookeeper"], "healthy")


def test_a_mode_is_changed_and_shown_as_the_servers_tell_it(haops: Haops, pair: str) -> None:
    document = json.loads(haops.run("mode", "set", pair, "waitaof", "-o", "json").stdout)
    assert document["holds"]
    assert "redis-1: appendfsync always" in document["changed"]
    assert haops.status(pair)["mode"] == "waitaof"
    assert "unknown mode" in haops.run("mode", "set", pair, "quorum", check=2).stderr
    haops.run("mode", "set", pair, "async")

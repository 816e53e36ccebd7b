"""Backups of real servers: restored, compared, repaired; killed, broken, refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from backup_helpers import back_up, cluster_of, compared, elements, empty, fill, listed, number, writer
from live_helpers import Haops

from haops.runtime.docker import DockerRuntime

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

STORES = ["redis", "zookeeper", "cassandra"]
BEFORE, AFTER = range(300), range(300, 400)


@pytest.fixture(scope="module", autouse=True)
def tidy(haops: Haops, trio: Mapping[str, str]) -> Iterator[None]:
    yield
    empty(haops, trio)


@pytest.mark.parametrize("store", STORES)
def test_a_cluster_is_restored_to_what_it_was_and_a_change_since_is_found_and_repaired(
    haops: Haops, trio: Mapping[str, str], tmp_path: Path, store: str
) -> None:
    name, run, repo = trio[store], "backuplive", ["--repo", str(tmp_path)]
    haops.await_verdict(name, "healthy")
    fill(haops, name, run, BEFORE, new=True)
    backup = back_up(haops, name, tmp_path)
    fill(haops, name, run, AFTER)
    assert elements(haops, name, run) == set(BEFORE) | set(AFTER)
    haops.run("backup", "verify", backup, "--full", *repo)

    refused = haops.run("restore", backup, "--to", name, *repo, check=2)
    assert "not empty" in refused.stderr
    assert "--wipe" in refused.stderr
    assert elements(haops, name, run) == set(BEFORE) | set(AFTER)

    haops.run("restore", backup, "--to", name, "--wipe", "--yes", *repo)
    assert elements(haops, name, run) == set(BEFORE)
    assert haops.status(name)["verdict"] == "healthy"
    equal = compared(haops, name, f"backup:{backup}", *repo)
    assert (equal["verdict"], equal["differences"]) == ("equal", [])

    with writer(haops, name, run) as client:
        client.write(number(AFTER.start), 7)
    found = compared(haops, name, f"backup:{backup}", *repo, check=1)
    assert found["verdict"] == "different"
    assert len(found["differences"]) >= 1
    # A node's counter of sequential children only grows: that one was created there stays to be seen.
    grows = store == "zookeeper"
    haops.run("repair", name, f"backup:{backup}", "--truth", "B", "--yes", *repo, check=int(grows))
    left = compared(haops, name, f"backup:{backup}", *repo, check=int(grows))
    assert [d["kinds"] for d in left["differences"]] == ([["version"]] if grows else [])
    assert elements(haops, name, run) == set(BEFORE)


@pytest.mark.parametrize("store", STORES)
def test_a_node_that_lost_its_disk_is_rebuilt_and_proved_equal(
    haops: Haops, trio: Mapping[str, str], store: str
) -> None:
    name, run = trio[store], "recoverlive"
    seen = haops.await_verdict(name, "healthy")
    fill(haops, name, run, BEFORE, new=True)
    node = next(n["name"] for n in seen["nodes"] if n["role"] in ("replica", "follower", "member"))
    DockerRuntime().forget_disk(cluster_of(haops, name), node)
    done = haops.run("recover", name, node, "--yes", timeout=200)
    assert "built anew" in done.stdout
    assert "equal" in done.stdout
    assert elements(haops, name, run) == set(BEFORE)
    assert haops.status(name)["verdict"] == "healthy"


@pytest.mark.parametrize("store", ["redis", "zookeeper"])
def test_a_backup_is_proved_by_a_restore_that_leaves_nothing_behind(
    haops: Haops, owner: str, trio: Mapping[str, str], tmp_path: Path, store: str
) -> None:
    fill(haops, trio[store], "prooflive", BEFORE, new=True)
    backup = back_up(haops, trio[store], tmp_path)
    done = haops.run("backup", "verify", backup, "--by-restore", "--repo", str(tmp_path))
    assert "ok" in done.stdout
    assert not [n for n in haops.run("ls", "-o", "name").stdout.split() if n.startswith("proof-")]
    (entry,) = listed(haops, tmp_path)
    assert entry["verified"]


def test_the_wrong_backup_or_key_touches_nothing(
    haops: Haops, trio: Mapping[str, str], tmp_path: Path
) -> None:
    import pyrage

    mine, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    key = tmp_path / "key.txt"
    key.touch(0o600)
    repo = ["--repo", str(tmp_path / "repo")]
    name, run = trio["redis"], "wronglive"
    fill(haops, name, run, range(20), new=True)
    backup = back_up(haops, name, tmp_path / "repo", "--encrypt", str(mine.to_public()))

    for target, secret, words in ((trio["zookeeper"], mine, "is of redis"), (name, other, "none of")):
        key.write_text(f"{secret}\n")
        done = haops.run(
            "restore", backup, "--to", target, "--wipe", "--yes", "--identity", str(key), *repo, check=2
        )
        assert words in done.stderr
    assert elements(haops, name, run) == set(range(20))
    assert haops.run("restore", "nothing-such", "--to", name, *repo, check=2).stderr

    key.write_text(f"{mine}\n")
    haops.run("restore", backup, "--to", name, "--wipe", "--yes", "--identity", str(key), *repo)
    assert elements(haops, name, run) == set(range(20))

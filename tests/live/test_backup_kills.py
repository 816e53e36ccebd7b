"""Backups and restores that are killed, whose servers die, whose disk is full, whose files are broken."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from backup_helpers import back_up, cluster_of, compared, elements, empty, fill, listed
from live_helpers import Haops, end_process
from redis import Redis

from haops.cluster.loans import Loans
from haops.cluster.state import StateDir
from haops.runtime.docker import DockerRuntime
from haops.stores.zookeeper.connect import connect as zookeeper

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]

# Twenty in all, of a backup and of a restore; Cassandra's take the longest.
KILLS = {"redis": 8, "zookeeper": 8, "cassandra": 4}
ELEMENTS = range(400)


@pytest.fixture(scope="module", autouse=True)
def tidy(haops: Haops, trio: Mapping[str, str]) -> Iterator[None]:
    yield
    empty(haops, trio)


def _killed_after(haops: Haops, seconds: float, *command: str) -> int:
    """Start a command and SIGKILL it; its exit code, which is 0 if it was quicker."""
    process = haops.start(*command)
    time.sleep(seconds)
    end_process(process, signal.SIGKILL)
    return process.returncode


def _took(haops: Haops, *command: str) -> float:
    began = time.monotonic()
    haops.run(*command)
    return time.monotonic() - began


@pytest.mark.parametrize("store", list(KILLS))
def test_a_backup_killed_anywhere_is_never_called_complete_and_goes_on(
    haops: Haops, trio: Mapping[str, str], tmp_path: Path, store: str
) -> None:
    name, repo = trio[store], ["--repo", str(tmp_path)]
    rng = random.Random(7)
    fill(haops, name, "killlive", ELEMENTS, new=True)
    create = ["backup", "create", name, *repo]
    whole_s = _took(haops, *create)
    for number in range(KILLS[store]):
        known = {b["id"] for b in listed(haops, tmp_path)}
        # The start of the interpreter alone takes a while; nothing is cut off in it.
        code = _killed_after(haops, rng.uniform(0.3, 1.0) * whole_s, *create, "--new")
        states = {b["id"]: b["state"] for b in listed(haops, tmp_path) if b["id"] not in known}
        assert len(states) <= 1
        assert set(states.values()) <= ({"complete"} if code == 0 else {"complete", "incomplete"})
        haops.run(*create)
        after = {b["id"]: b["state"] for b in listed(haops, tmp_path)}
        assert set(after.values()) == {"complete"}, f"kill {number}"
        assert states.keys() <= after.keys()
        haops.run("backup", "verify", *repo, "--full")
    haops.run("heal", name)
    assert Loans(StateDir(haops.state).cluster_dir(name)).open() == ()


@pytest.mark.parametrize("store", list(KILLS))
def test_a_restore_killed_anywhere_is_told_and_goes_on_to_the_same_end(
    haops: Haops, trio: Mapping[str, str], tmp_path: Path, store: str
) -> None:
    name, repo = trio[store], ["--repo", str(tmp_path)]
    rng = random.Random(11)
    haops.await_verdict(name, "healthy")
    fill(haops, name, "restorekill", ELEMENTS, new=True)
    backup = back_up(haops, name, tmp_path)
    restore = ["restore", backup, "--to", name, *repo]
    whole_s = _took(haops, *restore, "--wipe", "--yes")
    for number in range(KILLS[store]):
        _killed_after(haops, rng.uniform(0.3, 1.0) * whole_s, *restore, "--wipe", "--yes")
        if (StateDir(haops.state).cluster_dir(name) / "restore.json").exists():
            reasons = "; ".join(str(f) for f in haops.status(name)["reasons"])
            assert f"haops restore {backup} --to {name} --resume" in reasons
            haops.run(*restore, "--resume")
        haops.await_verdict(name, "healthy")
        assert elements(haops, name, "restorekill") == set(ELEMENTS), f"kill {number}"
    assert compared(haops, name, f"backup:{backup}", *repo)["verdict"] == "equal"
    haops.run("heal", name)
    assert Loans(StateDir(haops.state).cluster_dir(name)).open() == ()


@contextmanager
def _ballast(haops: Haops, name: str) -> Iterator[None]:
    """More data than fits into the buffers between a server and its reader: 30 values of 0.9 MB."""
    cluster = cluster_of(haops, name)
    values = [os.urandom(900_000) for _ in range(30)]
    if cluster.store == "redis":
        primary = next(n for n in haops.status(name)["nodes"] if n["role"] == "primary")
        with Redis(host=primary["host"], port=primary["port"]) as client:
            for number, value in enumerate(values):
                client.set(f"ballast:{number}", value)
            yield
            client.delete(*(f"ballast:{n}" for n in range(len(values))))
        return
    client = zookeeper(cluster.servers)
    client.start(timeout=10)
    try:
        for number, value in enumerate(values):
            client.create(f"/ballast/{number}", value, makepath=True)
        yield
        client.delete("/ballast", recursive=True)
    finally:
        client.stop()
        client.close()


@pytest.mark.parametrize("store", ["redis", "zookeeper"])
def test_a_server_that_dies_while_it_is_read_fails_the_backup_and_the_next_try_finishes_it(
    haops: Haops, trio: Mapping[str, str], tmp_path: Path, store: str
) -> None:
    name = trio[store]
    seen = haops.await_verdict(name, "healthy")
    node = next(n["name"] for n in seen["nodes"] if n["role"] in ("replica", "follower"))
    create = ["backup", "create", name, "--repo", str(tmp_path), "--node", node]
    with _ballast(haops, name):
        process = haops.start(*create, "--rate", "1MB/s")
        time.sleep(4.0)
        DockerRuntime().kill(cluster_of(haops, name), node)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 1, (out, err)
        assert f"haops: {node}: " in err
        assert "Traceback" not in err
        (begun,) = listed(haops, tmp_path)
        assert begun["state"] == "incomplete"
        haops.run("heal", name)
        haops.await_verdict(name, "healthy")
        haops.run(*create)
    assert [(b["id"], b["state"]) for b in listed(haops, tmp_path)] == [(begun["id"], "complete")]
    haops.run("backup", "verify", "--full", "--repo", str(tmp_path))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KB."""
    if os.geteuid() != 0:
        pytest.skip("waits for root: only root may mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_is_told_and_the_backup_goes_on_when_there_is_space(
    haops: Haops, trio: Mapping[str, str], small_disk: Path
) -> None:
    name = trio["redis"]
    haops.await_verdict(name, "healthy")
    fill(haops, name, "fulllive", ELEMENTS, new=True)
    (small_disk / "ballast").write_bytes(os.urandom(250 * 1024 - 4096))
    repo = small_disk / "repo"
    failed = haops.run("backup", "create", name, "--repo", str(repo), check=3)
    assert "No space left" in failed.stderr
    if repo.exists():
        assert {b["state"] for b in listed(haops, repo)} <= {"incomplete"}
    (small_disk / "ballast").unlink()
    back_up(haops, name, repo)
    assert [b["state"] for b in listed(haops, repo)] == ["complete"]
    haops.run("backup", "verify", "--full", "--repo", str(repo))


def test_a_flipped_byte_a_cut_and_a_lost_file_are_found_in_every_file_of_a_backup(
    haops: Haops, trio: Mapping[str, str], tmp_path: Path
) -> None:
    name = trio["zookeeper"]
    fill(haops, name, "brokenlive", range(50), new=True)
    backup = back_up(haops, name, tmp_path)
    files = [p for p in sorted(tmp_path.rglob("*")) if p.is_file() and p.name != "checked.json"]
    assert len(files) >= 4
    verify = ["backup", "verify", backup, "--full", "--repo", str(tmp_path)]
    rng = random.Random(3)
    for path in files:
        whole = path.read_bytes()
        place = rng.randrange(len(whole))
        flipped = whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :]
        for broken in (flipped, whole[: len(whole) // 2], None):
            path.unlink()
            if broken is not None:
                path.write_bytes(broken)
            done = haops.run(*verify, check=None)
            assert done.returncode in (1, 2, 3), f"{path}: {broken is None}"
            path.write_bytes(whole)
    haops.run(*verify)

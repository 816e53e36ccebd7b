from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.spec import Cluster, Node, NodeKind, Phase, StoreName
from haops.cluster.state import StateDir, default_root, write_atomic
from haops.errors import BadInput, EnvironmentTrouble, HaopsError

from ...fakes import make_cluster

HOLD = """
import sys, time
from pathlib import Path
from haops.cluster.state import StateDir
state = StateDir(Path(sys.argv[1]))
with {lock}:
    print("held", flush=True)
    time.sleep(60)
"""

words = st.text(max_size=20)
moments = st.datetimes(timezones=st.just(UTC), min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1))
nodes = st.builds(
    Node,
    name=words,
    kind=st.sampled_from(NodeKind),
    index=st.integers(0, 99),
    address=words,
    port=st.integers(1, 65535),
    host_port=st.integers(1, 65535),
    host=words,
    admin_host_port=st.none() | st.integers(1, 65535),
    params=st.dictionaries(words, words, max_size=3),
)
clusters = st.builds(
    Cluster,
    name=st.from_regex(r"[a-z][a-z0-9]{0,10}", fullmatch=True),
    store=st.sampled_from(StoreName),
    owner=words,
    subnet=words,
    image=words,
    nodes=st.lists(nodes, max_size=4).map(tuple),
    created=moments,
    expires=st.none() | moments,
    phase=st.sampled_from(Phase),
    mode=words,
)


@contextlib.contextmanager
def held_elsewhere(root: Path, lock: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD.format(lock=lock), str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            yield holder
        finally:
            end(holder)


def end(holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


# ---- atomic writing


def test_a_write_makes_its_folders_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a" / "b" / "file", "text")
    assert (tmp_path / "a/b/file").read_text() == "text"
    assert files_below(tmp_path) == ["a/b/file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), full)
    with pytest.raises(EnvironmentTrouble, match="cannot write") as caught:
        write_atomic(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert files_below(tmp_path) == ["file"]
    assert caught.value.exit_code == 3
    assert caught.value.detail == "No space left on device"
    assert "HAOPS_STATE" in str(caught.value.hint)


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert files_below(tmp_path) == ["file"]


def test_the_file_is_on_disk_before_it_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace_ = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(Path, "replace", lambda a, b: (steps.append("rename"), replace_(a, b))[1])
    write_atomic(tmp_path / "file", "text")
    assert steps == ["fsync", "rename", "fsync"]  # the file, its name, the folder


def test_a_state_directory_that_is_a_file_is_trouble_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    state = StateDir(tmp_path / "file")
    assert state.names() == ()
    with pytest.raises(EnvironmentTrouble, match="cannot write"):
        state.owner()
    with pytest.raises(EnvironmentTrouble, match="cannot write"), state.lock("a", "test"):
        pass
    with pytest.raises(EnvironmentTrouble, match="cannot write"), state.allocation():
        pass


# ---- where it is, whose it is


def test_haops_state_wins_over_the_xdg_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HAOPS_STATE", str(tmp_path / "own"))
    assert default_root() == tmp_path / "own"
    monkeypatch.delenv("HAOPS_STATE")
    assert default_root() == tmp_path / "xdg" / "haops"


def test_a_relative_or_home_state_directory_becomes_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HAOPS_STATE", "here")
    assert default_root() == tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HAOPS_STATE", "~/there")
    assert default_root() == tmp_path / "home" / "there"


def test_the_owner_stays_the_same_and_differs_between_directories(tmp_path: Path) -> None:
    first, second = StateDir(tmp_path / "1"), StateDir(tmp_path / "2")
    assert first.owner() == StateDir(tmp_path / "1").owner()
    assert first.owner() != second.owner()
    assert len(first.owner()) == 12


# ---- records


@given(cluster=clusters)
def test_a_record_is_read_back_as_it_was_saved(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    state = StateDir(tmp_path_factory.mktemp("state"))
    state.save(cluster)
    assert state.find(cluster.name) == cluster
    assert state.names() == (cluster.name,)


@pytest.mark.parametrize("store", list(StoreName))
def test_a_laid_out_cluster_of_each_store_survives_the_round_trip(state: StateDir, store: StoreName) -> None:
    cluster = make_cluster(store, 9)
    state.save(cluster)
    assert state.get(cluster.name) == cluster


def test_a_mark_changes_the_phase_alone(state: StateDir) -> None:
    cluster = make_cluster(phase=Phase.CREATING)
    state.save(cluster)
    marked = state.mark(cluster, Phase.READY)
    assert marked == replace(cluster, phase=Phase.READY)
    assert state.get(cluster.name) == marked


def test_a_forgotten_cluster_is_gone_and_forgetting_twice_is_fine(state: StateDir) -> None:
    state.save(make_cluster())
    state.forget("redis")
    state.forget("redis")
    assert state.find("redis") is None
    assert state.names() == ()


def test_folders_that_cannot_be_a_clusters_are_none(state: StateDir) -> None:
    state.save(make_cluster())
    for name in (".hidden", "Upper", "a b"):
        (state.root / "clusters" / name).mkdir()
    (state.root / "clusters" / "file").write_text("")
    assert state.names() == ("redis",)


@pytest.mark.parametrize("name", ["../owner", "..", "", "/etc", ".allocation", "a/b"])
def test_a_name_that_is_a_path_reaches_no_file(state: StateDir, name: str) -> None:
    for reach in (state.cluster_dir, state.find, state.get, state.forget):
        with pytest.raises(BadInput):
            reach(name)


def test_an_unknown_name_is_refused_with_the_known_ones(state: StateDir) -> None:
    with pytest.raises(BadInput) as caught:
        state.get("x")
    assert caught.value.hint == "there is none; start one: haops up redis"
    state.save(make_cluster(name="b"))
    state.save(make_cluster(name="a"))
    with pytest.raises(BadInput, match="no cluster 'x'") as caught:
        state.get("x")
    assert caught.value.hint == "there are: a, b"


def valid() -> dict[str, Any]:
    state = StateDir(Path("/nowhere"))
    written: list[str] = []
    import haops.cluster.state as module

    kept = module.write_atomic
    try:
        module.write_atomic = lambda path, text: written.append(text)
        state.save(make_cluster())
    finally:
        module.write_atomic = kept
    document: dict[str, Any] = json.loads(written[0])
    return document


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", ":1:1: "),
        ('{"format": 1,\n  "cluster": {\n', ":3:1: "),
        ('{"format": 1,\n "cluster" 5}', ":2:12: "),
        ("[]", ":1:1: not a cluster record"),
        ("{}", ":1:1: not a cluster record"),
        ('{"format": 2, "cluster": {}}', ":1:1: not a cluster record"),
        ('{"format": 1}', ":1:1: the record is damaged"),
        ('{"format": 1, "cluster": {"name": "redis"}}', ":1:1: the record is damaged"),
        ('{"format": 1, "cluster": null}', ":1:1: the record is damaged"),
    ],
)
def test_a_damaged_record_is_told_with_its_place_and_the_way_out(
    state: StateDir, text: str, where: str
) -> None:
    path = state.cluster_dir("redis") / "cluster.json"
    write_atomic(path, text)
    with pytest.raises(HaopsError) as caught:
        state.find("redis")
    assert caught.value.message.startswith(f"{path}{where}")
    assert "haops down redis --volumes" in str(caught.value.hint)
    assert state.names() == ("redis",)


def test_a_record_that_is_not_text_is_damaged(state: StateDir) -> None:
    path = state.cluster_dir("redis") / "cluster.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HaopsError, match="the record is damaged"):
        state.find("redis")


@given(data=st.data())
def test_no_cut_off_record_is_taken_for_a_whole_one(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    state = StateDir(tmp_path_factory.mktemp("state"))
    state.save(make_cluster())
    path = state.cluster_dir("redis") / "cluster.json"
    text = path.read_text()
    path.write_text(text[: data.draw(st.integers(0, len(text) - 3))])
    with pytest.raises(HaopsError, match=r":\d+:\d+: "):
        state.find("redis")


def test_a_wrong_value_in_a_record_is_named(state: StateDir) -> None:
    document = valid()
    document["cluster"]["store"] = "mongo"
    write_atomic(state.cluster_dir("redis") / "cluster.json", json.dumps(document))
    with pytest.raises(HaopsError) as caught:
        state.find("redis")
    assert "store" in str(caught.value.detail)


# ---- locks


def test_a_second_process_is_told_who_holds_the_lock(state: StateDir) -> None:
    with held_elsewhere(state.root, 'state.lock("redis", "up")') as holder:
        with pytest.raises(HaopsError, match="at work on redis") as caught, state.lock("redis", "down"):
            pass
        assert caught.value.detail == f"up (process {holder.pid})"
        assert state.locked("redis")


def test_a_killed_holder_frees_its_lock(state: StateDir) -> None:
    with held_elsewhere(state.root, 'state.lock("redis", "up")') as holder:
        end(holder)
        assert not state.locked("redis")
        with state.lock("redis", "down"):
            assert state.locked("redis")
        assert not state.locked("redis")


def test_the_lock_of_one_cluster_does_not_bind_another(state: StateDir) -> None:
    with state.lock("a", "up"), state.lock("b", "up"):
        assert state.locked("a")
        assert not state.locked("c")


def test_a_lock_is_freed_by_an_error_inside(state: StateDir) -> None:
    with pytest.raises(ValueError, match="x"), state.lock("a", "up"):
        raise ValueError("x")
    assert not state.locked("a")


def test_a_look_at_a_lock_does_not_rename_its_holder(state: StateDir) -> None:
    with state.lock("a", "up"):
        assert state.locked("a")
        with pytest.raises(HaopsError) as caught, state.lock("a", "down"):
            pass
    assert str(caught.value.detail).startswith("up (process ")


def test_the_allocation_waits_for_its_turn(state: StateDir) -> None:
    entered = threading.Event()

    def enter() -> None:
        with StateDir(state.root).allocation():
            entered.set()

    waiter = threading.Thread(target=enter, daemon=True)
    with state.allocation():
        waiter.start()
        assert not entered.wait(0.1)
    assert entered.wait(10)
    waiter.join()


def test_a_killed_holder_frees_the_allocation(state: StateDir) -> None:
    with held_elsewhere(state.root, "state.allocation()") as holder:
        end(holder)
        with state.allocation():
            pass


def test_a_name_with_a_path_in_it_cannot_lock_another_file(state: StateDir) -> None:
    owner = state.owner()
    with pytest.raises(BadInput), state.lock("../owner", "down"):
        pass
    assert state.owner() == owner

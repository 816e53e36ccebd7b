"""How a server's container decides what to start as, with stand-ins for redis-cli and redis-server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from haops.runtime.resources import compose_dir

SELF, SISTER, OTHER, SENTINEL = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.9"
EMPTY, FULL = "# Keyspace\r", "# Keyspace\r\ndb3:keys=1,expires=0\r"


@dataclass
class Box:
    """A container's folder, and what its neighbours answer; who is not in `answers` is silent."""

    folder: Path
    answers: Mapping[str, str] = field(default_factory=dict)

    def start(self, *, rebuilt: bool = True, kind: str = "server") -> subprocess.CompletedProcess[str]:
        for name in ("data", "etc/haops", "bin", "answers"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "etc/haops/node.conf").write_text("port 6379\n")
        for address, words in self.answers.items():
            (self.folder / "answers" / address).write_text(words + "\n")
        self._tool("redis-cli", f'cat "{self.folder}/answers/$2" 2>/dev/null')
        self._tool("redis-server", 'echo "server $*"')
        self._tool("redis-sentinel", 'echo "sentinel $*"')
        self._tool("sleep", "exit 0")
        self._tool("timeout", 'shift; "$@"')
        script = (compose_dir() / "redis/start.sh.j2").read_text()
        script = script.replace("/data", f"{self.folder}/data").replace(
            "/etc/haops", f"{self.folder}/etc/haops"
        )
        env = {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "HAOPS_SELF": f"{SELF} 6379",
            "HAOPS_SERVERS": f"{SELF} {SISTER} {OTHER}",
            "HAOPS_SENTINELS": SENTINEL,
            "HAOPS_REBUILT": "yes" if rebuilt else "no",
        }
        return subprocess.run(
            ["sh", "-c", script, "start.sh", kind], env=env, capture_output=True, text=True, timeout=60
        )

    def _tool(self, name: str, body: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    @property
    def configured(self) -> bool:
        return (self.folder / "data/node.conf").exists()


def test_a_rebuilt_server_follows_whom_the_sentinels_name(tmp_path: Path) -> None:
    box = Box(tmp_path, {SENTINEL: f"{SISTER}\n6379", SISTER: FULL})
    assert box.start().stdout.split()[-3:] == ["--replicaof", SISTER, "6379"]
    assert box.configured


def test_a_rebuilt_server_is_a_primary_where_nobody_has_anything(tmp_path: Path) -> None:
    box = Box(tmp_path, {SENTINEL: f"{SELF}\n6379", SISTER: EMPTY, OTHER: EMPTY})
    assert "replicaof" not in box.start().stdout
    assert box.configured


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {SISTER: EMPTY},
        {SISTER: EMPTY, OTHER: FULL},
        {SENTINEL: f"{SELF}\n6379", SISTER: EMPTY, OTHER: FULL},
        {SENTINEL: f"{SELF}\n6379", SISTER: EMPTY},
    ],
    ids=[
        "nobody",
        "one is silent",
        "one is full",
        "named itself, one is full",
        "named itself, one is silent",
    ],
)
def test_a_rebuilt_server_never_serves_empty_while_a_sister_may_have_data(
    tmp_path: Path, answers: Mapping[str, str]
) -> None:
    box = Box(tmp_path, answers)
    for _ in range(2):  # the second start of the same container must not take it for an old hand
        done = box.start()
        assert done.returncode == 1
        assert done.stdout == ""
        assert "not known to be empty" in done.stderr
        assert not box.configured


def test_a_new_server_starts_as_its_configuration_says(tmp_path: Path) -> None:
    done = Box(tmp_path).start(rebuilt=False)
    assert (done.returncode, done.stdout.split()[0], "replicaof" in done.stdout) == (0, "server", False)


def test_a_server_that_comes_back_follows_its_successor(tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.start(rebuilt=False)
    box.answers = {SENTINEL: f"{OTHER}\n6379"}
    assert box.start(rebuilt=False).stdout.split()[-3:] == ["--replicaof", OTHER, "6379"]


def test_a_sentinel_starts_as_one(tmp_path: Path) -> None:
    assert Box(tmp_path).start(kind="sentinel").stdout.startswith("sentinel ")

"""How long the command line itself takes."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench_support import HAOPS, haops, pairs, tell, timed

HELP_S = 0.200
STATUS_S = 1.0


def test_help_within_200_ms() -> None:
    ours, plain = pairs(
        15,
        lambda: timed(lambda: subprocess.run([HAOPS, "--help"], capture_output=True, check=True)),
        lambda: timed(lambda: subprocess.run([sys.executable, "-c", "import typer"], check=True)),
    )
    tell("haops --help", ours, "s", f"<= {HELP_S}")
    tell("plain: python -c 'import typer'", plain, "s")
    assert statistics.median(ours) <= HELP_S


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    haops(tmp_path, "up", "all", "--name", "bench", "--ttl", "1h")
    yield tmp_path
    haops(tmp_path, "down", "--all", "--volumes", check=False)


def test_status_of_three_clusters_within_1_s(state: Path) -> None:
    ours, plain = pairs(
        9,
        lambda: timed(lambda: haops(state, "status")),
        lambda: timed(lambda: subprocess.run(["docker", "ps", "-a"], capture_output=True, check=True)),
    )
    tell("haops status, 12 nodes of 3 clusters", ours, "s", f"<= {STATUS_S}")
    tell("plain: docker ps (container states only)", plain, "s")
    assert statistics.median(ours) <= STATUS_S

"""The wheel carries compose files and playbooks, and works in a clean environment."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(300)


def _run(*command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env={**os.environ, **env}, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`haops` from a freshly built wheel, in a virtual environment far from the checkout."""
    work = tmp_path_factory.mktemp("wheel")
    built = _run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", work / "dist", ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,) = (work / "dist").glob("haops-*.whl")
    venv.create(work / "venv", with_pip=True)
    done = _run(work / "venv/bin/python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
    assert done.returncode == 0, done.stderr
    return work / "venv/bin/haops"


def test_the_wheel_lists_its_playbooks(installed: Path, tmp_path: Path) -> None:
    done = _run(installed, "drill", "list", "-o", "name", HAOPS_STATE=str(tmp_path))
    assert (done.returncode, done.stdout.split()) == (0, ["kill-primary", "restore-after-disaster"]), (
        done.stderr
    )


def test_the_wheel_carries_what_the_matrix_does_in_a_cell(installed: Path) -> None:
    ask = "from haops.matrix.run import cell_playbook; print(len(cell_playbook().stores))"
    done = _run(installed.with_name("python"), "-c", ask)
    assert (done.returncode, done.stdout.strip()) == (0, "3"), done.stderr


def test_the_wheel_finds_its_own_compose_files_and_doctor_runs(installed: Path, tmp_path: Path) -> None:
    done = _run(installed, "doctor", HAOPS_STATE=str(tmp_path))
    assert done.returncode in (0, 3), done.stderr
    assert str(installed.parents[1]) in done.stdout
    assert str(ROOT) not in done.stdout


def test_an_editable_install_finds_the_checkout(tmp_path: Path) -> None:
    done = _run(
        Path(sys.executable).with_name("haops"), "drill", "list", "-o", "name", HAOPS_STATE=str(tmp_path)
    )
    assert (done.returncode, done.stdout.split()) == (0, ["kill-primary", "restore-after-disaster"]), (
        done.stderr
    )

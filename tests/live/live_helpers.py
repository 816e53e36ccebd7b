"""What the live tests share: the command line, and the engine asked by labels."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HAOPS = Path(sys.executable).with_name("haops")


def _hear_ctrl_c() -> None:
    # A shell's background jobs inherit an ignored SIGINT, and so would what the tests start.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True, slots=True)
class Haops:
    """The command line on a state directory of the tests' own."""

    state: Path

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "HAOPS_STATE": str(self.state), "NO_COLOR": "1"}

    def run(
        self, *args: str, check: int | None = 0, timeout: float = 150, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [HAOPS, *args],
            env={**self.env, **extra},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check is not None:
            assert done.returncode == check, (
                f"{args} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        assert "Traceback" not in done.stderr
        return done

    def start(self, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [HAOPS, *args],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_hear_ctrl_c,
        )

    def status(self, name: str, check: int | None = None) -> Mapping[str, Any]:
        """One cluster's part of `status -o json`."""
        document = json.loads(self.run("status", name, "-o", "json", check=check).stdout)
        (cluster,) = document["clusters"]
        return cluster

    def await_verdict(self, name: str, verdict: str, within_s: float = 60) -> Mapping[str, Any]:
        end = time.monotonic() + within_s
        while True:
            seen = self.status(name)
            if seen["verdict"] == verdict:
                return seen
            assert time.monotonic() < end, f"{name} is not {verdict} after {within_s} s: {seen}"
            time.sleep(0.3)


def docker(*args: str) -> str:
    return subprocess.run(
        ["docker", *args], capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()


def container(cluster: str, node: str, owner: str) -> str:
    """The id of a node's container, found by labels alone."""
    return docker(
        "ps", "-aq", "--no-trunc",
        "--filter", f"label=haops.cluster={cluster}",
        "--filter", f"label=haops.node={node}",
        "--filter", f"label=haops.owner={owner}",
    )  # fmt: skip


def labelled(owner: str, cluster: str | None = None, *more: str) -> dict[str, list[str]]:
    """Everything on the engine that carries an owner's label, by kind."""
    filters = ["--filter", f"label=haops.owner={owner}"]
    if cluster:
        filters += ["--filter", f"label=haops.cluster={cluster}"]
    return {
        "containers": docker("ps", "-aq", *filters, *more).split(),
        "networks": docker("network", "ls", "-q", *filters).split(),
        "volumes": docker("volume", "ls", "-q", *filters).split(),
    }


def end_process(process: subprocess.Popen[str], sig: int) -> tuple[str, str]:
    """Send a signal to a command and its children, as a terminal does, and collect what it said."""
    os.killpg(process.pid, sig)
    try:
        return process.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise

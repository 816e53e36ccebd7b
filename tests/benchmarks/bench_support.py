"""What the benchmarks share: a state directory of their own, timing, and figures printed in one shape."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HAOPS = Path(sys.executable).with_name("haops")


def haops(state: Path, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command line on a state directory."""
    env = {**os.environ, "HAOPS_STATE": str(state), "NO_COLOR": "1"}
    return subprocess.run([HAOPS, *args], env=env, capture_output=True, text=True, timeout=900, check=check)


def timed(act: Callable[[], object]) -> float:
    """Seconds that `act` takes."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def pairs(
    count: int, one: Callable[[], float], other: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Figures of two alternatives taken in turn, so that a noisy neighbour meets both."""
    ones, others = [], []
    for _ in range(count):
        ones.append(one())
        others.append(other())
    return ones, others


def tell(name: str, figures: Sequence[float], unit: str, aim: str = "") -> None:
    """Print a figure's median and spread."""
    spread = f"({_short(min(figures))}-{_short(max(figures))}, n={len(figures)})"
    goal = f"   aim: {aim}" if aim else ""
    print(f"\n  {name:<58} {_short(statistics.median(figures)):>8} {unit:<4} {spread}{goal}")


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

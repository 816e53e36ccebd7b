"""Ten million operations kept, read back and exported: seconds and memory, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench_support import tell

ROWS = int(os.environ.get("HAOPS_BENCH_ROWS", "10_000_000"))
BYTES_A_GB = 1e9

# `path` and `rows` are the child's arguments; it prints seconds and its peak of resident memory.
CHILD = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
from haops.history.files import batches, load, save
from haops.history.formats import Format, write
from haops.history.record import NIL, TYPES, History

path, rows = Path(sys.argv[1]), int(sys.argv[2])

def made():
    rng = np.random.default_rng(1)
    intended = np.arange(rows, dtype="q") * 100_000 + 10**15
    sent = intended + rng.integers(0, 50_000, rows)
    completed = sent + rng.integers(200_000, 2_000_000, rows)
    order = np.argsort(completed, kind="stable")
    kind = (rng.random(rows) < 0.5).astype("b")
    key = np.arange(rows, dtype="q")
    columns = dict(process=key % 200, kind=kind, key=key, value=np.where(kind == 0, key, NIL),
                   expected=np.full(rows, NIL), intended=intended, sent=sent, completed=completed,
                   outcome=rng.choice(3, rows, p=[0.98, 0.01, 0.01]), node=rng.integers(1, 4, rows),
                   error=np.zeros(rows))
    columns = {name: values.astype(TYPES[name])[order] for name, values in columns.items()}
    return History(**columns, nodes=("", "redis-1", "redis-2", "redis-3"))

def seen():
    return sum(len(part) for part in batches(path))

target = path.with_suffix(".csv")
acts = {"save": None, "load": lambda: len(load(path)), "batches": seen,
        "csv": lambda: write(batches(path), target, Format.CSV),
        "jsonl": lambda: write(batches(path), target.with_suffix(".jsonl"), Format.JSONL)}
name = sys.argv[3]
if name == "save":
    history = made()
    acts["save"] = lambda: save(history, path)
began = time.perf_counter()
acts[name]()
seconds = time.perf_counter() - began
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
"""


@pytest.mark.timeout(1800)
def test_ten_million_operations(tmp_path: Path) -> None:
    path = tmp_path / "history.parquet"
    # Making them takes more than keeping them: the first figure of memory says nothing of `save`.
    limits_gb = {"save": None, "load": 2.0, "batches": 0.5, "csv": 0.5, "jsonl": 0.5}
    for name, limit in limits_gb.items():
        command = [sys.executable, "-c", CHILD, str(path), str(ROWS), name]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900)
        seconds, peak = json.loads(done.stdout)
        tell(f"{name} of {ROWS:,} operations", [seconds], "s")
        tell(f"{name}: peak of resident memory", [peak / BYTES_A_GB], "GB", f"< {limit} GB" if limit else "")
        assert limit is None or peak < limit * BYTES_A_GB, name
    tell("size of the Parquet file", [path.stat().st_size / 1e6], "MB")
    tell("size of the CSV", [path.with_suffix(".csv").stat().st_size / 1e6], "MB")

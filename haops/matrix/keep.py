"""A run of the matrix on disk: what was asked, and every finished trial, so that it can be resumed.

`order.json` is written once; `trials.jsonl` gets a line for each thing that is
finished. A line that was cut off by a crash is passed over: its trial is run again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from haops.cluster.spec import StoreName
from haops.cluster.state import disk_trouble, write_atomic
from haops.errors import BadInput
from haops.matrix.cells import CellKey, CellTrial, Parts

_ORDER: Final = "order.json"
_TRIALS: Final = "trials.jsonl"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run was asked for.

    Args:
        budget: The budget file's text and name, if there was one.
    """

    run: str
    started: datetime
    keys: tuple[CellKey, ...]
    trials: int
    rate: int | None
    seed: int
    budget: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Line:
    """One finished thing: a trial, what was measured on the idle cluster, or why a cell cannot be run.

    Args:
        version: The servers' version.
        nodes: The cluster's servers.
    """

    key: CellKey
    version: str
    nodes: int
    trial: CellTrial | None = None
    parts: Parts | None = None
    skipped: str = ""


@cache
def _asked() -> TypeAdapter[Asked]:
    return TypeAdapter(Asked)


@cache
def _line() -> TypeAdapter[Line]:
    return TypeAdapter(Line)


def save_asked(folder: Path, asked: Asked) -> None:
    """Write down what was asked, before anything is done."""
    write_atomic(folder / _ORDER, _asked().dump_json(asked, indent=2).decode() + "\n")


def load_asked(folder: Path) -> Asked:
    """What a run was asked for.

    Raises:
        BadInput: The folder holds no run of the matrix.
    """
    path = folder / _ORDER
    try:
        return _asked().validate_json(path.read_bytes())
    except FileNotFoundError:
        raise BadInput(f"{folder} holds no run of the matrix", hint="see: haops matrix list") from None
    except (OSError, ValidationError) as error:
        raise BadInput(f"{path}:1:1: cannot be read", detail=str(error)) from error


def append(folder: Path, line: Line) -> None:
    """Keep a finished thing; it is on the disk when this returns.

    Raises:
        EnvironmentTrouble: The disk is full or not ours.
    """
    path = folder / _TRIALS
    try:
        with path.open("a+b") as file:
            # What a crash cut off must not take the next line with it.
            end = file.seek(0, os.SEEK_END)
            file.seek(max(end - 1, 0))
            begin = b"" if file.read(1) in (b"", b"\n") else b"\n"
            file.write(begin + _line().dump_json(line) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise disk_trouble(path, error) from error


def lines(folder: Path) -> Iterable[Line]:
    """Everything finished so far, in order."""
    path = folder / _TRIALS
    if not path.is_file():
        return
    for text in path.read_bytes().splitlines():
        try:
            yield _line().validate_json(text)
        except ValidationError:
            continue


def finished(folder: Path) -> datetime:
    """When the last thing was finished, or now."""
    path = folder / _TRIALS
    return datetime.fromtimestamp(path.stat().st_mtime, UTC) if path.is_file() else datetime.now(UTC)


def versions(found: Iterable[Line]) -> dict[StoreName, str]:
    """The servers' versions by store."""
    return {line.key.store: line.version for line in found}

"""Playbooks: a drill as a YAML file, read once into frozen models; errors name file, line and column."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field

from haops.cluster.spec import StoreName
from haops.drills.disaster_result import DisasterBudget
from haops.drills.result import Budget
from haops.drills.yaml_model import Duration, Frozen, milliseconds, read_model
from haops.errors import BadInput
from haops.faults.catalogue import FaultKind
from haops.runtime.resources import playbook_dir

_SUFFIX = ".yaml"


class LoadModel(Frozen):
    """The load, the same for each store but for its rate."""

    clients: int = Field(8, ge=1, le=64)
    processes: int = Field(2, ge=1, le=8)
    writes: float = Field(0.5, gt=0, le=1)
    registers: float = Field(0.0, ge=0, le=1)
    timeout: Duration = timedelta(milliseconds=500)


class PhasesModel(Frozen):
    """How long each part of a trial lasts."""

    warmup: Duration
    steady: Duration
    recover_within: Duration
    detect_within: Duration
    dead: Duration
    rejoin_within: Duration
    after: Duration


class FaultModel(Frozen):
    """What is broken."""

    kind: FaultKind
    target: Literal["primary"]


class StoreModel(Frozen):
    """A store's rate, and what the drill may cost there."""

    rate: int = Field(ge=1, le=100_000)
    write_outage: Duration | None = None
    read_outage: Duration | None = None
    lost: int | None = Field(None, ge=0)
    harness_lag: Duration

    def budget(self) -> Budget:
        """The limits in ms."""
        return Budget(
            write_outage_ms=milliseconds(self.write_outage),
            read_outage_ms=milliseconds(self.read_outage),
            lost=self.lost,
            harness_lag_ms=self.harness_lag.total_seconds() * 1000,
        )


class DisasterPhases(Frozen):
    """How long is written before the backup, and between it and the disaster."""

    warmup: Duration
    before: Duration
    after: Duration


class DisasterStore(Frozen):
    """A store's rate, and what a disaster may cost there."""

    rate: int = Field(ge=1, le=100_000)
    recovery_time: Duration | None = None
    recovery_point: Duration | None = None

    def budget(self) -> DisasterBudget:
        """The limits in seconds."""
        return DisasterBudget(_seconds(self.recovery_time), _seconds(self.recovery_point))


class DisasterBook(Frozen):
    """A drill that destroys a whole cluster and restores it from a backup."""

    kind: Literal["disaster"]
    title: str
    description: str
    load: LoadModel
    phases: DisasterPhases
    stores: Mapping[StoreName, DisasterStore] = Field(min_length=1)


class Playbook(Frozen):
    """A drill."""

    title: str
    description: str
    trials: int = Field(1, ge=1, le=100)
    load: LoadModel
    phases: PhasesModel
    fault: FaultModel
    stores: Mapping[StoreName, StoreModel] = Field(min_length=1)


AnyBook = Playbook | DisasterBook
# Only a disaster has a kind, so a kind that does not exist is told as a wrong value, not as an unknown key.
_KIND = re.compile(r"^kind\s*:", re.MULTILINE)


def _seconds(limit: timedelta | None) -> float | None:
    return None if limit is None else limit.total_seconds()


def names() -> tuple[str, ...]:
    """The playbooks that come with haops, sorted."""
    return tuple(sorted(p.stem for p in playbook_dir().glob(f"*{_SUFFIX}")))


def _path(name: str) -> Path:
    if name.endswith((_SUFFIX, ".yml")) or "/" in name:
        path = Path(name)
        if not path.is_file():
            raise BadInput(f"there is no playbook file {name}", hint="see: haops drill list")
        return path
    if name not in names():
        raise BadInput(f"unknown playbook {name!r}", hint=f"there are: {', '.join(names())}")
    return playbook_dir() / f"{name}{_SUFFIX}"


def source(name: str) -> str:
    """A playbook's own text. Raises BadInput."""
    path = _path(name)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}:1:1: cannot be read: {error}") from error


def find(name: str) -> tuple[str, AnyBook]:
    """A shipped playbook by its name, or any by its path; with the name that results are kept under.

    Raises:
        BadInput: There is none, or it is not a valid playbook; says where.
    """
    path = _path(name)
    return path.stem, read_any(source(name), str(path))


def read_any(text: str, origin: str) -> AnyBook:
    """Parse a playbook of any kind.

    Raises:
        BadInput: Names file, line and column of the first fault, and what is allowed there.
    """
    if not _KIND.search(text):
        return read(text, origin)
    hint = "see a shipped one: haops drill show restore-after-disaster"
    return read_model(text, origin, DisasterBook, what="a playbook", hint=hint)


def read(text: str, origin: str) -> Playbook:
    """Parse a playbook that breaks a node.

    Raises:
        BadInput: Names file, line and column of the first fault, and what is allowed there.
    """
    hint = "see a shipped one: haops drill show kill-primary"
    return read_model(text, origin, Playbook, what="a playbook", hint=hint)

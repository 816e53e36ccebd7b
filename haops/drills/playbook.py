"""Playbooks: a drill as a YAML file, read once into frozen models; errors name file, line and column."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from haops.cluster.spec import StoreName
from haops.drills.result import Budget
from haops.errors import BadInput
from haops.runtime.resources import playbook_dir
from haops.timing import parse_duration

_SUFFIX = ".yaml"


def _duration(value: object) -> timedelta:
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except BadInput as error:
            raise ValueError(f"{error.message}; {error.hint}") from None
    raise ValueError("a duration is text with a unit, such as 300ms or 5s")


Duration = Annotated[timedelta, BeforeValidator(_duration)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LoadModel(_Frozen):
    """The load, the same for each store but for its rate."""

    clients: int = Field(8, ge=1, le=64)
    processes: int = Field(2, ge=1, le=8)
    writes: float = Field(0.5, gt=0, le=1)
    timeout: Duration = timedelta(milliseconds=500)


class PhasesModel(_Frozen):
    """How long each part of a trial lasts."""

    warmup: Duration
    steady: Duration
    recover_within: Duration
    detect_within: Duration
    dead: Duration
    rejoin_within: Duration
    after: Duration


class FaultModel(_Frozen):
    """What is broken."""

    kind: Literal["kill"]
    target: Literal["primary"]


class StoreModel(_Frozen):
    """A store's rate, and what the drill may cost there."""

    rate: int = Field(ge=1, le=100_000)
    write_outage: Duration | None = None
    read_outage: Duration | None = None
    lost: int | None = Field(None, ge=0)
    harness_lag: Duration

    def budget(self) -> Budget:
        """The limits in ms."""
        return Budget(
            write_outage_ms=_ms(self.write_outage),
            read_outage_ms=_ms(self.read_outage),
            lost=self.lost,
            harness_lag_ms=self.harness_lag.total_seconds() * 1000,
        )


def _ms(limit: timedelta | None) -> float | None:
    return None if limit is None else limit.total_seconds() * 1000


class Playbook(_Frozen):
    """A drill."""

    title: str
    description: str
    trials: int = Field(1, ge=1, le=100)
    load: LoadModel
    phases: PhasesModel
    fault: FaultModel
    stores: Mapping[StoreName, StoreModel] = Field(min_length=1)


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


def find(name: str) -> tuple[str, Playbook]:
    """A shipped playbook by its name, or any by its path; with the name that results are kept under.

    Raises:
        BadInput: There is none, or it is not a valid playbook; says where.
    """
    path = _path(name)
    return path.stem, read(source(name), str(path))


def read(text: str, origin: str) -> Playbook:
    """Parse a playbook.

    Raises:
        BadInput: Names file, line and column of the first fault, and what is allowed there.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
        raise BadInput(f"{origin}:{where}: {error.problem}", hint="the file is not valid YAML") from error
    except (yaml.YAMLError, ValueError) as error:
        raise BadInput(f"{origin}:1:1: {error}", hint="the file is not valid YAML") from error
    if root is None or not isinstance(document, dict):
        raise BadInput(
            f"{origin}:1:1: a playbook is a mapping", hint="see a shipped one: haops drill show kill-primary"
        )
    try:
        return Playbook.model_validate(document)
    except ValidationError as error:
        raise _placed(error, root, origin) from error


def _placed(error: ValidationError, root: yaml.Node, origin: str) -> BadInput:
    # A mistyped key also makes the right one missing: tell of the key that is there.
    first = min(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    line, column = _mark(root, first["loc"])
    path = ".".join(str(part) for part in first["loc"] if part != "[key]")
    message = first["msg"].removeprefix("Value error, ")
    hint = None
    if first["type"] == "extra_forbidden":
        message = "unknown key"
        hint = f"allowed: {', '.join(_siblings(first['loc']))}"
    more = error.error_count() - 1
    rest = f" (and {more} more)" if more else ""
    return BadInput(f"{origin}:{line}:{column}: {path}: {message}{rest}", hint=hint)


def _mark(node: yaml.Node, location: tuple[Any, ...]) -> tuple[int, int]:
    """The place of the deepest part of `location` that the file has."""
    mark = node.start_mark
    for part in location:
        if not isinstance(node, yaml.MappingNode):
            break
        entry = next(((k, v) for k, v in node.value if k.value == str(part)), None)
        if entry is None:
            break
        mark, node = entry[0].start_mark, entry[1]
    return mark.line + 1, mark.column + 1


def _siblings(location: tuple[Any, ...]) -> list[str]:
    models: dict[Any, type[BaseModel]] = {
        "load": LoadModel,
        "phases": PhasesModel,
        "fault": FaultModel,
        "stores": StoreModel,
    }
    model = models.get(location[0], Playbook) if len(location) > 1 else Playbook
    return list(model.model_fields)

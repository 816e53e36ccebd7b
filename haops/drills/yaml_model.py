"""YAML files as frozen models; errors name file, line and column, and what is allowed there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from haops.errors import BadInput
from haops.timing import parse_duration

Model = TypeVar("Model", bound=BaseModel)


def _duration(value: object) -> timedelta:
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except BadInput as error:
            raise ValueError(f"{error.message}; {error.hint}") from None
    raise ValueError("a duration is text with a unit, such as 300ms or 5s")


Duration = Annotated[timedelta, BeforeValidator(_duration)]


class Frozen(BaseModel):
    """A part of a file: unchanging, and without keys that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def milliseconds(limit: timedelta | None) -> float | None:
    """A limit in ms; none stays none."""
    return None if limit is None else limit.total_seconds() * 1000


def read_model(text: str, origin: str, model: type[Model], *, what: str, hint: str) -> Model:
    """Parse a file.

    Args:
        text: Its content.
        origin: Its name, for errors.
        what: What it is, such as "a playbook".
        hint: Where a good one is to be had.

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
        raise BadInput(f"{origin}:1:1: {what} is a mapping", hint=hint)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise _placed(error, root, origin, model) from error


def _placed(error: ValidationError, root: yaml.Node, origin: str, model: type[BaseModel]) -> BadInput:
    # A mistyped key also makes the right one missing: tell of the key that is there.
    first = min(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    line, column = _mark(root, first["loc"])
    path = ".".join(str(part) for part in first["loc"] if part != "[key]")
    message = first["msg"].removeprefix("Value error, ")
    hint = None
    if first["type"] == "extra_forbidden":
        message = "unknown key"
        hint = f"allowed: {', '.join(_allowed(model, first['loc']))}"
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


def _allowed(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """The keys beside the last part of `location`."""
    for part in location[:-1]:
        # What is no field is a mapping's key: its value is of the model that the field named.
        if field := model.model_fields.get(str(part)):
            model = next(_models(field.annotation), model)
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a field's type, such as that of a mapping's values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)

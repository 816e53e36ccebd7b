"""A result as a JSON file of a known version: read strictly, with the line of what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from haops.errors import BadInput

Result = TypeVar("Result")

_SPACE = re.compile(r"[ \t\r\n]*")
# A line break never stands raw in a JSON string, so `[` + line break is always an array's begin.
_NUMBERS = re.compile(r'\[\n\s+([^\[\]{}"]+?)\n\s+\]')
_MAX_PROBLEMS = 5


@dataclass(frozen=True, slots=True)
class JsonFile(Generic[Result]):
    """One kind of file.

    Args:
        kind: The dataclass that it holds.
        version: The one that this haops writes and reads.
        what: What it is, such as "a drill's result".
        hint: Which file is wanted.
        mark: A key without which it is something else.
    """

    kind: type[Result]
    version: int
    what: str
    hint: str
    mark: str = "version"

    def dump(self, result: Result) -> str:
        """The file's text, each array of numbers on one line.

        Raises:
            ValueError: A figure is not a finite number, which is a bug of whoever measured it.
        """
        plain = TypeAdapter(self.kind).dump_python(result, mode="json")
        text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
        return _NUMBERS.sub(lambda match: "[" + " ".join(match[1].split()) + "]", text) + "\n"

    def load(self, text: str, origin: str) -> Result:
        """Read a file.

        Args:
            text: Its content.
            origin: Its name, for error messages.

        Raises:
            BadInput: It is no JSON, of another version, or something else.
        """
        try:
            plain = json.loads(text)
        except json.JSONDecodeError as error:
            raise BadInput(f"{origin}:{error.lineno}: not JSON: {error.msg}", hint=self.hint) from None
        except RecursionError:
            raise BadInput(f"{origin}:1: not {self.what}: nested too deeply", hint=self.hint) from None
        self._check_version(plain, text, origin)
        try:
            return TypeAdapter(self.kind).validate_json(text, strict=True)
        except ValidationError as error:
            problems = [
                f"{origin}:{line_of(text, e['loc'])}: {'.'.join(str(part) for part in e['loc'])}: {e['msg']}"
                for e in error.errors(include_url=False)
            ]
        shown = problems[:_MAX_PROBLEMS]
        if len(problems) > len(shown):
            shown.append(f"and {len(problems) - len(shown)} more")
        raise BadInput(shown[0], detail="\n".join(shown[1:]) or None, hint=self.hint)

    def _check_version(self, plain: object, text: str, origin: str) -> None:
        if not isinstance(plain, dict):
            raise BadInput(f"{origin}:1: not {self.what}: no JSON object", hint=self.hint)
        if self.mark not in plain and self.mark != "version":
            raise BadInput(f"{origin}:1: not {self.what}: no {self.mark}", hint=self.hint)
        version = plain.get("version")
        if version == self.version and not isinstance(version, bool):
            return
        where = f"{origin}:{line_of(text, ['version'])}"
        if isinstance(version, int) and version > self.version:
            raise BadInput(
                f"{where}: version {version} of {self.what} is newer than this haops, which reads {self.version}",
                hint="use the haops that wrote it, or a later one",
            )
        raise BadInput(f"{where}: version is {version!r}, expected {self.version}", hint=self.hint)


def line_of(text: str, path: Sequence[str | int]) -> int:
    """The line, from 1, of the value at `path` in valid JSON; of its nearest parent where it is missing."""
    at = _skip(text, 0)
    for part in path:
        child = _child(text, at, part)
        if child is None:
            break
        at = child
    return text.count("\n", 0, at) + 1


def _child(text: str, at: int, part: str | int) -> int | None:
    """Where the member `part` of the object or array at `at` begins."""
    if text[at] not in "{[":
        return None
    decoder, is_object, index = json.JSONDecoder(), text[at] == "{", 0
    at = _skip(text, at + 1)
    while text[at] not in "}]":
        key: str | int = index
        if is_object:
            key, at = decoder.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)
        if key == part:
            return at
        at = _skip(text, decoder.raw_decode(text, at)[1])
        if text[at] == ",":
            at = _skip(text, at + 1)
        index += 1
    return None


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at

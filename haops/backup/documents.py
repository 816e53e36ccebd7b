"""The JSON objects of a repository: versioned, and sealed by a checksum over all they say.

A document is written in one canonical form (sorted keys, no spaces) and must be found in it, so that
any changed byte is detected. Its member `blake3` is the digest of the canonical form without it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from blake3 import blake3
from pydantic import TypeAdapter, ValidationError

from haops.errors import BadInput, HaopsError

FORMAT: Final = 1

Model = TypeVar("Model")


class Damaged(HaopsError):
    """An object of a repository is not what was written."""


class TooNew(BadInput):
    """A newer haops wrote this; nothing of it is touched."""


def dump(model: object) -> bytes:
    """A dataclass as a document."""
    body: dict[str, Any] = _adapter(type(model)).dump_python(model, mode="json")
    body["format"] = FORMAT
    return _canonical(body | {"blake3": blake3(_canonical(body)).hexdigest()})


def load(kind: type[Model], raw: bytes, what: str) -> Model:
    """The dataclass that a document holds; `what` names it in errors.

    Raises:
        TooNew: Its format is newer than this haops.
        Damaged: It cannot be read, or is not what was written.
    """
    body = _checked(raw, what)
    try:
        found: Model = _adapter(kind).validate_python(body, strict=False)
    except ValidationError as error:
        raise Damaged(f"{what} is damaged", detail=str(error)) from error
    return found


# Making one takes 10 ms, and a backup of many parts writes a document for each.
_ADAPTERS: Final[dict[type, TypeAdapter[Any]]] = {}


def _adapter(kind: type) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def _checked(raw: bytes, what: str) -> Mapping[str, Any]:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{what} is damaged", detail=f"not JSON: {error}") from error
    if not isinstance(body, dict):
        raise Damaged(f"{what} is damaged", detail="not a document of haops")
    digest = body.pop("blake3", None)
    # A newer format may be sealed in another way; but what is sealed in ours and wrong is damaged.
    sealed = digest == blake3(_canonical(body)).hexdigest()
    sealed = sealed and _canonical(body | {"blake3": digest}) == raw
    version = body.pop("format", None)
    if isinstance(version, int) and version > FORMAT:
        raise TooNew(
            f"{what} was made by a newer haops", detail=f"format {version}; this haops knows {FORMAT}",
            hint="use a newer haops; nothing was touched",
        )  # fmt: skip
    if not sealed or version != FORMAT:
        raise Damaged(f"{what} is damaged", detail="its checksum does not fit what it says")
    return body


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")

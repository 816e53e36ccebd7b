"""`result.json`: a drill's result as JSON text, and back.

The keys are the field names of `DrillResult` and its parts, in the order in
which `haops/drills/result.py` declares them:

- the run: version, run, playbook, title, description, started, finished, haops,
  seed, rate, interrupted, verdict, stores (by store name, in the order of the run);
- a store: store, cluster, mode, version, nodes, verdict, reasons, budget,
  write_outage_ms, read_outage_ms (each median, low, high), lost, acked, trials;
- a budget: write_outage_ms, read_outage_ms, lost, harness_lag_ms;
- a trial: number, node, verdict, reasons, the figures (`*_ms` in ms, `*_ops` a
  second, counts), lost_ids, phases, events, timeline, errors (by class, sorted);
- a phase: name, start_s, end_s, write, read (each count, p50_ms, p99_ms, p999_ms);
- an event: at_s, kind, node, source, text;
- a timeline: bucket_s, ok_writes, ok_reads, failed, p99_ms.

Times are ISO 8601 in UTC, verdicts and stores their lower-case names, a figure
that does not exist is null.  Unknown keys are ignored, so that a later haops
may add some without a new version.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from haops.drills.result import RESULT_VERSION, DrillResult, StoreResult, Trial
from haops.errors import BadInput
from haops.report.text import as_utc

_SPACE = re.compile(r"[ \t\r\n]*")
# A line break never stands raw in a JSON string, so `[` + line break is always an array's begin.
_NUMBERS = re.compile(r'\[\n\s+([^\[\]{}"]+?)\n\s+\]')
_MAX_PROBLEMS = 5


def dump(result: DrillResult) -> str:
    """The text of `result.json`; the same result always gives the same text.

    Raises:
        ValueError: A figure is not a finite number, which is a bug of whoever measured it.
    """
    plain = _adapter().dump_python(_ordered(result), mode="json")
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    return _NUMBERS.sub(lambda match: "[" + " ".join(match[1].split()) + "]", text) + "\n"


def load(text: str, origin: str) -> DrillResult:
    """Read what `dump` wrote.

    Args:
        text: The file's content.
        origin: Its name, for error messages.

    Raises:
        BadInput: It is no JSON, of another version, or not a drill's result.
    """
    try:
        plain = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(f"{origin}:{error.lineno}: not JSON: {error.msg}", hint=_HINT) from None
    except RecursionError:
        raise BadInput(f"{origin}:1: not a drill's result: nested too deeply", hint=_HINT) from None
    _check_version(plain, text, origin)
    try:
        return _adapter().validate_json(text, strict=True)
    except ValidationError as error:
        problems = [_problem(e, text, origin) for e in error.errors(include_url=False)]
    shown = problems[:_MAX_PROBLEMS]
    if len(problems) > len(shown):
        shown.append(f"and {len(problems) - len(shown)} more")
    raise BadInput(shown[0], detail="\n".join(shown[1:]) or None, hint=_HINT)


_HINT = "give the result.json of a run, as `haops drill` wrote it"


@cache
def _adapter() -> TypeAdapter[DrillResult]:
    return TypeAdapter(DrillResult)


def _ordered(result: DrillResult) -> DrillResult:
    stores = {name: _ordered_store(store) for name, store in result.stores.items()}
    return replace(result, started=as_utc(result.started), finished=as_utc(result.finished), stores=stores)


def _ordered_store(store: StoreResult) -> StoreResult:
    def sort(trial: Trial) -> Trial:
        return replace(trial, errors=dict(sorted(trial.errors.items())))

    return replace(store, trials=tuple(sort(t) for t in store.trials))


def _check_version(plain: object, text: str, origin: str) -> None:
    if not isinstance(plain, dict):
        raise BadInput(f"{origin}:1: not a drill's result: no JSON object", hint=_HINT)
    version = plain.get("version")
    if version == RESULT_VERSION and not isinstance(version, bool):
        return
    where = f"{origin}:{line_of(text, ['version'])}"
    if isinstance(version, int) and version > RESULT_VERSION:
        raise BadInput(
            f"{where}: version {version} of the result is newer than this haops, which reads {RESULT_VERSION}",
            hint="use the haops that wrote it, or a later one",
        )
    raise BadInput(f"{where}: version is {version!r}, expected {RESULT_VERSION}", hint=_HINT)


def _problem(error: ErrorDetails, text: str, origin: str) -> str:
    path = ".".join(str(part) for part in error["loc"])
    return f"{origin}:{line_of(text, error['loc'])}: {path}: {error['msg']}"


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

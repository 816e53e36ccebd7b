"""Histories as JSON lines and as CSV: a row an operation, the columns of `History` by their names.

Kind and outcome are words, times ns. Nothing is null in JSON and an empty field in CSV. What a LIST
found stands in `items`: an array in JSON, numbers with spaces between them in CSV.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from haops.history.formats.text import bad, lines
from haops.history.record import COLUMNS, NIL, History, Kind, Outcome
from haops.history.rows import KIND_WORDS, KINDS, OUTCOME_WORDS, OUTCOMES, Rows, listing

HEADER: Final = (*COLUMNS, "items")
_REQUIRED: Final = ("process", "kind", "key", "sent", "completed", "outcome")
_COLUMNS_HINT: Final = f"columns: {', '.join(HEADER)}; needed: {', '.join(_REQUIRED)}"
_NUMBER: Final = re.compile(r"-?[0-9]+")
_BITS: Final = {"process": 31}

# Where a column stands in the line that is read, from 1.
_Place = Callable[[str], int]
_Word = TypeVar("_Word", Kind, Outcome)


def jsonl_lines(histories: Iterator[History]) -> Iterator[str]:
    """Histories as JSON lines, one object an operation."""
    for history in histories:
        nodes, errors = ([json.dumps(name) for name in names] for names in (history.nodes, history.errors))
        for p, kind, key, value, expected, i, s, c, outcome, node, error, items in _rows(history, "null"):
            # Put together by hand: ten times as fast as json.dumps of a dict.
            found = "" if items is None else f', "items": [{", ".join(map(str, items))}]'
            yield (
                f'{{"process": {p}, "kind": "{KIND_WORDS[kind]}", "key": {key}, "value": {value}, '
                f'"expected": {expected}, "intended": {i}, "sent": {s}, "completed": {c}, '
                f'"outcome": "{OUTCOME_WORDS[outcome]}", "node": {nodes[node]}, "error": {errors[error]}{found}}}\n'
            )


def csv_lines(histories: Iterator[History]) -> Iterator[str]:
    """Histories as lines of CSV under one header."""
    yield f"{','.join(HEADER)}\n"
    for history in histories:
        nodes, errors = ([_quoted(name) for name in names] for names in (history.nodes, history.errors))
        for p, kind, key, value, expected, i, s, c, outcome, node, error, items in _rows(history, ""):
            found = "" if items is None else " ".join(map(str, items))
            yield (
                f"{p},{KIND_WORDS[kind]},{key},{value},{expected},{i},{s},{c},"
                f"{OUTCOME_WORDS[outcome]},{nodes[node]},{errors[error]},{found}\n"
            )


def _quoted(word: str) -> str:
    """A field of CSV. csv.writer of 3.11 leaves a lone carriage return unquoted, and so unreadable."""
    if any(c in word for c in ',"\r\n'):
        return '"' + word.replace('"', '""') + '"'
    return word


def _rows(history: History, nothing: str) -> Iterator[tuple[Any, ...]]:
    """Rows as Python's numbers, `nothing` for NIL; the last element is what a LIST found, or None."""
    columns = {name: getattr(history, name).tolist() for name in COLUMNS}
    for name in ("value", "expected"):
        columns[name] = [nothing if number == NIL else number for number in columns[name]]
    items: Iterator[list[int] | None] = itertools.repeat(None, len(history))
    is_list = history.kind == Kind.LIST
    if is_list.any():
        found = [listing(history, row) for row in range(len(history))]
        items = iter([None if f is None else f.tolist() for f in found])
        columns["value"] = [
            nothing if of else v for v, of in zip(columns["value"], is_list.tolist(), strict=True)
        ]
    return zip(*columns.values(), items, strict=True)


def read_jsonl(path: Path) -> History:
    """Read JSON lines.

    Raises:
        BadInput: A line is no operation; says where and what is allowed.
    """
    intake = _Intake(path)
    for number, line in lines(path, closed=False):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise bad(path, number, error.colno, error.msg, "a line is one JSON object") from error
        except (RecursionError, ValueError) as error:  # nested a thousand deep, a number of 5,000 digits
            raise bad(path, number, 1, str(error), "a line is one JSON object") from error
        if not isinstance(row, dict):
            raise bad(path, number, 1, "not a JSON object", _COLUMNS_HINT)

        def place(name: str, line: str = line) -> int:
            return max(line.find(f'"{name}"'), 0) + 1

        if unknown := sorted(row.keys() - set(HEADER)):
            raise bad(path, number, place(unknown[0]), f"unknown column {unknown[0]!r}", _COLUMNS_HINT)
        intake.add(number, row, place)
    return intake.rows.history()


def read_csv(path: Path) -> History:
    """Read CSV with a header; the order of the columns does not matter.

    Raises:
        BadInput: The header or a row is not of this shape; says where and what is allowed.
    """
    # For the whole process, as the module has it; a LIST's items can be long.
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader((line for _, line in lines(path, closed=True)), strict=True)
    intake = _Intake(path)
    number = 1
    try:
        header = next(reader, [])
        _check_header(path, header)
        number = reader.line_num + 1
        for fields in reader:
            if len(fields) != len(header):
                what = f"{len(fields)} fields where the header has {len(header)}"
                raise bad(path, number, 1, what, f"columns: {', '.join(header)}")

            def place(name: str, fields: list[str] = fields) -> int:
                at = header.index(name) if name in header else 0
                return len(",".join(map(_quoted, fields[:at]))) + (at > 0) + 1

            intake.add(number, _typed(dict(zip(header, fields, strict=True))), place)
            number = reader.line_num + 1
    except csv.Error as error:
        raise bad(path, number, 1, f"not CSV: {error}", "quote with double quotes") from error
    return intake.rows.history()


def _check_header(path: Path, header: list[str]) -> None:
    column = 1
    for place, name in enumerate(header):
        if name not in HEADER or name in header[:place]:
            raise bad(path, 1, column, f"{name!r} cannot be a column's name here", _COLUMNS_HINT)
        column += len(name) + 1
    if missing := [name for name in _REQUIRED if name not in header]:
        raise bad(path, 1, column, f"the header lacks {', '.join(missing)}", _COLUMNS_HINT)


def _typed(fields: Mapping[str, str]) -> dict[str, Any]:
    """A CSV's fields as JSON would have them; what is no number stays text, and is found out later."""
    row: dict[str, Any] = {}
    for name, text in fields.items():
        if name in ("kind", "outcome", "node", "error"):
            row[name] = text
        elif name == "items":
            row[name] = [_number(word) for word in text.split(" ")] if text else None
        else:
            row[name] = _number(text) if text else None
    return row


def _number(text: str) -> int | str:
    # A number of 64 bits has 20 characters; int() of a million would take long.
    return int(text) if len(text) <= 20 and _NUMBER.fullmatch(text) else text


class _Intake:
    """Checks rows and keeps them."""

    def __init__(self, path: Path) -> None:
        self.rows = Rows()
        self._path = path

    def add(self, line: int, row: Mapping[str, Any], place: _Place) -> None:
        """Keep one operation."""

        def number(name: str, default: int | None = None) -> int:
            found = row.get(name)
            if found is None and default is not None:
                return default
            return self._integer(line, place(name), name, found)

        kind = self._word(line, place, row, "kind", KINDS)
        outcome = self._word(line, place, row, "outcome", OUTCOMES)
        sent = number("sent")
        items = row.get("items")
        if items is not None:
            items = self._items(line, place("items"), kind, items)
        try:
            self.rows.add(
                number("process"),
                kind,
                number("key"),
                number("value", NIL),
                number("expected", NIL),
                number("intended", sent),
                sent,
                number("completed"),
                outcome,
                self._text(line, place, row, "node"),
                self._text(line, place, row, "error"),
                items=items,
            )
        except OverflowError as error:
            what = "more than 32,767 different nodes or errors"
            raise bad(self._path, line, 1, what, "give classes of errors, not their whole words") from error

    def _integer(self, line: int, column: int, name: str, found: object) -> int:
        bits = _BITS.get(name, 63)
        if isinstance(found, int) and not isinstance(found, bool) and -(1 << bits) <= found < 1 << bits:
            return found
        shown = "missing" if found is None else f"{str(found)[:40]!r}"
        raise bad(self._path, line, column, f"{name} is {shown}", f"an integer of {bits + 1} bits is allowed")

    def _items(self, line: int, column: int, kind: Kind, items: object) -> list[int]:
        if kind is not Kind.LIST:
            raise bad(self._path, line, column, f"a {kind.name.lower()} has no items", "only a list has them")
        if not isinstance(items, list):
            raise bad(self._path, line, column, "items is no array", "an array of integers is allowed")
        return [self._integer(line, column, "items", item) for item in items]

    def _word(
        self, line: int, place: _Place, row: Mapping[str, Any], name: str, known: Mapping[str, _Word]
    ) -> _Word:
        found = row.get(name)
        if isinstance(found, str) and found in known:
            return known[found]
        what = f"{name} is {found!r}" if found is not None else f"{name} is missing"
        raise bad(self._path, line, place(name), what, f"one of: {', '.join(known)}")

    def _text(self, line: int, place: _Place, row: Mapping[str, Any], name: str) -> str:
        found = row.get(name)
        if found is None or isinstance(found, str):
            return found or ""
        raise bad(self._path, line, place(name), f"{name} is {found!r}", "a string is allowed")

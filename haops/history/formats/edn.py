"""A reader for the part of EDN that histories are written in, one top-level form after the other.

Maps, vectors, lists, sets, keywords, integers, nil, booleans, strings, comments and `#_`. A tag, as in
`#jepsen.history.Op{...}`, is passed over for the form behind it. Everything else that EDN has (floats,
characters, symbols) is kept as its own text. Of a map only what has a keyword for a key is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from haops.history.formats.text import bad, lines

_TOKEN: Final = re.compile(
    r"""
    (?P<skip> [\s,]+ | ;[^\n]* )
  | (?P<open> \#?\{ | [\[(] )
  | (?P<close> [\])}] )
  | (?P<string> "(?:[^"\\]|\\.)*" )
  | (?P<discard> \#_ )
  | (?P<tag> \#[^\s,;"\[\](){}]+ )
  | (?P<other> \\(?:\w+|.) )
  | (?P<atom> [^\s,;"\[\](){}\\#][^\s,;"\[\](){}\\]* )
    """,
    re.VERBOSE | re.DOTALL,
)
_CLOSERS: Final = {"{": "}", "#{": "}", "[": "]", "(": ")"}
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}N?")
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", '"': '"', "\\": "\\"}
_DEEPEST: Final = 50
# A string that runs on for longer has lost its end; it is told near where it began.
_STRING_LINES: Final = 1000
_HINT: Final = "EDN is wanted: maps such as {:type :invoke, :process 0, :f :read, :value nil}"

# Kind, text, line, column.
_Token = tuple[str, str, int, int]


class Keyword(str):
    """A keyword, without its colon."""

    __slots__ = ()


class Other(str):
    """What this reader does not interpret, as it stands."""

    __slots__ = ()


class Vector(tuple[Any, ...]):
    """What stands in square brackets."""

    __slots__ = ()


class Bag(tuple[Any, ...]):
    """A list or a set."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Map:
    """A map: values by keyword, and where these stand.

    Args:
        line: Where the map begins, as `column`.
        fields: Values by keyword, without the colon.
        places: Line and column of each value.
    """

    line: int
    column: int
    fields: dict[str, Any]
    places: dict[str, tuple[int, int]]


def forms(path: Path) -> Iterator[Map]:
    """The maps of a file, at its top or in one vector or list around them.

    Raises:
        BadInput: The text is no EDN, ends within a form, or has something else than maps.
    """
    reader = _Reader(path)
    around = ""
    for token in reader.tokens:
        kind, text, line, column = token
        if kind == "discard":
            reader.form(reader.next(token), 0)
        elif kind == "open" and text in ("[", "(") and not around:
            around = text
        elif kind == "close" and text == _CLOSERS.get(around):
            around = ""
        else:
            form = reader.form(token, 0)
            if not isinstance(form, Map):
                raise bad(path, line, column, "not a map", _HINT)
            yield form
    if around:
        reader.fail(reader.last, f"the file ends before the {around} is closed")


def parse(text: str) -> Any:
    """The first form of a text; None, as for nil, if it cannot be read."""
    from haops.errors import BadInput

    try:
        reader = _Reader(Path(), iter([(1, text)]))
        return reader.form(next(reader.tokens), 0)
    except (BadInput, StopIteration):
        return None


def shown(form: Any) -> str:
    """A form as a short text: a keyword or a string by its bare words."""
    if isinstance(form, str):
        return str(form)
    return _text(form)


def _text(form: Any) -> str:
    if form is None or isinstance(form, bool):
        return {None: "nil", True: "true", False: "false"}[form]
    if isinstance(form, Vector):
        return f"[{' '.join(map(_text, form))}]"
    if isinstance(form, Bag):
        return f"({' '.join(map(_text, form))})"
    if isinstance(form, Map):
        return "{" + ", ".join(f":{name} {_text(value)}" for name, value in form.fields.items()) + "}"
    if isinstance(form, Keyword):
        return f":{form}"
    return quoted(form) if isinstance(form, str) and not isinstance(form, Other) else str(form)


def quoted(text: str) -> str:
    """A string as EDN has it."""
    back = {character: escape for escape, character in _ESCAPED.items()}
    return '"' + "".join(f"\\{back[c]}" if c in back else c for c in text) + '"'


class _Reader:
    """Tokens and forms of one file."""

    def __init__(self, path: Path, source: Iterator[tuple[int, str]] | None = None) -> None:
        self.path = path
        self.last: _Token = ("", "", 1, 1)
        self._lines = lines(path, closed=False) if source is None else source
        self.tokens = self._tokens()

    def fail(self, token: _Token, what: str) -> NoReturn:
        raise bad(self.path, token[2], token[3], what, _HINT)

    def _tokens(self) -> Iterator[_Token]:
        for first, text in self._lines:
            # `base` is where the line `number` begins in `text`, which a string may have lengthened.
            number, at, base = first, 0, 0
            while at < len(text):
                match = _TOKEN.match(text, at)
                if match is None:
                    text = self._lengthened(text, at, (number, at - base + 1))
                    continue
                token = (str(match.lastgroup), match[0], number, at - base + 1)
                at = match.end()
                if token[0] == "skip":
                    continue
                self.last = token
                yield token
                if token[0] == "string" and (breaks := token[1].count("\n")):
                    number += breaks
                    base = text.rindex("\n", 0, at) + 1

    def _lengthened(self, text: str, at: int, place: tuple[int, int]) -> str:
        """The text with the next line, for a string that goes on there."""
        start = ("", "", *place)
        if text[at] != '"':
            self.fail(start, f"{text[at : at + 10].strip()!r} is no form")
        number, more = next(self._lines, (0, ""))
        if not more or number - place[0] > _STRING_LINES:
            self.fail(start, "a string that is not closed")
        return text + more

    def next(self, before: _Token) -> _Token:
        """The next token; there must be one."""
        token = next(self.tokens, None)
        if token is None:
            self.fail(before, f"the file ends after {before[1]!r}, within a form")
        return token

    def form(self, token: _Token, depth: int) -> Any:
        """The form that begins with a token."""
        kind, text, _, _ = token
        if depth > _DEEPEST:
            self.fail(token, f"nested deeper than {_DEEPEST}")
        if kind == "tag":
            return self.form(self.next(token), depth + 1)
        if kind == "open":
            return self._collection(token, depth)
        if kind == "close":
            self.fail(token, f"{text} closes nothing")
        if kind == "discard":
            self.form(self.next(token), depth + 1)
            return self.form(self.next(token), depth + 1)
        if kind == "string":
            return _ESCAPE.sub(_unescaped, text[1:-1])
        return Other(text) if kind == "other" else _atom(text)

    def _collection(self, opened: _Token, depth: int) -> Any:
        elements: list[Any] = []
        places: list[tuple[int, int]] = []
        closer = _CLOSERS[opened[1]]
        while (token := self.next(opened))[0] != "close":
            if token[0] == "discard":
                self.form(self.next(token), depth + 1)
                continue
            elements.append(self.form(token, depth + 1))
            places.append(token[2:])
        if token[1] != closer:
            self.fail(token, f"{token[1]} where {closer} is to close the {opened[1]} of line {opened[2]}")
        if opened[1] != "{":
            return Vector(elements) if opened[1] == "[" else Bag(elements)
        if len(elements) % 2:
            self.fail(token, "a map with a key that has no value")
        keys = [(n, k) for n, k in enumerate(elements[::2]) if isinstance(k, Keyword)]
        fields = {str(key): elements[2 * n + 1] for n, key in keys}
        return Map(opened[2], opened[3], fields, {str(key): places[2 * n + 1] for n, key in keys})


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code[1:], 16)) if len(code) == 5 else _ESCAPED.get(code, code)


def _atom(text: str) -> Any:
    if text in ("nil", "true", "false"):
        return {"nil": None, "true": True, "false": False}[text]
    if text.startswith(":") and len(text) > 1:
        return Keyword(text[1:])
    return int(text.rstrip("N")) if _INTEGER.fullmatch(text) else Other(text)

"""Reading what Jepsen leaves: `history.edn`, and the text log of its older tests."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from haops.history.formats.edn import Keyword, Map, forms, parse, shown
from haops.history.formats.pairing import FUNCTIONS, Event, Pairing, choices, interpret
from haops.history.formats.text import bad, lines
from haops.history.record import NIL, History, Kind, Outcome
from haops.history.rows import OUTCOMES

_TYPES: Final = ("invoke", *OUTCOMES)
_VALUES: Final = {
    Kind.CAS: "[OLD NEW] or [KEY [OLD NEW]]",
    Kind.READ: "nil, an integer, [KEY VALUE], or integers as a set or list",
}
_ENTRY: Final = re.compile(
    r"jepsen\.util - (?P<process>[^\t]+)\t:(?P<type>[^\t]+)\t:(?P<f>[^\t]+)\t(?P<value>[^\t\r\n]*)"
)
_REGISTER: Final = ("read", "write", "cas")


def read_edn(path: Path) -> History:
    """Read a history of invocations and completions.

    Values may be `[key value]` or plain, then of the key 0. An invocation without
    completion is INFO. Without `:time` the order counts, as ns. What the nemesis
    did is passed over.

    Raises:
        BadInput: A form is no event of an operation; says where and what is allowed.
    """
    pairing = Pairing(str(path))
    timed: bool | None = None
    for number, form in enumerate(forms(path)):
        if isinstance(form.fields.get("process"), Keyword):
            continue  # :nemesis
        if timed is None:
            timed = "time" in form.fields
        event, word = _event(path, form, None if timed else number)
        if word == "invoke":
            pairing.begin(event)
        else:
            pairing.end(event, OUTCOMES[word])
    return pairing.history()


def _event(path: Path, form: Map, order: int | None) -> tuple[Event, str]:
    word = _keyword(path, form, "type", _TYPES)
    kind = FUNCTIONS[_keyword(path, form, "f", tuple(FUNCTIONS))]
    process = _number(path, form, "process", 0, 2**31 - 1)
    at = _number(path, form, "time", NIL + 1, 2**63 - 2) if order is None else order
    value = form.fields.get("value")
    said = interpret(kind, value)
    # What a failed or unknown operation carries may be anything.
    if said is None and word in ("invoke", "ok"):
        line, column = _place(form, "value")
        allowed = _VALUES.get(kind, "an integer or [KEY VALUE]")
        raise bad(path, line, column, f":value of a {kind.name.lower()} is {shown(value)[:60]!r}", allowed)
    node, error = (_words(form, name) for name in ("node", "error"))
    return Event(process, kind, at, said, node, error, form.line, form.column), word


def _place(form: Map, name: str) -> tuple[int, int]:
    return form.places.get(name, (form.line, form.column))


def _words(form: Map, name: str) -> str:
    found = form.fields.get(name)
    return "" if found is None else shown(found)


def _keyword(path: Path, form: Map, name: str, known: tuple[str, ...]) -> str:
    found = form.fields.get(name)
    if isinstance(found, Keyword) and found in known:
        return str(found)
    what = f":{name} is missing" if found is None else f":{name} is {shown(found)[:60]!r}"
    raise bad(path, *_place(form, name), what, choices(known))


def _number(path: Path, form: Map, name: str, least: int, most: int) -> int:
    found: Any = form.fields.get(name)
    if isinstance(found, int) and not isinstance(found, bool) and least <= found <= most:
        return found
    what = f":{name} is missing" if found is None else f":{name} is {shown(found)[:60]!r}"
    raise bad(path, *_place(form, name), what, f"an integer from {least} to {most} is allowed")


def read_log(path: Path) -> History:
    """Read the text log of Jepsen's tests of a register, such as etcd's.

    Lines without an operation are passed over. There are no times, so numbers of
    lines stand for ns. A read without `:ok` failed and tells nothing; a write
    without `:ok` and a CAS without `:ok` or `:fail` are INFO to the end.

    Raises:
        BadInput: There is no operation, or one that cannot be; says where and what is allowed.
    """
    pairing = Pairing(str(path))
    line = entries = 0
    for line, text in lines(path, closed=True):
        entry = _ENTRY.search(text)
        if entry is None or entry["process"].startswith(":"):
            continue
        entries += 1
        event, word = _logged(path, line, entry)
        if word == "invoke":
            pairing.begin(event)
        elif _certain(event.kind, word):
            pairing.end(event, OUTCOMES[word])
        elif event.kind is Kind.READ:
            pairing.end(event, Outcome.FAIL)
        else:
            pairing.doubt(event)
    if not entries:
        hint = "lines such as: INFO  jepsen.util - 0<tab>:invoke<tab>:read<tab>nil"
        raise bad(path, max(line, 1), 1, "no operation of a Jepsen log", hint)
    return pairing.history()


def _certain(kind: Kind, word: str) -> bool:
    return word == "ok" or (kind is Kind.CAS and word == "fail")


def _logged(path: Path, line: int, entry: re.Match[str]) -> tuple[Event, str]:
    def known(name: str, words: tuple[str, ...]) -> str:
        if entry[name] not in words:
            raise bad(path, line, entry.start(name), f":{entry[name]} is unknown", choices(words))
        return entry[name]

    word, kind = known("type", _TYPES), FUNCTIONS[known("f", _REGISTER)]
    process = entry["process"]
    if not re.fullmatch(r"[0-9]{1,9}", process):
        raise bad(path, line, entry.start("process") + 1, f"process {process!r}", "a number is allowed")
    form = parse(entry["value"])
    said = interpret(kind, form)
    if entry["value"] != "nil" and form is None:
        said = None
    if said is None and word in ("invoke", "ok"):
        what = f"the value of a {kind.name.lower()} is {entry['value'][:60]!r}"
        allowed = "nil or an integer" if kind is not Kind.CAS else "[OLD NEW]"
        raise bad(path, line, entry.start("value") + 1, what, allowed)
    error = "" if word in ("invoke", "ok") or said is not None else entry["value"].removeprefix(":")
    return Event(int(process), kind, line, said, "", error, line, entry.start("process") + 1), word

"""From invocations and completions, as Jepsen keeps them, to operations."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from haops.errors import BadInput
from haops.history.formats.edn import Bag, Vector
from haops.history.record import NIL, History, Kind, Outcome
from haops.history.rows import Rows

FUNCTIONS: Final = {k.name.lower(): k for k in Kind if k is not Kind.LIST}
_ASKING: Final = (Kind.READ, Kind.ACQUIRE, Kind.LIST)


@dataclass(frozen=True, slots=True)
class Said:
    """What the value of an event says.

    Args:
        key: The key; 0 where none is named.
        value: The value; NIL is nothing.
        expected: What a CAS wants to find.
        items: What a read of a whole set found.
        keyed: Whether a key is named.
    """

    key: int = 0
    value: int = NIL
    expected: int = NIL
    items: tuple[int, ...] | None = None
    keyed: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """A beginning or an end.

    Args:
        process: Who.
        kind: What it asked for; a LIST is a READ here.
        at: When, ns.
        said: Its value; None if that is of no use, such as an exception's text.
        node: Who was asked, if named.
        error: The error, if there is one.
        line: Where it stands.
        column: Where in the line.
    """

    process: int
    kind: Kind
    at: int
    said: Said | None
    node: str
    error: str
    line: int
    column: int


def interpret(kind: Kind, form: Any) -> Said | None:
    """What a value means, alone or behind a key in a vector of two; None if it means nothing."""
    if kind is Kind.CAS:
        pair, key, keyed = form, 0, False
        if _pair(form) and isinstance(form[1], Vector):
            (key, pair), keyed = form, True
        if _pair(pair) and all(map(_fits, (key, *pair))):
            return Said(key, _number(pair[1]), _number(pair[0]), keyed=keyed)
        return None
    if form is None or _integer(form):
        return Said(value=_number(form))
    if kind is Kind.READ and (items := _items(form)) is not None:
        return Said(items=items)
    if not _pair(form) or not _integer(form[0]):
        return None
    key, inner = form
    if inner is None or _integer(inner):
        return Said(key, _number(inner), keyed=True)
    items = _items(inner, vectors=True) if kind is Kind.READ else None
    return None if items is None else Said(key, items=items, keyed=True)


def _pair(form: Any) -> bool:
    return isinstance(form, Vector) and len(form) == 2


def _integer(form: Any) -> bool:
    return isinstance(form, int) and not isinstance(form, bool) and NIL <= form < 2**63


def _fits(form: Any) -> bool:
    return form is None or _integer(form)


def _number(form: int | None) -> int:
    return NIL if form is None else form


def _items(form: Any, *, vectors: bool = False) -> tuple[int, ...] | None:
    """A collection of integers; a vector of two may be a key and a value and is left to the caller."""
    if isinstance(form, Bag) or (isinstance(form, Vector) and (vectors or len(form) != 2)):
        return tuple(form) if all(map(_integer, form)) else None
    return None


class Pairing:
    """Puts the events of all processes together; knows the place for an error."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._rows = Rows()
        self._open: dict[int, Event] = {}
        self._doubtful: list[tuple[Event, Event]] = []
        self._last = NIL
        self._sets = False
        # Rows whose meaning is known when a read of a whole set has been seen, or the end.
        self._plain_adds = array("q")
        self._plain_reads = array("q")

    def begin(self, event: Event) -> None:
        """An invocation."""
        before = self._open.get(event.process)
        if before is not None:
            what = f"process {event.process} has an operation open since line {before.line}"
            raise self._bad(event, what, "a process does one thing after the other")
        self._open[event.process] = event
        self._last = max(self._last, event.at)

    def end(self, event: Event, outcome: Outcome) -> None:
        """A completion of the process's open invocation."""
        began = self._close(event)
        self._keep(began, event, outcome, event.at)

    def doubt(self, event: Event) -> None:
        """A completion after which the operation may still take effect at any time: INFO to the end."""
        self._doubtful.append((self._close(event), event))

    def _close(self, event: Event) -> Event:
        began = self._open.pop(event.process, None)
        if began is None:
            what = f"process {event.process} has no operation open"
            raise self._bad(event, what, "an :invoke comes before its :ok, :fail or :info")
        if began.kind is not event.kind:
            what = f"the operation open since line {began.line} is a {began.kind.name.lower()}"
            raise self._bad(event, what, "a completion has the :f of its invocation")
        if event.at < began.at:
            raise self._bad(event, f"it ends before it began in line {began.line}", "times are in ns")
        self._last = max(self._last, event.at)
        return began

    def history(self) -> History:
        """All operations; those still open are INFO to the end, which is after all that is known."""
        for began, ended in (*self._doubtful, *((event, None) for event in self._open.values())):
            # An invocation's own value says nothing of what was found.
            ended = ended or replace(began, said=None, error="")
            self._keep(began, ended, Outcome.INFO, self._last + 1)
        if self._sets:
            self._make_sets()
        return self._rows.history()

    def _keep(self, began: Event, ended: Event, outcome: Outcome, completed: int) -> None:
        asked = began.said or Said()
        told = self._told(asked, ended, outcome)
        kind = began.kind if told.items is None else Kind.LIST
        self._sets = self._sets or kind is Kind.LIST
        if not asked.keyed and kind is Kind.ADD:
            self._plain_adds.append(len(self._rows))
        elif not asked.keyed and kind is Kind.READ and told.value == NIL:
            self._plain_reads.append(len(self._rows))
        try:
            self._rows.add(
                began.process,
                kind,
                asked.key,
                told.value,
                asked.expected,
                began.at,
                began.at,
                completed,
                outcome,
                ended.node or began.node,
                ended.error,
                items=told.items,
            )
        except OverflowError as error:
            what = "more than 32,767 different nodes or errors"
            raise self._bad(ended, what, "shorten the :error of each") from error

    def _told(self, asked: Said, ended: Event, outcome: Outcome) -> Said:
        """The completion's value where it counts, else the invocation's."""
        told = ended.said
        if told is not None and not asked.keyed and told.keyed and ended.kind is Kind.READ:
            # It asked for no key, so this is no key and value but a whole set of two.
            told = Said(items=(told.key, told.value)) if told.items is None and told.value != NIL else None
        if told is None or (told.keyed, told.key) != (asked.keyed, asked.key):
            if outcome is Outcome.OK:
                what = "the value is of another key than the invocation's, or has another shape"
                raise self._bad(ended, what, "as it began: [KEY VALUE], or VALUE alone")
            told = None
        if ended.kind in _ASKING:
            return told or Said()
        return asked

    def _make_sets(self) -> None:
        """Where whole sets are read, plain adds are of elements, and reads that found nothing are of sets."""
        columns = self._rows.columns
        for row in self._plain_adds:
            columns["key"][row], columns["value"][row] = columns["value"][row], NIL
        for row in self._plain_reads:
            columns["kind"][row] = Kind.LIST
            if columns["outcome"][row] == Outcome.OK:
                columns["value"][row] = self._rows.listed(())

    def _bad(self, event: Event, what: str, hint: str) -> BadInput:
        return BadInput(f"{self._path}:{event.line}:{event.column}: {what}", hint=hint)


def choices(words: Sequence[str]) -> str:
    """Keywords for a hint."""
    return f"one of: {', '.join(f':{word}' for word in words)}"

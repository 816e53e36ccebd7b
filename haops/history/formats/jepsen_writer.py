"""Histories as Jepsen's `history.edn` has them: an invocation and a completion for each operation.

Values are `[key value]`, which Jepsen's `independent` calls tuples. What a LIST found is a set, or a list
if something stands in it twice; where there are LISTs, an ADD's value is its element.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from haops.errors import BadInput
from haops.history.files import slices
from haops.history.formats.edn import quoted
from haops.history.record import COLUMNS, NIL, History, Ints, Kind, Outcome
from haops.history.rows import OUTCOME_WORDS, listing

_NAMES: Final = {k: k.name.lower() for k in Kind} | {Kind.LIST: "read"}
_ASKING: Final = (Kind.READ, Kind.ACQUIRE)


@dataclass(frozen=True, slots=True)
class _Survey:
    """What must be known of a whole history before its first line.

    Args:
        horizons: For each batch the earliest `sent` of all that come after it; None if none do.
        threads: Clients, as Jepsen's threads.
        sets: Whether there are LISTs.
    """

    horizons: tuple[int | None, ...]
    threads: int
    sets: bool


def edn_lines(histories: Iterable[History]) -> Iterator[str]:
    """A history's events as lines, ordered by time.

    Memory is bounded by what happens during the longest operation.

    Args:
        histories: In order of `completed`; gone through twice.

    Raises:
        BadInput: A client has two operations at a time, or one that ended before it was sent.
    """
    if isinstance(histories, Iterator):
        histories = list(histories)
    survey = _survey(histories)
    events = _Events(survey)
    index = 0
    parts = (part for history in histories for part in slices(history))
    for horizon, part in zip(survey.horizons, parts, strict=True):
        events.add(part)
        for line in events.until(horizon):
            yield f"{{:index {index}, {line}}}\n"
            index += 1


def _survey(histories: Iterable[History]) -> _Survey:
    earliest: list[int] = []
    threads, sets = 0, False
    for history in histories:
        for part in slices(history):
            earliest.append(int(part.sent.min()))
            threads = max(threads, int(part.process.max()) + 1)
            sets = sets or bool((part.kind == Kind.LIST).any())
    horizons: list[int | None] = []
    after: int | None = None
    for moment in reversed(earliest):
        horizons.append(after)
        after = moment if after is None else min(after, moment)
    return _Survey(tuple(reversed(horizons)), threads, sets)


class _Events:
    """Events that wait until nothing earlier can come.

    At one moment beginnings come before ends, so that operations that touch are
    concurrent; only a client's own operations keep their order there.
    """

    def __init__(self, survey: _Survey) -> None:
        self._survey = survey
        self._heap: list[tuple[int, int, int, str]] = []
        # Of each client: the end of its last operation and the place of that among the events of its moment.
        self._last: dict[int, tuple[int, int]] = {}
        # After an :info a client goes on under another number, as Jepsen's do.
        self._names: dict[int, int] = {}
        self._rows = 0

    def add(self, part: History) -> None:
        """Take in a part's rows."""
        values = _Values(part, sets=self._survey.sets)
        columns = (getattr(part, name).tolist() for name in COLUMNS)
        for row, (process, kind, *_, sent, completed, outcome, node, error) in enumerate(
            zip(*columns, strict=True)
        ):
            begin, end = self._order(process, sent, completed)
            name = self._names.get(process, process)
            head = f":process {name}, :f :{_NAMES[Kind(kind)]}, :value "
            extra = f", :node {quoted(part.nodes[node])}" if node else ""
            asked = f":type :invoke, {head}{values.asked(row)}, :time {sent}{extra}"
            extra += f", :error {quoted(part.errors[error])}" if error else ""
            told = f":type :{OUTCOME_WORDS[outcome]}, {head}{values.told(row)}, :time {completed}{extra}"
            heapq.heappush(self._heap, (sent, begin, self._rows, asked))
            heapq.heappush(self._heap, (completed, end, self._rows, told))
            if outcome == Outcome.INFO:
                self._names[process] = name + self._survey.threads
            self._rows += 1

    def _order(self, process: int, sent: int, completed: int) -> tuple[int, int]:
        """The places of an operation's beginning and end among the events of their moments."""
        before, place = self._last.get(process, (sent - 1, 0))
        if not before <= sent <= completed:
            what = "two operations at a time" if sent < before else "an operation that ended before it began"
            raise BadInput(
                f"client {process} has {what}: sent at {sent} ns, completed at {completed} ns",
                hint="Jepsen's processes do one thing after the other; export to jsonl or csv",
            )
        begin = place + 1 if before == sent else 0
        end = begin + 1 if completed == sent else 1
        self._last[process] = completed, end
        return begin, end

    def until(self, horizon: int | None) -> Iterator[str]:
        """The events before a moment, or all, in order."""
        while self._heap and (horizon is None or self._heap[0][0] < horizon):
            yield heapq.heappop(self._heap)[3]


class _Values:
    """The values of a part's rows as EDN."""

    def __init__(self, part: History, *, sets: bool) -> None:
        self._part = part
        self._sets = sets
        self._kind, self._key, self._value, self._expected = (
            getattr(part, name).tolist() for name in ("kind", "key", "value", "expected")
        )

    def asked(self, row: int) -> str:
        """What stands in the invocation."""
        kind = self._kind[row]
        if kind == Kind.LIST:
            return "nil"
        return f"[{self._key[row]} nil]" if kind in _ASKING else self.told(row)

    def told(self, row: int) -> str:
        """What stands in the completion."""
        kind, key, value = self._kind[row], self._key[row], _integer(self._value[row])
        if kind == Kind.LIST:
            return _listed(listing(self._part, row))
        if kind == Kind.ADD and self._sets:
            return str(key)
        if kind == Kind.CAS:
            return f"[{key} [{_integer(self._expected[row])} {value}]]"
        return f"[{key} {value}]"


def _integer(number: int) -> str:
    return "nil" if number == NIL else str(number)


def _listed(found: Ints | None) -> str:
    if found is None:
        return "nil"
    items: list[Any] = found.tolist()
    text = " ".join(map(str, items))
    return f"#{{{text}}}" if len(set(items)) == len(items) else f"({text})"

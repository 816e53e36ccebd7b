"""Histories as clients with one operation at a time could have recorded them, and files made of them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from haops.history.record import COLUMNS, NIL, History, Kind, Outcome
from haops.history.rows import Rows, listing

NAMES = ("", "redis-1", "a,b", 'q"uote', "two\nlines", "c\rr", "é ☃", "\\")
numbers = st.integers(-(2**63), 2**63 - 1)
Record = dict[str, Any]


@st.composite
def recorded(draw: st.DrawFn, max_size: int = 25) -> History:
    """Any history of up to four clients, with every kind and outcome."""
    rows = Rows()
    free = dict.fromkeys(range(4), draw(st.integers(0, 10)))
    for _ in range(draw(st.integers(0, max_size))):
        process = draw(st.integers(0, 3))
        kind, outcome = draw(st.sampled_from(Kind)), draw(st.sampled_from(Outcome))
        sent = free[process] + draw(st.integers(0, 5))
        completed = free[process] = sent + draw(st.integers(0, 8))
        items = draw(st.lists(numbers, max_size=4)) if kind is Kind.LIST and outcome is Outcome.OK else None
        rows.add(
            process,
            kind,
            draw(numbers.filter(lambda n: n != NIL)),
            draw(numbers),
            draw(numbers) if kind is Kind.CAS else NIL,
            sent - draw(st.integers(0, 3)),
            sent,
            completed,
            outcome,
            draw(st.sampled_from(NAMES)),
            draw(st.sampled_from(NAMES)),
            items=items,
        )
    return rows.history()


def records(history: History) -> list[Record]:
    """Rows with names and finds in the place of numbers that stand for them."""
    made = []
    for i in range(len(history)):
        row: Record = {name: int(getattr(history, name)[i]) for name in COLUMNS}
        found = listing(history, i)
        row["items"] = None if found is None else found.tolist()
        if row["kind"] == Kind.LIST:
            row["value"] = NIL
        row["node"], row["error"] = history.nodes[row["node"]], history.errors[row["error"]]
        made.append(row)
    return made


def history_of(*rows: tuple[Any, ...]) -> History:
    """From (process, kind, key, value, expected, sent, completed, outcome[, items])."""
    built = Rows()
    for process, kind, key, value, expected, sent, completed, outcome, *items in rows:
        built.add(
            process,
            kind,
            key,
            value,
            expected,
            sent,
            sent,
            completed,
            outcome,
            items=items[0] if items else None,
        )
    return built.history()

"""Building a history row by row, as readers of files do."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

import numpy as np

from haops.history.record import COLUMNS, NIL, TYPES, History, Ints, Kind, Outcome

KIND_WORDS: Final = tuple(k.name.lower() for k in Kind)
OUTCOME_WORDS: Final = tuple(o.name.lower() for o in Outcome)
KINDS: Final = {k.name.lower(): k for k in Kind}
OUTCOMES: Final = {o.name.lower(): o for o in Outcome}


class Rows:
    """Rows of any number of clients, in any order; columns may be mended until `history`."""

    def __init__(self) -> None:
        self.columns = {name: array(TYPES[name]) for name in COLUMNS}
        self._nodes = {"": 0}
        self._errors = {"": 0}
        self._lists: list[Ints] = []

    def __len__(self) -> int:
        return len(self.columns["key"])

    def add(
        self,
        process: int,
        kind: Kind,
        key: int,
        value: int,
        expected: int,
        intended: int,
        sent: int,
        completed: int,
        outcome: Outcome,
        node: str = "",
        error: str = "",
        *,
        items: Sequence[int] | None = None,
    ) -> None:
        """Add one operation; times in ns.

        Args:
            items: What a LIST found; one that was answered and has none found nothing.

        Raises:
            OverflowError: A number does not fit its column, or there are over 32,767 nodes or errors.
        """
        where = self._nodes.setdefault(node, len(self._nodes))
        why = self._errors.setdefault(error, len(self._errors))
        if kind is Kind.LIST:
            value = self.listed(items or ()) if items is not None or outcome is Outcome.OK else NIL
        row = (process, kind, key, value, expected, intended, sent, completed, outcome, where, why)
        for column, number in zip(self.columns.values(), row, strict=True):
            column.append(number)

    def listed(self, items: Sequence[int]) -> int:
        """Keep what a LIST found; the value that stands for it."""
        self._lists.append(np.array(items, dtype=np.int64))
        return len(self._lists) - 1

    def history(self) -> History:
        """All rows, ordered by completion; those of one moment stay in the order they came in."""
        columns: dict[str, Ints] = {n: np.frombuffer(c, dtype=TYPES[n]) for n, c in self.columns.items()}
        order = np.argsort(columns["completed"], kind="stable")
        return History(
            **{name: column[order] for name, column in columns.items()},
            nodes=tuple(self._nodes),
            errors=tuple(self._errors),
            lists=tuple(self._lists),
        )


def listing(history: History, row: int) -> Ints | None:
    """What the LIST in a row found; None for another kind and for one that was not answered."""
    index = int(history.value[row])
    if history.kind[row] != Kind.LIST or not 0 <= index < len(history.lists):
        return None
    return history.lists[index]

"""What a textbook formula says of a store, beside what was measured; and where its parts come from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from haops.cluster.spec import StoreName
from haops.drills.result import Spread
from haops.faults.catalogue import FaultKind
from haops.matrix.cells import Cell, CellKey, CellTrial, Matrix, Parts
from haops.matrix.summary import median_of


class Unit(StrEnum):
    """Of a part or a prediction."""

    MS = "ms"
    SHARE = "share"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class Part:
    """A symbol of a formula.

    Args:
        where: Where it was measured, or whose configuration it stands in.
    """

    symbol: str
    value: float
    unit: Unit
    where: str


@dataclass(frozen=True, slots=True)
class Better:
    """A formula that predicts the same whole more closely, or should.

    Args:
        ratio: Predicted by measured; None where nothing was measured to divide by.
    """

    name: str
    value: float
    ratio: float | None
    why: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """A formula's word and the measurement's.

    Args:
        meaning: What its symbols are.
        fault: The cell's; None where the formula is about an undisturbed cluster or about all cells.
        whole: What was measured to compare with.
        predicted: In `unit`.
        measured: In `unit`.
        ratio: Predicted by measured; None where nothing was measured to divide by.
        why: Why they agree or do not, in one sentence.
    """

    formula: str
    meaning: str
    store: StoreName
    mode: str
    fault: FaultKind | None
    parts: tuple[Part, ...]
    whole: str
    unit: Unit
    predicted: float
    measured: float
    ratio: float | None
    why: str
    better: Better | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A formula that could not be applied to a store, and why."""

    formula: str
    store: StoreName
    reason: str


class Missing(LookupError):
    """A part that was not measured; says which. Never leaves the model."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula as it is written, and how it is applied to a store.

    Args:
        apply: Its predictions for a store. Raises Missing where a part does not exist.
    """

    text: str
    meaning: str
    apply: Callable[[Formula, Evidence, StoreName], list[Prediction]]


def ratio(predicted: float, measured: float) -> float | None:
    """Predicted by measured, if that is a number."""
    found = predicted / measured if measured > 0 else math.inf
    return found if math.isfinite(found) else None


def better(name: str, value: float, measured: float, why: str) -> Better:
    """A better formula's word."""
    return Better(name, value, ratio(value, measured), why)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a matrix has on a store; every question that it cannot answer raises Missing."""

    matrix: Matrix

    def cells(self, store: StoreName, fault: FaultKind | None = None) -> list[Cell]:
        """A store's cells that have trials or parts, of one fault or of all."""
        return [
            cell
            for cell in self.matrix.cells
            if cell.key.store is store and (cell.trials or cell.parts) and fault in (None, cell.key.fault)
        ]

    def cell(self, store: StoreName, mode: str, fault: FaultKind) -> Cell:
        """One cell."""
        found = next((c for c in self.cells(store, fault) if c.key.mode == mode), None)
        if found is None:
            raise Missing(f"{CellKey(store, mode, fault)} was not run")
        return found

    def parts(self, store: StoreName, mode: str) -> Parts:
        """What a mode costs on an idle cluster."""
        parts = self.cell(store, mode, FaultKind.NONE).parts
        if parts is None:
            raise Missing(f"nothing was measured of {store} {mode} on an idle cluster")
        return parts

    def copies(self, store: StoreName, mode: str) -> int:
        """Copies of each value: every server has one, except that Cassandra's keyspace has three."""
        nodes = self.cell(store, mode, FaultKind.NONE).nodes
        return min(nodes, 3) if store is StoreName.CASSANDRA else nodes

    def first(
        self,
        store: StoreName,
        faults: Sequence[FaultKind],
        figures: Sequence[Callable[[CellTrial], float | None]],
    ) -> Cell:
        """The first cell of the first of `faults` that has all `figures`; modes in the order of the run."""
        for fault in faults:
            for cell in self.cells(store, fault):
                if all(median_of(cell, figure) is not None for figure in figures):
                    return cell
        raise Missing(f"no trial of {store} under {' or '.join(faults)} has all of its parts")


def known(spread: Spread | None, what: str) -> Spread:
    """A spread that must be there."""
    if spread is None:
        raise Missing(f"{what} was not measured")
    return spread


def figure(cell: Cell, get: Callable[[CellTrial], float | None], what: str) -> float:
    """The median of a figure over a cell's trials that must be there, ms."""
    value = median_of(cell, get)
    if value is None:
        raise Missing(f"no trial of {cell.key} has {what}")
    return value

"""The textbook's formulas of replication and failover against what the matrix measured.

Each formula is computed from parts that were measured apart (`Parts`, `Recovery`) or stand in
the servers' configuration, and set beside the whole, measured as such. Where it is known why a
formula misses, a better one stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from haops.cluster.spec import StoreName
from haops.matrix import failover, replication
from haops.matrix.cells import Matrix
from haops.matrix.prediction import Evidence, Formula, LeftOut, Missing, Prediction

FORMULAS: Final[tuple[Formula, ...]] = (*replication.FORMULAS, *failover.FORMULAS)


@dataclass(frozen=True, slots=True)
class Model:
    """All predictions, by formula and then by store; and what could not be predicted."""

    predictions: tuple[Prediction, ...]
    left_out: tuple[LeftOut, ...]


def predict(matrix: Matrix, formulas: Sequence[Formula] = FORMULAS) -> Model:
    """Every formula for every store of the matrix, where its parts were measured."""
    evidence = Evidence(matrix)
    stores = [store for store in StoreName if any(cell.key.store is store for cell in matrix.cells)]
    predictions: list[Prediction] = []
    left_out: list[LeftOut] = []
    for formula in formulas:
        for store in stores:
            try:
                predictions += formula.apply(formula, evidence, store)
            except Missing as missing:
                left_out.append(LeftOut(formula.text, store, str(missing)))
    return Model(tuple(predictions), tuple(left_out))

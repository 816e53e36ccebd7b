"""Which cells a run of the matrix has, and in which order they are visited; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from haops.cluster.spec import StoreName
from haops.errors import BadInput
from haops.faults.catalogue import FaultKind
from haops.matrix.cells import CellKey
from haops.stores import load as load_store
from haops.stores.mode import Mode


@dataclass(frozen=True, slots=True)
class MatrixOrder:
    """What to run.

    Args:
        trials: For each cell.
        rate: Operations a second instead of each store's own.
        folder: Where everything is kept.
    """

    keys: tuple[CellKey, ...]
    trials: int
    rate: int | None
    seed: int
    run: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Visit:
    """One trial of one cell."""

    key: CellKey
    number: int


def mode_of(key: CellKey) -> Mode:
    """The cell's mode."""
    return load_store(key.store).modes.get(key.mode)


def choose(
    stores: Sequence[StoreName], modes: Sequence[str], faults: Sequence[FaultKind]
) -> tuple[CellKey, ...]:
    """The cells of a run.

    Args:
        modes: Names, each for every store that has it; empty is each store's main modes.

    Raises:
        BadInput: No chosen store has a mode of that name.
    """
    offered = {store: load_store(store).modes.offered for store in stores}
    for name in modes:
        if not any(name in (m.name, *m.aliases) for every in offered.values() for m in every):
            allowed = "; ".join(f"{s}: {', '.join(m.name for m in every)}" for s, every in offered.items())
            raise BadInput(f"unknown mode {name!r}", hint=f"allowed: {allowed}")
    return tuple(
        CellKey(store, mode.name, fault)
        for store, every in offered.items()
        for mode in every
        if (any(name in (mode.name, *mode.aliases) for name in modes) if modes else mode.main)
        for fault in faults
    )


def visits(keys: Sequence[CellKey], trials: int, done: Collection[Visit]) -> Iterator[Visit]:
    """What is left to do: every cell once before any cell twice, so that an early look sees them all.

    Within a round the stores take turns one after the other, and a store's undisturbed cells come
    before its broken ones: they say whether the mode works at all.
    """
    stores = list(dict.fromkeys(key.store for key in keys))
    faults = list(FaultKind)

    def place(key: CellKey) -> tuple[int, int]:
        return stores.index(key.store), faults.index(key.fault)

    ordered = sorted(keys, key=place)
    for number in range(1, trials + 1):
        yield from (visit for key in ordered if (visit := Visit(key, number)) not in done)

"""Histories as Parquet files: one row an operation, for haops and whatever else reads Parquet.

Columns are those of `History`, with words for kind, outcome, node and error, null for NIL, and what
a LIST found in `items`. Times are ns. Rows are ordered by `completed`, in groups of 100,000, so that
a history that exceeds memory can be gone through.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from haops.cluster.state import disk_trouble
from haops.errors import BadInput
from haops.history.record import COLUMNS, NIL, TYPES, History, Ints, Kind, Outcome
from haops.history.rows import KIND_WORDS, KINDS, OUTCOME_WORDS, OUTCOMES

VERSION: Final = "1"
GROUP_ROWS: Final = 100_000
_KEY: Final = b"haops.history"
_WORDS: Final = ("kind", "outcome", "node", "error")
_HINT: Final = (
    f"a Parquet file of haops' histories, version {VERSION}, is wanted; other formats need --format"
)


def save(history: History, path: Path) -> None:
    """Write a history; the file is there whole or not at all.

    Raises:
        EnvironmentTrouble: The disk is full or not ours.
    """
    save_batches([history], path)


def save_batches(histories: Iterable[History], path: Path) -> None:
    """Write histories one after the other into one file; together they are ordered by `completed`.

    Raises:
        EnvironmentTrouble: The disk is full or not ours.
    """
    from pyarrow import parquet  # 150 ms that other commands need not pay

    schema = _schema()
    with (
        replacing(path) as file,
        parquet.ParquetWriter(
            file,
            schema,
            compression="zstd",
            use_dictionary=list(_WORDS),
            # Neighbours are near each other: a third of the size.
            column_encoding=dict.fromkeys(("intended", "sent", "completed"), "DELTA_BINARY_PACKED"),
            # zstd alone does not see a flipped bit.
            write_page_checksum=True,
        ) as writer,
    ):
        for history in histories:
            for part in slices(history):
                writer.write_table(_table(part, schema), row_group_size=GROUP_ROWS)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` when all is written, and leaves no trace if it fails.

    Raises:
        EnvironmentTrouble: The disk is full or not ours.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, temp = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(fd, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(temp).replace(path)
        except BaseException:
            Path(temp).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise disk_trouble(path, error) from error


def load(path: Path) -> History:
    """Read what `save` wrote.

    Raises:
        BadInput: The file is missing, cut off, damaged or no history; says what is wanted.
    """
    pieces: dict[str, list[Ints]] = {name: [np.empty(0, dtype=TYPES[name])] for name in COLUMNS}
    nodes: tuple[str, ...] = ("",)
    errors: tuple[str, ...] = ("",)
    lists: list[Ints] = []
    for part in batches(path):
        shift = np.where((part.kind == Kind.LIST) & (part.value != NIL), len(lists), 0)
        for name in COLUMNS:
            column = getattr(part, name)
            pieces[name].append(column + shift if name == "value" else column)
        # Every part's tables begin with those of the part before.
        nodes, errors = part.nodes, part.errors
        lists.extend(part.lists)
    # Column by column, each one's pieces let go after it: never the whole history twice.
    columns = {name: np.concatenate(pieces.pop(name)) for name in COLUMNS}
    return History(**columns, nodes=nodes, errors=errors, lists=tuple(lists))


@dataclass(frozen=True, slots=True)
class Batches:
    """A kept history as histories of 100,000 rows, read anew each time it is gone through."""

    path: Path

    def __iter__(self) -> Iterator[History]:
        import pyarrow

        troubles = (pyarrow.ArrowException, OSError, ValueError, LookupError, TypeError, MemoryError)
        try:
            yield from _groups(self.path)
        except FileNotFoundError as error:
            raise BadInput(f"{self.path}: there is no such file", hint=_HINT) from error
        except troubles as error:
            raise BadInput(
                f"{self.path}: the history cannot be read: it is cut off, damaged or another file",
                detail=str(error),
                hint=_HINT,
            ) from error


def batches(path: Path) -> Batches:
    """Go through a kept history in bounded memory, as often as wanted.

    `nodes` and `errors` grow from one to the next; `lists` are each one's own.

    Raises:
        BadInput: While it is gone through: as `load`.
    """
    return Batches(path)


def slices(history: History) -> Iterator[History]:
    """A history in parts of at most 100,000 rows; their columns are views."""
    for start in range(0, len(history), GROUP_ROWS):
        part = slice(start, start + GROUP_ROWS)
        columns = {name: getattr(history, name)[part] for name in COLUMNS}
        yield History(**columns, nodes=history.nodes, errors=history.errors, lists=history.lists)


def _schema() -> Any:
    import pyarrow as pa

    words = pa.dictionary(pa.int32(), pa.string())
    numbers = {name: pa.int32() if TYPES[name] == "i" else pa.int64() for name in COLUMNS}
    fields = [
        pa.field(name, words if name in _WORDS else numbers[name], nullable=name in ("value", "expected"))
        for name in COLUMNS
    ]
    # Named by hand: how pyarrow names a list's inside has changed between its versions.
    items = pa.list_(pa.field("element", pa.int64(), nullable=False))
    return pa.schema([*fields, pa.field("items", items)], metadata={_KEY: VERSION.encode()})


def _table(history: History, schema: Any) -> Any:
    import pyarrow as pa

    names = {
        "kind": KIND_WORDS,
        "outcome": OUTCOME_WORDS,
        "node": history.nodes,
        "error": history.errors,
    }
    is_list = history.kind == Kind.LIST
    columns = []
    for name in COLUMNS:
        numbers = getattr(history, name)
        if name in names:
            codes = pa.array(numbers, type=pa.int32())
            columns.append(pa.DictionaryArray.from_arrays(codes, pa.array(names[name], type=pa.string())))
        elif name in ("value", "expected"):
            nothing = (numbers == NIL) | (is_list if name == "value" else False)
            columns.append(pa.array(numbers, type=pa.int64(), mask=nothing))
        else:
            columns.append(pa.array(numbers, type=schema.field(name).type))
    columns.append(_items(history, is_list & (history.value >= 0) & (history.value < len(history.lists))))
    return pa.table(columns, schema=schema)


def _items(history: History, there: Ints) -> Any:
    """What the LISTs found, as one column."""
    import pyarrow as pa

    rows = np.flatnonzero(there)
    found = [history.lists[index] for index in history.value[rows].tolist()]
    lengths = np.zeros(len(history) + 1, dtype=np.int32)
    lengths[rows + 1] = [len(items) for items in found]
    values = np.concatenate([np.empty(0, dtype=np.int64), *found])
    return pa.ListArray.from_arrays(
        pa.array(np.cumsum(lengths, dtype=np.int32)),
        pa.array(values, type=pa.int64()),
        type=_schema().field("items").type,
        mask=pa.array(~there),
    )


def _groups(path: Path) -> Iterator[History]:
    from pyarrow import parquet

    names: dict[str, dict[str, int]] = {"node": {"": 0}, "error": {"": 0}}
    with parquet.ParquetFile(path, page_checksum_verification=True) as file:
        _check(path, file.schema_arrow)
        for number in range(file.num_row_groups):
            # Two threads would hold twice the pages.
            table = file.read_row_group(number, use_threads=False).combine_chunks()
            yield _history(table, names)


def _check(path: Path, schema: Any) -> None:
    metadata = schema.metadata or {}
    if _KEY not in metadata:
        raise BadInput(f"{path}: not a history of haops", hint=_HINT)
    if metadata[_KEY] != VERSION.encode():
        version = metadata[_KEY].decode(errors="replace")
        raise BadInput(f"{path}: a history of version {version}", hint=_HINT)
    if not schema.equals(_schema()):
        raise BadInput(
            f"{path}: a history with other columns: {', '.join(schema.names)}",
            hint=f"columns: {', '.join(_schema().names)}",
        )


def _history(table: Any, names: dict[str, dict[str, int]]) -> History:
    columns: dict[str, Ints] = {}
    for name in COLUMNS:
        column = table.column(name).chunk(0)
        if name in _WORDS:
            words = column.dictionary.to_pylist()
            numbers = np.array(_numbers(name, words, names), dtype=TYPES[name])
            columns[name] = numbers[column.indices.to_numpy()]
        else:
            filled = column.fill_null(NIL) if column.null_count else column
            columns[name] = filled.to_numpy()
    columns["value"], lists = _listed(table.column("items").chunk(0), columns)
    nodes, errors = tuple(names["node"]), tuple(names["error"])
    return History(**columns, nodes=nodes, errors=errors, lists=lists)


def _numbers(name: str, words: list[str], names: dict[str, dict[str, int]]) -> list[int]:
    """What a dictionary's words stand for; KeyError for a kind or outcome that there is not."""
    if name in names:
        known = names[name]
        return [known.setdefault(word, len(known)) for word in words]
    return [(KINDS if name == "kind" else OUTCOMES)[word] for word in words]


def _listed(items: Any, columns: dict[str, Ints]) -> tuple[Ints, tuple[Ints, ...]]:
    """The column `value` with what stands for the LISTs' finds, and these."""
    there = items.is_valid().to_numpy(zero_copy_only=False)
    is_list = columns["kind"] == Kind.LIST
    if (there & ~is_list).any():
        raise ValueError("an operation that is no list has items")
    # Answered without items: it found nothing.
    rows = np.flatnonzero(there | (is_list & (columns["outcome"] == Outcome.OK)))
    value = np.where(is_list, NIL, columns["value"])
    value[rows] = np.arange(len(rows))
    offsets, found = items.offsets.to_numpy(), items.values.to_numpy()
    return value, tuple(found[offsets[row] : offsets[row + 1]] for row in rows.tolist())

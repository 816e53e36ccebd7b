"""Histories in all formats that they are read and written in."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import IO, Final

from haops.errors import BadInput
from haops.history.files import load, replacing, save_batches, slices
from haops.history.record import History


class Format(StrEnum):
    """How a history is kept in a file."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    CSV = "csv"
    EDN = "jepsen-edn"
    LOG = "jepsen-log"


WRITABLE: Final = (Format.JSONL, Format.CSV, Format.EDN)
_SUFFIXES: Final = {
    ".parquet": Format.PARQUET,
    ".jsonl": Format.JSONL,
    ".csv": Format.CSV,
    ".edn": Format.EDN,
    ".log": Format.LOG,
}


def guess(path: Path) -> Format:
    """The format by a file's name; `.gz` behind it does not count.

    Raises:
        BadInput: The name tells none.
    """
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if suffix not in _SUFFIXES:
        known = ", ".join(f"{name} ({form})" for name, form in _SUFFIXES.items())
        raise BadInput(
            f"{path}: the name tells no format of a history", hint=f"name the format; known: {known}"
        )
    return _SUFFIXES[suffix]


def read(path: Path, form: Format | None = None) -> History:
    """Read a history whole.

    Args:
        form: How it is kept; guessed from the name if None.

    Raises:
        BadInput: The file is missing, cut off, damaged or of another format; says where.
    """
    # Each format's reader is loaded when it is needed.
    form = form or guess(path)
    if form is Format.PARQUET:
        return load(path)
    if form in (Format.JSONL, Format.CSV):
        from haops.history.formats import tables

        return tables.read_jsonl(path) if form is Format.JSONL else tables.read_csv(path)
    from haops.history.formats import jepsen

    return jepsen.read_edn(path) if form is Format.EDN else jepsen.read_log(path)


def text_lines(histories: Iterable[History], form: Format) -> Iterator[str]:
    """Histories as lines of text, in bounded memory.

    Args:
        histories: One after the other, ordered by `completed`; for JEPSEN-EDN gone through twice.

    Raises:
        BadInput: The format is not one to write as text, or cannot carry the history.
    """
    parts = (part for history in histories for part in slices(history))
    if form is Format.JSONL:
        from haops.history.formats.tables import jsonl_lines

        return jsonl_lines(parts)
    if form is Format.CSV:
        from haops.history.formats.tables import csv_lines

        return csv_lines(parts)
    if form is Format.EDN:
        from haops.history.formats.jepsen_writer import edn_lines

        return edn_lines(histories)
    raise BadInput(f"{form.value} is not written as text", hint=f"one of: {', '.join(WRITABLE)}")


def write(histories: Iterable[History], path: Path, form: Format) -> None:
    """Write histories into one file, compressed if its name ends in `.gz`; it is there whole or not at all.

    Raises:
        BadInput: The format is only read, or cannot carry the history.
        EnvironmentTrouble: The disk is full or not ours.
    """
    if form is Format.PARQUET:
        save_batches(histories, path)
        return
    made = text_lines(histories, form)
    with replacing(path) as raw:
        data: IO[bytes] = raw
        if path.name.endswith(".gz"):
            data = gzip.GzipFile("", "wb", compresslevel=3, fileobj=raw)  # type: ignore[assignment]
        text = io.TextIOWrapper(data, encoding="utf-8", newline="")
        try:
            text.writelines(made)
            text.flush()
        finally:
            text.detach()
        if data is not raw:
            data.close()

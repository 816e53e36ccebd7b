"""Text files of histories: opening them, plain or compressed, and errors with a place."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from haops.errors import BadInput

_GZIP_MAGIC: Final = b"\x1f\x8b"


def lines(path: Path, *, closed: bool) -> Iterator[tuple[int, str]]:
    r"""A text file's lines with their numbers, from 1; each keeps its end.

    Args:
        closed: The last line must have an end: its format cannot tell otherwise that it was cut.

    Raises:
        BadInput: The file is missing or cut off, is not UTF-8, or its compressed data are damaged.
    """
    number, line = 0, "\n"
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            data = gzip.GzipFile(fileobj=raw) if packed else raw
            # No translation: a quoted field of a CSV may hold any end of line.
            with io.TextIOWrapper(data, encoding="utf-8", newline="") as text:
                for line in text:
                    number += 1
                    yield number, line
    except UnicodeDecodeError as error:
        raise bad(path, number + 1, 1, "not UTF-8", "a history in text is wanted") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        what = f"the compressed data are cut off or damaged: {error}"
        raise bad(path, number + 1, 1, what, "get the whole file") from error
    except OSError as error:
        raise bad(path, 1, 1, f"cannot be read: {error.strerror}", "name a history's file") from error
    if closed and not line.endswith(("\n", "\r")):
        what = "the last line has no end, so it may be cut off"
        raise bad(path, number, len(line) + 1, what, "end it with a newline if it is whole")


def bad(path: Path, line: int, column: int, what: str, hint: str) -> BadInput:
    """The error for a place in a file."""
    return BadInput(f"{path}:{line}:{column}: {what}", hint=hint)

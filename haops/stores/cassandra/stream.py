"""A table's rows as a part of a backup: its shape, its pages as they came, and an end that says how many."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Final

from haops.errors import HaopsError
from haops.stores.cassandra.rows import Column, Page, Shape

_MAGIC: Final = b"haops rows 1\n"
_PAGE: Final = struct.Struct(">IIq")  # rows, bytes, when read (Unix ms)
_END: Final = 0xFFFFFFFF
_SHAPE_LENGTH: Final = struct.Struct(">I")


class RowsDamaged(HaopsError):
    """A stream of rows is not one, or ends before its end."""


def header(shape: Shape) -> bytes:
    """What a stream of a table's pages begins with."""
    words = json.dumps(asdict(shape)).encode()
    return _MAGIC + _SHAPE_LENGTH.pack(len(words)) + words


def packed(page: Page) -> bytes:
    """A page in a stream."""
    return _PAGE.pack(page.rows, len(page.body), page.read_ms) + page.body


def ending(pages: int) -> bytes:
    """What a stream ends with: how many pages there were."""
    return _PAGE.pack(_END, 0, pages)


def stream(shape: Shape, pages: Iterable[Page]) -> Iterator[bytes]:
    """A table as a stream of bytes."""
    yield header(shape)
    number = 0
    for page in pages:
        yield packed(page)
        number += 1
    yield ending(number)


class PageStream:
    """A stream of a table's pages, read back.

    Args:
        blocks: Its bytes, from the beginning or from `at` on, which is where a page begins.
    """

    def __init__(self, blocks: Iterator[bytes], at: int = 0) -> None:
        self._blocks = blocks
        self._held = bytearray()
        self._first = at == 0
        self.at = at

    def _take(self, size: int) -> bytes:
        while len(self._held) < size:
            block = next(self._blocks, None)
            if block is None:
                raise RowsDamaged("a stream of rows ends before its end")
            self._held += block
        taken = bytes(self._held[:size])
        del self._held[:size]
        self.at += size
        return taken

    def shape(self) -> Shape:
        """The table; to be read first, of a stream that is read from its beginning.

        Raises:
            RowsDamaged: It is no such stream.
        """
        if self._take(len(_MAGIC)) != _MAGIC:
            raise RowsDamaged("this is no stream of rows, or one of another version")
        (length,) = _SHAPE_LENGTH.unpack(self._take(_SHAPE_LENGTH.size))
        words = json.loads(self._take(length))
        columns = tuple(Column(c["name"], c["type"], c["kind"]) for c in words["columns"])
        return Shape(words["keyspace"], words["table"], columns, words["timed"])

    def pages(self) -> Iterator[Page]:
        """Every page up to the end; `at` is then the place behind the last one given out.

        Raises:
            RowsDamaged: The stream is not whole.
        """
        seen, whole = 0, self._first
        while True:
            rows, size, number = _PAGE.unpack(self._take(_PAGE.size))
            if rows == _END:
                if whole and number != seen:
                    raise RowsDamaged(f"a stream of rows has {seen} pages, not {number}")
                return
            seen += 1
            yield Page(rows, self._take(size), number)

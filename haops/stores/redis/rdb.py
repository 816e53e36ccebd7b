"""Reading an RDB as a stream: its keys with their raw values, without decoding what is in them.

The format is that of Redis' `rdb.c` and `rdb.h` up to Redis 8.0 (RDB version 12). A value is
walked over only to find its end. What is in memory is one block and the largest single value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from haops.stores.redis.coding import Short, Unreadable, length, skip_string, string, within

NEWEST: Final = 12
# Enough for all the notes that servers put before the first key.
HEAD_BYTES: Final = 4096
# The name of the format's version among the notes.
VERSION: Final = "rdb-version"
_MAGIC: Final = b"REDIS"
_HEADER: Final = 9
_LEAST: Final = 64 * 1024

SLOT_INFO: Final = 244
FUNCTION: Final = 245
MODULE_AUX: Final = 247
IDLE: Final = 248
FREQ: Final = 249
AUX: Final = 250
RESIZE: Final = 251
EXPIRE_MS: Final = 252
EXPIRE_S: Final = 253
SELECT: Final = 254
END: Final = 255
STRING: Final = 0
# First bytes of a length: below the first it is the length, below the second it has one byte more.
_ONE_BYTE: Final = 0x40
_TWO_BYTES: Final = 0x80
_PACKED: Final = 0xC3


@dataclass(frozen=True, slots=True)
class Entry:
    """One key as it stands in the file.

    Args:
        kind: The type byte, as DUMP has it too.
        raw: The value's bytes without the type, as DUMP has them too.
        expires: Unix ms; 0 is never.
    """

    db: int
    key: bytes
    kind: int
    raw: bytes
    expires: int


@dataclass(frozen=True, slots=True)
class Library:
    """The source of a function library."""

    code: bytes


Item = Entry | Library


@dataclass(slots=True)
class Head:
    """What the file says of itself, filled in while it is read.

    Args:
        notes: The auxiliary fields, such as `redis-ver`, `ctime`, `repl-id`, `repl-offset`.
    """

    version: int = 0
    notes: dict[str, str] = field(default_factory=dict)


def _strings(each: int) -> Callable[[bytes, int], int]:
    def skip(buf: bytes, at: int) -> int:
        count, at = length(buf, at)
        for _ in range(count * each):
            at = skip_string(buf, at)
        return at

    return skip


def _old_scores(buf: bytes, at: int) -> int:
    count, at = length(buf, at)
    for _ in range(count):
        at = skip_string(buf, at)
        at += 1 + (buf[at] if buf[at] < 253 else 0)
    return at


def _scores(buf: bytes, at: int) -> int:
    count, at = length(buf, at)
    for _ in range(count):
        at = skip_string(buf, at) + 8
    return at


def _quicklist2(buf: bytes, at: int) -> int:
    count, at = length(buf, at)
    for _ in range(count):
        _, at = length(buf, at)
        at = skip_string(buf, at)
    return at


def _hash_expiring(buf: bytes, at: int) -> int:
    count, at = length(buf, at + 8)
    for _ in range(count):
        _, at = length(buf, at)
        at = skip_string(buf, skip_string(buf, at))
    return at


def _module(buf: bytes, at: int) -> int:
    """A module's value of the second form, which says of each piece what it is."""
    _, at = length(buf, at)
    return _module_pieces(buf, at)


def _module_pieces(buf: bytes, at: int) -> int:
    while True:
        piece, at = length(buf, at)
        if piece == 0:
            return at
        if piece in (1, 2):
            _, at = length(buf, at)
        elif piece in (3, 4):
            at += 4 if piece == 3 else 8
        elif piece == 5:
            at = skip_string(buf, at)
        else:
            raise Unreadable(f"a module's value has a piece of the unknown kind {piece}")


def _stream(form: int) -> Callable[[bytes, int], int]:
    def skip(buf: bytes, at: int) -> int:
        count, at = length(buf, at)
        for _ in range(count):
            at = skip_string(buf, skip_string(buf, at))
        for _ in range(3 if form == 1 else 8):
            _, at = length(buf, at)
        groups, at = length(buf, at)
        for _ in range(groups):
            at = _group(buf, skip_string(buf, at), form)
        return at

    return skip


def _group(buf: bytes, at: int, form: int) -> int:
    for _ in range(2 if form == 1 else 3):
        _, at = length(buf, at)
    pending, at = length(buf, at)
    for _ in range(pending):
        _, at = length(buf, at + 24)
    consumers, at = length(buf, at)
    for _ in range(consumers):
        at = skip_string(buf, at) + (16 if form == 3 else 8)
        owned, at = length(buf, at)
        at += 16 * owned
    return at


_SKIPS: Final[Mapping[int, Callable[[bytes, int], int]]] = {
    0: skip_string,
    1: _strings(1),
    2: _strings(1),
    3: _old_scores,
    4: _strings(2),
    5: _scores,
    7: _module,
    **dict.fromkeys((9, 10, 11, 12, 13, 16, 17, 20), skip_string),
    14: _strings(1),
    15: _stream(1),
    18: _quicklist2,
    19: _stream(2),
    21: _stream(3),
    24: _hash_expiring,
    25: lambda buf, at: skip_string(buf, at + 8),
}


class _Buffer:
    """The bytes that are being looked at; grows where one item is longer than it."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self.data = b""
        self.at = 0
        self.passed = 0

    def more(self) -> None:
        """As much again as could not be read, so that a long item is not walked over too often."""
        left = self.data[self.at :]
        held, size = [left], 0
        while size < max(len(left), _LEAST):
            block = next(self._blocks, None)
            if block is None:
                break
            held.append(block)
            size += len(block)
        if not size:
            raise Unreadable("the RDB ends in the middle", detail=f"after {self.passed + self.at:,} bytes")
        self.passed += self.at
        self.data, self.at = b"".join(held), 0


class Rdb:
    """One pass over an RDB.

    Args:
        blocks: The file's bytes in order. Its checksum is not looked at: who reads a file checks it.
        only: What the keys that are given out begin with.
    """

    def __init__(self, blocks: Iterable[bytes], only: bytes = b"") -> None:
        self.head = Head()
        self._only = only
        self._buffer = _Buffer(blocks)
        self._db = 0
        self._ended = False

    @property
    def consumed(self) -> int:
        """Bytes that are behind the item given out last."""
        return self._buffer.passed + self._buffer.at

    def items(self) -> Iterator[Item]:
        """Every key that is wanted and every function library, in the file's order.

        Raises:
            Unreadable: It is no RDB, cut off, or has something in it that cannot be passed over.
        """
        self._header()
        if self.head.version > NEWEST:
            raise Unreadable(
                f"it is of RDB version {self.head.version}, and this haops reads up to {NEWEST}",
                hint="restore it as a whole, or with a newer haops",
            )
        yield from self._items()

    def read_notes(self) -> None:
        """Read as far as the first key: all notes stand before it, whatever the version.

        Raises:
            Unreadable: It does not begin as an RDB does, or is cut off before a key.
        """
        self._header()
        next(self._items(), None)

    def _items(self) -> Iterator[Item]:
        buffer, only = self._buffer, self._only
        while not self._ended:
            try:
                yield from self._short_strings()
                item, end = self._next(buffer.data, buffer.at)
                within(buffer.data, end)
            except (IndexError, Short):
                buffer.more()
                continue
            buffer.at = end
            if isinstance(item, Library) or (item is not None and item.key.startswith(only)):
                yield item

    def _short_strings(self) -> Iterator[Entry]:
        """The run of short strings that comes next, if one does: most of many files, at twice the speed."""
        buffer, only, data = self._buffer, self._only, self._buffer.data
        most = len(data)
        while data[buffer.at] == STRING:
            start = buffer.at + 2
            at = start + data[start - 1]
            if data[start - 1] >= _ONE_BYTE:
                return
            first = data[at]
            if first < _ONE_BYTE:
                end = at + 1 + first
            elif first < _TWO_BYTES:
                end = at + 2 + ((first & 0x3F) << 8 | data[at + 1])
            elif first == _PACKED and data[at + 1] < _ONE_BYTE and data[at + 2] < _TWO_BYTES:
                end = at + (3 if data[at + 2] < _ONE_BYTE else 4) + data[at + 1]
            else:
                return
            if end > most:
                return
            buffer.at = end
            if data.startswith(only, start, at):
                yield Entry(self._db, data[start:at], STRING, data[at:end], 0)

    def _header(self) -> None:
        while len(self._buffer.data) < _HEADER:
            self._buffer.more()
        start = self._buffer.data[:_HEADER]
        if start[:5] != _MAGIC or not start[5:].isdigit():
            raise Unreadable("it does not begin as an RDB does", detail=repr(start))
        self.head.version = int(start[5:])
        self._buffer.at = _HEADER

    def _next(self, buf: bytes, at: int) -> tuple[Item | None, int]:
        code = buf[at]
        expires = 0
        at += 1
        # What may stand before a key: its expiry, and how often or long ago it was used.
        while code in (EXPIRE_MS, EXPIRE_S, IDLE, FREQ):
            if code == EXPIRE_MS:
                expires, at = int.from_bytes(buf[at : within(buf, at + 8)], "little"), at + 8
            elif code == EXPIRE_S:
                expires, at = int.from_bytes(buf[at : within(buf, at + 4)], "little") * 1000, at + 4
            elif code == IDLE:
                _, at = length(buf, at)
            else:
                at += 1
            code = buf[at]
            at += 1
        if code < SLOT_INFO:
            return self._entry(buf, at, code, expires)
        return self._note(buf, at, code)

    def _entry(self, buf: bytes, at: int, kind: int, expires: int) -> tuple[Entry, int]:
        skip = _SKIPS.get(kind)
        if skip is None:
            raise Unreadable(f"a value is of type {kind}, which this haops does not know")
        key, at = string(buf, at)
        end = within(buf, skip(buf, at))
        return Entry(self._db, key, kind, buf[at:end], expires), end

    def _note(self, buf: bytes, at: int, code: int) -> tuple[Item | None, int]:
        if code == SELECT:
            self._db, at = length(buf, at)
        elif code == AUX:
            name, at = string(buf, at)
            value, at = string(buf, at)
            self.head.notes[name.decode(errors="replace")] = value.decode(errors="replace")
        elif code in (RESIZE, SLOT_INFO):
            for _ in range(2 if code == RESIZE else 3):
                _, at = length(buf, at)
        elif code == FUNCTION:
            source, at = string(buf, at)
            return Library(source), at
        elif code == MODULE_AUX:
            at = _module(buf, at)  # its `when` is a piece like the others
        elif code == END:
            self._ended = True
        else:
            raise Unreadable(f"it has a part of the unknown kind {code}")
        return None, at


def notes_of(start: bytes) -> Mapping[str, str]:
    """The notes of an RDB of which only the beginning is at hand, and its version among them.

    Raises:
        Unreadable: It does not begin as an RDB does.
    """
    rdb = Rdb([start])
    try:
        rdb.read_notes()
    except Unreadable:
        if not rdb.head.version:
            raise
    return {**rdb.head.notes, VERSION: str(rdb.head.version)}

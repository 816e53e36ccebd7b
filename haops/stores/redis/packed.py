"""The compact encodings inside an RDB's values: listpack, ziplist, intset.

Formats as in Redis' `listpack.c`, `ziplist.c` and `intset.c`. Numbers come out as the text that
the server would answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from haops.stores.redis.coding import Unreadable

_LISTPACK_HEAD: Final = 6
_ZIPLIST_HEAD: Final = 10
_END: Final = 0xFF
_INTEGERS: Final = {0xF1: 2, 0xF2: 3, 0xF3: 4, 0xF4: 8}
_ZIP_INTEGERS: Final = {0xC0: 2, 0xD0: 4, 0xE0: 8, 0xF0: 3, 0xFE: 1}


def _number(data: bytes) -> bytes:
    return b"%d" % int.from_bytes(data, "little", signed=True)


def listpack(data: bytes) -> Iterator[bytes]:
    """A listpack's elements. Raises Unreadable."""
    at = _LISTPACK_HEAD
    try:
        while data[at] != _END:
            value, end = _listpack_element(data, at)
            yield value
            size = end - at
            at = end + (1 if size < 128 else 2 if size < 16384 else 3 if size < 2097152 else
                        4 if size < 268435456 else 5)  # fmt: skip
    except IndexError as error:
        raise Unreadable("a listpack is cut off") from error


def _listpack_element(data: bytes, at: int) -> tuple[bytes, int]:
    first = data[at]
    if first < 0x80:
        return b"%d" % first, at + 1
    if first < 0xC0:
        start, size = at + 1, first & 0x3F
    elif first < 0xE0:
        value = (first & 0x1F) << 8 | data[at + 1]
        return b"%d" % (value - 8192 if value >= 4096 else value), at + 2
    elif first < 0xF0:
        start, size = at + 2, (first & 0x0F) << 8 | data[at + 1]
    elif first == 0xF0:
        start, size = at + 5, int.from_bytes(data[at + 1 : at + 5], "little")
    elif first in _INTEGERS:
        end = at + 1 + _INTEGERS[first]
        return _number(data[at + 1 : end]), end
    else:
        raise Unreadable(f"a listpack's element begins with {first:#x}")
    return data[start : start + size], start + size


def ziplist(data: bytes) -> Iterator[bytes]:
    """A ziplist's elements. Raises Unreadable."""
    at = _ZIPLIST_HEAD
    try:
        while data[at] != _END:
            at += 5 if data[at] == 0xFE else 1
            value, at = _ziplist_element(data, at)
            yield value
    except IndexError as error:
        raise Unreadable("a ziplist is cut off") from error


def _ziplist_element(data: bytes, at: int) -> tuple[bytes, int]:
    first = data[at]
    if first < 0x40:
        start, size = at + 1, first
    elif first < 0x80:
        start, size = at + 2, (first & 0x3F) << 8 | data[at + 1]
    elif first < 0xC0:
        start, size = at + 5, int.from_bytes(data[at + 1 : at + 5], "big")
    elif first in _ZIP_INTEGERS:
        end = at + 1 + _ZIP_INTEGERS[first]
        return _number(data[at + 1 : end]), end
    elif 0xF1 <= first <= 0xFD:
        return b"%d" % (first - 0xF1), at + 1
    else:
        raise Unreadable(f"a ziplist's element begins with {first:#x}")
    return data[start : start + size], start + size


def intset(data: bytes) -> Iterator[bytes]:
    """An intset's members."""
    width = int.from_bytes(data[:4], "little")
    count = int.from_bytes(data[4:8], "little")
    if width not in (2, 4, 8) or len(data) < 8 + width * count:
        raise Unreadable("an intset is cut off")
    for at in range(8, 8 + width * count, width):
        yield _number(data[at : at + width])


def groups_of(elements: Iterable[bytes], size: int) -> Iterator[Any]:
    """Elements `size` at a time. Raises Unreadable where some are left over."""
    one = iter(elements)
    try:
        yield from zip(*[one] * size, strict=True)
    except ValueError:
        raise Unreadable("a packed value lacks its last part") from None

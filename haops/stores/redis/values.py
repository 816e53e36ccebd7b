"""From an RDB's raw values to the bodies of `digest.py`."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from haops.stores.compare import readable
from haops.stores.redis.coding import Unreadable, length, string
from haops.stores.redis.digest import KINDS, OTHER, summed
from haops.stores.redis.packed import groups_of, intset, listpack, ziplist
from haops.stores.redis.rdb import Entry

_PREVIEW: Final = 40
_NAMES: Final = {
    **dict.fromkeys((0,), "string"),
    **dict.fromkeys((1, 10, 14, 18), "list"),
    **dict.fromkeys((2, 11, 20), "set"),
    **dict.fromkeys((3, 5, 12, 17), "zset"),
    **dict.fromkeys((4, 13, 16, 24, 25), "hash"),
    **dict.fromkeys((15, 19, 21), "stream"),
}
_PLAIN: Final = 1
# Hashes whose fields may expire.
_TIMED: Final = (24, 25)


@dataclass(frozen=True, slots=True)
class Value:
    """A value, as far as it is compared.

    Args:
        kind: TYPE's word; empty for what is not decoded.
        letter: The same in the digest.
        preview: The beginning of a string, or how many elements there are.
    """

    kind: str
    letter: bytes
    body: bytes
    preview: str


def value_of(entry: Entry, now_ms: int) -> Value:
    """Decode a value; fields of a hash whose time is over at `now_ms` are left out. Raises Unreadable."""
    kind = _NAMES.get(entry.kind, "")
    if not kind:
        return Value("", OTHER, b"", "")
    if kind == "string":
        body, _ = string(entry.raw, 0)
        return Value(kind, KINDS[kind], body, preview_of(body))
    body = summed(_elements(entry, now_ms))
    count = int.from_bytes(body[8:], "big")
    return Value(kind, KINDS[kind], body, f"{count} elements")


def is_over(entry: Entry, now_ms: int) -> bool:
    """Whether it is a hash whose fields' times are all over: a server shows no such key. Raises Unreadable."""
    if entry.kind not in _TIMED:
        return False
    # It begins with the earliest time.
    if int.from_bytes(entry.raw[:8], "little") > now_ms:
        return False
    return all(0 < expires <= now_ms for _, _, expires in _hash(entry.raw, entry.kind))


def preview_of(value: bytes) -> str:
    """The beginning of a string, for people."""
    return readable(value[:_PREVIEW]) + ("..." if len(value) > _PREVIEW else "")


def _elements(entry: Entry, now_ms: int) -> Iterable[bytes]:
    raw, kind = entry.raw, entry.kind
    name = _NAMES[kind]
    if name == "list":
        return (index.to_bytes(4, "big") + value for index, value in enumerate(_list(raw, kind)))
    if name == "set":
        return _set(raw, kind)
    if name == "zset":
        return (score + member for member, score in _zset(raw, kind))
    if name == "hash":
        return (
            _sized(field) + value + expires.to_bytes(8, "big")
            for field, value, expires in _hash(raw, kind)
            if not 0 < expires <= now_ms
        )
    return _stream(raw, kind)


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _strings(raw: bytes) -> Iterator[bytes]:
    """A count and as many strings; pairs are counted by the caller."""
    count, at = length(raw, 0)
    for _ in range(count):
        value, at = string(raw, at)
        yield value


def _list(raw: bytes, kind: int) -> Iterator[bytes]:
    if kind == 1:
        yield from _strings(raw)
    elif kind == 10:
        yield from ziplist(string(raw, 0)[0])
    elif kind == 14:
        for node in _strings(raw):
            yield from ziplist(node)
    else:
        count, at = length(raw, 0)
        for _ in range(count):
            form, at = length(raw, at)
            node, at = string(raw, at)
            if form == _PLAIN:
                yield node
            else:
                yield from listpack(node)


def _set(raw: bytes, kind: int) -> Iterator[bytes]:
    if kind == 2:
        return _strings(raw)
    packed, _ = string(raw, 0)
    return intset(packed) if kind == 11 else listpack(packed)


def _score(text: bytes | float) -> bytes:
    value = float(text)
    return struct.pack(">d", value if value else 0.0)  # -0 and 0 are the same score


def _zset(raw: bytes, kind: int) -> Iterator[tuple[bytes, bytes]]:
    if kind in (12, 17):
        packed, _ = string(raw, 0)
        flat = ziplist(packed) if kind == 12 else listpack(packed)
        for member, score in groups_of(flat, 2):
            yield member, _score(score)
        return
    count, at = length(raw, 0)
    for _ in range(count):
        member, at = string(raw, at)
        if kind == 5:
            (number,) = struct.unpack_from("<d", raw, at)
            at += 8
        else:
            size = raw[at]
            words = {253: b"nan", 254: b"inf", 255: b"-inf"}
            number = float(words.get(size) or raw[at + 1 : at + 1 + size])
            at += 1 + (size if size not in words else 0)
        yield member, _score(number)


def _hash(raw: bytes, kind: int) -> Iterator[tuple[bytes, bytes, int]]:
    if kind == 4:
        count, at = length(raw, 0)
        for _ in range(count):
            field, at = string(raw, at)
            value, at = string(raw, at)
            yield field, value, 0
    elif kind == 24:
        yield from _expiring(raw)
    elif kind == 25:
        for field, value, expires in groups_of(listpack(string(raw, 8)[0]), 3):
            yield field, value, int(expires)
    else:
        packed, _ = string(raw, 0)
        for field, value in groups_of(ziplist(packed) if kind == 13 else listpack(packed), 2):
            yield field, value, 0


def _expiring(raw: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Each field's expiry is told as the distance to the earliest one, plus one; 0 is never."""
    earliest = int.from_bytes(raw[:8], "little")
    count, at = length(raw, 8)
    for _ in range(count):
        distance, at = length(raw, at)
        field, at = string(raw, at)
        value, at = string(raw, at)
        yield field, value, earliest + distance - 1 if distance else 0


def _stream(raw: bytes, kind: int) -> Iterator[bytes]:
    count, at = length(raw, 0)
    for _ in range(count):
        first, at = string(raw, at)
        node, at = string(raw, at)
        yield from _entries(first, node)
    _, at = length(raw, at)
    last, at = _id(raw, at)
    yield b"l" + last
    for _ in range(0 if kind == 15 else 5):
        _, at = length(raw, at)
    groups, at = length(raw, at)
    for _ in range(groups):
        name, at = string(raw, at)
        group, at = _id(raw, at)
        if kind != 15:
            _, at = length(raw, at)
        pending, at = length(raw, at)
        yield b"g" + pending.to_bytes(4, "big") + _sized(group) + name
        at = _pass_group(raw, at, pending, kind)


def _pass_group(raw: bytes, at: int, pending: int, kind: int) -> int:
    for _ in range(pending):
        _, at = length(raw, at + 24)
    consumers, at = length(raw, at)
    for _ in range(consumers):
        _, at = string(raw, at)
        owned, at = length(raw, at + (16 if kind == 21 else 8))
        at += 16 * owned
    return at


def _id(raw: bytes, at: int) -> tuple[bytes, int]:
    ms, at = length(raw, at)
    number, at = length(raw, at)
    return b"%d-%d" % (ms, number), at


def _entries(first: bytes, node: bytes) -> Iterator[bytes]:
    """A stream's node: a master entry whose fields others may share, then the entries (`t_stream.c`)."""
    ms, number = int.from_bytes(first[:8], "big"), int.from_bytes(first[8:16], "big")
    parts = listpack(node)
    try:
        for _ in range(2):
            next(parts)
        shared = [next(parts) for _ in range(int(next(parts)))]
        next(parts)
        for flag in parts:
            name = b"%d-%d" % (ms + int(next(parts)), number + int(next(parts)))
            same = int(flag) & 2
            fields = shared if same else []
            pairs = []
            for index in range(len(shared) if same else int(next(parts))):
                field = fields[index] if same else next(parts)
                pairs.append(_sized(field) + _sized(next(parts)))
            next(parts)
            if not int(flag) & 1:
                yield b"e" + _sized(name) + b"".join(pairs)
    except StopIteration:
        raise Unreadable("a stream's entries are cut off") from None

"""What a record's digest is; defined once, and computed alike in the server (`lua.py`) and from an RDB.

A record is `body | key | expiry | kind | database | length of the key`, the last four of fixed
width (8, 1, 1, 4 bytes, big-endian), so that no two records have the same bytes. The digest is
the first 64 bits of its SHA-1, the one hash that a server's scripts can compute.

The body of a string is its value. Of anything else it is the sum of its elements' digests
mod 2**64 and their number (8 and 4 bytes), so the order in which a server keeps a hash or a set
does not matter, and a large one can be digested in slices:

- list: index (4) and value;  set: member;  sorted set: score (IEEE 754, 8) and member;
- hash: length of the field (4), field, value, expiry of the field (8; 0 is never);
- stream: `e`, length of the id (4), id, and each field and value with its length (4);
  `g`, number pending (4), length of the last id (4), last id, name for each group; `l` and the last id;
- anything else (a module's): nothing. Presence and expiry are compared only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from haops.errors import BadInput
from haops.stores.compare import readable

KINDS: Final = {"string": b"s", "list": b"l", "set": b"e", "zset": b"z", "hash": b"h", "stream": b"x"}
OTHER: Final = b"m"
_MASK: Final = (1 << 64) - 1
_NOT_FIRST: Final = b"\0"


def short(data: bytes) -> int:
    """The first 64 bits of SHA-1."""
    return int.from_bytes(hashlib.sha1(data, usedforsecurity=False).digest()[:8], "big")


def summed(elements: Iterable[bytes]) -> bytes:
    """The body of a value of many elements."""
    total = count = 0
    for element in elements:
        total += short(element)
        count += 1
    return body_of(total, count)


def body_of(total: int, count: int) -> bytes:
    """The body, from the sum of the elements' digests and their number."""
    return (total & _MASK).to_bytes(8, "big") + (count & 0xFFFFFFFF).to_bytes(4, "big")


def tag(db: int, key: bytes) -> int:
    """What finds a record again when it has changed: the first 32 bits of the SHA-1 of key and database."""
    return short(b"%b%c" % (key, db)) >> 32


def trailer(db: int, kind: bytes, expires: int, length: int) -> bytes:
    """What stands behind the key; `expires` in Unix ms, 0 is never."""
    return b"%b%b%c%b" % (expires.to_bytes(8, "big"), kind, db, length.to_bytes(4, "big"))


def record(db: int, key: bytes, kind: bytes, expires: int, body: bytes) -> int:
    """A record's digest."""
    return short(b"%b%b%b" % (body, key, trailer(db, kind, expires, len(key))))


@dataclass(frozen=True, slots=True)
class Place:
    """A key and the number of its database."""

    db: int
    key: bytes


def name_of(db: int, key: bytes) -> bytes:
    """A key as the comparison knows it: of database 0 as it is, of others with NUL, number and `:` before it."""
    if db == 0 and not key.startswith(_NOT_FIRST):
        return key
    return b"\0%d:%b" % (db, key)


def place_of(name: bytes) -> Place:
    """What `name_of` made a name of. Raises BadInput for what it cannot have made."""
    if not name.startswith(_NOT_FIRST):
        return Place(0, name)
    number, colon, key = name[1:].partition(b":")
    if not colon or not number.isdigit():
        raise BadInput(f"{name!r} names no key")
    return Place(int(number), key)


def show(name: bytes) -> str:
    """A key for people."""
    place = place_of(name)
    text = readable(place.key)
    return f"{text} (database {place.db})" if place.db else text

"""Which keys a server has: databases, prefixes, and removing by prefix."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from haops.stores.redis.wire import Wire, info

_COUNT: Final = 1000
_SPECIAL: Final = re.compile(rb"([*?\[\]\\^])")


def databases(wire: Wire) -> dict[int, int]:
    """Databases that have keys, and how many."""
    return {int(n[2:]): int(facts["keys"]) for n, facts in _keyspace(wire).items()}


def expiring(wire: Wire) -> dict[int, tuple[bool, bool]]:
    """For each database with keys, whether some key expires, and whether some field of a hash may."""
    return {
        int(n[2:]): (facts.get("expires") != "0", facts.get("subexpiry", "0") != "0")
        for n, facts in _keyspace(wire).items()
    }


def _keyspace(wire: Wire) -> dict[str, dict[str, str]]:
    lines = info(wire, "keyspace")
    return {name: dict(part.split("=", 1) for part in text.split(",")) for name, text in lines.items()}


def pattern(prefix: bytes) -> bytes:
    """What MATCH takes for keys that begin so."""
    return _SPECIAL.sub(rb"\\\1", prefix) + b"*"


def scan(wire: Wire, db: int, prefix: bytes) -> Iterator[list[bytes]]:
    """The keys that begin so, some at a time; a key may come twice."""
    wire.ask("SELECT", db)
    cursor = b"0"
    while True:
        cursor, found = wire.ask("SCAN", cursor, "MATCH", pattern(prefix), "COUNT", _COUNT)
        if found:
            yield found
        if cursor == b"0":
            return


def any_key(wire: Wire, db: int, prefix: bytes) -> bool:
    """Whether a key begins so."""
    return any(scan(wire, db, prefix))


def remove(wire: Wire, db: int, prefix: bytes) -> None:
    """Unlink the keys that begin so."""
    for found in scan(wire, db, prefix):
        wire.ask("UNLINK", *found)

"""Key by key: commands that put an RDB's keys into a living server, many at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import anycrc

from haops.stores.redis.rdb import STRING, Entry, Library, Rdb
from haops.stores.redis.wire import Wire, pack
from haops.wait import REAL_CLOCK, Clock

_BATCH: Final = 512 * 1024
_SET: Final = b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
_SET_UNTIL: Final = b"*5\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$4\r\nPXAT\r\n$%d\r\n%b\r\n"
_RESTORE: Final = (
    b"*6\r\n$7\r\nRESTORE\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$7\r\nREPLACE\r\n$6\r\nABSTTL\r\n"
)
_NO_REPLICAS: Final = "NOREPLICAS"
_REPLICAS_S: Final = 60.0
_PAUSE_S: Final = 0.2
_CRC: Final = anycrc.Model("CRC64-REDIS")


def payload(kind: int, raw: bytes, version: int) -> bytes:
    """What RESTORE takes: type, value, the RDB version in two bytes, CRC-64 of all that."""
    body = b"%c%b%b" % (kind, raw, version.to_bytes(2, "little"))
    return body + int(_CRC.calc(body)).to_bytes(8, "little")


def restore_command(key: bytes, dumped: bytes, expires: int) -> bytes:
    """RESTORE over whatever is there; `expires` in Unix ms, 0 is never."""
    until = b"%d" % expires
    return _RESTORE % (len(key), key, len(until), until, len(dumped), dumped)


def command(entry: Entry, version: int) -> bytes:
    """The command that makes this key what it was."""
    key, raw = entry.key, entry.raw
    # Its first byte tells a plain string from a number or a packed one; SET costs the server less.
    if entry.kind == STRING and raw[0] < 0xC0:
        head = raw[0]
        value = raw[1 if head < 0x40 else 2 if head < 0x80 else 5 if head == 0x80 else 9 :]
        if not entry.expires:
            return _SET % (len(key), key, len(value), value)
        until = b"%d" % entry.expires
        return _SET_UNTIL % (len(key), key, len(value), value, len(until), until)
    return restore_command(key, payload(entry.kind, raw, version), entry.expires)


@dataclass(frozen=True, slots=True)
class Passed:
    """How far an RDB was put into a server: wanted keys of it looked at, and bytes of it."""

    keys: int
    size: int


@dataclass(frozen=True, slots=True)
class _Batch:
    """Commands that may be repeated: those for keys stand behind one that selects the database."""

    data: bytes
    count: int
    passed: Passed


class _Sender:
    """Two batches under way at a time, so that the server always has work."""

    def __init__(self, wire: Wire, clock: Clock) -> None:
        self._wire = wire
        self._clock = clock
        self._under_way: _Batch | None = None

    def post(self, batch: _Batch | None) -> Passed | None:
        """Send a batch; how far the one before came, which is acknowledged. None sends nothing more."""
        before, self._under_way = self._under_way, batch
        if batch is not None:
            self._wire.send(batch.data)
        if before is None:
            return None
        if refused := self._wire.refusal(before.count):
            again = [before]
            if batch is not None:
                self._wire.refusal(batch.count)  # told again when it is repeated
                self._under_way = None
                again.append(batch)
            self._repeat(again, refused)
            return again[-1].passed
        return before.passed

    def _repeat(self, batches: list[_Batch], refused: str) -> None:
        """A primary whose replicas fall behind the restore refuses writes until they have caught up."""
        end = self._clock.monotonic() + _REPLICAS_S
        for batch in batches:
            while refused:
                if not refused.startswith(_NO_REPLICAS) or self._clock.monotonic() > end:
                    raise self._wire.failure("it refused a key", node=self._wire.node.name, detail=refused)
                self._clock.sleep(_PAUSE_S)
                self._wire.send(batch.data)
                refused = self._wire.refusal(batch.count)
            refused = _NO_REPLICAS  # the next one has to be sent again as well


def put(rdb: Rdb, wire: Wire, skip: int, *, libraries: bool, clock: Clock = REAL_CLOCK) -> Iterator[Passed]:
    """Put the keys that `rdb` gives out into a server, from the key number `skip` on.

    Keys whose time is over are left out. What is yielded has been acknowledged.

    Args:
        libraries: Whether function libraries are put, too.
    """
    now = int(time.time() * 1000)
    sender = _Sender(wire, clock)
    batch: list[bytes] = []
    size, seen = 0, 0
    selected: int | None = None  # in this batch; each may be sent again by itself
    for item in rdb.items():
        if isinstance(item, Library):
            if libraries:
                batch.append(pack("FUNCTION", "LOAD", "REPLACE", item.code))
                size += len(item.code)
            continue
        seen += 1
        if seen <= skip or 0 < item.expires <= now:
            continue
        if item.db != selected:
            selected = item.db
            batch.append(pack("SELECT", selected))
        one = command(item, rdb.head.version)
        batch.append(one)
        size += len(one)
        if size >= _BATCH:
            if passed := sender.post(_Batch(b"".join(batch), len(batch), Passed(seen, rdb.consumed))):
                yield passed
            batch, size, selected = [], 0, None
    last = Passed(seen, rdb.consumed)
    for each in (_Batch(b"".join(batch), len(batch), last), None):
        if passed := sender.post(each):
            yield passed
    yield last

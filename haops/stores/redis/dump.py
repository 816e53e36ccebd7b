"""Taking a dump as a replica would that wants nothing after it (`REPLCONF rdb-only 1`, `SYNC`).

The server forks and streams an RDB: `$<length>` and the bytes, or `$EOF:<40 bytes>`, the bytes
and those 40 again. Before it begins it may send empty lines to show that it is alive.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import anycrc

from haops.stores.backup import BackupFailed
from haops.stores.redis.wire import Wire, pack

# The part of a backup.
DUMP: Final = "redis/dump.rdb"

_MARK: Final = 40
_TRAILER: Final = 8
_END: Final = 0xFF
_LONGEST_LINE: Final = 1024


class Checked:
    """An RDB's own checksum, over a stream: CRC-64 of Jones, in the last eight bytes."""

    def __init__(self) -> None:
        self._crc = anycrc.Model("CRC64-REDIS")
        self._sum = 0
        self._first = b""
        self._last = b""
        self.size = 0

    def add(self, data: bytes) -> None:
        """The next bytes."""
        self._sum = self._crc.calc(data, self._sum)
        if len(self._first) < 5:
            self._first = (self._first + data[:5])[:5]
        keep = _TRAILER + 1
        self._last = data[-keep:] if len(data) >= keep else (self._last + data)[-keep:]
        self.size += len(data)

    def finish(self) -> None:
        """Raises BackupFailed where the whole is no RDB, cut off, or not what the server wrote."""
        if self._first != b"REDIS":
            raise BackupFailed("what the server sent is no RDB", detail=repr(self._first))
        if len(self._last) <= _TRAILER or self._last[0] != _END:
            raise BackupFailed("the RDB is cut off", detail=f"after {self.size:,} bytes")
        # The sum over data and its own sum is zero. A server with `rdbchecksum no` writes zeros instead.
        if self._sum and self._last[1:] != bytes(_TRAILER):
            raise BackupFailed("the RDB's checksum is wrong", detail=f"{self.size:,} bytes")


def take(wire: Wire) -> Iterator[bytes]:
    """The dump, block by block, its checksum checked at the end. The connection is used up by it.

    Raises:
        BackupFailed: The server refused or broke off, or the dump is not whole.
    """
    wire.ask("REPLCONF", "capa", "eof")
    wire.ask("REPLCONF", "rdb-only", "1")
    wire.send(pack("SYNC"))
    line, rest = _announcement(wire)
    checked = Checked()
    if line.startswith(b"$EOF:"):
        blocks = _until_mark(wire, rest, line[5:])
    else:
        blocks = _counted(wire, rest, int(line[1:]))
    for block in blocks:
        checked.add(block)
        yield block
    checked.finish()


def _announcement(wire: Wire) -> tuple[bytes, bytes]:
    held = b""
    while True:
        held = held.lstrip(b"\r\n")
        line, end, rest = held.partition(b"\n")
        if end:
            break
        if len(held) > _LONGEST_LINE:
            raise BackupFailed("it does not answer SYNC as a server does", node=wire.node.name)
        held += wire.read()
    line = line.strip()
    marked = line.startswith(b"$EOF:") and len(line) == 5 + _MARK
    if not marked and not (line.startswith(b"$") and line[1:].isdigit()):
        raise BackupFailed(
            "it refused to send a dump",
            node=wire.node.name,
            detail=line.decode(errors="replace"),
            hint="a replica sends one only while its own link is up",
        )
    return line, rest


def _counted(wire: Wire, rest: bytes, size: int) -> Iterator[bytes]:
    left = size
    data = rest
    while left:
        data = (data or wire.read())[:left]
        left -= len(data)
        yield data
        data = b""


def _until_mark(wire: Wire, rest: bytes, mark: bytes) -> Iterator[bytes]:
    held = rest
    # The mark is random, so it stands at the end only; the server sends nothing after it.
    while not held.endswith(mark):
        if len(held) > _MARK:
            yield held[:-_MARK]
            held = held[-_MARK:]
        held += wire.read()
    if len(held) > _MARK:
        yield held[:-_MARK]

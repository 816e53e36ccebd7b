"""Standing in as a primary: a server that is told to follow haops takes a whole RDB at its own speed.

It is Redis' replication as a replica sees it: PING, REPLCONF, PSYNC, then `+FULLRESYNC`, an
RDB, and commands, whose bytes the replica counts and acknowledges.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Final

import hiredis

from haops.stores.backup import RestoreFailed

_CALL_S: Final = 30.0
# A server that loads or writes to a slow disk takes nothing meanwhile.
_STALL_S: Final = 120.0
_PIECE: Final = 64 * 1024
_OK: Final = b"+OK\r\n"


def _left(end: float) -> float:
    """Seconds until then. Raises TimeoutError where there are none."""
    if (left := end - time.monotonic()) <= 0:
        raise TimeoutError("timed out")
    return left


class StandIn:
    """Listens at one address for one server.

    Args:
        address: This machine's address on the cluster's network.
        caller: The server's own address there; nobody else is answered.
    """

    def __init__(self, address: str, caller: str, *, call_s: float = _CALL_S) -> None:
        self._caller = caller
        self._call_s = call_s
        try:
            self._listener = socket.create_server((address, 0))
        except OSError as error:
            raise RestoreFailed("cannot listen for the server", detail=f"{address}: {error}") from error
        self.port: int = self._listener.getsockname()[1]
        self._link: socket.socket | None = None
        self._reader = hiredis.Reader()
        self.streamed = 0

    def accept(self) -> None:
        """Until the server has called and asked for everything. Raises RestoreFailed."""
        end = time.monotonic() + self._call_s
        try:
            self._link = self._called(end)
            while (command := self._command(end)) not in (b"PSYNC", b"SYNC"):
                self._link.sendall(b"+PONG\r\n" if command == b"PING" else _OK)
            if command == b"PSYNC":
                self._link.sendall(f"+FULLRESYNC {secrets.token_hex(20)} 0\r\n".encode())
        except (OSError, hiredis.ProtocolError) as error:
            raise RestoreFailed(
                "the server did not call haops to be filled",
                detail=str(error) or type(error).__name__,
                hint="a firewall between the containers and this machine? Key by key it goes without",
            ) from error
        self._link.settimeout(_STALL_S)

    def _called(self, end: float) -> socket.socket:
        """The server's connection; others may call, too, but not put it off."""
        while True:
            self._listener.settimeout(_left(end))
            link, (peer, *_) = self._listener.accept()
            if peer == self._caller:
                return link
            link.close()

    def _command(self, end: float) -> bytes:
        """The next command's name."""
        assert self._link is not None
        while (found := self._reader.gets()) is False:
            self._link.settimeout(_left(end))
            data = self._link.recv(_PIECE)
            if not data:
                raise ConnectionError("it hung up")
            self._reader.feed(data)
        if not isinstance(found, list) or not found or not isinstance(found[0], bytes):
            raise ConnectionError("it said something that is no command")
        return found[0].upper()

    def snapshot(self, size: int, blocks: Iterable[bytes]) -> Iterator[int]:
        """Send an RDB of `size` bytes; yields how many are sent. Raises RestoreFailed."""
        sent = 0
        self._send(b"$%d\r\n" % size)
        for block in blocks:
            self._send(block)
            sent += len(block)
            yield sent
        if sent != size:
            raise RestoreFailed(f"the backup's dump has {sent:,} bytes, not {size:,}")

    def commands(self, data: bytes) -> None:
        """Send commands that come after the RDB. Raises RestoreFailed."""
        self._send(data)
        self.streamed += len(data)

    def lost(self) -> bool:
        """Whether the server has hung up; what it acknowledged meanwhile is read and passed over."""
        assert self._link is not None
        self._link.settimeout(0.0)
        try:
            while data := self._link.recv(_PIECE):
                del data
            return True
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self._link.settimeout(_STALL_S)

    def _send(self, data: bytes) -> None:
        assert self._link is not None
        try:
            self._link.sendall(data)
        except OSError as error:
            raise RestoreFailed("the server broke off the restore", detail=str(error)) from error

    def close(self) -> None:
        """Hang up."""
        if self._link is not None:
            self._link.close()
        self._listener.close()

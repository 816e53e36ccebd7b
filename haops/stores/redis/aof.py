"""The append-only file in its parts: the manifest, and the commands with their time stamps.

The manifest has a line `file NAME seq N type b|i|h` for each part: the base, what was added
since, and history that is about to be removed. With `aof-timestamp-enabled`, a line `#TS:`
and Unix seconds stands before the first command of each second (Redis, `aof.c`).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from haops.stores.backup import BackupFailed

# Parts of a backup, and the detail of its manifest that says up to when the log goes (ISO 8601, UTC).
LOG: Final = "redis/aof/"
MANIFEST: Final = "manifest"
UNTIL: Final = "log-until"

_STAMP: Final = b"#TS:"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The parts of an append-only file, without history.

    Args:
        added: In the order in which they are read.
    """

    base: str
    added: tuple[str, ...]


def read_manifest(text: str) -> Manifest:
    """A manifest's text. Raises BackupFailed where it is none, or names no base."""
    base, added = "", []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        fields = _fields(line)
        if not {"file", "seq", "type"} <= fields.keys() or not fields["seq"].isdigit():
            raise BackupFailed("the manifest of the append-only file has a line of another kind", detail=line)
        if fields["type"] == "b":
            base = fields["file"]
        elif fields["type"] == "i":
            added.append((int(fields["seq"]), fields["file"]))
    if not base:
        raise BackupFailed("the append-only file has no base", hint="let it be rewritten: BGREWRITEAOF")
    return Manifest(base, tuple(name for _, name in sorted(added)))


def _fields(line: str) -> dict[str, str]:
    try:
        words = shlex.split(line)
    except ValueError:  # a quote that nothing closes
        return {}
    return dict(zip(words[::2], words[1::2], strict=False))


class _Open(Exception):
    """The buffer ends before the command does."""


def _command_end(buf: bytes, at: int) -> int:
    """Where the command that begins at `at` ends. Raises _Open, or BackupFailed where there is none."""
    end = buf.find(b"\r\n", at)
    if end < 0:
        raise _Open
    try:
        if buf[at] != 0x2A:
            raise ValueError
        for _ in range(int(buf[at + 1 : end])):
            at = end + 2
            end = buf.find(b"\r\n", at)
            if end < 0:
                raise _Open
            if buf[at] != 0x24:
                raise ValueError
            end += 2 + int(buf[at + 1 : end])
    except IndexError:
        raise _Open from None
    except ValueError:
        raise BackupFailed("the append-only file is damaged", detail=repr(buf[at : at + 40])) from None
    if end + 2 > len(buf):
        raise _Open
    return end + 2


class Replay:
    """The commands of one or more files up to a moment, as a primary would send them.

    Args:
        until: Unix seconds; commands of a later second are left out. None takes all.
    """

    def __init__(self, until: int | None) -> None:
        self._until = until
        self.over = False
        self.consumed = 0
        self.last = 0

    def commands(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Whole commands, many in a piece, the stamps left out. A transaction comes whole or not at all.

        A command that the file's end cuts off is left out, too: the server was writing it.
        """
        buf, source = b"", iter(blocks)
        while not self.over:
            block = next(source, None)
            if block is None:
                return
            buf += block
            at, held = 0, 0  # up to `held`, everything is given out
            out: list[bytes] = []
            try:
                while not self.over:
                    at, held = self._unit(buf, at, held, out)
            except _Open:
                pass
            self.consumed += held
            if out:
                yield b"".join(out)
            buf = buf[held:]

    def _unit(self, buf: bytes, at: int, held: int, out: list[bytes]) -> tuple[int, int]:
        """One stamp, command or transaction. Raises _Open."""
        if at >= len(buf):
            raise _Open
        if buf[at] == 0x23:
            end = buf.find(b"\r\n", at)
            if end < 0:
                raise _Open
            self._stamp(buf[at:end])
            return end + 2, held if self.over else end + 2
        end = _command_end(buf, at)
        pieces = [buf[at:end]]
        if _is(pieces[0], b"multi"):
            while not _is(pieces[-1], b"exec"):
                start = end
                if start < len(buf) and buf[start] == 0x23:
                    end = buf.find(b"\r\n", start) + 2
                    if end < 2:
                        raise _Open
                    continue
                end = _command_end(buf, start)
                pieces.append(buf[start:end])
        out.extend(pieces)
        return end, end

    def _stamp(self, line: bytes) -> None:
        if not line.startswith(_STAMP) or not line[4:].isdigit():
            return
        moment = int(line[4:])
        if self._until is not None and moment > self._until:
            self.over = True
        else:
            self.last = moment


def _is(command: bytes, name: bytes) -> bool:
    return len(command) < 32 and command[:4] == b"*1\r\n" and command.lower().endswith(b"\r\n%b\r\n" % name)

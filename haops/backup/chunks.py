"""Chunks: a part's bytes, cut at every 4 MiB, each an object named by the BLAKE3 of its plain bytes.

An object is the word `HAOPSC1\\n`, a byte of flags (1: zstd, 2: age, in this order of making), 32 bytes of
BLAKE3 over name, flags and payload, and the payload. So whoever has no key can still tell that what is stored
is what was written under this name; who has it can tell that it is what was read from the server.

What the names give away: who can list the repository and guesses a chunk's bytes can tell whether it is there,
encrypted or not. Such a reader also sees sizes and which chunks two backups share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import zstandard
from blake3 import blake3

from haops.backup.documents import Damaged
from haops.backup.keys import Identities, Lock

CHUNK_SIZE: Final = 4 * 1024 * 1024

_MAGIC: Final = b"HAOPSC1\n"
_ZSTD: Final = 1
_AGE: Final = 2
_KNOWN: Final = _ZSTD | _AGE
_DIGEST_BYTES: Final = 32
_HEADER: Final = len(_MAGIC) + 1 + _DIGEST_BYTES
# Level 1 packs at 1 GB/s a core, six times as fast as a server hands its data out.
_LEVEL: Final = 1


def name_of(plain: bytes) -> str:
    """A chunk's name: BLAKE3, hexadecimal."""
    return blake3(plain).hexdigest()


def cut(blocks: Iterable[bytes], size: int = CHUNK_SIZE) -> Iterator[bytes]:
    """Blocks of any size as chunks of `size` bytes; only the last may be shorter. Keeps one chunk in memory."""
    held: list[memoryview] = []
    free = size
    for block in blocks:
        rest = memoryview(block)
        while len(rest) >= free:
            held.append(rest[:free])
            yield b"".join(held)
            rest = rest[free:]
            held, free = [], size
        if len(rest):
            held.append(rest)
            free -= len(rest)
    if held:
        yield b"".join(held)


def encode(name: str, plain: bytes, lock: Lock | None) -> bytes:
    """The object for a chunk: packed where that makes it smaller, then encrypted where there is a lock."""
    flags, payload = 0, plain
    packed = zstandard.ZstdCompressor(level=_LEVEL).compress(plain)
    if len(packed) < len(plain):
        flags, payload = _ZSTD, packed
    if lock is not None:
        flags, payload = flags | _AGE, lock.encrypt(payload)
    head = bytes([flags])
    return b"".join((_MAGIC, head, _digest(name, head, payload), payload))


def check(name: str, stored: bytes) -> tuple[int, memoryview]:
    """The flags and payload of an object, if it is what was written under this name.

    Raises:
        Damaged: It is not; says how.
    """
    view = memoryview(stored)
    if len(view) < _HEADER or bytes(view[: len(_MAGIC)]) != _MAGIC:
        raise Damaged("it is not a chunk of haops, or cut off")
    head = bytes(view[len(_MAGIC) : len(_MAGIC) + 1])
    payload = view[_HEADER:]
    if view[len(_MAGIC) + 1 : _HEADER] != _digest(name, head, payload):
        raise Damaged("the stored bytes are not those that were written")
    if head[0] & ~_KNOWN:
        raise Damaged(f"unknown flags {head[0]}: made by a newer haops")
    return head[0], payload


def decode(
    name: str, size: int, stored: bytes, identities: Identities, recipients: Sequence[str] = ()
) -> bytes:
    """A chunk's plain bytes, checked twice: as they are stored, and against name and size.

    Raises:
        Damaged: They are not what was backed up.
        NoKey: They are encrypted, and no identity fits.
    """
    flags, payload = check(name, stored)
    content = identities.decrypt(bytes(payload), recipients) if flags & _AGE else bytes(payload)
    if flags & _ZSTD:
        content = _unpack(content, size)
    if len(content) != size or name_of(content) != name:
        raise Damaged("the bytes are not those that were backed up")
    return content


def _unpack(packed: bytes, size: int) -> bytes:
    try:
        # What a frame claims is asked first: a forged one could claim any amount of memory.
        if zstandard.frame_content_size(packed) != size:
            raise Damaged("it unpacks to another size than was backed up")
        return zstandard.ZstdDecompressor().decompress(packed, max_output_size=size)
    except zstandard.ZstdError as error:
        raise Damaged("it cannot be unpacked", detail=str(error)) from error


def _digest(name: str, head: bytes, payload: bytes | memoryview) -> bytes:
    return blake3(bytes.fromhex(name)).update(head).update(payload).digest()

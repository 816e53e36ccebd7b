"""Chunks on their way into a repository: cut in the reader's thread; named, packed, encrypted, stored in others.

Hashing, packing and writing let other threads run, so a server's stream is read as fast as it comes. No more
than a few chunks are under way at a time, whatever a backup's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Semaphore
from types import TracebackType
from typing import Final, Self

from blake3 import blake3

from haops.backup import chunks
from haops.backup.documents import Damaged
from haops.backup.keys import Lock, ring
from haops.backup.manifest import Chunk, PartRecord
from haops.backup.repository import Repository, chunk_key
from haops.backup.storage import ObjectMissing
from haops.stores.backup import BackupFailed, Part

WORKERS: Final = 4
# One chunk in each worker's hands and two waiting: with their packed and encrypted forms about 70 MB.
_UNDER_WAY: Final = WORKERS + 2
# Into each header age puts a stanza of random length: 172 bytes between the extremes of 3000 objects.
_AGE_VARIES: Final = 512
# To read so many bytes costs no more than to ask how many there are.
_SMALL: Final = 16 * 1024

# A part that is stored, with what became of it; called in a worker.
Keep = Callable[[PartRecord], None]


@dataclass(frozen=True, slots=True)
class _Stored:
    chunk: Chunk
    new: int


@dataclass(slots=True)
class _Reading:
    """A part whose chunks are on their way."""

    part: Part
    stored: list[Future[_Stored]] = field(default_factory=list)
    size: int = 0
    digest: str = ""

    def record(self) -> PartRecord:
        """As it is journalled; waits for nothing, because its chunks are there."""
        stored = [future.result() for future in self.stored]
        return PartRecord(
            name=self.part.name,
            node=self.part.node,
            form=self.part.form,
            size=self.size,
            stamp=self.part.stamp,
            digest=self.digest,
            chunks=tuple(s.chunk for s in stored),
            new=sum(s.new for s in stored),
        )


class Pipeline:
    """Stores parts, several at a time where they are small; after an error, what is read to its end is still kept.

    Args:
        recipients: Who can read the chunks; none: everybody.
    """

    def __init__(self, repository: Repository, recipients: Sequence[str], keep: Keep) -> None:
        self._storage = repository.storage
        self._readers = ring(recipients)
        self._lock = Lock(recipients) if recipients else None
        self._keep = keep
        self.pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="chunks")
        self._room = Semaphore(_UNDER_WAY)
        self._pending: list[_Reading] = []
        self._keeping: list[Future[None]] = []
        self._failed: Future[_Stored] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None and self._failed is None:
                with suppress(Exception):  # what is read to its end need not be read again
                    self.flush()
        finally:
            self.pool.shutdown(wait=True, cancel_futures=True)

    def write(self, part: Part, blocks: Iterable[bytes]) -> None:
        """Read a part to its end; returns while its last chunks are still on their way.

        Raises:
            BackupFailed: It has not the size that was announced.
            HaopsError: Storing failed, of this part or an earlier one.
        """
        reading, hasher = _Reading(part), blake3()
        for plain in chunks.cut(blocks, chunks.CHUNK_SIZE):
            self._room.acquire()
            self._raise_failure()
            self._settle()
            reading.stored.append(self._submit(plain))
            hasher.update(plain)
            reading.size += len(plain)
        if part.size is not None and part.size != reading.size:
            raise BackupFailed(
                f"{part.name} came to {reading.size:,} bytes; {part.size:,} were announced",
                node=part.node or None,
                hint="run the same command again: it goes on with what is whole",
            )
        reading.digest = hasher.hexdigest()
        self._pending.append(reading)
        self._settle()

    def flush(self) -> None:
        """Wait until all is stored and kept. Raises what went wrong."""
        for reading in self._pending:
            for future in reading.stored:
                future.result()
        self._settle()
        for kept in self._keeping:
            kept.result()
        self._keeping.clear()

    def _settle(self) -> None:
        """Have the parts kept whose chunks are all there."""
        waiting = []
        for reading in self._pending:
            if all(future.done() for future in reading.stored):
                self._keeping.append(self.pool.submit(self._keep, reading.record()))
            else:
                waiting.append(reading)
        self._pending = waiting
        for kept in [k for k in self._keeping if k.done()]:
            kept.result()
            self._keeping.remove(kept)

    def _submit(self, plain: bytes) -> Future[_Stored]:
        future = self.pool.submit(self._store, plain)
        future.add_done_callback(self._done)
        return future

    def _done(self, future: Future[_Stored]) -> None:
        if not future.cancelled() and future.exception() is not None:
            self._failed = future
        self._room.release()

    def _raise_failure(self) -> None:
        if self._failed is not None:
            self._failed.result()

    def _store(self, plain: bytes) -> _Stored:
        name = chunks.name_of(plain)
        key = chunk_key(name, self._readers)
        size = self._storage.size(key)
        if size is None:
            content = chunks.encode(name, plain, self._lock)
            if self._storage.put_new(key, content):
                return _Stored(Chunk(name, len(plain), len(content)), len(content))
            size = self._storage.size(key) or len(content)
        elif not self._may_lean_on(name, key, plain, size):
            content = chunks.encode(name, plain, self._lock)
            self._storage.put(key, content)
            size = len(content)
        return _Stored(Chunk(name, len(plain), size), 0)

    def _may_lean_on(self, name: str, key: str, plain: bytes, size: int) -> bool:
        """Whether a chunk that is there is whole: if it is not, here is what it was.

        On a far storage, where reading costs, a large one is read only if it has not the length that is due:
        another version of zstd may have packed it, and it is whole all the same.
        """
        if not self._storage.near and size > _SMALL:
            due = len(chunks.encode(name, plain, self._lock))
            if abs(size - due) <= (_AGE_VARIES if self._lock else 0):
                return True
        try:
            chunks.check(name, self._storage.get(key))
        except (Damaged, ObjectMissing):
            return False
        return True

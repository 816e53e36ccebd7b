"""A complete backup as a store's restorer reads it: each chunk verified before it is given out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from haops.backup import chunks
from haops.backup.catalogue import complete_one
from haops.backup.documents import Damaged
from haops.backup.keys import Identities, NoKey, ring
from haops.backup.manifest import Chunk, Manifest, PartRecord
from haops.backup.repository import Folder, Repository, chunk_key
from haops.backup.storage import ObjectMissing, StorageTrouble
from haops.cluster.spec import StoreName
from haops.control.execute import operator
from haops.errors import BadInput
from haops.stores.backup import Facts, Part

# Two chunks are fetched and unpacked while one is used.
_AHEAD: Final = 2
_LOOKERS: Final = 8


class ArchiveReader:
    """Reads parts; implements `haops.stores.backup.Archive`.

    Args:
        identities: Needed where the backup is encrypted.
    """

    def __init__(
        self, repository: Repository, manifest: Manifest, identities: Identities | None = None
    ) -> None:
        self._repository = repository
        self._manifest = manifest
        self._identities = identities or Identities()
        self._records = {part.name: part for part in manifest.parts}
        self._readers = ring(manifest.recipients)

    @property
    def id(self) -> str:
        """The backup's id."""
        return self._manifest.id

    @property
    def store(self) -> StoreName:
        """The store it was made from."""
        return self._manifest.begun.store

    @property
    def facts(self) -> Facts:
        """What its manifest tells."""
        return self._manifest.facts

    @property
    def parts(self) -> Sequence[Part]:
        """Its parts, in the order in which they were read."""
        return [record.part for record in self._manifest.parts]

    def check_key(self) -> None:
        """Decrypt one chunk, so that a wrong key is told before a restore touches anything.

        Raises:
            NoKey: No identity fits.
        """
        first = next(((p, c) for p in self._manifest.parts for c in p.chunks), None)
        if self._manifest.recipients and first is not None:
            self._chunk(*first)

    def lease(self, lessee: str) -> None:
        """Keep it from being pruned while it is restored into a cluster; until `end_lease`, may be repeated.

        Args:
            lessee: As `leases.lessee` names the cluster.

        Raises:
            BadInput: It was removed meanwhile.
        """
        with suppress(StorageTrouble):  # what is full or can only be read can be restored from, too
            self._repository.lease(self.id, lessee, operator())

    def renew_lease(self, lessee: str) -> None:
        """Show that the restore is still at work; see `haops.backup.leases`."""
        with suppress(StorageTrouble):
            self._repository.renew_lease(self.id, lessee, operator())

    def end_lease(self, lessee: str, *, of: str = "") -> None:
        """It, or the backup `of` in the same repository, is not needed any more; may be repeated."""
        with suppress(StorageTrouble):  # a restore is complete, whatever becomes of this
            self._repository.end_lease(of or self.id, lessee)

    def check_whole(self, folder: Folder) -> None:
        """Look whether the manifest is the sealed one and every chunk there in its size.

        Raises:
            Damaged: Something is missing; says how much.
        """
        try:
            self._repository.check_seal(folder)
        except ObjectMissing as error:
            raise Damaged(f"backup {self.id} is not whole: {error.message}") from error
        with ThreadPoolExecutor(_LOOKERS, thread_name_prefix="look") as pool:
            gone = self._repository.missing(self._manifest.chunks(), self._manifest.recipients, pool)
        if gone:
            harmed = [p.name for p in self._manifest.parts if any(c.id in gone for c in p.chunks)]
            raise Damaged(
                f"backup {self.id} is not whole: {len(gone):,} of its chunks are missing or cut off",
                detail=f"they harm {len(harmed):,} parts, such as {', '.join(harmed[:3])}",
                hint=f"see which: haops backup verify {self.id}; choose another backup: haops backup list",
            )

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        """A part's bytes from offset `start` on, a chunk at a time.

        Raises:
            BadInput: There is no such part.
            NoKey: It is encrypted, and no identity fits.
            Damaged: A chunk is missing or not what was backed up; says which.
        """
        record = self._records.get(name)
        if record is None:
            raise BadInput(
                f"backup {self.id} has no part {name!r}", hint=f"see: haops backup show {self.id} -o wide"
            )
        return self._read(record, start)

    def _read(self, record: PartRecord, start: int) -> Iterator[bytes]:
        wanted, skip = _from(record.chunks, start)
        under_way: deque[Future[bytes]] = deque()
        with ThreadPoolExecutor(_AHEAD, thread_name_prefix="archive") as pool:
            try:
                for chunk in wanted:
                    under_way.append(pool.submit(self._chunk, record, chunk))
                    if len(under_way) > _AHEAD:
                        yield under_way.popleft().result()[skip:]
                        skip = 0
                while under_way:
                    yield under_way.popleft().result()[skip:]
                    skip = 0
            finally:
                for future in under_way:
                    future.cancel()

    def _chunk(self, record: PartRecord, chunk: Chunk) -> bytes:
        return fetch(self._repository, self._manifest, self._identities, record, chunk)


def open_archive(repository: Repository, word: str, identities: Identities | None = None) -> ArchiveReader:
    """The complete backup that `word` means, opened, once it is known to be all there and the key to fit.

    Takes a look at the size of every chunk, so that nobody removes anything for a backup that is not whole.

    Raises:
        BadInput: There is no such backup, it is incomplete, or a newer haops made it.
        NoKey: It is encrypted, and no identity fits.
        Damaged: Its manifest, or the chunk that the key was tried at, is damaged; or chunks are missing.
    """
    folder, manifest = complete_one(repository, word)
    archive = ArchiveReader(repository, manifest, identities)
    archive.check_whole(folder)
    archive.check_key()
    return archive


def fetch(
    repository: Repository, manifest: Manifest, identities: Identities, record: PartRecord, chunk: Chunk
) -> bytes:
    """A chunk's plain bytes.

    Raises:
        NoKey: It is encrypted, and no identity fits.
        Damaged: It is missing or not what was backed up.
    """
    try:
        stored = repository.storage.get(chunk_key(chunk.id, ring(manifest.recipients)))
        return chunks.decode(chunk.id, chunk.size, stored, identities, manifest.recipients)
    except (Damaged, ObjectMissing) as error:
        raise Damaged(
            f"backup {manifest.id}: part {record.name}: chunk {chunk.id[:16]} is damaged or missing",
            detail=str(error),
            hint="see what else is: haops backup verify --full; where the bytes are still the same, haops backup "
            "create --new stores it anew if it is missing or cut off, in a folder also if it rotted",
        ) from error
    except NoKey as error:
        raise NoKey(f"backup {manifest.id} is {error.message}", hint=error.hint) from error


def _from(found: Sequence[Chunk], start: int) -> tuple[Sequence[Chunk], int]:
    """The chunks from an offset on, and how much of the first to leave out."""
    for number, chunk in enumerate(found):
        if start < chunk.size:
            return found[number:], start
        start -= chunk.size
    return (), 0

"""Verifying a backup: that its objects are there, that some of them or all are what was stored."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TypeVar

from blake3 import blake3

from haops.backup import chunks
from haops.backup.archive import fetch
from haops.backup.catalogue import Entry
from haops.backup.documents import Damaged, TooNew
from haops.backup.keys import Identities, ring
from haops.backup.manifest import Checked, Chunk, Manifest, PartRecord
from haops.backup.repository import Repository, chunk_key
from haops.backup.storage import ObjectMissing, StorageTrouble

_WORKERS: Final = 4
_AHEAD: Final = 6
# A backup that lost its disk has as many findings as chunks; people need to see some of them.
MAX_FINDINGS: Final = 1000

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Depth(StrEnum):
    """How much is read: no bytes, a share of them, all."""

    LISTING = "listing"
    SAMPLE = "sample"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Plan:
    """How to verify.

    Args:
        share: Of the chunks, from 0 (without) to 1; for a sample, at least one chunk is read.
        seed: Of the sample.
    """

    depth: Depth = Depth.LISTING
    share: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    Args:
        part: The first part that it harms; empty where it is the whole backup.
        chunk: The chunk's id; empty where it is no chunk.
    """

    part: str
    chunk: str
    words: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification found.

    Args:
        chunks: Objects that were looked at.
        read: Those whose bytes were read.
        bytes: Stored bytes that were read.
        plain: Whether what was read was compared with what was backed up, and not only with what was stored.
        findings: At most 1000; `wrong` counts them all.
        note: What people should know besides.
        took_s: Seconds.
    """

    backup: str
    depth: Depth
    chunks: int
    read: int
    bytes: int
    plain: bool
    findings: tuple[Finding, ...]
    wrong: int
    seed: int | None
    note: str
    took_s: float

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.wrong == 0


def verify(repository: Repository, entry: Entry, identities: Identities, plan: Plan) -> Verified:
    """Verify a backup, and keep in the repository that it was.

    Raises:
        TooNew: A newer haops made it.
        StorageTrouble: The repository does not answer.
        NoKey: Identities are given, and none of them fits.
    """
    began = time.monotonic()
    manifest = _manifest(repository, entry)
    if isinstance(manifest, Finding):
        return _result(entry.id, plan, _Count(), [manifest], 1, plain=False, note="", began=began)
    work = _Work(repository, manifest, identities)
    findings = _seal(repository, entry)
    if plan.depth is Depth.FULL:  # all bytes settle what a size only hints at
        findings += work.full()
    else:
        findings += work.listing()
    if plan.depth is Depth.SAMPLE:
        findings += work.sample(plan.share, plan.seed)
    plain = plan.depth is not Depth.LISTING and work.plain
    note = "" if plain or plan.depth is Depth.LISTING else _NOT_PLAIN
    found = _result(
        entry.id, plan, work.count, _once(findings), len(findings), plain=plain, note=note, began=began
    )
    with suppress(StorageTrouble):  # a repository that can only be read can be verified, too
        checked = Checked(plan.depth, datetime.now(UTC), found.ok, plain)
        if (stands := repository.note_checked(entry.id, checked)) and found.ok:
            found = replace(found, note="; ".join(filter(None, (note, _still_failed(stands)))))
    return found


def _still_failed(last: Checked) -> str:
    return f"an earlier verification ({last.looked_at}) failed and still stands: see verify {last.remedy}".rstrip()


_NOT_PLAIN: Final = "encrypted, and no identity is given: only the stored bytes were checked"


@dataclass(slots=True)
class _Count:
    chunks: int = 0
    read: int = 0
    bytes: int = 0


class _Work:
    """One backup while it is verified."""

    def __init__(self, repository: Repository, manifest: Manifest, identities: Identities) -> None:
        self._repository = repository
        self._manifest = manifest
        self._identities = identities
        self._readers = ring(manifest.recipients)
        self._first = _first_parts(manifest)
        self.plain = not manifest.recipients or bool(identities)
        self.count = _Count(chunks=len(self._first))

    def listing(self) -> Iterator[Finding]:
        """Every chunk is there with the size that the manifest tells."""

        def look(item: tuple[PartRecord, Chunk]) -> str | None:
            return self._repository.lacks(item[1], self._readers) or None

        for (part, chunk), words in _each(look, self._first.values()):
            if words is not None:
                yield Finding(part.name, chunk.id, words)

    def sample(self, share: float, seed: int) -> list[Finding]:
        """A share of the chunks, chosen at random, is what was stored."""
        first = list(self._first.values())
        wanted = min(len(first), max(1, round(share * len(first))))
        chosen = random.Random(seed).sample(first, wanted)
        return [
            Finding(part.name, chunk.id, found)
            for (part, chunk), found in self._read(chosen)
            if isinstance(found, str)
        ]

    def full(self) -> Iterator[Finding]:
        """All chunks are what was stored, and make up the parts that were backed up."""
        for part in self._manifest.parts:
            hasher, wrong = blake3(), False
            for (_, chunk), found in self._read((part, chunk) for chunk in part.chunks):
                if isinstance(found, str):
                    wrong = True
                    yield Finding(part.name, chunk.id, found)
                else:
                    hasher.update(found)
            if self.plain and not wrong and hasher.hexdigest() != part.digest:
                yield Finding(
                    part.name, "", "its chunks are whole, but do not make up the part that was read"
                )

    def _read(
        self, items: Iterable[tuple[PartRecord, Chunk]]
    ) -> Iterator[tuple[tuple[PartRecord, Chunk], bytes | str]]:
        """The bytes of chunks, or what is wrong with them; empty where there is no key to them."""
        for item, (found, size) in _each(self._look_at, items):
            self.count.read += 1
            self.count.bytes += size
            yield item, found

    def _look_at(self, item: tuple[PartRecord, Chunk]) -> tuple[bytes | str, int]:
        part, chunk = item
        try:
            if self.plain:
                return fetch(self._repository, self._manifest, self._identities, part, chunk), chunk.stored
            stored = self._repository.storage.get(chunk_key(chunk.id, self._readers))
            chunks.check(chunk.id, stored)
        except (Damaged, ObjectMissing) as error:
            return (error.detail or error.message), 0
        return b"", len(stored)


def _manifest(repository: Repository, entry: Entry) -> Manifest | Finding:
    """What to verify, or why there is nothing. Raises TooNew."""
    if entry.summary is None and not entry.newer:
        return Finding("", "", f"it is {entry.state}: {entry.note}")
    try:
        return repository.manifest(entry.id)
    except (Damaged, ObjectMissing) as error:
        return Finding("", "", error.message)


def _seal(repository: Repository, entry: Entry) -> list[Finding]:
    try:
        repository.check_seal(entry.folder)
    except (Damaged, ObjectMissing, TooNew) as error:
        return [Finding("", "", error.message)]
    return []


def _first_parts(manifest: Manifest) -> Mapping[str, tuple[PartRecord, Chunk]]:
    """Each chunk once, with the first part that needs it."""
    first: dict[str, tuple[PartRecord, Chunk]] = {}
    for part in manifest.parts:
        for chunk in part.chunks:
            first.setdefault(chunk.id, (part, chunk))
    return first


def _once(findings: Sequence[Finding]) -> list[Finding]:
    return list(dict.fromkeys(findings))[:MAX_FINDINGS]


def _each(ask: Callable[[Item], Answer], items: Iterable[Item]) -> Iterator[tuple[Item, Answer]]:
    """`ask` of every item in a few threads, in order, with a few answers at most waiting to be taken."""
    under_way: deque[tuple[Item, Future[Answer]]] = deque()
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="verify") as pool:
        try:
            for item in items:
                under_way.append((item, pool.submit(ask, item)))
                if len(under_way) >= _AHEAD:
                    oldest, answer = under_way.popleft()
                    yield oldest, answer.result()
            while under_way:
                oldest, answer = under_way.popleft()
                yield oldest, answer.result()
        finally:
            for _, future in under_way:
                future.cancel()


def _result(
    backup: str,
    plan: Plan,
    count: _Count,
    findings: Sequence[Finding],
    wrong: int,
    *,
    plain: bool,
    note: str,
    began: float,
) -> Verified:
    return Verified(
        backup=backup,
        depth=plan.depth,
        chunks=count.chunks,
        read=count.read,
        bytes=count.bytes,
        plain=plain,
        findings=tuple(findings),
        wrong=wrong,
        seed=plan.seed if plan.depth is Depth.SAMPLE else None,
        note=note,
        took_s=time.monotonic() - began,
    )

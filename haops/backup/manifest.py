"""What a repository says about a backup: while it is being made, and when it is complete."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field

from haops.backup.chunks import CHUNK_SIZE
from haops.cluster.spec import Cluster, StoreName
from haops.stores.backup import Facts, Form, Part

_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def _plain_id(words: str) -> str:
    """Ids become folders' names, here and on servers."""
    if not _ID.fullmatch(words) or ".." in words:
        raise ValueError("not an id of a backup")
    return words


def _inside(name: str) -> str:
    """Names of parts become paths below some folder, and must not lead out of it."""
    steps = name.split("/")
    if "" in steps or ".." in steps or "." in steps or not name.isprintable():
        raise ValueError("not a name of a part")
    return name


BackupId = Annotated[str, AfterValidator(_plain_id)]
PartName = Annotated[str, AfterValidator(_inside)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# What a damaged or forged manifest may have somebody read into memory at once.
ChunkSize = Annotated[int, Field(ge=0, le=CHUNK_SIZE)]
StoredSize = Annotated[int, Field(ge=0, le=2 * CHUNK_SIZE)]


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk of a part.

    Args:
        id: BLAKE3 of its plain bytes.
        size: Plain bytes.
        stored: Bytes of its object.
    """

    id: Digest
    size: ChunkSize
    stored: StoredSize


@dataclass(frozen=True, slots=True)
class PartRecord:
    """A part that was read to its end.

    Args:
        size: Bytes that were read.
        stamp: As in `Part`.
        digest: BLAKE3 of the whole part.
        new: Bytes that were stored for it; the rest was there already.
    """

    name: PartName
    node: str
    form: Form
    size: int
    stamp: str
    digest: Digest
    chunks: tuple[Chunk, ...]
    new: int = 0

    @property
    def part(self) -> Part:
        """As a restorer sees it."""
        return Part(self.name, self.node, self.form, self.size, self.stamp)

    def is_still(self, part: Part) -> bool:
        """Whether a part that is to be read has the same bytes as this one, which was."""
        return bool(part.stamp) and (part.name, part.node, part.form, part.stamp) == (
            self.name, self.node, self.form, self.stamp,
        ) and part.size in (None, self.size)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """The cluster's topology, as `up` would have to be asked for it again."""

    nodes: int
    observers: int
    dcs: int
    mode: str

    @classmethod
    def of(cls, cluster: Cluster) -> Self:
        """A cluster's shape."""
        spec = cluster.spec()
        return cls(spec.nodes, spec.observers, spec.dcs, cluster.mode)


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked of the store; only backups of the same wish are resumed or built upon."""

    pitr: bool = False
    logical: bool = False
    node: str | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """A backup that is being made, or was cut off.

    Args:
        owner: The state directory that the cluster belongs to.
        recipients: Public keys for which it is encrypted, sorted; none: not encrypted.
        haops: The version that makes it.
    """

    id: BackupId
    store: StoreName
    cluster: str
    owner: str
    shape: Shape
    started: datetime
    haops: str
    wish: Wish
    recipients: tuple[str, ...] = ()

    def resumes(self, other: Begun) -> bool:
        """Whether what `other` asks for is what this one was cut off at."""
        return replace(self, id="", started=other.started, haops="") == replace(other, id="", haops="")


@dataclass(frozen=True)
class Manifest:
    """A complete backup.

    Args:
        begun: What it was begun as.
        created: The moment that its data are of; UTC.
        finished: When the last part was read; UTC.
    """

    begun: Begun
    created: datetime
    finished: datetime
    facts: Facts
    parts: tuple[PartRecord, ...]

    @property
    def id(self) -> str:
        """The backup's id."""
        return self.begun.id

    @property
    def recipients(self) -> tuple[str, ...]:
        """Who can read it; none: everybody."""
        return self.begun.recipients

    @cached_property
    def bytes(self) -> int:
        """Plain bytes of all parts."""
        return sum(part.size for part in self.parts)

    @cached_property
    def stored(self) -> int:
        """Bytes of its objects, each counted once."""
        return sum({chunk.id: chunk.stored for chunk in self.chunks()}.values())

    @cached_property
    def new(self) -> int:
        """Bytes that were stored for it."""
        return sum(part.new for part in self.parts)

    def chunks(self) -> Iterator[Chunk]:
        """All chunks, part after part; one may come more than once."""
        for part in self.parts:
            yield from part.chunks


@dataclass(frozen=True, slots=True)
class Sealed:
    """Stands beside a manifest, so that a manifest that is lost is missed.

    Args:
        manifest: BLAKE3 of the manifest's object.
    """

    id: BackupId
    manifest: Digest


@dataclass(frozen=True, slots=True)
class Checked:
    """The last verification of a backup.

    Args:
        depth: `listing`, `sample`, `full` or `restore`.
        at: UTC.
        plain: As in `Verified`.
    """

    depth: str
    at: datetime
    ok: bool
    plain: bool = True

    def replaces(self, last: Checked | None) -> bool:
        """Whether it takes the place of the last one.

        A failure stands until something that looks at no less is good, and a sample's until all is: another
        sample may only have been luckier.
        """
        if last is None or last.ok:
            return True
        luck = self.ok and self.depth == last.depth == "sample"
        return _looked_at(self) >= _looked_at(last) and not luck

    @property
    def looked_at(self) -> str:
        """The depth in words."""
        return self.depth if self.plain or self.depth != "full" else "full (stored bytes)"

    @property
    def remedy(self) -> str:
        """The option of `backup verify` whose good outcome would end a failure; empty where none is needed."""
        return {"listing": "", "restore": "--by-restore"}.get(self.depth, "--full")


def _looked_at(checked: Checked) -> int:
    """How much, as a rank."""
    if checked.depth == "full":
        return 3 if checked.plain else 2
    return {"listing": 0, "sample": 1}.get(checked.depth, 4)

"""Backup and restore: what a store offers to `haops.backup`, and what it is given for it.

A backup is a set of parts, each a stream of bytes that is read once, in order. The store
says which parts there are and how they are read and put back; chunks, checksums,
encryption, catalogue and journal are `haops.backup`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from haops.cluster.loans import Loan, Loans
from haops.cluster.spec import Cluster, StoreName
from haops.errors import BadInput, HaopsError
from haops.runtime.port import Runtime


class BackupFailed(HaopsError):
    """A server did not give what a backup needs, or what it gave is not whole."""


class RestoreFailed(HaopsError):
    """A server did not take what it was given; what was restored so far stays, and can be resumed."""


class NotRestorable(BadInput):
    """This backup cannot be restored so: its version, its form, the wish or the target do not allow it."""


class Form(StrEnum):
    """Whether a part is the server's own file, or a form that any version and topology takes."""

    PHYSICAL = "physical"
    LOGICAL = "logical"


@dataclass(frozen=True, slots=True)
class Part:
    """One stream of a backup.

    Args:
        name: Unique in the backup; `/` makes folders, such as `cassandra-1/haops/t/nb-1-big-Data.db`.
        node: The node it is read from; empty where it is the whole cluster's.
        size: Bytes, where they are known before it is read.
        stamp: Where it is not empty, the same name with the same stamp is the same bytes for ever,
            so that a later backup, or the same one resumed, need not read it again.
    """

    name: str
    node: str
    form: Form
    size: int | None = None
    stamp: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What must be known about a backup besides its bytes; goes into the manifest.

    Args:
        version: The servers' version, such as `8.0.2`.
        position: Where in the servers' own history it stands: `replid:offset`, `zxid 0x…`, a schema's version.
        lag: How far the node that was read was behind, in words; empty if not at all.
        nodes: For each node what a restore to the same topology needs (tokens, data centre).
        earliest: Start of the time to which `--at` can restore; None where there is only one point.
        latest: The point in time of the backup: nothing acknowledged later is in it. UTC.
        left_out: What is not in it on purpose, in words (ephemeral nodes, counters, ...).
        details: Anything else the store's restorer reads.
    """

    version: str
    position: str
    latest: datetime
    lag: str = ""
    nodes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    earliest: datetime | None = None
    left_out: tuple[str, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BackupWish:
    """What is asked of a backup.

    Args:
        id: The backup's id; servers' snapshots carry it as a tag, and a resumed backup has the same.
        pitr: Keep the log with time stamps too, so that `--at` works.
        logical: Also (or only, where a store has no other) in a form of its own that any topology takes.
        node: The node to read from, where only one is read; None leaves the choice to the store.
    """

    id: str
    pitr: bool = False
    logical: bool = False
    node: str | None = None


@dataclass(frozen=True, slots=True)
class BackupTools:
    """What backup and restore may need besides connections to the servers."""

    runtime: Runtime
    loans: Loans


class Source(Protocol):
    """A backup in progress. Leaving its context gives borrowed settings back."""

    def parts(self) -> Sequence[Part]:
        """What there is to read, in the order in which it must be read. Schema comes before data."""
        ...

    def read(self, part: Part) -> Iterator[bytes]:
        """A part's bytes, in blocks of any size; checked as far as the server gives a checksum.

        Raises:
            BackupFailed: The server ended it, or it is not whole.
        """
        ...

    def facts(self) -> Facts:
        """What the backup is, known when every part has been read."""
        ...

    def release(self) -> None:
        """The backup is complete: let go of what servers kept for it (snapshots)."""
        ...


class Archive(Protocol):
    """A complete backup as a store reads it."""

    @property
    def id(self) -> str:
        """The backup's id."""
        ...

    @property
    def store(self) -> StoreName:
        """The store it was made from."""
        ...

    @property
    def facts(self) -> Facts:
        """What its manifest tells."""
        ...

    @property
    def parts(self) -> Sequence[Part]:
        """Its parts, each with its size."""
        ...

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        """A part's bytes from offset `start` on, each chunk verified before it is given out.

        Raises:
            HaopsError: A chunk is missing or damaged, or cannot be decrypted.
        """
        ...


@dataclass(frozen=True, slots=True)
class RestoreWish:
    """What is asked of a restore.

    Args:
        only: A key prefix, `keyspace.table` or a path; None is everything.
        at: The moment to restore to; None is the backup's own.
        merge: Write beside and over what is there, and remove nothing.
    """

    only: str | None = None
    at: datetime | None = None
    merge: bool = False


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of a restore that is done and journalled as one.

    Args:
        name: Known to `perform`; unique in the restore.
        text: What people read.
        total: Units of work in it, for the time left.
        unit: `bytes`, `keys`, `nodes`, `files`, ...
    """

    name: str
    text: str
    total: int
    unit: str


@dataclass(frozen=True, slots=True)
class Advance:
    """How far a stage is.

    Args:
        done: Units of work, since the stage's beginning (not since it was resumed).
        mark: Given to `perform` again, it goes on from here; empty where it can only begin anew.
    """

    done: int
    mark: str = ""


class Restorer(Protocol):
    """A restore of one archive into one cluster. Leaving its context gives borrowed settings back."""

    def in_the_way(self) -> tuple[str, ...]:
        """What the target holds where this restore would write, in a few words each; empty if nothing."""
        ...

    def wipe(self) -> None:
        """Remove what is in the way, and nothing else; may be repeated."""
        ...

    def stages(self) -> Sequence[Stage]:
        """What will be done, in order; the same after a crash."""
        ...

    def perform(self, stage: Stage, mark: str) -> Iterator[Advance]:
        """Do a stage, from a mark on; every step may be repeated without harm.

        Raises:
            RestoreFailed: A server refused; in its own words.
        """
        ...


@dataclass(frozen=True, slots=True)
class Backing:
    """What a store offers for backup and restore.

    Args:
        source: Opens a backup of a healthy cluster. Raises BackupFailed, or BadInput for a wish it cannot fulfil.
        restorer: Opens a restore; raises NotRestorable before anything is touched.
        give_back: Puts one borrowed setting back after a crash, and says what it did.
    """

    source: Callable[[Cluster, BackupTools, BackupWish], AbstractContextManager[Source]]
    restorer: Callable[[Cluster, BackupTools, Archive, RestoreWish], AbstractContextManager[Restorer]]
    give_back: Callable[[Cluster, Runtime, Loan], str]

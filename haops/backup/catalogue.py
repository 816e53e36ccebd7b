"""What backups a repository has, complete or not, and which one somebody means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Self

from haops.backup.documents import Damaged, TooNew
from haops.backup.manifest import Begun, Checked, Manifest
from haops.backup.repository import Folder, Repository
from haops.backup.storage import ObjectMissing
from haops.cluster.spec import StoreName
from haops.errors import BadInput
from haops.stores.backup import Facts

LATEST: Final = "latest"


class BackupState(StrEnum):
    """What a backup is good for."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Summary:
    """What a manifest says, without the chunks, of which there may be a million in all.

    Args:
        bytes: As in `Manifest`; so are `stored` and `new`.
        parts: How many.
    """

    created: datetime
    facts: Facts
    bytes: int
    stored: int
    new: int
    parts: int

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """A manifest's summary."""
        sizes = (manifest.bytes, manifest.stored, manifest.new)
        return cls(manifest.created, manifest.facts, *sizes, len(manifest.parts))


@dataclass(frozen=True, slots=True)
class Entry:
    """One backup in the catalogue.

    Args:
        begun: None where it cannot be read.
        summary: Of its manifest; None where it is not complete, or cannot be read.
        checked: Its last verification.
        note: Why it is damaged, or what an incomplete one needs.
        newer: A newer haops made it: it may be perfectly whole, and is left alone.
    """

    folder: Folder
    state: BackupState
    begun: Begun | None = None
    summary: Summary | None = None
    checked: Checked | None = None
    note: str = ""
    newer: bool = False

    @property
    def id(self) -> str:
        """The backup's id."""
        return self.folder.id

    @property
    def failed(self) -> bool:
        """Whether its last verification found something wrong."""
        return self.checked is not None and not self.checked.ok

    @property
    def store(self) -> StoreName | None:
        """The store it was made from, if that can be read."""
        return self.begun.store if self.begun else None

    @property
    def cluster(self) -> str:
        """The cluster; from the id, where nothing else can be read."""
        return self.begun.cluster if self.begun else self.id.partition("-")[2]

    @property
    def created(self) -> datetime:
        """The moment its data are of; of one that is not complete, when it was begun or last touched."""
        if self.summary:
            return self.summary.created
        return self.begun.started if self.begun else self.folder.touched


def entries(repository: Repository, cluster: str | None = None) -> list[Entry]:
    """Every backup, or those of one cluster, the oldest first."""
    found = (entry(repository, folder) for folder in repository.folders().values())
    return sorted(
        (e for e in found if cluster is None or e.cluster == cluster), key=lambda e: (e.created, e.id)
    )


def entry(repository: Repository, folder: Folder) -> Entry:
    """A backup as the catalogue shows it."""
    try:
        if folder.complete:
            manifest = repository.manifest(folder.id)
            checked = repository.checked(folder.id)
            return Entry(folder, BackupState.COMPLETE, manifest.begun, Summary.of(manifest), checked)
        if folder.sealed:
            return Entry(folder, BackupState.DAMAGED, note=f"the manifest of {folder.id} is missing")
        if folder.begun:
            begun = repository.begun(folder.id)
            note = f"go on with it: haops backup create {begun.cluster}, with the same options"
            return Entry(folder, BackupState.INCOMPLETE, begun, note=note)
    except (Damaged, ObjectMissing) as error:
        return Entry(folder, BackupState.DAMAGED, note=error.message)
    except TooNew as error:
        return Entry(folder, BackupState.DAMAGED, note=error.message, newer=True)
    return Entry(folder, BackupState.DAMAGED, note="only leftovers are there")


def find(repository: Repository, word: str) -> Entry:
    """The backup that `word` means: an id, the unique beginning of one, `latest`, or `CLUSTER:latest`.

    Raises:
        BadInput: None, or more than one.
    """
    folders = repository.folders()
    cluster, colon, last = word.rpartition(":")
    if last == LATEST:
        return _latest(entries(repository, cluster if colon else None), repository, word)
    if word in folders:
        return entry(repository, folders[word])
    fits = [i for i in folders if word and i.startswith(word)]
    if len(fits) == 1:
        return entry(repository, folders[fits[0]])
    if fits:
        raise BadInput(
            f"{word!r} begins the ids of {len(fits)} backups", hint=f"such as: {', '.join(fits[:4])}"
        )
    raise BadInput(
        f"there is no backup {word!r} in {repository.label}",
        hint=f"there are: {', '.join(list(folders)[-4:])}" if folders else "there is none",
    )


def complete(repository: Repository, word: str) -> Manifest:
    """The manifest of the backup that `word` means; raises as `complete_one`."""
    return complete_one(repository, word)[1]


def complete_one(repository: Repository, word: str) -> tuple[Folder, Manifest]:
    """The folder and manifest of the backup that `word` means.

    Raises:
        BadInput: There is no such backup, it is incomplete, or a newer haops made it.
        Damaged: Its manifest is damaged; or it is the latest, and its last verification failed.
    """
    found = find(repository, word)
    if found.checked and not found.checked.ok and word != found.id:
        again = f"haops backup verify {found.id} {found.checked.remedy}".rstrip()
        raise Damaged(
            f"backup {found.id} failed its verification ({found.checked.looked_at}, {found.checked.at:%Y-%m-%d})",
            hint=f"name an older one (haops backup list), verify it anew ({again}), or name it by its whole id",
        )
    if found.state is BackupState.INCOMPLETE:
        raise BadInput(f"backup {found.id} is incomplete", hint=found.note)
    if found.summary is not None or found.newer:  # of a newer one this raises what says so
        return found.folder, repository.manifest(found.id)
    raise Damaged(f"backup {found.id} is damaged", detail=found.note, hint="see: haops backup list")


def _latest(found: Sequence[Entry], repository: Repository, word: str) -> Entry:
    whole = [e for e in found if e.state is BackupState.COMPLETE]
    if not whole:
        raise BadInput(f"there is no complete backup for {word!r} in {repository.label}")
    return whole[-1]

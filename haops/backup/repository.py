"""A repository: backups and the chunks they share, in one layout for every storage.

`haops-repo.json`; `chunks/<2 digits>/<name>`; and for each backup a folder `backups/<id>/` with `begun.json` and
`parts/<number>.json` while it is made, with `manifest.json`, `sealed.json` and perhaps `checked.json` when
it is complete, and `restoring-<lessee>.json` while it is restored into a cluster. A backup is complete from the
moment its manifest is there. In `sweeps/` are the markers of those who remove chunks.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from blake3 import blake3

from haops.backup import chunks as forms
from haops.backup import documents
from haops.backup.documents import Damaged, TooNew
from haops.backup.keys import ring
from haops.backup.leases import Lease, Restoring, cluster_of, holds
from haops.backup.manifest import Begun, Checked, Chunk, Manifest, PartRecord, Sealed
from haops.backup.storage import LocalStorage, ObjectMissing, Storage, StorageTrouble
from haops.errors import BadInput

REPOSITORY_VARIABLE: Final = "HAOPS_REPO"
CHUNKS: Final = "chunks/"

Model = TypeVar("Model")

_RECORD: Final = "haops-repo.json"
_BACKUPS: Final = "backups/"
_BEGUN: Final = "begun.json"
_PARTS: Final = "parts/"
_MANIFEST: Final = "manifest.json"
_SEALED: Final = "sealed.json"
_CHECKED: Final = "checked.json"
_FORGOTTEN: Final = "forgotten.json"
_RESTORING: Final = "restoring-"


class NoRepository(BadInput):
    """There is no repository there."""


@dataclass(frozen=True, slots=True)
class RepositoryRecord:
    """What a repository says about itself."""

    id: str
    created: datetime


@dataclass(frozen=True, slots=True)
class Folder:
    """The objects of one backup.

    Args:
        names: Relative to the backup's folder.
        touched: When the last of them was written, by the storage's clock; UTC.
        heard: For each restore of it, by its lessee, when that lease was last written; likewise.
    """

    id: str
    names: frozenset[str]
    touched: datetime
    heard: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def begun(self) -> bool:
        """Whether it is being made, or was, and nobody has tidied up."""
        return _BEGUN in self.names

    @property
    def complete(self) -> bool:
        """Whether it has a manifest, readable or not."""
        return _MANIFEST in self.names

    @property
    def sealed(self) -> bool:
        """Whether it once had a manifest."""
        return _SEALED in self.names

    def held(self, now: datetime) -> bool:
        """Whether a restore keeps it from being removed; see `leases`."""
        return any(holds(heard, now) for heard in self.heard.values())

    @property
    def gone(self) -> bool:
        """Whether it counts as removed: somebody began to remove it, or only leases are left."""
        return _FORGOTTEN in self.names or all(n.startswith(_RESTORING) for n in self.names)


class Repository:
    """Documents and chunks in a storage."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    @property
    def label(self) -> str:
        """Where it is."""
        return self.storage.label

    def folders(self) -> Mapping[str, Folder]:
        """Every backup that has any object and was not forgotten, by id, sorted."""
        return {i: folder for i, folder in self._folders(_BACKUPS).items() if not folder.gone}

    def half_forgotten(self) -> Sequence[Folder]:
        """What is left of backups that somebody began to remove."""
        return [folder for folder in self._folders(_BACKUPS).values() if folder.gone]

    def folder(self, backup: str) -> Folder | None:
        """One backup's folder as it is now, forgotten or not; None where it has no object."""
        return self._folders(_key(backup, "")).get(backup)

    def _folders(self, prefix: str) -> Mapping[str, Folder]:
        names: dict[str, set[str]] = {}
        touched: dict[str, datetime] = {}
        heard: dict[str, dict[str, datetime]] = {}
        for entry in self.storage.entries(prefix):
            backup, slash, name = entry.key.removeprefix(_BACKUPS).partition("/")
            if not slash:  # a file beside the backups is somebody else's
                continue
            names.setdefault(backup, set()).add(name)
            touched[backup] = max(touched.get(backup, entry.modified), entry.modified)
            if name.startswith(_RESTORING):
                lessee = name.removeprefix(_RESTORING).removesuffix(".json")
                heard.setdefault(backup, {})[lessee] = entry.modified
        return {i: Folder(i, frozenset(names[i]), touched[i], heard.get(i, {})) for i in sorted(names)}

    def begun(self, backup: str) -> Begun:
        """What a backup was begun as. Raises ObjectMissing, Damaged or TooNew."""
        return self._load(Begun, backup, _BEGUN)

    def manifest(self, backup: str) -> Manifest:
        """A complete backup's manifest. Raises ObjectMissing, Damaged or TooNew."""
        found = self._load(Manifest, backup, _MANIFEST)
        if found.id != backup:
            raise Damaged(f"the manifest of {backup} is that of {found.id}")
        return found

    def checked(self, backup: str) -> Checked | None:
        """A backup's last verification; None if there is none that can be read."""
        with suppress(ObjectMissing, Damaged, TooNew):
            return self._load(Checked, backup, _CHECKED)
        return None

    def note_checked(self, backup: str, checked: Checked) -> Checked | None:
        """Keep a verification, unless an earlier one failed and still stands: then that one is the answer."""
        last = self.checked(backup)
        if not checked.replaces(last):
            return last
        self._save(backup, _CHECKED, checked)
        return None

    def leases(self, folder: Folder, now: datetime) -> Sequence[Restoring]:
        """The restores of a backup that are not complete, by cluster, sorted; those that were cut off included."""
        return [self._restoring(folder.id, who, heard, now) for who, heard in sorted(folder.heard.items())]

    def _restoring(self, backup: str, lessee: str, heard: datetime, now: datetime) -> Restoring:
        since, holder = None, ""
        with suppress(ObjectMissing, Damaged, TooNew):  # that it is there is what counts
            found = self._load(Lease, backup, _lease(lessee))
            since, holder = found.since, found.holder
        return Restoring(cluster_of(lessee), holder, since, heard, holds(heard, now))

    def renew_lease(self, backup: str, lessee: str, holder: str = "") -> None:
        """Write a lease anew: it has another week. Looks at nothing, for its backup cannot have been removed."""
        since = datetime.now(UTC)
        with suppress(ObjectMissing, Damaged, TooNew):
            since = self._load(Lease, backup, _lease(lessee)).since
        self._save(backup, _lease(lessee), Lease(backup, cluster_of(lessee), since, holder))

    def lease(self, backup: str, lessee: str, holder: str = "") -> None:
        """Keep a backup from being removed while it is restored into a cluster; until `end_lease`.

        Args:
            lessee: As `leases.lessee` names a cluster.

        Raises:
            BadInput: It was removed, or is being removed.
        """
        self.renew_lease(backup, lessee, holder)
        # Whoever removes it writes the tombstone first and looks for leases then: one of the two sees the other.
        folder = self.folder(backup)
        if folder is None or folder.gone or not folder.complete:
            self.end_lease(backup, lessee)
            raise BadInput(f"backup {backup} was removed", hint="see: haops backup list")

    def end_lease(self, backup: str, lessee: str) -> None:
        """The restore is complete, or given up; a lease that is gone is fine."""
        self.storage.delete(_key(backup, _lease(lessee)))

    def check_seal(self, folder: Folder) -> None:
        """Compare a manifest with what stands beside it. Raises Damaged or TooNew.

        A backup whose maker was killed between manifest and seal has `begun.json` still.
        """
        if not folder.sealed:
            if not folder.begun:
                raise Damaged(f"{_SEALED} of {folder.id} is missing")
            return
        seal = self._load(Sealed, folder.id, _SEALED)
        raw = self.storage.get(_key(folder.id, _MANIFEST))
        if (seal.id, seal.manifest) != (folder.id, blake3(raw).hexdigest()):
            raise Damaged(f"the manifest of {folder.id} is not the one that was sealed")

    def begin(self, begun: Begun) -> bool:
        """Claim an id; False if it is taken."""
        return self.storage.put_new(_key(begun.id, _BEGUN), documents.dump(begun))

    def heartbeat(self, begun: Begun) -> None:
        """Show that a backup is still being made."""
        self._save(begun.id, _BEGUN, begun)

    def keep_part(self, backup: str, number: int, record: PartRecord) -> None:
        """Journal a finished part of a backup that is being made."""
        self._save(backup, f"{_PARTS}{number:05}.json", record)

    def kept_parts(self, folder: Folder) -> Iterator[tuple[int, PartRecord]]:
        """The finished parts of an incomplete backup, in the order they were finished.

        Raises:
            Damaged: One cannot be read.
            TooNew: A newer haops makes this backup.
        """
        for name in sorted(n for n in folder.names if n.startswith(_PARTS)):
            number = name.removeprefix(_PARTS).removesuffix(".json")
            yield int(number) if number.isdecimal() else 0, self._load(PartRecord, folder.id, name)

    def publish(self, manifest: Manifest) -> None:
        """Make a backup complete: from now on nobody removes a chunk that it needs. `seal` has to follow."""
        self._save(manifest.id, _MANIFEST, manifest)

    def take_back(self, manifest: Manifest) -> None:
        """Make a backup incomplete that was published and not sealed."""
        self.storage.delete(_key(manifest.id, _MANIFEST))

    def seal(self, manifest: Manifest) -> None:
        """Seal a published backup, and remove what was only for the way."""
        self._seal(manifest.id, documents.dump(manifest))

    def finish(self, manifest: Manifest) -> None:
        """Make a backup complete: its manifest, its seal; then what was only for the way."""
        self.publish(manifest)
        self.seal(manifest)

    def tidy(self, folder: Folder) -> None:
        """Finish what a process that died right after the manifest left. Raises Damaged."""
        self.manifest(folder.id)
        self._seal(folder.id, self.storage.get(_key(folder.id, _MANIFEST)))

    def forget(self, folder: Folder) -> bool:
        """Remove a backup's documents; whether they are gone: what is being restored stays.

        A tombstone makes it one step: from then on it counts as gone, and who finds it finishes. It is
        also what tells the storage's time, by which the leases' age is counted here: no clock of ours is asked.
        """
        # A full disk may not take the tombstone; then the manifest goes first all the same.
        with suppress(StorageTrouble):
            self._save(folder.id, _FORGOTTEN, RepositoryRecord(folder.id, datetime.now(UTC)))
        now = self.folder(folder.id) or folder
        if now.held(now.touched) and now.complete and (now.sealed or now.begun):
            self.storage.delete(_key(folder.id, _FORGOTTEN))
            return False
        names = folder.names | now.names
        first = [name for name in (_SEALED, _MANIFEST) if name in names]
        rest = sorted(names - {*first, _FORGOTTEN})
        for name in (*first, *rest):
            self.storage.delete(_key(folder.id, name))
        # After a crash of the machine no manifest may be back whose tombstone, or whose chunks, are gone.
        self.storage.settle(_key(folder.id, ""))
        self.storage.delete(_key(folder.id, _FORGOTTEN))
        return True

    def missing(self, chunks: Iterable[Chunk], recipients: Iterable[str], pool: Executor) -> set[str]:
        """The ids of the chunks that are not there in their size; see `lacks`."""
        readers = ring(recipients)
        wanted = {chunk.id: chunk for chunk in chunks}.values()
        found = pool.map(lambda chunk: self.lacks(chunk, readers), wanted)
        return {chunk.id for chunk, words in zip(wanted, found, strict=True) if words}

    def lacks(self, chunk: Chunk, readers: str) -> str:
        """What is wrong with a chunk as far as its size tells; empty if nothing is.

        Only one of another size is read: age makes objects of varying length, so one that was mended has
        another size than the backups that were there before say, and is whole.
        """
        key = chunk_key(chunk.id, readers)
        size = self.storage.size(key)
        if size == chunk.stored:
            return ""
        with suppress(ObjectMissing, Damaged):
            forms.check(chunk.id, self.storage.get(key))
            return ""
        return "is missing" if size is None else f"has {size:,} bytes, not {chunk.stored:,}"

    def _seal(self, backup: str, raw: bytes) -> None:
        self._save(backup, _SEALED, Sealed(backup, blake3(raw).hexdigest()))
        for entry in list(self.storage.entries(_key(backup, _PARTS))):
            self.storage.delete(entry.key)
        self.storage.delete(_key(backup, _BEGUN))

    def _load(self, kind: type[Model], backup: str, name: str) -> Model:
        return documents.load(kind, self.storage.get(_key(backup, name)), f"{name} of {backup}")

    def _save(self, backup: str, name: str, model: object) -> None:
        self.storage.put(_key(backup, name), documents.dump(model))


def _lease(lessee: str) -> str:
    return f"{_RESTORING}{lessee}.json"


def chunk_key(name: str, readers: str) -> str:
    """Where a chunk is.

    Args:
        readers: As `keys.ring` names them: the same bytes for other readers are another object, or an
            encrypted backup would lean on a chunk that lies there in the clear.
    """
    return f"{CHUNKS}{name[:2]}/{name}-{readers}" if readers else f"{CHUNKS}{name[:2]}/{name}"


def open_storage(where: str) -> Storage:
    """The storage at a folder or URL. Raises BadInput or EnvironmentTrouble."""
    if "://" in where:
        from haops.backup.objects import open_objects

        return open_objects(where)
    return LocalStorage(Path(where))


def open_repository(where: str | Storage, *, make: bool = False) -> Repository:
    """The repository at a folder, URL or storage; made if `make` and there is none.

    Raises:
        NoRepository: There is none.
        Damaged: Its record is damaged, or lost while there are backups.
        TooNew: A newer haops made it.
    """
    storage = open_storage(where) if isinstance(where, str) else where
    what = f"{storage.label}/{_RECORD}"
    try:
        raw = storage.get(_RECORD)
    except ObjectMissing:
        if not make:
            raise _no_repository(storage) from None
        fresh = RepositoryRecord(uuid.uuid4().hex, datetime.now(UTC))
        storage.put_new(_RECORD, documents.dump(fresh))
    else:
        documents.load(RepositoryRecord, raw, what)
    return Repository(storage)


def default_repository(root: Path) -> str:
    """`$HAOPS_REPO`, else the folder `backups` of the state directory `root`."""
    return os.environ.get(REPOSITORY_VARIABLE) or str(root / "backups")


def _no_repository(storage: Storage) -> Damaged | NoRepository:
    if Repository(storage).folders():
        return Damaged(
            f"{storage.label}/{_RECORD} is missing, though there are backups",
            hint="the next haops backup create writes it anew",
        )
    return NoRepository(
        f"there is no repository in {storage.label}",
        hint="make the first backup: haops backup create CLUSTER",
    )


def _key(backup: str, name: str) -> str:
    return f"{_BACKUPS}{backup}/{name}"

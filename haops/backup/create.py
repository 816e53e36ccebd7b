"""Making a backup: online, resumable, complete only when everything it needs is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final

from haops import __version__
from haops.backup.documents import Damaged, TooNew
from haops.backup.manifest import Begun, Manifest, PartRecord, Shape, Wish
from haops.backup.pipeline import Pipeline
from haops.backup.rate import Throttle
from haops.backup.repository import Folder, Repository
from haops.backup.storage import ObjectMissing, StorageTrouble
from haops.backup.sweep import await_sweeps
from haops.cluster.loans import Loans
from haops.cluster.spec import Cluster
from haops.control.half_restored import RestoreFile
from haops.control.lifecycle import Lifecycle
from haops.errors import Busy
from haops.stores import load_backing
from haops.stores.backup import BackupFailed, BackupTools, BackupWish, Part, Source
from haops.wait import REAL_CLOCK, Clock

# `prune` takes a backup for one that is being made as long as this was written within its grace.
HEARTBEAT_S: Final = 30.0

_LOOKERS: Final = 4
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_UNREADABLE: Final = (Damaged, TooNew, ObjectMissing)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backup is.

    Args:
        part: What is being read.
        done: Bytes of all parts; what was kept from before counts as done.
        total: Bytes of all parts; None where the servers do not say.
    """

    part: str
    done: int
    total: int | None


def silent(_: Progress) -> None:
    """For callers that watch nothing."""


@dataclass(frozen=True, slots=True)
class BackupOrder:
    """What to back up, and how.

    Args:
        recipients: age or SSH public keys; none: not encrypted.
        pitr: As in `BackupWish`; so are `logical` and `node`.
        rate: Bytes a second that are read at most; None is no limit.
        fresh: Begin anew, although an incomplete one could be gone on with, and read all there is.
        report: Hears of every block.
        say: Hears in words of what is resumed and taken over.
    """

    recipients: Sequence[str] = ()
    pitr: bool = False
    logical: bool = False
    node: str | None = None
    rate: int | None = None
    fresh: bool = False
    report: Callable[[Progress], None] = silent
    say: Callable[[str], None] = field(default=lambda _: None)


@dataclass(frozen=True, slots=True)
class _Known:
    """What need not be read again.

    Args:
        kept: Finished parts of the same backup.
        before: Parts of the newest complete backup of the cluster.
        number: The first free number for a part's journal.
    """

    kept: Mapping[str, PartRecord]
    before: Mapping[str, PartRecord]
    number: int

    def of(self, part: Part) -> PartRecord | None:
        """The record of a part whose bytes are known."""
        if (own := self.kept.get(part.name)) and own.is_still(part):
            return own
        if (old := self.before.get(part.name)) and old.is_still(part):
            return replace(old, new=0)
        return None


def create(
    haops: Lifecycle,
    cluster: Cluster,
    repository: Repository,
    order: BackupOrder,
    *,
    clock: Clock = REAL_CLOCK,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Manifest:
    """Back a cluster up, or go on with a backup of it that was cut off.

    Raises:
        BadInput: The store cannot do what is wished, or a recipient is none.
        Busy: Another process backs the cluster up, or a restore into it is not complete.
        BackupFailed: A server did not give what is needed; what was read is kept, and can be resumed.
        StorageTrouble: The repository is full or does not answer; likewise.
    """
    with haops.state.lock(cluster.name, "backup", part="backup"):
        _check_not_half_restored(haops, cluster)
        wanted = _wanted(cluster, order, now())
        folders = repository.folders()
        if _tidy(repository, folders, cluster):
            folders = repository.folders()
        resumed = None if order.fresh else _resumable(repository, folders, wanted)
        begun = resumed or replace(wanted, id=_free_id(folders, wanted))
        tools = BackupTools(haops.runtime, Loans(haops.state.cluster_dir(cluster.name)))
        wish = BackupWish(begun.id, begun.wish.pitr, begun.wish.logical, begun.wish.node)
        known = _known(repository, folders, begun, {} if order.fresh else _before(repository, folders, begun))
        making = _Making(repository, order, begun, known, clock)
        # Encryption is set up before anything is asked of the servers: a bad recipient touches nothing.
        with (
            Pipeline(repository, begun.recipients, making.keep) as pipeline,
            load_backing(cluster.store).source(cluster, tools, wish) as source,
        ):
            making.announce(resumed is not None)
            making.await_sweeps()
            records = making.read(source, pipeline)
            facts = source.facts()
            making.check(records, pipeline)
            manifest = Manifest(begun, facts.latest, now(), facts, tuple(records))
            making.publish(manifest, pipeline)
            source.release()
    return manifest


class _Making:
    """One backup while it is made."""

    def __init__(
        self, repository: Repository, order: BackupOrder, begun: Begun, known: _Known, clock: Clock
    ) -> None:
        self._repository = repository
        self._order = order
        self._begun = begun
        self._known = known
        self._clock = clock
        self._throttle = Throttle(order.rate, clock)
        self._numbers = count(known.number)
        self._records: dict[str, PartRecord] = {}
        self._done = 0
        self._total: int | None = None
        self._beat = clock.monotonic()

    def announce(self, resumed: bool) -> None:  # noqa: FBT001
        """Write down that a backup begins, or goes on."""
        if resumed:
            self._order.say(f"going on with {self._begun.id}, which was cut off")
            self._repository.heartbeat(self._begun)
        elif not self._repository.begin(self._begun):
            raise Busy(f"{self._begun.id} is being made by another process", hint="try again")

    def await_sweeps(self) -> None:
        """Lean on no chunk that somebody is about to remove. Raises Busy."""
        if folder := self._repository.folder(self._begun.id):
            await_sweeps(self._repository.storage, folder.touched, self._clock, self._order.say)

    def read(self, source: Source, pipeline: Pipeline) -> list[PartRecord]:
        """Read what is not known; the parts' records in the parts' order."""
        parts = list(source.parts())
        if len({part.name for part in parts}) != len(parts):
            raise BackupFailed("two parts of the backup have the same name")
        sizes = [part.size for part in parts]
        self._total = None if None in sizes else sum(size or 0 for size in sizes)
        known = self._whole(parts, pipeline)
        if known:
            self._order.say(f"{len(known)} of {len(parts)} parts are unchanged, and not read again")
        for part in parts:
            if record := known.get(part.name):
                self._records[part.name] = record
                self._done += record.size
                continue
            pipeline.write(part, self._blocks(part, source))
        pipeline.flush()
        return [self._records[part.name] for part in parts]

    def keep(self, record: PartRecord) -> None:
        """Journal a part; called in workers, one part once."""
        self._repository.keep_part(self._begun.id, next(self._numbers), record)
        self._records[record.name] = record

    def check(self, records: Sequence[PartRecord], pipeline: Pipeline) -> None:
        """Before it is called complete: chunks that were there already must still be there.

        Raises:
            BackupFailed: Somebody removed some meanwhile.
        """
        needed = (chunk for record in records for chunk in record.chunks)
        if gone := self._repository.missing(needed, self._begun.recipients, pipeline.pool):
            raise BackupFailed(
                f"{len(gone)} chunks that {self._begun.id} needs were removed while it was made",
                hint="run the same command again: it stores them anew",
            )

    def publish(self, manifest: Manifest, pipeline: Pipeline) -> None:
        """Call it complete; from then on nobody removes its chunks, but somebody may have before.

        Raises:
            BackupFailed: Somebody did; it is incomplete again.
        """
        self._repository.publish(manifest)
        try:
            self.check(manifest.parts, pipeline)
        except BaseException:
            with suppress(StorageTrouble):  # before the next backup, it is looked at once more
                self._repository.take_back(manifest)
            raise
        self._repository.seal(manifest)

    def _whole(self, parts: Sequence[Part], pipeline: Pipeline) -> dict[str, PartRecord]:
        """The parts that are known and whose chunks are there."""
        known = {part.name: record for part in parts if (record := self._known.of(part))}
        chunks = (chunk for record in known.values() for chunk in record.chunks)
        gone = self._repository.missing(chunks, self._begun.recipients, pipeline.pool)
        return {n: r for n, r in known.items() if not gone.intersection(c.id for c in r.chunks)}

    def _blocks(self, part: Part, source: Source) -> Iterator[bytes]:
        for block in source.read(part):
            self._throttle.take(len(block))
            self._done += len(block)
            self._order.report(Progress(part.name, self._done, self._total))
            if self._clock.monotonic() - self._beat >= HEARTBEAT_S:
                self._repository.heartbeat(self._begun)
                self._beat = self._clock.monotonic()
            yield block


def _check_not_half_restored(haops: Lifecycle, cluster: Cluster) -> None:
    half = RestoreFile(haops.state.cluster_dir(cluster.name)).read()
    if half is not None:
        raise Busy(
            half.words(cluster.name),
            detail="what is there is half of it, and no backup of that is made",
            hint="to begin the restore anew, say --wipe in place of --resume",
        )


def _wanted(cluster: Cluster, order: BackupOrder, now: datetime) -> Begun:
    return Begun(
        id="",
        store=cluster.store,
        cluster=cluster.name,
        owner=cluster.owner,
        shape=Shape.of(cluster),
        started=now,
        haops=__version__,
        wish=Wish(order.pitr, order.logical, order.node),
        recipients=tuple(sorted(set(order.recipients))),
    )


def _free_id(folders: Mapping[str, Folder], wanted: Begun) -> str:
    """The moment and the cluster; a second later where that is taken."""
    moment = wanted.started.astimezone(UTC)
    while (found := f"{moment.strftime(_STAMP)}-{wanted.cluster}") in folders:
        moment += timedelta(seconds=1)
    return found


def _tidy(repository: Repository, folders: Mapping[str, Folder], cluster: Cluster) -> bool:
    """Finish this cluster's backups whose maker died right after the manifest; whether there were any.

    He may have died before he looked whether all chunks were still there. Where they are not, the backup is
    incomplete again.
    """
    found = False
    for folder in folders.values():
        if folder.begun and folder.complete:
            with suppress(*_UNREADABLE):
                begun = repository.begun(folder.id)
                if (begun.cluster, begun.owner) == (cluster.name, cluster.owner):
                    found = True
                    _finish(repository, folder)
    return found


def _finish(repository: Repository, folder: Folder) -> None:
    manifest = repository.manifest(folder.id)
    with ThreadPoolExecutor(_LOOKERS, thread_name_prefix="look") as pool:
        gone = repository.missing(manifest.chunks(), manifest.recipients, pool)
    if gone:
        repository.take_back(manifest)
    else:
        repository.tidy(folder)


def _resumable(repository: Repository, folders: Mapping[str, Folder], wanted: Begun) -> Begun | None:
    """The newest backup that was cut off at what is wanted now."""
    for folder in reversed(list(folders.values())):
        if folder.begun and not folder.complete and not folder.sealed:
            with suppress(*_UNREADABLE):
                begun = repository.begun(folder.id)
                if begun.id == folder.id and begun.resumes(wanted):
                    return begun
    return None


def _known(
    repository: Repository,
    folders: Mapping[str, Folder],
    begun: Begun,
    before: Mapping[str, PartRecord],
) -> _Known:
    kept: dict[str, PartRecord] = {}
    number = 0
    if own := folders.get(begun.id):
        with suppress(*_UNREADABLE):  # a journal that is damaged costs reading once more, no more
            for used, record in repository.kept_parts(own):
                number = used + 1
                kept[record.name] = record
        number = max(number, len(own.names))
    return _Known(kept, before, number)


def _before(repository: Repository, folders: Mapping[str, Folder], begun: Begun) -> Mapping[str, PartRecord]:
    """The parts of the newest complete backup of the same cluster for the same readers that no check found bad."""
    for folder in reversed(list(folders.values())):
        if folder.complete and folder.id.endswith(f"-{begun.cluster}"):
            with suppress(*_UNREADABLE):
                manifest = repository.manifest(folder.id)
                old = manifest.begun
                same = (old.store, old.cluster, old.owner, old.recipients) == (
                    begun.store, begun.cluster, begun.owner, begun.recipients,
                )  # fmt: skip
                checked = repository.checked(folder.id) if same else None
                if same and (checked is None or checked.ok):
                    return {part.name: part for part in manifest.parts}
    return {}

"""The disaster drill: load, back up, more load, destroy every node and volume, restore, compare."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from haops import __version__
from haops.backup.archive import ArchiveReader, open_archive
from haops.backup.create import BackupOrder, create
from haops.backup.documents import Damaged
from haops.backup.keys import Identities
from haops.backup.manifest import Manifest
from haops.backup.repository import Repository, open_repository
from haops.backup.restore import RestoreOrder, restore
from haops.cluster.spec import Cluster, StoreName
from haops.compare.rounds import Comparison
from haops.compare.sides import compare_copies, compare_with_backup
from haops.control.half_restored import HalfRestored, RestoreFile
from haops.control.healthy import await_healthy
from haops.control.lifecycle import Lifecycle
from haops.drills.disaster_result import (
    DISASTER_VERSION,
    DisasterResult,
    DisasterTrial,
    Marks,
    Proof,
    judge,
    survival,
)
from haops.drills.load import LoadGenerator, LoadPlan
from haops.drills.playbook import DisasterBook, DisasterStore
from haops.drills.result import DrillVerdict, combine
from haops.drills.runner import Say, cluster_for
from haops.errors import HaopsError
from haops.history.files import save
from haops.history.record import History, Kind, read_back
from haops.parallel import ask_all
from haops.stores import load as load_store
from haops.stores import load_comparing
from haops.stores.backup import NotRestorable, RestoreFailed, RestoreWish
from haops.stores.base import FIRST_ELEMENT, Workload

REPOSITORY: Final = "repository"
_HEALTHY_S: Final = 60.0
_FIRST_KEY: Final = 10_000_000
_EXAMPLES: Final = 5
# Start, backup, backed up, struck, destroyed.
Moments = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class DisasterOrder:
    """What to run.

    Args:
        targets: The cluster to destroy for each store; made for the run and removed after it if missing.
        rate: Operations a second instead of the playbook's.
        folder: Where the histories go, and in `REPOSITORY` the backups.
    """

    name: str
    playbook: DisasterBook
    targets: Mapping[StoreName, str]
    rate: int | None
    seed: int
    run: str
    folder: Path


def run_disasters(haops: Lifecycle, order: DisasterOrder, say: Say) -> DisasterResult:
    """Run the playbook on every target; trouble or an interruption keeps what is finished.

    Raises:
        HaopsError: Nothing at all could be run; the first store's own trouble.
    """
    started = datetime.now(UTC)
    trials: list[DisasterTrial] = []
    troubles: list[HaopsError] = []
    verdicts: list[DrillVerdict] = []
    interrupted = False
    try:
        for store in order.targets:
            try:
                trials.append(_run_store(haops, order, store, say))
            except HaopsError as error:
                say(f"{order.targets[store]}: {error.message}")
                troubles.append(error)
                verdicts.append(_verdict_of(error))
    except KeyboardInterrupt:
        interrupted = True
    if troubles and not trials:
        raise troubles[0]
    verdicts += [DrillVerdict.UNKNOWN] if interrupted else []
    return DisasterResult(
        version=DISASTER_VERSION,
        run=order.run,
        playbook=order.name,
        title=order.playbook.title,
        started=started,
        finished=datetime.now(UTC),
        haops=__version__,
        seed=order.seed,
        interrupted=interrupted,
        verdict=combine([*(t.verdict for t in trials), *verdicts]),
        stores=tuple(trials),
        troubles=tuple(str(error) for error in troubles),
    )


def _verdict_of(error: HaopsError) -> DrillVerdict:
    """A backup that cannot be restored has failed its test; other trouble tells nothing of it."""
    failed = isinstance(error, RestoreFailed | NotRestorable | Damaged)
    return DrillVerdict.FAIL if failed else DrillVerdict.UNKNOWN


def _run_store(haops: Lifecycle, order: DisasterOrder, store: StoreName, say: Say) -> DisasterTrial:
    with ExitStack() as stack:
        cluster = cluster_for(haops, store, order.targets[store], stack, say)
        version = next((n.version for n in await_healthy(haops, cluster, _HEALTHY_S).nodes if n.version), "?")
        repository = open_repository(str(order.folder / REPOSITORY), make=True)
        return _Disaster(haops, cluster, order, order.playbook.stores[store], repository, say).run(version)


@dataclass(slots=True)
class _Disaster:
    """One store's disaster."""

    haops: Lifecycle
    cluster: Cluster
    order: DisasterOrder
    model: DisasterStore
    repository: Repository
    say: Say

    def run(self, version: str) -> DisasterTrial:
        """Everything, in order."""
        with self._workload() as workload:
            workload.prepare(self._plan.clients)
            history, manifest, moments = self._load_and_strike()
        with self._telling_how_to_restore():
            return self._recover(history, manifest, moments, version)

    def _leave_word(self, manifest: Manifest) -> None:
        """Whatever becomes of this process, the cluster's own record says that a restore is due, and of what."""
        due = HalfRestored(
            manifest.id, self.repository.label, RestoreWish(), datetime.now(UTC).isoformat(timespec="seconds")
        )
        RestoreFile(self.haops.state.cluster_dir(self.cluster.name)).write(due)

    @contextmanager
    def _telling_how_to_restore(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            name = self.cluster.name
            up = ("haops", "up", self.cluster.store, "--name", name)
            if due := RestoreFile(self.haops.state.cluster_dir(name)).read():
                self.say(f"{name} was destroyed: {shlex.join(up)}; {due.words(name)}")
            raise

    def _recover(self, history: History, manifest: Manifest, moments: Moments, version: str) -> DisasterTrial:
        """From nothing to a cluster that is proved."""
        say, name = self.say, self.cluster.name
        say(f"{name}: every node and volume is destroyed")
        self.haops.up(self.cluster.spec())
        stands = time.monotonic_ns()
        say(f"{name}: stands again, empty; restoring {manifest.id}")
        archive = open_archive(self.repository, manifest.id, Identities())
        restore(
            self.haops,
            self.cluster,
            archive,
            RestoreOrder(repository=self.repository.label, resume=True, reason=f"drill {self.order.run}"),
        )
        marks = Marks(*moments, stands, time.monotonic_ns())
        say(f"{name}: restored; comparing it with the backup")
        proof = self._prove(archive)
        with self._workload() as workload:
            found = frozenset(workload.read_back(self._plan.clients))
        self._keep(history, found)
        return self._trial(history, found, marks, manifest, proof, version)

    @contextmanager
    def _workload(self) -> Iterator[Workload]:
        opened = load_store(self.cluster.store).workload(self.cluster, self.order.run, self._patience_s)
        with closing(opened):
            yield opened

    def _prove(self, archive: ArchiveReader) -> Proof:
        """What was measured until now is kept, whatever becomes of the comparisons.

        Copies first: what reads the cluster as a whole may find in one copy what others lack, and mend these.
        """
        try:
            copies = compare_copies(self.haops, self.cluster)
            return _proof(compare_with_backup(self.haops, self.cluster, archive), copies, self.cluster.store)
        except HaopsError as error:
            return Proof(0, 0, (), str(error))

    @property
    def _patience_s(self) -> float:
        return self.order.playbook.load.timeout.total_seconds()

    @property
    def _plan(self) -> LoadPlan:
        load = self.order.playbook.load
        return LoadPlan(
            rate=self.order.rate or self.model.rate,
            clients=load.clients,
            processes=min(load.processes, load.clients),
            writes=load.writes,
            timeout_s=self._patience_s,
            first_key=_FIRST_KEY,
            seed=self.order.seed,
            registers=load.registers,
        )

    def _load_and_strike(self) -> tuple[History, Manifest, Moments]:
        """The load with the backup in it, until nothing is left; start, backup, backed up, struck, destroyed."""
        phases = self.order.playbook.phases
        with LoadGenerator(self.cluster, self.order.run, self._plan) as load:
            start = load.start()
            time.sleep((phases.warmup + phases.before).total_seconds())
            self.say(f"{self.cluster.name}: backing up under load")
            backup = time.monotonic_ns()
            # The logical form is what the restored cluster is compared with, where it is not the same.
            manifest = create(self.haops, self.cluster, self.repository, BackupOrder(logical=True))
            backed_up = time.monotonic_ns()
            time.sleep(phases.after.total_seconds())
            struck = time.monotonic_ns()
            with self.haops.state.lock(self.cluster.name, f"drill {self.order.run}"):
                self._leave_word(manifest)
                forget = self.haops.runtime.forget_disk
                ask_all(lambda node: forget(self.cluster, node.name), self.cluster.nodes)
            destroyed = time.monotonic_ns()
            return load.finish(), manifest, (start, backup, backed_up, struck, destroyed)

    def _keep(self, history: History, found: frozenset[int]) -> None:
        written = history.of(Kind.WRITE).key
        kept = read_back(history, np.unique(written[written >= FIRST_ELEMENT]), found)
        save(kept, self.order.folder / f"history-{self.cluster.store}-1.parquet")

    def _trial(
        self,
        history: History,
        found: frozenset[int],
        marks: Marks,
        manifest: Manifest,
        proof: Proof,
        version: str,
    ) -> DisasterTrial:
        survived, budget = survival(history, found, marks), self.model.budget()
        took_s = (marks.restored - marks.struck) / 1e9
        verdict, reasons = judge(survived, proof, took_s, budget)
        return DisasterTrial(
            store=self.cluster.store,
            cluster=self.cluster.name,
            mode=self.cluster.mode,
            version=version,
            nodes=len(self.cluster.servers),
            verdict=verdict,
            reasons=reasons,
            budget=budget,
            backup=manifest.id,
            backup_s=(marks.backed_up - marks.backup) / 1e9,
            bytes=manifest.bytes,
            destroy_s=(marks.destroyed - marks.struck) / 1e9,
            rebuild_s=(marks.stands - marks.destroyed) / 1e9,
            restore_s=(marks.restored - marks.stands) / 1e9,
            recovery_time_s=took_s,
            survival=survived,
            p_loss=survived.p_loss,
            p_recovered=survived.p_recovered,
            proof=proof,
            marks=marks,
        )


def _proof(found: Comparison, copies: Sequence[Comparison], store: StoreName) -> Proof:
    """What the comparisons say; one that leaves something open is no proof."""
    show = load_comparing(store).show
    differences = [d for each in (found, *copies) for d in each.differences]
    examples = tuple(f"{show(d.key)}: {', '.join(d.kinds)}" for d in differences[:_EXAMPLES])
    moving = sum(len(each.unsettled) + each.elusive for each in (found, *copies))
    troubles = [each.trouble for each in (found, *copies) if each.trouble]
    if moving:
        troubles.append(f"{moving} records were still changing")
    return Proof(
        records=found.records_left,
        differences=len(found.differences) + found.unlisted,
        examples=examples,
        trouble="; ".join(troubles),
        untold=found.untold,
        copies=len({d.key for c in copies for d in c.differences}) + sum(c.unlisted for c in copies),
    )

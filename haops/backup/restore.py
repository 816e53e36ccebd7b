"""Restoring an archive into a cluster: what is in the way, stage by stage, resumable after a crash."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Protocol, runtime_checkable

from haops.backup.leases import RENEW_S, lessee, renewed
from haops.cluster.loans import Loans
from haops.cluster.spec import Cluster
from haops.control.execute import operator
from haops.control.half_restored import HalfRestored, RestoreFile, wish_options
from haops.control.healthy import await_healthy
from haops.control.journal import Journal, Outcome
from haops.control.lifecycle import Lifecycle
from haops.control.loans import give_back_loans
from haops.errors import BadInput, Busy, HaopsError, StateDamaged
from haops.stores import load_backing
from haops.stores.backup import (
    Advance,
    Archive,
    BackupTools,
    NotRestorable,
    Restorer,
    RestoreWish,
    Stage,
)
from haops.stores.plan import Operation, Plan, Step

# After a restore every copy is made anew: as long as a first start may take.
_HEALTHY_S: Final = 180.0
# Marks go to the disk this often: what was done since is done once more after a crash.
_MARK_S: Final = 0.5


class NotEmpty(BadInput):
    """The target holds something where the restore would write, and nothing was said about it."""


class Leased(Archive, Protocol):
    """An archive that nobody prunes while it is restored."""

    def lease(self, lessee: str) -> None:
        """Keep it until `end_lease`, also if this process dies; may be repeated."""
        ...

    def renew_lease(self, lessee: str) -> None:
        """The restore is still at work: keep it for another while."""
        ...

    def end_lease(self, lessee: str, *, of: str = "") -> None:
        """It, or the backup `of` in the same repository, is not needed any more; may be repeated."""
        ...


@runtime_checkable
class Sparing(Protocol):
    """A restorer that can tell whether it has changed anything yet."""

    def unchanged(self) -> bool:
        """Whether the target surely holds what it held before; asked after a failure, of one's own acts only."""
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage of a restore is (`done` of `stage.total` units)."""

    stage: Stage
    done: int


@dataclass(frozen=True, slots=True)
class RestoreOrder:
    """What to restore, and what may happen to what is there.

    Args:
        repository: Where the backup is, in the operator's words; kept for `status`.
        wipe: Remove what is in the way first.
        resume: Go on with a restore that was cut off.
        reason: Why, for the journal.
        report: Hears of each step forward.
    """

    wish: RestoreWish = field(default_factory=RestoreWish)
    repository: str = ""
    wipe: bool = False
    resume: bool = False
    reason: str = "asked for at the prompt"
    report: Callable[[Progress], None] = field(default=lambda _: None)


@dataclass(frozen=True, slots=True)
class StageDone:
    """A stage and what it took (seconds); `done` counts its units, those before a resumption included."""

    stage: Stage
    done: int
    took_s: float


@dataclass(frozen=True, slots=True)
class Restored:
    """How a restore went.

    Args:
        healthy_s: Until the cluster was healthy again, after the last stage.
        took_s: In all.
    """

    backup: str
    cluster: str
    stages: tuple[StageDone, ...]
    healthy_s: float
    took_s: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a restore would do, for `--dry-run` and for the question before it."""

    in_the_way: tuple[str, ...]
    stages: tuple[Stage, ...]


def check_fits(cluster: Cluster, archive: Archive) -> None:
    """Refuse a backup of another store.

    Raises:
        NotRestorable: It is one.
    """
    if archive.store is not cluster.store:
        raise NotRestorable(
            f"backup {archive.id} is of {archive.store}, cluster {cluster.name} is of {cluster.store}",
            hint="see: haops backup list, haops ls",
        )


def look(haops: Lifecycle, cluster: Cluster, archive: Archive, wish: RestoreWish) -> Outlook:
    """What a restore would meet and do; changes nothing.

    Raises:
        NotRestorable: It cannot be restored so.
    """
    check_fits(cluster, archive)
    with load_backing(cluster.store).restorer(cluster, _tools(haops, cluster), archive, wish) as restorer:
        return Outlook(restorer.in_the_way(), tuple(restorer.stages()))


def refusal(
    haops: Lifecycle, cluster: Cluster, archive: Archive, order: RestoreOrder, outlook: Outlook
) -> HaopsError | None:
    """What `restore` would refuse such an order with before it touches anything; None where it would begin."""
    try:
        half = _begun(RestoreFile(haops.state.cluster_dir(cluster.name)), archive, order)
        _check_may_begin(half, order, outlook.in_the_way, cluster)
    except HaopsError as error:
        return error
    return None


def restore(haops: Lifecycle, cluster: Cluster, archive: Leased, order: RestoreOrder) -> Restored:
    """Restore an archive; returns when the cluster is healthy again.

    Raises:
        NotRestorable: It cannot be restored so; nothing was touched.
        NotEmpty: Something is in the way and neither wipe nor merge was asked for; nothing was touched.
        Busy: Another process is at work on the cluster, or an earlier restore was cut off.
        RestoreFailed: A server refused; what was done stays, `resume` goes on.
    """
    check_fits(cluster, archive)
    began = time.monotonic()
    # No backup may be made of what is restored by half, or give back what this has borrowed.
    what = f"restore of {archive.id}"
    with haops.state.lock(cluster.name, what), haops.state.lock(cluster.name, what, part="backup"):
        folder, who = haops.state.cluster_dir(cluster.name), lessee(cluster)
        file = RestoreFile(folder)
        run = _Run(order, file, _begun(file, archive, order), _left_behind(file), was_there=file.there)
        give_back_loans(cluster, haops.runtime, Loans(folder))
        opened = load_backing(cluster.store).restorer(cluster, _tools(haops, cluster), archive, order.wish)
        try:
            with opened as restorer:
                archive.lease(who)
                with renewed(lambda: archive.renew_lease(who), RENEW_S), _marked_as_it_is(run, restorer):
                    _clear_the_way(run, restorer, cluster)
                    done = tuple(_stages(run, restorer))
            whole = time.monotonic()
            await_healthy(haops, cluster, _HEALTHY_S)
        except BaseException as error:
            if run.touched:
                _journal(haops, cluster, archive, order, _why(error), Outcome.FAILED)
            _leave(run, cluster, archive, who, error)
            raise
        file.clear()
        _let_go(run.before, archive, order, who)
        archive.end_lease(who)
        ended = time.monotonic()
        _journal(haops, cluster, archive, order, f"{ended - began:.1f} s", Outcome.DONE)
    return Restored(archive.id, cluster.name, done, ended - whole, ended - began)


def _left_behind(file: RestoreFile) -> HalfRestored | None:
    """A restore that was cut off here, if there is one that can be read."""
    with suppress(StateDamaged):
        return file.read()
    return None


def _let_go(before: HalfRestored | None, archive: Leased, order: RestoreOrder, who: str) -> None:
    """A restore that another takes the place of needs its backup no more; elsewhere its lease runs out by itself."""
    if before and before.repository == order.repository and before.backup != archive.id:
        archive.end_lease(who, of=before.backup)


def _leave(run: _Run, cluster: Cluster, archive: Leased, who: str, error: BaseException) -> None:
    """What a restore that failed leaves: its mark with the ways out, or nothing, not even a lease."""
    if run.touched and isinstance(error, Exception):  # who pressed Ctrl-C is told in fewer words
        same = f"nothing was changed: {cluster.name} holds what it held before"
        error.add_note(run.half.words(cluster.name) if run.marked else same)
    if run.marked:
        _let_go(run.before, archive, run.order, who)
    elif (run.before.backup != archive.id) if run.before else not run.was_there:
        archive.end_lease(who)


def _why(error: BaseException) -> str:
    return "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__


def _tools(haops: Lifecycle, cluster: Cluster) -> BackupTools:
    return BackupTools(haops.runtime, Loans(haops.state.cluster_dir(cluster.name)))


@dataclass(slots=True)
class _Run:
    """One restore while it goes on; `half` is what the disk has of it.

    Args:
        before: What an earlier one had left behind, if that can be read.
        was_there: Whether one had left anything behind.
        touched: Whether it has begun.
        marked: Whether the disk says that it has.
    """

    order: RestoreOrder
    file: RestoreFile
    half: HalfRestored
    before: HalfRestored | None
    was_there: bool
    touched: bool = False
    marked: bool = False
    marked_s: float = 0.0

    def keep(self, **changes: str | int | bool) -> None:
        """Write down how far it is."""
        self.half = replace(self.half, **changes)  # type: ignore[arg-type]
        self.file.write(self.half)
        self.touched = self.marked = True
        self.marked_s = time.monotonic()

    def mark(self, advance: Advance) -> None:
        """Write a mark down, unless the last one is fresh."""
        if advance.mark and time.monotonic() - self.marked_s >= _MARK_S:
            self.keep(mark=advance.mark, done=advance.done)

    def take_back(self) -> None:
        """Nothing was changed: the disk says again what it said before."""
        if self.before:
            self.file.write(self.before)
        elif self.was_there:
            return  # what it said could not be read
        else:
            self.file.clear()
        self.marked = False


@contextmanager
def _marked_as_it_is(run: _Run, restorer: Restorer) -> Iterator[None]:
    """One that fails before anything is changed is no half of a restore, and leaves no mark of one."""
    try:
        yield
    except BaseException:
        if run.marked and isinstance(restorer, Sparing) and restorer.unchanged():
            run.take_back()
        raise


def _begun(file: RestoreFile, archive: Archive, order: RestoreOrder) -> HalfRestored:
    """The restore to go on with, or a new one.

    Raises:
        Busy: One was cut off, and neither to resume it nor to wipe was asked for.
        BadInput: There is none to resume, or it is another.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    fresh = HalfRestored(archive.id, order.repository, order.wish, now)
    if order.wipe and not order.resume:
        return fresh
    half = file.read()
    if half is None:
        if order.resume:
            raise BadInput(
                "no restore was cut off here: there is nothing to resume", hint="leave --resume out"
            )
        return fresh
    if not order.resume:
        raise Busy(
            f"a restore of {half.backup} was cut off here",
            hint="go on with it: --resume; or begin anew, with this backup or another: --wipe",
        )
    if (half.backup, half.wish) != (archive.id, order.wish):
        raise BadInput(
            f"the restore that was cut off is of {half.backup}{_wish_words(half.wish)}, "
            f"not of {archive.id}{_wish_words(order.wish)}",
            hint="ask for the same, or begin anew with --wipe",
        )
    return half


def _wish_words(wish: RestoreWish) -> str:
    options = wish_options(wish)
    return f" with {shlex.join(options)}" if options else ""


def _check_may_begin(
    half: HalfRestored, order: RestoreOrder, in_the_way: Sequence[str], cluster: Cluster
) -> None:
    """Raises NotEmpty."""
    if in_the_way and not (order.wish.merge or half.wiped or order.wipe or half.wipe):
        raise NotEmpty(
            f"{cluster.name} is not empty where {half.backup} would be restored",
            detail="\n".join(in_the_way),
            hint="remove it first: --wipe; or write beside and over it: --merge",
        )


def _clear_the_way(run: _Run, restorer: Restorer, cluster: Cluster) -> None:
    """Nothing is removed that was not to be; after a crash in the wiping it is wiped once more."""
    if run.order.wish.merge or run.half.wiped:
        run.keep(wiped=True)
        return
    found = restorer.in_the_way()
    wipe = run.order.wipe or run.half.wipe
    _check_may_begin(run.half, run.order, found, cluster)
    if found:
        run.keep(wipe=True)
        restorer.wipe()
    run.keep(wipe=wipe, wiped=True)


def _stages(run: _Run, restorer: Restorer) -> Iterator[StageDone]:
    stages: Sequence[Stage] = restorer.stages()
    names = [stage.name for stage in stages]
    first = names.index(run.half.stage) if run.half.stage in names else 0
    for stage in stages[first:]:
        resumed = stage.name == run.half.stage
        mark = run.half.mark if resumed else ""
        done = run.half.done if resumed else 0
        run.keep(stage=stage.name, mark=mark, done=done)
        started = time.monotonic()
        run.order.report(Progress(stage, done))
        for advance in restorer.perform(stage, mark):
            done = advance.done
            run.order.report(Progress(stage, done))
            run.mark(advance)
        yield StageDone(stage, done, time.monotonic() - started)


def _journal(
    haops: Lifecycle, cluster: Cluster, archive: Archive, order: RestoreOrder, note: str, outcome: Outcome
) -> None:
    """What was done to the cluster, written when it has ended: `restore.json` has it until then."""
    plan = Plan(
        cluster=cluster.name,
        operation=Operation.RESTORE,
        source=archive.id,
        target=None,
        steps=(Step("restore", None, f"restore {archive.id}{_wish_words(order.wish)}"),),
        risk="what was there is replaced" if order.wipe else "nothing that was there is removed",
    )
    entry = Journal(haops.state.cluster_dir(cluster.name)).begin(plan, operator(), order.reason)
    entry.end(outcome, note)

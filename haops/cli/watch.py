"""`haops watch`: clusters as they change."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final

import typer

from haops.cli.context import cluster_names, lifecycle
from haops.cli.output import Output, OutputOption
from haops.cluster.changes import Change, ChangeKind, Severity, changes
from haops.cluster.snapshot import FindingKind, NodeState, Role, Snapshot, Verdict
from haops.errors import EXIT_UNHEALTHY, BadInput, ClusterUnhealthy, HaopsError, StateDamaged
from haops.timing import parse_duration

if TYPE_CHECKING:
    from haops.control.lifecycle import Lifecycle

# A look takes a second at most while nodes are silent; what takes longer is the engine's or the machine's
# trouble, and is told.
PATIENCE_S: Final = 3.0
# Looks without a pause between them would be a load of their own.
_MIN_PAUSE_S: Final = 0.05


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command(
        "watch",
        epilog="Examples: haops watch redis | haops watch redis -o json | "
        "haops watch redis --until healthy --timeout 60s | haops watch redis --until split-brain",
    )(watch)


def watch(
    names: Annotated[list[str], typer.Argument(help="Clusters' names.", autocompletion=cluster_names)],
    interval: Annotated[str, typer.Option(help="Time between two looks.")] = "1s",
    until: Annotated[
        str | None,
        typer.Option(
            help="End when all clusters have this verdict, when a finding of this kind (such as "
            "split-brain) is there, or when a node changes to this role or state."
        ),
    ] = None,
    timeout: Annotated[str | None, typer.Option(help="End after this time.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what changes in clusters, with the reason, until Ctrl-C.

    A live tree on a terminal, a line a change in a pipe, a JSON object a line with -o json. Ends with
    exit code 5 if a cluster is not healthy then, or if what --until waits for has not come.
    """
    haops = lifecycle()
    end = Until(until, parse_duration(timeout).total_seconds() if timeout else None)
    follow(haops, list(dict.fromkeys(names)), parse_duration(interval).total_seconds(), output, end)


@dataclass(frozen=True, slots=True)
class Until:
    """When a watch ends by itself.

    Args:
        word: A verdict that all clusters must have, a finding's kind, a node's role, state or name.
        after_s: How long it lasts at most; None is for ever.
    """

    word: str | None = None
    after_s: float | None = None

    def __post_init__(self) -> None:
        words = [str(w) for kind in (Verdict, FindingKind, NodeState, Role) for w in kind]
        if self.word is not None and self.word not in words:
            allowed = ", ".join(dict.fromkeys(words))
            raise BadInput(f"--until {self.word!r} would never come", hint=f"allowed: {allowed}")

    def has_come(self, snapshots: Sequence[Snapshot], news: Sequence[Change]) -> bool:
        """Whether it is so, as far as the clusters are seen."""
        if self.word in set(Verdict):
            return bool(snapshots) and all(s.verdict == self.word for s in snapshots)
        if any(f.kind == self.word for s in snapshots for f in s.findings):
            return True
        moved = (ChangeKind.ROLE, ChangeKind.STATE)
        return any(change.what == self.word for change in news if change.kind in moved)


@dataclass(frozen=True, slots=True)
class Round:
    """One look at all clusters.

    Args:
        seen: The latest snapshot of each cluster that was ever seen.
        unseen: Clusters that could not be looked at this time, with why.
        fresh: Those that were seen for the first time.
        news: What changed since the last round.
    """

    seen: Sequence[Snapshot]
    unseen: dict[str, str]
    fresh: Sequence[Snapshot]
    news: Sequence[Change]

    @property
    def healthy(self) -> bool:
        """Whether every cluster is seen, and healthy."""
        return not self.unseen and all(s.verdict is Verdict.HEALTHY for s in self.seen)


Show = Callable[[Round], None]


def follow(
    haops: Lifecycle, names: Sequence[str], interval_s: float, output: Output, until: Until | None = None
) -> None:
    """The loop of `watch` and of `status --watch`; always ends by typer.Exit or an error.

    Raises:
        BadInput: There is no such cluster.
        ClusterUnhealthy: One was removed meanwhile.
    """
    from haops.cli.live import display
    from haops.stores import load

    until = until or Until()
    if not names:
        raise BadInput("there is no cluster to watch", hint="start one: haops up redis")
    for name in names:
        load(haops.state.get(name).store)  # the drivers' imports are no part of the first look's time
    latest: Round | None = None
    came = False
    try:
        with display(output) as show:
            for latest in rounds(haops, names, interval_s, until.after_s):
                show(latest)
                came = not latest.unseen and until.has_come(latest.seen, latest.news)
                if came:
                    break
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # Whoever read has gone, as `head` does; the interpreter must not complain of it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    fine = came if until.word is not None else latest is not None and latest.healthy
    raise typer.Exit(0 if fine else EXIT_UNHEALTHY)


def rounds(
    haops: Lifecycle, names: Sequence[str], interval_s: float, after_s: float | None = None
) -> Iterator[Round]:
    """Looks at all clusters at once, one after the other; the last one after `after_s`.

    Raises:
        ClusterUnhealthy: A cluster was removed meanwhile.
    """
    began = time.monotonic()
    eyes = [Eye(haops, name) for name in names]
    while True:
        started = time.monotonic()
        for eye in eyes:
            eye.open()
        news: list[Change] = []
        fresh = []
        for eye in eyes:
            first = eye.snapshot is None
            news += eye.see(max(started + PATIENCE_S - time.monotonic(), 0))
            if first and eye.snapshot:
                fresh.append(eye.snapshot)
        seen = [eye.snapshot for eye in eyes if eye.snapshot]
        yield Round(seen, {eye.name: eye.trouble for eye in eyes if eye.trouble}, fresh, news)
        pause = max(interval_s - (time.monotonic() - started), _MIN_PAUSE_S)
        if after_s is not None:
            left = began + after_s - time.monotonic()
            if left <= 0:
                return
            pause = min(pause, left)
        time.sleep(pause)


@dataclass(slots=True)
class Eye:
    """Looks at one cluster, in a thread of its own: an engine that hangs may not hang the others.

    Args:
        snapshot: What was seen last.
        trouble: Why nothing was seen this time; empty if something was.
    """

    haops: Lifecycle
    name: str
    snapshot: Snapshot | None = None
    trouble: str = ""
    _thread: threading.Thread | None = None
    _answer: list[Snapshot | BaseException] = field(default_factory=list)

    def open(self) -> None:
        """Begin a look, unless the last one still goes on."""
        if self._thread is None:
            self._answer = []
            # A daemon: Ctrl-C may not have to wait for an engine that hangs.
            self._thread = threading.Thread(target=self._look, args=(self._answer,), daemon=True)
            self._thread.start()

    def _look(self, answer: list[Snapshot | BaseException]) -> None:
        try:
            # The record is read anew: nodes are replaced, and a cluster comes up again on other ports.
            answer.append(self.haops.observe(self.haops.state.get(self.name)))
        except BaseException as error:  # it is raised again where it can be told
            answer.append(error)

    def see(self, patience_s: float) -> Sequence[Change]:
        """What is new, if the look ends in time."""
        assert self._thread is not None
        self._thread.join(patience_s)
        if not self._answer:
            return self._unseen(
                f"no look ended within {PATIENCE_S:g} s: the engine hangs, or this machine is too busy"
            )
        (answer,) = self._answer
        self._thread = None
        if isinstance(answer, Snapshot):
            return self._seen(answer)
        if isinstance(answer, BadInput | StateDamaged):
            if self.name not in self.haops.state.names():
                raise ClusterUnhealthy(f"{self.name} was removed while it was watched") from answer
            raise answer
        if isinstance(answer, HaopsError):
            return self._unseen(answer.message)
        raise answer

    def _unseen(self, why: str) -> Sequence[Change]:
        from haops.stores.base import now

        known, self.trouble = bool(self.trouble), why
        text = f"cannot be looked at: {why}"
        change = Change(now(), self.name, ChangeKind.SIGHT, "lost", text, severity=Severity.WARNING)
        return [] if known else [change]

    def _seen(self, snapshot: Snapshot) -> Sequence[Change]:
        before, self.snapshot = self.snapshot, snapshot
        told = list(changes(before, snapshot)) if before else []
        if self.trouble:
            self.trouble = ""
            text = "can be looked at again"
            back = Change(snapshot.taken, self.name, ChangeKind.SIGHT, "back", text, severity=Severity.GOOD)
            told.insert(0, back)
        return told

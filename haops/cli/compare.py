"""`haops compare` and `haops repair`: what differs, and making it equal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from haops.cli import output as shapes
from haops.cli.context import cluster_names, lifecycle
from haops.cli.output import Output, OutputOption
from haops.errors import EXIT_UNKNOWN, BadInput, HaopsError, Interrupted
from haops.timing import parse_duration

if TYPE_CHECKING:
    from haops.cli.transfer import KeysDisplay
    from haops.cluster.spec import Cluster
    from haops.compare.journal import Work
    from haops.compare.repair import Repaired, RepairOrder, Truth
    from haops.compare.rounds import Comparison, Manner
    from haops.compare.sides import Named, Shelf
    from haops.control.lifecycle import Lifecycle
    from haops.stores.compare import Comparing, Side

LeftArgument = Annotated[
    str, typer.Argument(metavar="A", help="A cluster, or backup:ID.", autocompletion=cluster_names)
]
RightArgument = Annotated[
    str | None, typer.Argument(metavar="B", help="A cluster, or backup:ID.", autocompletion=cluster_names)
]
ReplicasOption = Annotated[
    bool, typer.Option("--replicas", help="The copies of cluster A: each with the primary's or leader's.")
]
OnlyOption = Annotated[
    str | None, typer.Option(metavar="PART", help="Only a key prefix, keyspace.table or /path.")
]
RepoOption = Annotated[
    str | None, typer.Option("--repo", help="Where backups are: a folder, s3://, gs:// or az://.")
]
IdentityOption = Annotated[
    list[Path] | None, typer.Option("--identity", help="A file with the key of an encrypted backup.")
]
RoundsOption = Annotated[
    int, typer.Option(min=1, help="Looks at what differs before it is called different.")
]
PauseOption = Annotated[str, typer.Option(help="Time between two looks; longer than replicas lag.")]
LimitOption = Annotated[int, typer.Option(min=1, help="Differences to list; the rest is counted.")]
TruthOption = Annotated[
    str | None, typer.Option("--truth", metavar="A|B", help="Which side is right; with --replicas a node.")
]


class CannotCompare(HaopsError):
    """A side could not be read, so it is not known whether they are equal."""

    exit_code = EXIT_UNKNOWN


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(
        "compare",
        epilog="Exit codes: 0 equal, 1 different, 4 unknown or still moving. Examples: haops compare redis "
        "--replicas | haops compare backup:latest redis | haops compare old new --only user: -o json",
    )(compare)
    app.command(
        "repair",
        epilog="Exit codes: as compare's, of how they compare afterwards; 130 interrupted. Examples: haops repair "
        "old new --truth A --dry-run | haops repair backup:latest redis --truth A --yes | "
        "haops repair redis --replicas --yes",
    )(repair)


def compare(
    left: LeftArgument,
    right: RightArgument = None,
    replicas: ReplicasOption = False,
    only: OnlyOption = None,
    repo: RepoOption = None,
    identity: IdentityOption = None,
    rounds: RoundsOption = 3,
    pause: PauseOption = "1s",
    limit: LimitOption = 10_000,
    output: OutputOption = Output.TABLE,
) -> None:
    """Compare two clusters, a backup and a cluster, or the copies of one cluster.

    What goes away at another look was lag; what stays is a difference.
    """
    from haops.cli import compare_output
    from haops.compare.rounds import compare as compare_pair

    haops, manner = lifecycle(), _manner(rounds, pause, limit)
    _check_words(right, replicas, only)
    if replicas:
        comparing, cluster = _copies_of(haops, left)
        found = compare_copies(haops, comparing, cluster, manner)
    else:
        comparing, pair = _pair(haops, left, right, _shelf(repo, identity))
        with _read(), _opened(haops, comparing, pair, only) as sides:
            found = (compare_pair(*sides, manner),)
        _check_found(found[0], only, comparing)
    compare_output.show(found, comparing.show, output)
    raise typer.Exit(compare_output.exit_code(found))


def repair(
    left: LeftArgument,
    right: RightArgument = None,
    truth: TruthOption = None,
    replicas: ReplicasOption = False,
    only: OnlyOption = None,
    repo: RepoOption = None,
    identity: IdentityOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be written and deleted; change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the journal.")] = "asked for at the prompt",
    rounds: RoundsOption = 3,
    pause: PauseOption = "1s",
    limit: LimitOption = 10_000,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make the side that is wrong like the side named as the truth, and compare them again."""
    haops, manner = lifecycle(), _manner(rounds, pause, limit)
    _check_words(right, replicas, only)
    if not (dry_run or yes or sys.stdin.isatty()):
        raise BadInput(
            "repair changes a standing cluster and there is no terminal to ask at",
            hint="say --yes, or look first with --dry-run",
        )
    sure = _Sure(dry_run, yes, reason, output)
    if replicas:
        _repair_copies(haops, left, truth, manner, sure)
    else:
        side = _truth(truth)
        comparing, pair = _pair(haops, left, right, _shelf(repo, identity))
        _repair_pair(haops, comparing, (pair, only), (side, manner), sure)


class _Sure:
    """How far the operator wants to go, and why."""

    def __init__(self, dry_run: bool, yes: bool, reason: str, output: Output) -> None:
        self.dry_run, self.yes, self.reason, self.output = dry_run, yes, reason, output

    def ask(self) -> None:
        if not self.yes and not typer.confirm("Go on?", err=True):
            raise typer.Exit(1)


def _repair_pair(
    haops: Lifecycle,
    comparing: Comparing,
    what: tuple[tuple[Named, Named], str | None],
    how: tuple[Truth, Manner],
    sure: _Sure,
) -> None:
    from haops.cli import compare_output
    from haops.compare.journal import Work
    from haops.compare.repair import PASS, RepairOrder, Truth, plan
    from haops.compare.rounds import compare as compare_pair

    (pair, only), (truth, manner) = what, how
    target = pair[1 if truth is Truth.LEFT else 0].cluster
    if target is None:
        raise BadInput("a backup cannot be changed: it can only be the truth")
    # What is listed is for people; each pass of a repair reads both sides anew, however many keys it deals with.
    working = manner if sure.dry_run else replace(manner, limit=max(manner.limit, PASS))
    with _locked(haops, target, sure):
        with _read(), _opened(haops, comparing, pair, only) as sides:
            found = compare_pair(*sides, working)
        _check_found(found, only, comparing)
        wanted = plan(found, truth, comparing.barred)
        if sure.dry_run or not wanted.keys:
            compare_output.show_plan(wanted, found, comparing.show, sure.output)
            raise typer.Exit(0 if sure.dry_run and not found.trouble else compare_output.exit_code([found]))
        if not sure.yes:
            compare_output.show_plan(wanted, found, comparing.show, Output.TABLE)
        sure.ask()
        order = RepairOrder(comparing, lambda: _opened(haops, comparing, pair, only), truth, working)
        where = f" under {only}" if only else ""
        text = f"make {wanted.target} like {wanted.truth}{where}"
        risk = f"what {wanted.target} alone has{where} is deleted"
        work = Work(target, wanted.truth, text, risk, sure.reason)
        done = _carried_out(haops, work, order, found)
    compare_output.show_repaired(done, comparing.show, sure.output, manner.limit)
    raise typer.Exit(compare_output.exit_code([done.after]))


def _carried_out(haops: Lifecycle, work: Work, order: RepairOrder, found: Comparison) -> Repaired:
    from haops.cli.transfer import KeysDisplay
    from haops.compare.journal import journaled
    from haops.compare.repair import Tally
    from haops.compare.repair import repair as carry_out

    with KeysDisplay(shapes.err()) as display, _interruptible(display), journaled(haops, work) as note:

        def hear(tally: Tally, of: int) -> None:
            note.words = str(tally)
            display.step(tally, of)

        done = carry_out(replace(order, hear=hear), found)
        note.words = f"{done.tally}; compared again: {done.after.verdict}"
    return done


@contextmanager
def _interruptible(display: KeysDisplay) -> Iterator[None]:
    """Ctrl-C with how far it is. Raises Interrupted."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Interrupted(f"interrupted: {display.done:,} keys are done; the same command goes on") from stop


def _repair_copies(haops: Lifecycle, name: str, truth: str | None, manner: Manner, sure: _Sure) -> None:
    from haops.cli import compare_output
    from haops.compare.journal import Work, journaled
    from haops.compare.repair import repair_replicas, wrong_copies

    comparing, cluster = _copies_of(haops, name)
    if truth is not None:
        cluster.node(truth)  # an unknown name is told before anything is asked of the servers
    with _locked(haops, cluster, sure):
        found = compare_copies(haops, comparing, cluster, manner)
        if not wrong_copies(found):
            compare_output.show(found, comparing.show, sure.output)
            raise typer.Exit(compare_output.exit_code(found))
        nodes, words = _wrong_nodes(cluster, found, truth)
        if sure.dry_run or not sure.yes:
            compare_output.show(found, comparing.show, sure.output if sure.dry_run else Output.TABLE)
            shapes.err().print(f"would {words}", markup=False)
        if sure.dry_run:
            return
        sure.ask()
        work = Work(cluster, nodes[0], words, "what only a wrong copy has may be lost", sure.reason)
        with journaled(haops, work) as note:
            after = repair_replicas(comparing, cluster, haops.runtime, manner, nodes)
            note.words = f"compared again: {', '.join(f'{c.right} {c.verdict}' for c in after)}"
    compare_output.show(after, comparing.show, sure.output)
    raise typer.Exit(compare_output.exit_code(after))


def _wrong_nodes(
    cluster: Cluster, found: Sequence[Comparison], truth: str | None
) -> tuple[tuple[str, ...], str]:
    """The copy that is right and those that are not, and what is done about it in words."""
    from haops.compare.repair import wrong_copies
    from haops.compare.sides import names_nodes

    first, wrong = found[0].left, wrong_copies(found)
    if not names_nodes(cluster, (first, *wrong)):
        if truth is not None:
            raise BadInput(
                f"the copies of {cluster.name} are no nodes: none of them can be the truth",
                hint="leave --truth out: its own repair lets the newest write win",
            )
        return (first, *wrong), f"have {cluster.name} make its copies equal by its own repair"
    if truth is not None and truth != first:
        # Whoever is not known to be like the truth is made like it.
        wrong = tuple(name for name in (first, *(c.right for c in found)) if name != truth)
        first = truth
    return (first, *wrong), f"make {', '.join(wrong)} like {first}"


@contextmanager
def _locked(haops: Lifecycle, target: Cluster, sure: _Sure) -> Iterator[None]:
    """Nobody else works on a cluster that is written; a dry run writes nothing."""
    if sure.dry_run:
        yield
        return
    with haops.state.lock(target.name, "repair"):
        yield


@contextmanager
def _read() -> Iterator[None]:
    """A cluster that cannot be reached is not a difference: another exit code."""
    from haops.compare.rounds import unreadable

    try:
        yield
    except HaopsError as error:
        if not unreadable(error):
            raise
        raise CannotCompare(error.message, node=error.node, detail=error.detail, hint=error.hint) from error


def _opened(
    haops: Lifecycle, comparing: Comparing, pair: tuple[Named, Named], only: str | None
) -> AbstractContextManager[tuple[Side, Side]]:
    from haops.compare.sides import opened

    return opened(haops, comparing, pair, only)


def compare_copies(
    haops: Lifecycle, comparing: Comparing, cluster: Cluster, manner: Manner
) -> tuple[Comparison, ...]:
    """Each copy of a cluster with the first.

    Raises:
        BadInput: There is one copy only.
        CannotCompare: They cannot be read.
    """
    from haops.compare.rounds import compare_all

    with _read(), comparing.replicas(cluster, haops.runtime) as sides:
        if len(sides) < 2:
            raise BadInput(
                f"{cluster.name} has one copy only", hint="compare it with another cluster or a backup"
            )
        return compare_all(sides, manner)


def _copies_of(haops: Lifecycle, name: str) -> tuple[Comparing, Cluster]:
    from haops.stores import load_comparing

    cluster = haops.state.get(name)
    return load_comparing(cluster.store), cluster


def _pair(
    haops: Lifecycle, left: str, right: str | None, shelf: Shelf
) -> tuple[Comparing, tuple[Named, Named]]:
    from haops.compare.sides import check_same_store, find

    assert right is not None
    with _read():
        pair = (find(haops, left, shelf), find(haops, right, shelf))
    return check_same_store(*pair), pair


def _check_words(right: str | None, replicas: bool, only: str | None) -> None:
    if only == "":
        raise BadInput(
            "--only is empty", hint="name a prefix, a table or a path; leave --only out for everything"
        )
    if replicas and right is not None:
        raise BadInput("--replicas compares the copies of one cluster, and two are named")
    if not replicas and right is None:
        raise BadInput("say what to compare with", hint="another cluster, backup:latest, or --replicas")
    if replicas and only is not None:
        raise BadInput("--only is for two sides; copies are compared as a whole")


def _check_found(found: Comparison, only: str | None, comparing: Comparing) -> None:
    """A part that neither side has is a slip of the pen, and no proof that they are equal."""
    if only is None or found.trouble or found.records_left or found.records_right:
        return
    raise BadInput(
        f"neither {found.left} nor {found.right} has {comparing.picks} {only}",
        hint="--only is taken as it stands: no pattern, no glob",
    )


def _truth(word: str | None) -> Truth:
    from haops.compare.repair import Truth

    sides = {"a": Truth.LEFT, "b": Truth.RIGHT}
    if word is None or word.lower() not in sides:
        raise BadInput(
            "say which side is right" if word is None else f"--truth {word!r} is neither A nor B",
            hint="--truth A: B is made like A; --truth B: A is made like B",
        )
    return sides[word.lower()]


def _shelf(repo: str | None, identity: Sequence[Path] | None) -> Shelf:
    from haops.compare.sides import Shelf

    return Shelf(repo, tuple(identity or ()))


def _manner(rounds: int, pause: str, limit: int) -> Manner:
    from haops.compare.rounds import Manner

    return Manner(limit, rounds, parse_duration(pause).total_seconds(), hear=_say)


def _say(words: str) -> None:
    if sys.stderr.isatty():
        shapes.err().print(words, markup=False)

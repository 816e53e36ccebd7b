"""Restoring: a backup into a cluster, and a node that lost its disk from its sisters."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from haops.cli import output as shapes
from haops.cli.context import cluster_names, lifecycle, operations
from haops.cli.output import Output, OutputOption
from haops.errors import EXIT_FAILED, EXIT_UNKNOWN, BadInput, HaopsError, Interrupted

if TYPE_CHECKING:
    from haops.backup.restore import Outlook, Restored, RestoreOrder
    from haops.cluster.spec import Cluster
    from haops.compare.rounds import Comparison
    from haops.control.execute import Operations
    from haops.control.lifecycle import Lifecycle
    from haops.stores.backup import Archive
    from haops.stores.plan import Intent


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(
        "restore",
        epilog="Examples: haops restore latest --to redis --dry-run | haops restore redis:latest --to other --wipe "
        "--yes | haops restore ID --to redis --only user: --merge | haops restore ID --to redis --resume",
    )(restore)
    app.command(
        "recover",
        epilog="Examples: haops recover redis redis-2 --dry-run | haops recover redis redis-2 --yes",
    )(recover)


def restore(
    backup: Annotated[
        str, typer.Argument(help="A backup's id, the beginning of one, `latest`, or `CLUSTER:latest`.")
    ],
    to: Annotated[str, typer.Option(help="The cluster to restore into.", autocompletion=cluster_names)],
    repo: Annotated[
        str | None,
        typer.Option(help="A folder, s3://, gs:// or az:// URL. Default: $HAOPS_REPO, else the state's own."),
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Only a key prefix, KEYSPACE or KEYSPACE.TABLE, or /PATH.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="The moment to restore to, such as 2026-01-31T12:00:00Z (with --pitr).")
    ] = None,
    wipe: Annotated[bool, typer.Option("--wipe", help="Remove what is in the way first.")] = False,
    merge: Annotated[
        bool, typer.Option("--merge", help="Write beside and over what is there; remove nothing.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a restore that was cut off.")] = False,
    identity: Annotated[
        list[Path] | None,
        typer.Option(help="File with an age identity; repeatable. Also $HAOPS_AGE_IDENTITY."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what is in the way and what would be done.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the journal.")] = "asked for at the prompt",
    output: OutputOption = Output.TABLE,
) -> None:
    """Restore a backup into a running cluster, of the same or of another topology.

    Nothing is removed unless --wipe says so. A restore that was cut off goes on with --resume.
    """
    from haops.backup.archive import open_archive
    from haops.backup.keys import read_identities
    from haops.backup.repository import default_repository, open_repository
    from haops.backup.restore import RestoreOrder, check_fits
    from haops.backup.restore import restore as carry_out
    from haops.stores.backup import RestoreWish

    if only == "":
        raise BadInput(
            "--only is empty", hint="name a prefix, a table or a path; leave --only out for everything"
        )
    if wipe and merge:
        raise BadInput("--wipe removes what is there, --merge keeps it", hint="give one of them")
    haops = lifecycle()
    cluster = haops.state.get(to)
    where = repo or default_repository(haops.state.root)
    repository = open_repository(where)
    archive = open_archive(repository, backup, read_identities(identity or ()))
    check_fits(cluster, archive)
    wish = RestoreWish(only=only, at=_moment(at), merge=merge)
    order = RestoreOrder(wish, where, wipe=wipe, resume=resume, reason=reason)
    if dry_run or (wipe and not yes):
        _look(cluster, archive, order, dry_run, output)
        if dry_run:
            return
    from haops.cli.transfer import StageDisplay

    with StageDisplay(shapes.err()) as display, _interruptible(haops, cluster):
        done = carry_out(haops, cluster, archive, replace(order, report=display))
    _print_restored(done, output)


@contextmanager
def _interruptible(haops: Lifecycle, cluster: Cluster) -> Iterator[None]:
    """Ctrl-C with what goes on with the restore, if it has changed anything. Raises Interrupted."""
    from haops.control.half_restored import RestoreFile

    try:
        yield
    except KeyboardInterrupt as stop:
        half = RestoreFile(haops.state.cluster_dir(cluster.name)).read()
        way = f"go on with: {half.command(cluster.name)}" if half else "nothing is left half restored"
        error = Interrupted(f"interrupted; {way}")
        for note in getattr(stop, "__notes__", ()):
            error.add_note(note)
        raise error from stop


def _moment(text: str | None) -> datetime | None:
    """A moment with its zone; without one it is UTC.

    Raises:
        BadInput: The text is no moment.
    """
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadInput(f"{text!r} is not a moment", hint="write for instance 2026-01-31T12:00:00Z") from None


def _look(cluster: Cluster, archive: Archive, order: RestoreOrder, dry_run: bool, output: Output) -> None:
    """Show what would be done; and ask, unless that was all. Ends with the code of what would refuse it."""
    from haops.backup.restore import look, refusal

    if not dry_run and not sys.stdin.isatty():
        raise BadInput(
            "--wipe removes data for good and there is no terminal to ask at",
            hint="say --yes, or look first with --dry-run",
        )
    haops = lifecycle()
    outlook = look(haops, cluster, archive, order.wish)
    refused = refusal(haops, cluster, archive, order, outlook)
    if dry_run and output in (Output.JSON, Output.YAML):
        shapes.emit(
            {
                "version": shapes.FORMAT,
                "backup": archive.id,
                "cluster": cluster.name,
                "in_the_way": list(outlook.in_the_way),
                "stages": [asdict(stage) for stage in outlook.stages],
                "refused": refused.message if refused else None,
            },
            output,
        )
    else:
        _print_outlook(cluster, archive, order, outlook, refused)
    if refused:
        raise typer.Exit(refused.exit_code)
    if not dry_run and not typer.confirm("Remove what is in the way, and restore?", err=True):
        raise typer.Exit(1)


def _print_outlook(
    cluster: Cluster, archive: Archive, order: RestoreOrder, outlook: Outlook, refused: HaopsError | None
) -> None:
    from haops.backup.restore import NotEmpty
    from haops.control.half_restored import wish_options

    options = shlex.join(wish_options(order.wish))
    lines = [f"restore of {archive.id} to {cluster.name} {options}".rstrip()]
    for number, stage in enumerate(outlook.stages, start=1):
        lines.append(f"  {number}. {stage.text} ({stage.total:,} {stage.unit})")
    lines += [f"in the way: {words}" for words in outlook.in_the_way]
    if not outlook.in_the_way:
        lines.append("nothing is in the way")
    elif order.wipe and not refused:
        lines.append("what is in the way is removed: --wipe")
    if isinstance(refused, NotEmpty):
        lines.append("refused as it stands: say --wipe or --merge")
    elif refused:
        lines.append(f"refused as it stands: {refused.message}; {refused.hint}")
    for line in lines:
        shapes.out().print(line, markup=False, soft_wrap=True)


def _print_restored(done: Restored, output: Output) -> None:
    if output in (Output.JSON, Output.YAML):
        stages = [
            {"name": s.stage.name, "done": s.done, "unit": s.stage.unit, "seconds": round(s.took_s, 3)}
            for s in done.stages
        ]
        document = {
            "version": shapes.FORMAT,
            "backup": done.backup,
            "cluster": done.cluster,
            "stages": stages,
            "healthy_seconds": round(done.healthy_s, 3),
            "seconds": round(done.took_s, 3),
        }
        shapes.emit(document, output)
        return
    if output is Output.NAME:
        typer.echo(done.cluster)
        return
    table = shapes.table("STAGE", "DONE", "TOOK", "RATE")
    for s in done.stages:
        rate = f"{s.done / s.took_s:,.0f} {s.stage.unit}/s" if s.took_s else "-"
        table.add_row(shapes.plain(s.stage.text), f"{s.done:,} {s.stage.unit}", f"{s.took_s:.1f} s", rate)
    shapes.out().print(table)
    shapes.out().print(
        f"{done.cluster}: {done.backup} restored in {done.took_s:.1f} s, "
        f"healthy {done.healthy_s:.1f} s after the last stage",
        markup=False,
        soft_wrap=True,
    )


def recover(
    name: Annotated[str, typer.Argument(help="The cluster.", autocompletion=cluster_names)],
    node: Annotated[str, typer.Argument(help="The node that lost its disk.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print steps and risks; change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the journal.")] = "its disk is lost",
    output: OutputOption = Output.TABLE,
) -> None:
    """Build a node anew that lost its disk, from its sisters' copies, and compare it with them.

    Ends with 0 if all copies are equal, 1 if they differ, 4 if that could not be told.
    """
    from haops.cli.operate import confirm, print_plan
    from haops.stores.plan import Intent, Operation

    haops = operations()
    cluster = haops.lifecycle.state.get(name)
    cluster.node(node)
    intent = Intent(Operation.REPLACE, node=node)
    plan = haops.plan(cluster, intent)
    if dry_run:
        print_plan(plan, output, "recover")
        return
    if not yes:
        confirm(plan, "recover")
    took_ms = _rebuild(haops, name, intent, f"recover: {reason}")
    found = _compared(haops, name)
    _print_recovered(name, node, took_ms, found, output)


def _rebuild(haops: Operations, name: str, intent: Intent, reason: str) -> float:
    """Carry it out, while what the node says of itself is shown."""
    from haops.cli.node_watch import NodeWatch
    from haops.control.execute import Order, StepProgress, operator

    console = shapes.err()

    def say(progress: StepProgress) -> None:
        if progress.outcome is not None:
            line = f"  {progress.took_ms or 0:8.1f} ms  {progress.step.text}: {progress.outcome}"
            console.print(line, markup=False, soft_wrap=True)

    with NodeWatch(haops.lifecycle, name, intent.node or "", console):
        order = Order(operator(), reason, report=say)
        return haops.carry_out(haops.lifecycle.state.get(name), intent, order).took_ms


def _compared(haops: Operations, name: str) -> tuple[Comparison, ...]:
    from haops.cli.compare import compare_copies
    from haops.compare.rounds import Manner
    from haops.stores import load_comparing

    cluster = haops.lifecycle.state.get(name)
    hear = shapes.err()
    manner = Manner(hear=lambda words: hear.print(f"{name}: {words}", markup=False))
    return compare_copies(haops.lifecycle, load_comparing(cluster.store), cluster, manner)


def _print_recovered(
    name: str, node: str, took_ms: float, found: tuple[Comparison, ...], output: Output
) -> None:
    from haops.compare.rounds import Verdict

    verdicts = [c.verdict for c in found]
    if output in (Output.JSON, Output.YAML):
        rows = [
            {
                "left": c.left,
                "right": c.right,
                "verdict": c.verdict.value,
                "records": max(c.records_left, c.records_right),
                "differences": len(c.differences) + c.unlisted,
            }
            for c in found
        ]
        document = {
            "version": shapes.FORMAT, "cluster": name, "node": node, "took_ms": round(took_ms, 1),
            "comparisons": rows,
        }  # fmt: skip
        shapes.emit(document, output)
    else:
        shapes.out().print(f"{name}: {node} built anew in {took_ms / 1000:.1f} s", markup=False)
        for c in found:
            records = max(c.records_left, c.records_right)
            words = f"{c.left} and {c.right}: {c.verdict}, {records:,} records, {c.moved:,} bytes moved"
            shapes.out().print(words, markup=False, soft_wrap=True)
    if Verdict.DIFFERENT in verdicts:
        raise typer.Exit(EXIT_FAILED)
    if Verdict.UNKNOWN in verdicts:
        raise typer.Exit(EXIT_UNKNOWN)

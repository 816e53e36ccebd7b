"""Planned work on standing clusters: switchover, failover, restart, journal, and the verbs on one node."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from haops.cli import output as shapes
from haops.cli.context import cluster_names, operations
from haops.cli.output import Output, OutputOption
from haops.errors import EXIT_UNHEALTHY, BadInput

if TYPE_CHECKING:
    from haops.control.execute import Operations, StepProgress
    from haops.control.journal import Record
    from haops.stores.plan import Intent, Plan

NameArgument = Annotated[str, typer.Argument(help="The cluster's name.", autocompletion=cluster_names)]
NodeArgument = Annotated[str, typer.Argument(help="The node's name, as `haops status` shows it.")]
ToOption = Annotated[str | None, typer.Option("--to", help="The node to promote; default: the fittest.")]
ZoneOption = Annotated[str | None, typer.Option(help="Promote only nodes of this zone.")]
MaxLagOption = Annotated[
    str, typer.Option(help="How far behind a candidate may be, such as 512KB or 1MB; 0 is not at all.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print steps, candidates and risks; change nothing.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for the journal.")]
BeforeOption = Annotated[
    str | None,
    typer.Option(
        help="A command that may veto by another exit code than 0; HAOPS_* tells it what is planned."
    ),
]
AfterOption = Annotated[
    str | None, typer.Option(help="A command to run at the end, told of the outcome by HAOPS_OUTCOME.")
]

node_app = typer.Typer(help="Work on one node of a cluster.", no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(
        "switchover",
        epilog="Examples: haops switchover redis --dry-run | haops switchover redis --to redis-2 --yes",
    )(switchover)
    app.command("failover", epilog="Examples: haops failover redis --dry-run | haops failover redis --yes")(
        failover
    )
    app.command(
        "restart", epilog="Examples: haops restart cassandra --yes | haops restart redis --node redis-2 --yes"
    )(restart)
    app.command("journal", epilog="Examples: haops journal redis | haops journal redis -o json")(journal)
    app.add_typer(node_app, name="node")


def switchover(
    name: NameArgument,
    to: ToOption = None,
    zone: ZoneOption = None,
    max_lag: MaxLagOption = "1MB",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    reason: ReasonOption = "asked for at the prompt",
    before: BeforeOption = None,
    after: AfterOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Move the primary's or leader's role to another node, planned: nothing acknowledged is lost.

    Anything unexpected on the way puts the old primary back in service.
    """
    work("switchover", name, to, zone, max_lag, dry_run, yes, reason, before, after, output)


def failover(
    name: NameArgument,
    to: ToOption = None,
    zone: ZoneOption = None,
    max_lag: MaxLagOption = "1MB",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    reason: ReasonOption = "the primary is presumed dead",
    before: BeforeOption = None,
    after: AfterOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Promote a replica because the primary is dead; what had not reached a replica is lost."""
    work("failover", name, to, zone, max_lag, dry_run, yes, reason, before, after, output)


def restart(
    name: NameArgument,
    node: Annotated[str | None, typer.Option(help="Restart only this node.")] = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    reason: ReasonOption = "asked for at the prompt",
    before: BeforeOption = None,
    after: AfterOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Restart a cluster's nodes one after the other while it keeps serving; the primary or leader last."""
    work("restart", name, node, None, "1MB", dry_run, yes, reason, before, after, output)


def _node_command(verb: str, words: str, example: str) -> None:
    def command(
        name: NameArgument,
        node: NodeArgument,
        dry_run: DryRunOption = False,
        yes: YesOption = False,
        reason: ReasonOption = "asked for at the prompt",
        before: BeforeOption = None,
        after: AfterOption = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        work(verb, name, node, None, "1MB", dry_run, yes, reason, before, after, output)

    command.__doc__ = words
    node_app.command(verb, epilog=f"Example: haops node {verb} {example}")(command)


_node_command(
    "drain",
    "Take a node out of service without a failed request: no new clients, then nothing in memory only.",
    "cassandra cassandra-2 --yes",
)
_node_command("resume", "Put a drained node back into service.", "cassandra cassandra-2 --yes")
_node_command(
    "replace",
    "Build a dead node anew, with an empty disk, from its sisters' copies.",
    "cassandra cassandra-2 --yes",
)
_node_command("repair", "Make a node's copies equal to its sisters' copies.", "cassandra cassandra-2 --yes")
_node_command(
    "decommission",
    "Move a node's data to the others and take it out for good.",
    "cassandra cassandra-4 --yes",
)


def work(
    operation: str,
    name: str,
    node: str | None,
    zone: str | None,
    max_lag: str,
    dry_run: bool,
    yes: bool,
    reason: str,
    before: str | None,
    after: str | None,
    output: Output,
) -> None:
    """Plan an operation, ask, and do it."""
    from haops.stores.plan import Intent, Operation

    haops = operations()
    cluster = haops.lifecycle.state.get(name)
    if node is not None:
        cluster.node(node)  # an unknown name is told before anything is asked of the servers
    intent = Intent(Operation(operation), node=node, zone=zone, max_lag=parse_size(max_lag))
    plan = haops.plan(cluster, intent)
    if dry_run:
        print_plan(plan, output)
        return
    if not yes:
        confirm(plan)
    _carry_out(haops, name, intent, reason, (before, after), output)


def _carry_out(
    haops: Operations,
    name: str,
    intent: Intent,
    reason: str,
    around: tuple[str | None, str | None],
    output: Output,
) -> None:
    from haops.control.execute import Order, operator

    before, after = around
    order = Order(operator(), reason, before, after, _say)
    try:
        done = haops.carry_out(haops.lifecycle.state.get(name), intent, order)
    finally:
        _flush()
    for warning in done.warnings:
        shapes.err().print(f"[yellow]warning:[/] {shapes.plain(warning)}")
    if output in (Output.JSON, Output.YAML):
        shapes.emit(
            {
                "version": shapes.FORMAT,
                "id": done.id,
                "took_ms": round(done.took_ms, 1),
                **_plan_fields(done.plan),
            },
            output,
        )
        return
    way = f"{done.plan.source} → {done.plan.target}" if done.plan.target else (done.plan.source or name)
    shapes.out().print(f"{name}: {intent.operation} {way} done in {done.took_ms:.0f} ms", markup=False)


def _say(progress: StepProgress) -> None:
    """A line for each finished step; those between pause and release must not wait for a terminal."""
    if progress.outcome is not None:
        _lines.append(progress)
        if progress.step.verb not in _QUICK:
            _flush()


# Printing to a slow terminal takes milliseconds, which clients would wait: what happens while
# writes are paused is shown afterwards.
_QUICK = frozenset({"pause", "catch-up", "promote", "advertise", "fence", "freeze", "hand-over"})
_lines: list[StepProgress] = []


def _flush() -> None:
    console = shapes.err()
    for line in _lines:
        console.print(
            f"  {line.took_ms or 0:8.1f} ms  {line.step.text}: {line.outcome}", markup=False, soft_wrap=True
        )
    _lines.clear()


def confirm(plan: Plan, command: str = "") -> None:
    """Ask at the terminal, with the plan in view. Raises BadInput where there is none.

    Args:
        command: What people called, where that has another name than the operation.
    """
    if not sys.stdin.isatty():
        raise BadInput(
            f"{command or plan.operation} changes a standing cluster and there is no terminal to ask at",
            hint="say --yes, or look first with --dry-run",
        )
    print_plan(plan, Output.TABLE, command)
    if not typer.confirm("Go on?", err=True):
        raise typer.Exit(1)


def print_plan(plan: Plan, output: Output, command: str = "") -> None:
    """Print what would be done, under the name that people called it by."""
    if output in (Output.JSON, Output.YAML):
        shapes.emit({"version": shapes.FORMAT, **_plan_fields(plan)}, output)
        return
    console = shapes.out()
    way = f"{plan.source or '-'} → {plan.target or '-'}"
    console.print(f"{command or plan.operation} of {plan.cluster}: {way}", markup=False)
    for number, step in enumerate(plan.steps, start=1):
        console.print(f"  {number}. {step.text}", markup=False)
    if plan.candidates:
        console.print("candidates:")
    for candidate in plan.candidates:
        word = f"no: {candidate.rejected}" if candidate.rejected else "yes"
        chosen = " (chosen)" if candidate.node == plan.target else ""
        console.print(f"  {candidate.node}  {shapes.lag_words(candidate.lag)}  {word}{chosen}", markup=False)
    console.print(f"risk: {plan.risk}", markup=False)


def _plan_fields(plan: Plan) -> dict[str, Any]:
    return {
        "cluster": plan.cluster,
        "operation": plan.operation.value,
        "source": plan.source,
        "target": plan.target,
        "risk": plan.risk,
        "steps": [{"verb": s.verb, "node": s.node, "text": s.text} for s in plan.steps],
        "candidates": [{"node": c.node, "rejected": c.rejected} for c in plan.candidates],
    }


def journal(
    name: NameArgument,
    steps: Annotated[bool, typer.Option("--steps", help="Show each operation's steps.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """List what was done to a cluster: by whom, why, when, how it ended.

    Ends with exit code 5 where an operation was cut off and is not mended yet.
    """
    haops = operations()
    cluster = haops.lifecycle.state.get(name)
    records = haops.journal(cluster).read(busy=haops.lifecycle.state.locked(name))
    if output in (Output.JSON, Output.YAML):
        shapes.emit({"version": shapes.FORMAT, "operations": [_record_fields(r) for r in records]}, output)
    elif output is Output.NAME:
        for record in records:
            typer.echo(record.id)
    elif records:
        _journal_table(records, steps or output is Output.WIDE)
    else:
        shapes.err().print(f"nothing was done to {name} yet")
    if any(r.outcome == "cut off" for r in records):
        shapes.err().print(f"an operation was cut off; finish it or have it put back: haops heal {name}")
        raise typer.Exit(EXIT_UNHEALTHY)


def _journal_table(records: Sequence[Record], with_steps: bool) -> None:
    table = shapes.table("AT", "OPERATION", "WAY", "ACTOR", "OUTCOME", "NOTE")
    for record in records:
        plan = record.plan
        way = f"{plan.source or '-'} → {plan.target}" if plan.target else plan.source or "-"
        table.add_row(
            record.at,
            plan.operation.value,
            shapes.plain(way),
            shapes.plain(record.actor),
            shapes.styled(record.outcome.value),
            shapes.plain(record.note or record.reason),
        )
        for step in record.steps if with_steps else ():
            took = f"{step.took_ms:.1f} ms" if step.took_ms is not None else "no end"
            table.add_row("", "", "", "", took, shapes.plain(f"{step.step.text}: {step.outcome or '?'}"))
    shapes.out().print(table)


def _record_fields(record: Record) -> dict[str, Any]:
    return {
        "id": record.id,
        "at": record.at,
        "ended": record.ended,
        "actor": record.actor,
        "reason": record.reason,
        "outcome": record.outcome.value,
        "note": record.note,
        "done": [
            {"at": s.at, "verb": s.step.verb, "node": s.step.node, "took_ms": s.took_ms, "outcome": s.outcome}
            for s in record.steps
        ],
        **_plan_fields(record.plan),
    }


_DIGITS = 18  # an exabyte is more than any server keeps
_UNITS = {"B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}


def parse_size(text: str) -> int:
    """Bytes, such as 0, 4096, 512KB or 1MB (powers of 1024).

    Raises:
        BadInput: The text is no size.
    """
    compact = text.strip().upper().replace(" ", "")
    number = compact.rstrip("KMGB")
    unit = compact[len(number) :] or "B"
    if number.isascii() and number.isdecimal() and len(number) <= _DIGITS and unit in _UNITS:
        return int(number) * _UNITS[unit]
    raise BadInput(f"{text!r} is not a size", hint="write for instance 0, 4096, 512KB or 1MB")

"""`haops health`: every node probed for a while, every detector's opinion, copies compared, a setting advised."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from haops.cli import output as shapes
from haops.cli.context import cluster_names, lifecycle
from haops.cli.output import Output, OutputOption
from haops.errors import EXIT_UNHEALTHY, BadInput
from haops.timing import parse_duration

if TYPE_CHECKING:
    from rich.table import Table

    from haops.cluster.spec import Cluster
    from haops.control.heartbeats import CopiesPulse, NodePulse, Pulse
    from haops.health.advise import Advice

_HOURS = {"minute": 1 / 60, "hour": 1.0, "day": 24.0, "week": 168.0, "month": 720.0}


class _Group(TyperGroup):
    """`haops health NAME` is short for `haops health check NAME`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["check", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    help="Probe every node, say what each detector thinks, compare the copies, advise a setting. "
    "`haops health NAME` is short for `haops health check NAME`.",
    epilog="Examples: haops health redis | haops health redis --for 1h --record traces | "
    "haops health advise traces/redis-1.jsonl.gz --html advice.html",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(
    "check",
    epilog="Examples: haops health redis | haops health redis --for 1h --record traces -o json. "
    "Exit code 5: a detector suspects a node, or copies diverge.",
)
def check(
    name: Annotated[str, typer.Argument(help="The cluster's name.", autocompletion=cluster_names)],
    for_: Annotated[str, typer.Option("--for", help="How long to listen.")] = "10s",
    interval: Annotated[str, typer.Option(help="Time between two probes of a node.")] = "50ms",
    patience: Annotated[str, typer.Option(help="How long a probe waits for its answer.")] = "150ms",
    limit: Annotated[str, typer.Option(help="The fixed time-out's limit.")] = "500ms",
    grace: Annotated[str, typer.Option(help="How long copies may deviate.")] = "2s",
    record: Annotated[
        Path | None, typer.Option(file_okay=False, help="Keep a trace a node in this folder.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Probe every node for a while; say what each detector thinks of it and whether all copies agree."""
    from haops.control.heartbeats import Pace, listen
    from haops.stores import load

    cluster = lifecycle().state.get(name)
    pace = Pace(
        interval_s=_seconds(interval),
        patience_s=_seconds(patience),
        limit_s=_seconds(limit),
        grace_s=_seconds(grace),
    )
    duration = _seconds(for_)
    pulse = listen(cluster, load(cluster.store), duration, pace, record)
    advices = {n.node: _advice(n) for n in pulse.nodes}
    if output in (Output.JSON, Output.YAML):
        document = {
            "cluster": cluster.name, "store": cluster.store.value, "healthy": pulse.healthy, "seconds": duration,
            "interval_ms": pace.interval_s * 1000, "patience_ms": pace.patience_s * 1000,
            "nodes": [_node(n, advices[n.node]) for n in pulse.nodes], "copies": _copies(pulse.copies),
        }  # fmt: skip
        shapes.emit({"version": shapes.FORMAT, "health": document}, output)
    elif output is Output.NAME:
        typer.echo("\n".join(n.node for n in pulse.nodes if n.suspected))
    else:
        _print(cluster, pulse, advices)
    if not pulse.healthy:
        raise typer.Exit(EXIT_UNHEALTHY)


def _seconds(text: str) -> float:
    return parse_duration(text).total_seconds()


def _advice(node: NodePulse) -> Advice | None:
    """What the node's own probes advise; nothing while it is suspected, for its silence is no mistake of theirs."""
    from haops.health.advise import advise

    if node.suspected:
        return None
    try:
        return advise(node.trace)
    except BadInput:  # fewer than two answers
        return None


def _node(node: NodePulse, advice: Advice | None) -> dict[str, Any]:
    return {
        "name": node.node,
        "suspected": node.suspected,
        **_counts(node),
        "round_trip_ms": dict(zip(("p50", "p99", "max"), _trips(node), strict=True)),
        "says": node.says,
        "detectors": [
            {"name": name, "suspects": o.suspects, "level": round(o.level, 3), "why": o.why}
            for name, o in node.opinions.items()
        ],
        "advice": _advice_document(advice),
    }


def _counts(node: NodePulse) -> dict[str, int]:
    from haops.health.beat import Evidence

    return {"probes": len(node.trace), **{e.value: node.count(e) for e in Evidence}}


def _trips(node: NodePulse) -> list[float | None]:
    trips = [node.trip_ms(percent) for percent in (50, 99, 100)]
    return [round(t, 3) if t is not None else None for t in trips]


def _advice_document(advice: Advice | None) -> dict[str, Any] | None:
    if advice is None:
        return None
    chosen = advice.chosen
    return {
        "detector": chosen.detector if chosen else None,
        "setting": chosen.words if chosen else None,
        "detected_ms": round(chosen.silent.median_s * 1000, 1) if chosen else None,
        "proven": advice.proven,
        "words": list(advice.words),
    }


def _copies(copies: CopiesPulse) -> dict[str, Any]:
    return {
        "agree": not copies.opinion.suspects,
        "why": copies.opinion.why,
        "nodes": list(copies.nodes),
        "readings": copies.readings,
        "with_digest": copies.digests,
        "deviating": [
            {"node": d.node, "why": d.why, "lasted_ms": round(d.lasted_ns / 1e6)} for d in copies.deviations
        ],
    }


def _print(cluster: Cluster, pulse: Pulse, advices: dict[str, Advice | None]) -> None:
    table = shapes.table(
        "NODE",
        "PROBES",
        "ANSWERED",
        "REFUSED",
        "SILENT",
        "P50 ms",
        "P99 ms",
        "MAX ms",
        "SUSPECTED BY",
        "ADVICE",
    )
    for node in pulse.nodes:
        trips = [f"{t:.2f}" if t is not None else "-" for t in _trips(node)]
        advice = advices[node.node]
        chosen = advice.chosen if advice else None
        advised = f"{chosen.detector} {chosen.words}" if chosen else "-"
        counts = [f"{count:,}" for count in _counts(node).values()]
        table.add_row(node.node, *counts, *trips, _suspects(node), shapes.plain(advised))
    console = shapes.out()
    console.print(table)
    typer.echo()
    console.print(_opinions(pulse.nodes))
    typer.echo()
    for node in pulse.nodes:
        if node.says:
            typer.echo(f"{node.node} answers, but says: {node.says}")
    typer.echo(f"copies  {_verdict(pulse.copies)}")
    for line in _advised(cluster, list(advices.values())):
        typer.echo(line)


def _suspects(node: NodePulse) -> str:
    by = [name for name, o in node.opinions.items() if o.suspects]
    return f"[bold red]{', '.join(by)}[/]" if by else "[green]none[/]"


def _opinions(nodes: Sequence[NodePulse]) -> Table:
    """What each detector thinks, with its reason."""
    table = shapes.table("NODE", "DETECTOR", "SUSPECTS", "LEVEL", "WHY")
    for node in nodes:
        for number, (name, opinion) in enumerate(node.opinions.items()):
            word = "[bold red]yes[/]" if opinion.suspects else "[green]no[/]"
            shown = node.node if number == 0 else ""
            table.add_row(shown, name, word, f"{opinion.level:.2f}", shapes.plain(opinion.why))
    return table


def _verdict(copies: CopiesPulse) -> str:
    verdict = "DIVERGE" if copies.opinion.suspects else "no lasting deviation"
    if not copies.digests:
        return f"{verdict}: {copies.opinion.why} in position and link; there were no data to compare"
    compared = f"{copies.digests:,} of {copies.readings:,} readings of {len(copies.nodes)} nodes had a digest"
    return f"{verdict}: {copies.opinion.why} ({compared})"


def _advised(cluster: Cluster, advices: Sequence[Advice | None]) -> list[str]:
    """The advice of the node that needs most patience: it suits the others, too."""
    known = [a for a in advices if a is not None and a.chosen is not None]
    slowest = max(known, key=lambda a: a.chosen.silent.median_s if a.chosen else 0.0, default=None)
    if slowest is None:
        return [f"No setting can be advised for {cluster.name}: too few of its probes were answered."]
    return ["", f"Advice, from {slowest.target}, the node that needs most patience:", *slowest.words]


@app.command(
    "advise",
    epilog="Examples: haops health advise traces/*.jsonl.gz | "
    "haops health advise traces/redis-1.jsonl.gz --budget 1/week --html advice.html",
)
def advise_traces(
    traces: Annotated[list[Path], typer.Argument(help="Files that `--record` kept.")],
    html: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help="Draw the page, too; with several traces each adds its name to the file's."
        ),
    ] = None,
    budget: Annotated[str, typer.Option(help="False alarms allowed, such as 1/day or 2/hour.")] = "1/day",
) -> None:
    """Replay recorded heartbeats: detection time against mistakes of every detector, and the one to set."""
    from haops.health.advise import advise
    from haops.health.trace import read_trace
    from haops.report.advise import table

    allowed = parse_budget(budget)
    advices = [advise(read_trace(path), allowed) for path in traces]
    for number, (path, advice) in enumerate(zip(traces, advices, strict=True)):
        if len(traces) > 1:
            typer.echo(f"{'' if number == 0 else chr(10)}{path}: {advice.target}")
        typer.echo(table(advice))
        if html is not None:
            _draw(advice, html if len(traces) == 1 else html.with_stem(f"{html.stem}-{_stem(path)}"))


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".jsonl")


def _draw(advice: Advice, path: Path) -> None:
    from haops.cluster.state import disk_trouble
    from haops.report.advise import render

    try:
        path.write_text(render(advice), encoding="utf-8")
    except OSError as error:
        raise disk_trouble(path, error) from error
    shapes.err().print(f"drew {path}", markup=False)


def parse_budget(text: str) -> float:
    """Mistakes an hour, from `COUNT/UNIT`.

    Raises:
        BadInput: It is not of that shape, or below 0.
    """
    count, _, unit = text.partition("/")
    try:
        hours, number = _HOURS[unit.strip().lower()], float(count)
    except (KeyError, ValueError):
        number = -1.0
        hours = 1.0
    if not 0 <= number < float("inf"):
        raise BadInput(f"{text!r} is not a budget", hint=f"write COUNT/UNIT; units: {', '.join(_HOURS)}")
    return number / hours

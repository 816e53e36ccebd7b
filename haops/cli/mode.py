"""Commands on replication modes: list, show, set."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from haops.cli import output as shapes
from haops.cli.context import cluster_names, lifecycle
from haops.cli.output import Output, OutputOption
from haops.cluster.spec import StoreName, check_store
from haops.errors import EXIT_UNHEALTHY

if TYPE_CHECKING:
    from haops.control.modes import ModeReport

app = typer.Typer(
    help="How writes are replicated: what a writer waits for, what a reader may miss.", no_args_is_help=True
)

NameArgument = Annotated[str, typer.Argument(help="A cluster's name.", autocompletion=cluster_names)]


@app.command("list", epilog="Examples: haops mode list | haops mode list redis -o json")
def list_modes(
    store: Annotated[str | None, typer.Argument(help="Only this store's.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the modes, with what each promises and what it does not."""
    from haops.stores import load

    stores = [check_store(store)] if store else list(StoreName)
    found = [(name, mode) for name in stores for mode in load(name).modes.offered]
    if output is Output.NAME:
        typer.echo("\n".join(mode.name for _, mode in found))
    elif output in (Output.JSON, Output.YAML):
        rows = [{"store": name.value, **asdict(mode)} for name, mode in found]
        shapes.emit({"version": shapes.FORMAT, "modes": rows}, output)
    else:
        table = shapes.table("STORE", "MODE", "REPLICATION", "WRITES", "READS", "PROMISE", "NOT PROMISED")
        for name, mode in found:
            table.add_row(
                name.value,
                mode.name,
                mode.replication.value,
                mode.writer,
                mode.reader,
                mode.promise,
                mode.limits,
            )
        shapes.out().print(table)


@app.command("show", epilog="Example: haops mode show redis")
def show(name: NameArgument, output: OutputOption = Output.TABLE) -> None:
    """Show a cluster's mode, verified by asking its servers; 5 if one is not as the mode needs it."""
    from haops.control.modes import show_mode

    _print(show_mode(lifecycle().state.get(name)), output)


@app.command("set", epilog="Examples: haops mode set redis wait-1 | haops mode set cassandra one")
def set_(
    name: NameArgument,
    mode: Annotated[str, typer.Argument(help="The mode; see: haops mode list.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Change a standing cluster's mode, and verify it by asking its servers."""
    from haops.control.modes import set_mode

    haops = lifecycle()
    _print(set_mode(haops.state, haops.state.get(name), mode), output)


def _print(report: ModeReport, output: Output) -> None:
    if output is Output.NAME:
        typer.echo(report.mode.name)
    elif output in (Output.JSON, Output.YAML):
        document = {
            "version": shapes.FORMAT,
            "cluster": report.cluster,
            "mode": asdict(report.mode),
            "holds": report.holds,
            "changed": list(report.changed),
            "facts": [asdict(fact) for fact in report.facts],
        }
        shapes.emit(document, output)
    else:
        _print_words(report)
    if not report.holds:
        raise typer.Exit(EXIT_UNHEALTHY)


def _print_words(report: ModeReport) -> None:
    console, mode = shapes.out(), report.mode
    console.print(f"{report.cluster}: {mode.name}, {mode.replication.value} replication", markup=False)
    for label, words in (
        ("writes", mode.writer),
        ("reads", mode.reader),
        ("promises", mode.promise),
        ("does not promise", mode.limits),
    ):
        console.print(f"  {label}: {words}", markup=False)
    for change in report.changed:
        shapes.err().print(f"set {change}", markup=False)
    table = shapes.table("NODE", "ASKED FOR", "WANTED", "FOUND", "")
    for fact in report.facts:
        verdict = "[green]ok[/]" if fact.holds else "[red]no[/]"
        table.add_row(fact.node, fact.what, fact.wanted, shapes.plain(fact.found), verdict)
    console.print(table)

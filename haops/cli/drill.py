"""Commands on drills: list, show, run."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from haops.cli import output as shapes
from haops.cli.context import cluster_names, lifecycle
from haops.cli.output import Output, OutputOption
from haops.cluster.spec import StoreName, check_store
from haops.cluster.state import write_atomic
from haops.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_UNKNOWN, BadInput

if TYPE_CHECKING:
    from haops.drills.locks import LockRun
    from haops.drills.result import DrillResult, DrillVerdict

app = typer.Typer(help="Break a cluster on purpose and measure what it costs.", no_args_is_help=True)


def _complete_playbook(incomplete: str) -> list[str]:
    from haops.drills.playbook import names

    return [name for name in names() if name.startswith(incomplete)]


PlaybookArgument = Annotated[
    str, typer.Argument(help="A playbook's name, or a path to one.", autocompletion=_complete_playbook)
]


@app.command("list", epilog="Example: haops drill list -o json")
def list_playbooks(output: OutputOption = Output.TABLE) -> None:
    """List the playbooks that come with haops."""
    from haops.drills.playbook import find, names

    found = [find(name) for name in names()]
    if output is Output.NAME:
        typer.echo("\n".join(name for name, _ in found))
    elif output in (Output.JSON, Output.YAML):
        rows = [{"name": n, "title": p.title, "stores": [s.value for s in p.stores]} for n, p in found]
        shapes.emit({"version": shapes.FORMAT, "playbooks": rows}, output)
    else:
        table = shapes.table("NAME", "STORES", "TITLE")
        for name, playbook in found:
            table.add_row(name, ", ".join(playbook.stores), playbook.title)
        shapes.out().print(table)


@app.command("show", epilog="Example: haops drill show kill-primary > my.yaml")
def show(name: PlaybookArgument) -> None:
    """Print a playbook's YAML; a changed copy can be run by its path."""
    from haops.drills.playbook import source

    typer.echo(source(name).rstrip())


@app.command(
    "run",
    epilog="Examples: haops drill run kill-primary | "
    "haops drill run kill-primary --store redis --trials 5 --rate 2000 -o json | "
    "haops drill run restore-after-disaster",
)
def run(
    name: PlaybookArgument,
    store: Annotated[
        list[str] | None, typer.Option(help="Only this store; repeatable. Default: all of the playbook.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="The cluster to break, for one store. Default: STORE; of a disaster disaster-STORE."
        ),
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="Break PREFIX-STORE, as made by `haops up all --name PREFIX`.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, max=100, help="How often, instead of the playbook's.")
    ] = None,
    rate: Annotated[int | None, typer.Option(min=1, max=100_000, help="Operations a second.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of all random choices, to repeat a run.")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Destroy a standing cluster that was named; only disasters ask.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Run a drill: load, a fault, recovery, and a look for every acknowledged write.

    A cluster that is not there is made for the run and removed after it. A disaster
    destroys its cluster, so it takes a standing one only if that was named. Ends with
    0 pass, 1 fail, 4 unknown, 130 interrupted. The report is an HTML file.
    """
    from haops.drills.playbook import DisasterBook, find
    from haops.drills.runner import DrillOrder, new_run, run_drill, run_folder

    key, playbook = find(name)
    stores = _stores(store, list(playbook.stores))
    haops = lifecycle()
    if isinstance(playbook, DisasterBook):
        from haops.cli.disaster import DisasterWish, run_disaster

        _check_cluster(cluster, prefix, len(stores))
        wish = DisasterWish(key, playbook, tuple(stores), cluster, prefix, trials, rate, seed, yes, output)
        ended = run_disaster(haops, wish)
        raise typer.Exit(_exit_code(ended.verdict, interrupted=ended.interrupted))
    haops.runtime.ping()
    run_name = new_run(key, datetime.now(UTC))
    console = shapes.err()
    result = run_drill(
        haops,
        DrillOrder(
            name=key,
            playbook=playbook,
            targets={s: _target(s, cluster, prefix, len(stores)) for s in stores},
            trials=trials or playbook.trials,
            rate=rate,
            seed=seed if seed is not None else random.SystemRandom().randrange(2**31),
            run=run_name,
            folder=(folder := run_folder(haops, run_name)),
        ),
        lambda text: console.print(text, markup=False),
    )
    _keep(result, folder)
    _print_result(result, folder, output)
    raise typer.Exit(_exit_code(result.verdict, interrupted=result.interrupted))


@app.command(
    "lock",
    epilog="Examples: haops drill lock redis --fault partition | haops drill lock zookeeper --fault kill",
)
def lock(
    name: Annotated[str, typer.Argument(help="The cluster.", autocompletion=cluster_names)],
    fault: Annotated[
        str, typer.Option(help="none, kill, pause or partition, of the primary or leader.")
    ] = "partition",
    seed: Annotated[int | None, typer.Option(help="Of all random choices.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let clients compete for one lock, break its store, and count who held it at once.

    Ends with 0 where nobody shared the lock, and with 1 where two clients had it at once.
    """
    from haops.drills.locks import run_locks
    from haops.drills.runner import new_run, run_folder
    from haops.faults.catalogue import FaultKind
    from haops.history.files import save

    if fault not in list(FaultKind):
        raise BadInput(f"unknown fault {fault!r}", hint=f"allowed: {', '.join(FaultKind)}")
    haops = lifecycle()
    cluster = haops.state.get(name)
    run_name = new_run(f"lock-{cluster.store}", datetime.now(UTC))
    console = shapes.err()
    with haops.state.lock(cluster.name, f"drill {run_name}"):
        found = run_locks(
            haops,
            cluster,
            FaultKind(fault),
            run_name,
            seed if seed is not None else random.SystemRandom().randrange(2**31),
            lambda text: console.print(text, markup=False),
        )
    path = run_folder(haops, run_name) / "history.parquet"
    save(found.history, path)
    _print_locks(found, output)
    console.print(f"history: {path}", soft_wrap=True, markup=False)
    raise typer.Exit(EXIT_OK if found.found.kept else EXIT_FAILED)


def _print_locks(run: LockRun, output: Output) -> None:
    found = run.found
    if output in (Output.JSON, Output.YAML):
        document = {
            "version": shapes.FORMAT, "recipe": run.recipe.words, "promise": run.recipe.promise,
            "fault": run.fault.value, "node": run.broken, "acquisitions": found.acquisitions,
            "overlaps": found.overlaps, "tokens": found.tokens, "unknown": run.unknown,
        }  # fmt: skip
        shapes.emit(document, output)
        return
    out = shapes.out()
    out.print(f"recipe: {run.recipe.words}", markup=False)
    out.print(f"promise: {run.recipe.promise}", markup=False)
    out.print(
        f"{found.acquisitions} times taken, {run.unknown} tries of unknown outcome; "
        f"{found.overlaps} times held by two clients at once, {found.tokens} tokens out of order",
        markup=False,
    )
    for overlap in found.overlap_evidence:
        first, second = overlap.first, overlap.second
        together_ms = (overlap.until - second.begin) / 1e6
        out.print(
            f"  client {first.process} had it from {first.node or '?'} when client {second.process} was given it "
            f"by {second.node or '?'}: together for {together_ms:.0f} ms",
            markup=False,
        )


def _stores(wanted: list[str] | None, offered: list[StoreName]) -> list[StoreName]:
    chosen = [check_store(s) for s in wanted or []] or offered
    for store in chosen:
        if store not in offered:
            raise BadInput(f"the playbook has nothing for {store}", hint=f"it has: {', '.join(offered)}")
    return chosen


def _check_cluster(cluster: str | None, prefix: str | None, count: int) -> None:
    if cluster is not None and (count > 1 or prefix is not None):
        raise BadInput("--cluster is for one store", hint="add --store, or use --prefix")


def _target(store: StoreName, cluster: str | None, prefix: str | None, count: int) -> str:
    _check_cluster(cluster, prefix, count)
    return cluster or (f"{prefix}-{store}" if prefix else store.value)


def _keep(result: DrillResult, folder: Path) -> None:
    """The run's files: for programs, for people, for CI."""
    from haops.report import html, jsonio, junit

    write_atomic(folder / "result.json", jsonio.dump(result))
    write_atomic(folder / "report.html", html.render(result))
    write_atomic(folder / "junit.xml", junit.render(result))


def _print_result(result: DrillResult, folder: Path, output: Output) -> None:
    console = shapes.err()
    if output in (Output.JSON, Output.YAML):
        from haops.report import jsonio

        shapes.emit_file(jsonio.dump(result), output)
    elif output is Output.NAME:
        typer.echo(result.run)
    else:
        _print_summary(result)
    for store in result.stores.values():
        for reason in store.reasons:
            console.print(f"{shapes.styled(store.verdict.value)} {store.cluster}: {shapes.plain(reason)}")
    if result.interrupted:
        console.print("interrupted: what was finished is kept; nothing is left broken")
    console.print(f"report: {folder / 'report.html'}", soft_wrap=True, markup=False)


def _print_summary(result: DrillResult) -> None:
    from haops.report.text import summary_rows

    table = shapes.table(
        "STORE", "VERDICT", "WRITE OUTAGE", "READ OUTAGE", "DETECTED", "PROMOTED",
        "ACKED", "LOST", "UNKNOWN", "P99 BEFORE/DURING/AFTER", "HARNESS LAG",
    )  # fmt: skip
    for row in summary_rows(result):
        table.add_row(
            row.store,
            shapes.styled(row.verdict.lower()),
            row.write_outage,
            row.read_outage,
            row.detected,
            row.promoted,
            row.acked,
            row.lost,
            row.unknown,
            row.p99,
            row.harness_lag,
        )
    shapes.out().print(table)


def _exit_code(verdict: DrillVerdict, *, interrupted: bool) -> int:
    from haops.drills.result import DrillVerdict

    if interrupted:
        return EXIT_INTERRUPTED
    codes = {DrillVerdict.PASS: EXIT_OK, DrillVerdict.FAIL: EXIT_FAILED, DrillVerdict.UNKNOWN: EXIT_UNKNOWN}
    return codes[verdict]

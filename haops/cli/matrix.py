"""Commands on the matrix: run (which needs not be said), show, diff, list."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from haops.cli import output as shapes
from haops.cli.context import lifecycle
from haops.cli.matrix_diff import matrix_diff
from haops.cli.output import Output, OutputOption
from haops.cluster.spec import StoreName, check_store
from haops.cluster.state import StateDir, write_atomic
from haops.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_UNKNOWN, BadInput, HaopsError

if TYPE_CHECKING:
    from haops.faults.catalogue import FaultKind
    from haops.matrix.budget import BudgetFile
    from haops.matrix.cells import Matrix
    from haops.matrix.keep import Asked

_NAME = "matrix"
_RESULT = "matrix.json"
_REPORT = "matrix.html"


class _RunUnlessSaid(TyperGroup):
    """`haops matrix redis` is `haops matrix run redis`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `run` before what is neither a command nor a question for help."""
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    help="Replication modes against faults: latency, outage, loss and staleness, side by side. "
    "`haops matrix redis --trials 3` runs it; its options: haops matrix run --help.",
    epilog="Examples: haops matrix | haops matrix redis --trials 3 | haops matrix diff RUN-BEFORE RUN-AFTER",
    cls=_RunUnlessSaid,
)
app.command("diff", epilog="Example: haops matrix diff RUN-BEFORE RUN-AFTER")(matrix_diff)


@app.command(
    "run",
    epilog="Examples: haops matrix redis --trials 3 | haops matrix --faults none,kill | "
    "haops matrix redis --modes async,wait-all --faults partition --budget budget.yaml | "
    "haops matrix --resume RUN",
)
def run(
    stores: Annotated[
        list[str] | None, typer.Argument(help="redis, zookeeper, cassandra. Default: all.")
    ] = None,
    modes: Annotated[
        str | None, typer.Option(help="Such as async,wait-1. Default: each store's main modes.")
    ] = None,
    faults: Annotated[
        str, typer.Option(help="Of none, kill, pause, partition.")
    ] = "none,kill,pause,partition",
    trials: Annotated[int, typer.Option(min=1, max=100, help="Of each cell.")] = 1,
    rate: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Operations a second, instead of each store's own.")
    ] = None,
    budget: Annotated[
        Path | None, typer.Option(help="YAML file of what cells may cost; 1 where one costs more.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of all random choices.")] = None,
    resume: Annotated[str | None, typer.Option(help="Go on with a run that was broken off.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Set each mode up, load it, break it, heal it, and print what it cost.

    Clusters are made for the run and removed after it. Every finished trial is kept: an interrupted
    run is resumed by its name. All cells are visited once before any twice. Ends with 0, 1 over the
    budget, 4 where a cell could not be run, 130 interrupted.
    """
    from haops.matrix.keep import load_asked

    haops = lifecycle()
    if resume is not None:
        asked = load_asked(haops.state.runs / resume)
    else:
        asked = _ask(stores, modes, faults, trials, rate, budget, seed)
    haops.runtime.ping()
    interrupted = _run(haops, asked, haops.state.runs / asked.run, new=resume is None)
    matrix = _finish(asked, haops.state.runs / asked.run, interrupted=interrupted)
    _print(matrix, haops.state.runs / asked.run, output)
    raise typer.Exit(_exit_code(matrix))


def _ask(
    stores: list[str] | None,
    modes: str | None,
    faults: str,
    trials: int,
    rate: int | None,
    budget: Path | None,
    seed: int | None,
) -> Asked:
    from haops.drills.runner import new_run
    from haops.matrix import budget as budgets
    from haops.matrix.keep import Asked
    from haops.matrix.order import choose

    chosen = [check_store(s) for s in dict.fromkeys(stores or [])] or list(StoreName)
    keys = choose(chosen, _words(modes or ""), _faults(faults))
    text = budgets.load(budget) if budget else None
    if text:
        budgets.check_keys(budgets.read(*text), keys, text[1])
    now = datetime.now(UTC)
    return Asked(
        run=new_run(_NAME, now),
        started=now,
        keys=keys,
        trials=trials,
        rate=rate,
        seed=seed if seed is not None else random.SystemRandom().randrange(2**31),
        budget=text,
    )


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _faults(text: str) -> list[FaultKind]:
    from haops.faults.catalogue import FaultKind

    words, allowed = _words(text), f"allowed: {', '.join(FaultKind)}"
    if unknown := [word for word in words if word not in list(FaultKind)]:
        raise BadInput(f"unknown fault {unknown[0]!r}", hint=allowed)
    if not words:
        raise BadInput("no fault is named", hint=allowed)
    return [FaultKind(word) for word in dict.fromkeys(words)]


def _run(haops: Any, asked: Asked, folder: Path, *, new: bool) -> bool:
    """Run what is left; whether it was broken off."""
    from haops.drills.runner import run_folder
    from haops.matrix.keep import save_asked
    from haops.matrix.order import MatrixOrder
    from haops.matrix.run import MatrixRun, cell_playbook

    if new:
        run_folder(haops, asked.run)
        save_asked(folder, asked)
    console = shapes.err()
    order = MatrixOrder(asked.keys, asked.trials, asked.rate, asked.seed, asked.run, folder)
    try:
        MatrixRun(haops, order, cell_playbook(), lambda text: console.print(text, markup=False)).run()
    except KeyboardInterrupt:
        return True
    except HaopsError:
        console.print(
            f"what was finished is kept; go on with it: haops matrix --resume {asked.run}", markup=False
        )
        raise
    return False


def _finish(asked: Asked, folder: Path, *, interrupted: bool) -> Matrix:
    """Assemble and keep what there is."""
    from haops.matrix.assemble import assemble
    from haops.matrix.keep import finished, lines
    from haops.report import matrix, matrix_json

    found = assemble(asked, list(lines(folder)), _budget(asked), finished(folder), interrupted=interrupted)
    write_atomic(folder / _RESULT, matrix_json.dump(found))
    write_atomic(folder / _REPORT, matrix.render(found))
    return found


def _budget(asked: Asked) -> BudgetFile | None:
    from haops.matrix import budget as budgets

    return budgets.read(*asked.budget) if asked.budget else None


@app.command("show", epilog="Example: haops matrix show RUN")
def show(
    run: Annotated[str, typer.Argument(help="A run's name.")], output: OutputOption = Output.TABLE
) -> None:
    """Print a run's table again, finished or not, and make its report anew."""
    from haops.matrix.keep import load_asked

    folder = StateDir().runs / run
    asked = load_asked(folder)
    _print(_finish(asked, folder, interrupted=False), folder, output)


@app.command("list", epilog="Example: haops matrix list")
def list_runs() -> None:
    """List the runs of the matrix, the oldest first."""
    folder = StateDir().runs
    found = sorted(p.parent.name for p in folder.glob("*/order.json")) if folder.is_dir() else []
    typer.echo("\n".join(found)) if found else None
    if not found:
        shapes.err().print("no runs yet; begin one: haops matrix redis")


def _print(matrix: Matrix, folder: Path, output: Output) -> None:
    console = shapes.err()
    if output is Output.NAME:
        typer.echo(matrix.run)
    elif output in (Output.JSON, Output.YAML):
        from haops.report import matrix_json

        shapes.emit_file(matrix_json.dump(matrix), output)
    else:
        from haops.report.matrix_text import COLUMNS, footnotes, rows

        table = shapes.table(*COLUMNS)
        for row in rows(matrix):
            table.add_row(*row)
        shapes.out().print(table)
        for note in footnotes(matrix):
            console.print(note, markup=False)
    for cell in matrix.cells:
        for words in cell.over_budget:
            console.print(f"{shapes.styled('fail')} {cell.key}: {shapes.plain(words)}")
    if matrix.interrupted:
        console.print(f"interrupted; go on with it: haops matrix --resume {matrix.run}", markup=False)
    console.print(f"report: {folder / _REPORT}", soft_wrap=True, markup=False)


def _exit_code(matrix: Matrix) -> int:
    if matrix.interrupted:
        return EXIT_INTERRUPTED
    if any(cell.over_budget for cell in matrix.cells):
        return EXIT_FAILED
    if any(cell.skipped or len(cell.trials) < matrix.asked for cell in matrix.cells):
        return EXIT_UNKNOWN
    return EXIT_OK

"""`haops history`: a kept history shown, exported for other tools, and judged."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from haops.cli import output as shapes
from haops.cli.output import Output, OutputOption
from haops.errors import EXIT_FAILED, EXIT_OK, EXIT_UNKNOWN, BadInput
from haops.timing import parse_duration

if TYPE_CHECKING:
    from haops.checkers.models import Judgement
    from haops.history.formats import Format
    from haops.history.record import History

app = typer.Typer(
    help="Show what clients asked and were told, export it, judge it.",
    epilog="Examples: haops history show RUN | haops history export RUN --format csv --out h.csv.gz | "
    "haops history check history.edn --model register",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Written(StrEnum):
    """What `export` writes."""

    JSONL = "jsonl"
    CSV = "csv"
    EDN = "jepsen-edn"


class Kept(StrEnum):
    """What FILE may be; as `Format`, whose module needs numpy."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    CSV = "csv"
    EDN = "jepsen-edn"
    LOG = "jepsen-log"


class ModelName(StrEnum):
    """What `check` holds a history against; named here, for the checkers need numpy."""

    REGISTER = "register"
    SET = "set"
    COUNTER = "counter"
    LOCK = "lock"


FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="A history's file, or a run's name if it has one history.")
]
KeptOption = Annotated[
    Kept | None, typer.Option("--format", help="How FILE is kept. Default: by its name's ending.")
]


@app.command("show", epilog="Examples: haops history show RUN | haops history show history.parquet -o json")
def show(file: FileArgument, form: KeptOption = None, output: OutputOption = Output.TABLE) -> None:
    """Sum a history up: operations by kind and outcome, its span, who asked whom, what went wrong."""
    path = resolve(file)
    summary = _summary(path, _batches(path, _format(path, form)))
    if output in (Output.JSON, Output.YAML):
        shapes.emit({"version": shapes.FORMAT, "history": summary}, output)
    elif output is Output.NAME:
        typer.echo(path)
    else:
        _print_summary(summary)


def _summary(path: Path, histories: Iterable[History]) -> dict[str, Any]:
    """The documented shape of `history show`."""
    import numpy as np

    from haops.history.rows import KIND_WORDS, OUTCOME_WORDS

    kinds: Counter[tuple[int, int]] = Counter()
    nodes: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    processes: set[int] = set()
    first = last = None
    for part in histories:
        pairs, counts = np.unique(np.stack([part.kind, part.outcome]), axis=1, return_counts=True)
        kinds.update(dict(zip(zip(*pairs.tolist(), strict=True), counts.tolist(), strict=True)))
        for names, column, seen in ((part.nodes, part.node, nodes), (part.errors, part.error, errors)):
            seen.update({name: int(n) for name, n in zip(names, np.bincount(column), strict=False)})
        processes.update(np.unique(part.process).tolist())
        if len(part):
            first = min(int(part.sent.min()), first if first is not None else int(part.sent.min()))
            last = max(int(part.completed.max()), last if last is not None else int(part.completed.max()))
    return {
        "file": str(path),
        "operations": sum(kinds.values()),
        "seconds": (last - first) / 1e9 if first is not None and last is not None else 0.0,
        "first_ns": first,
        "last_ns": last,
        "processes": len(processes),
        "kinds": {
            word: {told: kinds[kind, outcome] for outcome, told in enumerate(OUTCOME_WORDS)}
            for kind, word in enumerate(KIND_WORDS)
            if any(kinds[kind, outcome] for outcome in range(len(OUTCOME_WORDS)))
        },
        "nodes": {name: count for name, count in sorted(nodes.items()) if name and count},
        "errors": {name: count for name, count in errors.most_common() if name and count},
    }


def _print_summary(summary: dict[str, Any]) -> None:
    typer.echo(summary["file"])
    typer.echo(
        f"{summary['operations']:,} operations of {summary['processes']:,} clients in {summary['seconds']:,.3f} s\n"
    )
    table = shapes.table("KIND", "OK", "FAIL", "INFO")
    for kind, counts in summary["kinds"].items():
        table.add_row(kind, *(f"{count:,}" for count in counts.values()))
    console = shapes.out()
    console.print(table)
    for title, counts in (("NODE", summary["nodes"]), ("ERROR", summary["errors"])):
        if counts:
            typer.echo()
            table = shapes.table(title, "OPERATIONS")
            for name, count in counts.items():
                table.add_row(shapes.plain(name), f"{count:,}")
            console.print(table)


@app.command(
    "export",
    epilog="Examples: haops history export RUN --format jepsen-edn > history.edn | "
    "haops history export history.parquet --format csv --out history.csv.gz",
)
def export(
    file: FileArgument,
    form: Annotated[Written, typer.Option("--format", help="What to write.")],
    out: Annotated[
        str, typer.Option(metavar="PATH", help="Where to; - is stdout. A name in .gz is compressed.")
    ] = "-",
    kept: Annotated[
        Kept | None, typer.Option("--from", help="How FILE is kept. Default: by its name's ending.")
    ] = None,
) -> None:
    """Write a history for other tools; one of any length in little memory."""
    from haops.history import formats

    path = resolve(file)
    histories = _batches(path, _format(path, kept))
    wanted = formats.Format(form.value)
    if out != "-":
        formats.write(histories, Path(out), wanted)
        return
    # A name of a node may be anything that UTF-8 can say, whatever the terminal's language.
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", newline="")
    try:
        sys.stdout.writelines(formats.text_lines(histories, wanted))
        sys.stdout.flush()
    except BrokenPipeError:  # as into head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.command(
    "check",
    epilog="Examples: haops history check RUN --model register | "
    "haops history check etcd.log --model register --deadline 10s -o json. "
    "Exit codes: 0 valid, 1 violated, 2 the file cannot be read, 4 unknown.",
)
def check(
    file: FileArgument,
    model: Annotated[ModelName, typer.Option(help="What the store is held to be.")],
    form: KeptOption = None,
    deadline: Annotated[str, typer.Option(help="How long to search before it is unknown.")] = "60s",
    output: OutputOption = Output.TABLE,
) -> None:
    """Judge a history, of haops or of Jepsen, and give evidence."""
    seconds = parse_duration(deadline).total_seconds()
    path = resolve(file)
    from haops.checkers.models import Judged, Model, judge
    from haops.history.formats import read

    judgement = judge(read(path, _format(path, form)), Model(model.value), deadline_s=seconds)
    if output in (Output.JSON, Output.YAML):
        shapes.emit(_judgement(path, model, judgement), output)
    elif output is Output.NAME:
        typer.echo(judgement.verdict.value)
    else:
        _print_judgement(model, judgement)
    codes = {Judged.VALID: EXIT_OK, Judged.VIOLATED: EXIT_FAILED, Judged.UNKNOWN: EXIT_UNKNOWN}
    raise typer.Exit(codes[judgement.verdict])


def _judgement(path: Path, model: ModelName, judgement: Judgement) -> dict[str, Any]:
    """The documented shape of `history check`."""
    return {
        "version": shapes.FORMAT,
        "file": str(path),
        "model": model.value,
        "verdict": judgement.verdict.value,
        "operations": judgement.operations,
        "findings": [
            {"text": f.text, "breach": f.breach, "evidence": list(f.evidence)} for f in judgement.findings
        ],
    }


def _print_judgement(model: ModelName, judgement: Judgement) -> None:
    styles = {"valid": "green", "violated": "bold red", "unknown": "magenta"}
    word = judgement.verdict.value
    shapes.out().print(f"[{styles[word]}]{word}[/] as a {model.value}: {judgement.operations:,} operations")
    for finding in judgement.findings:
        typer.echo(finding.text)
        for record in finding.evidence:
            said = ", ".join(f"{k} {v}" for k, v in record.items() if v not in (None, "", {}))
            typer.echo(f"    {said}")


def resolve(file: str) -> Path:
    """A history's file by its path, or by the name of the run that kept it.

    Raises:
        BadInput: There is no such file or run, or the run has several histories, which are listed.
    """
    path = Path(file)
    if path.is_file():
        return path
    from haops.cluster.state import StateDir

    runs = StateDir().runs
    # A name, not a way out of the folder.
    if len(path.parts) != 1 or path.is_dir() or not (runs / file).is_dir():
        known = ", ".join(sorted(p.name for p in runs.iterdir())[-5:]) if runs.is_dir() else ""
        hint = f"the latest runs: {known}" if known else "no drill has been run yet: haops drill list"
        raise BadInput(f"{file}: there is no such file or run", hint=hint)
    found = sorted((runs / file).rglob("*.parquet"))
    if len(found) != 1:
        hint = "name one: " + ", ".join(map(str, found)) if found else "a run keeps them as *.parquet"
        raise BadInput(f"the run {file} has {len(found) or 'no'} histories", hint=hint)
    return found[0]


def _format(path: Path, form: Kept | None) -> Format:
    from haops.history.formats import Format, guess

    return Format(form.value) if form else guess(path)


def _batches(path: Path, form: Format) -> Iterable[History]:
    """A history in parts, if its format lets it be read so."""
    from haops.history.files import batches, slices
    from haops.history.formats import Format, read

    return batches(path) if form is Format.PARQUET else list(slices(read(path, form)))

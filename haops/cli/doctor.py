"""`haops doctor`: what could go wrong on this machine, and the mend for each."""

from __future__ import annotations

import typer

from haops.cli import output as shapes
from haops.cli.context import lifecycle
from haops.cli.output import Output, OutputOption
from haops.errors import EXIT_ENVIRONMENT


def doctor(output: OutputOption = Output.TABLE) -> None:
    """Check engine, Compose, images, disk, memory, addresses and leftovers; each finding has a mend.

    Ends with exit code 3 if something is missing without which haops cannot work.
    """
    from haops.control.doctor import Level, examine

    findings = examine(lifecycle())
    if output in (Output.JSON, Output.YAML):
        rows = [
            {"check": f.check, "status": f.level.value, "detail": f.detail, "fix": f.fix} for f in findings
        ]
        shapes.emit({"version": shapes.FORMAT, "findings": rows}, output)
    elif output is Output.NAME:
        typer.echo("\n".join(f.check for f in findings if f.level is not Level.OK))
    else:
        table = shapes.table("CHECK", "STATUS", "DETAIL", "MEND")
        for f in findings:
            table.add_row(
                f.check, shapes.styled(f.level.value), shapes.plain(f.detail), shapes.plain(f.fix or "")
            )
        shapes.out().print(table)
    if any(f.level is Level.FAIL for f in findings):
        raise typer.Exit(EXIT_ENVIRONMENT)

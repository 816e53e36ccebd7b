"""Commands on images: list, build, check."""

from __future__ import annotations

from typing import Annotated

import typer

from haops.cli import output as shapes
from haops.cli.output import Output, OutputOption
from haops.errors import EXIT_FAILED

# A build step's whole shell command would bury what is going on.
_LINE = 90

app = typer.Typer(help="The images that clusters run on.", no_args_is_help=True)


@app.command("list", epilog="Example: haops images list -o json")
def list_images(output: OutputOption = Output.TABLE) -> None:
    """List the images that haops builds, and whether each is here and up to date."""
    from haops.runtime.images import image_states

    states = image_states(optional=True)
    if output is Output.NAME:
        typer.echo("\n".join(s.ref for s in states))
    elif output in (Output.JSON, Output.YAML):
        rows = [
            {"name": s.name, "ref": s.ref, "state": s.state, "bytes": s.size_bytes, "optional": s.optional}
            for s in states
        ]
        shapes.emit({"version": shapes.FORMAT, "images": rows}, output)
    else:
        table = shapes.table("NAME", "IMAGE", "STATE", "SIZE")
        for s in states:
            size = f"{s.size_bytes / 1e6:.0f} MB" if s.size_bytes else "-"
            # Nobody misses an image that clusters do without.
            state = "not built" if s.optional and s.state == "missing" else s.state
            purpose = " (for tests only)" if s.optional else ""
            table.add_row(s.name, s.ref, shapes.styled(state) + purpose, size)
        shapes.out().print(table)


@app.command("build", epilog="Examples: haops images build | haops images build redis --force")
def build(
    names: Annotated[
        list[str] | None, typer.Argument(help="Images; without a name, all that clusters need.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Build anew even what is up to date.")] = False,
) -> None:
    """Build what is missing or out of date; needs package registries, no container registry."""
    from haops.runtime.images import BuildProgress, Rebuild, build

    console = shapes.err()

    def show(progress: BuildProgress) -> None:
        text = progress.text if len(progress.text) <= _LINE else progress.text[: _LINE - 1] + "…"
        console.print(f"{progress.image}: {text}", markup=False, soft_wrap=True)

    build(names, rebuild=Rebuild.ALL if force else Rebuild.STALE, on_progress=show)


@app.command("check", epilog="Example: haops images check redis --image redis:8")
def check(
    store: Annotated[str, typer.Argument(help="redis, zookeeper, cassandra, tools, guard or s3.")],
    image: Annotated[str | None, typer.Option(help="Another image to hold against the contract.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Run an image against the contract that clusters rely on, and name what is missing."""
    from haops.runtime.images import check, resolve

    ref = resolve(store, image)
    findings = check(store, ref)
    if output in (Output.JSON, Output.YAML):
        rows = [{"item": f.item, "ok": f.ok, "detail": f.detail} for f in findings]
        shapes.emit({"version": shapes.FORMAT, "image": ref, "findings": rows}, output)
    else:
        table = shapes.table("ITEM", "VERDICT", "DETAIL")
        for f in findings:
            table.add_row(f.item, shapes.styled("ok" if f.ok else "fail"), shapes.plain(f.detail))
        shapes.out().print(table)
    if not all(f.ok for f in findings):
        raise typer.Exit(EXIT_FAILED)

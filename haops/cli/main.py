"""The entry point: commands, and how errors become messages and exit codes."""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Annotated

import typer

from haops import __version__
from haops.cli import (
    backup,
    cluster,
    compare,
    doctor,
    drill,
    guard,
    health,
    history,
    images,
    matrix,
    mode,
    model,
    operate,
    restore,
    watch,
)
from haops.errors import EXIT_BUG, EXIT_INTERRUPTED, HaopsError, Interrupted

# Filled by --debug; an error may come before or after the options are read.
_tracebacks: list[bool] = []

app = typer.Typer(
    name="haops",
    help=(
        "Stand up real Redis, ZooKeeper and Cassandra clusters, watch them, break them on purpose, "
        "and measure the outage and the loss."
    ),
    epilog="Exit codes: 0 ok, 1 a check or drill failed, 2 usage, 3 environment, 4 unknown, 5 unhealthy, "
    "70 bug, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,  # plain help takes half the time: 110 ms, not 190
)
cluster.register(app)
operate.register(app)
guard.register(app)
watch.register(app)
restore.register(app)
compare.register(app)
app.add_typer(health.app, name="health")
app.add_typer(backup.app, name="backup")
app.add_typer(drill.app, name="drill")
app.add_typer(history.app, name="history")
app.add_typer(mode.app, name="mode")
app.add_typer(matrix.app, name="matrix")
app.add_typer(images.app, name="images")
app.command("model", epilog="Example: haops model RUN")(model.model)
app.command("doctor", epilog="Example: haops doctor -o json")(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"haops {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback with an error.", envvar="HAOPS_DEBUG")
    ] = False,
) -> None:
    """Options that stand before any command."""
    if debug:
        _tracebacks.append(True)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    # The same way out as Ctrl-C, so that `finally` blocks undo what a drill has done.
    raise KeyboardInterrupt


@functools.cache  # to build all commands takes 40 ms
def _command() -> Callable[..., object]:
    return typer.main.get_command(app)


def main() -> None:
    """Run the command line and exit with the documented code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup means it
            signal.signal(number, _terminate)
    _tracebacks.clear()
    try:
        _command()(prog_name="haops")
    except HaopsError as error:
        _fail(error, error.exit_code)
    except KeyboardInterrupt:
        _fail(Interrupted("interrupted"), EXIT_INTERRUPTED)
    except Exception as error:  # a bug: say so, do not hide it
        hint = "this is a bug in haops; run again with --debug and report what it shows"
        _fail(HaopsError(f"{type(error).__name__}: {error}", hint=hint), EXIT_BUG)


def _fail(error: HaopsError, code: int) -> None:
    if _tracebacks:
        import traceback

        traceback.print_exc()
    # What went wrong while it was tidied up stands in the notes.
    for words in (error, *getattr(error, "__notes__", ())):
        print(f"haops: {words}", file=sys.stderr)  # noqa: T201
    sys.exit(code)

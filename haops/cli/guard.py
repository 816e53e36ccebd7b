"""`haops guard`: automatic failover in the foreground, or as a container beside the cluster."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from haops.cli import output as shapes
from haops.cli.context import cluster_names, operations
from haops.cli.operate import parse_size
from haops.cli.output import Output, OutputOption
from haops.errors import BadInput
from haops.timing import parse_duration

if TYPE_CHECKING:
    from haops.cluster.spec import Cluster
    from haops.control.execute import Operations
    from haops.control.guard import GuardSettings, Word
    from haops.control.leadership import Leadership
    from haops.control.orders import OrderFile
    from haops.stores.watch import Watch

NameArgument = Annotated[str, typer.Argument(help="The cluster's name.", autocompletion=cluster_names)]

_EPILOG = (
    "Examples: haops guard redis | haops guard redis --lease zookeeper | haops guard redis --detach | "
    "haops guard redis --pause --for 30m | haops guard redis --window 'Sun 02:00-04:00'"
)


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("guard", epilog=_EPILOG)(guard)


def guard(
    name: NameArgument,
    interval: Annotated[str, typer.Option(help="Time between two probes.")] = "20ms",
    patience: Annotated[str, typer.Option(help="How long a probe waits for its answer.")] = "150ms",
    refusals: Annotated[int, typer.Option(min=1, help="Refused probes in a row that make a suspicion.")] = 2,
    silences: Annotated[int, typer.Option(min=1, help="Silent probes in a row that make a suspicion.")] = 2,
    max_lag: Annotated[str, typer.Option(help="How far the promoted copy may be behind.")] = "1MB",
    block: Annotated[str, typer.Option(help="After a failover, no further one for so long.")] = "60s",
    lease: Annotated[
        str | None, typer.Option(help="A ZooKeeper cluster that decides which of several guards may act.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Run as a container of the cluster.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the guard that runs as a container.")] = False,
    pause: Annotated[bool, typer.Option("--pause", help="Tell running guards not to act.")] = False,
    pause_for: Annotated[str | None, typer.Option("--for", help="With --pause: until then.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="End a pause.")] = False,
    window: Annotated[
        list[str] | None,
        typer.Option(help="Maintenance windows (UTC), replacing earlier ones; 'none' clears them."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Watch a cluster's primary and fail over by itself: corroborated, once, with the reason.

    Clients go on asking the Sentinels. When no guard runs, or it has no majority, Sentinel acts alone.
    """
    work = operations()
    cluster = work.lifecycle.state.get(name)
    if pause or resume or window:
        _give_orders(work, cluster, pause, pause_for, resume, window)
        return
    if stop:
        from haops.control.detached import stop_guard

        ended = stop_guard(work.lifecycle, cluster)
        shapes.err().print(f"{name}: {'the guard has ended' if ended else 'no detached guard was there'}")
        return
    settings = _settings(interval, patience, refusals, silences, max_lag, block)
    if detach:
        from haops.control.detached import start_guard

        started = start_guard(
            work.lifecycle,
            cluster,
            _arguments(settings, lease),
            lease,
            say=lambda text: shapes.err().print(text),
        )
        shapes.err().print(f"{started} watches {name}; see: haops status {name}, haops journal {name}")
        return
    _watch(work, cluster, settings, lease, output)


def _settings(
    interval: str, patience: str, refusals: int, silences: int, max_lag: str, block: str
) -> GuardSettings:
    from haops.control.guard import GuardSettings

    return GuardSettings(
        interval_s=parse_duration(interval).total_seconds(),
        patience_s=parse_duration(patience).total_seconds(),
        refusals=refusals,
        silences=silences,
        max_lag=parse_size(max_lag),
        block_s=parse_duration(block).total_seconds(),
    )


def _arguments(settings: GuardSettings, lease: str | None) -> list[str]:
    """The options of a detached guard."""
    given = [
        f"--interval={settings.interval_s * 1000:g}ms",
        f"--patience={settings.patience_s * 1000:g}ms",
        f"--refusals={settings.refusals}",
        f"--silences={settings.silences}",
        f"--max-lag={settings.max_lag}",
        f"--block={settings.block_s * 1000:g}ms",
    ]
    return [*given, *([f"--lease={lease}"] if lease else [])]


def _give_orders(
    work: Operations,
    cluster: Cluster,
    pause: bool,
    pause_for: str | None,
    resume: bool,
    windows: list[str] | None,
) -> None:
    from haops.control.orders import OrderFile

    if pause and resume:
        raise BadInput("--pause and --resume cannot both be meant", hint="say one of them")
    orders = OrderFile(work.lifecycle.state.cluster_dir(cluster.name))
    if pause:
        orders.pause(datetime.now(UTC) + parse_duration(pause_for) if pause_for else None)
    if resume:
        orders.resume()
    if windows:
        _set_windows(orders, windows)
    now = orders.read()
    against = now.against(datetime.now(UTC))
    listed = ", ".join(map(str, now.windows)) or "none"
    state = f"guards of {cluster.name} {'do not act: ' + against if against else 'may act'}"
    shapes.err().print(f"{state}; maintenance windows: {listed}")


def _set_windows(orders: OrderFile, windows: list[str]) -> None:
    from haops.control.orders import parse_window

    orders.windows(() if windows == ["none"] else tuple(parse_window(w) for w in windows))


def _watch(
    work: Operations, cluster: Cluster, settings: GuardSettings, lease: str | None, output: Output
) -> None:
    from haops.control.guard import Guard
    from haops.stores import load
    from haops.stores.plan import NotPlannable

    eyes = load(cluster.store).control.watch
    if eyes is None:
        raise NotPlannable(
            f"{cluster.store} needs no guard: its members fail over by themselves",
            hint=f"to see how it is: haops watch {cluster.name}",
        )
    from haops.control.detached import seen_from_here

    cluster = seen_from_here(cluster)
    with ExitStack() as stack:
        watch: Watch = stack.enter_context(eyes(cluster, work.tools()))
        leadership = _leadership(work, cluster, lease, stack)
        keeper = Guard(
            work, cluster, watch, leadership, settings, lambda word: _say(word, cluster.name, output)
        )
        _until_stopped(keeper.stop)
        keeper.run()


def _until_stopped(stop: Callable[[], None]) -> None:
    """Ctrl-C and SIGTERM end the loop between two looks, never in the middle of a failover."""

    def end(_number: int, _frame: object) -> None:
        stop()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def _leadership(work: Operations, cluster: Cluster, lease: str | None, stack: ExitStack) -> Leadership:
    from haops.control import leadership

    if lease is None:
        return stack.enter_context(leadership.local(work.lifecycle.state, cluster.name))
    from haops.control.detached import seen_from_here

    ensemble = seen_from_here(work.lifecycle.state.get(lease))
    return stack.enter_context(leadership.leased(ensemble, cluster.name))


def _say(word: Word, cluster: str, output: Output) -> None:
    stamp = word.at.isoformat(timespec="milliseconds")
    if output is Output.JSON:
        document = {"at": stamp, "cluster": cluster, "act": word.act.value, "text": word.text}
        if word.took_ms is not None:
            document["took_ms"] = f"{word.took_ms:.1f}"
        typer.echo(json.dumps(document))
    else:
        took = f" ({word.took_ms:.0f} ms)" if word.took_ms is not None else ""
        typer.echo(f"{stamp}  {cluster}  {word.act.value}: {word.text}{took}")

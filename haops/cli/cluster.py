"""Commands on whole clusters: up, ls, status, down, gc, heal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from threading import Event
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from haops.cli import output as shapes
from haops.cli.context import cluster_names, lifecycle, operations
from haops.cli.output import Output, OutputOption
from haops.cluster.snapshot import NodeState, Snapshot, Verdict
from haops.cluster.spec import Cluster, ClusterSpec, StoreName, check_store
from haops.errors import EXIT_UNHEALTHY, BadInput, Busy, HaopsError, StateDamaged
from haops.timing import parse_duration

if TYPE_CHECKING:
    from haops.control.lifecycle import Lifecycle

ALL = "all"
_DEFAULT_WATCH_S = 2.0

Item = TypeVar("Item")
NameArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Clusters' names; all where none is given.", autocompletion=cluster_names),
]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(
        "up",
        epilog="Examples: haops up redis --mode wait-1 | haops up all --name ci --ttl 2h | "
        "haops up cassandra --nodes 5",
    )(up)
    app.command("ls", epilog="Example: haops ls -o name")(ls)
    app.command(
        "status", epilog="Examples: haops status | haops status redis --watch | haops status -o json"
    )(status)
    app.command("down", epilog="Examples: haops down redis | haops down --all --volumes")(down)
    app.command("heal", epilog="Example: haops heal redis")(heal)
    app.command("gc", epilog="Examples: haops gc --dry-run | haops gc")(gc)


def specs_for(
    store: str,
    name: str | None,
    nodes: int,
    image: Sequence[str],
    port: int | None,
    ttl: str | None,
    zones: str | None = None,
    *,
    mode: str | None = None,
    observers: int = 0,
    dcs: int = 1,
) -> list[ClusterSpec]:
    """What `up STORE` asks for; `all` is one cluster of each store."""
    stores = list(StoreName) if store == ALL else [_one_store(store)]
    images = parse_images(image)
    if mode is not None and len(stores) > 1:
        raise BadInput("--mode is for one store at a time", hint="haops up redis --mode wait-1")
    if port is not None and len(stores) > 1:
        raise BadInput("--port is for one store at a time", hint="haops up redis --port 7000")
    return [
        ClusterSpec(
            name=_cluster_name(each, name, several=len(stores) > 1),
            store=each,
            nodes=nodes,
            image=images.get(each),
            port_base=port,
            ttl=parse_duration(ttl) if ttl else None,
            zones=tuple(z.strip() for z in zones.split(",") if z.strip()) if zones else (),
            mode=mode,
            observers=observers,
            dcs=dcs,
        )
        for each in stores
    ]


def _one_store(name: str) -> StoreName:
    try:
        return check_store(name)
    except BadInput as error:
        raise BadInput(error.message, hint=f"allowed: {', '.join(StoreName)}, {ALL}") from None


def _cluster_name(store: StoreName, name: str | None, *, several: bool) -> str:
    if name is None:
        return store.value
    return f"{name}-{store.value}" if several else name


def parse_images(pairs: Sequence[str]) -> dict[StoreName, str]:
    """`--image STORE=REFERENCE` options.

    Raises:
        BadInput: A pair has another form or names an unknown store.
    """
    images = {}
    for pair in pairs:
        store, separator, reference = pair.partition("=")
        if not separator or not reference:
            raise BadInput(
                f"--image {pair!r} is not STORE=REFERENCE", hint="for instance --image redis=redis:8"
            )
        images[check_store(store)] = reference
    return images


def up(
    store: Annotated[str, typer.Argument(help="redis, zookeeper, cassandra, or all.")],
    name: Annotated[
        str | None, typer.Option(help="The cluster's name; with `all` a prefix. Default: the store's name.")
    ] = None,
    nodes: Annotated[
        int, typer.Option(help="Data-bearing servers, 1 to 9. Redis gets three Sentinels on top.")
    ] = 3,
    image: Annotated[
        list[str] | None, typer.Option(help="STORE=REFERENCE: an image instead of the built one; repeatable.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="First host port; free ones are chosen otherwise.")] = None,
    ttl: Annotated[
        str | None, typer.Option(help="Age at which `haops gc` may remove it, such as 2h.")
    ] = None,
    zones: Annotated[
        str | None, typer.Option(help="Zones of the servers in turn, such as a,b,c: for switchover --zone.")
    ] = None,
    mode: Annotated[str | None, typer.Option(help="How writes are replicated; see: haops mode list.")] = None,
    observers: Annotated[int, typer.Option(help="ZooKeeper: servers without a vote, on top of --nodes.")] = 0,
    dcs: Annotated[int, typer.Option(help="Cassandra: data centres that share the nodes, 1 or 2.")] = 1,
    timeout: Annotated[str, typer.Option(help="How long to wait for readiness.")] = "120s",
) -> None:
    """Start a cluster, and return when clients can write and read.

    A second `up` changes nothing; after a crash it finishes the job.
    """
    specs = specs_for(
        store, name, nodes, image or [], port, ttl, zones, mode=mode, observers=observers, dcs=dcs
    )
    deadline_s = parse_duration(timeout).total_seconds()
    console = shapes.err()
    if nodes % 2 == 0 and StoreName.ZOOKEEPER in {s.store for s in specs}:
        few = f"an ensemble of {nodes} survives no more losses than one of {nodes - 1}: use an odd number"
        console.print(f"[yellow]warning:[/] {few}")
    from haops.cli.progress import UpDisplay

    haops = lifecycle()
    started = time.monotonic()
    with UpDisplay(console) as display:
        run_all(lambda spec: haops.up(spec, deadline_s=deadline_s, report=display), specs, haops.cancelled)
    took = time.monotonic() - started
    console.print(f"{', '.join(s.name for s in specs)} ready in {took:.1f} s; see: haops status")


def run_all(act: Callable[[Item], object], items: Sequence[Item], cancelled: Event) -> None:
    """Act on every item at once; all end before the first error is raised.

    Ctrl-C reaches the main thread only: it sets `cancelled`, which the others look at.
    """
    from concurrent.futures import ThreadPoolExecutor, wait

    with ThreadPoolExecutor(max_workers=max(len(items), 1)) as pool:
        futures = [pool.submit(act, item) for item in items]
        try:
            wait(futures)
        except KeyboardInterrupt:
            cancelled.set()
            raise
    errors = [e for f in futures if (e := f.exception())]
    if len(errors) > 1 and all(isinstance(e, HaopsError) for e in errors):
        for error in errors[1:]:
            shapes.err().print(f"haops: {error}", markup=False)
    if errors:
        raise errors[0]


def chosen(haops: Lifecycle, names: Sequence[str] | None) -> list[Cluster]:
    """The named clusters, or every one with a record.

    Raises:
        BadInput: A name is unknown.
        StateDamaged: A record cannot be read.
    """
    if names:
        return [haops.state.get(name) for name in names]
    return [cluster for name in haops.state.names() if (cluster := haops.state.find(name))]


def look(haops: Lifecycle, clusters: Sequence[Cluster]) -> list[Snapshot]:
    """Snapshots of several clusters, taken at the same time."""
    from haops.parallel import ask_all

    return ask_all(haops.observe, clusters)


def readable(haops: Lifecycle) -> tuple[list[Cluster], list[HaopsError]]:
    """Every recorded cluster, and what is wrong with the records that cannot be read."""
    clusters: list[Cluster] = []
    damaged: list[HaopsError] = []
    for name in haops.state.names():
        try:
            if cluster := haops.state.find(name):
                clusters.append(cluster)
        except StateDamaged as error:
            damaged.append(error)
    return clusters, damaged


def ls(output: OutputOption = Output.TABLE) -> None:
    """List clusters that have containers, one line each."""
    haops = lifecycle()
    clusters, damaged = readable(haops)
    seen = look(haops, clusters)
    standing = [(c, s) for c, s in zip(clusters, seen, strict=True) if not gone(s)]
    snapshots = [s for _, s in standing]
    if output is Output.NAME:
        typer.echo("\n".join(s.name for s in snapshots)) if snapshots else None
    elif output in (Output.JSON, Output.YAML):
        shapes.emit(shapes.clusters_document(snapshots), output)
    else:
        _ls_table(standing, output)
    console = shapes.err()
    if kept := [s.name for s in seen if gone(s)]:
        console.print(
            f"without containers, their data kept: {', '.join(kept)} (see: haops up, haops down --volumes)"
        )
    for trouble in damaged:
        raise trouble


def gone(snapshot: Snapshot) -> bool:
    """Whether not one container is left of a cluster."""
    return all(n.state is NodeState.MISSING for n in snapshot.nodes)


def _ls_table(standing: Sequence[tuple[Cluster, Snapshot]], output: Output) -> None:
    wide = output is Output.WIDE
    table = shapes.table(
        "NAME", "STORE", "MODE", "NODES", "VERDICT", "AGE", *(("IMAGE", "SUBNET") if wide else ())
    )
    for cluster, snapshot in standing:
        up_count = sum(n.state is NodeState.UP for n in snapshot.nodes)
        cells = [
            cluster.name,
            cluster.store.value,
            cluster.mode,
            f"{up_count}/{len(snapshot.nodes)}",
            shapes.styled(snapshot.verdict.value),
            _age(datetime.now(UTC) - cluster.created),
        ]
        table.add_row(*cells, *((cluster.image, cluster.subnet) if wide else ()))
    if standing:
        shapes.out().print(table)
    else:
        shapes.err().print("no clusters; start one: haops up redis")


def _age(delta: object) -> str:
    seconds = int(delta.total_seconds())  # type: ignore[attr-defined]
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def status(
    names: NameArgument = None,
    output: OutputOption = Output.TABLE,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again and again until Ctrl-C.")] = False,
    interval: Annotated[
        str, typer.Option(help="Time between two looks with --watch.")
    ] = f"{_DEFAULT_WATCH_S:g}s",
) -> None:
    """Show every node's role, state, lag and address, and each cluster's verdict with its reasons.

    Ends with exit code 5 where a cluster is not healthy.
    """
    haops = lifecycle()
    clusters, damaged = (chosen(haops, names), list[HaopsError]()) if names else readable(haops)
    if watch:
        from haops.cli.watch import follow

        for trouble in damaged:
            shapes.err().print(f"haops: {trouble}", markup=False)
        watched = clusters if names else [c for c in clusters if haops.containers(c)]
        follow(haops, [c.name for c in watched], parse_duration(interval).total_seconds(), output)
    snapshots = look(haops, clusters)
    if not names:
        snapshots = [s for s in snapshots if not gone(s)]
    _print_status(snapshots, output)
    for trouble in damaged:
        raise trouble
    if any(s.verdict is not Verdict.HEALTHY for s in snapshots):
        raise typer.Exit(EXIT_UNHEALTHY)


def _print_status(snapshots: Sequence[Snapshot], output: Output) -> None:
    if output in (Output.JSON, Output.YAML):
        shapes.emit(shapes.clusters_document(snapshots), output)
    elif output is Output.NAME:
        typer.echo("\n".join(f"{s.name}/{n.name}" for s in snapshots for n in s.nodes))
    elif not snapshots:
        shapes.err().print("no clusters; start one: haops up redis")
    else:
        console = shapes.out()
        console.print(shapes.status_table(snapshots, output))
        for line in shapes.reasons_lines(snapshots):
            console.print(line, soft_wrap=True)  # it may hold a command to be copied


def down(
    names: Annotated[
        list[str] | None, typer.Argument(help="Clusters' names.", autocompletion=cluster_names)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All clusters of this state directory.")] = False,
    volumes: Annotated[bool, typer.Option("--volumes", help="Remove the data too.")] = False,
) -> None:
    """Remove clusters' containers and networks; data volumes are kept unless --volumes is given."""
    if bool(names) == every:
        raise BadInput("say which clusters: names, or --all", hint="see: haops ls")
    haops = lifecycle()
    targets = list(names or haops.state.names())
    run_all(lambda name: _remove(haops, name, keep_volumes=not volumes), targets, haops.cancelled)
    shapes.err().print(f"removed {', '.join(targets)}" if targets else "there are no clusters")


def _remove(haops: Lifecycle, name: str, *, keep_volumes: bool) -> None:
    from haops.control.half_restored import RestoreFile

    given_up = None
    with suppress(HaopsError):  # `down` says what is wrong
        if not keep_volumes and (half := RestoreFile(haops.state.cluster_dir(name)).read()):
            given_up = (haops.state.get(name), half)
    haops.down(name, keep_volumes=keep_volumes)
    if given_up:
        from haops.backup.given_up import let_go

        let_go(*given_up)


def heal(names: NameArgument = None) -> None:
    """Undo what was left behind by a haops that was killed.

    Starts stopped nodes, thaws frozen ones, and finishes or puts back an operation
    that was cut off.
    """
    work = operations()
    haops = work.lifecycle
    clusters, troubles = (chosen(haops, names), list[HaopsError]()) if names else readable(haops)
    healed = []
    for cluster in clusters:
        try:
            healed += [f"{cluster.name}/{node}" for node in haops.heal(cluster)]
            for said in work.mend(cluster):
                shapes.err().print(f"{cluster.name}: {said}", markup=False)
                healed.append(cluster.name)
        except HaopsError as error:  # one cluster in trouble or in use does not keep the others from help
            troubles.append(error)
    shapes.err().print(f"healed {', '.join(healed)}" if healed else "nothing to heal")
    for trouble in troubles:
        raise trouble


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
) -> None:
    """Remove expired, half-made and unrecorded clusters; whatever is in use stays."""
    haops = lifecycle()
    garbage = haops.garbage(datetime.now(UTC))
    console = shapes.err()
    for piece in garbage:
        try:
            if not dry_run:
                haops.collect(piece)
        except Busy as error:  # somebody began to work on it a moment ago: it is no garbage
            console.print(f"left {piece.cluster}: {error.message}", markup=False)
            continue
        console.print(f"{'would remove' if dry_run else 'removed'} {piece.cluster}: {piece.why}")
    if not garbage:
        console.print("nothing to remove")

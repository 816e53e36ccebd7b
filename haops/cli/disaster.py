"""`haops drill run` of a playbook that destroys a whole cluster."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from haops.cli import output as shapes
from haops.cli.output import Output
from haops.cluster.spec import StoreName
from haops.cluster.state import write_atomic
from haops.errors import BadInput

if TYPE_CHECKING:
    from haops.control.lifecycle import Lifecycle
    from haops.drills.disaster_result import DisasterResult
    from haops.drills.playbook import DisasterBook

_OWN: Final = "disaster"


@dataclass(frozen=True, slots=True)
class DisasterWish:
    """What was asked for at the prompt.

    Args:
        name: The name that the run is kept under.
        stores: Those to run, in this order.
        cluster: The cluster to destroy, for one store.
        prefix: Destroy PREFIX-STORE.
        trials: How often; only once is possible.
        yes: Ask nothing.
    """

    name: str
    playbook: DisasterBook
    stores: tuple[StoreName, ...]
    cluster: str | None
    prefix: str | None
    trials: int | None
    rate: int | None
    seed: int | None
    yes: bool
    output: Output


def run_disaster(haops: Lifecycle, wish: DisasterWish) -> DisasterResult:
    """Ask, run, keep the files and print.

    Raises:
        BadInput: Something was asked for that a disaster drill cannot do, or a standing cluster would be
            destroyed that nobody named.
    """
    from haops.drills.disaster import REPOSITORY, DisasterOrder, run_disasters
    from haops.drills.result import DrillVerdict
    from haops.drills.runner import new_run, run_folder

    targets = _targets(haops, wish)
    haops.runtime.ping()
    run = new_run(wish.name, datetime.now(UTC))
    folder = run_folder(haops, run)
    console = shapes.err()
    order = DisasterOrder(
        name=wish.name,
        playbook=wish.playbook,
        targets=targets,
        rate=wish.rate,
        seed=wish.seed if wish.seed is not None else random.SystemRandom().randrange(2**31),
        run=run,
        folder=folder,
    )
    passed = False
    try:
        result = run_disasters(haops, order, lambda text: console.print(text, markup=False))
        passed = result.verdict is DrillVerdict.PASS
        _keep(result, folder)
        _print_result(result, wish.output)
    finally:
        _settle(folder / REPOSITORY, remove=passed)
    console.print(f"report: {folder / 'report.html'}", soft_wrap=True, markup=False)
    return result


def _targets(haops: Lifecycle, wish: DisasterWish) -> Mapping[StoreName, str]:
    """The cluster for each store; whoever asked has agreed that the standing ones are destroyed."""
    if wish.trials not in (None, 1):
        raise BadInput(
            "a disaster drill runs once: each trial would need a cluster of its own",
            hint="leave --trials out, and run the drill again",
        )
    named = wish.cluster or wish.prefix
    targets = {s: wish.cluster or f"{wish.prefix or _OWN}-{s}" for s in wish.stores}
    standing = []
    for store, name in targets.items():
        cluster = haops.state.find(name)
        if cluster is None:
            continue
        if not named:
            raise BadInput(
                f"cluster {name} is there already, and the drill destroys what it runs on",
                hint=f"remove it: haops down {name} --volumes; or name it: --store {store} --cluster {name}",
            )
        if cluster.store is not store:
            raise BadInput(f"cluster {name} is of {cluster.store}, not of {store}", hint="see: haops ls")
        standing.append(name)
    if standing and not wish.yes:
        _confirm(standing)
    return targets


def _confirm(standing: list[str]) -> None:
    names = ", ".join(standing)
    if not sys.stdin.isatty():
        raise BadInput(
            f"the drill destroys every node and volume of {names}, and there is no terminal to ask at",
            hint="say --yes, or leave --cluster and --prefix out: a cluster is then made for the run",
        )
    shapes.err().print(
        f"The drill destroys every node and volume of {names}. What was not in its backup is gone for good.",
        markup=False,
    )
    if not typer.confirm("Go on?", err=True):
        raise typer.Exit(1)


def _keep(result: DisasterResult, folder: Path) -> None:
    """The run's files: for programs, for people, for CI."""
    from haops.report import disaster, disaster_json, disaster_junit

    write_atomic(folder / "result.json", disaster_json.dump(result))
    write_atomic(folder / "report.html", disaster.render(result))
    write_atomic(folder / "junit.xml", disaster_junit.render(result))


def _settle(repository: Path, *, remove: bool) -> None:
    """Remove the run's backups, unless they are wanted: as evidence, or because they are all that is left."""
    if not repository.exists():
        return
    if remove:
        shutil.rmtree(repository, ignore_errors=True)
    else:
        shapes.err().print(f"the backups are kept: {repository}", soft_wrap=True, markup=False)


def _print_result(result: DisasterResult, output: Output) -> None:
    console = shapes.err()
    if output in (Output.JSON, Output.YAML):
        from haops.report import disaster_json

        shapes.emit_file(disaster_json.dump(result), output)
    elif output is Output.NAME:
        typer.echo(result.run)
    else:
        _print_summary(result)
    for trial in result.stores:
        for reason in trial.reasons:
            console.print(f"{shapes.styled(trial.verdict.value)} {trial.cluster}: {shapes.plain(reason)}")
    for trouble in result.troubles:
        console.print(f"{shapes.styled('unknown')} {shapes.plain(trouble)}")
    if result.interrupted:
        console.print("interrupted: what was finished is kept")


def _print_summary(result: DisasterResult) -> None:
    from haops.report.disaster_text import rows

    table = shapes.table(
        "STORE", "VERDICT", "RECOVERY TIME", "DESTROY/REBUILD/RESTORE", "RECOVERY POINT", "ACKED", "LOST",
        "LOST FROM BACKUP", "P_R", "BACKUP", "COMPARED",
    )  # fmt: skip
    for row in rows(result):
        table.add_row(
            row.store,
            shapes.styled(row.verdict.lower()),
            row.recovery_time,
            row.parts,
            row.point,
            row.acked,
            row.lost,
            row.lost_before,
            row.p_recovered,
            row.backup,
            row.compared,
        )
    shapes.out().print(table)

"""`haops backup`: create, list, show, verify, prune."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from haops.cli import backup_words as words
from haops.cli import output as shapes
from haops.cli.context import cluster_names, lifecycle
from haops.cli.lease_words import lease_fields, leases_of, print_leases, print_removal, removal_fields
from haops.cli.output import Output, OutputOption
from haops.cli.proving import prove_one
from haops.errors import EXIT_FAILED, EXIT_UNKNOWN, BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from haops.backup.catalogue import Entry
    from haops.backup.prune import PruneOrder
    from haops.backup.repository import Repository
    from haops.backup.retention import Rules
    from haops.backup.verify import Plan, Verified
    from haops.compare.proof import Proof

app = typer.Typer(
    help="Back clusters up, online; list, show and verify backups; remove old ones.",
    epilog="Examples: haops backup create redis | haops backup list | haops backup verify redis:latest --full",
    no_args_is_help=True,
    rich_markup_mode=None,
)

RepoOption = Annotated[
    str | None,
    typer.Option(
        "--repo",
        metavar="REPOSITORY",
        help="A folder, s3://BUCKET/PREFIX, gs://... or az://...; the cloud's own variables say who you are. "
        "Default: $HAOPS_REPO, else backups in the state directory.",
    ),
]
IdentityOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--identity",
        metavar="FILE",
        help="A file with an age or SSH secret key. Default: $HAOPS_AGE_IDENTITY.",
    ),
]
BackupArgument = Annotated[
    str, typer.Argument(metavar="BACKUP", help="An id, its unique beginning, latest, or CLUSTER:latest.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def repository_at(repo: str | None, *, make: bool = False) -> Repository:
    """The repository that `--repo` names, or the default one."""
    from haops.backup.repository import default_repository, open_repository
    from haops.cluster.state import StateDir

    return open_repository(repo or default_repository(StateDir().root), make=make)


@app.command(
    "create",
    epilog="Examples: haops backup create redis | haops backup create redis --encrypt age1... --rate 50MB/s | "
    "haops backup create cassandra --repo s3://backups/prod",
)
def create(
    name: Annotated[str, typer.Argument(help="The cluster's name.", autocompletion=cluster_names)],
    repo: RepoOption = None,
    encrypt: Annotated[
        list[str] | None,
        typer.Option(metavar="RECIPIENT", help="age1... or an SSH public key; may be said more than once."),
    ] = None,
    rate: Annotated[str | None, typer.Option(help="Read no faster than this, such as 50MB/s.")] = None,
    pitr: Annotated[
        bool, typer.Option("--pitr", help="Keep the log too, so that restore --at works.")
    ] = False,
    logical: Annotated[
        bool, typer.Option("--logical", help="Also in a form that any version and topology takes.")
    ] = False,
    node: Annotated[str | None, typer.Option(help="Read from this node.")] = None,
    new: Annotated[
        bool,
        typer.Option(
            "--new", help="Begin anew, although one that was cut off could be gone on with; read all anew."
        ),
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Back a cluster up while it serves.

    Goes on with a backup that was cut off, and reads nothing again that is known to be unchanged.
    Who can list the repository can tell whether it has a chunk whose bytes he knows, encrypted or not.
    """
    from haops.backup.create import BackupOrder, Progress
    from haops.backup.create import create as make
    from haops.backup.rate import parse_rate
    from haops.cli.transfer import TransferDisplay

    haops = lifecycle()
    cluster = haops.state.get(name)
    if node is not None:
        cluster.node(node)
    console = shapes.err()
    with TransferDisplay(console) as display:

        def report(progress: Progress) -> None:
            display.step(progress.part, progress.done, progress.total)

        order = BackupOrder(
            recipients=encrypt or (),
            pitr=pitr,
            logical=logical,
            node=node,
            rate=parse_rate(rate) if rate else None,
            fresh=new,
            report=report,
            say=lambda text: console.print(text, markup=False),
        )
        made = make(haops, cluster, repository_at(repo, make=True), order)
    if output is Output.NAME:
        typer.echo(made.id)
    elif output in (Output.JSON, Output.YAML):
        shapes.emit({"version": shapes.FORMAT, "backup": words.manifest_fields(made)}, output)
    else:
        words.print_made(made)


@app.command("list", epilog="Examples: haops backup list | haops backup list redis -o json")
def list_backups(
    name: Annotated[str | None, typer.Argument(help="Only this cluster's.")] = None,
    repo: RepoOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the backups of a repository, the oldest first: complete, incomplete and damaged ones."""
    from haops.backup.catalogue import entries

    found = entries(repository_at(repo), name)
    if output is Output.NAME:
        for entry in found:
            typer.echo(entry.id)
    elif output in (Output.JSON, Output.YAML):
        rows = [words.entry_fields(entry) for entry in found]
        shapes.emit({"version": shapes.FORMAT, "backups": rows}, output)
    elif found:
        words.print_entries(found, wide=output is Output.WIDE)
    else:
        shapes.err().print("there are no backups")


@app.command("show", epilog="Examples: haops backup show latest | haops backup show redis:latest -o json")
def show(backup: BackupArgument, repo: RepoOption = None, output: OutputOption = Output.TABLE) -> None:
    """Show a backup: where it stands in the servers' history, what is in it and what is not, who restores it."""
    from haops.backup.catalogue import find

    repository = repository_at(repo)
    entry = find(repository, backup)
    # Of one that a newer haops made, this raises what says so.
    manifest = repository.manifest(entry.id) if entry.summary or entry.newer else None
    leases = leases_of(repository, entry)
    if output is Output.NAME:
        typer.echo(entry.id)
    elif output in (Output.JSON, Output.YAML):
        fields = {**words.entry_details(entry, manifest), "restores": lease_fields(leases)}
        shapes.emit({"version": shapes.FORMAT, "backup": fields}, output)
    else:
        words.print_entry(entry, manifest, wide=output is Output.WIDE)
        print_leases(leases)


@app.command(
    "verify",
    epilog="Examples: haops backup verify | haops backup verify latest --sample 5% | "
    "haops backup verify redis:latest --full --identity key.txt | haops backup verify latest --by-restore",
)
def verify(
    backups: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[BACKUP]...", help="Ids, latest, CLUSTER:latest. Default: all that are complete."
        ),
    ] = None,
    repo: RepoOption = None,
    sample: Annotated[str | None, typer.Option(help="Read this share of the chunks, such as 5%.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Read all chunks.")] = False,
    by_restore: Annotated[
        bool, typer.Option("--by-restore", help="Restore into a cluster made for it, and compare.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Of the sample's choice.")] = None,
    identity: IdentityOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Verify backups: every chunk is there in its size; with --sample or --full, its bytes are right, too.

    Ends with 1 where anything is wrong or there is nothing to verify, with 4 where a restore could not tell.
    """
    from haops.backup.keys import read_identities
    from haops.backup.verify import verify as check

    plan = _plan(sample, seed, full=full)
    identities = read_identities(identity or ())
    repository = repository_at(repo)
    chosen = _chosen(repository, backups or [])
    found = [check(repository, entry, identities, plan) for entry in chosen]
    proofs = [prove_one(repository, e, identities) for e in chosen if e.summary] if by_restore else []
    ok = _verdict(found, proofs)
    if output is Output.NAME:
        bad = [v.backup for v in found if not v.ok] + [p.backup for p in proofs if not p.ok]
        for backup in dict.fromkeys(bad):
            typer.echo(backup)
    elif output in (Output.JSON, Output.YAML):
        document = {
            "version": shapes.FORMAT, "ok": ok, "verified": [words.verified_fields(v) for v in found],
            "proofs": [words.proof_fields(p) for p in proofs],
        }  # fmt: skip
        shapes.emit(document, output)
    else:
        words.print_verified(found)
        words.print_proofs(proofs)
    if not found:
        shapes.err().print("there is no complete backup to verify")
    if ok is not True:
        raise typer.Exit(EXIT_UNKNOWN if ok is None else EXIT_FAILED)


def _verdict(found: Sequence[Verified], proofs: Sequence[Proof]) -> bool | None:
    """Whether all is well; None where nothing is wrong, but a restore could not tell."""
    if not found or not all(v.ok for v in found) or any(p.ok is False for p in proofs):
        return False
    return None if any(p.ok is None for p in proofs) else True


def _plan(sample: str | None, seed: int | None, *, full: bool) -> Plan:
    from haops.backup.verify import Depth, Plan

    if full and sample is not None:
        raise BadInput("--sample and --full exclude each other")
    if full:
        return Plan(Depth.FULL)
    if sample is None:
        return Plan()
    chosen = seed if seed is not None else random.SystemRandom().randrange(2**31)
    return Plan(Depth.SAMPLE, parse_share(sample), chosen)


def parse_share(text: str) -> float:
    """A share between 0 (without) and 1, from `5%` or `0.05`.

    Raises:
        BadInput: It is none.
    """
    compact = text.strip()
    try:
        share = float(compact.removesuffix("%")) / (100 if compact.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise BadInput(f"{text!r} is not a share", hint="write for instance 5%")
    return share


def _chosen(repository: Repository, backups: Sequence[str]) -> list[Entry]:
    """The backups that are named; without any, all but those that are still incomplete."""
    from haops.backup.catalogue import BackupState, entries, find

    if backups:
        return list({(e := find(repository, backup)).id: e for backup in backups}.values())
    found = entries(repository)
    for entry in found:
        if entry.state is BackupState.INCOMPLETE or entry.newer:
            note = entry.note if entry.newer else "it is incomplete"
            shapes.err().print(f"{entry.id} is left out: {note}", markup=False)
    return [e for e in found if e.state is not BackupState.INCOMPLETE and not e.newer]


@app.command(
    "prune",
    epilog="Examples: haops backup prune --keep-last 5 --dry-run | "
    "haops backup prune --keep-daily 7 --keep-weekly 4 --keep-monthly 12 --yes",
)
def prune(
    repo: RepoOption = None,
    cluster: Annotated[str | None, typer.Option(help="Remove only this cluster's backups.")] = None,
    keep_last: Annotated[int, typer.Option(min=0, help="Keep so many of the newest.")] = 0,
    keep_within: Annotated[str | None, typer.Option(help="Keep what is younger, such as 30d.")] = None,
    keep_daily: Annotated[int, typer.Option(min=0, help="Keep the newest of so many days.")] = 0,
    keep_weekly: Annotated[int, typer.Option(min=0, help="Likewise of weeks.")] = 0,
    keep_monthly: Annotated[int, typer.Option(min=0, help="Likewise of months.")] = 0,
    keep_yearly: Annotated[int, typer.Option(min=0, help="Likewise of years.")] = 0,
    grace: Annotated[
        str, typer.Option(help="Leave younger chunks and younger incomplete backups alone.")
    ] = "1h",
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Remove backups that were cut off, too.")
    ] = False,
    damaged: Annotated[
        bool, typer.Option("--damaged", help="Remove damaged ones and those whose verification failed, too.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Remove backups that no rule keeps, for each cluster, and the chunks that no other backup needs.

    The newest good backup of a cluster always stays. So does one that is being restored, until nothing is heard of
    the restore for 7 days.
    """
    from dataclasses import replace

    from haops.backup.prune import PruneOrder
    from haops.backup.prune import prune as remove
    from haops.timing import parse_duration

    counts = (keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly)
    rules = _rules(counts, keep_within, needed=not (incomplete or damaged))
    repository = repository_at(repo)
    order = PruneOrder(rules, cluster, parse_duration(grace), incomplete, damaged, dry_run)
    if not dry_run and not yes:
        _confirm(repository, replace(order, dry_run=True))
    pruned = remove(repository, order)
    if output is Output.NAME:
        for backup in (*pruned.decision.forget, *pruned.dropped):
            typer.echo(backup)
    elif output in (Output.JSON, Output.YAML):
        shapes.emit({"version": shapes.FORMAT, **removal_fields(pruned, dry_run=dry_run)}, output)
    else:
        print_removal(pruned, dry_run=dry_run)


def _rules(counts: tuple[int, int, int, int, int], within: str | None, *, needed: bool) -> Rules | None:
    from haops.backup.retention import Rules
    from haops.timing import parse_duration

    if not needed and not any(counts) and within is None:
        return None
    last, daily, weekly, monthly, yearly = counts
    return Rules(last, parse_duration(within) if within else None, daily, weekly, monthly, yearly)


def _confirm(repository: Repository, order: PruneOrder) -> None:
    from haops.backup.prune import prune as look

    if not sys.stdin.isatty():
        raise BadInput(
            "prune removes backups and there is no terminal to ask at",
            hint="say --yes, or look first with --dry-run",
        )
    print_removal(look(repository, order), dry_run=True)
    if not typer.confirm("Go on?", err=True):
        raise typer.Exit(EXIT_FAILED)

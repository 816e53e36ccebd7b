"""Running a playbook: load, fault, recovery, read-back, for each store and trial."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from haops import __version__
from haops.cluster.snapshot import Snapshot
from haops.cluster.spec import Cluster, ClusterSpec, Phase, StoreName
from haops.cluster.state import disk_trouble
from haops.control.healthy import await_healthy
from haops.control.lifecycle import Lifecycle
from haops.drills.load import LoadPlan
from haops.drills.measure import spread
from haops.drills.playbook import Playbook, StoreModel
from haops.drills.result import (
    RESULT_VERSION,
    DrillResult,
    DrillVerdict,
    StoreResult,
    Trial,
    combine,
)
from haops.drills.trial import TrialRun, run_trial
from haops.errors import BadInput, HaopsError
from haops.history.files import save
from haops.stores import load as load_store
from haops.stores.base import Workload

_HEALTHY_S: Final = 60.0
# More than any trial writes with one client: keys of trials never meet.
_KEYS_A_TRIAL: Final = 10_000_000

_NAME: Final = 24

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DrillOrder:
    """What to run.

    Args:
        targets: The cluster to use for each store; made for the run and removed after it if missing.
        rate: Operations a second instead of the playbook's.
        folder: Where histories go.
    """

    name: str
    playbook: Playbook
    targets: Mapping[StoreName, str]
    trials: int
    rate: int | None
    seed: int
    run: str
    folder: Path


def run_drill(haops: Lifecycle, order: DrillOrder, say: Say) -> DrillResult:
    """Run the playbook on every target; trouble or an interruption keeps what is finished.

    Raises:
        HaopsError: Nothing at all could be run; the first store's own trouble.
    """
    started = datetime.now(UTC)
    stores: dict[StoreName, StoreResult] = {}
    troubles: list[HaopsError] = []
    interrupted = False
    try:
        for store in order.targets:
            try:
                for result in _store_results(haops, order, store, say):
                    stores[store] = result
            except HaopsError as error:
                troubles.append(error)
                stores[store] = _broken_off(stores.get(store) or _untried(haops, order, store), error)
    except KeyboardInterrupt:
        interrupted = True
    if troubles and not any(s.trials for s in stores.values()):
        raise troubles[0]
    verdicts = [s.verdict for s in stores.values()]
    return DrillResult(
        version=RESULT_VERSION,
        run=order.run,
        playbook=order.name,
        title=order.playbook.title,
        description=order.playbook.description,
        started=started,
        finished=datetime.now(UTC),
        haops=__version__,
        seed=order.seed,
        rate=order.rate,
        interrupted=interrupted,
        verdict=combine([*verdicts, DrillVerdict.UNKNOWN] if interrupted else verdicts),
        stores=stores,
    )


def _broken_off(result: StoreResult, error: HaopsError) -> StoreResult:
    """A store's result after trouble: what is finished counts, but not as the whole drill."""
    return replace(
        result,
        verdict=combine([result.verdict, DrillVerdict.UNKNOWN]),
        reasons=(*result.reasons, str(error)),
    )


def _untried(haops: Lifecycle, order: DrillOrder, store: StoreName) -> StoreResult:
    name = order.targets[store]
    cluster = haops.state.find(name)
    return StoreResult(
        store=store,
        cluster=name,
        mode=cluster.mode if cluster else load_store(store).modes.offered[0].name,
        version="unknown",
        nodes=len(cluster.servers) if cluster else 0,
        verdict=DrillVerdict.UNKNOWN,
        reasons=(),
        budget=order.playbook.stores[store].budget(),
        write_outage_ms=None,
        read_outage_ms=None,
        lost=0,
        acked=0,
        trials=(),
    )


def _store_results(haops: Lifecycle, order: DrillOrder, store: StoreName, say: Say) -> Iterator[StoreResult]:
    """After each trial the store's result so far, so that an interruption loses none."""
    model = order.playbook.stores[store]
    with ExitStack() as stack:
        cluster = cluster_for(haops, store, order.targets[store], stack, say)
        stack.enter_context(haops.state.lock(cluster.name, f"drill {order.run}"))
        workload = load_store(store).workload(cluster, order.run, _timeout_s(order))
        snapshot = await_healthy(haops, cluster, _HEALTHY_S)
        stack.callback(_clean, workload, cluster, say)
        workload.prepare(order.playbook.load.clients)
        trials: list[Trial] = []
        for number in range(1, order.trials + 1):
            if trials:
                await_healthy(haops, cluster, _HEALTHY_S)
            say(f"{cluster.name}: trial {number} of {order.trials}")
            record = run_trial(
                TrialRun(
                    haops=haops,
                    cluster=cluster,
                    workload=workload,
                    playbook=order.playbook,
                    budget=model.budget(),
                    plan=_plan(order, model, number),
                    run=order.run,
                    number=number,
                    say=say,
                )
            )
            trials.append(record.trial)
            yield _store_result(cluster, snapshot, model, trials, order.trials)
            save(record.kept, order.folder / f"history-{store}-{number}.parquet")


def _clean(workload: Workload, cluster: Cluster, say: Say) -> None:
    try:
        workload.clean()
    except HaopsError as error:
        say(f"{cluster.name}: the drill's data stays: {error}")


def _timeout_s(order: DrillOrder) -> float:
    return order.playbook.load.timeout.total_seconds()


def _plan(order: DrillOrder, model: StoreModel, trial: int) -> LoadPlan:
    load = order.playbook.load
    return LoadPlan(
        rate=order.rate or model.rate,
        clients=load.clients,
        processes=min(load.processes, load.clients),
        writes=load.writes,
        timeout_s=load.timeout.total_seconds(),
        first_key=trial * _KEYS_A_TRIAL,
        seed=order.seed + trial,
        registers=load.registers,
    )


def cluster_for(haops: Lifecycle, store: StoreName, name: str, stack: ExitStack, say: Say) -> Cluster:
    """The standing cluster, or one for this run alone."""
    standing = haops.state.find(name)
    if standing is not None and standing.store is not store:
        raise BadInput(f"cluster {name} is of {standing.store}, not of {store}", hint="see: haops ls")
    if standing is not None and standing.phase is Phase.READY and haops.containers(standing):
        return standing
    if standing is not None:
        say(f"{name}: not running, so it is started for this run")
        stack.callback(haops.down, name, keep_volumes=True)
        return haops.up(standing.spec())
    say(f"{name}: no such cluster, so one is made for this run")
    stack.callback(_remove_if_there, haops, name)
    return haops.up(ClusterSpec(name, store))


def _remove_if_there(haops: Lifecycle, name: str) -> None:
    if name in haops.state.names():
        haops.down(name, keep_volumes=False)


def _store_result(
    cluster: Cluster, snapshot: Snapshot, model: StoreModel, trials: list[Trial], asked: int
) -> StoreResult:
    short = [f"only {len(trials)} of {asked} trials were run"] if len(trials) < asked else []
    return StoreResult(
        store=cluster.store,
        cluster=cluster.name,
        mode=cluster.mode,
        version=next((n.version for n in snapshot.nodes if n.version), "unknown"),
        nodes=len(cluster.servers),
        verdict=combine([*(t.verdict for t in trials), *(DrillVerdict.UNKNOWN for _ in short)]),
        reasons=(*(f"trial {t.number}: {reason}" for t in trials for reason in t.reasons), *short),
        budget=model.budget(),
        write_outage_ms=spread([t.write_outage_ms for t in trials]),
        read_outage_ms=spread([t.read_outage_ms for t in trials]),
        lost=sum(t.lost for t in trials),
        acked=sum(t.acked for t in trials),
        trials=tuple(trials),
    )


def new_run(name: str, now: datetime) -> str:
    """A run's name: UTC time to the second, and the playbook."""
    # The name becomes part of keys, paths and a table's name, which Cassandra limits to 48 characters.
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_NAME].strip("-") or "drill"
    return f"{now.astimezone(UTC):%Y%m%dt%H%M%S}-{plain}"


def run_folder(haops: Lifecycle, run: str) -> Path:
    """Make the folder of a run.

    Raises:
        HaopsError: It is there already: two runs in one second.
    """
    folder = haops.state.runs / run
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise HaopsError(f"run {run} exists already", hint="try again in a second") from None
    except OSError as error:
        raise disk_trouble(folder, error) from error
    return folder

"""Running the matrix: for every visit set the mode up, load, break, heal, check, and keep the result."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from haops.cluster.snapshot import Snapshot
from haops.cluster.spec import Cluster, ClusterSpec, StoreName
from haops.control.healthy import await_healthy
from haops.control.lifecycle import Lifecycle
from haops.drills.load import LoadPlan
from haops.drills.playbook import Playbook, read
from haops.drills.trial import TrialRun, run_trial
from haops.errors import (
    BadInput,
    ClusterUnhealthy,
    EnvironmentTrouble,
    FaultRefused,
    HaopsError,
)
from haops.faults.catalogue import FaultKind
from haops.history.files import save
from haops.matrix.cells import CellKey, CellTrial, Parts
from haops.matrix.keep import Line, append, lines
from haops.matrix.order import MatrixOrder, Visit, mode_of, visits
from haops.matrix.parts import measure_parts
from haops.matrix.trial import cell_trial
from haops.runtime.resources import playbook_dir
from haops.stores import load as load_store
from haops.stores.mode import Mode
from haops.wait import wait_until

_NODES: Final = 3
_HEALTHY_S: Final = 60.0
_SETTLED_S: Final = 20.0
# A run that was killed leaves its clusters to `gc`.
_TTL: Final = timedelta(hours=4)
_LOCK: Final = "matrix"
_HISTORIES: Final = "histories"
# More than the keys of any trial.
_FIRST_KEY: Final = 10_000_000

Say = Callable[[str], None]


def cell_playbook() -> Playbook:
    """What is done in each cell: load and phases, and each store's rate."""
    path = playbook_dir() / "matrix" / "cell.yaml"
    return read(path.read_text(encoding="utf-8"), str(path))


class MatrixRun:
    """One run: keeps each finished thing at once, and one cluster of each shape while it lasts."""

    def __init__(self, haops: Lifecycle, order: MatrixOrder, playbook: Playbook, say: Say) -> None:
        self._haops = haops
        self._order = order
        self._playbook = playbook
        self._say = say
        self._clusters: dict[str, Cluster] = {}
        self._took: dict[StoreName, list[float]] = {}
        self._number = 0

    def run(self) -> None:
        """Visit what is left of the cells, and remove the run's clusters whatever happens.

        Raises:
            HaopsError: The environment is in trouble: engine, images, disk.
        """
        with ExitStack() as stack:
            # Its clusters have fixed names: two runs at once would take them from each other.
            stack.enter_context(self._haops.state.lock(_LOCK, f"matrix {self._order.run}"))
            for again in (False, True):  # what broke off for a reason of the moment gets a second try
                self._pass(stack, again=again)

    def _pass(self, stack: ExitStack, *, again: bool) -> None:
        before = list(lines(self._order.folder))
        done = {Visit(line.key, line.trial.number) for line in before if line.trial}
        skipped = {line.key for line in before if line.skipped}
        self._number = max(self._number, len(before))
        left = [v for v in visits(self._order.keys, self._order.trials, done) if v.key not in skipped]
        if done and left:
            self._say(f"{len(done)} trials are finished{'' if again else ' already'}, {len(left)} are left")
        for place, visit in enumerate(left):
            if visit.key in skipped:
                continue
            self._announce(visit, place, left)
            began = time.monotonic()
            for line in self._visit(visit, stack):
                append(self._order.folder, line)
                skipped |= {line.key} if line.skipped else set()
            self._took.setdefault(visit.key.store, []).append(time.monotonic() - began)

    def _announce(self, visit: Visit, place: int, left: list[Visit]) -> None:
        known = {store: sum(took) / len(took) for store, took in self._took.items()}
        rest = left[place:]
        if known and all(v.key.store in known for v in rest):
            seconds = sum(known[v.key.store] for v in rest)
            more = f"; about {max(round(seconds / 60), 1)} min left"
        else:
            more = ""
        self._say(
            f"[{place + 1}/{len(left)}] {visit.key}, trial {visit.number} of {self._order.trials}{more}"
        )

    def _visit(self, visit: Visit, stack: ExitStack) -> list[Line]:
        """A trial, and before the first undisturbed one what the mode costs at rest."""
        key = visit.key
        line = Line(key, "", 0)
        try:
            cluster, seen = self._ready(key, stack)
            line = replace(line, version=_version(seen), nodes=len(cluster.servers))
            found = [replace(line, trial=self._trial(cluster, visit))]
            if key.fault is FaultKind.NONE and visit.number == 1:
                found += self._with_parts(line, cluster, seen)
            return found
        except (BadInput, FaultRefused) as error:
            self._say(f"{key} is left out: {error}")
            return [replace(line, skipped=str(error))]
        except EnvironmentTrouble:
            raise
        except HaopsError as error:
            # A cluster that a fault left in pieces says nothing about the next cell.
            self._say(f"{key}: {error}; its cluster is made anew")
            self._discard(_cluster_name(key))
            return []

    def _with_parts(self, line: Line, cluster: Cluster, seen: Snapshot) -> list[Line]:
        """What the mode costs at rest; without it the trial still counts."""
        try:
            return [replace(line, parts=self._parts(cluster, seen))]
        except ClusterUnhealthy as error:
            self._say(f"{line.key}: not measured at rest: {error}")
            return []

    def _trial(self, cluster: Cluster, visit: Visit) -> CellTrial:
        key, run = visit.key, self._next_run()
        model = self._playbook.stores[key.store]
        workload = load_store(key.store).workload(cluster, run, self._timeout_s)
        began = datetime.now(UTC)
        with self._haops.state.lock(cluster.name, f"matrix {self._order.run}"):
            try:
                workload.prepare(self._playbook.load.clients)
                record = run_trial(
                    TrialRun(
                        haops=self._haops,
                        cluster=cluster,
                        workload=workload,
                        playbook=_with_fault(self._playbook, key.fault),
                        budget=model.budget(),
                        plan=self._plan(key, visit.number),
                        run=run,
                        number=visit.number,
                        say=self._say,
                    )
                )
                workload.clean()
            finally:
                workload.close()
        save(record.kept, self._history(visit))
        return cell_trial(record, key.fault, visit.number, began)

    def _history(self, visit: Visit) -> Path:
        folder = self._order.folder / _HISTORIES
        folder.mkdir(exist_ok=True)
        key = visit.key
        return folder / f"{key.store}-{key.mode}-{key.fault}-{visit.number}.parquet"

    def _parts(self, cluster: Cluster, seen: Snapshot) -> Parts:
        primary = load_store(cluster.store).primary(seen)
        return measure_parts(cluster, self._next_run(), self._timeout_s, primary, self._order.trials)

    @property
    def _timeout_s(self) -> float:
        return self._playbook.load.timeout.total_seconds()

    def _plan(self, key: CellKey, number: int) -> LoadPlan:
        load = self._playbook.load
        return LoadPlan(
            rate=self._order.rate or self._playbook.stores[key.store].rate,
            clients=load.clients,
            processes=min(load.processes, load.clients),
            writes=load.writes,
            timeout_s=self._timeout_s,
            first_key=_FIRST_KEY,
            seed=self._order.seed + number,
            registers=load.registers,
        )

    def _next_run(self) -> str:
        """Data of trials never meet: registers begin empty."""
        self._number += 1
        return f"{self._order.run}-{self._number:03}"

    def _ready(self, key: CellKey, stack: ExitStack) -> tuple[Cluster, Snapshot]:
        """The cell's cluster, healthy and in the cell's mode."""
        mode, modes = mode_of(key), load_store(key.store).modes
        cluster = self._clusters.get(_cluster_name(key)) or self._make(key, stack)
        cluster = replace(cluster, mode=modes.check(cluster, mode.name).name)
        await_healthy(self._haops, cluster, _HEALTHY_S)
        modes.settle(cluster, mode)
        self._await_facts(cluster, mode)
        return cluster, await_healthy(self._haops, cluster, _HEALTHY_S)

    def _make(self, key: CellKey, stack: ExitStack) -> Cluster:
        name, mode = _cluster_name(key), mode_of(key)
        self._say(f"{name}: made for this run")
        self._remove(name)  # what a run that was killed left, in whatever state
        stack.callback(self._remove, name)
        self._clusters[name] = cluster = self._haops.up(
            ClusterSpec(
                name,
                key.store,
                nodes=_NODES * mode.dcs,
                ttl=_TTL,
                observers=mode.observers,
                dcs=mode.dcs,
            )
        )
        return cluster

    def _discard(self, name: str) -> None:
        self._clusters.pop(name, None)
        self._remove(name)

    def _remove(self, name: str) -> None:
        if name in self._haops.state.names():
            self._haops.down(name, keep_volumes=False)

    def _await_facts(self, cluster: Cluster, mode: Mode) -> None:
        """The servers themselves must say that they are as the mode needs them."""
        modes = load_store(cluster.store).modes
        wait_until(
            lambda: [fact for fact in modes.ask(cluster, mode) if not fact.holds],
            lambda missing: not missing,
            what=f"{cluster.name} to be in mode {mode.name}",
            deadline_s=_SETTLED_S,
            interval_s=0.25,
            describe=lambda missing: "; ".join(f"{f.node}: {f.what} {f.found}" for f in missing),
        )


def _cluster_name(key: CellKey) -> str:
    """One cluster for all cells that need the same shape."""
    mode = mode_of(key)
    kind = "".join(("-observers" if mode.observers else "", "-dcs" if mode.dcs > 1 else ""))
    return f"{_LOCK}-{key.store}{kind}"


def _with_fault(playbook: Playbook, fault: FaultKind) -> Playbook:
    return playbook.model_copy(update={"fault": playbook.fault.model_copy(update={"kind": fault})})


def _version(seen: Snapshot) -> str:
    return next((n.version for n in seen.nodes if n.version), "unknown")

"""Up, down and garbage collection of clusters.

Every step can be repeated: the record is written before the first container
exists, Compose creates only what is missing, and everything carries labels, so
that a crash at any line leaves something that `up` finishes or `gc` removes.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from threading import Event
from typing import Final

from haops.cluster.loans import Loans
from haops.cluster.snapshot import Snapshot, Verdict
from haops.cluster.spec import Cluster, ClusterSpec, Node, Phase
from haops.cluster.state import StateDir
from haops.control.afresh import afresh
from haops.control.cut_off import cut_off
from haops.control.loans import give_back_when_up
from haops.control.progress import NodeProgress, Report, silent
from haops.errors import (
    AddressTaken,
    BadInput,
    Busy,
    ClusterUnhealthy,
    DeadlineExceeded,
    Interrupted,
    StateDamaged,
    SubnetTaken,
)
from haops.faults.catalogue import heal
from haops.faults.ledger import Ledger
from haops.runtime import labels
from haops.runtime.addresses import Subnet, choose_ports, host_routes, subnets
from haops.runtime.compose import write_project
from haops.runtime.port import Container, ContainerState, Runtime, last_words
from haops.stores import load
from haops.stores.base import NodePlan, Store
from haops.wait import REAL_CLOCK, Clock

UP_DEADLINE_S: Final = 120.0
_POLL_S: Final = 0.1
_SUBNET_TRIES: Final = 4
# The network's own address and the gateway come first; leave the next few to Docker's own use.
_FIRST_HOST: Final = 10


@dataclass(frozen=True, slots=True)
class Garbage:
    """A cluster, or what is left of one, that nobody needs any more."""

    cluster: str
    owner: str
    why: str


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The verbs on whole clusters, over a runtime and a state directory."""

    state: StateDir
    runtime: Runtime
    resolve_image: Callable[[str, str | None], str]
    clock: Clock = REAL_CLOCK
    cancelled: Event = field(default_factory=Event)

    def up(self, spec: ClusterSpec, *, deadline_s: float = UP_DEADLINE_S, report: Report = silent) -> Cluster:
        """Bring a cluster up, or finish or confirm one that is there.

        Returns when clients can write and read.

        Raises:
            BadInput: A cluster of that name exists with another store or size.
            EnvironmentTrouble: Engine, image, port, subnet or disk.
            ClusterUnhealthy: The deadline passed or a node died; with its last log lines.
        """
        store = load(spec.store)
        with self.state.lock(spec.name, "up"):
            self.runtime.ping()
            cluster = self._existing(spec, store) or self._lay_out(spec, store)
            cluster = afresh(cluster, store, self.runtime)
            for node in cluster.nodes:
                report(NodeProgress(cluster.name, node.name, "container"))
            cluster = self._start(cluster, store)
            self._await_ready(cluster, store, deadline_s, report)
            store.modes.settle(cluster, store.modes.get(cluster.mode))
            return self.state.mark(cluster, Phase.READY)

    def _existing(self, spec: ClusterSpec, store: Store) -> Cluster | None:
        cluster = self.state.find(spec.name)
        if cluster is None:
            return None
        has, first_port = cluster.spec(), min(n.host_port for n in cluster.nodes)
        if (has.store, has.nodes) != (spec.store, spec.nodes):
            raise BadInput(
                f"cluster {spec.name} exists with {has.nodes} nodes of {has.store}", hint=_anew(spec.name)
            )
        for option, asked, found in (
            ("--observers", spec.observers, has.observers),
            ("--dcs", spec.dcs, has.dcs),
            ("--image", spec.image, cluster.image),
            ("--port", spec.port_base, first_port),
        ):
            if asked is not None and asked != found:
                raise BadInput(f"cluster {spec.name} exists with {option} {found}", hint=_anew(spec.name))
        if spec.mode and (mode := store.modes.get(spec.mode).name) != cluster.mode:
            raise BadInput(
                f"cluster {spec.name} exists in mode {cluster.mode}",
                hint=f"change it: haops mode set {spec.name} {mode}",
            )
        return cluster

    def _lay_out(self, spec: ClusterSpec, store: Store) -> Cluster:
        image = self.resolve_image(spec.store.value, spec.image)
        plans = store.layout(spec)
        owner = self.state.owner()
        with self.state.allocation():
            known = self._recorded()
            ports = choose_ports(
                sum(2 if p.has_admin else 1 for p in plans),
                base=spec.port_base,
                reserved=[
                    port for c in known for n in c.nodes for port in (n.host_port, n.admin_host_port) if port
                ],
            )
            subnet = self._free_subnet(known, ())
            created = datetime.now(UTC)
            cluster = Cluster(
                name=spec.name,
                store=spec.store,
                owner=owner,
                subnet=str(subnet),
                image=image,
                nodes=_place(plans, subnet, ports, spec.zones),
                created=created,
                expires=created + spec.ttl if spec.ttl else None,
                phase=Phase.CREATING,
                mode=store.modes.get(spec.mode).name if spec.mode else store.modes.offered[0].name,
                secret=secrets.token_hex(16),
            )
            store.modes.check(cluster, cluster.mode)
            self.state.save(cluster)
        return cluster

    def _recorded(self) -> list[Cluster]:
        found = []
        for name in self.state.names():
            try:
                cluster = self.state.find(name)
            except StateDamaged:
                continue  # `ls` and `status` tell of it; its ports show as bound
            if cluster:
                found.append(cluster)
        return found

    def _free_subnet(self, known: Sequence[Cluster], tried: Sequence[str]) -> Subnet:
        used = [*self.runtime.networks(), *(c.subnet for c in known), *tried]
        for subnet in subnets([*used, *host_routes()]):
            return subnet
        raise AddressTaken(
            "no subnet is free for a further cluster", hint="remove clusters: haops ls, haops gc"
        )

    def _start(self, cluster: Cluster, store: Store) -> Cluster:
        """Compose up; on a subnet that somebody took meanwhile, lay the addresses out anew."""
        tried: list[str] = []
        while True:
            write_project(cluster, store.render_context(cluster), self.state.cluster_dir(cluster.name))
            try:
                self._clear_the_way(cluster)
                self.runtime.compose_up(cluster, self.state.cluster_dir(cluster.name))
            except SubnetTaken:
                tried.append(cluster.subnet)
                # A standing cluster's addresses are in its servers' own files: it cannot move.
                if len(tried) == _SUBNET_TRIES or cluster.phase is Phase.READY:
                    raise
                cluster = self._move(cluster, tried)
            else:
                return cluster

    def lay_out(self, cluster: Cluster) -> None:
        """Record a cluster whose nodes have changed, and create and start the containers that are missing."""
        self.state.save(cluster)
        context = load(cluster.store).render_context(cluster)
        write_project(cluster, context, self.state.cluster_dir(cluster.name))
        self.runtime.compose_up(cluster, self.state.cluster_dir(cluster.name))

    def _clear_the_way(self, cluster: Cluster) -> None:
        """What Compose would not do by itself.

        It leaves a frozen container frozen. And it copies the configuration
        into a container between creating and starting it: one that a killed
        `up` left in between would start without.
        """
        for node, container in self.runtime.containers(cluster).items():
            if container.state is ContainerState.PAUSED:
                self.runtime.unpause(cluster, node)
            elif container.state is ContainerState.CREATED:
                self.runtime.discard(cluster, node)

    def _move(self, cluster: Cluster, tried: Sequence[str]) -> Cluster:
        with self.state.allocation():
            subnet = self._free_subnet(self._recorded(), tried)
            nodes = tuple(
                replace(node, address=str(subnet[_FIRST_HOST + i])) for i, node in enumerate(cluster.nodes)
            )
            moved = replace(cluster, subnet=str(subnet), nodes=nodes)
            self.state.save(moved)
        return moved

    def _await_ready(self, cluster: Cluster, store: Store, deadline_s: float, report: Report) -> None:
        end = self.clock.monotonic() + deadline_s
        names = [n.name for n in cluster.nodes]
        with store.readiness(cluster) as readiness:
            while True:
                pending = readiness.pending() or self._ails(cluster, store)
                for name in names:
                    report(NodeProgress(cluster.name, name, pending.get(name)))
                if not pending:
                    return
                self._check_alive(cluster)
                if self.cancelled.is_set():
                    raise Interrupted(
                        f"{cluster.name} is left half-made", hint=f"haops up, or haops down {cluster.name}"
                    )
                if self.clock.monotonic() >= end:
                    node, waits_for = next(iter(pending.items()))
                    raise DeadlineExceeded(
                        f"not ready after {deadline_s:g} s: waits for {waits_for}",
                        node=node,
                        detail=last_words(self.runtime, cluster, node),
                        hint=f"try again, or remove it: haops down {cluster.name} --volumes",
                    )
                self.clock.sleep(_POLL_S)

    def _ails(self, cluster: Cluster, store: Store) -> Mapping[str, str]:
        """What `status` would complain of: nothing may, when `up` has returned."""
        snapshot = store.observe(cluster, self.runtime.containers(cluster))
        if snapshot.verdict is Verdict.HEALTHY:
            return {}
        return {cluster.nodes[0].name: "; ".join(snapshot.reasons)}

    def _check_alive(self, cluster: Cluster) -> None:
        containers = self.runtime.containers(cluster)
        for node in (n.name for n in cluster.nodes):  # a stopped guard is no obstacle
            container = containers.get(node)
            if container and container.state is ContainerState.STOPPED:
                raise ClusterUnhealthy(
                    f"the server ended while {cluster.name} came up: {container.status}",
                    node=node,
                    detail=last_words(self.runtime, cluster, node),
                    hint=f"haops down {cluster.name} --volumes",
                )

    def down(self, name: str, *, keep_volumes: bool) -> None:
        """Remove a cluster's containers and network, and its volumes unless they are kept.

        Works from labels, so that a damaged record is no obstacle. The record
        goes last: a crash in between leaves a cluster that `down` removes again.

        Raises:
            BadInput: Neither a record nor anything labelled so is there.
        """
        with self.state.lock(name, "down"):
            owner = self.state.owner()
            here = [left for left in self.runtime.leftovers() if (left.cluster, left.owner) == (name, owner)]
            if not here and name not in self.state.names():
                self.state.get(name)  # tells which clusters there are
            self.runtime.remove(name, owner, keep_volumes=keep_volumes)
            if not keep_volumes:
                self.state.forget(name)

    def garbage(self, now: datetime) -> tuple[Garbage, ...]:
        """What `gc` may remove; nothing that another process is at work on.

        Of this owner: what has no readable record, what `up` left half-made,
        what expired. Of other owners on the same engine: what expired.
        """
        owner = self.state.owner()
        records = {c.name: c for c in self._recorded()}
        found: dict[tuple[str, str], str] = {}
        for left in self.runtime.leftovers():
            if labels.expired(left.expires, now):
                found[left.cluster, left.owner] = f"expired {left.expires}"
            elif left.owner == owner and left.cluster not in self.state.names():
                found[left.cluster, left.owner] = "has no record in this state directory"
        for name in self.state.names():
            if why := self._why_garbage(name, records.get(name), now):
                found.setdefault((name, owner), why)
        return tuple(
            Garbage(name, who, why)
            for (name, who), why in sorted(found.items())
            if who != owner or not self.state.locked(name)
        )

    def _why_garbage(self, name: str, record: Cluster | None, now: datetime) -> str | None:
        if record is None:
            begun = not (self.state.cluster_dir(name) / "cluster.json").exists()
            return "was left half-made" if begun else "its record cannot be read"
        if record.phase is Phase.CREATING:
            return "was left half-made"
        if record.expires and record.expires <= now:
            return f"expired {record.expires.isoformat(timespec='seconds')}"
        return None

    def collect(self, garbage: Garbage) -> None:
        """Remove one piece of `garbage`."""
        own = garbage.owner == self.state.owner()
        with self.state.lock(garbage.cluster, "gc"):
            # Somebody's `up` may have finished it since it was found.
            if own and garbage.cluster in {c.name for c in self._recorded()}:
                record = self.state.get(garbage.cluster)
                if self._why_garbage(garbage.cluster, record, datetime.now(UTC)) is None:
                    return
            self.runtime.remove(garbage.cluster, garbage.owner, keep_volumes=False)
            if own:
                self.state.forget(garbage.cluster)

    def heal(self, cluster: Cluster) -> tuple[str, ...]:
        """Start what is stopped, thaw what is frozen, join what is cut off, give back what was borrowed.

        Returns the nodes healed.
        """
        with self.state.lock(cluster.name, "heal"):
            folder = self.state.cluster_dir(cluster.name)
            ledger = Ledger(folder)
            healed = heal(self.runtime, cluster, ledger.open_faults())
            ledger.clear()
            returned = self._give_back(cluster)
        return tuple(sorted({*healed, *returned}))

    def _give_back(self, cluster: Cluster) -> tuple[str, ...]:
        """What a backup that goes on has borrowed stays with it."""
        loans = Loans(self.state.cluster_dir(cluster.name))
        try:
            with self.state.lock(cluster.name, "heal", part="backup"):
                return give_back_when_up(cluster, self.runtime, loans, self.clock)
        except Busy:
            return ()

    def observe(self, cluster: Cluster) -> Snapshot:
        """One look at a cluster, with its containers' states where the engine tells them."""
        snapshot = load(cluster.store).observe(cluster, self.containers(cluster))
        found = tuple(cut_off(cluster.name, self.state.cluster_dir(cluster.name)))
        if not found or self.state.locked(cluster.name):
            return snapshot
        return snapshot.plus(*found)

    def containers(self, cluster: Cluster) -> Mapping[str, Container]:
        """The cluster's containers by node."""
        return self.runtime.containers(cluster)


def _anew(name: str) -> str:
    return f"choose another --name, or remove it first: haops down {name} --volumes"


def _place(
    plans: Sequence[NodePlan], subnet: Subnet, ports: Sequence[int], zones: Sequence[str] = ()
) -> tuple[Node, ...]:
    """Give each planned node its fixed address, its host ports and its zone; pure."""
    free = iter(ports)
    nodes = []
    for offset, plan in enumerate(plans):
        host_port = next(free)
        nodes.append(
            Node(
                name=plan.name,
                kind=plan.kind,
                index=plan.index,
                address=str(subnet[_FIRST_HOST + offset]),
                port=plan.port or host_port,
                host_port=host_port,
                admin_host_port=next(free) if plan.has_admin else None,
                params={**plan.params, **_zone(zones, plan.index)},
            )
        )
    return tuple(nodes)


def _zone(zones: Sequence[str], index: int) -> dict[str, str]:
    return {"zone": zones[(index - 1) % len(zones)]} if zones else {}


def worst(snapshots: Sequence[Snapshot]) -> Verdict:
    """The gravest verdict: down, then unknown, then degraded."""
    order = (Verdict.DOWN, Verdict.UNKNOWN, Verdict.DEGRADED)
    present = {s.verdict for s in snapshots}
    return next((v for v in order if v in present), Verdict.HEALTHY)

"""Plans: what is to be done to a standing cluster, decided before anything is done.

A plan is made by a pure function from a snapshot and an intent. It can be
printed (`--dry-run`), carried out step by step (`haops.control.execute`), and
finished or rolled back by another process when the first one dies in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from haops.cluster.snapshot import Lag, Snapshot
from haops.cluster.spec import Cluster
from haops.errors import BadInput, HaopsError
from haops.runtime.port import Runtime

if TYPE_CHECKING:
    from haops.stores.watch import Watch

# One replication buffer's worth: what a replica makes good in a few milliseconds.
MAX_LAG_BYTES: Final = 1024 * 1024


class Operation(StrEnum):
    """What an operator can ask of a standing cluster."""

    SWITCHOVER = "switchover"
    FAILOVER = "failover"
    RESTART = "restart"
    DRAIN = "drain"
    RESUME = "resume"
    REPLACE = "replace"
    REPAIR = "repair"
    DECOMMISSION = "decommission"
    DEMOTE = "demote"
    RESTORE = "restore"


@dataclass(frozen=True, slots=True)
class Intent:
    """An operation and what the operator said about it.

    Args:
        node: The node to act on, or to promote; None leaves the choice to the plan.
        zone: Only nodes of this zone may be promoted.
        max_lag: Bytes that a candidate may be behind the primary.
    """

    operation: Operation
    node: str | None = None
    zone: str | None = None
    max_lag: int = MAX_LAG_BYTES


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that could be promoted, or why it may not be."""

    node: str
    rejected: str | None = None
    lag: Lag | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One act; `verb` is what the conductor knows it by, `text` what people read.

    Args:
        node: The node it acts on; None is the cluster.
    """

    verb: str
    node: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done, in order.

    Args:
        source: The node that gives its role up, or that is worked on.
        target: The node that takes the role.
        risk: What can be lost, and how long clients wait, in plain words.
    """

    cluster: str
    operation: Operation
    source: str | None
    target: str | None
    steps: tuple[Step, ...]
    risk: str
    candidates: tuple[Candidate, ...] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Tools:
    """What carrying a plan out may need besides connections to the servers.

    Args:
        lay_out: Records a changed cluster, renders its files anew, and creates and
            starts the containers that are missing.
        forget_disk: Removes a node's container and its volume.
    """

    runtime: Runtime
    lay_out: Callable[[Cluster], None]
    forget_disk: Callable[[Cluster, str], None]


class Conductor(Protocol):
    """Carries out one plan's steps; keeps its connections in between."""

    def perform(self, step: Step) -> str:
        """Do one step and return what came of it, in a few words.

        Raises:
            StepFailed: It could not be done; the cluster may need `put_back`.
        """
        ...

    def put_back(self, done: Sequence[Step], failed: Step) -> str:
        """Undo what was done, so that the cluster serves as before; says what state it is in now.

        Raises:
            StepFailed: That could not be done either.
        """
        ...


class StepFailed(HaopsError):
    """A step of a plan did not do what it must."""


class NotPlannable(BadInput):
    """The plan that was asked for cannot be made from what the cluster is right now."""


Planner = Callable[[Cluster, Snapshot, Intent], Plan]


@dataclass(frozen=True, slots=True)
class Control:
    """What a store lets an operator do.

    Args:
        plans: How each operation is planned.
        conductor: Opens the connections that a plan's steps need.
        mend: Finishes or rolls back what a dead process left of a plan (as far as its
            journal tells: the plan and the steps that were begun); says what it did.
        instead: For operations that the store does not have: why, and what to use.
        watch: What a guard looks with; None where the store fails over by itself.
    """

    plans: Mapping[Operation, Planner]
    conductor: Callable[[Cluster, Tools, Plan], AbstractContextManager[Conductor]]
    mend: Callable[[Cluster, Tools, Plan, Sequence[Step]], str]
    instead: Mapping[Operation, str] = field(default_factory=dict)
    watch: Callable[[Cluster, Tools], AbstractContextManager[Watch]] | None = None

    def plan(self, cluster: Cluster, snapshot: Snapshot, intent: Intent) -> Plan:
        """The plan for an intent.

        Raises:
            NotPlannable: The store has no such operation, or the snapshot does not allow it.
        """
        if planner := self.plans.get(intent.operation):
            return planner(cluster, snapshot, intent)
        raise NotPlannable(
            f"{cluster.store} has no {intent.operation}",
            hint=self.instead.get(intent.operation, f"there is: {', '.join(sorted(self.plans))}"),
        )


def lacking(candidates: Sequence[Candidate], wanted: str | None) -> NotPlannable:
    """The error for a plan without a candidate, or whose wanted node may not be one."""
    reasons = "\n".join(f"{c.node}: {c.rejected}" for c in candidates if c.rejected)
    fit = ", ".join(c.node for c in candidates if not c.rejected)
    what = f"{wanted} cannot be promoted" if wanted else "no node can be promoted"
    return NotPlannable(what, detail=reasons or None, hint=f"could be: {fit}" if fit else "see: haops status")

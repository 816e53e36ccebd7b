"""What can be done to a node, and its undo."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from haops.cluster.spec import Cluster
from haops.faults.ledger import Ledger, OpenFault
from haops.interrupts import uninterrupted
from haops.runtime.port import ContainerState, Moment, Runtime


class FaultKind(StrEnum):
    """The faults of drills and of the matrix; NONE is the run to compare with."""

    NONE = "none"
    KILL = "kill"
    PAUSE = "pause"
    PARTITION = "partition"


class Undo(StrEnum):
    """What puts a node right, as the ledger has it."""

    START = "start"
    UNPAUSE = "unpause"
    JOIN = "join"


@dataclass(frozen=True, slots=True)
class Description:
    """A fault in words.

    Args:
        act: What is done, as a drill announces it.
        undone: What its undo does.
    """

    act: str
    undo: Undo
    undone: str


DESCRIPTIONS: Final[Mapping[FaultKind, Description]] = {
    FaultKind.KILL: Description("SIGKILL", Undo.START, "container started"),
    FaultKind.PAUSE: Description("freeze", Undo.UNPAUSE, "container thawed"),
    FaultKind.PARTITION: Description("cut off from its sisters", Undo.JOIN, "joined its sisters"),
}


@dataclass(slots=True)
class ActiveFault:
    """A fault between its cause and its undo.

    Args:
        moment: When it acted.
        undone: Whether `undo` has run.
    """

    kind: FaultKind
    node: str
    moment: Moment
    undone: bool = False


class Breaker:
    """Breaks a node of a cluster and puts it right; every fault stands in the ledger before it acts."""

    def __init__(self, runtime: Runtime, cluster: Cluster, ledger: Ledger, run: str) -> None:
        self._runtime = runtime
        self._cluster = cluster
        self._ledger = ledger
        self._run = run

    @contextlib.contextmanager
    def broken(self, kind: FaultKind, node: str) -> Iterator[ActiveFault]:
        """Break it on entry; whatever happens in between, it is undone at the end."""
        described = DESCRIPTIONS[kind]
        entry = self._ledger.register(node, kind.value, described.undo.value, self._run)
        fault = ActiveFault(kind, node, Moment(0, 0))
        try:
            with uninterrupted():
                fault.moment = self._act(kind, node)
            yield fault
        finally:
            with uninterrupted():
                self.undo(fault)
                self._ledger.strike(entry)

    def _act(self, kind: FaultKind, node: str) -> Moment:
        if kind is FaultKind.KILL:
            return self._runtime.kill(self._cluster, node)
        if kind is FaultKind.PAUSE:
            return self._runtime.pause(self._cluster, node)
        sisters = [n.name for n in self._cluster.nodes if n.name != node]
        return self._runtime.cut(self._cluster, node, sisters)

    def undo(self, fault: ActiveFault) -> None:
        """Put the node right; a second call does nothing."""
        if not fault.undone:
            put_right(self._runtime, self._cluster, fault.node, DESCRIPTIONS[fault.kind].undo)
            fault.undone = True


def put_right(runtime: Runtime, cluster: Cluster, node: str, undo: Undo) -> None:
    """Do what undoes a fault; may be repeated."""
    acts: Mapping[Undo, Callable[[Cluster, str], None]] = {
        Undo.START: runtime.start,
        Undo.UNPAUSE: runtime.unpause,
        Undo.JOIN: runtime.join,
    }
    acts[undo](cluster, node)


def heal(runtime: Runtime, cluster: Cluster, faults: tuple[OpenFault, ...]) -> dict[str, str]:
    """Put every node right, from the containers' states and what the ledger still has open.

    Returns:
        What was done, by node.
    """
    done = {}
    for node, container in sorted(runtime.containers(cluster).items()):
        if container.state is ContainerState.PAUSED:
            runtime.unpause(cluster, node)
            done[node] = "thawed"
        elif container.state is ContainerState.STOPPED:
            runtime.start(cluster, node)
            done[node] = "started"
    for node in {f.node for f in faults if f.undo == Undo.JOIN}:
        runtime.join(cluster, node)
        done.setdefault(node, "joined its sisters")
    return done

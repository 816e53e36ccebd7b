"""What can be done to a node, and its undo."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from haops.cluster.spec import Cluster
from haops.faults.ledger import Ledger
from haops.interrupts import uninterrupted
from haops.runtime.port import Death, Runtime


@dataclass(slots=True)
class ActiveFault:
    """A fault between its cause and its undo.

    Args:
        death: When it acted.
        undone: Whether `undo` has run.
    """

    node: str
    death: Death
    undone: bool = False


class Killer:
    """SIGKILL of a node's process; undone by starting it again."""

    def __init__(self, runtime: Runtime, cluster: Cluster, ledger: Ledger, run: str) -> None:
        self._runtime = runtime
        self._cluster = cluster
        self._ledger = ledger
        self._run = run

    @contextlib.contextmanager
    def killed(self, node: str) -> Iterator[ActiveFault]:
        """Kill on entry; whatever happens in between, the node runs again at the end."""
        entry = self._ledger.register(node, "kill", "start", self._run)
        fault = ActiveFault(node, Death(0, 0))
        try:
            with uninterrupted():
                fault.death = self._runtime.kill(self._cluster, node)
            yield fault
        finally:
            with uninterrupted():
                self.undo(fault)
                self._ledger.strike(entry)

    def undo(self, fault: ActiveFault) -> None:
        """Start the node; a second call does nothing."""
        if not fault.undone:
            self._runtime.start(self._cluster, fault.node)
            fault.undone = True

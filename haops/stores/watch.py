"""What an automatic failover sees of a cluster, many times a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from haops.cluster.snapshot import Snapshot
from haops.health.beat import Beat
from haops.health.corroborate import Witness
from haops.stores.plan import Conductor, Plan


class Watch(Protocol):
    """One observer of a cluster's primary; keeps its connections."""

    @property
    def primary(self) -> str:
        """The node that is probed."""
        ...

    @property
    def majorities(self) -> Mapping[str, int]:
        """For each group of witnesses, how many must have lost the primary."""
        ...

    def aim(self, node: str) -> None:
        """Probe another node from now on."""
        ...

    def probe(self, patience_s: float) -> Beat:
        """Ask the primary for a sign of life and wait for it, `patience_s` seconds at most."""
        ...

    def witnesses(self) -> Sequence[Witness]:
        """What the others say of the primary right now."""
        ...

    def reassured(self) -> None:
        """The suspicion is over: what witnesses see is counted anew in the next one."""
        ...

    def glance(self) -> Snapshot:
        """A picture from the probes' own connections: what a failover is planned on."""
        ...

    def survey(self) -> Snapshot:
        """A whole picture, from connections of its own: it may wait for a silent node."""
        ...

    def stray(self, snapshot: Snapshot) -> Plan | None:
        """What to do about a node that takes itself for the primary and is not, if there is one."""
        ...

    def conductor(self, plan: Plan) -> AbstractContextManager[Conductor]:
        """Carries a plan out over the connections that stand already."""
        ...

"""Which ZooKeeper node an action is aimed at."""

from __future__ import annotations

from haops.cluster.snapshot import Role, Snapshot
from haops.stores.base import only


def primary(snapshot: Snapshot) -> str:
    """The server that leads. Raises NoRole."""
    return only(snapshot, Role.LEADER)

"""Which Cassandra node an action is aimed at."""

from __future__ import annotations

from haops.cluster.snapshot import Role, Snapshot
from haops.stores.base import only


def primary(snapshot: Snapshot) -> str:
    """A member that coordinates requests: every member that is up does. Raises NoRole."""
    return only(snapshot, Role.MEMBER)

"""Which Redis node an action is aimed at."""

from __future__ import annotations

from haops.cluster.snapshot import Role, Snapshot
from haops.stores.base import only


def primary(snapshot: Snapshot) -> str:
    """The server that takes writes. Raises NoRole."""
    return only(snapshot, Role.PRIMARY)

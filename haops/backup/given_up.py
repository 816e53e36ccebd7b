"""A restore that nobody will go on with, as its cluster is removed with all data: its backup is kept no longer."""

from __future__ import annotations

from contextlib import suppress

from haops.backup.leases import lessee
from haops.backup.repository import open_repository
from haops.cluster.spec import Cluster
from haops.control.half_restored import HalfRestored
from haops.errors import HaopsError


def let_go(cluster: Cluster, half: HalfRestored) -> None:
    """End the lease, if the repository is where it was; else it runs out by itself."""
    with suppress(HaopsError):
        open_repository(half.repository).end_lease(half.backup, lessee(cluster))

"""A cluster whose disks are all gone begins anew: what its nodes were laid out to take over is nowhere any more."""

from __future__ import annotations

from haops.cluster.spec import Cluster
from haops.runtime.port import Runtime
from haops.stores.base import Store


def afresh(cluster: Cluster, store: Store, runtime: Runtime) -> Cluster:
    """The cluster as it is to be started: with all disks gone, as the store begins one; else as it is."""
    if store.afresh is None:
        return cluster
    mine = (
        left for left in runtime.leftovers() if (left.cluster, left.owner) == (cluster.name, cluster.owner)
    )
    return cluster if any(left.volumes for left in mine) else store.afresh(cluster)

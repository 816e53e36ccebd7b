"""Which nodes a ZooKeeper ensemble has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from haops.cluster.spec import Cluster, NodeKind
from haops.stores.base import NodePlan

PORT: Final = 2181


def layout(nodes: int) -> tuple[NodePlan, ...]:
    """`nodes` voting servers, each with its AdminServer."""
    return tuple(
        NodePlan(f"zookeeper-{i}", NodeKind.SERVER, i, PORT, has_admin=True) for i in range(1, nodes + 1)
    )


def render_context(cluster: Cluster) -> Mapping[str, object]:
    """Nothing beyond the cluster."""
    return {}

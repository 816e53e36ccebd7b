"""Which nodes a Redis replica set has."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from haops.cluster.spec import Cluster, ClusterSpec, Node, NodeKind
from haops.stores.base import NodePlan
from haops.stores.rebuild import is_rebuilt

PORT: Final = 6379
SENTINEL_PORT: Final = 26379
SENTINELS: Final = 3
# The name under which the Sentinels know the primary: the one of Redis' own documentation,
# so that examples from anywhere work as they stand.
SERVICE: Final = "mymaster"


def layout(spec: ClusterSpec) -> tuple[NodePlan, ...]:
    """`spec.nodes` servers, the first of which starts as primary, and three Sentinels."""
    servers = [NodePlan(f"redis-{i}", NodeKind.SERVER, i, PORT) for i in range(1, spec.nodes + 1)]
    sentinels = [
        NodePlan(f"sentinel-{i}", NodeKind.SENTINEL, i, SENTINEL_PORT) for i in range(1, SENTINELS + 1)
    ]
    return (*servers, *sentinels)


def sentinel_id(cluster: Cluster, node: Node) -> str:
    """A Sentinel's run id: 40 hexadecimal digits, fixed before it first starts."""
    return hashlib.sha1(f"{cluster.project}/{node.name}".encode(), usedforsecurity=False).hexdigest()


def render_context(cluster: Cluster) -> Mapping[str, object]:
    """The Sentinels' ids, so that they know each other from the start, and the servers that were built anew."""
    return {
        "sentinel_ids": {n.name: sentinel_id(cluster, n) for n in cluster.sentinels},
        "rebuilt": [n.name for n in cluster.servers if is_rebuilt(n)],
    }

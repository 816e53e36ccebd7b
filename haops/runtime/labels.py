"""The labels on every container, network and volume; all can be found again from them alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from haops.cluster.spec import Cluster, Node

CLUSTER: Final = "haops.cluster"
STORE: Final = "haops.store"
NODE: Final = "haops.node"
OWNER: Final = "haops.owner"
EXPIRES: Final = "haops.expires"

_NEVER = "never"


def cluster_labels(cluster: Cluster) -> dict[str, str]:
    """Labels of what belongs to a whole cluster."""
    return {
        CLUSTER: cluster.name,
        STORE: cluster.store.value,
        OWNER: cluster.owner,
        EXPIRES: cluster.expires.astimezone(UTC).isoformat(timespec="seconds") if cluster.expires else _NEVER,
    }


def node_labels(cluster: Cluster, node: Node) -> dict[str, str]:
    """Labels of what belongs to one node."""
    return cluster_labels(cluster) | {NODE: node.name}


def expired(value: str | None, now: datetime) -> bool:
    """Whether an `haops.expires` label lies in the past; a missing or odd one never expires."""
    if not value or value == _NEVER:
        return False
    try:
        return datetime.fromisoformat(value) <= now
    except (ValueError, TypeError):  # no time at all, or one without a zone
        return False

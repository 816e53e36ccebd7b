"""Which nodes a ZooKeeper ensemble has, and who of them votes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Final

from haops.cluster.spec import Cluster, ClusterSpec, Node, NodeKind
from haops.stores.base import NodePlan

PORT: Final = 2181
# A leader whose quorum port changes gives its role up, see `plan.switchover`: it changes between these.
QUORUM_PORTS: Final = (2888, 2889)
ELECTION_PORT: Final = 3888
_SUPERUSER: Final = "super"
# Marks an observer in its parameters, kept in the cluster's record; a voter has no mark.
_ROLE: Final = "role"
_OBSERVER: Final = "observer"


def layout(spec: ClusterSpec) -> tuple[NodePlan, ...]:
    """`spec.nodes` voting servers, then `spec.observers` without a vote, each with its AdminServer."""
    last = spec.nodes + spec.observers
    return tuple(
        NodePlan(
            f"zookeeper-{i}",
            NodeKind.SERVER,
            i,
            PORT,
            has_admin=True,
            params={_ROLE: _OBSERVER} if i > spec.nodes else {},
        )
        for i in range(1, last + 1)
    )


def is_observer(node: Node) -> bool:
    """Whether a server was laid out to follow without a vote."""
    return node.params.get(_ROLE) == _OBSERVER


def voters(cluster: Cluster) -> tuple[Node, ...]:
    """The servers whose votes make the majority."""
    return tuple(n for n in cluster.servers if not is_observer(n))


def observers(cluster: Cluster) -> tuple[Node, ...]:
    """The servers that only take over what the voters have agreed on."""
    return tuple(n for n in cluster.servers if is_observer(n))


def majority(cluster: Cluster) -> int:
    """Voters that must agree before a write is acknowledged."""
    return len(voters(cluster)) // 2 + 1


def superuser(cluster: Cluster) -> str:
    """User and password that may reconfigure the ensemble: `user:password`.

    The password is the record's random secret: only who may read the record may reconfigure.
    """
    return f"{_SUPERUSER}:{cluster.secret or cluster.owner}"  # older records have none


def render_context(cluster: Cluster) -> Mapping[str, object]:
    """The ports that servers speak to each other on, who has no vote, and the superuser.

    ZooKeeper's digest is the user's name and base64(SHA-1(user:password))
    (DigestAuthenticationProvider.generateDigest).
    """
    digest = hashlib.sha1(superuser(cluster).encode(), usedforsecurity=False).digest()
    return {
        "quorum_port": QUORUM_PORTS[0],
        "election_port": ELECTION_PORT,
        "observers": [n.name for n in observers(cluster)],
        "super_digest": f"{_SUPERUSER}:{base64.b64encode(digest).decode()}",
    }

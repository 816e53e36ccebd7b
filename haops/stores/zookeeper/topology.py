"""Which nodes a ZooKeeper ensemble has."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Final

from haops.cluster.spec import Cluster, NodeKind
from haops.stores.base import NodePlan

PORT: Final = 2181
# A leader whose quorum port changes gives its role up, see `plan.switchover`: it changes between these.
QUORUM_PORTS: Final = (2888, 2889)
ELECTION_PORT: Final = 3888
_SUPERUSER: Final = "super"


def layout(nodes: int) -> tuple[NodePlan, ...]:
    """`nodes` voting servers, each with its AdminServer."""
    return tuple(
        NodePlan(f"zookeeper-{i}", NodeKind.SERVER, i, PORT, has_admin=True) for i in range(1, nodes + 1)
    )


def superuser(cluster: Cluster) -> str:
    """User and password that may reconfigure the ensemble: `user:password`.

    The password is the record's random secret: only who may read the record may reconfigure.
    """
    return f"{_SUPERUSER}:{cluster.secret or cluster.owner}"  # older records have none


def render_context(cluster: Cluster) -> Mapping[str, object]:
    """The ports that servers speak to each other on, and the superuser.

    ZooKeeper's digest is the user's name and base64(SHA-1(user:password))
    (DigestAuthenticationProvider.generateDigest).
    """
    digest = hashlib.sha1(superuser(cluster).encode(), usedforsecurity=False).digest()
    return {
        "quorum_port": QUORUM_PORTS[0],
        "election_port": ELECTION_PORT,
        "super_digest": f"{_SUPERUSER}:{base64.b64encode(digest).decode()}",
    }

"""Which nodes a Cassandra ring has, and the tokens that divide it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from haops.cluster.spec import Cluster, NodeKind
from haops.stores.base import NodePlan

DATACENTER: Final = "dc1"
KEYSPACE: Final = "haops"
MAX_REPLICATION: Final = 3

# Murmur3's token range.
_LOWEST: Final = -(2**63)
_RANGE: Final = 2**64

# JVM and start-up settings for a ring that must stand in seconds on two cores. A real ring waits
# for gossip to settle, for a superuser to be written and for ring changes to spread; this one has
# fixed members and tokens, so there is nothing to wait for.
_JVM_OPTIONS: Final = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-AlwaysPreTouch",
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "-Dcassandra.superuser_setup_delay_ms=0",
    "-Dcassandra.ring_delay_ms=1000",
    # The server measures this for 1.4 s of processor time at each start; it is what it finds on
    # 64-bit JVMs, and enters the accounting of memtables only.
    "-Dcassandra.memtable.row_overhead_size=181",
    # Hints go out within a second after a node's return, not within the default ten.
    "-Dcassandra.hints_dispatch_interval_ms=1000",
)


def tokens(nodes: int) -> tuple[int, ...]:
    """One token a node, dividing the ring into equal parts."""
    return tuple(_LOWEST + _RANGE * i // nodes for i in range(nodes))


def replication(nodes: int) -> int:
    """The replication factor of haops' keyspace: 3, or fewer where there are fewer nodes."""
    return min(MAX_REPLICATION, nodes)


def layout(nodes: int) -> tuple[NodePlan, ...]:
    """`nodes` members; the client port inside equals the published one (see cassandra.yaml.j2)."""
    return tuple(
        NodePlan(f"cassandra-{i}", NodeKind.SERVER, i, None, params={"token": str(token)})
        for i, token in enumerate(tokens(nodes), start=1)
    )


def render_context(cluster: Cluster) -> Mapping[str, object]:
    """The JVM's options."""
    return {"jvm_options": _JVM_OPTIONS}

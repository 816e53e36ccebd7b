"""Which nodes a Cassandra ring has, and the tokens that divide it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from haops.cluster.spec import Cluster, Node, NodeKind
from haops.stores.base import NodePlan

DATACENTER: Final = "dc1"
KEYSPACE: Final = "haops"
MAX_REPLICATION: Final = 3

# Marks in a node's parameters, kept in the cluster's record.
_REPLACED: Final = "replaced"
_FIXED_SEEDS: Final = "seeds"

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


def replaced(cluster: Cluster, name: str) -> Cluster:
    """The cluster with a node that takes its own dead self's place when it starts with an empty disk.

    The mark stays for good: the server ignores the option once it has a disk, and
    a changed environment would make Compose build the container anew.
    """
    nodes = tuple(
        replace(n, params={**n.params, _REPLACED: "yes"}) if n.name == name else n for n in cluster.nodes
    )
    return replace(cluster, nodes=nodes)


def is_replaced(node: Node) -> bool:
    """Whether a node is laid out as `replaced` does it."""
    return _REPLACED in node.params


def without(cluster: Cluster, name: str) -> Cluster:
    """The cluster when a node has left it; the others' tokens, and so their ranges' ends, stay.

    So do their seeds: a changed configuration would make some versions of Compose
    build all of them anew at once. A seed that is gone is asked in vain, no more.
    """
    left = (n for n in cluster.nodes if n.name != name)
    return replace(
        cluster,
        nodes=tuple(
            replace(n, params={**n.params, _FIXED_SEEDS: ",".join(_seeds(cluster, n))}) for n in left
        ),
    )


def holders(cluster: Cluster) -> Mapping[int, tuple[str, ...]]:
    """For each token range, by the token that ends it, the nodes that keep its copies."""
    ring = sorted(cluster.servers, key=lambda n: int(n.params["token"]))
    copies = replication(len(ring))
    return {
        int(first.params["token"]): tuple(ring[(i + step) % len(ring)].name for step in range(copies))
        for i, first in enumerate(ring)
    }


def _seeds(cluster: Cluster, node: Node) -> tuple[str, ...]:
    """Whom a node asks about the ring when it starts: everybody, as anybody may leave.

    A node that is its own seed never bootstraps, so one that replaces is none to itself.
    """
    if fixed := node.params.get(_FIXED_SEEDS):
        return tuple(a for a in fixed.split(",") if a != node.address or not is_replaced(node))
    return tuple(n.address for n in cluster.servers if n is not node or not is_replaced(n))


def render_context(cluster: Cluster) -> Mapping[str, object]:
    """The JVM's options, what a node that replaces one adds to them, and the seeds by node."""
    return {
        "jvm_options": _JVM_OPTIONS,
        "replacements": {
            n.name: (f"-Dcassandra.replace_address_first_boot={n.address}",)
            for n in cluster.servers
            if is_replaced(n)
        },
        "seeds": {n.name: _seeds(cluster, n) for n in cluster.servers},
    }

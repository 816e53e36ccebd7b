"""Which nodes a Cassandra ring has, and the tokens that divide it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from haops.cluster.spec import Cluster, ClusterSpec, Node, NodeKind
from haops.stores.base import NodePlan

# The data centre that clients take for their own; a second one is told from it by its number.
DATACENTER: Final = "dc1"
_DATACENTERS: Final = (DATACENTER, "dc2")
KEYSPACE: Final = "haops"
MAX_REPLICATION: Final = 3

# Marks in a node's parameters, kept in the cluster's record.
_REPLACED: Final = "replaced"
_FIXED_SEEDS: Final = "seeds"
_DC: Final = "dc"  # none where there is only one data centre

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
    # A comparison of copies reads each of them alone, at the level NODE_LOCAL.
    "-Dcassandra.enable_nodelocal_queries=true",
)


def tokens(nodes: int) -> tuple[int, ...]:
    """One token a node, dividing the ring into equal parts."""
    return tuple(_LOWEST + _RANGE * i // nodes for i in range(nodes))


def replication(nodes: int) -> int:
    """The replication factor in a data centre of so many nodes: 3, or fewer where there are fewer."""
    return min(MAX_REPLICATION, nodes)


def layout(spec: ClusterSpec) -> tuple[NodePlan, ...]:
    """`spec.nodes` members; the client port inside equals the published one (see cassandra.yaml.j2).

    Data centres take turns around the ring: so each divides the whole ring into equal parts by
    itself, as its copies are placed without regard to the other's nodes, and no token repeats.
    """

    def params(number: int, token: int) -> Mapping[str, str]:
        own = {} if spec.dcs == 1 else {_DC: _DATACENTERS[(number - 1) % spec.dcs]}
        return {"token": str(token), **own}

    return tuple(
        NodePlan(f"cassandra-{i}", NodeKind.SERVER, i, None, params=params(i, token))
        for i, token in enumerate(tokens(spec.nodes), start=1)
    )


def datacenter(node: Node) -> str:
    """The data centre in which a node stands."""
    return node.params.get(_DC, DATACENTER)


def copies_by_dc(cluster: Cluster) -> Mapping[str, int]:
    """How many copies of each row haops' keyspace keeps in each data centre."""
    members = Counter(datacenter(n) for n in cluster.servers)
    return {dc: replication(members[dc]) for dc in sorted(members)}


def copies_of(cluster: Cluster) -> int:
    """How many copies of each row haops' keyspace keeps."""
    return sum(copies_by_dc(cluster).values())


def quorum(cluster: Cluster) -> int:
    """How many copies QUORUM asks, wherever they stand."""
    return copies_of(cluster) // 2 + 1


def replication_options(cluster: Cluster) -> Mapping[str, str]:
    """The options of haops' keyspace as `system_schema.keyspaces` has them, but for the class."""
    return {dc: str(number) for dc, number in copies_by_dc(cluster).items()}


def replaced(cluster: Cluster, name: str) -> Cluster:
    """The cluster with a node that takes its own dead self's place when it starts with an empty disk.

    The mark stays for good: the server ignores the option once it has a disk, and
    a changed environment would make Compose build the container anew.
    """
    nodes = tuple(
        replace(n, params={**n.params, _REPLACED: "yes"}) if n.name == name else n for n in cluster.nodes
    )
    return replace(cluster, nodes=nodes)


def afresh(cluster: Cluster) -> Cluster:
    """The cluster when all disks are gone: in a ring that begins there is nobody whose place could be taken."""
    nodes = tuple(
        replace(n, params={k: v for k, v in n.params.items() if k != _REPLACED}) for n in cluster.nodes
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
    """For each token range, by the token that ends it, the nodes that keep its copies.

    In each data centre those are the next ones around the ring (NetworkTopologyStrategy; all
    nodes of a data centre stand in one rack).
    """
    ring = sorted(cluster.servers, key=lambda n: int(n.params["token"]))

    def keepers(start: int) -> tuple[str, ...]:
        left, found = dict(copies_by_dc(cluster)), []
        for node in ring[start:] + ring[:start]:
            if left[datacenter(node)]:
                left[datacenter(node)] -= 1
                found.append(node.name)
        return tuple(found)

    return {int(last.params["token"]): keepers(i) for i, last in enumerate(ring)}


def _seeds(cluster: Cluster, node: Node) -> tuple[str, ...]:
    """Whom a node asks about the ring when it starts: everybody, as anybody may leave.

    A node that is its own seed never bootstraps, so one that replaces is none to itself.
    """
    if fixed := node.params.get(_FIXED_SEEDS):
        return tuple(a for a in fixed.split(",") if a != node.address or not is_replaced(node))
    return tuple(n.address for n in cluster.servers if n is not node or not is_replaced(n))


def render_context(cluster: Cluster) -> Mapping[str, object]:
    """The JVM's options, what a node that replaces one adds to them, the seeds and the place of each node."""
    places = {dc: f"rackdc{'' if dc == DATACENTER else f'-{dc}'}.properties" for dc in copies_by_dc(cluster)}
    return {
        "jvm_options": _JVM_OPTIONS,
        "replacements": {
            n.name: (f"-Dcassandra.replace_address_first_boot={n.address}",)
            for n in cluster.servers
            if is_replaced(n)
        },
        "seeds": {n.name: _seeds(cluster, n) for n in cluster.servers},
        "places": places,
        "place_of": {n.name: places[datacenter(n)] for n in cluster.servers},
    }

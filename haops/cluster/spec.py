"""What a cluster is asked to be (`ClusterSpec`) and what it became (`Cluster`, `Node`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from haops.errors import BadInput

LOOPBACK: Final = "127.0.0.1"
MIN_NODES: Final = 1
MAX_NODES: Final = 9
# The role that a node without a vote has in its parameters.
OBSERVER: Final = "observer"
MAX_TTL: Final = timedelta(days=3650)

# A name ends up in a Compose project, in container names and in folder names.
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")


class StoreName(StrEnum):
    """The stores that haops knows."""

    REDIS = "redis"
    ZOOKEEPER = "zookeeper"
    CASSANDRA = "cassandra"


class NodeKind(StrEnum):
    """What a node's process is; its role at a moment stands in the snapshot."""

    SERVER = "server"
    SENTINEL = "sentinel"


class Phase(StrEnum):
    """How far `up` got with a cluster."""

    CREATING = "creating"
    READY = "ready"


def is_name(name: str) -> bool:
    """Whether `name` can be a cluster's name."""
    return bool(_NAME.fullmatch(name)) and not name.endswith("-")


def check_name(name: str) -> str:
    """Return `name` if it can be a cluster's name.

    Raises:
        BadInput: The name is empty, too long or has a character that is not allowed.
    """
    if is_name(name):
        return name
    raise BadInput(
        f"{name!r} cannot be a cluster's name",
        hint="use 1 to 40 of a-z, 0-9 and '-', beginning with a letter and not ending with '-'",
    )


def check_store(name: str) -> StoreName:
    """Return the store called `name`.

    Raises:
        BadInput: There is no such store.
    """
    try:
        return StoreName(name)
    except ValueError:
        raise BadInput(f"unknown store {name!r}", hint=f"allowed: {', '.join(StoreName)}") from None


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What the user asks for.

    Args:
        nodes: Data-bearing servers, 1 to 9; Sentinels come on top.
        image: Image reference instead of the one built here.
        port_base: First host port; None lets haops choose free ones.
        ttl: Age at which `haops gc` may remove the cluster; None is never.
        zones: Where the servers are meant to stand, in turn; only a name to plan with.
        mode: Replication mode; None is the store's default.
        observers: ZooKeeper servers that follow without a vote, on top of `nodes`.
        dcs: Cassandra's data centres, which share `nodes` equally.
    """

    name: str
    store: StoreName
    nodes: int = 3
    image: str | None = None
    port_base: int | None = None
    ttl: timedelta | None = None
    zones: tuple[str, ...] = ()
    mode: str | None = None
    observers: int = 0
    dcs: int = 1

    def __post_init__(self) -> None:
        check_name(self.name)
        if not MIN_NODES <= self.nodes <= MAX_NODES:
            raise BadInput(
                f"{self.nodes} nodes are asked for {self.name}", hint=f"allowed: {MIN_NODES} to {MAX_NODES}"
            )
        self._check_shape()
        if self.port_base is not None and not 1024 <= self.port_base <= 65000:
            raise BadInput(f"port {self.port_base} is out of range", hint="allowed: 1024 to 65000")
        if self.ttl is not None and self.ttl > MAX_TTL:
            raise BadInput(
                f"a ttl of {self.ttl} is too long", hint=f"allowed: up to {MAX_TTL.days}d, or none at all"
            )

    def _check_shape(self) -> None:
        if self.observers and self.store is not StoreName.ZOOKEEPER:
            raise BadInput(f"{self.store} has no observers", hint="--observers is for zookeeper")
        if not 0 <= self.observers <= MAX_NODES - self.nodes:
            raise BadInput(
                f"{self.observers} observers beside {self.nodes} voters",
                hint=f"allowed: 0 to {MAX_NODES - self.nodes}",
            )
        if self.dcs != 1 and self.store is not StoreName.CASSANDRA:
            raise BadInput(f"{self.store} has no data centres", hint="--dcs is for cassandra")
        if self.dcs not in (1, 2):
            raise BadInput(f"{self.dcs} data centres", hint="allowed: 1 or 2")
        if self.nodes % self.dcs:
            even = ", ".join(str(n) for n in range(self.dcs, MAX_NODES + 1, self.dcs))
            raise BadInput(
                f"{self.nodes} nodes cannot be shared equally by {self.dcs} data centres",
                hint=f"allowed for --nodes: {even}",
            )


@dataclass(frozen=True, slots=True)
class Node:
    """One member process of a cluster and both of its addresses.

    Args:
        address: Fixed address on the cluster's own network.
        port: Client port at that address.
        host_port: The same port as published on this machine's loopback.
        admin_host_port: Published port of an administrative server, if the store has one.
        params: What the store fixed for this node at creation (for instance its token).
    """

    name: str
    kind: NodeKind
    index: int
    address: str
    port: int
    host_port: int
    host: str = LOOPBACK
    admin_host_port: int | None = None
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster as it was laid out; the unchanging half of its truth.

    Args:
        secret: Random, for what only haops may do; kept in the record, whose mode is 0600.
    """

    name: str
    store: StoreName
    owner: str
    subnet: str
    image: str
    nodes: tuple[Node, ...]
    created: datetime
    expires: datetime | None
    phase: Phase
    mode: str
    secret: str = field(default="", repr=False)

    @property
    def servers(self) -> tuple[Node, ...]:
        """The data-bearing nodes."""
        return tuple(n for n in self.nodes if n.kind is NodeKind.SERVER)

    @property
    def sentinels(self) -> tuple[Node, ...]:
        """The nodes that only watch; empty where the store has none."""
        return tuple(n for n in self.nodes if n.kind is NodeKind.SENTINEL)

    @property
    def observers(self) -> tuple[Node, ...]:
        """Servers without a vote; empty where the store has none."""
        return tuple(n for n in self.servers if n.params.get("role") == OBSERVER)

    @property
    def dcs(self) -> int:
        """Data centres; 1 where the store knows of none."""
        return len({n.params.get("dc") for n in self.servers}) or 1

    def spec(self) -> ClusterSpec:
        """What would have to be asked for to get such a cluster again."""
        return ClusterSpec(
            self.name,
            self.store,
            nodes=len(self.servers) - len(self.observers),
            mode=self.mode,
            observers=len(self.observers),
            dcs=self.dcs,
        )

    @property
    def project(self) -> str:
        """The Compose project's name; the owner in it keeps two state directories on one engine apart."""
        return f"haops-{self.owner[:6]}-{self.name}"

    def node(self, name: str) -> Node:
        """Return the node called `name`.

        Raises:
            BadInput: The cluster has no such node.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        raise BadInput(
            f"cluster {self.name} has no node {name!r}",
            hint=f"allowed: {', '.join(n.name for n in self.nodes)}",
        )


class AddressMap:
    """Container addresses to host addresses and back: the one place where the two meet.

    Servers speak of themselves by their address on the cluster's network. That
    address cannot be reached where containers sit behind NAT (a virtual
    machine, a remote engine), so clients translate what servers tell them.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._outside = {(n.address, n.port): (n.host, n.host_port) for n in cluster.nodes}
        self._nodes = {n.address: n for n in cluster.nodes} | {
            f"{n.host}:{n.host_port}": n for n in cluster.nodes
        }

    def outside(self, address: str, port: int) -> tuple[str, int]:
        """Where a client on this machine reaches `address:port`; unknown addresses stay as they are."""
        return self._outside.get((address, port), (address, port))

    def node_at(self, address: str, port: int | None = None) -> Node | None:
        """The node that a server or a client means by an address, from inside or outside."""
        return self._nodes.get(f"{address}:{port}") or self._nodes.get(address)

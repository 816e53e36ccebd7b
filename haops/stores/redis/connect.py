"""redis-py as this project uses it: short time-outs, no hidden retries, mapped addresses."""

from __future__ import annotations

from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from haops.cluster.spec import AddressMap, Cluster, Node
from haops.stores.redis.topology import SERVICE


def no_retry() -> Retry:
    """redis-py 8 retries ten times by default, which hides outages and can repeat writes."""
    return Retry(NoBackoff(), 0)


def connect(host: str, port: int, timeout_s: float) -> Redis:
    """A client of one server; every wait is bounded by `timeout_s`."""
    return Redis(
        host=host,
        port=port,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=no_retry(),
        decode_responses=True,
    )


def connect_node(node: Node, timeout_s: float) -> Redis:
    """A client of one node."""
    return connect(node.host, node.host_port, timeout_s)


class MappedSentinel(Sentinel):
    """redis-py's Sentinel client, with the servers' addresses translated for this machine.

    `Sentinel.master_for` and `slave_for` both go through `discover_*`, so an
    application uses this class exactly as it uses its parent.
    """

    def __init__(self, cluster: Cluster, timeout_s: float = 0.2, **kwargs: Any) -> None:
        self._map = AddressMap(cluster)
        quick = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s, "retry": no_retry()}
        super().__init__(  # type: ignore[no-untyped-call]
            [(n.host, n.host_port) for n in cluster.sentinels], sentinel_kwargs=quick, **kwargs
        )

    def discover_master(self, service_name: str = SERVICE) -> tuple[str, int]:
        """Where a client on this machine reaches the primary."""
        address, port = super().discover_master(service_name)  # type: ignore[no-untyped-call]
        return self._map.outside(address, port)

    def discover_slaves(self, service_name: str = SERVICE) -> list[tuple[str, int]]:
        """Where a client on this machine reaches the replicas."""
        found = super().discover_slaves(service_name)  # type: ignore[no-untyped-call]
        return [self._map.outside(address, port) for address, port in found]

"""The Cassandra driver as this project uses it: bounded waits, no retries, no speculation."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from cassandra import ConsistencyLevel, DriverException, OperationTimedOut, RequestExecutionException
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.connection import ConnectionException
from cassandra.policies import (
    ConstantReconnectionPolicy,
    DCAwareRoundRobinPolicy,
    FallthroughRetryPolicy,
    TokenAwarePolicy,
)
from cassandra.protocol import ErrorMessage

from haops.cluster.spec import MAX_NODES, Node
from haops.stores.cassandra.topology import DATACENTER

# The driver's default grows to ten minutes, which would add to any outage.
_RECONNECT_S: Final = 0.2
# Servers list it with each connection: haops' own are not waited for when a node restarts.
APPLICATION: Final = "haops"
_PROTOCOL: Final = 5

# A frame of the native protocol: version, flags, stream, opcode OPTIONS, no body.
_OPTIONS_FRAME: Final = b"\x05\x00\x00\x00\x05\x00\x00\x00\x00"
_SUPPORTED: Final = 0x06

# What servers answer with (overloaded, bootstrapping, ...) is an ErrorMessage, and a connection that
# ends under a request a ConnectionException, neither of which any other covers.
TROUBLE: Final = (
    ConnectionException,
    DriverException,
    ErrorMessage,
    OperationTimedOut,
    RequestExecutionException,
    NoHostAvailable,
    OSError,
)

# The driver logs each connection that it loses; a drill loses them on purpose.
logging.getLogger("cassandra").setLevel(logging.CRITICAL)


@contextmanager
def connect(
    nodes: Sequence[Node], *, timeout_s: float, level: int = ConsistencyLevel.QUORUM, metadata: bool = True
) -> Iterator[Any]:
    """A session that knows the whole ring.

    Nodes tell clients the published port on loopback as their address, so that
    contact points and discovered hosts are the same hosts.

    Args:
        nodes: Contact points.
        timeout_s: Patience with a connection and with a request.
        metadata: Whether tokens and schema are read, as token-aware routing needs.
    """
    profile = ExecutionProfile(
        # Coordinators of the other data centre come last, but can be had: without connections to
        # them no request could be aimed at one, and the loss of the own data centre were the end.
        load_balancing_policy=TokenAwarePolicy(
            DCAwareRoundRobinPolicy(local_dc=DATACENTER, used_hosts_per_remote_dc=MAX_NODES),
            # By itself the driver asks a row's first copy only, as long as that is up: writes and reads
            # would meet at one node, and a mode that lets them miss each other would look as if it did not.
            shuffle_replicas=True,
        ),
        retry_policy=FallthroughRetryPolicy(),
        consistency_level=level,
        request_timeout=timeout_s,
    )
    driver = Cluster(
        contact_points=[(n.host, n.host_port) for n in nodes],
        protocol_version=_PROTOCOL,
        application_name=APPLICATION,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=ConstantReconnectionPolicy(_RECONNECT_S, max_attempts=None),
        connect_timeout=timeout_s,
        control_connection_timeout=timeout_s,
        schema_metadata_enabled=metadata,
        token_metadata_enabled=metadata,
        idle_heartbeat_interval=2,
        idle_heartbeat_timeout=2,
    )
    try:
        # Without waiting, a query aimed at one host may come before its connection and count it as down.
        yield driver.connect(wait_for_all_pools=True)
    finally:
        driver.shutdown()


def answers_options(node: Node, timeout_s: float) -> bool:
    """Whether a node answers the cheapest request of the protocol, as a driver's heartbeat sends it.

    Raises:
        OSError: No connection, or silence.
    """
    with socket.create_connection((node.host, node.host_port), timeout=timeout_s) as link:
        link.sendall(_OPTIONS_FRAME)
        header = link.recv(9)
    return len(header) == 9 and header[4] == _SUPPORTED

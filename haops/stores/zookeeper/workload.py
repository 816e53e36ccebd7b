"""A drill's load on ZooKeeper: `create` of unique nodes, `get` of nodes that were acknowledged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from kazoo.client import KazooClient
from kazoo.exceptions import (
    AuthFailedError,
    BadVersionError,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
)
from kazoo.handlers.threading import KazooTimeoutError

from haops.cluster.spec import Cluster
from haops.errors import ClusterUnhealthy
from haops.stores.base import OperationFailed, OutcomeUnknown
from haops.stores.zookeeper.connect import connect

_CONNECT_S: Final = 10.0
# The server answered, and its answer is no.
_REFUSED: Final = (NoNodeError, NodeExistsError, NoAuthError, AuthFailedError, BadVersionError)


class ZooKeeperClient:
    """One application thread with a session of its own."""

    def __init__(self, client: KazooClient, parent: str, timeout_s: float) -> None:
        self._client = client
        self._parent = parent
        self._timeout_s = timeout_s

    def write(self, key: int) -> None:
        """Create a node; kazoo does not repeat it by itself."""
        try:
            self._client.create_async(f"{self._parent}/{key}", b"").get(timeout=self._timeout_s)
        except _REFUSED as error:
            raise OperationFailed(type(error).__name__) from error
        except (KazooException, KazooTimeoutError) as error:
            raise OutcomeUnknown(type(error).__name__) from error

    def read(self, key: int) -> bool:
        """A plain read at the server that this session is connected to."""
        try:
            self._client.get_async(f"{self._parent}/{key}").get(timeout=self._timeout_s)
        except NoNodeError:
            return False
        except (KazooException, KazooTimeoutError) as error:
            raise OperationFailed(type(error).__name__) from error
        return True

    def close(self) -> None:
        """End the session."""
        with contextlib.suppress(KazooException, KazooTimeoutError):
            self._client.stop()
        self._client.close()


class ZooKeeperWorkload:
    """Unique nodes, one parent a client, so that no listing outgrows a packet."""

    def __init__(self, cluster: Cluster, run: str, timeout_s: float) -> None:
        self._cluster = cluster
        self._root = f"/haops-{run}"
        self._timeout_s = timeout_s

    def prepare(self, clients: int) -> None:
        """Make the parents."""
        with self._session() as client:
            for number in range(clients):
                client.ensure_path(self._parent(number))

    def client(self, number: int) -> ZooKeeperClient:
        """A session that prefers a server of its own, so that clients spread over the ensemble."""
        servers = self._cluster.servers
        start = number % len(servers)
        client = connect(servers[start:] + servers[:start])
        client.start(timeout=_CONNECT_S)
        return ZooKeeperClient(client, self._parent(number), self._timeout_s)

    def close(self) -> None:
        """Nothing is shared."""

    def read_back(self, clients: int) -> set[int]:
        """List every parent after a `sync`, which brings the server up to the leader's state."""
        found: set[int] = set()
        with self._session() as client:
            for number in range(clients):
                client.sync(self._parent(number))
                found.update(int(name) for name in client.get_children(self._parent(number)))
        return found

    def clean(self) -> None:
        """Delete the run's nodes, many requests in flight at a time."""
        with self._session() as client:
            for number in range(client_count := len(client.get_children(self._root))):
                parent = self._parent(number)
                pending = [client.delete_async(f"{parent}/{name}") for name in client.get_children(parent)]
                for request in pending:
                    with contextlib.suppress(NoNodeError):
                        request.get(timeout=_CONNECT_S)
                client.delete(parent)
            if client_count:
                client.delete(self._root)

    def _parent(self, number: int) -> str:
        return f"{self._root}/{number}"

    @contextlib.contextmanager
    def _session(self) -> Iterator[KazooClient]:
        client = connect(self._cluster.servers)
        try:
            client.start(timeout=_CONNECT_S)
            yield client
        except (KazooException, KazooTimeoutError) as error:
            words = f"{type(error).__name__} {error}".strip()
            raise ClusterUnhealthy("the ensemble broke off the drill's own session", detail=words) from error
        finally:
            client.stop()
            client.close()

"""A drill's load on ZooKeeper: `create` of unique nodes, `get` of nodes that were acknowledged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

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
                client.ensure_path_async(self._parent(number)).get(timeout=_CONNECT_S)

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
                parent = self._parent(number)
                client.sync_async(parent).get(timeout=_CONNECT_S)
                names = client.get_children_async(parent).get(timeout=_CONNECT_S)
                found.update(int(name) for name in names)
        return found

    def clean(self) -> None:
        """Delete the run's nodes, many requests in flight at a time; what is not there is fine."""

        def wait_for(requests: list[Any]) -> None:
            for request in requests:
                with contextlib.suppress(NoNodeError):
                    request.get(timeout=_CONNECT_S)

        with self._session() as client:
            try:
                numbers = client.get_children_async(self._root).get(timeout=_CONNECT_S)
            except NoNodeError:
                return
            for parent in (f"{self._root}/{number}" for number in numbers):
                names = client.get_children_async(parent).get(timeout=_CONNECT_S)
                wait_for([client.delete_async(f"{parent}/{name}") for name in names])
                wait_for([client.delete_async(parent)])
            wait_for([client.delete_async(self._root)])

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

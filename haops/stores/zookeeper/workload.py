"""A drill's load on ZooKeeper: `create` of elements, `set` of registers, `get` as the mode says."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
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

from haops.cluster.spec import Cluster, Node
from haops.errors import ClusterUnhealthy
from haops.stores.base import FIRST_ELEMENT, REGISTERS, OperationFailed, OutcomeUnknown
from haops.stores.zookeeper.connect import connect
from haops.stores.zookeeper.modes import way
from haops.stores.zookeeper.topology import observers, voters

_CONNECT_S: Final = 10.0
# The server answered, and its answer is no.
_REFUSED: Final = (NoNodeError, NodeExistsError, NoAuthError, AuthFailedError, BadVersionError)


class _Whereabouts:
    """The server that a session is connected to.

    kazoo does not tell, so its socket is asked; once for each change of the
    session's state, which a listener may note but must not look into.
    """

    def __init__(self, client: KazooClient, names: Mapping[tuple[str, int], str]) -> None:
        self._client = client
        self._names = names
        self._fresh = False
        self._name = ""
        client.add_listener(self._changed)

    def _changed(self, state: object) -> None:
        self._fresh = False

    @property
    def name(self) -> str:
        """The server's name; between two connections, the last one's."""
        if not self._fresh:
            self._fresh = True  # before the look: a change during it must not be forgotten
            try:
                peer = self._client._connection._socket.getpeername()  # noqa: SLF001 - see above
            except (AttributeError, OSError):  # no connection at this moment
                self._fresh = False
            else:
                self._name = self._names.get(peer[:2], "")
        return self._name


class ZooKeeperClient:
    """One application thread with a session of its own."""

    def __init__(
        self,
        client: KazooClient,
        root: str,
        timeout_s: float,
        *,
        syncs: bool = False,
        names: Mapping[tuple[str, int], str] | None = None,
    ) -> None:
        self._client = client
        self._root = root
        self._timeout_s = timeout_s
        self._syncs = syncs
        self._where = _Whereabouts(client, names or {})

    @property
    def node(self) -> str:
        """The server of the session."""
        return self._where.name

    def write(self, key: int, value: int) -> None:
        """Create an element, or set a register whatever it holds; kazoo does not repeat either by itself."""
        path, data = path_of(self._root, key), str(value).encode()
        send = self._client.set_async if key < FIRST_ELEMENT else self._client.create_async
        try:
            send(path, data).get(timeout=self._timeout_s)
        except _REFUSED as error:
            raise OperationFailed(type(error).__name__) from error
        except (KazooException, KazooTimeoutError) as error:
            raise OutcomeUnknown(type(error).__name__) from error

    def read(self, key: int) -> int | None:
        """A read at the server of this session, behind a `sync` if the mode wants one.

        A server answers one session's requests in their order, so the read need not wait for
        the answer of the sync before it is sent.
        """
        path, end_s = path_of(self._root, key), time.monotonic() + self._timeout_s
        try:
            asked = [self._client.sync_async(path)] if self._syncs else []
            asked.append(self._client.get_async(path))
            for request in asked:
                answer = request.get(timeout=max(end_s - time.monotonic(), 0.001))
        except NoNodeError:
            return None
        except (KazooException, KazooTimeoutError) as error:
            raise OperationFailed(type(error).__name__) from error
        data, _ = answer
        return int(data) if data else None

    def close(self) -> None:
        """End the session."""
        with contextlib.suppress(KazooException, KazooTimeoutError):
            self._client.stop()
        self._client.close()


def path_of(root: str, key: int) -> str:
    """A register's node, or an element's under its client's own parent."""
    return f"{root}/r{key}" if key < FIRST_ELEMENT else f"{root}/{key % FIRST_ELEMENT}/{key}"


class ZooKeeperWorkload:
    """Registers, and unique nodes with one parent a client, so that no listing outgrows a packet."""

    def __init__(self, cluster: Cluster, run: str, timeout_s: float) -> None:
        self._cluster = cluster
        self._root = f"/haops-{run}"
        self._timeout_s = timeout_s
        self._way = way(cluster.mode)

    def prepare(self, clients: int) -> None:
        """Make the parents, and the registers with nothing in them."""
        paths = [self._parent(number) for number in range(clients)]
        paths += [path_of(self._root, key) for key in range(REGISTERS)]
        with self._session() as client:
            for path in paths:
                client.ensure_path_async(path).get(timeout=_CONNECT_S)

    def client(self, number: int) -> ZooKeeperClient:
        """A session that prefers a server of its own, so that clients spread over the ensemble."""
        names = {(n.host, n.host_port): n.name for n in self._cluster.servers}
        client = connect(self._hosts(number))
        made = ZooKeeperClient(client, self._root, self._timeout_s, syncs=self._way.syncs, names=names)
        client.start(timeout=_CONNECT_S)
        return made

    def _hosts(self, number: int) -> tuple[Node, ...]:
        """The servers in the order in which a client tries them; voters serve where no observer does."""
        voting = _turned(voters(self._cluster), number)
        watching = _turned(observers(self._cluster), number) if self._way.at_observers else ()
        return watching + voting

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
        client = connect(voters(self._cluster))
        try:
            client.start(timeout=_CONNECT_S)
            yield client
        except (KazooException, KazooTimeoutError) as error:
            words = f"{type(error).__name__} {error}".strip()
            raise ClusterUnhealthy("the ensemble broke off the drill's own session", detail=words) from error
        finally:
            client.stop()
            client.close()


def _turned(nodes: tuple[Node, ...], number: int) -> tuple[Node, ...]:
    """The same nodes, beginning with another one for each number."""
    start = number % len(nodes) if nodes else 0
    return nodes[start:] + nodes[:start]

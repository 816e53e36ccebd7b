"""kazoo's lock recipe: an ephemeral sequential node, and the lowest number holds the lock."""

from __future__ import annotations

import contextlib
from typing import Any, Final

from kazoo.exceptions import KazooException, LockTimeout
from kazoo.handlers.threading import KazooTimeoutError

from haops.cluster.spec import Cluster
from haops.errors import ClusterUnhealthy
from haops.stores.base import OutcomeUnknown
from haops.stores.lock import LockRecipe
from haops.stores.zookeeper.connect import connect
from haops.stores.zookeeper.topology import voters

_CONNECT_S: Final = 10.0
_DIGITS: Final = 10  # of a sequential node's number


class ZooKeeperLock:
    """A session of its own; the node's sequence number is the fencing token."""

    def __init__(self, cluster: Cluster, run: str, number: int, timeout_s: float) -> None:
        servers = voters(cluster)
        start = number % len(servers)
        self._client = connect(servers[start:] + servers[:start])
        try:
            self._client.start(timeout=_CONNECT_S)
        except KazooTimeoutError as error:
            self._client.close()
            raise ClusterUnhealthy(
                f"a client of {cluster.name} could not connect", hint=f"see: haops status {cluster.name}"
            ) from error
        self._path = f"/haops-{run}/lock"
        self._timeout_s = timeout_s
        self._lock: Any = None
        self.node = ""
        self.token: int | None = None

    def acquire(self) -> bool:
        """Queue, and give up after this client's patience."""
        lock = self._client.Lock(self._path, str(id(self)))
        try:
            if not lock.acquire(timeout=self._timeout_s):
                return False
        except LockTimeout:
            return False
        except (KazooException, KazooTimeoutError) as error:
            raise OutcomeUnknown(type(error).__name__) from error
        self._lock = lock
        self.token = int(str(lock.node)[-_DIGITS:])
        return True

    def release(self) -> None:
        """Delete the node; a session that ended has done so by itself."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        try:
            lock.release()
        except (KazooException, KazooTimeoutError) as error:
            raise OutcomeUnknown(type(error).__name__) from error

    def close(self) -> None:
        """End the session, and with it whatever is held."""
        with contextlib.suppress(KazooException, KazooTimeoutError):
            self._client.stop()
        self._client.close()


LOCK: Final = LockRecipe(
    words="kazoo's Lock: an ephemeral sequential node; the lowest number holds the lock and is its token",
    promise="one holder by the ensemble's count; a client that was cut off may believe so for longer than its "
    "session lives, which is what the token is for",
    client=ZooKeeperLock,
)

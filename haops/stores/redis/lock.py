"""The lock that everybody writes first: SET NX PX at the primary, and a delete by the owner alone.

Redis' documentation has it as the pattern for a single instance. With asynchronous
replication behind it, it is expected to fail: that is what the drill shows.
"""

from __future__ import annotations

import uuid
from typing import Final

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from haops.cluster.spec import Cluster
from haops.stores.base import OperationFailed, OutcomeUnknown
from haops.stores.lock import LockRecipe
from haops.stores.redis.connect import MappedSentinel, connect
from haops.stores.redis.topology import SERVICE

_LIFE_MS: Final = 2000
_DELETE_OWN: Final = (
    "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"
)


class RedisLock:
    """Half of the clients keep a connection until it fails, as pools do; half ask the Sentinels every
    time, as jobs do that have just been started.
    """

    def __init__(self, cluster: Cluster, run: str, number: int, timeout_s: float) -> None:
        self._sentinel = MappedSentinel(cluster, timeout_s=min(timeout_s, 0.2))
        self._names = {(n.host, n.host_port): n.name for n in cluster.servers}
        self._clients: dict[tuple[str, int], Redis] = {}
        self._key = f"haops:{run}:lock"
        self._timeout_s = timeout_s
        self._keeps = number % 2 == 0
        self._kept: Redis | None = None
        self._held: tuple[Redis, str, str] | None = None
        self.node = ""

    @property
    def token(self) -> int | None:
        """There is none: nothing in this recipe counts."""
        return None

    def acquire(self) -> bool:
        """SET NX PX with a value of its own."""
        owner = uuid.uuid4().hex
        client = self._primary()
        try:
            taken = client.set(self._key, owner, nx=True, px=_LIFE_MS)
        except ResponseError as error:
            self._kept = None
            raise OperationFailed(type(error).__name__) from error
        except RedisError as error:
            self._kept = None
            raise OutcomeUnknown(type(error).__name__) from error
        if taken:
            self._held = client, owner, self.node
        return bool(taken)

    def release(self) -> None:
        """Delete the key where it was taken, if it is still this client's."""
        if self._held is None:
            return
        (client, owner, self.node), self._held = self._held, None
        try:
            client.eval(_DELETE_OWN, 1, self._key, owner)
        except ResponseError as error:
            raise OperationFailed(type(error).__name__) from error
        except RedisError as error:
            raise OutcomeUnknown(type(error).__name__) from error

    def _primary(self) -> Redis:
        if self._kept is not None:
            return self._kept
        try:
            address = self._sentinel.discover_master(SERVICE)
        except RedisError as error:
            raise OperationFailed(type(error).__name__) from error
        self.node = self._names.get(address, "")
        if address not in self._clients:
            self._clients[address] = connect(*address, self._timeout_s)
        if self._keeps:
            self._kept = self._clients[address]
        return self._clients[address]

    def close(self) -> None:
        """Close every connection."""
        for client in (*self._clients.values(), *self._sentinel.sentinels):
            client.close()


LOCK: Final = LockRecipe(
    words=f"SET key owner NX PX {_LIFE_MS} at the primary that the Sentinels name; deleted by its owner",
    promise="none across a failover: a lock that was not yet replicated is free at the new primary",
    client=RedisLock,
)

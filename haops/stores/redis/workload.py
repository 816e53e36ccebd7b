"""A drill's load on Redis: SET at the primary that the Sentinels name, confirmed and read as the mode says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from haops.cluster.spec import Cluster
from haops.errors import ClusterUnhealthy
from haops.stores.base import FIRST_ELEMENT, OperationFailed, OutcomeUnknown
from haops.stores.redis.connect import MappedSentinel, connect
from haops.stores.redis.modes import way
from haops.stores.redis.topology import SERVICE

_BATCH: Final = 1000
_READ_BACK_S: Final = 10.0


def says_primary(client: Redis) -> bool:
    """Whether the server calls itself the primary."""
    return client.role()[0] in ("master", b"master")


class _Kept:
    """A connection to the server of one role: made when first needed, dropped at the first trouble."""

    def __init__(self, find: Callable[[], tuple[Redis, str]]) -> None:
        self._find = find
        self._client: Redis | None = None
        self.node = ""

    def get(self) -> Redis:
        """The connection; what fails here was never sent. Raises OperationFailed."""
        if self._client is None:
            try:
                self._client, self.node = self._find()
            except RedisError as error:
                raise OperationFailed(type(error).__name__) from error
        return self._client

    def drop(self) -> None:
        """Let the connection go."""
        if self._client is not None:
            self._client.close()
            self._client = None


class RedisClient:
    """One application thread, with a connection to the primary and, in some modes, one to a replica."""

    def __init__(self, cluster: Cluster, prefix: str, timeout_s: float, number: int = 0) -> None:
        self._sentinel = MappedSentinel(cluster, timeout_s=min(timeout_s, 0.2))
        self._names = {(n.host, n.host_port): n.name for n in cluster.servers}
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._number = number
        self._way = way(cluster.mode)
        self._copies = self._way.confirmations(cluster)
        self._primary = _Kept(self._find_primary)
        self._readable = _Kept(self._find_replica) if self._way.reads_replicas else self._primary
        self.node = ""

    def write(self, key: int, value: int) -> None:
        """SET, and the confirmations of the mode in the same round trip."""
        client = self._primary.get()
        self.node = self._primary.node
        try:
            confirmed = self._set(client, f"{self._prefix}{key}", value)
        except ResponseError as error:  # READONLY, NOREPLICAS, LOADING: the server refused
            self._primary.drop()
            raise OperationFailed(type(error).__name__) from error
        except RedisError as error:  # sent, perhaps executed, not answered
            self._primary.drop()
            raise OutcomeUnknown(type(error).__name__) from error
        if not confirmed:
            raise OutcomeUnknown("NotConfirmed")  # it is there, and may stay or be lost

    def _set(self, client: Redis, key: str, value: int) -> bool:
        """Whether copies enough confirmed it in time."""
        if not self._copies:
            client.set(key, value)
            return True
        # A little less than the client's own patience: the count is wanted, not a time-out.
        patience_ms = max(int(self._timeout_s * 900), 1)
        both = client.pipeline(transaction=False)
        both.set(key, value)
        if self._way.on_disk:
            both.waitaof(1, self._copies, patience_ms)
        else:
            both.wait(self._copies, patience_ms)
        counts = both.execute()[1]
        if not self._way.on_disk:
            return int(counts) >= self._copies
        here, there = counts
        return int(here) >= 1 and int(there) >= self._copies

    def read(self, key: int) -> int | None:
        """GET where the mode reads."""
        client = self._readable.get()
        self.node = self._readable.node
        try:
            found = client.get(f"{self._prefix}{key}")
        except RedisError as error:
            self._readable.drop()
            raise OperationFailed(type(error).__name__) from error
        return None if found is None else int(str(found))

    def _find_primary(self) -> tuple[Redis, str]:
        # A demoted primary still answers: only a server that says it is the primary will do.
        return self._connected(*self._sentinel.discover_master(SERVICE), primary=True)

    def _find_replica(self) -> tuple[Redis, str]:
        found = sorted(self._sentinel.discover_slaves(SERVICE))
        if not found:
            raise OperationFailed("NoReplica")
        return self._connected(*found[self._number % len(found)], primary=False)

    def _connected(self, host: str, port: int, *, primary: bool) -> tuple[Redis, str]:
        fresh = connect(host, port, self._timeout_s)
        try:
            if says_primary(fresh) is not primary:
                raise OperationFailed("NotPrimary" if primary else "NotReplica")
        except BaseException:
            fresh.close()
            raise
        return fresh, self._names.get((host, port), "")

    def close(self) -> None:
        """Close the connections to the servers and to the Sentinels."""
        self._primary.drop()
        self._readable.drop()
        for client in self._sentinel.sentinels:
            client.close()


class RedisWorkload:
    """Unique keys under one prefix a run."""

    def __init__(self, cluster: Cluster, run: str, timeout_s: float) -> None:
        self._cluster = cluster
        self._prefix = f"haops:{run}:"
        self._timeout_s = timeout_s

    def prepare(self, clients: int) -> None:
        """Keys need no preparation."""

    def client(self, number: int) -> RedisClient:
        """A client with connections of its own."""
        return RedisClient(self._cluster, self._prefix, self._timeout_s, number)

    def close(self) -> None:
        """Nothing is shared."""

    def read_back(self, clients: int) -> set[int]:
        """Scan the primary; the Sentinels must name one that says so itself."""
        start = len(self._prefix)
        with self._at_primary("read-back") as client:
            keys = (int(key[start:]) for key in client.scan_iter(f"{self._prefix}*", count=_BATCH))
            return {key for key in keys if key >= FIRST_ELEMENT}

    def clean(self) -> None:
        """Unlink the run's keys."""
        with self._at_primary("clean-up") as client:
            batch: list[str] = []
            for key in client.scan_iter(f"{self._prefix}*", count=_BATCH):
                batch.append(key)
                if len(batch) == _BATCH:
                    client.unlink(*batch)
                    batch.clear()
            if batch:
                client.unlink(*batch)

    @contextmanager
    def _at_primary(self, purpose: str) -> Iterator[Redis]:
        """A patient connection to the server that the Sentinels name and that says so itself."""
        try:
            host, port = MappedSentinel(self._cluster, timeout_s=1.0).discover_master(SERVICE)
            with connect(host, port, _READ_BACK_S) as client:
                if not says_primary(client):
                    raise ClusterUnhealthy(f"the Sentinels name {host}:{port}, which is no primary")
                yield client
        except RedisError as error:
            raise ClusterUnhealthy(f"the primary broke off the {purpose}", detail=str(error)) from error

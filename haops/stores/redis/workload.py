"""A drill's load on Redis: SET of unique keys at the primary that the Sentinels name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from haops.cluster.spec import Cluster
from haops.errors import ClusterUnhealthy
from haops.stores.base import OperationFailed, OutcomeUnknown
from haops.stores.redis.connect import MappedSentinel, connect
from haops.stores.redis.topology import SERVICE

_BATCH: Final = 1000
_READ_BACK_S: Final = 10.0


def says_primary(client: Redis) -> bool:
    """Whether the server calls itself the primary."""
    return client.role()[0] in ("master", b"master")


class RedisClient:
    """One application thread: a connection to the primary, dropped at the first trouble."""

    def __init__(self, cluster: Cluster, prefix: str, timeout_s: float) -> None:
        self._sentinel = MappedSentinel(cluster, timeout_s=min(timeout_s, 0.2))
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._connection: Redis | None = None

    def write(self, key: int) -> None:
        """SET of a key of its own."""
        client = self._primary()
        try:
            client.set(f"{self._prefix}{key}", key)
        except ResponseError as error:  # READONLY, NOREPLICAS, LOADING: the server refused
            self._drop()
            raise OperationFailed(type(error).__name__) from error
        except RedisError as error:  # sent, perhaps executed, not answered
            self._drop()
            raise OutcomeUnknown(type(error).__name__) from error

    def read(self, key: int) -> bool:
        """GET at the primary."""
        client = self._primary()
        try:
            return client.get(f"{self._prefix}{key}") is not None
        except RedisError as error:
            self._drop()
            raise OperationFailed(type(error).__name__) from error

    def _primary(self) -> Redis:
        """The connection; what fails here was never sent."""
        if self._connection is None:
            try:
                host, port = self._sentinel.discover_master(SERVICE)
                fresh = connect(host, port, self._timeout_s)
                try:
                    # A demoted primary still answers: only a server that says it is the primary will do.
                    if not says_primary(fresh):
                        raise OperationFailed("NotPrimary")
                except BaseException:
                    fresh.close()
                    raise
                self._connection = fresh
            except RedisError as error:
                raise OperationFailed(type(error).__name__) from error
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """Close the connections to the primary and to the Sentinels."""
        self._drop()
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
        return RedisClient(self._cluster, self._prefix, self._timeout_s)

    def close(self) -> None:
        """Nothing is shared."""

    def read_back(self, clients: int) -> set[int]:
        """Scan the primary; the Sentinels must name one that says so itself."""
        start = len(self._prefix)
        with self._at_primary("read-back") as client:
            return {int(key[start:]) for key in client.scan_iter(f"{self._prefix}*", count=_BATCH)}

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

"""PING as a heartbeat; offsets, links and a hash over the same keys as a comparison of copies."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from redis import Redis
from redis.exceptions import RedisError

from haops.cluster.spec import Cluster, Node
from haops.health.redundancy import CopyReading
from haops.parallel import ask_all
from haops.stores.base import Probe, SocketProbe, first_line
from haops.stores.redis.connect import no_retry

SAMPLE: Final = 64
# Values above are not read: a sample must not hold the server up.
_LARGEST_B: Final = 65_536
_ANSWER_S: Final = 0.2

# Sets and hashes have no order of their own, and `DUMP` shows each server's private one.
_READS: Final[Mapping[bytes, tuple[str, tuple[str, ...]]]] = {
    b"string": ("GET", ()),
    b"list": ("LRANGE", ("0", "-1")),
    b"set": ("SMEMBERS", ()),
    b"hash": ("HGETALL", ()),
    b"zset": ("ZRANGE", ("0", "-1", "WITHSCORES")),
    b"stream": ("XRANGE", ("-", "+")),
}
# Keys and their types. Bytes all along: a value need not be text.
Sample = tuple[tuple[bytes, bytes], ...]


def probe(node: Node) -> Probe:
    """PING, of servers and Sentinels alike; an error (`LOADING`, `NOAUTH`) is an answer, too."""
    return SocketProbe(node, b"PING\r\n", lambda answer: answer.endswith(b"\r\n"), _against)


def _against(answer: bytes) -> str:
    return first_line(answer[1:].decode("utf-8", errors="replace")) if answer[:1] == b"-" else ""


def _client(node: Node) -> Redis:
    return Redis(
        host=node.host,
        port=node.host_port,
        socket_timeout=_ANSWER_S,
        socket_connect_timeout=_ANSWER_S,
        retry=no_retry(),
    )


class RedisCopies:
    """Position and digest in one transaction at each server, so that they belong together."""

    def __init__(self, cluster: Cluster) -> None:
        self._clients = {n.name: _client(n) for n in cluster.servers}
        self._sample: Sample = ()

    def read(self) -> tuple[CopyReading, ...]:
        """Offset, link and digest of each server that answers; Sentinels keep no data."""
        if not self._sample:
            self._sample = self._choose()
        readings = ask_all(self._one, self._clients.items())
        return tuple(sorted((r for r in readings if r is not None), key=lambda r: r.at_ns))

    def _one(self, named: tuple[str, Redis]) -> CopyReading | None:
        name, client = named
        try:
            before, *values, after = _at_once(client, self._sample)
        except (RedisError, OSError):
            return None
        if isinstance(before, Exception) or isinstance(after, Exception):  # INFO is not allowed
            return None
        link = before.get("master_link_status", "up") == "up"
        # A key that expires while it is read moves the offset: such values belong to neither position.
        still = _position(before) == _position(after)
        found = digest(self._sample, values) if still and self._sample else None
        return CopyReading(name, time.monotonic_ns(), _position(before), found, link)

    def _choose(self) -> Sample:
        """Keys of the primary that do not expire; none as long as no primary answers."""
        for client in self._clients.values():
            try:
                if client.info("replication").get("role") == "master":
                    return choose(client)
            except (RedisError, OSError):
                continue
        return ()

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.close()


def choose(client: Any) -> Sample:
    """Keys and their types: all of a small database, else random ones; at most 64."""
    if client.dbsize() <= SAMPLE:
        found = client.scan(0, count=2 * SAMPLE)[1]
    else:
        with client.pipeline(transaction=False) as pipe:
            for _ in range(SAMPLE):
                pipe.randomkey()
            found = pipe.execute()
    keys = sorted({key for key in found if key is not None})[:SAMPLE]
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.pttl(key)
            pipe.memory_usage(key)
            pipe.type(key)
        told = iter(pipe.execute())
    facts = zip(keys, zip(told, told, told, strict=True), strict=True)
    return tuple(
        (key, kind)
        for key, (ttl, size, kind) in facts
        if ttl == -1 and (size or 0) <= _LARGEST_B and kind in _READS
    )


def _at_once(client: Redis, sample: Sample) -> list[Any]:
    with client.pipeline(transaction=True) as pipe:
        pipe.info("replication")
        for key, kind in sample:
            command, rest = _READS[kind]
            pipe.execute_command(command, key, *rest)  # type: ignore[no-untyped-call]
        pipe.info("replication")
        # A key that has another type by now is an error in its place, the same at equal copies.
        return list(pipe.execute(raise_on_error=False))


def _position(info: Any) -> int | None:
    """What the server has applied; a replica counts it apart from what it has received."""
    offset = info.get("slave_repl_offset", info.get("master_repl_offset"))
    return int(offset) if offset is not None else None


def digest(sample: Sample, values: Sequence[Any]) -> str:
    """A hash over the keys and what they hold."""
    made = hashlib.blake2b(digest_size=16)
    for (key, _kind), value in zip(sample, values, strict=True):
        made.update(f"{key!r} {_ordered(value)}\n".encode())
    return made.hexdigest()


def _ordered(value: Any) -> str:
    """A value as text that is the same wherever the value is."""
    if isinstance(value, Exception):
        return type(value).__name__
    if isinstance(value, dict):
        return repr(sorted(value.items()))
    return repr(sorted(value) if isinstance(value, set | frozenset) else value)


@contextmanager
def copies(cluster: Cluster) -> Iterator[RedisCopies]:
    """A reader of all servers' copies."""
    reader = RedisCopies(cluster)
    try:
        yield reader
    finally:
        reader.close()

"""When a Redis replica set may be used: copies in sync, Sentinels agreed, a write seen by all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from redis.exceptions import RedisError

from haops.cluster.spec import AddressMap, Cluster, Node
from haops.parallel import ask_all
from haops.stores.base import Readiness, first_line
from haops.stores.redis.connect import MappedSentinel, connect
from haops.stores.redis.observe import SentinelReport, ServerReport, ask

_PROOF_KEY: Final = "haops:ready"
_WAIT_MS: Final = 500


class RedisReadiness:
    """Polls the nodes; then writes through the Sentinels' primary as a client would."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def pending(self) -> Mapping[str, str]:
        """What each node waits for."""
        answers = ask_all(self._waits_for, self._cluster.nodes)
        waiting = {n.name: w for n, w in zip(self._cluster.nodes, answers, strict=True) if w}
        return waiting or self._prove()

    def _waits_for(self, node: Node) -> str | None:
        try:
            report = ask(node)
        except (RedisError, OSError, LookupError) as error:
            return f"answer ({first_line(error)})"
        if isinstance(report, SentinelReport):
            return self._sentinel_waits_for(report)
        return self._server_waits_for(report)

    def _server_waits_for(self, report: ServerReport) -> str | None:
        if report.is_primary:
            missing = len(self._cluster.servers) - 1 - report.replicas
            return f"{missing} replicas" if missing > 0 else None
        return None if report.link_up else "first copy from the primary"

    def _sentinel_waits_for(self, report: SentinelReport) -> str | None:
        if AddressMap(self._cluster).node_at(report.primary[0]) is None:
            return "a primary"
        if report.replicas < len(self._cluster.servers) - 1:
            return f"sight of {len(self._cluster.servers) - 1 - report.replicas} replicas"
        if report.sentinels < len(self._cluster.sentinels):
            return f"{len(self._cluster.sentinels) - report.sentinels} other Sentinels"
        return "the primary's answer" if report.suspects else None

    def _prove(self) -> Mapping[str, str]:
        first = self._cluster.servers[0].name
        try:
            host, port = MappedSentinel(self._cluster).discover_master()
            client = connect(host, port, timeout_s=2 * _WAIT_MS / 1000)
            try:
                client.set(_PROOF_KEY, self._cluster.name)
                copies = client.wait(len(self._cluster.servers) - 1, _WAIT_MS)
                client.delete(_PROOF_KEY)
            finally:
                client.close()
        except (RedisError, OSError) as error:
            return {first: f"a client's first write ({first_line(error)})"}
        if int(copies) < len(self._cluster.servers) - 1:
            return {first: "replicas to confirm a write"}
        return {}


@contextmanager
def readiness(cluster: Cluster) -> Iterator[Readiness]:
    """A checker for one `up`."""
    yield RedisReadiness(cluster)

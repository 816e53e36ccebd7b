"""The guard's eyes on a Redis set: probes of the primary, the replicas' and the Sentinels' own view of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as Unanswered

from haops.cluster.snapshot import Lag, NodeState, NodeView, Role, Snapshot, Verdict
from haops.cluster.spec import AddressMap, Cluster, Node
from haops.health.beat import Beat, Evidence
from haops.health.corroborate import Reach, Witness
from haops.stores.base import now
from haops.stores.plan import Conductor, Plan, StepFailed, Tools
from haops.stores.redis import plan as plans
from haops.stores.redis.links import Links, ask_each
from haops.stores.redis.move import RedisConductor
from haops.stores.redis.sentinel import Opinion, Sentinels
from haops.stores.redis.servers import Servers, ServerView

REPLICA: Final = "replica"
SENTINEL: Final = "sentinel"

_LINK_S: Final = 0.3
_ROUND_S: Final = 0.1
# Sentinels ping every second by default, too seldom to be witnesses of a silence of 300 ms. This
# changes what they know, not when they act: `down-after-milliseconds` stays as it is.
_SENTINEL_PING_MS: Final = 100
# A ping that has waited so long for its answer is lost: the guard's own patience with a probe.
_SENTINEL_SILENT_MS: Final = 150


class RedisWatch:
    """Probes over one set of connections, surveys over another: a silent node must not delay the probes."""

    def __init__(self, cluster: Cluster, tools: Tools) -> None:
        self._cluster = cluster
        self._tools = tools
        self._links = Links(cluster.nodes, _LINK_S)
        self._survey_links = Links(cluster.nodes, _LINK_S)
        self._sentinels = Sentinels(cluster, self._links)
        self._servers = Servers(cluster, self._links)
        self._offsets: dict[str, int] = {}
        self._primary = cluster.servers[0].name

    @property
    def primary(self) -> str:
        """The server that the Sentinels name, as the last survey or failover told."""
        return self._primary

    @property
    def majorities(self) -> Mapping[str, int]:
        """A majority of all Sentinels, whether they answer or not."""
        return {SENTINEL: plans.majority(self._cluster)}

    def aim(self, node: str) -> None:
        """Probe another server."""
        if node != self._primary:
            self._primary = node
            self._offsets.clear()

    def probe(self, patience_s: float) -> Beat:
        """PING; a connection that breaks or is refused is evidence at once."""
        link = self._links[self._primary]
        sent = time.monotonic_ns()
        if not link.usable and not link.reopen():
            silent = time.monotonic_ns() - sent >= patience_s * 1e9
            return Beat(sent, time.monotonic_ns(), Evidence.SILENT if silent else Evidence.REFUSED)
        try:
            link.send(("PING",))
            link.receive(patience_s)
        except Unanswered:
            return self._lost(sent, Evidence.SILENT)
        except (RedisError, OSError, StepFailed):
            return self._lost(sent, Evidence.REFUSED)
        return Beat(sent, time.monotonic_ns(), Evidence.ANSWERED)

    def _lost(self, sent: int, evidence: Evidence) -> Beat:
        self._links[self._primary].close()
        return Beat(sent, time.monotonic_ns(), evidence)

    def witnesses(self) -> Sequence[Witness]:
        """Replicas: is the link up, do bytes still arrive? Sentinels: do their own pings come back?"""
        others = [n for n in self._cluster.nodes if n.name != self._primary]
        for node in others:
            if not self._links[node.name].usable:
                self._links[node.name].reopen()
        replicas = self._replica_views()
        opinions = self._sentinels.opinions()
        said = [
            self._replica(n, replicas.get(n.name)) for n in self._cluster.servers if n.name != self._primary
        ]
        return [*said, *(self._sentinel(n, opinions.get(n.name)) for n in self._cluster.sentinels)]

    def _replica_views(self) -> Mapping[str, ServerView]:
        return {n: v for n, v in self._servers.views(_ROUND_S).items() if n != self._primary}

    def _replica(self, node: Node, view: ServerView | None) -> Witness:
        at = self._cluster.node(self._primary)
        if view is None:
            return Witness(node.name, REPLICA, Reach.CANNOT_SAY, "it does not answer")
        if view.is_primary or view.upstream != (at.address, at.port):
            return Witness(node.name, REPLICA, Reach.CANNOT_SAY, f"it does not follow {at.name}")
        if not view.link_up:
            return Witness(node.name, REPLICA, Reach.LOST, "its link is down")
        before = self._offsets.setdefault(node.name, view.offset)
        if view.offset > before:
            return Witness(node.name, REPLICA, Reach.REACHED, f"it received {view.offset - before:,} B since")
        # The link of a frozen primary stays up until `repl-timeout`: no news is no evidence.
        return Witness(node.name, REPLICA, Reach.CANNOT_SAY, "its link is up, but nothing arrives")

    def _sentinel(self, node: Node, opinion: Opinion | None) -> Witness:
        at = self._cluster.node(self._primary)
        if opinion is None:
            return Witness(node.name, SENTINEL, Reach.CANNOT_SAY, "it does not answer")
        if opinion.primary != (at.address, at.port):
            return Witness(node.name, SENTINEL, Reach.CANNOT_SAY, f"it names {opinion.primary[0]}")
        if opinion.suspects or "disconnected" in opinion.flags:
            return Witness(node.name, SENTINEL, Reach.LOST, "it is disconnected from it")
        if opinion.silent_ms >= _SENTINEL_SILENT_MS:
            return Witness(
                node.name, SENTINEL, Reach.LOST, f"its ping is unanswered for {opinion.silent_ms} ms"
            )
        return Witness(node.name, SENTINEL, Reach.REACHED, "its pings are answered")

    def reassured(self) -> None:
        """The suspicion is over: what replicas have received is counted anew in the next one."""
        self._offsets.clear()

    def glance(self) -> Snapshot:
        """Everybody but the lost primary, over the probes' connections."""
        return picture(self._cluster, self._replica_views(), self._sentinels.opinions())

    def survey(self) -> Snapshot:
        """Everybody's word over the survey's own connections; the silent ones are left out."""
        links = self._survey_links
        links.revive()
        sentinels, servers = Sentinels(self._cluster, links), Servers(self._cluster, links)
        opinions, views = sentinels.opinions(), servers.views(_ROUND_S)
        quick = ("SENTINEL", "DEBUG", "PING-PERIOD", _SENTINEL_PING_MS)
        ask_each(dict.fromkeys(opinions, quick), links, _ROUND_S)
        return picture(self._cluster, views, opinions)

    def stray(self, snapshot: Snapshot) -> Plan | None:
        """An old primary that came back and still takes itself for one, while the Sentinels name another."""
        named = [v.follows for v in snapshot.with_role(Role.SENTINEL)]
        primaries = {v.name for v in snapshot.with_role(Role.PRIMARY)}
        for name in sorted(primaries):
            rivals = primaries - {name}
            if len(rivals) == 1 and named.count(*rivals) >= plans.majority(self._cluster):
                return plans.demotion(self._cluster, name, *rivals)
        return None

    @contextmanager
    def conductor(self, plan: Plan) -> Iterator[Conductor]:
        """Over the probes' connections: opening new ones would cost the clients time."""
        yield RedisConductor(self._cluster, self._tools, plan, self._links)

    def close(self) -> None:
        """Close all connections."""
        self._links.close()
        self._survey_links.close()


def picture(cluster: Cluster, views: Mapping[str, ServerView], opinions: Mapping[str, Opinion]) -> Snapshot:
    """A snapshot of what the links told: enough to plan with, without the engine's word."""
    leading = max((v.offset for v in views.values()), default=0)
    nodes = [_server(cluster, n, views.get(n.name), leading) for n in cluster.servers]
    nodes += [_sentinel_view(cluster, n, opinions.get(n.name)) for n in cluster.sentinels]
    serving = any(v.is_primary for v in views.values())
    verdict = Verdict.HEALTHY if serving else Verdict.DOWN
    return Snapshot(cluster.name, cluster.store, cluster.mode, now(), verdict, (), tuple(nodes))


def _server(cluster: Cluster, node: Node, view: ServerView | None, leading: int) -> NodeView:
    zone = node.params.get("zone")
    if view is None:
        return NodeView(
            node.name, Role.UNKNOWN, NodeState.UNREACHABLE, node.host, node.host_port,
            why="it does not answer", zone=zone,
        )  # fmt: skip
    upstream = AddressMap(cluster).node_at(view.upstream[0]) if view.upstream else None
    return NodeView(
        node.name,
        Role.PRIMARY if view.is_primary else Role.REPLICA,
        NodeState.UP if view.link_up else NodeState.SYNCING,
        node.host,
        node.host_port,
        lag=Lag(bytes=max(leading - view.offset, 0)),
        position=view.offset,
        priority=view.priority,
        zone=zone,
        follows=upstream.name if upstream else None,
    )


def _sentinel_view(cluster: Cluster, node: Node, opinion: Opinion | None) -> NodeView:
    if opinion is None:
        return NodeView(node.name, Role.SENTINEL, NodeState.UNREACHABLE, node.host, node.host_port)
    named = AddressMap(cluster).node_at(opinion.primary[0])
    return NodeView(
        node.name,
        Role.SENTINEL,
        NodeState.UP,
        node.host,
        node.host_port,
        follows=named.name if named else None,
    )


@contextmanager
def watch(cluster: Cluster, tools: Tools) -> Iterator[RedisWatch]:
    """An observer of the set."""
    eyes = RedisWatch(cluster, tools)
    try:
        yield eyes
    finally:
        eyes.close()

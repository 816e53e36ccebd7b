"""Which server is read from and which is written to, as the Sentinels and the servers themselves say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from haops.cluster.spec import Cluster, Node
from haops.errors import BadInput, HaopsError
from haops.stores.plan import StepFailed
from haops.stores.redis.links import Links
from haops.stores.redis.plan import majority
from haops.stores.redis.sentinel import Sentinels
from haops.stores.redis.servers import Servers, ServerView

_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Choice:
    """A server to read, and how far it was behind the primary in bytes."""

    node: Node
    behind: int
    is_primary: bool


def primary(cluster: Cluster, failure: type[HaopsError]) -> Node:
    """The server that most Sentinels name, whatever it says itself: a restore in progress makes it a replica."""
    links = Links(cluster.nodes, _TIMEOUT_S)
    try:
        named = Servers(cluster, links).named_by(Sentinels(cluster, links).opinions(), majority(cluster))
    finally:
        links.close()
    if named is None:
        raise failure(
            "no server is named as the primary by most Sentinels", hint=f"haops heal {cluster.name}"
        )
    return named


def to_read(cluster: Cluster, wanted: str | None, failure: type[HaopsError]) -> Choice:
    """The replica with the least lag; the primary where no replica's link is up.

    Raises:
        BadInput: `wanted` is no server.
        HaopsError: `failure`, where the one that is wanted, or every one, cannot be read.
    """
    if wanted is not None and wanted not in [n.name for n in cluster.servers]:
        raise BadInput(
            f"{wanted} is no server of {cluster.name}",
            hint=f"allowed: {', '.join(n.name for n in cluster.servers)}",
        )
    links = Links(cluster.servers, _TIMEOUT_S)
    try:
        views = Servers(cluster, links).views(_TIMEOUT_S)
    except StepFailed as error:
        raise failure(error.message, node=error.node, detail=error.detail) from error
    finally:
        links.close()
    return choose(cluster, views, wanted, failure)


def choose(
    cluster: Cluster, views: dict[str, ServerView], wanted: str | None, failure: type[HaopsError]
) -> Choice:
    """The decision of `to_read`; pure."""
    leading = max((v.offset for v in views.values() if v.is_primary), default=0)
    able = {n: v for n, v in views.items() if v.link_up and (wanted is None or n == wanted)}
    if not able:
        raise failure(
            "it cannot be read now: it does not answer, or its own copy is not in sync"
            if wanted
            else "no server can be read now",
            node=wanted,
            hint=f"see: haops status {cluster.name}",
        )
    name = min(able, key=lambda n: (able[n].is_primary, leading - able[n].offset, n))
    view = able[name]
    return Choice(cluster.node(name), max(leading - view.offset, 0), view.is_primary)

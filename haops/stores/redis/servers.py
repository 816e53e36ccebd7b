"""The Redis servers of a cluster: whom they follow, how far they are, and telling them otherwise."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from haops.cluster.spec import AddressMap, Cluster, Node
from haops.stores.plan import StepFailed
from haops.stores.redis.links import Links, ask_each, good
from haops.stores.redis.sentinel import Opinion

ROUND_S: Final = 0.5
_FENCE: Final = "min-replicas-to-write"
_POLL_S: Final = 0.0005


@dataclass(frozen=True, slots=True)
class ServerView:
    """`INFO replication` of one server.

    Args:
        offset: Replication offset in bytes.
        history: The replication id that its offset counts in.
        second_history: The id before its promotion, valid below `second_offset`.
        replicas: Replicas online.
        priority: For promotion, lower first; 0 is never.
    """

    is_primary: bool
    offset: int
    history: str
    second_history: str
    second_offset: int
    upstream: tuple[str, int] | None
    link_up: bool
    replicas: int
    priority: int = 100


def parse(text: str) -> ServerView:
    """`INFO replication` as the server prints it."""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    is_primary = fields["role"] == "master"
    online = sum(1 for k, v in fields.items() if k.startswith("slave") and "state=online" in v)
    return ServerView(
        is_primary=is_primary,
        offset=int(fields["master_repl_offset"] if is_primary else fields.get("slave_repl_offset", "0")),
        history=fields["master_replid"],
        second_history=fields["master_replid2"],
        second_offset=int(fields["second_repl_offset"]),
        upstream=None if is_primary else (fields["master_host"], int(fields["master_port"])),
        link_up=is_primary or fields.get("master_link_status") == "up",
        replicas=online,
        priority=int(fields.get("slave_priority", "100")),
    )


class Servers:
    """The servers, over links that are open already."""

    def __init__(self, cluster: Cluster, links: Links) -> None:
        self._cluster = cluster
        self._links = links

    @property
    def names(self) -> list[str]:
        """Those that can be asked right now."""
        return [link.name for link in self._links.usable(n.name for n in self._cluster.servers)]

    def views(self, within_s: float = ROUND_S) -> dict[str, ServerView]:
        """What each one that answers says."""
        command = ("INFO", "replication")
        answers = good(ask_each(dict.fromkeys(self.names, command), self._links, within_s))
        return {name: parse(text) for name, text in answers.items()}

    def view(self, name: str) -> ServerView:
        """One server's word. Raises StepFailed."""
        return parse(self._links[name].ask("INFO", "replication"))

    def full_copies(self, node: Node) -> int:
        """How many replicas it has had to send everything."""
        stats: str = self._links[node.name].ask("INFO", "stats")
        return int(next(line.split(":")[1] for line in stats.splitlines() if line.startswith("sync_full:")))

    def follow(self, name: str, upstream: Node) -> None:
        """Let a server copy from `upstream`; one that does already keeps its link."""
        self._links[name].ask("REPLICAOF", upstream.address, upstream.port)

    def await_link(self, name: str, upstream: Node, within_s: float) -> str:
        """Until its copy from `upstream` is live. Raises StepFailed."""
        end = time.monotonic() + within_s
        while True:
            view = self.view(name)
            if view.link_up and view.upstream == (upstream.address, upstream.port):
                return f"linked, offset {view.offset:,}"
            if time.monotonic() > end:
                raise StepFailed(f"not linked to {upstream.name} after {within_s:g} s", node=name)
            time.sleep(_POLL_S)

    def fence(self, name: str) -> bool:
        """Make a primary refuse writes while it has no replica; whether it did so already."""
        answer = self._links[name].ask("CONFIG", "GET", _FENCE)
        if int(answer[1]) >= 1:
            return True
        self._links[name].ask("CONFIG", "SET", _FENCE, 1)
        return False

    def unfence(self, name: str) -> None:
        """As `up` configures it: a set of two or fewer cannot afford the fence."""
        self._links[name].ask("CONFIG", "SET", _FENCE, 1 if len(self._cluster.servers) > 2 else 0)

    def await_offset(self, source: Node, name: str, within_s: float) -> int:
        """Until `name` has every byte of `source`, which is paused. Raises StepFailed."""
        end = time.monotonic() + within_s
        goal = self.view(source.name).offset
        while True:
            view = self.view(name)
            if view.is_primary:
                raise StepFailed("somebody else has promoted it before it had caught up", node=name)
            if view.offset >= goal and view.link_up:
                return goal
            if time.monotonic() > end:
                raise StepFailed(
                    f"{goal - view.offset:,} B behind {source.name} after {within_s:g} s", node=name
                )
            time.sleep(_POLL_S)

    def demote(self, name: str, upstream: Node) -> None:
        """Let a paused primary follow, and its clients go: they ask a Sentinel where to."""
        link = self._links[name]
        link.ask("REPLICAOF", upstream.address, upstream.port)
        link.ask("CLIENT", "UNPAUSE")
        link.ask("CLIENT", "KILL", "TYPE", "normal")
        self.unfence(name)

    def strays(self, primary: Node) -> list[str]:
        """Servers that answer and neither are `primary` nor follow it; a second primary is made to."""
        strays = []
        for name, view in self.views().items():
            if name == primary.name:
                if not view.is_primary:
                    strays.append(name)
            elif view.is_primary or view.upstream != (primary.address, primary.port):
                self.follow(name, primary)
                strays.append(name)
            elif not view.link_up:
                strays.append(name)
        return strays

    def persist(self) -> None:
        """Write every server's role into its own file, for its next start."""
        ask_each(dict.fromkeys(self.names, ("CONFIG", "REWRITE")), self._links, ROUND_S)

    def named_by(self, opinions: Mapping[str, Opinion], majority: int) -> Node | None:
        """The server to which a majority of the Sentinels sends clients."""
        addresses = AddressMap(self._cluster)
        named = [addresses.node_at(o.primary[0]) for o in opinions.values()]
        for node in self._cluster.servers:
            if named.count(node) >= majority:
                return node
        return None

    def demote_stray(self, name: str, primary: Node) -> None:
        """Let a server that wrongly takes itself for the primary follow, and its clients go."""
        self.demote(name, primary)
        ask_each({name: ("CONFIG", "REWRITE")}, self._links, ROUND_S)

    def leave_to(self, winner: Node, source: Node) -> str:
        """The Sentinels have moved the role: the old primary follows theirs, before its writes are released."""
        for name in self.names:
            if name == source.name:
                self.demote(name, winner)
            elif name != winner.name:
                self.follow(name, winner)
        self.persist()
        return f"the Sentinels have made {winner.name} the primary; {source.name} follows it"

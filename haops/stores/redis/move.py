"""Moving a Redis primary: the steps of a plan, carried out on the servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

from haops.cluster.spec import Cluster, Node
from haops.stores.plan import Conductor, Operation, Plan, Step, StepFailed, Tools
from haops.stores.rebuild import FORGET, LAY_OUT, Rebuilder
from haops.stores.redis import plan as plans
from haops.stores.redis.links import Links
from haops.stores.redis.readiness import readiness
from haops.stores.redis.sentinel import Mandate, Opinion, Sentinels
from haops.stores.redis.servers import Servers, ServerView
from haops.stores.restart import AWAIT, START, STOP, Restarter

# How long writes may be held; haops releases them after some 20 ms. If it dies, they are held no longer.
PAUSE_MS: Final = 3000
_TIMEOUT_S: Final = 1.0
_CATCH_UP_S: Final = 1.0
_CHAIN_S: Final = 2.0
_SETTLE_S: Final = 10.0
# A failover of the Sentinels' own takes 1 to 2 s from its beginning to its word to the clients.
_WINNER_S: Final = 8.0


class RedisConductor:
    """Carries out the steps that move a primary."""

    def __init__(self, cluster: Cluster, tools: Tools, plan: Plan, links: Links) -> None:
        self._cluster = cluster
        self._plan = plan
        self._links = links
        self._servers = Servers(cluster, links)
        self._sentinels = Sentinels(cluster, links)
        self._restarter = Restarter(cluster, tools.runtime, readiness)
        self._rebuilder = Rebuilder(cluster, tools)
        self._mandate: Mandate | None = None
        self._full_copies: int | None = None
        self._acts: Mapping[str, Callable[[str], str]] = {
            plans.EPOCH: self._take_epoch,
            plans.CHAIN: self._chain,
            plans.FENCE: self._fence,
            plans.PAUSE: self._pause,
            plans.CATCH_UP: self._catch_up,
            plans.PROMOTE: self._promote,
            plans.FOLLOW: self._follow,
            plans.ADVERTISE: self._advertise,
            plans.DEMOTE: self._demote,
            plans.SETTLE: self._settle,
            plans.REJOIN: self._rejoin,
            FORGET: self._forget,
            LAY_OUT: self._rebuilder.lay_out,
            STOP: self._stop,
            START: self._restarter.start,
            AWAIT: self._await,
        }

    def perform(self, step: Step) -> str:
        """Do one step."""
        return self._acts[step.verb](step.node or "")

    @property
    def _source(self) -> Node:
        assert self._plan.source
        return self._cluster.node(self._plan.source)

    @property
    def _target(self) -> Node:
        assert self._plan.target
        return self._cluster.node(self._plan.target)

    def _take_epoch(self, _: str) -> str:
        self._mandate = self._sentinels.win_epoch(self._source)
        if self._links[self._target.name].usable:
            self._full_copies = self._servers.full_copies(self._target)
        return f"epoch {self._mandate.epoch}, votes of {', '.join(self._mandate.voters)}"

    def _chain(self, node: str) -> str:
        """Also the new primary's writes need this copy from the first moment."""
        if not self._links[node].usable:
            return "it does not answer; the Sentinels will see to it when it is back"
        self._servers.follow(node, self._target)
        return self._servers.await_link(node, self._target, _CHAIN_S)

    def _fence(self, node: str) -> str:
        before = self._servers.fence(node)
        return "it does already" if before else "min-replicas-to-write 1"

    def _pause(self, node: str) -> str:
        self._links[node].ask("CLIENT", "PAUSE", PAUSE_MS, "WRITE")
        return f"for {PAUSE_MS} ms at most"

    def _catch_up(self, node: str) -> str:
        offset = self._servers.await_offset(self._source, node, _CATCH_UP_S)
        self._check_nobody_else_acts()
        return f"offset {offset:,} on both"

    def _check_nobody_else_acts(self) -> None:
        """A failover that the Sentinels have told clients of must not be overrun."""
        opinions = self._sentinels.opinions()
        stay = self._sentinels.agree(self._source, opinions)
        if len(stay) < plans.majority(self._cluster) or len(stay) < len(opinions):
            moved = {n: o.primary[0] for n, o in opinions.items() if n not in stay}
            raise StepFailed(f"the Sentinels send clients elsewhere already: {moved}")

    def _promote(self, node: str) -> str:
        self._links[node].ask("REPLICAOF", "NO", "ONE")
        return "it is the primary"

    def _follow(self, node: str) -> str:
        if not self._links[node].usable:
            return "it does not answer; the Sentinels will see to it when it is back"
        self._servers.follow(node, self._target)
        return f"follows {self._target.name}"

    def _advertise(self, _: str) -> str:
        assert self._mandate
        heard = self._sentinels.announce(self._target, self._mandate)
        if len(heard) < plans.majority(self._cluster):
            raise StepFailed(f"{len(heard)} of {len(self._cluster.sentinels)} Sentinels heard of it")
        return f"heard by {', '.join(heard)}"

    def _demote(self, node: str) -> str:
        self._servers.demote(node, self._target)
        return f"follows {self._target.name}"

    def _settle(self, _: str) -> str:
        return settle(self._cluster, self._links, self._target, self._mandate, self._full_copies)

    def _stop(self, node: str) -> str:
        self._links[node].close()
        return self._restarter.stop(node)

    def _forget(self, node: str) -> str:
        self._links[node].close()
        return self._rebuilder.forget(node)

    def _await(self, node: str) -> str:
        said = self._restarter.await_ready()
        self._links.revive()  # what comes next may need the restarted node
        return said

    def _rejoin(self, node: str) -> str:
        self._servers.demote_stray(node, self._target)
        return f"follows {self._target.name}"

    def put_back(self, done: Sequence[Step], failed: Step) -> str:
        """The old primary serves again, unless the role has moved; then the move is finished."""
        if self._plan.operation is Operation.REPLACE:
            return f"the others serve; try again: haops node replace {self._cluster.name} {failed.node}"
        if failed.verb in (STOP, START, AWAIT) and failed.node:
            # Of a rolling restart: the role has moved, or was not to move yet.
            self._restarter.start(failed.node)
            return f"{failed.node} was started; the others were left as they are"
        begun = {s.verb for s in (*done, failed)}
        if not begun & {plans.PAUSE, plans.CHAIN, plans.FENCE, plans.PROMOTE}:
            return "nothing was changed"
        self._links.revive()
        return put_back(self._cluster, self._links, self._plan, self._mandate)


def put_back(cluster: Cluster, links: Links, plan: Plan, mandate: Mandate | None) -> str:
    """Make one primary of whatever a half-done move left; says which.

    Whom the Sentinels have told clients of holds. Before they are told, a promoted
    candidate goes forward if it has every byte of the old primary, and back if the
    old one has been taking writes since.

    Raises:
        StepFailed: It cannot be told which one has what clients wrote, or a server does not answer.
    """
    servers, sentinels = Servers(cluster, links), Sentinels(cluster, links)
    source, target = cluster.node(plan.source or ""), cluster.node(plan.target or "")
    named = _named(cluster, links, source)
    views = servers.views()
    if named is not None and named.name not in (source.name, target.name):
        return servers.leave_to(named, source)
    word = named_by_sentinels(named, source, target)
    match way(views.get(source.name), views.get(target.name), word):
        case Way.FORWARD:
            if word is not Named.TARGET:
                mandate = mandate or sentinels.win_epoch(source)
            return _forward(cluster, links, source, target, mandate)
        case Way.BACK:
            return _back(cluster, links, views, source, target)
        case Way.UNCLEAR:
            raise StepFailed(
                f"{source.name} and {target.name} are both primaries, and both may have taken writes",
                hint="the Sentinels keep the one that they name; what the other took since is lost",
            )


def _named(cluster: Cluster, links: Links, source: Node) -> Node | None:
    """Whom a majority of the Sentinels sends clients to.

    While one of them is on its way to another primary, writes stay held until the
    others have heard of it: released too early, they would be lost.
    """
    servers, sentinels = Servers(cluster, links), Sentinels(cluster, links)
    end = time.monotonic() + _WINNER_S
    while True:
        opinions = sentinels.opinions()
        named = servers.named_by(opinions, plans.majority(cluster))
        on_the_way = named in (None, source) and _moves(opinions, sentinels.agree(source, opinions))
        if not on_the_way or time.monotonic() > end:
            return named
        if links[source.name].usable:
            links[source.name].ask("CLIENT", "PAUSE", PAUSE_MS, "WRITE")
        time.sleep(0.05)


def _moves(opinions: Mapping[str, Opinion], stay: Sequence[str]) -> bool:
    """Whether a Sentinel has newer word than those that stay; one with older word is only stale."""
    known = max((opinions[name].epoch for name in stay), default=0)
    return any(
        "failover_in_progress" in opinion.flags or opinion.epoch > known
        for name, opinion in opinions.items()
        if name not in stay
    )


class Way(StrEnum):
    """What to do with a half-done move."""

    FORWARD = "forward"
    BACK = "back"
    UNCLEAR = "unclear"


class Named(StrEnum):
    """Whom a majority of the Sentinels sends clients to."""

    SOURCE = "source"
    TARGET = "target"
    NOBODY = "nobody"


def named_by_sentinels(named: Node | None, source: Node, target: Node) -> Named:
    """The Sentinels' word in a move's own terms."""
    if named is None:
        return Named.NOBODY
    return {source.name: Named.SOURCE, target.name: Named.TARGET}[named.name]


def way(old: ServerView | None, new: ServerView | None, named: Named) -> Way:
    """Which way a half-done move is safely ended; pure.

    Args:
        old: The primary that was to give its role up; None if it does not answer.
        new: The candidate.
    """
    if new is None or not new.is_primary:
        return Way.BACK
    if named is Named.TARGET or old is None or not old.is_primary or inherits(new, old):
        return Way.FORWARD
    return Way.BACK if named is Named.SOURCE else Way.UNCLEAR


def inherits(new: ServerView, old: ServerView) -> bool:
    """Whether the promoted copy has every byte of the old primary: where it left the common history."""
    return new.second_history == old.history and old.offset < new.second_offset


def _forward(cluster: Cluster, links: Links, source: Node, target: Node, mandate: Mandate | None) -> str:
    servers, sentinels = Servers(cluster, links), Sentinels(cluster, links)
    if mandate:
        sentinels.announce(target, mandate)
    for name in servers.names:
        if name == source.name:
            servers.demote(name, target)
        elif name != target.name:
            servers.follow(name, target)
    return f"{target.name} is the primary: {settle(cluster, links, target, mandate, None)}"


def _back(cluster: Cluster, links: Links, views: Mapping[str, ServerView], source: Node, target: Node) -> str:
    servers = Servers(cluster, links)
    if source.name not in views:
        raise StepFailed(
            f"{source.name} does not answer", hint=f"if it is dead: haops failover {cluster.name}"
        )
    links[source.name].ask("CLIENT", "UNPAUSE")
    for name, view in views.items():
        # Besides the candidate only who still is a replica: a Sentinel may have promoted one meanwhile.
        astray = view.upstream != (source.address, source.port)
        if name != source.name and astray and (name == target.name or not view.is_primary):
            servers.follow(name, source)
    servers.unfence(source.name)
    return f"{source.name} is the primary as before, and takes writes"


def settle(
    cluster: Cluster, links: Links, target: Node, mandate: Mandate | None, full_copies: int | None
) -> str:
    """Wait until every Sentinel and every server that answers agrees on the primary, then make it lasting.

    Raises:
        StepFailed: They do not within 10 s; says who differs.
    """
    servers, sentinels = Servers(cluster, links), Sentinels(cluster, links)
    end = time.monotonic() + _SETTLE_S
    while True:
        differ = servers.strays(target)
        opinions = sentinels.opinions()
        deaf = opinions.keys() - set(sentinels.agree(target, opinions))
        if not differ and not deaf:
            break
        if time.monotonic() > end:
            raise StepFailed(f"{', '.join([*differ, *deaf])} do not agree on {target.name}")
        if deaf and mandate:
            sentinels.announce(target, mandate)
        time.sleep(0.01)
    servers.persist()
    full = "" if full_copies is None else f", {servers.full_copies(target) - full_copies} full copies"
    return f"{len(opinions)} Sentinels agree, {len(servers.views()) - 1} replicas in sync{full}"


@contextmanager
def conductor(cluster: Cluster, tools: Tools, plan: Plan) -> Iterator[Conductor]:
    """Connections to every server and Sentinel, opened before anything acts."""
    # A dead primary would cost the time-out.
    gone = plan.source if plan.operation is Operation.FAILOVER else None
    links = Links(cluster.nodes, _TIMEOUT_S, closed=gone)
    try:
        yield RedisConductor(cluster, tools, plan, links)
    finally:
        links.close()


def mend(cluster: Cluster, tools: Tools, plan: Plan, begun: Sequence[Step]) -> str:
    """Finish a move whose candidate is promoted, else put the old primary back; start what was stopped."""
    Rebuilder(cluster, tools).go_on(begun)
    for step in begun:
        if step.verb == STOP and step.node:
            tools.runtime.start(cluster, step.node)
    restarter = Restarter(cluster, tools.runtime, readiness)
    if not any(s.verb in (plans.CHAIN, plans.PAUSE, plans.FENCE, plans.PROMOTE) for s in begun):
        return restarter.await_ready() if begun else "nothing had been changed"
    links = Links(cluster.nodes, _TIMEOUT_S)
    try:
        return put_back(cluster, links, plan, None)
    finally:
        links.close()

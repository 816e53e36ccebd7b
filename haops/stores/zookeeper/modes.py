"""Replication modes of ZooKeeper: writes always wait for a majority, so a mode says where and how reads ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from haops.cluster.snapshot import Role
from haops.cluster.spec import Cluster, Node
from haops.parallel import ask_all
from haops.stores.base import first_line
from haops.stores.mode import Fact, Mode, Modes, Replication
from haops.stores.zookeeper.observe import ServerReport
from haops.stores.zookeeper.observe import ask as ask_server
from haops.stores.zookeeper.topology import is_observer, majority, observers, voters

_ZAB: Final = "create or set; the leader acknowledges it when a majority of the voters has it on disk (Zab)"
_NEVER_LOST: Final = "an acknowledged write is on a majority's disks, and whoever is elected has it"


@dataclass(frozen=True, slots=True)
class Way:
    """What a client of a mode does.

    Args:
        syncs: Whether each read is preceded by a `sync` of the same session.
        at_observers: Whether sessions are made with observers, where one answers.
    """

    syncs: bool = False
    at_observers: bool = False


MODES: Final = (
    Mode(
        "quorum",
        Replication.SYNCHRONOUS,
        _ZAB,
        "get at the server of the session",
        f"{_NEVER_LOST}; a client reads its own writes, and never goes back in time within a session",
        "a read may miss what another client wrote: the session's server may be behind, and one that is cut off "
        "goes on answering until syncLimit ticks are over",
        ("local", "quorum-local"),
    ),
    Mode(
        "quorum-sync",
        Replication.SYNCHRONOUS,
        _ZAB,
        "sync, then get, both in flight at the server of the session",
        f"{_NEVER_LOST}; a read sees what the leader had committed when the sync reached it",
        "not linearizable in one corner (ZOOKEEPER-1675): sync is no vote, so a leader that was deposed and does "
        "not know it yet still answers it, and the read misses its successor's writes",
        ("sync",),
    ),
    Mode(
        "observers",
        Replication.ASYNCHRONOUS,
        f"{_ZAB}; the observer passes it on to the leader",
        "get at an observer, which follows without a vote",
        f"{_NEVER_LOST}; reads spread over servers that writes do not wait for",
        "a read may miss what was acknowledged: nobody waits for observers, and one that is cut off from the "
        "leader goes on answering until syncLimit ticks are over",
        ("observer",),
        observers=1,
        main=False,
    ),
)
_WAYS: Final[Mapping[str, Way]] = {
    "quorum": Way(),
    "quorum-sync": Way(syncs=True),
    "observers": Way(at_observers=True),
}


def way(mode: str) -> Way:
    """How a client of a mode reads, and with whom it has its session."""
    return _WAYS[mode]


def trouble(cluster: Cluster, mode: Mode) -> tuple[str, str] | None:
    """Whether there is an observer where one is to be read."""
    if way(mode.name).at_observers and not observers(cluster):
        return "it has no observer", "an ensemble that has one: haops up zookeeper --observers 1"
    return None


def settle(cluster: Cluster, mode: Mode) -> tuple[str, ...]:
    """Nothing: how a client reads is its own choice, and the servers are the same for all."""
    return ()


def ask(cluster: Cluster, mode: Mode) -> tuple[Fact, ...]:
    """Who leads, who follows, who only watches, and whom the leader counts in sync."""
    nodes = cluster.servers if way(mode.name).at_observers else voters(cluster)
    answers = ask_all(_answer, nodes)
    facts = [_role(node, answer) for node, answer in zip(nodes, answers, strict=True)]
    leaders = [
        (node, answer)
        for node, answer in zip(nodes, answers, strict=True)
        if isinstance(answer, ServerReport) and answer.role is Role.LEADER
    ]
    if len(leaders) != 1:
        found = " and ".join(node.name for node, _ in leaders) or "nobody"
        facts.append(Fact(cluster.name, "leader", "one server that leads", found, holds=False))
    for node, report in leaders:
        facts.append(_counted(node, "synced followers", majority(cluster) - 1, report.synced))
        if way(mode.name).at_observers:
            facts.append(_counted(node, "synced observers", 1, report.watched))
    return tuple(facts)


def _answer(node: Node) -> ServerReport | str:
    try:
        return ask_server(node)
    except OSError as error:
        return first_line(error)


def _role(node: Node, answer: ServerReport | str) -> Fact:
    fit = (Role.OBSERVER,) if is_observer(node) else (Role.LEADER, Role.FOLLOWER)
    wanted = " or ".join(fit)
    if isinstance(answer, str):
        return Fact(node.name, "role", wanted, answer, holds=False)
    return Fact(node.name, "role", wanted, answer.role.value, answer.role in fit)


def _counted(leader: Node, what: str, needed: int, has: int | None) -> Fact:
    """What a leader counts; a server that stands alone counts nobody."""
    return Fact(leader.name, what, f"{needed} or more", str(has or 0), (has or 0) >= needed)


STORE_MODES: Final = Modes(MODES, trouble, settle, ask)

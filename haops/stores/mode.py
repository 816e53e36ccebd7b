"""Replication modes: what a writer does, what a reader does, and what is promised for it.

A mode is one object. The workload reads from it how to write and read; `haops
mode` and the matrix print its words; `Modes.ask` has the servers confirm what it
stands on. Modes that need another shape of cluster say so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from haops.cluster.spec import Cluster
from haops.errors import BadInput


class Replication(StrEnum):
    """When a write is acknowledged: after other copies have it, or before."""

    SYNCHRONOUS = "synchronous"
    ASYNCHRONOUS = "asynchronous"


@dataclass(frozen=True, slots=True)
class Mode:
    """How clients write to and read from a store.

    Args:
        writer: What a write does before it counts as acknowledged.
        reader: Where and how a read asks.
        promise: What that gives, in plain words.
        limits: What it does not give.
        aliases: Further names that are taken for this one.
        observers: ZooKeeper servers without a vote that it needs.
        dcs: Data centres that it needs.
        main: Whether the matrix runs it unasked.
        elsewhere: The mode whose reader asks another copy than the writer, to see when that has it;
            empty where this mode's own readers do.
    """

    name: str
    replication: Replication
    writer: str
    reader: str
    promise: str
    limits: str
    aliases: tuple[str, ...] = ()
    observers: int = 0
    dcs: int = 1
    main: bool = True
    elsewhere: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that a mode stands on, as a server told it.

    Args:
        node: Who was asked.
        what: A setting's or a property's name.
        wanted: What the mode needs, in words.
        found: The server's own answer.
        holds: Whether it is what the mode needs.
    """

    node: str
    what: str
    wanted: str
    found: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Modes:
    """The modes of a store.

    Args:
        offered: In the order in which they are listed; the first is the default.
        trouble: Why a cluster cannot be used in a mode, and what could be done; None if it can.
        settle: Makes the servers fit, through the native client; returns what it changed.
        ask: Asks the servers whether they fit.
    """

    offered: tuple[Mode, ...]
    trouble: Callable[[Cluster, Mode], tuple[str, str] | None]
    settle: Callable[[Cluster, Mode], tuple[str, ...]]
    ask: Callable[[Cluster, Mode], tuple[Fact, ...]]

    def get(self, name: str) -> Mode:
        """The mode called `name`, or with that alias.

        Raises:
            BadInput: The store has none of that name.
        """
        for mode in self.offered:
            if name == mode.name or name in mode.aliases:
                return mode
        allowed = ", ".join(m.name for m in self.offered)
        raise BadInput(f"unknown mode {name!r}", hint=f"allowed: {allowed}")

    def check(self, cluster: Cluster, name: str) -> Mode:
        """The mode called `name`, if `cluster` can be used in it.

        Raises:
            BadInput: It cannot; says why.
        """
        mode = self.get(name)
        if trouble := self.trouble(cluster, mode):
            what, hint = trouble
            raise BadInput(f"{cluster.name} cannot be used in mode {mode.name}: {what}", hint=hint)
        return mode

"""What every store must offer, and the words it offers it in.

A store is a record of functions, small on purpose: capabilities that came later
(`plan.Control`: switchover, restart and so on) are records of their own.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Protocol

from haops.cluster.snapshot import NodeState, Role, Snapshot
from haops.cluster.spec import Cluster, ClusterSpec, Node, NodeKind, StoreName
from haops.errors import ClusterUnhealthy
from haops.health.beat import Beat, Evidence
from haops.health.redundancy import CopyReading
from haops.runtime.port import Container, ContainerState, LogLine
from haops.stores.lock import LockRecipe
from haops.stores.mode import Modes
from haops.stores.plan import Control

# How long one node may take to answer a question about its health before it counts as unreachable.
ANSWER_S: Final = 0.8
_WORDS: Final = 160


@dataclass(frozen=True, slots=True)
class NodePlan:
    """A node to be: what the store wants, before addresses and host ports are chosen.

    Args:
        port: Client port inside; None makes it the same number as the host port.
        has_admin: Whether a second host port is needed for an administrative server.
    """

    name: str
    kind: NodeKind
    index: int
    port: int | None
    has_admin: bool = False
    params: Mapping[str, str] = field(default_factory=dict)


class EventKind(StrEnum):
    """Role changes that servers report by themselves."""

    DETECTED = "detected"
    ELECTED = "elected"
    PROMOTED = "promoted"
    ADVERTISED = "advertised"
    REJOINED = "rejoined"


@dataclass(frozen=True, slots=True)
class StoreEvent:
    """A server's own word that something changed (`at_ns`: UTC, Unix ns)."""

    at_ns: int
    kind: EventKind
    node: str
    text: str


class OperationFailed(Exception):
    """The operation certainly did not happen. The text is the error's class."""


class OutcomeUnknown(Exception):
    """A time-out or a lost connection: the operation may have happened, or may happen yet."""


# Keys below this are registers, written again and again; those from it on are written once. Client c
# of a drill writes the keys that leave c when divided by it.
FIRST_ELEMENT: Final = 1000
# Registers of a drill; each of its histories is small enough to be ordered.
REGISTERS: Final = 16


class WorkloadClient(Protocol):
    """One client of the drill's load: one operation at a time, no retries of its own.

    It writes and reads as the cluster's mode says.
    """

    @property
    def node(self) -> str:
        """The node that the last operation was sent to; empty if none."""
        ...

    def write(self, key: int, value: int) -> None:
        """Store `value` under `key`. Raises OperationFailed or OutcomeUnknown."""
        ...

    def read(self, key: int) -> int | None:
        """What is stored under `key`, if anything. Raises OperationFailed or OutcomeUnknown."""
        ...

    def close(self) -> None:
        """Let connections go; never blocks for more than a second."""
        ...


class Workload(Protocol):
    """How a drill's unique writes are laid out in a store."""

    def prepare(self, clients: int) -> None:
        """Make the tables or parents that the writes need."""
        ...

    def client(self, number: int) -> WorkloadClient:
        """Connect client `number`; called in the process that uses it."""
        ...

    def close(self) -> None:
        """Let go of what this process shared among its clients."""
        ...

    def read_back(self, clients: int) -> set[int]:
        """Every element that is there, read at the strongest consistency that the store has."""
        ...

    def clean(self) -> None:
        """Remove what the drill wrote."""
        ...


class Readiness(Protocol):
    """What stands between a started cluster and its first client."""

    def pending(self) -> Mapping[str, str]:
        """For each node that is not ready, what it waits for; empty when clients can write and read."""
        ...


class Probe(Protocol):
    """The cheapest question that a node's process must answer, over a connection that is kept where it can be."""

    @property
    def says(self) -> str:
        """What the node last said against itself although it answers; empty if nothing."""
        ...

    def probe(self, patience_s: float) -> Beat:
        """Ask once; takes `patience_s` at most."""
        ...

    def close(self) -> None:
        """Let the connection go."""
        ...


class Copies(Protocol):
    """Reads how far every node's copy has got, and a hash over the same sample of each."""

    def read(self) -> tuple[CopyReading, ...]:
        """A reading of each node that answers, in order of time; takes less than a second."""
        ...


@dataclass(frozen=True, slots=True)
class Store:
    """One kind of server that haops can run, watch and break.

    Args:
        modes: The replication modes; the first is the default.
        layout: The nodes of a cluster of such a shape.
        render_context: What the compose templates need besides the cluster.
        readiness: A checker for `up` to poll; closes its connections at the end.
        observe: Asks every node once, in parallel, and judges the answers.
        primary: The node whose death hurts most: primary, leader, or a member that
            coordinates. Raises NoRole.
        events: The role changes that nodes' logs tell of, in order of time.
        workload: A drill's writes and reads: cluster, run and time-out in seconds.
        control: What an operator can have done to a standing cluster.
        probe: A heartbeat's question to one node; connects when first asked.
        copies: A reader of all nodes' copies; its sample stays the same while it is open, for
            digests of different samples cannot be compared.
        lock: The lock that applications make with it, if they do.
        afresh: Lays a cluster out for nodes that all begin with empty disks, where that is another way.
    """

    name: StoreName
    modes: Modes
    layout: Callable[[ClusterSpec], tuple[NodePlan, ...]]
    render_context: Callable[[Cluster], Mapping[str, object]]
    readiness: Callable[[Cluster], AbstractContextManager[Readiness]]
    observe: Callable[[Cluster, Mapping[str, Container]], Snapshot]
    primary: Callable[[Snapshot], str]
    events: Callable[[Sequence[LogLine]], tuple[StoreEvent, ...]]
    workload: Callable[[Cluster, str, float], Workload]
    control: Control
    probe: Callable[[Node], Probe]
    copies: Callable[[Cluster], AbstractContextManager[Copies]]
    lock: LockRecipe | None = None
    afresh: Callable[[Cluster], Cluster] | None = None


class SocketProbe:
    """A probe of few bytes over a plain socket: nothing between the kernel's word and the evidence.

    Args:
        question: The bytes to send.
        complete: Whether these bytes are a whole answer; the end of the connection also
            ends one where `complete` is None, and then each question has its own connection.
        against: What an answer says against the node, empty if nothing.
    """

    def __init__(
        self,
        node: Node,
        question: bytes,
        complete: Callable[[bytes], bool] | None,
        against: Callable[[bytes], str],
    ) -> None:
        self._address = (node.host, node.host_port)
        self._question = question
        self._complete = complete
        self._against = against
        self._link: socket.socket | None = None
        self.says = ""

    def probe(self, patience_s: float) -> Beat:
        """Ask once."""
        sent = time.monotonic_ns()
        try:
            answer = self._ask(time.monotonic() + patience_s)
        except ConnectionError:
            return self._lost(sent, Evidence.REFUSED)
        except OSError:  # a time-out; or no route, which tells of the path, not of the node
            return self._lost(sent, Evidence.SILENT)
        known = time.monotonic_ns()
        self.says = self._against(answer)
        if self._complete is None:
            self.close()
        return Beat(sent, known, Evidence.ANSWERED)

    def _ask(self, end_s: float) -> bytes:
        link = self._link or socket.create_connection(self._address, timeout=_left(end_s))
        self._link = link
        link.settimeout(_left(end_s))
        link.sendall(self._question)
        answer = b""
        while self._complete is None or not self._complete(answer):
            link.settimeout(_left(end_s))
            if chunk := link.recv(4096):
                answer += chunk
            elif answer and self._complete is None:
                break
            else:
                raise ConnectionResetError("closed without an answer")
        return answer

    def _lost(self, sent: int, evidence: Evidence) -> Beat:
        # A late answer to this question must not be taken for the next one's.
        self.close()
        return Beat(sent, time.monotonic_ns(), evidence)

    def close(self) -> None:
        """Let the connection go."""
        if self._link is not None:
            with contextlib.suppress(OSError):
                self._link.close()
            self._link = None


def _left(end_s: float) -> float:
    left = end_s - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A node that gave no answer, and why.

    Args:
        silent: Whether it was a time-out: no evidence of death, the path may be cut.
    """

    state: NodeState
    why: str
    silent: bool = False


def not_running(node: Node, containers: Mapping[str, Container]) -> Unanswered | None:
    """Why there is no use in asking a node; None if its container runs.

    The container's state is the better witness: a frozen server would only cost
    the time-out, and who answers at the port of a missing one is a stranger.
    """
    container = containers.get(node.name)
    if container is None:
        return Unanswered(NodeState.MISSING, "it has no container")
    if container.state is ContainerState.PAUSED:
        return Unanswered(NodeState.PAUSED, "its processes are frozen")
    if container.state is not ContainerState.RUNNING:
        return Unanswered(NodeState.STOPPED, container.status)
    return None


def unreachable(error: object) -> Unanswered:
    """A running container without an answer, and the socket's word why."""
    words = f"{type(error).__name__} {error}".lower()
    silent = "timeout" in words or "timed out" in words
    return Unanswered(NodeState.UNREACHABLE, first_line(error), silent)


def blind(reports: Iterable[object]) -> bool:
    """Whether every single answer is missing by a time-out: nothing can be told from here."""
    every = list(reports)
    return bool(every) and all(isinstance(r, Unanswered) and r.silent for r in every)


def first_line(error: object) -> str:
    """An error's first line, or its class where it has no text."""
    text = str(error).strip().partition("\n")[0]
    if len(text) > _WORDS:  # drivers put whole connections into their messages
        text = text[: _WORDS - 1] + "…"
    return text or type(error).__name__


def now() -> datetime:
    """The moment of a snapshot."""
    return datetime.now(UTC)


class NoRole(ClusterUnhealthy):
    """No node has the role that an action needs."""


def only(snapshot: Snapshot, *roles: Role) -> str:
    """The first node that is up in one of `roles`.

    Raises:
        NoRole: There is none.
    """
    for view in snapshot.with_role(*roles):
        return view.name
    raise NoRole(
        f"cluster {snapshot.name} has no {' or '.join(roles)}",
        detail="; ".join(snapshot.reasons) or None,
        hint=f"see: haops status {snapshot.name}",
    )


def match_events(
    lines: Sequence[LogLine], patterns: Sequence[tuple[EventKind, str]]
) -> tuple[StoreEvent, ...]:
    """The lines that contain a pattern, as events in order of time; the first pattern that fits counts."""
    found = []
    for line in lines:
        for kind, pattern in patterns:
            if match := re.search(pattern, line.text):
                found.append(StoreEvent(line.at_ns, kind, line.node, line.text[match.start() :].strip()))
                break
    return tuple(sorted(found, key=lambda event: event.at_ns))

"""What the other rooms may ask of a container runtime.

`docker.py` answers it with a real engine; the contract tests answer it with a
fake, so that every decision above this line can be tested without one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from haops.cluster.spec import Cluster

_LAST_WORDS: Final = 15
_LOOKED_AT: Final = 300
# As Java, Redis and ZooKeeper say what ended them; no line of a stack trace.
_CAUSE: Final = re.compile(r"^(?!\s+at ).*(?:Exception\b.*: |Error: |\bERROR\b|\bFATAL\b|\bFatal error\b)")


class ContainerState(StrEnum):
    """A container's own state; CREATED was never started, MISSING is not there."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Container:
    """One container as its labels and the engine describe it."""

    id: str
    cluster: str
    store: str
    node: str
    owner: str
    expires: str
    state: ContainerState
    status: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that a node's process printed, and when the engine got it (UTC, Unix ns)."""

    node: str
    at_ns: int
    text: str


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What carries a cluster's labels: containers, networks and volumes, by cluster and owner."""

    cluster: str
    owner: str
    containers: int
    networks: int
    volumes: int
    expires: str


@dataclass(frozen=True, slots=True)
class Moment:
    """When a fault took effect, CLOCK_MONOTONIC in ns; it lies between the two.

    Args:
        sent_ns: When the engine was told: what others notice, they notice after this.
        seen_ns: When it had taken effect: nothing sent after this can a dead process have answered.
    """

    sent_ns: int
    seen_ns: int


@dataclass(frozen=True, slots=True)
class Companion:
    """A container that runs beside a cluster's nodes, and that no client knows.

    Args:
        node: Its name among the nodes' containers.
        user: UID:GID of its process.
        folder: The one folder of this machine that it sees, and may write.
        seen_as: Where it sees it.
        joins: Further clusters whose networks it is on.
    """

    node: str
    image: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    user: str
    folder: Path
    seen_as: str
    joins: tuple[Cluster, ...] = ()


@dataclass(frozen=True, slots=True)
class FileFact:
    """A file in a node's container.

    Args:
        path: Relative to the folder that was listed.
        modified_ns: Unix ns.
    """

    path: str
    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class FileToWrite:
    """A file to be: its path in the folder, its exact size and its bytes."""

    path: str
    size: int
    content: Iterable[bytes]


class Runtime(Protocol):
    """The container engine, as far as haops uses it."""

    def ping(self) -> str:
        """The engine's version. Raises EngineUnavailable."""
        ...

    def compose_up(self, cluster: Cluster, folder: Path) -> None:
        """Create and start what is missing of a cluster; returns without waiting for health."""
        ...

    def containers(self, cluster: Cluster) -> Mapping[str, Container]:
        """The cluster's containers by node name, whatever state they are in."""
        ...

    def kill(self, cluster: Cluster, node: str) -> Moment:
        """SIGKILL the node's process; returns when the container has ended."""
        ...

    def start(self, cluster: Cluster, node: str) -> None:
        """Start a stopped node; a running one stays as it is."""
        ...

    def stop(self, cluster: Cluster, node: str, *, grace_s: float) -> None:
        """Ask the node's process to end (SIGTERM) and wait; after `grace_s` seconds it is killed."""
        ...

    def execute(self, cluster: Cluster, node: str, argv: Sequence[str]) -> tuple[int, str]:
        """Run a command in the node's container: its exit code and what it printed."""
        ...

    def files(self, cluster: Cluster, node: str, folder: str) -> tuple[FileFact, ...]:
        """Every file below a folder of a running node's container, sorted; empty where there is no such folder."""
        ...

    def read_file(self, cluster: Cluster, node: str, path: str) -> Iterator[bytes]:
        """A file's bytes, block by block; the container may be stopped."""
        ...

    def write_files(
        self, cluster: Cluster, node: str, folder: str, files: Iterable[FileToWrite], *, uid: int
    ) -> None:
        """Write files below an existing folder of a node's container, owned by `uid`; streams, in order.

        The container may be stopped: its volumes are written all the same.
        """
        ...

    def doorstep(self, cluster: Cluster) -> str | None:
        """The address of this machine that the cluster's nodes reach, on their own network; None if there is none."""
        ...

    def pause(self, cluster: Cluster, node: str) -> Moment:
        """Freeze a node's processes; returns when they are frozen."""
        ...

    def unpause(self, cluster: Cluster, node: str) -> None:
        """Thaw a node's processes; a node that is not frozen stays as it is."""
        ...

    def cut(self, cluster: Cluster, node: str, peers: Sequence[str]) -> Moment:
        """Drop all packets between a node and its sisters `peers`; clients still reach it."""
        ...

    def join(self, cluster: Cluster, node: str) -> None:
        """Undo `cut`; a node that is not cut off, or does not run, stays as it is."""
        ...

    def discard(self, cluster: Cluster, node: str) -> None:
        """Remove a node's container, whatever state it is in; its volume stays."""
        ...

    def forget_disk(self, cluster: Cluster, node: str) -> None:
        """Remove a node's container and its data volume; what is missing already is fine."""
        ...

    def run_beside(self, cluster: Cluster, companion: Companion) -> bool:
        """Start a companion in place of an earlier one; False if it runs by the same description already.

        Carries the cluster's labels, so that `remove` removes it; publishes no port.
        """
        ...

    def logs(
        self, cluster: Cluster, node: str, *, since_ns: int = 0, tail: int | None = None
    ) -> list[LogLine]:
        """What a node printed since a Unix time in ns, or its last `tail` lines."""
        ...

    def leftovers(self) -> Sequence[Leftovers]:
        """What is on the engine, grouped by cluster and owner."""
        ...

    def remove(self, cluster: str, owner: str, *, keep_volumes: bool) -> None:
        """Remove everything that carries these labels, in any state, without the record's help."""
        ...

    def networks(self) -> Sequence[str]:
        """Subnets of the engine's networks, as CIDR."""
        ...


def last_words(runtime: Runtime, cluster: Cluster, node: str) -> str:
    """The end of a node's log; before it the line that says what was wrong, where that stands further up."""
    lines = [line.text for line in runtime.logs(cluster, node, tail=_LOOKED_AT)]
    end = lines[-_LAST_WORDS:]
    cause = next((text for text in reversed(lines) if _CAUSE.search(text)), None)
    return "\n".join(end if cause is None or cause in end else [cause, "...", *end])

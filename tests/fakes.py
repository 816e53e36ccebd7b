"""Stand-ins for what a unit test does without: a container engine, time, servers, clients."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from haops.cluster.snapshot import Finding, FindingKind, NodeState, NodeView, Role, Snapshot, Verdict
from haops.cluster.spec import Cluster, ClusterSpec, Node, Phase, StoreName
from haops.errors import EnvironmentTrouble
from haops.runtime.port import (
    Companion,
    Container,
    ContainerState,
    FileFact,
    FileToWrite,
    Leftovers,
    LogLine,
    Moment,
)
from haops.stores import load
from haops.stores.base import Readiness, Store
from haops.wait import Clock

OWNER = "abcdef123456"
CREATED = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


def make_cluster(
    store: StoreName | str = StoreName.REDIS,
    nodes: int = 3,
    *,
    name: str | None = None,
    ports: Sequence[int] | None = None,
    phase: Phase = Phase.READY,
    owner: str = OWNER,
    expires: datetime | None = None,
    image: str = "image:1",
    mode: str | None = None,
    observers: int = 0,
    dcs: int = 1,
) -> Cluster:
    """A cluster as `up` lays it out, without a state directory or an engine."""
    kind = StoreName(store)
    adapter = load(kind)
    spec = ClusterSpec(name or kind.value, kind, nodes=nodes, observers=observers, dcs=dcs)
    plans = adapter.layout(spec)
    wanted = sum(2 if plan.has_admin else 1 for plan in plans)
    free = iter(ports if ports is not None else range(20000, 20000 + wanted))
    members = []
    for offset, plan in enumerate(plans):
        host_port = next(free)
        members.append(
            Node(
                name=plan.name,
                kind=plan.kind,
                index=plan.index,
                address=f"10.231.0.{10 + offset}",
                port=plan.port or host_port,
                host_port=host_port,
                admin_host_port=next(free) if plan.has_admin else None,
                params=dict(plan.params),
            )
        )
    return Cluster(
        name=name or kind.value,
        store=kind,
        owner=owner,
        subnet="10.231.0.0/27",
        image=image,
        nodes=tuple(members),
        created=CREATED,
        expires=expires,
        phase=phase,
        mode=mode or adapter.modes.offered[0].name,
    )


def container(
    cluster: Cluster, node: str, state: ContainerState = ContainerState.RUNNING, status: str = ""
) -> Container:
    """One container of a cluster."""
    words = {ContainerState.RUNNING: "Up 2 seconds", ContainerState.STOPPED: "Exited (137) 1 second ago"}
    return Container(
        id=f"id-{cluster.name}-{node}",
        cluster=cluster.name,
        store=cluster.store.value,
        node=node,
        owner=cluster.owner,
        expires="never",
        state=state,
        status=status or words.get(state, state.value),
    )


def all_running(cluster: Cluster) -> dict[str, Container]:
    """A running container for each node."""
    return {node.name: container(cluster, node.name) for node in cluster.nodes}


def snapshot(cluster: Cluster, verdict: Verdict = Verdict.HEALTHY, reasons: Sequence[str] = ()) -> Snapshot:
    """A snapshot in which every node is up; the first node of a store leads."""
    lead = {"redis": Role.PRIMARY, "zookeeper": Role.LEADER, "cassandra": Role.MEMBER}[cluster.store.value]
    rest = {"redis": Role.REPLICA, "zookeeper": Role.FOLLOWER, "cassandra": Role.MEMBER}[cluster.store.value]
    views = tuple(
        NodeView(
            node.name,
            Role.SENTINEL if node in cluster.sentinels else (lead if node.index == 1 else rest),
            NodeState.UP,
            node.host,
            node.host_port,
            version="1.2.3",
        )
        for node in cluster.nodes
    )
    findings = tuple(Finding(FindingKind.NODE, reason) for reason in reasons)
    return Snapshot(cluster.name, cluster.store, cluster.mode, CREATED, verdict, findings, views)


class FakeClock:
    """Time that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        """The time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept.append(seconds)
        self.now += seconds

    @property
    def clock(self) -> Clock:
        """For injection."""
        return Clock(self.monotonic, self.sleep)


@dataclass
class Labelled:
    """What the fake engine has of one cluster and owner."""

    nodes: dict[str, ContainerState] = field(default_factory=dict)
    networks: int = 0
    volumes: int = 0
    expires: str = "never"


class FakeRuntime:
    """The `Runtime` in memory.

    `fail[method]` holds what the method's next calls raise, one after the other (None: nothing).
    `disk` has the nodes' files, by node and path; `answer` is what commands run in a node's container
    come to. `dies` names nodes that end as soon as they are started; `half` creates only the first
    node before a failure of `compose_up`, as a crash in the middle does.
    """

    def __init__(self) -> None:
        self.engine: dict[tuple[str, str], Labelled] = {}
        self.fail: dict[str, list[BaseException | None]] = {}
        self.dies: set[str] = set()
        self.half = False
        self.foreign_subnets: list[str] = []
        self.lines: dict[str, list[LogLine]] = {}
        self.calls: list[tuple[str, ...]] = []
        self.projects: list[str] = []
        self.companions: list[Companion] = []
        self.cut_off: set[str] = set()
        self.before_kill: Callable[[], None] = lambda: None
        self.answer: Callable[[str, Sequence[str]], tuple[int, str]] = lambda node, argv: (0, "")
        self.disk: dict[tuple[str, str], bytes] = {}
        self.moment_ns: Callable[[], int] = lambda: 42

    def _call(self, method: str, *about: str) -> None:
        self.calls.append((method, *about))
        queue = self.fail.get(method)
        if queue and (error := queue.pop(0)) is not None:
            raise error

    def of(self, cluster: Cluster) -> Labelled:
        """What the engine has of a cluster."""
        return self.engine.setdefault((cluster.name, cluster.owner), Labelled())

    def ping(self) -> str:
        self._call("ping")
        return "0.fake"

    def compose_up(self, cluster: Cluster, folder: Path) -> None:
        self.projects.append((folder / "compose.yaml").read_text(encoding="utf-8"))
        here = self.of(cluster)
        here.expires = cluster.expires.isoformat() if cluster.expires else "never"
        if self.half:
            here.networks = 1
            here.nodes[cluster.nodes[0].name] = ContainerState.RUNNING
        self._call("compose_up", cluster.name)
        here.networks, here.volumes = 1, len(cluster.nodes)
        for node in cluster.nodes:
            # A frozen container stays frozen; one that was made but never started has no configuration.
            if here.nodes.get(node.name) not in (ContainerState.PAUSED, ContainerState.CREATED):
                here.nodes[node.name] = (
                    ContainerState.STOPPED if node.name in self.dies else ContainerState.RUNNING
                )

    def containers(self, cluster: Cluster) -> Mapping[str, Container]:
        self._call("containers", cluster.name)
        return {n: container(cluster, n, s) for n, s in self.of(cluster).nodes.items()}

    def kill(self, cluster: Cluster, node: str) -> Moment:
        self.before_kill()
        self._call("kill", node)
        self.of(cluster).nodes[node] = ContainerState.STOPPED
        return Moment(self.moment_ns(), self.moment_ns())

    def start(self, cluster: Cluster, node: str) -> None:
        self._call("start", node)
        self.of(cluster).nodes[node] = ContainerState.RUNNING

    def stop(self, cluster: Cluster, node: str, *, grace_s: float) -> None:
        self._call("stop", node)
        self.of(cluster).nodes[node] = ContainerState.STOPPED

    def execute(self, cluster: Cluster, node: str, argv: Sequence[str]) -> tuple[int, str]:
        self._call("execute", node, *argv)
        return self.answer(node, argv)

    def files(self, cluster: Cluster, node: str, folder: str) -> tuple[FileFact, ...]:
        self._call("files", node, folder)
        start = folder.rstrip("/") + "/"
        return tuple(
            FileFact(path.removeprefix(start), len(content), 0)
            for (at, path), content in sorted(self.disk.items())
            if at == node and path.startswith(start)
        )

    def read_file(self, cluster: Cluster, node: str, path: str) -> Iterator[bytes]:
        self._call("read_file", node, path)
        if (node, path) not in self.disk:
            raise EnvironmentTrouble("the engine refused, or is gone", detail=f"no such file {path}")
        content = self.disk[node, path]
        return (content[at : at + 4096] for at in range(0, len(content), 4096))

    def write_files(
        self, cluster: Cluster, node: str, folder: str, files: Iterable[FileToWrite], *, uid: int
    ) -> None:
        self._call("write_files", node, folder)
        for file in files:
            content = b"".join(file.content)
            assert len(content) == file.size
            self.disk[node, f"{folder.rstrip('/')}/{file.path}"] = content

    def doorstep(self, cluster: Cluster) -> str | None:
        self._call("doorstep")
        return "127.0.0.1"

    def pause(self, cluster: Cluster, node: str) -> Moment:
        self._call("pause", node)
        self.of(cluster).nodes[node] = ContainerState.PAUSED
        return Moment(self.moment_ns(), self.moment_ns())

    def cut(self, cluster: Cluster, node: str, peers: Sequence[str]) -> Moment:
        self._call("cut", node, *peers)
        self.cut_off.add(node)
        return Moment(self.moment_ns(), self.moment_ns())

    def join(self, cluster: Cluster, node: str) -> None:
        self._call("join", node)
        self.cut_off.discard(node)

    def unpause(self, cluster: Cluster, node: str) -> None:
        self._call("unpause", node)
        self.of(cluster).nodes[node] = ContainerState.RUNNING

    def discard(self, cluster: Cluster, node: str) -> None:
        self._call("discard", node)
        self.of(cluster).nodes.pop(node, None)

    def forget_disk(self, cluster: Cluster, node: str) -> None:
        self._call("forget_disk", node)
        self.of(cluster).nodes.pop(node, None)

    def run_beside(self, cluster: Cluster, companion: Companion) -> bool:
        self._call("run_beside", companion.node, *companion.argv)
        here = self.of(cluster).nodes
        running = here.get(companion.node) is ContainerState.RUNNING
        if running and self.companions and self.companions[-1] == companion:
            return False
        self.companions.append(companion)
        died = companion.node in self.dies
        here[companion.node] = ContainerState.STOPPED if died else ContainerState.RUNNING
        return True

    def logs(
        self, cluster: Cluster, node: str, *, since_ns: int = 0, tail: int | None = None
    ) -> list[LogLine]:
        self._call("logs", node)
        lines = [line for line in self.lines.get(node, []) if line.at_ns >= since_ns]
        return lines if tail is None else lines[-tail:]

    def leftovers(self) -> Sequence[Leftovers]:
        self._call("leftovers")
        return [
            Leftovers(name, owner, len(here.nodes), here.networks, here.volumes, here.expires)
            for (name, owner), here in sorted(self.engine.items())
            if here.nodes or here.networks or here.volumes
        ]

    def remove(self, cluster: str, owner: str, *, keep_volumes: bool) -> None:
        self._call("remove", cluster, owner)
        here = self.engine.setdefault((cluster, owner), Labelled())
        here.nodes.clear()
        here.networks = 0
        if not keep_volumes:
            here.volumes = 0

    def networks(self) -> Sequence[str]:
        self._call("networks")
        return list(self.foreign_subnets)


class FakeReadiness:
    """Answers from a script; its last answer stays."""

    def __init__(self, script: Sequence[Mapping[str, str]]) -> None:
        self._script = list(script)

    def pending(self) -> Mapping[str, str]:
        """The next answer."""
        return self._script.pop(0) if len(self._script) > 1 else self._script[0]


def with_readiness(store: Store, *script: Mapping[str, str]) -> Store:
    """A store whose readiness answers from a script; ready at once without one, and healthy then."""

    def observe(cluster: Cluster, containers: Mapping[str, Container]) -> Snapshot:
        return snapshot(cluster)

    @contextmanager
    def readiness(cluster: Cluster) -> Iterator[Readiness]:
        yield FakeReadiness(script or ({},))

    factory: Callable[[Cluster], AbstractContextManager[Readiness]] = readiness
    settled = replace(store.modes, settle=lambda cluster, mode: (), ask=lambda cluster, mode: ())
    return replace(store, readiness=factory, observe=observe, modes=settled)


@contextmanager
def held_ports(count: int) -> Iterator[list[int]]:
    """Ports on loopback that refuse connections: bound, so that nobody else can listen there."""
    holders = []
    try:
        for _ in range(count):
            holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            holders.append(holder)
            holder.bind(("127.0.0.1", 0))
        yield [holder.getsockname()[1] for holder in holders]
    finally:
        for holder in holders:
            holder.close()


@contextmanager
def answering(server: socketserver.ThreadingTCPServer) -> Iterator[int]:
    """Let a server on loopback accept in a thread of its own; yields its port."""
    over = threading.Event()

    def accept() -> None:
        while not over.is_set():
            server.handle_request()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        over.set()
        # A visitor wakes it: `serve_forever` would poll, and its end take as long as an interval.
        socket.create_connection(server.server_address[:2]).close()
        thread.join()

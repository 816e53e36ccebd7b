"""The Docker engine: Compose through testcontainers, the rest through the engine's API."""

from __future__ import annotations

import contextlib
import functools
import logging
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from haops.cluster.spec import Cluster
from haops.errors import (
    AddressTaken,
    BadInput,
    EngineUnavailable,
    EnvironmentTrouble,
    HaopsError,
    ImageUnavailable,
    SubnetTaken,
)
from haops.runtime import archive, beside, images, inside, labels, network
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

Param = ParamSpec("Param")
Answer = TypeVar("Answer")

_STATES = {
    "created": ContainerState.CREATED,
    "running": ContainerState.RUNNING,
    "restarting": ContainerState.RUNNING,
    "paused": ContainerState.PAUSED,
}
_PORT_TAKEN = (
    "port is already allocated",
    "failed to bind host port",
    "bind: address already in use",
    "listen tcp",
)
_START_ENGINE = "start an engine, or let haops do it: make engine"


def _translated(method: Callable[Param, Answer]) -> Callable[Param, Answer]:
    """Turn the engine's refusals and silences into errors of ours."""

    @functools.wraps(method)
    def call(*args: Param.args, **kwargs: Param.kwargs) -> Answer:
        import docker
        import requests

        try:
            return method(*args, **kwargs)
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise EnvironmentTrouble("the engine refused, or is gone", detail=first_words(error)) from error

    return call


def first_words(error: Exception) -> str:
    """An error's first line."""
    return str(error).partition("\n")[0] or type(error).__name__


class DockerRuntime:
    """The `Runtime` on a real engine; connects on first use."""

    def __init__(self) -> None:
        self._connected: Any = None

    @property
    def _client(self) -> Any:
        if self._connected is None:
            import docker  # 120 ms

            try:
                self._connected = docker.from_env(timeout=60)
                self._connected.ping()
            except docker.errors.DockerException as error:
                self._connected = None
                raise _unavailable(error) from error
        return self._connected

    @_translated
    def ping(self) -> str:
        """The engine's version."""
        return str(self._client.version()["Version"])

    def compose_up(self, cluster: Cluster, folder: Path) -> None:
        """`docker compose up --detach` of the rendered project."""
        from testcontainers.compose import DockerCompose  # 165 ms

        self.ping()
        # testcontainers logs a failed command's whole output; the error below says it once.
        logging.getLogger("testcontainers.compose.compose").setLevel(logging.CRITICAL)
        try:
            compose = DockerCompose(folder, compose_file_name="compose.yaml", wait=False)
            # The file names its project too, but COMPOSE_PROJECT_NAME of the user's shell would win.
            compose.compose_command_property[2:2] = ["--project-name", cluster.project]
            compose.start()
        except subprocess.CalledProcessError as error:
            raise _compose_trouble(cluster, error.stderr.decode(errors="replace")) from error
        except FileNotFoundError as error:
            raise EngineUnavailable("there is no docker command", hint=_START_ENGINE) from error

    @_translated
    def containers(self, cluster: Cluster) -> Mapping[str, Container]:
        """The cluster's containers by node name."""
        # The low-level call: the high-level one inspects each container once more.
        rows = self._client.api.containers(all=True, filters={"label": _wanted(cluster)})
        return {c.node: c for c in map(_container, rows) if c.node}

    def _handle(self, cluster: Cluster, node: str) -> Any:
        view = self.containers(cluster).get(node)
        if view is None:
            raise BadInput(f"cluster {cluster.name} has no container for {node!r}", hint="see: haops status")
        return self._client.containers.get(view.id)

    @_translated
    def kill(self, cluster: Cluster, node: str) -> Moment:
        """SIGKILL, then wait until the engine has seen the end."""
        handle = self._handle(cluster, node)
        sent_ns = time.monotonic_ns()
        handle.kill("SIGKILL")
        handle.wait(timeout=30)
        seen_ns = time.monotonic_ns()
        handle.reload()
        finished = _unix_ns(handle.attrs["State"]["FinishedAt"]) - (time.time_ns() - time.monotonic_ns())
        return Moment(sent_ns, min(max(finished, sent_ns), seen_ns))

    @_translated
    def start(self, cluster: Cluster, node: str) -> None:
        """Start a stopped container."""
        self._handle(cluster, node).start()

    @_translated
    def stop(self, cluster: Cluster, node: str, *, grace_s: float) -> None:
        """SIGTERM, then SIGKILL."""
        self._handle(cluster, node).stop(timeout=max(int(grace_s), 1))

    @_translated
    def execute(self, cluster: Cluster, node: str, argv: Sequence[str]) -> tuple[int, str]:
        """`docker exec`, output and errors as one text; nobody waits longer than ten minutes for it."""
        code, said = inside.run(self._handle(cluster, node), argv)
        return code, said.decode(errors="replace")

    @_translated
    def files(self, cluster: Cluster, node: str, folder: str) -> tuple[FileFact, ...]:
        """By `find` in the container."""
        return archive.listing(self._handle(cluster, node), folder)

    @_translated
    def read_file(self, cluster: Cluster, node: str, path: str) -> Iterator[bytes]:
        """By the engine's archive of one file, which also a stopped container gives."""
        return archive.read(self._handle(cluster, node), path)

    @_translated
    def write_files(
        self, cluster: Cluster, node: str, folder: str, files: Iterable[FileToWrite], *, uid: int
    ) -> None:
        """By a tar that is made while it is sent."""
        archive.write(self._handle(cluster, node), folder, files, uid)

    @_translated
    def doorstep(self, cluster: Cluster) -> str | None:
        """The gateway of the cluster's network, if it is an address of this machine."""
        rows = self._client.api.networks(filters={"label": _wanted(cluster)})
        return archive.own_gateway(rows)

    @_translated
    def pause(self, cluster: Cluster, node: str) -> Moment:
        """Freeze by the cgroup's freezer."""
        handle = self._handle(cluster, node)
        sent_ns = time.monotonic_ns()
        handle.pause()
        return Moment(sent_ns, time.monotonic_ns())

    @_translated
    def unpause(self, cluster: Cluster, node: str) -> None:
        """Thaw; not frozen is fine."""
        handle = self._handle(cluster, node)
        if handle.status == "paused":
            handle.unpause()

    @_translated
    def cut(self, cluster: Cluster, node: str, peers: Sequence[str]) -> Moment:
        """By rules in the node's network namespace."""
        handle = self._handle(cluster, node)
        addresses = [cluster.node(peer).address for peer in peers]
        return network.cut(self._client, cluster, handle.id, images.resolve("tools", None), addresses)

    @_translated
    def join(self, cluster: Cluster, node: str) -> None:
        """Take the rules away."""
        view = self.containers(cluster).get(node)
        if view and view.state is ContainerState.RUNNING:
            network.join(self._client, cluster, view.id, images.resolve("tools", None))

    @_translated
    def discard(self, cluster: Cluster, node: str) -> None:
        """Remove the container alone."""
        self._handle(cluster, node).remove(force=True, v=True)

    @_translated
    def forget_disk(self, cluster: Cluster, node: str) -> None:
        """Container, then volume."""
        import docker

        if view := self.containers(cluster).get(node):
            with contextlib.suppress(docker.errors.NotFound):
                self._client.api.remove_container(view.id, force=True, v=True)
        with contextlib.suppress(docker.errors.NotFound):
            self._client.api.remove_volume(f"{cluster.project}_{node}-data", force=True)

    @_translated
    def run_beside(self, cluster: Cluster, companion: Companion) -> bool:
        """A container by the engine's API: Compose would take it for a service of the project."""
        return beside.run(self._client, cluster, companion)

    @_translated
    def logs(
        self, cluster: Cluster, node: str, *, since_ns: int = 0, tail: int | None = None
    ) -> list[LogLine]:
        """Lines with the engine's own time stamps."""
        since = datetime.fromtimestamp(since_ns // 1_000_000_000, UTC) if since_ns else None
        raw: bytes = self._handle(cluster, node).logs(
            timestamps=True, since=since, tail="all" if tail is None else tail
        )
        lines = (_log_line(node, line) for line in raw.decode(errors="replace").splitlines())
        return [line for line in lines if line and line.at_ns >= since_ns]

    @_translated
    def leftovers(self) -> Sequence[Leftovers]:
        """Everything labelled, grouped by cluster and owner."""
        wanted = {"label": labels.CLUSTER}
        client = self._client
        kinds = (
            [row["Labels"] for row in client.api.containers(all=True, filters=wanted)],
            [row["Labels"] for row in client.api.networks(filters=wanted)],
            [row["Labels"] for row in client.api.volumes(filters=wanted)["Volumes"] or ()],
        )
        counts = [Counter((row[labels.CLUSTER], row.get(labels.OWNER, "")) for row in rows) for rows in kinds]
        expires = {
            (row[labels.CLUSTER], row.get(labels.OWNER, "")): row.get(labels.EXPIRES, "")
            for rows in kinds
            for row in rows
        }
        return [
            Leftovers(*key, counts[0][key], counts[1][key], counts[2][key], expires[key])
            for key in sorted(expires)
        ]

    @_translated
    def remove(self, cluster: str, owner: str, *, keep_volumes: bool) -> None:
        """Containers, then the network, then the volumes."""
        import docker

        wanted = {"label": [f"{labels.CLUSTER}={cluster}", f"{labels.OWNER}={owner}"]}
        client = self._client
        for row in client.api.containers(all=True, filters=wanted):
            with contextlib.suppress(docker.errors.NotFound):
                client.api.remove_container(row["Id"], force=True, v=True)  # v: unnamed volumes
        for row in client.api.networks(filters=wanted):
            with contextlib.suppress(docker.errors.NotFound):
                beside.release(client, row)  # another cluster's guard, which holds its lease here
                client.api.remove_network(row["Id"])
        if not keep_volumes:
            for row in client.api.volumes(filters=wanted)["Volumes"] or ():
                with contextlib.suppress(docker.errors.NotFound):
                    client.api.remove_volume(row["Name"], force=True)

    @_translated
    def networks(self) -> Sequence[str]:
        """Subnets of all the engine's networks."""
        return [
            config["Subnet"]
            for network in self._client.api.networks()
            for config in (network.get("IPAM") or {}).get("Config") or ()
            if config.get("Subnet")
        ]


def _wanted(cluster: Cluster) -> list[str]:
    return [f"{labels.CLUSTER}={cluster.name}", f"{labels.OWNER}={cluster.owner}"]


def _container(row: Mapping[str, Any]) -> Container:
    label = row["Labels"]
    return Container(
        id=row["Id"],
        cluster=label.get(labels.CLUSTER, ""),
        store=label.get(labels.STORE, ""),
        node=label.get(labels.NODE, ""),
        owner=label.get(labels.OWNER, ""),
        expires=label.get(labels.EXPIRES, ""),
        state=_STATES.get(row["State"], ContainerState.STOPPED),
        status=row["Status"],
    )


def _log_line(node: str, line: str) -> LogLine | None:
    stamp, _, text = line.partition(" ")
    try:
        return LogLine(node, _unix_ns(stamp), text)
    except ValueError:
        return None


def _unix_ns(stamp: str) -> int:
    """RFC 3339 in UTC with up to nine digits of a second, of which fromisoformat keeps six."""
    seconds, _, fraction = stamp.rstrip("Z").partition(".")
    whole = int(datetime.fromisoformat(seconds).replace(tzinfo=UTC).timestamp())
    return whole * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or "0")


def _unavailable(error: Exception) -> EngineUnavailable:
    words = str(error)
    if "Permission denied" in words or "PermissionError" in words:
        return EngineUnavailable(
            "the container engine may not be used by this user",
            detail=words,
            hint="add yourself to the group docker and log in again, or run haops with sudo",
        )
    return EngineUnavailable("no container engine answers", detail=words, hint=_START_ENGINE)


def _compose_trouble(cluster: Cluster, words: str) -> HaopsError:
    said = "\n".join(line for line in words.strip().splitlines()[-6:])
    low = words.lower()
    # "address already in use" alone may also be a container's fixed address.
    if any(phrase in low for phrase in _PORT_TAKEN):
        return AddressTaken(
            f"a host port of {cluster.name} is taken",
            detail=said,
            hint=f"free it, or lay the cluster out anew: haops down {cluster.name} --volumes",
        )
    if "pool overlaps" in low:
        return SubnetTaken(f"the subnet {cluster.subnet} is taken", detail=said)
    if "no such image" in low or "pull access denied" in low or "manifest" in low:
        return ImageUnavailable(f"image {cluster.image} is missing", detail=said, hint="haops images build")
    if "is not a docker command" in low or "unknown command" in low or "unknown shorthand flag" in low:
        return EngineUnavailable("the docker command has no Compose v2", detail=said, hint=_START_ENGINE)
    if "no space left" in low:
        return EnvironmentTrouble("the engine's disk is full", detail=said, hint="docker system prune")
    return EnvironmentTrouble(f"Compose could not start {cluster.name}", detail=said)

"""A guard as a container of its cluster: starting it, finding that it watches, ending it.

The container shares the state directory with the commands on this machine, so
that its locks, its orders and its journal are the same files; for the servers
it is one more machine on their network.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from haops.cluster.spec import Cluster
from haops.cluster.state import StateDir
from haops.control.guard import Act
from haops.control.lifecycle import Lifecycle
from haops.errors import BadInput, ClusterUnhealthy, DeadlineExceeded
from haops.runtime.port import Companion, ContainerState
from haops.stores import load
from haops.stores.plan import NotPlannable

NODE: Final = "guard"
VANTAGE: Final = "HAOPS_VANTAGE"
INSIDE: Final = "inside"

# Where the container sees the state directory: the same path as outside could lie in a folder
# that its user may not enter.
_STATE: Final = "/state"
_START_S: Final = 20.0
_POLL_S: Final = 0.1
_LAST_WORDS: Final = 15
_STOP_S: Final = 10.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Detached:
    """A guard's container; `fresh` if it was started just now."""

    container: str
    fresh: bool

    def __str__(self) -> str:
        return self.container if self.fresh else f"{self.container}, which ran already,"


def silent(_: str) -> None:
    """Say nothing."""


def seen_from_here(cluster: Cluster, environment: Mapping[str, str] = os.environ) -> Cluster:
    """A cluster as this process reaches it: `HAOPS_VANTAGE=inside` means over its own network.

    For looking and acting only: recorded, such a cluster would lose its published ports.

    Raises:
        BadInput: The variable has another value.
    """
    vantage = environment.get(VANTAGE, "")
    if vantage in ("", "outside"):
        return cluster
    if vantage != INSIDE:
        raise BadInput(f"{VANTAGE} is {vantage!r}", hint=f"allowed: {INSIDE}, outside")
    return replace(cluster, nodes=tuple(replace(n, host=n.address, host_port=n.port) for n in cluster.nodes))


def start_guard(
    lifecycle: Lifecycle,
    cluster: Cluster,
    arguments: Sequence[str],
    lease: str | None,
    *,
    say: Say = silent,
    image: Callable[[Say], str] | None = None,
) -> Detached:
    """Run `haops guard` in a container until `stop_guard`, `down` or `gc`; returns when it watches.

    One that runs with the same options stays; with others, or after haops has
    changed, it is replaced.

    Args:
        arguments: The guard's options.
        lease: The ZooKeeper cluster that is named in them.
        say: Hears of the image's build.
        image: Where the image comes from; built if it is missing or out of date.

    Raises:
        NotPlannable: The store needs no guard.
        ClusterUnhealthy: The guard ended; with its last words. Nothing is left of it.
    """
    if load(cluster.store).control.watch is None:
        raise NotPlannable(
            f"{cluster.store} needs no guard: its members fail over by themselves",
            hint=f"to see how it is: haops watch {cluster.name}",
        )
    joins = (lifecycle.state.get(lease),) if lease else ()
    with lifecycle.state.lock(cluster.name, "start of a guard", part="detach"):
        companion = describe(lifecycle.state, cluster, arguments, joins, (image or built)(say))
        fresh = lifecycle.runtime.run_beside(cluster, companion)
        if fresh:
            _await_watching(lifecycle, cluster)
    return Detached(f"{cluster.project}-{NODE}-1", fresh)


def stop_guard(lifecycle: Lifecycle, cluster: Cluster) -> bool:
    """End the detached guard between two of its looks, and remove its container; whether there was one."""
    with lifecycle.state.lock(cluster.name, "end of a guard", part="detach"):
        container = lifecycle.runtime.containers(cluster).get(NODE)
        if container is None:
            return False
        if container.state is ContainerState.RUNNING:
            lifecycle.runtime.stop(cluster, NODE, grace_s=_STOP_S)
        lifecycle.runtime.discard(cluster, NODE)
        return True


def built(say: Say) -> str:
    """The reference of the guard's image, which is here and up to date then."""
    from haops.runtime import images

    def tell(step: images.BuildProgress) -> None:
        if not step.text.startswith("Step "):  # a line for each would bury what the guard says
            say(f"{step.image}: {step.text}")

    images.build([NODE], on_progress=tell)
    return next(spec.ref for spec in images.specs() if spec.name == NODE)


def describe(
    state: StateDir, cluster: Cluster, arguments: Sequence[str], joins: Sequence[Cluster], image: str
) -> Companion:
    """What the container is to be."""
    root = state.root.resolve()
    # What it writes must stay removable by whoever owns the folder, and what they write readable for it.
    owner = root.stat()
    return Companion(
        node=NODE,
        image=image,
        argv=("guard", cluster.name, *arguments),
        environment={"HAOPS_STATE": _STATE, VANTAGE: INSIDE},
        user=f"{owner.st_uid}:{owner.st_gid}",
        folder=root,
        seen_as=_STATE,
        joins=tuple(joins),
    )


def _await_watching(lifecycle: Lifecycle, cluster: Cluster) -> None:
    clock, end = lifecycle.clock, lifecycle.clock.monotonic() + _START_S
    while True:
        words = [line.text for line in lifecycle.runtime.logs(cluster, NODE, tail=_LAST_WORDS)]
        if any(f"  {Act.WATCHES}: " in line for line in words):
            return
        detail = "\n".join(words) or "it said nothing"
        container = lifecycle.runtime.containers(cluster).get(NODE)
        # It would be restarted for ever: its own complaint tells that it has ended.
        complained = any(line.startswith("haops: ") for line in words)
        if complained or container is None or container.state is ContainerState.STOPPED:
            _discard(lifecycle, cluster)
            raise ClusterUnhealthy(f"the guard of {cluster.name} did not start", node=NODE, detail=detail)
        if clock.monotonic() >= end:
            _discard(lifecycle, cluster)
            raise DeadlineExceeded(
                f"the guard of {cluster.name} does not watch after {_START_S:g} s", node=NODE, detail=detail
            )
        clock.sleep(_POLL_S)


def _discard(lifecycle: Lifecycle, cluster: Cluster) -> None:
    if NODE in lifecycle.runtime.containers(cluster):
        lifecycle.runtime.discard(cluster, NODE)

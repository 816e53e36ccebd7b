"""Building a node that lost its disk anew, the part that all stores have alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from haops.cluster.snapshot import NodeState, Snapshot
from haops.cluster.spec import Cluster, Node
from haops.stores.plan import NotPlannable, Step, Tools
from haops.stores.restart import AWAIT

FORGET: Final = "forget"
LAY_OUT: Final = "lay-out"

# Marks a node that was built anew, in its parameters, kept in the cluster's record. For good: a
# changed configuration would make Compose build the container anew at the next `up`.
_REBUILT: Final = "rebuilt"


def rebuilt(cluster: Cluster, name: str) -> Cluster:
    """The cluster with a node that knows, when it first starts, that its sisters have its data."""
    nodes = tuple(
        replace(n, params={**n.params, _REBUILT: "yes"}) if n.name == name else n for n in cluster.nodes
    )
    return replace(cluster, nodes=nodes)


def is_rebuilt(node: Node) -> bool:
    """Whether a node is laid out as `rebuilt` does it."""
    return _REBUILT in node.params


def check_copies(cluster: Cluster, snapshot: Snapshot) -> None:
    """There must be somebody to copy from.

    Raises:
        NotPlannable: No server is there any more, not even stopped.
    """
    servers = {n.name for n in cluster.servers}
    if all(v.state is NodeState.MISSING for v in snapshot.nodes if v.name in servers):
        raise NotPlannable(
            "no copy is left: none of the servers is there to copy from",
            hint=f"haops up {cluster.name}, then, where the disks are gone too: "
            f"haops restore BACKUP --to {cluster.name}",
        )


def waste(snapshot: Snapshot, name: str) -> str:
    """What a plan's risk begins with where the node is well; empty where it is not."""
    well = any(v.name == name and v.state is NodeState.UP for v in snapshot.nodes)
    return f"{name} is healthy: its copy, which is whole, is thrown away; " if well else ""


def forget_step(name: str) -> Step:
    """The step that removes what is left of a node."""
    return Step(FORGET, name, f"remove the container of {name} and its disk")


def lay_out_step(name: str) -> Step:
    """The step that makes it again."""
    return Step(LAY_OUT, name, f"create {name} anew, in its own place, with an empty disk")


def steps(name: str, copies: str) -> tuple[Step, ...]:
    """A rebuilding where the node fetches its copy by itself.

    Args:
        copies: What it waits for, in words.
    """
    return (forget_step(name), lay_out_step(name), Step(AWAIT, name, copies))


class Rebuilder:
    """Forget a node's disk, and lay it out again with an empty one."""

    def __init__(
        self, cluster: Cluster, tools: Tools, marked: Callable[[Cluster, str], Cluster] = rebuilt
    ) -> None:
        self._cluster = cluster
        self._tools = tools
        self._marked = marked

    def forget(self, node: str) -> str:
        """Remove its container and its volume; what is missing already is fine."""
        self._tools.forget_disk(self._cluster, node)
        return "removed"

    def lay_out(self, node: str) -> str:
        """Create and start it, with its mark in the record."""
        self._cluster = self._marked(self._cluster, node)
        self._tools.lay_out(self._cluster)
        return "created and started"

    def go_on(self, begun: Sequence[Step]) -> bool:
        """After a crash: build what was forgotten; whether there was anything to build."""
        forgotten = [s.node for s in begun if s.verb == FORGET and s.node]
        for node in forgotten:
            self.forget(node)
            self.lay_out(node)
        return bool(forgotten)

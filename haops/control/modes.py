"""The replication mode of a standing cluster: shown as its servers tell it, and changed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from haops.cluster.spec import Cluster
from haops.cluster.state import StateDir
from haops.stores import load
from haops.stores.mode import Fact, Mode


@dataclass(frozen=True, slots=True)
class ModeReport:
    """A cluster's mode, and what its servers say to it.

    Args:
        changed: What was set on the servers just now.
        facts: What the mode stands on, asked of the servers.
    """

    cluster: str
    mode: Mode
    changed: tuple[str, ...]
    facts: tuple[Fact, ...]

    @property
    def holds(self) -> bool:
        """Whether every server is as the mode needs it."""
        return all(fact.holds for fact in self.facts)


def show_mode(cluster: Cluster) -> ModeReport:
    """The recorded mode, verified by asking the servers."""
    modes = load(cluster.store).modes
    mode = modes.get(cluster.mode)
    return ModeReport(cluster.name, mode, (), modes.ask(cluster, mode))


def set_mode(state: StateDir, cluster: Cluster, name: str) -> ModeReport:
    """Change a standing cluster's mode and verify it.

    The servers come first and the record last: cut off in between, the record still says the
    old mode, and `haops mode show` tells which settings differ from it.

    Raises:
        BadInput: The store lacks the mode, or this cluster cannot be used in it.
        Busy: Somebody else is at work on the cluster.
        ClusterUnhealthy: A server does not answer.
    """
    modes = load(cluster.store).modes
    mode = modes.check(cluster, name)
    with state.lock(cluster.name, f"mode set {mode.name}"):
        changed = modes.settle(cluster, mode)
        facts = modes.ask(cluster, mode)
        state.save(replace(state.get(cluster.name), mode=mode.name))
    return ModeReport(cluster.name, mode, changed, facts)

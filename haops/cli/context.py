"""What every command works with, made from the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from haops.control.execute import Operations
    from haops.control.lifecycle import Lifecycle


def lifecycle() -> Lifecycle:
    """The verbs on clusters, over the real engine and the user's state directory.

    Imported only when a command runs: `haops --help` pays for none of it.
    """
    from haops.cluster.state import StateDir
    from haops.control.lifecycle import Lifecycle
    from haops.runtime.docker import DockerRuntime

    return Lifecycle(StateDir(), DockerRuntime(), _resolve)


def operations() -> Operations:
    """Planned work on standing clusters."""
    from haops.control.execute import Operations

    return Operations(lifecycle())


def _resolve(store: str, override: str | None) -> str:
    from haops.runtime.images import resolve

    return resolve(store, override)


def cluster_names(incomplete: str) -> list[str]:
    """Shell completion of clusters' names."""
    from haops.cluster.state import StateDir

    return [name for name in StateDir().names() if name.startswith(incomplete)]

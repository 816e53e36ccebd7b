"""Which of several guards of one cluster may act."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from haops.cluster.spec import Cluster, StoreName
from haops.cluster.state import StateDir
from haops.errors import BadInput, Busy

if TYPE_CHECKING:
    from haops.stores.zookeeper.lease import ZooKeeperLease

# A guard stops acting this long before its lease ends: longer than a step that it cannot take back.
MARGIN_S: Final = 1.5


class Leadership(Protocol):
    """Held by one guard at a time."""

    def held(self) -> bool:
        """Whether this guard holds it now, and surely will for the next moment; tries to get it if not."""
        ...

    @property
    def words(self) -> str:
        """Why it is held or not, for people."""
        ...


class LocalLock:
    """One leader among the guards that share a state directory; the kernel frees it if its holder dies."""

    def __init__(self, state: StateDir, cluster: str, stack: ExitStack) -> None:
        self._state = state
        self._cluster = cluster
        self._stack = stack
        self._held = False
        self.words = "not asked yet"

    def held(self) -> bool:
        """Hold the lock, or try once."""
        if not self._held:
            try:
                self._stack.enter_context(self._state.lock(self._cluster, "guard", part="guard"))
            except Busy as busy:
                self.words = f"{busy.detail} leads"
                return False
            self._held, self.words = True, "leads by the local lock"
        return True


@contextmanager
def local(state: StateDir, cluster: str) -> Iterator[Leadership]:
    """Leadership by a lock file in the state directory."""
    with ExitStack() as stack:
        yield LocalLock(state, cluster, stack)


class Lease:
    """Leadership by a lease that expires by itself."""

    def __init__(self, source: ZooKeeperLease) -> None:
        self._source = source

    def held(self) -> bool:
        """Whether enough of the lease is left to act on."""
        return self._source.remaining_s() > MARGIN_S

    @property
    def words(self) -> str:
        """Who holds it."""
        return self._source.words


@contextmanager
def leased(ensemble: Cluster, cluster: str) -> Iterator[Leadership]:
    """Leadership by a lease in a ZooKeeper ensemble, for guards on several machines.

    Raises:
        BadInput: That cluster is no ZooKeeper ensemble.
    """
    if ensemble.store is not StoreName.ZOOKEEPER:
        raise BadInput(
            f"{ensemble.name} is {ensemble.store}: a lease is kept in ZooKeeper",
            hint="bring an ensemble up: haops up zookeeper",
        )
    from haops.stores.zookeeper.lease import lease

    holder = f"{socket.gethostname()}/{os.getpid()}"
    with lease(ensemble, cluster, holder) as source:
        yield Lease(source)

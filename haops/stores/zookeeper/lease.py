"""A lease in ZooKeeper: one holder at a time, gone by itself when its holder is cut off."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from kazoo.exceptions import KazooException, NodeExistsError, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError

from haops.cluster.spec import Cluster
from haops.stores.zookeeper.connect import connect
from haops.stores.zookeeper.topology import voters

ROOT: Final = "/haops/guards"
SESSION_S: Final = 4.0
_RENEW_S: Final = 0.5
_ASK_S: Final = 1.0


class ZooKeeperLease:
    """An ephemeral node, and a clock of our own.

    kazoo tells that a session is lost only after it has reconnected: who is cut
    off must know by itself when its time is up. The lease counts from when the
    last answered request was *sent*: the ensemble keeps the session at least
    `SESSION_S` from then on.
    """

    def __init__(self, ensemble: Cluster, name: str, holder: str) -> None:
        self._ensemble = ensemble
        self._path = f"{ROOT}/{name}"
        self._holder = holder.encode()
        self._client: Any = None
        self._sure_until = 0.0
        self._stop = threading.Event()
        self.words = f"asks {ensemble.name} for the lease"
        self._thread = threading.Thread(target=self._keep, daemon=True, name="lease")

    def remaining_s(self) -> float:
        """How long the lease is certainly ours, in seconds; 0 if it is not."""
        return max(self._sure_until - time.monotonic(), 0.0)

    def _keep(self) -> None:
        while not self._stop.is_set():
            try:
                self._renew()
            except (KazooException, KazooTimeoutError, OSError) as error:
                self.words = f"{self._ensemble.name} does not answer ({type(error).__name__})"
                # A client that was cut off may hang on its old session: a fresh one for each try.
                self._drop()
            self._stop.wait(_RENEW_S)

    def _renew(self) -> None:
        if self._client is None:
            client = connect(voters(self._ensemble), session_s=SESSION_S)
            client.start(timeout=_ASK_S * 2)
            self._client = client
        asked = time.monotonic()
        holder, owner = self._holder_now()
        if owner == self._client.client_id[0] and holder == self._holder:
            self._sure_until = asked + SESSION_S
            self.words = f"leads by the lease in {self._ensemble.name}"
        else:
            self._sure_until = 0.0
            self.words = f"{holder.decode(errors='replace')} leads"

    def _holder_now(self) -> tuple[bytes, int]:
        """Who holds it; takes it if nobody does."""
        with contextlib.suppress(NodeExistsError):
            parent, _, _ = self._path.rpartition("/")
            self._client.ensure_path_async(parent).get(timeout=_ASK_S)
            self._client.create_async(self._path, self._holder, ephemeral=True).get(timeout=_ASK_S)
        try:
            data, stat = self._client.get_async(self._path).get(timeout=_ASK_S)
        except NoNodeError:
            return b"nobody", 0
        return data, stat.ephemeralOwner

    def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(KazooException, KazooTimeoutError, OSError):
                client.stop()
                client.close()

    def start(self) -> None:
        """Begin to ask for it."""
        self._thread.start()

    def stop(self) -> None:
        """Give it up at once: closing the session removes the node."""
        self._sure_until = 0.0
        self._stop.set()
        self._thread.join(timeout=3)
        self._drop()


@contextmanager
def lease(ensemble: Cluster, name: str, holder: str) -> Iterator[ZooKeeperLease]:
    """Ask for the lease called `name` until the end of the section."""
    kept = ZooKeeperLease(ensemble, name, holder)
    kept.start()
    try:
        yield kept
    finally:
        kept.stop()

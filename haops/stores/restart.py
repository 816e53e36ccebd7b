"""Restarting one node of a standing cluster, the part that all stores have alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Final

from haops.cluster.spec import Cluster
from haops.errors import DeadlineExceeded
from haops.runtime.port import Runtime
from haops.stores.base import Readiness
from haops.stores.plan import StepFailed
from haops.wait import wait_until

STOP: Final = "stop"
START: Final = "start"
AWAIT: Final = "await"

GRACE_S: Final = 30.0
READY_S: Final = 120.0


class Restarter:
    """Stop, start, and wait until the whole cluster is as `up` leaves it."""

    def __init__(
        self,
        cluster: Cluster,
        runtime: Runtime,
        readiness: Callable[[Cluster], AbstractContextManager[Readiness]],
    ) -> None:
        self._cluster = cluster
        self._runtime = runtime
        self._readiness = readiness

    def stop(self, node: str) -> str:
        """End a node's process as its store wants it: by SIGTERM."""
        self._runtime.stop(self._cluster, node, grace_s=GRACE_S)
        return "stopped"

    def start(self, node: str) -> str:
        """Start it again; a running one stays as it is."""
        self._runtime.start(self._cluster, node)
        return "started"

    def await_ready(self) -> str:
        """Until clients can write and read through every node.

        Raises:
            StepFailed: That did not come about in time; says what is missing.
        """
        began = time.monotonic()
        try:
            with self._readiness(self._cluster) as checker:
                wait_until(
                    checker.pending,
                    lambda pending: not pending,
                    what=f"{self._cluster.name} to be whole again",
                    deadline_s=READY_S,
                    interval_s=0.05,
                    describe=_missing,
                )
        except DeadlineExceeded as error:
            raise StepFailed(error.message, detail=error.detail) from error
        return f"whole again after {time.monotonic() - began:.1f} s"


def _missing(pending: Mapping[str, str]) -> str:
    return "; ".join(f"{node} waits for {what}" for node, what in pending.items())

"""Waiting for a cluster to be healthy."""

from __future__ import annotations

from haops.cluster.snapshot import Snapshot, Verdict
from haops.cluster.spec import Cluster
from haops.control.lifecycle import Lifecycle
from haops.wait import wait_until


def await_healthy(haops: Lifecycle, cluster: Cluster, deadline_s: float) -> Snapshot:
    """Wait until nothing is to be said against a cluster.

    Raises:
        DeadlineExceeded: Something still is; says what.
    """
    return wait_until(
        lambda: haops.observe(cluster),
        lambda seen: seen.verdict is Verdict.HEALTHY,
        what=f"{cluster.name} to be healthy",
        deadline_s=deadline_s,
        interval_s=0.25,
        describe=lambda seen: f"{seen.verdict}: {'; '.join(seen.reasons)}",
    )

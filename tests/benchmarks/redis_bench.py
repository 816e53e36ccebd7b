"""One Redis cluster for the benchmarks of switchover and guard, and what they ask of it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from redis_trials import Report, series

from haops.cli.context import _resolve
from haops.cluster.spec import Cluster, Node
from haops.cluster.state import StateDir
from haops.control.execute import Operations, Order
from haops.control.lifecycle import Lifecycle
from haops.runtime.docker import DockerRuntime
from haops.stores.plan import Intent, Operation
from haops.stores.redis.connect import connect_node
from haops.stores.redis.links import Links
from haops.stores.redis.sentinel import Sentinels
from haops.stores.redis.servers import Servers
from haops.stores.redis.topology import SERVICE


def docker(*args: str) -> None:
    subprocess.run(["docker", *args], check=True, capture_output=True, timeout=60)


class Bench:
    """One cluster and the moves on it."""

    def __init__(self, state: Path, cluster: Cluster) -> None:
        self.state = state
        self.cluster = cluster
        self.operations = Operations(Lifecycle(StateDir(state), DockerRuntime(), _resolve))
        self.first_key = 0

    def key(self) -> int:
        """A part of the key space that no earlier series has used."""
        self.first_key += 1_000_000
        return self.first_key

    def named(self) -> tuple[str, ...]:
        """Where the Sentinels that answer send clients."""
        links = Links(self.cluster.sentinels, 0.2)
        try:
            opinions = Sentinels(self.cluster, links).opinions()
            return tuple(o.primary[0] for o in opinions.values())
        finally:
            links.close()

    def primary(self) -> Node:
        with connect_node(self.cluster.sentinels[0], 1.0) as client:
            address = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[0]
        return next(n for n in self.cluster.servers if n.address == address)

    def settled(self) -> bool:
        """One primary, everybody linked to it, all Sentinels agreed and none failing over."""
        links = Links(self.cluster.nodes, 1.0)
        try:
            views = Servers(self.cluster, links).views()
            primaries = [n for n, v in views.items() if v.is_primary]
            if len(primaries) != 1 or len(views) != len(self.cluster.servers):
                return False
            at = self.cluster.node(primaries[0])
            here = (at.address, at.port)
            linked = all(v.is_primary or (v.upstream == here and v.link_up) for v in views.values())
            opinions = Sentinels(self.cluster, links).opinions()
            quiet = {"failover_in_progress", "s_down", "o_down", "disconnected"}
            agreed = all(o.primary == here and not quiet & set(o.flags) for o in opinions.values())
            return linked and agreed and len(opinions) == len(self.cluster.sentinels)
        finally:
            links.close()

    def full_copies(self) -> int:
        return sum(self._stat(n, "sync_full") for n in self.cluster.servers)

    def _stat(self, node: Node, name: str) -> int:
        with connect_node(node, 1.0) as client:
            return int(client.info("stats")[name])

    def container(self, node: str) -> str:
        return self.operations.lifecycle.containers(self.cluster)[node].id

    def switchover(self, report: Report) -> None:
        begun = time.perf_counter()
        order = Order("benchmark", "trial")
        self.operations.carry_out(self.cluster, Intent(Operation.SWITCHOVER), order)
        report.agreed.append((time.perf_counter() - begun) * 1000)

    def run(self, report: Report, trials: int, act: Callable[[int], object], *, window_s: float) -> Report:
        before = self.full_copies()
        series(
            self.cluster, report, trials, act,
            window_s=window_s, first_key=self.key(), settled=self.settled,
        )  # fmt: skip
        report.full_copies = self.full_copies() - before
        print(report.row(), flush=True)
        return report

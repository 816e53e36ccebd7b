"""When a ZooKeeper ensemble may be used: one leader, all others in sync, a write and a read done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from kazoo.exceptions import KazooException
from kazoo.handlers.threading import KazooTimeoutError

from haops.cluster.snapshot import Role
from haops.cluster.spec import Cluster, Node
from haops.parallel import ask_all
from haops.stores.base import Readiness, first_line
from haops.stores.zookeeper.connect import connect
from haops.stores.zookeeper.observe import ServerReport, ask
from haops.stores.zookeeper.topology import observers, voters

_PROOF_PATH: Final = "/haops-ready"
_PROOF_S: Final = 2.0


class ZooKeeperReadiness:
    """Polls the servers; then writes and reads as a client would."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def pending(self) -> Mapping[str, str]:
        """What each node waits for."""
        answers = ask_all(self._ask, self._cluster.nodes)
        waiting = {
            node.name: answer
            for node, answer in zip(self._cluster.nodes, answers, strict=True)
            if isinstance(answer, str)
        }
        if waiting:
            return waiting
        reports = [a for a in answers if isinstance(a, ServerReport)]
        return self._quorum(reports) or self._prove()

    def _ask(self, node: Node) -> ServerReport | str:
        try:
            return ask(node)
        except OSError as error:
            return f"answer ({first_line(error)})"

    def _quorum(self, reports: list[ServerReport]) -> Mapping[str, str]:
        for node, report in zip(self._cluster.nodes, reports, strict=True):
            if report.role is Role.LEADER:
                followers = len(voters(self._cluster)) - 1 - (report.synced or 0)
                watchers = len(observers(self._cluster)) - (report.watched or 0)
                lacks = [
                    f"{missing} {what} in sync"
                    for missing, what in ((followers, "followers"), (watchers, "observers"))
                    if missing > 0
                ]
                return {node.name: " and ".join(lacks)} if lacks else {}
        return {self._cluster.nodes[0].name: "a leader"}

    def _prove(self) -> Mapping[str, str]:
        first = voters(self._cluster)[0].name
        client = connect(voters(self._cluster))
        try:
            client.start(timeout=_PROOF_S)
            # The plain calls wait for ever if the majority goes in between.
            client.ensure_path_async(_PROOF_PATH).get(timeout=_PROOF_S)
            client.get_async(_PROOF_PATH).get(timeout=_PROOF_S)
            client.delete_async(_PROOF_PATH).get(timeout=_PROOF_S)
        except (KazooException, KazooTimeoutError) as error:
            return {first: f"a client's first write ({first_line(error)})"}
        finally:
            client.stop()
            client.close()
        return {}


@contextmanager
def readiness(cluster: Cluster) -> Iterator[Readiness]:
    """A checker for one `up`."""
    yield ZooKeeperReadiness(cluster)

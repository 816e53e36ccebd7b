"""What the members of a ring say about one of them, asked over CQL while it goes and comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final

from cassandra import ConsistencyLevel, Unavailable
from cassandra.query import SimpleStatement

from haops.cluster.spec import AddressMap, Cluster, Node
from haops.parallel import ask_all
from haops.stores.base import ANSWER_S, first_line
from haops.stores.cassandra.connect import APPLICATION, TROUBLE, answers_options, connect
from haops.stores.cassandra.topology import KEYSPACE

# A write that a dead copy keeps waiting is answered by the server's own time-out of 2 s.
_PROOF_S: Final = 4.0
_KEYS: Final = 1000
_APPLICATION_OPTION: Final = "APPLICATION_NAME"
_PROOF: Final = f"INSERT INTO {KEYSPACE}.ready (name) VALUES (%s)"


class Ring:
    """One driver session, opened when it is first needed and kept while nodes restart."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stack = ExitStack()
        self._opened: Any = None

    def close(self) -> None:
        """End the session."""
        self._stack.close()
        self._opened = None

    def _session(self) -> Any:
        if self._opened is None:
            alive = [n for n in self._cluster.nodes if answers(n)]
            self._opened = self._stack.enter_context(
                connect(alive or self._cluster.nodes, timeout_s=_PROOF_S)
            )
        return self._opened

    def _rows(self, node: str, query: str) -> Sequence[Any]:
        """One member's answer, from that very member. Raises one of TROUBLE."""
        session = self._session()
        return list(session.execute(query, host=self._host(session, node), timeout=ANSWER_S * 3))

    def _host(self, session: Any, name: str) -> Any:
        node = self._cluster.node(name)
        for host in session.cluster.metadata.all_hosts():
            if (host.endpoint.address, host.endpoint.port) == (node.host, node.host_port):
                return host
        raise OSError("the other members do not know it")

    def doubts(self, node: str, coordinators: Sequence[str]) -> Mapping[str, str]:
        """Who of `coordinators` cannot write to `node` yet, and why.

        A coordinator refuses a write at ALL when it takes one of the copies' holders
        for dead, so the write shows what gossip has told it.
        """
        return self._writes(node, coordinators, first_line)

    def not_given_up(self, node: str, coordinators: Sequence[str]) -> Mapping[str, str]:
        """Who of `coordinators` does not take `node` for dead yet; nobody may when it is replaced."""
        found = self._writes(node, coordinators, _why_not_given_up)
        return {name: found.get(name) or "writes to it" for name in coordinators if found.get(name) != ""}

    def _writes(
        self, node: str, coordinators: Sequence[str], words: Callable[[Exception], str]
    ) -> Mapping[str, str]:
        """A write at ALL with `node` among the copies' holders, through each coordinator; what failed."""
        try:
            session = self._session()
            key = self._key(session, node)
        except TROUBLE as error:
            return dict.fromkeys(coordinators, first_line(error))
        statement = SimpleStatement(_PROOF, consistency_level=ConsistencyLevel.ALL)

        def write(coordinator: str) -> str | None:
            try:
                host = self._host(session, coordinator)
                session.execute(statement, (key,), host=host, timeout=_PROOF_S)
            except TROUBLE as error:
                return words(error)
            return None

        answers = zip(coordinators, ask_all(write, coordinators), strict=True)
        return {name: why for name, why in answers if why is not None}

    def _key(self, session: Any, name: str) -> str:
        """A row of which `name` keeps a copy."""
        node, metadata = self._cluster.node(name), session.cluster.metadata
        here = (node.host, node.host_port)
        for number in range(_KEYS):
            key = f"{name}-{number}"
            replicas = metadata.get_replicas(KEYSPACE, key.encode())
            if here in {(r.endpoint.address, r.endpoint.port) for r in replicas}:
                return key
        raise OSError("it has no place in the ring")

    def hints(self, node: str, keepers: Sequence[str]) -> int:
        """Files of hints that `keepers` hold for a node; members that do not answer hold none."""
        addresses = AddressMap(self._cluster)
        total = 0
        for keeper in keepers:
            try:
                rows = self._rows(keeper, "SELECT address, files FROM system_views.pending_hints")
            except TROUBLE:
                continue
            for row in rows:
                meant = addresses.node_at(row.address)
                total += row.files if meant and meant.name == node else 0
        return total

    def clients(self, node: str) -> int:
        """Connections of clients to a node, without those of haops; 0 where it does not say."""
        try:
            rows = self._rows(node, "SELECT client_options FROM system_views.clients")
        except TROUBLE:
            return 0
        return sum((row.client_options or {}).get(_APPLICATION_OPTION) != APPLICATION for row in rows)

    def keyspaces(self) -> Sequence[str]:
        """The keyspaces that are not the server's own. Raises one of TROUBLE."""
        rows = self._session().execute("SELECT keyspace_name FROM system_schema.keyspaces")
        return sorted(r.keyspace_name for r in rows if not r.keyspace_name.startswith("system"))

    def last_repair(self) -> str:
        """When haops' keyspace was last repaired without an error, in words."""
        query = "SELECT keyspace_name, finished_at, exception_message FROM system_distributed.parent_repair_history"
        try:
            rows = self._session().execute(query)
        except TROUBLE as error:
            return f"last repair unknown ({first_line(error)})"
        ends = [
            r.finished_at
            for r in rows
            if r.keyspace_name == KEYSPACE and r.finished_at and not r.exception_message
        ]
        return f"last repair {max(ends):%Y-%m-%d %H:%M:%S} UTC" if ends else "never repaired before"


def _why_not_given_up(error: Exception) -> str:
    return "" if isinstance(error, Unavailable) else first_line(error)


def answers(node: Node) -> bool:
    """Whether a node takes clients."""
    try:
        return answers_options(node, ANSWER_S)
    except OSError:
        return False


def quiet_clients(
    count: Callable[[], int], before: int, *, quiet_s: float, deadline_s: float, poll_s: float = 0.2
) -> int:
    """Wait for clients to come back: as many as before, or no more of them for `quiet_s` seconds.

    Clients may have gone for good meanwhile, and a driver's connection for events
    stays where it went: that not all come back is no failure.
    """
    began = changed = time.monotonic()
    most = 0
    while True:
        seen, now = count(), time.monotonic()
        if seen > most:
            most, changed = seen, now
        still = most > 0 and now - changed >= quiet_s
        if seen >= before or still or now - began >= deadline_s:
            return seen
        time.sleep(poll_s)

"""Settings that backup and restore change for a while, each written down before it is changed."""

from __future__ import annotations

from typing import Final

from haops.cluster.loans import Loan, Loans
from haops.cluster.spec import Cluster, Node, NodeKind
from haops.errors import HaopsError
from haops.runtime.port import Runtime
from haops.stores.redis.topology import SERVICE
from haops.stores.redis.wire import Wire, setting

# A server whose upstream is haops itself; given back by making it a primary again.
UPSTREAM: Final = "upstream"
# A folder of hard links in a server's data folder; given back by removing it.
KEPT: Final = "kept-files"
PATIENCE: Final = "down-after-milliseconds"
_TIMEOUT_S: Final = 5.0


class Borrowed:
    """What one backup or restore has borrowed; `end` gives all of it back, the last first."""

    def __init__(self, cluster: Cluster, runtime: Runtime, loans: Loans, failure: type[HaopsError]) -> None:
        self._cluster = cluster
        self._runtime = runtime
        self._loans = loans
        self._failure = failure
        self._mine: list[Loan] = []

    def note(self, node: Node, name: str, was: str) -> Loan:
        """Write down what the caller is about to change."""
        loan = Loan(node.name, name, was)
        self._loans.take(loan)
        self._mine.append(loan)
        return loan

    def config(self, node: Node, name: str, value: str) -> Loan | None:
        """CONFIG SET, if it is another now; then what it was."""
        wire = Wire(node, _TIMEOUT_S, self._failure)
        try:
            was = setting(wire, name)
            if was in ("", value):
                self._adopt(node, name)
                return None
            loan = self.note(node, name, was)
            wire.ask("CONFIG", "SET", name, value)
            return loan
        finally:
            wire.close()

    def _adopt(self, node: Node, name: str) -> None:
        """A run that was killed had borrowed the same, and this one gives it back."""
        known = [k for k in self._loans.open() if (k.node, k.setting) == (node.name, name)]
        self._mine += [k for k in known if k not in self._mine]

    def patience(self, value_ms: int) -> None:
        """How long the primary may be silent before a Sentinel calls it dead, at every Sentinel."""
        for node in self._cluster.sentinels:
            wire = Wire(node, _TIMEOUT_S, self._failure)
            try:
                told = wire.ask("SENTINEL", "MASTER", SERVICE)
                fields = dict(zip(told[::2], told[1::2], strict=True))
                was = fields[PATIENCE.encode()].decode()
                self.note(node, PATIENCE, was)
                wire.ask("SENTINEL", "SET", SERVICE, PATIENCE, value_ms)
            finally:
                wire.close()

    def back(self, loan: Loan) -> None:
        """One of them, now."""
        # What an earlier run had borrowed is what goes back, not what it had left.
        known = {(k.node, k.setting): k for k in self._loans.open()}
        first = known.get((loan.node, loan.setting), loan)
        give_back(self._cluster, self._runtime, first)
        self._loans.strike(first)
        self._mine = [m for m in self._mine if m is not loan]

    def end(self) -> None:
        """All of them; what cannot be given back stays written down, and is raised at the end."""
        trouble: HaopsError | None = None
        for loan in reversed(self._mine):
            try:
                self.back(loan)
            except HaopsError as error:
                trouble = trouble or error
        if trouble:
            raise trouble


def give_back(cluster: Cluster, runtime: Runtime, loan: Loan) -> str:
    """Put one borrowed setting back; may be repeated. Raises HaopsError where the server cannot be told."""
    node = cluster.node(loan.node)
    if loan.setting == KEPT:
        code, said = runtime.execute(cluster, node.name, ["rm", "-rf", loan.was])
        if code:
            raise HaopsError("files kept for a backup cannot be removed", node=node.name, detail=said)
        return f"{node.name}: removed {loan.was}"
    wire = Wire(node, _TIMEOUT_S, HaopsError)
    try:
        if node.kind is NodeKind.SENTINEL:
            wire.ask("SENTINEL", "SET", SERVICE, loan.setting, loan.was)
        elif loan.setting == UPSTREAM:
            return _release(cluster, wire, node)
        else:
            wire.ask("CONFIG", "SET", loan.setting, loan.was)
    finally:
        wire.close()
    return f"{node.name}: {loan.setting} is {loan.was} again"


def _release(cluster: Cluster, wire: Wire, node: Node) -> str:
    """A primary again, unless it follows one of the set: then somebody else has seen to it."""
    role = wire.ask("ROLE")
    ours = {n.address.encode() for n in cluster.servers}
    if role[0] == b"slave" and role[1] not in ours:
        wire.ask("REPLICAOF", "NO", "ONE")
    return f"{node.name}: follows haops no longer"

"""Settings that backup and restore change for a while, each written down before it is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from haops.cluster.loans import Loan, Loans
from haops.cluster.spec import Cluster, Node, NodeKind
from haops.errors import HaopsError
from haops.runtime.port import Runtime
from haops.stores.redis.topology import SERVICE
from haops.stores.redis.wire import Wire, info, setting
from haops.wait import wait_until

# A server whose upstream is haops itself; given back by making it a primary again.
UPSTREAM: Final = "upstream"
# A folder of hard links in a server's data folder; given back by removing it. The folder's name comes
# behind it, so that those of two backups are both on record.
KEPT: Final = "kept-files:"
PATIENCE: Final = "down-after-milliseconds"
_TIMEOUT_S: Final = 5.0
_LOAD_S: Final = 3600.0
# A Sentinel asks a server for its role every 10 s.
_ROLE_S: Final = 15.0
# It takes a primary for dead that says it is a replica for its patience and 20 s (`sentinel.c`); from
# the first time on, less than this leaves room for one more INFO and for a slow one.
_STILL_SAFE_MS: Final = 5000


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
                was = _watched(wire)[PATIENCE]
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
        """All of them; what cannot be given back stays written down, and is raised at the end.

        A server that still follows haops needs the Sentinels' patience: they would fail over.
        """
        trouble: HaopsError | None = None
        follows = False
        for loan in reversed(self._mine):
            if follows and loan.setting == PATIENCE:
                continue
            try:
                self.back(loan)
            except HaopsError as error:
                trouble = trouble or error
                follows = follows or loan.setting == UPSTREAM
        if trouble:
            raise trouble


@contextmanager
def giving_back(end: Callable[[], None]) -> Iterator[None]:
    """Calls `end` at the end. Where both failed, the first error is raised and the other noted at it."""
    try:
        yield
    except BaseException as error:
        try:
            end()
        except HaopsError as trouble:
            error.add_note(f"and what was borrowed for it could not be given back: {trouble}")
        raise
    end()


def give_back(cluster: Cluster, runtime: Runtime, loan: Loan) -> str:
    """Put one borrowed setting back; may be repeated. Raises HaopsError where the server cannot be told."""
    node = cluster.node(loan.node)
    if loan.setting.startswith(KEPT):
        code, said = runtime.execute(cluster, node.name, ["rm", "-rf", loan.was])
        if code:
            raise HaopsError("files kept for a backup cannot be removed", node=node.name, detail=said)
        return f"{node.name}: removed {loan.was}"
    wire = Wire(node, _TIMEOUT_S, HaopsError)
    try:
        if node.kind is NodeKind.SENTINEL:
            _await_primary(cluster, wire, int(loan.was))
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
    wait_until(  # while it loads, it refuses REPLICAOF
        lambda: info(wire, "persistence"),
        lambda p: p.get("loading", "0") == "0" and p.get("async_loading", "0") == "0",
        what=f"{node.name} to end its loading",
        deadline_s=_LOAD_S,
        describe=lambda p: f"loading:{p.get('loading')}",
    )
    if _is_astray(cluster, wire):
        wire.ask("REPLICAOF", "NO", "ONE")
    return f"{node.name}: follows haops no longer"


def _is_astray(cluster: Cluster, wire: Wire) -> bool:
    """Whether it follows somebody who is none of the set."""
    role = wire.ask("ROLE")
    return role[0] == b"slave" and role[1] not in {n.address.encode() for n in cluster.servers}


def _watched(wire: Wire) -> dict[str, str]:
    """What a Sentinel knows of the primary."""
    told = [word.decode(errors="replace") for word in wire.ask("SENTINEL", "MASTER", SERVICE)]
    return dict(zip(told[::2], told[1::2], strict=True))


def may_be_impatient(watched: Mapping[str, str], patience_ms: int) -> bool:
    """Whether a Sentinel with this patience would not fail over before it hears that it is a primary; pure."""
    since = watched.get("role-reported-time", "")
    short = since.isdigit() and int(since) < patience_ms + _STILL_SAFE_MS
    return watched.get("role-reported", "master") == "master" or short


def _await_primary(cluster: Cluster, sentinel: Wire, patience_ms: int) -> None:
    """Until this Sentinel has heard that the server is a primary again. Raises HaopsError.

    A server that cannot be asked is believed to be what the Sentinel last heard of it.
    """
    address = _watched(sentinel).get("ip")
    server = next((n for n in cluster.servers if n.address == address), None)
    if server is not None and _still_follows(cluster, server):
        raise HaopsError(
            "the Sentinels stay patient while the primary follows haops",
            node=sentinel.node.name,
            hint=f"haops heal {cluster.name}",
        )
    wait_until(
        lambda: _watched(sentinel),
        lambda told: may_be_impatient(told, patience_ms),
        what=f"{sentinel.node.name} to hear that {address} is a primary again",
        deadline_s=_ROLE_S,
        describe=lambda told: f"role-reported:{told.get('role-reported')}",
    )


def _still_follows(cluster: Cluster, server: Node) -> bool:
    try:
        wire = Wire(server, _TIMEOUT_S, HaopsError)
    except HaopsError:
        return False
    try:
        return _is_astray(cluster, wire)
    except HaopsError:
        return False
    finally:
        wire.close()

"""A plan's steps, carried out on a ring."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from haops.cluster.spec import Cluster
from haops.errors import DeadlineExceeded
from haops.runtime.port import Container, ContainerState, last_words
from haops.stores.base import first_line
from haops.stores.cassandra import plan as plans
from haops.stores.cassandra.connect import TROUBLE
from haops.stores.cassandra.nodetool import (
    DRAINED,
    DRAINING,
    LEAVE_FAILED,
    LEAVING,
    LEFT,
    NORMAL,
    Nodetool,
)
from haops.stores.cassandra.readiness import readiness
from haops.stores.cassandra.ring import Ring, answers, quiet_clients
from haops.stores.cassandra.topology import replaced, without
from haops.stores.plan import Step, StepFailed, Tools
from haops.stores.rebuild import FORGET, LAY_OUT
from haops.stores.restart import AWAIT, READY_S, START, STOP, Restarter
from haops.wait import wait_until

Seen = TypeVar("Seen")

# Gossip convicts a silent node after some 20 s; under load it takes longer.
_GIVEN_UP_S: Final = 90.0
_JOIN_S: Final = 900.0
_HINTS_S: Final = 120.0
# A little more than the servers' hints_dispatch_interval_ms (topology.py).
_DISPATCH_S: Final = 1.2
_POLL_S: Final = 0.4
# Drivers hear that a node is up within a second and reconnect within two more.
_CLIENTS_S: Final = 10.0
_QUIET_S: Final = 2.0
_LOG_TAIL: Final = 200
_REPAIR_JOB: Final = "repair"
_LEAVE_JOB: Final = "decommission"
_BOOT: Final = re.compile(r"JOINING|[Bb]ootstrap|Stream|Starting up server gossip|CQL clients")
_STREAMED: Final = re.compile(r"Receiving (\d+) files?\(([^)]+)\)")
_OUT_OF_SYNC: Final = re.compile(r"Total estimated streaming: (.*)")
# What a server says that has left and is started all the same (StorageService.joinTokenRing).
_HAS_LEFT: Final = "This node was decommissioned"
_TOUCHING: Final = (plans.CLOSE, plans.DRAIN, plans.OPEN, STOP, START, AWAIT)


class CassandraConductor:
    """Carries out steps on one ring; each can be repeated, and does nothing that is done already."""

    def __init__(self, cluster: Cluster, tools: Tools) -> None:
        self._cluster = cluster
        self._tools = tools
        self._ring = Ring(cluster)
        self._tool = Nodetool(cluster, tools.runtime)
        self._restarter = Restarter(cluster, tools.runtime, readiness)
        self._clients: dict[str, int] = {}
        self._acts: Mapping[str, Callable[[str], str]] = {
            plans.CLOSE: self._close,
            plans.DRAIN: self._drain,
            STOP: self._restarter.stop,
            START: self._restarter.start,
            AWAIT: self._await,
            plans.OPEN: self._open,
            plans.GIVEN_UP: self._given_up,
            FORGET: self._forget,
            LAY_OUT: self._lay_out,
            plans.JOIN: self._join,
            plans.COMPARE: self._compare,
            plans.REPAIR: self._repair,
            plans.LEAVE: self._leave,
            plans.STRIKE: self._strike,
        }

    def close(self) -> None:
        """End the session."""
        self._ring.close()

    def perform(self, step: Step) -> str:
        """Do one step."""
        try:
            return self._acts[step.verb](step.node or "")
        except DeadlineExceeded as error:
            raise StepFailed(error.message, node=step.node, detail=error.detail) from error
        except TROUBLE as error:
            raise StepFailed(first_line(error), node=step.node) from error

    def _others(self, node: str) -> list[str]:
        return [n.name for n in self._cluster.servers if n.name != node]

    def _close(self, node: str) -> str:
        # The plan's snapshot may be minutes old: each range must keep QUORUM without the node now.
        up = [n.name for n in self._cluster.servers if answers(n)]
        if trouble := plans.spare_trouble(self._cluster, up, node):
            raise StepFailed(trouble, node=node, hint=f"see: haops status {self._cluster.name}")
        if node not in up:
            return "takes no clients already"
        self._clients[node] = self._ring.clients(node)
        self._tool.run(node, "disablebinary")
        return f"closed; {_count(self._clients[node], 'connection')} of clients went to the others"

    def _drain(self, node: str) -> str:
        self._tool.run(node, "drain")
        return "drained"

    def _await(self, node: str) -> str:
        """Up for all, clients back, hints delivered."""
        began = time.monotonic()
        others = [n.name for n in self._cluster.servers if n.name != node and answers(n)]
        self._wait(
            lambda: self._lacks(node, others), lambda lacks: not lacks, f"all to see {node} up", READY_S
        )
        up_s = time.monotonic() - began
        before = self._clients.get(node, 0)
        back = quiet_clients(
            lambda: self._ring.clients(node),
            before,
            quiet_s=_QUIET_S,
            deadline_s=_CLIENTS_S if before else 0,
        )
        # After the clients: what a node just started is too slow for becomes a hint once more.
        self._wait(lambda: self._hints(node, others), lambda files: files == 0, f"hints for {node}", _HINTS_S)
        hints_s = time.monotonic() - began
        return (
            f"up for all after {up_s:.1f} s, {_count(back, 'connection')} of clients, "
            f"no hints wait after {hints_s:.1f} s"
        )

    def _hints(self, node: str, keepers: Sequence[str]) -> int:
        """Files that wait now or a dispatch later: one that is being sent is not counted by its
        keeper, and is back among the waiting when that fails."""
        if waiting := self._ring.hints(node, keepers):
            return waiting
        time.sleep(_DISPATCH_S)
        return self._ring.hints(node, keepers)

    def _lacks(self, node: str, others: Sequence[str]) -> str:
        self._check_alive(node)
        if not answers(self._cluster.node(node)):
            return f"{node} takes no clients"
        doubts = self._ring.doubts(node, [*others, node])
        return "; ".join(f"{name}: {why}" for name, why in doubts.items())

    def _check_alive(self, node: str) -> None:
        if self._state(node) is not ContainerState.RUNNING:
            raise StepFailed("its process ended", node=node, detail=self._last_words(node))

    def _containers(self) -> Mapping[str, Container]:
        return self._tools.runtime.containers(self._cluster)

    def _state(self, node: str) -> ContainerState:
        found = self._containers().get(node)
        return found.state if found else ContainerState.MISSING

    def _last_words(self, node: str) -> str | None:
        if self._state(node) is ContainerState.MISSING:
            return None
        return last_words(self._tools.runtime, self._cluster, node)

    def _wait(
        self, look: Callable[[], Seen], done: Callable[[Seen], bool], what: str, deadline_s: float
    ) -> Seen:
        return wait_until(look, done, what=what, deadline_s=deadline_s, interval_s=_POLL_S)

    def _open(self, node: str) -> str:
        state = self._state(node)
        if state is ContainerState.PAUSED:
            self._tools.runtime.unpause(self._cluster, node)
            return "thawed"
        if state is not ContainerState.RUNNING:
            return self._restarter.start(node)
        if answers(self._cluster.node(node)):
            return "takes clients already"
        mode = self._tool.mode(node)
        if mode in (DRAINED, DRAINING):  # a drained server does nothing any more but end
            self._restarter.stop(node)
            return f"was {mode.lower()}: {self._restarter.start(node)} again"
        if mode == NORMAL:
            self._tool.run(node, "enablegossip", "enablebinary")
            return "takes clients again"
        return f"starts: {mode or 'no mode yet'}"

    def _given_up(self, node: str) -> str:
        if self._state(node) is ContainerState.RUNNING:
            raise StepFailed("it runs: only a dead node is replaced", node=node)
        began = time.monotonic()
        self._wait(
            lambda: self._ring.not_given_up(node, self._others(node)),
            lambda left: not left,
            f"all to take {node} for dead",
            _GIVEN_UP_S,
        )
        files = self._ring.hints(node, self._others(node))
        waited = time.monotonic() - began
        return f"given up by all after {waited:.1f} s; {_count(files, 'file')} of hints wait for it"

    def _forget(self, node: str) -> str:
        self._tools.forget_disk(self._cluster, node)
        return "removed"

    def _lay_out(self, node: str) -> str:
        self._cluster = replaced(self._cluster, node)
        self._tools.lay_out(self._cluster)
        return "created and started"

    def _join(self, node: str) -> str:
        began = time.monotonic()
        self._wait(
            lambda: self._boot_state(node),
            lambda words: not words,
            f"{node} to stream its copies and join",
            _JOIN_S,
        )
        streamed = self._streamed(node)
        return f"joined after {time.monotonic() - began:.1f} s{streamed}"

    def _boot_state(self, node: str) -> str:
        """What a node that bootstraps is at, by its log; empty when it takes clients."""
        self._check_alive(node)
        if answers(self._cluster.node(node)):
            return ""
        lines = self._tools.runtime.logs(self._cluster, node, tail=_LOG_TAIL)
        said = [line.text for line in lines if _BOOT.search(line.text)]
        return said[-1] if said else "it starts"

    def _streamed(self, node: str) -> str:
        lines = self._tools.runtime.logs(self._cluster, node)
        found = [m for line in lines if (m := _STREAMED.search(line.text))]
        if not found:
            return ""
        files = sum(int(m.group(1)) for m in found)
        sizes = " + ".join(m.group(2) for m in found)
        return f"; {_count(files, 'file')} streamed ({sizes})"

    def _compare(self, node: str) -> str:
        """Merkle trees of all copies, without sending anything."""
        files = self._ring.hints(node, self._others(node))
        found = []
        for keyspace in self._ring.keyspaces():
            said = self._tool.finish(node, f"compare-{keyspace}", "repair", "-full", "--preview", keyspace)
            found.append(f"{keyspace} {sync_words(said)}")
        last = self._ring.last_repair()
        return f"{'; '.join(found)}; {_count(files, 'file')} of hints wait; {last}"

    def _repair(self, node: str) -> str:
        began = time.monotonic()
        done = []
        for keyspace in self._ring.keyspaces():
            self._tool.finish(node, f"{_REPAIR_JOB}-{keyspace}", "repair", "-full", keyspace)
            done.append(keyspace)
        files = self._ring.hints(node, self._others(node))
        return (
            f"repaired {', '.join(done)} in {time.monotonic() - began:.1f} s; "
            f"{_count(files, 'file')} of hints wait"
        )

    def is_leaving(self, node: str) -> bool:
        """Whether a node has left, or is about to; one that died on its way is started to see.

        Raises:
            StepFailed: It does not start, for another reason than that it has left.
        """
        if self._state(node) is not ContainerState.RUNNING:
            self._restarter.start(node)
            self._wait(lambda: self._settled(node), bool, f"{node} to start", READY_S)
        if self._state(node) is not ContainerState.RUNNING:
            if not self._says_it_left(node):
                raise StepFailed("it does not start", node=node, detail=self._last_words(node))
            return True
        if self._tool.look(node, _LEAVE_JOB).code is None:
            return True
        return self._tool.mode(node) in (LEAVING, LEFT, LEAVE_FAILED)

    def _settled(self, node: str) -> bool:
        return self._state(node) is not ContainerState.RUNNING or answers(self._cluster.node(node))

    def _says_it_left(self, node: str) -> bool:
        lines = self._tools.runtime.logs(self._cluster, node, tail=_LOG_TAIL)
        return any(_HAS_LEFT in line.text for line in lines)

    def _leave(self, node: str) -> str:
        began = time.monotonic()
        if self._state(node) is not ContainerState.RUNNING and self._says_it_left(node):
            return "has left already"
        if self._tool.mode(node) != LEFT:
            self._tool.finish(node, _LEAVE_JOB, "decommission")
        if (mode := self._tool.mode(node)) != LEFT:
            raise StepFailed(f"it is {mode}, not {LEFT}", node=node)
        return f"left after {time.monotonic() - began:.1f} s"

    def _strike(self, node: str) -> str:
        self._cluster = without(self._cluster, node)
        self._tools.lay_out(self._cluster)
        return f"the record has {', '.join(n.name for n in self._cluster.servers)}"

    def put_back(self, done: Sequence[Step], failed: Step) -> str:
        """Bring every node that was touched back into service, or say why that cannot be."""
        node, verbs = failed.node or "", [s.verb for s in (*done, failed)]
        if FORGET in verbs and plans.STRIKE not in verbs:
            return self._give_up_replacing(node, verbs)
        if plans.STRIKE in verbs:
            raise StepFailed(
                f"{node} has left the ring, its container or its place in the record are still there",
                node=node,
                hint=f"haops down {self._cluster.name}, or remove them by hand",
            )
        if plans.LEAVE in verbs and self.is_leaving(node):
            raise StepFailed(
                f"{node} is {self._tool.mode(node)}; the others serve",
                node=node,
                hint=f"try again: haops node decommission {self._cluster.name} {node}",
            )
        return self.make_whole((*done, failed))

    def _give_up_replacing(self, node: str, verbs: Sequence[str]) -> str:
        again = f"try again: haops node replace {self._cluster.name} {node}"
        if AWAIT in verbs:
            return f"{node} has joined and serves; repair it: haops node repair {self._cluster.name} {node}"
        if self._state(node) is ContainerState.RUNNING:
            self._restarter.stop(node)
        return f"{node} is not back, the others serve; {again}"

    def make_whole(self, begun: Sequence[Step]) -> str:
        """Bring every node that these steps touched back into service; says what was done.

        Raises:
            StepFailed: A node does not come back.
        """
        touched = dict.fromkeys(s.node for s in begun if s.node and s.verb in _TOUCHING)
        said = []
        for node in touched:
            opened = self._open(node)
            self.perform(Step(AWAIT, node, ""))
            said.append(f"{node} {opened}")
        return "; ".join([*said, "all touched nodes are in service"]) if said else "nothing was changed"


def sync_words(said: str) -> str:
    """What `nodetool repair --preview` found, in a few words."""
    if found := _OUT_OF_SYNC.findall(said):
        return f"out of sync: {found[-1].strip()}"
    return "in sync"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")

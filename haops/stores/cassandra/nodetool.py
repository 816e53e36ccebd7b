"""`nodetool` inside a node's container: the orders that the server takes over JMX alone.

Each call starts a JVM: 0.6 s on an idle machine, 2 s under load. What CQL tells as
well is asked in `ring.py`.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Final

from haops.cluster.spec import Cluster
from haops.errors import BadInput, DeadlineExceeded, EnvironmentTrouble
from haops.runtime.port import Runtime
from haops.stores.plan import StepFailed
from haops.wait import wait_until

# A server's own word for what it is doing (StorageService.Mode).
NORMAL: Final = "NORMAL"
DRAINING: Final = "DRAINING"
DRAINED: Final = "DRAINED"
LEAVING: Final = "LEAVING"
LEFT: Final = "DECOMMISSIONED"
LEAVE_FAILED: Final = "DECOMMISSION_FAILED"

# Repair and decommission move data: an hour is much for a drill's ring, and not for ever.
JOB_S: Final = 3600.0
_POLL_S: Final = 0.3
_MODE: Final = re.compile(r"^Mode: (\w+)", re.MULTILINE)
_NONE: Final = "none"
# A job's name becomes that of its files, and is a word in a shell.
_JOB: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

# A job outlives the process that asked for it, as the work in the server does; what it printed and
# its exit code stay in files beside it. One that runs already is joined, not begun again. Its number alone
# does not tell that it runs: after a restart of the container another process, or a thread, may have it.
_RUNS: Final = """
runs() {
  local words
  [ -f $job.pid ] && kill -0 "$(cat $job.pid)" 2>/dev/null || return 1
  mapfile -d '' words 2>/dev/null </proc/"$(cat $job.pid)"/cmdline
  [[ "${words[*]}" == *job=/tmp/haops* ]]
}
"""
_BEGIN: Final = f"""{_RUNS}
job=/tmp/haops-$1; shift
runs && exit 0
rm -f $job.rc
(nodetool "$@" >$job.log 2>&1; echo $? >$job.rc) </dev/null >/dev/null 2>&1 &
echo $! >$job.pid
"""
_LOOK: Final = f"""{_RUNS}
job=/tmp/haops-$1
if runs; then echo running
elif [ -f $job.rc ]; then cat $job.rc
else echo none; fi
cat $job.log 2>/dev/null
"""


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as its files tell of it: `code` is None while it runs, -1 if there is none."""

    code: int | None
    said: str

    @property
    def last(self) -> str:
        """The last thing it said."""
        lines = self.said.strip().splitlines()
        return lines[-1] if lines else "nothing yet"


class Nodetool:
    """`nodetool` for the nodes of one cluster."""

    def __init__(self, cluster: Cluster, runtime: Runtime) -> None:
        self._cluster = cluster
        self._runtime = runtime

    def run(self, node: str, *orders: str) -> str:
        """Give short orders of one word each, one after the other, and return what was printed.

        Raises:
            StepFailed: The server refused; in its own words.
        """
        script = " && ".join(f"nodetool {shlex.quote(order)}" for order in orders)
        code, said = self._runtime.execute(self._cluster, node, ["bash", "-c", script])
        if code:
            raise refused(node, " and ".join(orders), said)
        return said

    def mode(self, node: str) -> str | None:
        """What the server says it is doing; None where it cannot say (it starts, or is gone)."""
        try:
            code, said = self._runtime.execute(self._cluster, node, ["nodetool", "netstats"])
        except EnvironmentTrouble:  # the container ended meanwhile
            return None
        found = _MODE.search(said)
        return found.group(1) if found and not code else None

    def begin(self, node: str, job: str, *words: str) -> None:
        """Start a long order that goes on by itself.

        Raises:
            BadInput: The job has a name that cannot be a file's.
            StepFailed: The server refused.
        """
        if not _JOB.fullmatch(job):
            raise BadInput(f"{job!r} cannot be the name of a job", node=node)
        code, said = self._runtime.execute(self._cluster, node, ["bash", "-c", _BEGIN, "_", job, *words])
        if code:
            raise refused(node, " ".join(words), said)

    def look(self, node: str, job: str) -> JobView:
        """How far a job is."""
        _, said = self._runtime.execute(self._cluster, node, ["bash", "-c", _LOOK, "_", job])
        first, _, rest = said.partition("\n")
        if first.isdigit():
            return JobView(int(first), rest)
        # The engine at times loses what a short command printed: nothing is no answer.
        return JobView(-1 if first == _NONE else None, rest)

    def finish(self, node: str, job: str, *words: str, deadline_s: float = JOB_S) -> str:
        """Start a long order, or join it where it runs, and wait for its end; returns what it printed.

        Args:
            words: The order; no shell reads them.

        Raises:
            StepFailed: The server refused, or was not ready in time; in its own words.
        """
        self.begin(node, job, *words)
        order = " ".join(words)
        try:
            seen = wait_until(
                lambda: self.look(node, job),
                lambda view: view.code is not None,
                what=f"nodetool {order}",
                deadline_s=deadline_s,
                interval_s=_POLL_S,
                describe=lambda view: view.last,
            )
        except DeadlineExceeded as error:
            raise StepFailed(error.message, node=node, detail=error.detail) from error
        if seen.code:
            raise refused(node, order, seen.said)
        return seen.said


def refused(node: str, order: str, said: str) -> StepFailed:
    """The error for an order that the server did not carry out."""
    lines = [line.strip() for line in said.strip().splitlines() if not line.startswith(("\tat ", "See "))]
    return StepFailed(f"nodetool {order} was refused", node=node, detail="\n".join(lines[-4:]) or None)

"""Commands in containers, with an end to the waiting for them."""

from __future__ import annotations

import queue
import shlex
import threading
from collections.abc import Sequence
from typing import Any, Final

from haops.errors import EnvironmentTrouble
from haops.runtime import labels

# No order of ours takes so long in the foreground: what may is begun, and looked at.
DEADLINE_S: Final = 600.0
_WORDS: Final = 80


def run(handle: Any, argv: Sequence[str], *, deadline_s: float = DEADLINE_S) -> tuple[int, bytes]:
    """`docker exec` of one command: its exit code, and output and errors as one.

    Args:
        deadline_s: Seconds after which nobody waits any longer; the command itself is not ended.

    Raises:
        EnvironmentTrouble: It was not done in that time; a container that is frozen never answers.
    """
    answer: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(handle.exec_run(list(argv)))
        except Exception as error:
            answer.put(error)  # it belongs to whoever waits

    # docker-py polls for output without a limit, and a socket's time-out does not reach it there.
    threading.Thread(target=ask, daemon=True).start()
    try:
        done = answer.get(timeout=deadline_s)
    except queue.Empty:
        raise EnvironmentTrouble(
            f"a command was not done in {deadline_s:g} s",
            node=handle.labels.get(labels.NODE),
            detail=shlex.join(argv)[:_WORDS],
            hint="see whether the container is paused: haops status",
        ) from None
    if isinstance(done, Exception):
        raise done
    return int(done.exit_code), done.output

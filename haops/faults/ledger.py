"""The undo ledger: a fault is written to disk before it acts, and struck out after it is undone.

If the process that caused a fault is killed, the ledger still says what is
broken on purpose, by which run; `haops heal` undoes it, and would do so from
the containers' states alone.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from haops.cluster.state import write_atomic

_NAME = "ledger.jsonl"


@dataclass(frozen=True, slots=True)
class OpenFault:
    """A fault that has not been undone.

    Args:
        kind: What was done to the node.
        undo: What puts it right: `start` or `unpause`.
        run: The drill's run.
        at: UTC, ISO-8601.
    """

    node: str
    kind: str
    undo: str
    run: str
    at: str


class Ledger:
    """One cluster's open faults, a JSON object a line."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME

    def open_faults(self) -> tuple[OpenFault, ...]:
        """What is broken on purpose right now; a line that cannot be read is passed over."""
        if not self._path.is_file():
            return ()
        found = []
        for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(json.JSONDecodeError, TypeError):
                found.append(OpenFault(**json.loads(line)))
        return tuple(found)

    def register(self, node: str, kind: str, undo: str, run: str) -> OpenFault:
        """Write a fault down before it acts."""
        fault = OpenFault(node, kind, undo, run, datetime.now(UTC).isoformat(timespec="milliseconds"))
        self._write([*self.open_faults(), fault])
        return fault

    def strike(self, fault: OpenFault) -> None:
        """Take a fault out after its undo."""
        rest = [f for f in self.open_faults() if f != fault]
        if rest:
            self._write(rest)
        else:
            self.clear()

    def _write(self, faults: Sequence[OpenFault]) -> None:
        write_atomic(self._path, "".join(json.dumps(asdict(f)) + "\n" for f in faults))

    def clear(self) -> None:
        """Forget all faults; for `heal`, after it has put every node right."""
        self._path.unlink(missing_ok=True)

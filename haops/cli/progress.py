"""The display of `up`: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from haops.cli.output import plain, table
from haops.control.progress import NodeProgress


class UpDisplay:
    """Called by `up` from several threads; one row a node."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._rows: dict[tuple[str, str], NodeProgress] = {}
        self._ready_at: dict[tuple[str, str], float] = {}
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=8, transient=True)

    def __enter__(self) -> UpDisplay:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def __call__(self, progress: NodeProgress) -> None:
        """Take a node's progress."""
        key = (progress.cluster, progress.node)
        with self._lock:
            self._rows[key] = progress
            if progress.waits_for is not None:
                self._ready_at.pop(key, None)
            elif key not in self._ready_at:
                self._ready_at[key] = took = time.monotonic() - self._started
                if not self._console.is_terminal:
                    self._console.print(f"{progress.cluster}/{progress.node} ready after {took:.1f} s")

    def _render(self) -> Table:
        made = table("NODE", "STATE", "AFTER")
        with self._lock:
            rows = sorted(self._rows.items())
            for key, progress in rows:
                ready = self._ready_at.get(key)
                state = (
                    "[green]ready[/]" if ready is not None else f"waits for {plain(progress.waits_for or '')}"
                )
                made.add_row("/".join(key), state, f"{ready:.1f} s" if ready is not None else "")
        return made

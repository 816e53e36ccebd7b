"""What a node says of itself, shown whenever that changes, while something else goes on."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Final

from rich.console import Console

from haops.errors import HaopsError

if TYPE_CHECKING:
    from haops.control.lifecycle import Lifecycle

_LOOK_S: Final = 0.5


class NodeWatch:
    """Says what a node is at, whenever that changes, while something else goes on."""

    def __init__(self, haops: Lifecycle, cluster: str, node: str, console: Console) -> None:
        self._haops = haops
        self._name = cluster
        self._node = node
        self._console = console
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> NodeWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(timeout=_LOOK_S * 4)

    def _watch(self) -> None:
        said = ""
        while not self._ended.wait(_LOOK_S):
            try:
                seen = self._haops.observe(self._haops.state.get(self._name))
            except HaopsError:
                continue  # a record or a container on its way to another state
            for view in seen.nodes:
                words = f"{view.name} is {view.state}" + (f": {view.why}" if view.why else "")
                if view.name == self._node and words != said:
                    said = words
                    self._console.print(f"  {words}", markup=False, soft_wrap=True)

"""What `up` tells about each node while it works; the command line draws it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NodeProgress:
    """One node's state within `up`.

    Args:
        waits_for: What it waits for; None when it is ready.
    """

    cluster: str
    node: str
    waits_for: str | None


Report = Callable[[NodeProgress], None]


def silent(_: NodeProgress) -> None:
    """For callers that do not care."""

"""Locks as applications make them with a store: what the lock drill tries out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from haops.cluster.spec import Cluster


class LockClient(Protocol):
    """One client that takes and gives back one lock; it waits for nobody."""

    @property
    def node(self) -> str:
        """The node that the last operation was sent to; empty if none."""
        ...

    @property
    def token(self) -> int | None:
        """The fencing token of the lock that is held; None where the recipe has none."""
        ...

    def acquire(self) -> bool:
        """Whether it got the lock. Raises OperationFailed or OutcomeUnknown."""
        ...

    def release(self) -> None:
        """Give it back. Raises OperationFailed or OutcomeUnknown."""
        ...

    def close(self) -> None:
        """Let connections go."""
        ...


@dataclass(frozen=True, slots=True)
class LockRecipe:
    """How a lock is made.

    Args:
        words: The recipe in words.
        promise: What is to be expected of it.
        client: Client number so-and-so of a run; the last argument is its patience in seconds.
    """

    words: str
    promise: str
    client: Callable[[Cluster, str, int, float], LockClient]

"""The one tree of errors.

Each error says what happened, on which node, in the server's own words where
there are any, and what to do next.  `exit_code` is the documented code that
the command line ends with; a library user may ignore it.
"""

from __future__ import annotations

from typing import ClassVar, Final

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_ENVIRONMENT: Final = 3
EXIT_UNKNOWN: Final = 4
EXIT_UNHEALTHY: Final = 5
EXIT_BUG: Final = 70
EXIT_INTERRUPTED: Final = 130


class HaopsError(Exception):
    """Base of every error that haops raises on purpose.

    Args:
        message: What happened, in one sentence without a full stop's worth of doubt.
        node: The node it happened on, if it happened on one.
        detail: The server's or tool's own words; may have several lines.
        hint: What the reader can do about it.
    """

    exit_code: ClassVar[int] = EXIT_FAILED

    def __init__(
        self, message: str, *, node: str | None = None, detail: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.node = node
        self.detail = detail
        self.hint = hint

    def __str__(self) -> str:
        lines = [f"{self.node}: {self.message}" if self.node else self.message]
        if self.detail:
            lines.append(self.detail)
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


class BadInput(HaopsError):
    """What the user asked for cannot be meant: an unknown name, a wrong value, a broken file."""

    exit_code = EXIT_USAGE


class EnvironmentTrouble(HaopsError):
    """The machine lacks something: engine, image, port, subnet, disk, permission."""

    exit_code = EXIT_ENVIRONMENT


class EngineUnavailable(EnvironmentTrouble):
    """No container engine answers, or it may not be used by this user."""


class ImageUnavailable(EnvironmentTrouble):
    """An image is neither here nor to be had."""


class FaultRefused(EnvironmentTrouble):
    """This kernel or engine cannot do a fault that was asked for."""


class StateDamaged(EnvironmentTrouble):
    """A file of the state directory cannot be read; says which, where, and how to go on."""


class AddressTaken(EnvironmentTrouble):
    """A host port or a subnet is used by somebody else."""


class SubnetTaken(AddressTaken):
    """The network of a cluster overlaps one that somebody else made meanwhile."""


class ClusterUnhealthy(HaopsError):
    """A cluster did not become, or is not, what it must be."""

    exit_code = EXIT_UNHEALTHY


class DeadlineExceeded(ClusterUnhealthy):
    """A wait ended without its condition; says what was seen last."""


class Busy(HaopsError):
    """Another process is at work on the cluster; says which, and on what."""


class Interrupted(HaopsError):
    """The user pressed Ctrl-C, or the process was asked to end."""

    exit_code = EXIT_INTERRUPTED

"""An operator's own commands around an operation."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from typing import Final

from haops.errors import BadInput, HaopsError

HOOK_S: Final = 30.0


class Vetoed(HaopsError):
    """A `--before` command said no."""


def words(command: str, option: str) -> list[str]:
    """A command line as a list of words; no shell reads it.

    Raises:
        BadInput: It is empty or its quotes do not match.
    """
    try:
        if found := shlex.split(command):
            return found
        raise ValueError("it is empty")
    except ValueError as error:
        raise BadInput(
            f"{option} {command!r} cannot be read: {error}", hint="quote it as in a shell"
        ) from None


def ask(command: str, facts: Mapping[str, str]) -> None:
    """Run a `--before` command with `facts` in its environment; any exit code but 0 is a veto.

    Raises:
        Vetoed: It ended with another code, took too long or could not be started.
    """
    if trouble := _run(words(command, "--before"), facts):
        raise Vetoed(
            f"vetoed by {command!r}: {trouble[0]}", detail=trouble[1] or None, hint="nothing was changed"
        )


def tell(command: str, facts: Mapping[str, str]) -> str | None:
    """Run an `--after` command; what went wrong with it, if anything, is returned: it is too late for a veto."""
    trouble = _run(words(command, "--after"), facts)
    return f"{command!r}: {trouble[0]}" if trouble else None


def _run(argv: list[str], facts: Mapping[str, str]) -> tuple[str, str] | None:
    """What went wrong, and the command's own words."""
    try:
        done = subprocess.run(
            argv,
            env={**os.environ, **facts},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=HOOK_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no end after {HOOK_S:g} s", ""
    except OSError as error:
        return error.strerror or type(error).__name__, ""
    if done.returncode:
        return f"exit code {done.returncode}", done.stdout.decode(errors="replace").strip()
    return None

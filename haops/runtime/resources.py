"""Where the shipped files are, from a wheel and from an editable install alike.

A wheel carries `compose/` and `playbooks/` inside the package as
`haops/_shipped/`; in a checkout they stand beside the package.
"""

from __future__ import annotations

from pathlib import Path

from haops.errors import EnvironmentTrouble

_PACKAGE = Path(__file__).resolve().parent.parent


def _shipped(name: str) -> Path:
    for candidate in (_PACKAGE / "_shipped" / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise EnvironmentTrouble(
        f"the folder {name}/ that belongs to haops is missing",
        detail=f"looked beside {_PACKAGE} and in it",
        hint="reinstall haops: pip install --force-reinstall haops",
    )


def compose_dir() -> Path:
    """The folder with images, compose templates and the engine set-up."""
    return _shipped("compose")


def playbook_dir() -> Path:
    """The folder with the playbooks that come with haops."""
    return _shipped("playbooks")

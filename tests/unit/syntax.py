"""The source of haops as the tests of its shape read it."""

from __future__ import annotations

import ast
import functools
from collections.abc import Sequence
from pathlib import Path

import haops

PACKAGE = Path(haops.__file__).parent


@functools.cache
def nodes(path: Path) -> Sequence[ast.AST]:
    """All nodes of a file's syntax tree; parsed once for all tests."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))

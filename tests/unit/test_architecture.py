"""The rooms of the package, and which may know which."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from .syntax import PACKAGE, nodes

# Modules that stand beside the rooms: anybody may use them, and they use nobody.
GROUND = {"haops"} | {f"haops.{path.stem}" for path in PACKAGE.glob("*.py")}

# What a room may import besides itself and the ground: a module's name, or a room's with all in it.
MAY: dict[str, set[str]] = {
    "cluster": set(),
    "runtime": {"haops.cluster"},
    "health": {"haops.cluster"},
    "stores": {"haops.cluster", "haops.runtime.port", "haops.health"},
    "faults": {"haops.cluster", "haops.runtime.port"},
    "control": {"haops.cluster", "haops.health", "haops.runtime", "haops.stores", "haops.faults"},
    "backup": {"haops.cluster", "haops.runtime.port", "haops.stores", "haops.control"},
    "compare": {"haops.cluster", "haops.runtime.port", "haops.stores", "haops.control", "haops.backup"},
    "history": {"haops.cluster"},
    "checkers": {"haops.history"},
    "drills": {
        "haops.cluster",
        "haops.runtime.port",
        "haops.runtime.resources",
        "haops.stores",
        "haops.faults",
        "haops.control",
        "haops.backup",
        "haops.compare",
        "haops.checkers",
        "haops.history",
    },
    "matrix": {
        "haops.cluster",
        "haops.stores",
        "haops.faults",
        "haops.control",
        "haops.checkers",
        "haops.drills",
        "haops.history",
        "haops.runtime.resources",
    },
    "report": {
        "haops.cluster",
        "haops.drills.disaster_result",
        "haops.drills.result",
        "haops.faults.catalogue",
        "haops.health",
        "haops.matrix",
        "haops.stores.mode",
    },
}


def modules(room: str) -> list[Path]:
    return sorted((PACKAGE / room).rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Every module of haops that a file imports, wherever in it, with the line."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.startswith("haops"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("haops"):
            for alias in node.names:
                inner = PACKAGE.parent / f"{node.module}.{alias.name}".replace(".", "/")
                is_module = inner.is_dir() or inner.with_suffix(".py").is_file()
                yield node.lineno, f"{node.module}.{alias.name}" if is_module else str(node.module)


def within(module: str, allowed: set[str]) -> bool:
    return module in GROUND or any(module == a or module.startswith(f"{a}.") for a in allowed)


def strangers(room: str) -> list[str]:
    allowed = MAY[room] | {f"haops.{room}"}
    return [
        f"{path.relative_to(PACKAGE.parent)}:{line} imports {module}"
        for path in modules(room)
        for line, module in imported(path)
        if not within(module, allowed)
    ]


@pytest.mark.parametrize("room", MAY)
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    assert strangers(room) == []


def test_every_room_has_its_rule() -> None:
    rooms = {p.name for p in PACKAGE.iterdir() if p.is_dir() and any(p.glob("*.py"))}
    assert rooms == set(MAY) | {"cli"}


def test_nothing_but_the_command_line_imports_the_command_line() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name != "cli":
            assert not any(within(m, {"haops.cli"}) and m not in GROUND for _, m in imported(path)), path


def test_the_ground_stands_on_nothing_but_itself() -> None:
    for path in PACKAGE.glob("*.py"):
        assert {m for _, m in imported(path)} <= GROUND, path


def test_the_engine_is_known_to_the_runtime_alone() -> None:
    for path in PACKAGE.rglob("*.py"):
        names = {
            alias.name.partition(".")[0]
            for node in nodes(path)
            if isinstance(node, ast.Import)
            for alias in node.names
        } | {
            (node.module or "").partition(".")[0] for node in nodes(path) if isinstance(node, ast.ImportFrom)
        }
        if "runtime" not in path.parts:
            assert not names & {"docker", "testcontainers"}, path


def test_only_the_command_line_prints_or_exits() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "cli":
            continue
        calls = [ast.unparse(node.func) for node in nodes(path) if isinstance(node, ast.Call)]
        assert not {"print", "exit", "sys.exit", "os._exit", "typer.echo"} & set(calls), path

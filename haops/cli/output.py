"""Shapes of output: tables for people; JSON and YAML of a documented, versioned shape for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from haops.cluster.snapshot import Lag, NodeView, Snapshot, Verdict

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

FORMAT: Final = 1


class Output(StrEnum):
    """What `-o` takes."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


OutputOption = Annotated[Output, typer.Option("-o", "--output", help="Shape of the output.")]

STYLES: Final[Mapping[str, str]] = {
    "healthy": "green",
    "degraded": "yellow",
    "down": "bold red",
    "unknown": "magenta",
    "up": "green",
    "syncing": "yellow",
    "not-serving": "red",
    "unreachable": "red",
    "partitioned": "yellow",
    "paused": "yellow",
    "stopped": "red",
    "pass": "green",
    "fail": "bold red",
    "ok": "green",
    "warn": "yellow",
    "ready": "green",
    "stale": "yellow",
    "missing": "red",
}


def out() -> Console:
    """Data goes to stdout."""
    from rich.console import Console  # 43 ms

    # Without a terminal there is no width to fit into; lines must not break in a pipe.
    width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", "200"))
    return Console(width=width, highlight=False)


def err() -> Console:
    """Progress and remarks go to stderr."""
    from rich.console import Console

    width = None if sys.stderr.isatty() else int(os.environ.get("COLUMNS", "200"))
    return Console(stderr=True, width=width, highlight=False)


def table(*columns: str) -> Table:
    """A plain table in the manner of kubectl."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column in ("NAME", "NODE"))
    return made


def plain(text: str) -> str:
    """Others' words for a place where markup is read: their brackets stay what they are."""
    from rich.markup import escape

    return escape(text)


def styled(word: str) -> str:
    """A word with its colour, if it has one."""
    style = STYLES.get(word)
    return f"[{style}]{word}[/]" if style else word


def emit(document: Mapping[str, Any], output: Output) -> None:
    """Print a document as JSON or YAML."""
    if output is Output.YAML:
        import yaml

        typer.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True).rstrip())
    else:
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def emit_file(text: str, output: Output) -> None:
    """Print the text of a JSON file as it is, or as YAML."""
    if output is Output.YAML:
        emit(json.loads(text), output)
    else:
        typer.echo(text.rstrip())


def clusters_document(snapshots: Sequence[Snapshot]) -> dict[str, Any]:
    """The documented shape of `status`, `ls` and `watch`."""
    return {"version": FORMAT, "clusters": [_cluster(s) for s in snapshots]}


def _cluster(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "name": snapshot.name,
        "store": snapshot.store.value,
        "mode": snapshot.mode,
        "verdict": snapshot.verdict.value,
        "reasons": list(snapshot.reasons),
        "findings": [{"kind": f.kind.value, "node": f.node, "text": f.text} for f in snapshot.findings],
        "taken": snapshot.taken.isoformat(timespec="milliseconds"),
        "nodes": [_node(n) for n in snapshot.nodes],
    }


def _node(node: NodeView) -> dict[str, Any]:
    return {
        "name": node.name,
        "role": node.role.value,
        "state": node.state.value,
        "why": node.why,
        "host": node.host,
        "port": node.port,
        "lag": _lag(node.lag),
        "ownership": node.ownership,
        "version": node.version,
        "detail": node.detail,
        "position": node.position,
        "priority": node.priority,
        "zone": node.zone,
        "follows": node.follows,
    }


def _lag(lag: Lag | None) -> dict[str, Any] | None:
    """Only the figures that the store has."""
    if lag is None:
        return None
    figures = {"bytes": lag.bytes, "seconds": lag.seconds, "zxid": lag.zxid, "hints": lag.hints}
    return {name: value for name, value in figures.items() if value is not None}


def lag_words(lag: Lag | None) -> str:
    """A lag for a table."""
    if lag is None:
        return "-"
    words = []
    if lag.bytes is not None:
        words.append(f"{lag.bytes:,} B")
    if lag.seconds is not None:
        words.append(f"{lag.seconds:g} s")
    if lag.zxid is not None:
        words.append(f"{lag.zxid:,} zxid")
    if lag.hints is not None:
        words.append(f"{lag.hints} hints")
    return ", ".join(words) or "?"


def status_table(snapshots: Sequence[Snapshot], output: Output) -> Table:
    """One line a node, under its cluster's name and verdict."""
    wide = output is Output.WIDE
    made = table("NODE", "ROLE", "STATE", "LAG", "ADDRESS", *(("VERSION", "DETAIL") if wide else ()))
    for i, snapshot in enumerate(snapshots):
        if i:
            made.add_section()
            made.add_row("")
        head = f"[bold]{snapshot.name}[/] {snapshot.store} {snapshot.mode}"
        made.add_row(head, "", styled(snapshot.verdict.value))
        for node in snapshot.nodes:
            owned = f", owns {node.ownership:.0%}" if node.ownership is not None else ""
            cells = [
                f"  {node.name}",
                node.role.value,
                styled(node.state.value),
                lag_words(node.lag) + owned,
                f"{node.host}:{node.port}",
            ]
            made.add_row(*cells, *((node.version or "", plain(node.why or node.detail)) if wide else ()))
    return made


def reasons_lines(snapshots: Sequence[Snapshot]) -> list[str]:
    """Why clusters are not healthy, a line each."""
    return [
        f"{styled(s.verdict.value)} {s.name}: {plain(reason)}"
        for s in snapshots
        if s.verdict is not Verdict.HEALTHY
        for reason in s.reasons
    ]

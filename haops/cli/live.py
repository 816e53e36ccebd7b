"""How `haops watch` shows what it sees: a live tree, lines of text, lines of JSON."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from haops.cli import output as shapes
from haops.cli.output import Output
from haops.cluster.changes import Change, Severity, standing
from haops.cluster.snapshot import NodeView, Role, Snapshot

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text
    from rich.tree import Tree

    from haops.cli.watch import Round, Show

_SHOWN: Final = 10
_STYLES: Final[Mapping[Severity, str]] = {
    Severity.GOOD: "green",
    Severity.NOTE: "",
    Severity.WARNING: "yellow",
    Severity.CRITICAL: "bold red",
}


@contextmanager
def display(output: Output) -> Iterator[Show]:
    """Shows rounds in the shape that was asked for: live only on a terminal."""
    if output in (Output.JSON, Output.YAML):
        yield lambda seen: _documents(seen, output)
    elif output is Output.NAME:
        yield _names
    elif not sys.stdout.isatty():
        yield _lines
    else:
        from rich.live import Live

        recent: deque[Change] = deque(maxlen=_SHOWN)
        with Live(console=shapes.out(), auto_refresh=False, vertical_overflow="visible") as live:

            def show(seen: Round) -> None:
                recent.extend(seen.news)
                live.update(picture(seen, recent), refresh=True)

            yield show


def _documents(seen: Round, output: Output) -> None:
    documents = []
    if seen.fresh:
        documents.append({"event": "snapshot", **shapes.clusters_document(seen.fresh)})
    documents += [{"event": "change", **change_document(change)} for change in seen.news]
    for document in documents:
        if output is Output.YAML:
            sys.stdout.write("---\n")
            shapes.emit(document, output)
        else:
            sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def change_document(change: Change) -> dict[str, Any]:
    """The documented shape of a change."""
    return {
        "at": change.at.isoformat(timespec="milliseconds"),
        "cluster": change.cluster,
        "node": change.node,
        "kind": change.kind.value,
        "what": change.what,
        "text": change.text,
        "severity": change.severity.value,
    }


def _names(seen: Round) -> None:
    for change in seen.news:
        sys.stdout.write(_where(change) + "\n")
    sys.stdout.flush()


def _lines(seen: Round) -> None:
    told = [*seen.news, *(change for snapshot in seen.fresh for change in standing(snapshot))]
    for change in told:
        sys.stdout.write(line_of(change) + "\n")
    sys.stdout.flush()


def _where(change: Change) -> str:
    return f"{change.cluster}/{change.node}" if change.node else change.cluster


def line_of(change: Change) -> str:
    """A change as a line; times are the machine's own."""
    at = change.at.astimezone()
    stamp = f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"
    return f"{stamp}  {_where(change):<24}  {change.kind:<7}  {change.text}"


def picture(seen: Round, recent: deque[Change]) -> RenderableType:
    """All clusters as trees, and under them what changed lately."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [tree(s, seen.unseen.get(s.name, "")) for s in seen.seen]
    never = set(seen.unseen) - {s.name for s in seen.seen}
    parts += [_styled(f"{name}: {seen.unseen[name]}", Severity.WARNING) for name in sorted(never)]
    lines = [_styled(line_of(change), change.severity) for change in recent]
    return Group(*parts, *([Text(""), *lines] if lines else []))


def _styled(text: str, severity: Severity) -> Text:
    from rich.text import Text

    return Text(text, style=_STYLES[severity])


def tree(snapshot: Snapshot, trouble: str = "") -> Tree:
    """A cluster: who leads, who follows whom, who only watches; then what speaks against it."""
    from rich.tree import Tree

    taken = f"{snapshot.taken.astimezone():%H:%M:%S}"
    head = f"[bold]{snapshot.name}[/] {snapshot.store} {shapes.styled(snapshot.verdict.value)}  {taken}"
    root = Tree(head)
    if trouble:
        root.add(_styled(trouble, Severity.WARNING))
    above = parents(snapshot)

    def grow(branch: Tree, name: str | None) -> None:
        for node in snapshot.nodes:
            if node.role is not Role.SENTINEL and above[node.name] == name:
                grow(branch.add(_label(node)), node.name)

    grow(root, None)
    if sentinels := [n for n in snapshot.nodes if n.role is Role.SENTINEL]:
        branch = root.add("Sentinels")
        for node in sentinels:
            branch.add(_label(node) + (f"  names {node.follows}" if node.follows else ""))
    for finding in snapshot.findings:
        root.add(_styled(finding.text, Severity.WARNING))
    return root


def parents(snapshot: Snapshot) -> Mapping[str, str | None]:
    """Under whom each node stands: the server it follows, the leader; None where there is nobody."""
    nodes = {n.name: n for n in snapshot.nodes}
    leader = next((n.name for n in snapshot.nodes if n.role is Role.LEADER), None)
    above: dict[str, str | None] = {}
    for name, node in nodes.items():
        if node.role in (Role.FOLLOWER, Role.OBSERVER):
            above[name] = leader
        else:
            above[name] = node.follows if node.role is Role.REPLICA and node.follows in nodes else None
    for name in nodes:  # replicas that follow each other in a circle stand under nobody
        passed, at = {name}, above[name]
        while at is not None and at not in passed:
            passed.add(at)
            at = above[at]
        if at is not None:
            above[name] = None
    return above


def _label(node: NodeView) -> str:
    words = [node.name, node.role.value, shapes.styled(node.state.value)]
    if node.lag:
        words.append(shapes.lag_words(node.lag))
    words.append(f"{node.host}:{node.port}")
    if node.why:
        words.append(shapes.plain(node.why))
    return "  ".join(words)

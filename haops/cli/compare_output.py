"""How comparisons and repairs are shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import typer

from haops.cli import output as shapes
from haops.cli.output import Output
from haops.compare.differences import Difference
from haops.compare.repair import Kept, Repaired, RepairPlan, kinds_of
from haops.compare.rounds import Comparison, Verdict
from haops.errors import EXIT_FAILED, EXIT_OK, EXIT_UNKNOWN

if TYPE_CHECKING:
    from haops.stores.compare import Record

Show = Callable[[bytes], str]

# Lines of a table; `-o wide` has all, and JSON and names too.
_ROWS: Final = 50
_PREVIEW: Final = 40
# Keys named in a line.
_NAMED: Final = 5


def exit_code(found: Sequence[Comparison]) -> int:
    """1 if anything differs for certain, else 4 if anything is unknown."""
    verdicts = {comparison.verdict for comparison in found}
    if Verdict.DIFFERENT in verdicts:
        return EXIT_FAILED
    return EXIT_UNKNOWN if Verdict.UNKNOWN in verdicts else EXIT_OK


def show(found: Sequence[Comparison], key: Show, output: Output) -> None:
    """Print comparisons; several are those of a cluster's copies with the first."""
    if output in (Output.JSON, Output.YAML):
        documents = [document(comparison, key) for comparison in found]
        body = documents[0] if len(found) == 1 else {"verdict": _worst(found), "comparisons": documents}
        shapes.emit({"version": shapes.FORMAT, **body}, output)
    elif output is Output.NAME:
        for name in dict.fromkeys(key(d.key) for comparison in found for d in comparison.differences):
            typer.echo(name)
    else:
        for comparison in found:
            _table(comparison, key, output)


def _worst(found: Sequence[Comparison]) -> str:
    words = {EXIT_OK: Verdict.EQUAL, EXIT_FAILED: Verdict.DIFFERENT, EXIT_UNKNOWN: Verdict.UNKNOWN}
    return words[exit_code(found)].value


def _table(comparison: Comparison, key: Show, output: Output) -> None:
    shown = (*comparison.differences, *comparison.unsettled)
    most = len(shown) if output is Output.WIDE else _ROWS
    if shown:
        made = shapes.table("KEY", "DIFFERENCE", "LEFT", "RIGHT")
        for number, found in enumerate(shown[:most]):
            moving = "" if number < len(comparison.differences) else " (unsettled)"
            made.add_row(
                shapes.plain(key(found.key)),
                ", ".join(found.kinds) + moving,
                shapes.plain(_words(found, found.left)),
                shapes.plain(_words(found, found.right)),
            )
        shapes.out().print(made)
    if len(shown) > most:
        shapes.out().print(f"... and {len(shown) - most:,} more: -o wide", markup=False)
    shapes.out().print(summary(comparison), markup=False, soft_wrap=True)


def _words(found: Difference, record: Record | None) -> str:
    """A side's record: its preview, and what differs if the preview does not show it."""
    if record is None:
        return "-"
    preview = record.preview or record.value
    short = preview if len(preview) <= _PREVIEW else preview[: _PREVIEW - 1] + "…"
    aspects = {
        "type": record.kind,
        "expiry": record.expires or "never",
        "acl": record.acl,
        "version": record.version,
    }
    extra = [f"{name} {aspects[name]}" for name in found.kinds if name in aspects]
    return "; ".join([short, *extra])


def summary(comparison: Comparison) -> str:
    """A comparison in a line or two."""
    pair = f"{comparison.left} ↔ {comparison.right}: {comparison.verdict}"
    if comparison.trouble:
        return f"{pair}: {comparison.trouble}"
    counts = [f"{times:,} {kind}" for kind, times in kinds_of(comparison.differences).items()]
    counts += [
        f"{number:,} {word}"
        for number, word in (
            (comparison.unlisted, "or more not listed"),
            (comparison.untold, "written while the backup was made"),
            (len(comparison.unsettled), "unsettled"),
            (comparison.elusive, "changed too fast to be looked at"),
            (comparison.transient, "only for a moment"),
        )
        if number
    ]
    records = f"{comparison.records_left:,} and {comparison.records_right:,} records"
    cost = f"{comparison.seconds:.1f} s, {comparison.rate:,.0f} records/s, {comparison.moved:,} bytes moved"
    return "; ".join([pair, *counts, records, cost])


def document(comparison: Comparison, key: Show) -> dict[str, Any]:
    """The documented shape of one comparison, but for its version."""
    return {
        "left": comparison.left,
        "right": comparison.right,
        "verdict": comparison.verdict.value,
        "records": {"left": comparison.records_left, "right": comparison.records_right},
        "moved_bytes": comparison.moved,
        "seconds": round(comparison.seconds, 3),
        "rounds": comparison.rounds,
        "transient": comparison.transient,
        "elusive": comparison.elusive,
        "unlisted": comparison.unlisted,
        "untold": comparison.untold,
        "trouble": comparison.trouble or None,
        "unsettled": [_difference(d, key) for d in comparison.unsettled],
        "differences": [_difference(d, key) for d in comparison.differences],
    }


def _difference(found: Difference, key: Show) -> dict[str, Any]:
    return {
        "key": key(found.key),
        "kinds": [kind.value for kind in found.kinds],
        "left": _record(found.left),
        "right": _record(found.right),
    }


def _record(record: Record | None) -> dict[str, str] | None:
    if record is None:
        return None
    fields = {
        "type": record.kind,
        "value": record.value,
        "preview": record.preview,
        "expires": record.expires,
        "acl": record.acl,
        "version": record.version,
    }
    return {name: value for name, value in fields.items() if value}


def show_plan(plan: RepairPlan, found: Comparison, key: Show, output: Output) -> None:
    """Print what a repair would do."""
    if output in (Output.JSON, Output.YAML):
        shapes.emit(
            {"version": shapes.FORMAT, **_plan(plan, key), "comparison": document(found, key)}, output
        )
        return
    if output is Output.NAME:
        for name in plan.keys:
            typer.echo(key(name))
        return
    if plan.keys:
        made = shapes.table("KEY", "WOULD BE")
        most = len(plan.keys) if output is Output.WIDE else _ROWS
        for number, name in enumerate(plan.keys[:most]):
            made.add_row(shapes.plain(key(name)), "deleted" if number < len(plan.delete) else "written")
        shapes.out().print(made)
        if len(plan.keys) > most:
            shapes.out().print(f"... and {len(plan.keys) - most:,} more: -o wide", markup=False)
    shapes.out().print(_plan_words(plan), markup=False, soft_wrap=True)
    _print_kept(plan.kept, key)
    shapes.out().print(summary(found), markup=False, soft_wrap=True)


def _plan_words(plan: RepairPlan) -> str:
    more = f"; {plan.unlisted:,} or more after them" if plan.unlisted else ""
    return (
        f"{plan.target} made like {plan.truth}: {len(plan.write):,} keys to write, "
        f"{len(plan.delete):,} to delete{more}"
    )


def _plan(plan: RepairPlan, key: Show) -> dict[str, Any]:
    return {
        "truth": plan.truth,
        "target": plan.target,
        "write": [key(name) for name in plan.write],
        "delete": [key(name) for name in plan.delete],
        "unlisted": plan.unlisted,
        "cannot": _kept(plan.kept, key),
    }


def _kept(kept: Sequence[Kept], key: Show) -> list[dict[str, str]]:
    return [{"key": key(one.key), "why": one.why} for one in kept]


def _print_kept(kept: Sequence[Kept], key: Show) -> None:
    """One line a reason."""
    for why in dict.fromkeys(one.why for one in kept):
        names = [key(one.key) for one in kept if one.why == why]
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        keys = "key" if len(names) == 1 else "keys"
        words = f"{len(names):,} {keys} cannot be made equal, for {why}: {', '.join(names[:_NAMED])}{more}"
        shapes.out().print(words, markup=False, soft_wrap=True)


def show_repaired(done: Repaired, key: Show, output: Output, limit: int) -> None:
    """Print what a repair did, and how the sides compare now.

    Args:
        limit: Differences to list; the repair itself may know of more.
    """
    after = _cut(done.after, limit)
    if output in (Output.JSON, Output.YAML):
        plan = done.plans[0]
        fields = {
            "truth": plan.truth,
            "target": plan.target,
            "passes": len(done.plans),
            "repaired": done.done,
            "written": done.tally.written,
            "deleted": done.tally.deleted,
            "cannot": _kept(done.kept[:limit], key),
        }
        shapes.emit({"version": shapes.FORMAT, **fields, "after": document(after, key)}, output)
        return
    shapes.err().print(f"{done.done:,} keys repaired: {done.tally}; compared again:", markup=False)
    show([after], key, output)
    if output is not Output.NAME:
        _print_kept(done.kept, key)


def _cut(comparison: Comparison, limit: int) -> Comparison:
    shown = comparison.differences[:limit]
    more = len(comparison.differences) - len(shown)
    return replace(comparison, differences=shown, unlisted=comparison.unlisted + more)

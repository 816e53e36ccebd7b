"""What a restore into a ring will do, decided from the backup and the target before anything is touched; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from haops.stores.backup import Archive, NotRestorable, RestoreWish, Stage
from haops.stores.cassandra import schema, sstables
from haops.stores.cassandra.placement import (
    Member,
    is_known,
    receivers,
    same_places,
    spans,
    whole_holders,
)
from haops.stores.cassandra.schema import Entry, Only
from haops.stores.cassandra.sstables import ROWS, SCHEMA_PART, Stored

_MOST_SCHEMA: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class TableWay:
    """Where a table's files go: for each node of the backup the target's nodes that get its files.

    Args:
        in_place: Every node's files go to its twin, which keeps the same rows.
    """

    receivers: Mapping[str, tuple[str, ...]]
    in_place: bool


@dataclass(frozen=True, slots=True)
class Course:
    """A restore before it begins.

    Args:
        entries: The schema to be, keyspaces with the replication that the target can have.
        files: The SSTable files; empty where the rows are written instead.
        ways: For each table of `files` (`keyspace.table`) where they go.
        rows: Tables that are written row by row, and their streams' sizes in bytes.
        cleaning: Nodes that get rows of ranges they do not keep, and the keyspace.
        notes: What will be otherwise than in the backup, in words.
    """

    entries: tuple[Entry, ...]
    files: tuple[Stored, ...]
    ways: Mapping[str, TableWay]
    rows: Mapping[str, int]
    cleaning: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def check_wish(wish: RestoreWish) -> None:
    """Refuse what no ring's backup can fulfil.

    Raises:
        NotRestorable: A moment is asked for.
    """
    if wish.at is not None:
        raise NotRestorable("a ring's backup has one point in time, its own", hint="leave --at out")


def chart(
    archive: Archive,
    only: Only,
    wish: RestoreWish,
    target: Sequence[Member],
    release: str,
    theirs: Sequence[Entry],
) -> Course:
    """The course of a restore.

    Args:
        release: The target's version.
        theirs: The target's schema.

    Raises:
        NotRestorable: It cannot be done.
    """
    entries = schema.selected(_schema_of(archive), only)
    if not any(e.kind == "table" for e in entries):
        raise NotRestorable(f"the backup has no table that {wish.only or 'it'} names", hint=_tables(archive))
    files = tuple(
        f for f in sstables.stored(archive.parts, archive.facts.nodes) if only.takes(f.keyspace, f.table)
    )
    rows = {p.name.removeprefix(ROWS): p.size or 0 for p in archive.parts if p.name.startswith(ROWS)}
    rows = {n: size for n, size in rows.items() if only.takes(*n.split(".", 1))}
    if sstables.version_of(archive.facts.version) > sstables.version_of(release):
        if not rows:
            raise NotRestorable(
                f"the backup is of Cassandra {archive.facts.version}, the target runs {release} and cannot "
                "read its files",
                hint="make the backup with --logical: rows go into any version",
            )
        files = ()
    fitted, notes = _fitted(entries, target, theirs)
    _check_types(fitted, theirs)
    source = _ring(archive)
    ways = {name: _way(name, entries, fitted, source, target) for name in sorted({f.name for f in files})}
    counting = {f"{e.keyspace}.{e.bare}" for e in entries if schema.counts(e)} & rows.keys()
    if not files and counting:
        notes += (f"without {', '.join(sorted(counting))}: a counter cannot be set to a value",)
    rows = {} if files else {n: size for n, size in rows.items() if n not in counting}
    return Course(fitted, files, ways, dict(sorted(rows.items())), _cleaning(ways, fitted, target), notes)


def _schema_of(archive: Archive) -> tuple[Entry, ...]:
    if not any(p.name == SCHEMA_PART for p in archive.parts):
        raise NotRestorable(f"backup {archive.id} has no schema")
    text = bytearray()
    for block in archive.read(SCHEMA_PART):
        text += block
        if len(text) > _MOST_SCHEMA:
            raise NotRestorable(f"the schema of backup {archive.id} is larger than 64 MiB")
    return schema.read(text.decode(errors="replace"))


def _tables(archive: Archive) -> str:
    found = sorted(f"{e.keyspace}.{e.bare}" for e in _schema_of(archive) if e.kind == "table")
    return f"it has: {', '.join(found[:20])}"


def _ring(archive: Archive) -> tuple[Member, ...]:
    try:
        found = [Member(n, int(f["token"]), f["dc"]) for n, f in archive.facts.nodes.items()]
    except (KeyError, ValueError) as error:
        raise NotRestorable(f"backup {archive.id} does not say where its nodes stood") from error
    return tuple(sorted(found, key=lambda m: m.token))


def _fitted(
    entries: Sequence[Entry], target: Sequence[Member], theirs: Sequence[Entry]
) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """The schema with replication as the target has it, or can have it."""
    known = {e.keyspace: schema.replication_of(e) for e in theirs if e.kind == "keyspace"}
    made, notes = [], []
    for entry in entries:
        if entry.kind != "keyspace":
            made.append(entry)
            continue
        options = schema.replication_of(entry)
        fitted = known.get(entry.keyspace) or schema.fitting(options, target)
        if fitted != options:
            notes.append(f"{entry.keyspace}: copies {_copies(fitted)} instead of {_copies(options)}")
        made.append(schema.with_replication(entry, fitted))
    return tuple(made), tuple(notes)


def _copies(options: Mapping[str, str]) -> str:
    return ", ".join(f"{dc}: {n}" for dc, n in options.items() if dc != "class")


def _check_types(entries: Sequence[Entry], theirs: Sequence[Entry]) -> None:
    """A table can be dropped and made anew; what other tables may be using cannot."""
    others = [e for e in schema.differs(entries, theirs) if e.kind != "table"]
    if others:
        raise NotRestorable(
            f"the target has another {others[0].kind} {others[0].keyspace}.{others[0].bare}",
            detail=others[0].plain,
            hint="restore into another cluster, or drop it first",
        )


def _way(
    name: str,
    entries: Sequence[Entry],
    fitted: Sequence[Entry],
    source: Sequence[Member],
    target: Sequence[Member],
) -> TableWay:
    before, after = (_replication(name.partition(".")[0], some) for some in (entries, fitted))
    twins = same_places(source, target)
    if twins is not None and before == after:
        return TableWay({node: (twin,) for node, twin in twins.items()}, in_place=True)
    if unknown := [options for options in (before, after) if not is_known(options)]:
        raise NotRestorable(
            f"it cannot be told which nodes keep the copies of {name}",
            detail=f"its replication is {_copies(unknown[0])} ({unknown[0].get('class', 'no class')})",
            hint="restore into a cluster with the same nodes and data centres",
        )
    return TableWay(receivers(spans(source, before), spans(target, after)), in_place=False)


def _replication(keyspace: str, entries: Sequence[Entry]) -> Mapping[str, str]:
    for entry in entries:
        if entry.kind == "keyspace" and entry.keyspace == keyspace:
            return schema.replication_of(entry)
    raise NotRestorable(f"the backup has files of keyspace {keyspace}, but not its schema")


def _cleaning(
    ways: Mapping[str, TableWay], fitted: Sequence[Entry], target: Sequence[Member]
) -> tuple[tuple[str, str], ...]:
    found = set()
    for name, way in ways.items():
        if way.in_place:
            continue
        keyspace = name.partition(".")[0]
        whole = whole_holders(spans(target, _replication(keyspace, fitted)))
        found |= {(node, keyspace) for nodes in way.receivers.values() for node in nodes if node not in whole}
    return tuple(sorted(found))


def stages_of(course: Course) -> tuple[Stage, ...]:
    """A course as stages; the same whatever is done of it already."""
    notes = f" ({'; '.join(course.notes)})" if course.notes else ""
    made = [Stage("schema", f"make the schema{notes}", len(course.entries), "statements")]
    for name, way in course.ways.items():
        files = [f for f in course.files if f.name == name]
        total = sum(f.size * len(way.receivers.get(f.node, ())) for f in files)
        made.append(Stage(f"files {name}", f"import {name}", total, "bytes"))
    made += [Stage(f"rows {name}", f"write {name}", size, "bytes") for name, size in course.rows.items()]
    if course.cleaning:
        text = "remove from each node the rows that it does not keep"
        made.append(Stage("cleanup", text, len(course.cleaning), "nodes"))
    return tuple(made)

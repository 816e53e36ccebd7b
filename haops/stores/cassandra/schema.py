"""The schema of a ring: told by the server itself, written down, compared, and made again elsewhere."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from haops.errors import BadInput
from haops.stores.backup import NotRestorable
from haops.stores.cassandra.placement import Member
from haops.stores.cassandra.rows import Column, Shape, quoted
from haops.stores.cassandra.topology import KEYSPACE

# Made by `up` in every cluster, with a row for each of its members: no data of anybody's.
PROOF_TABLE: Final = f"{KEYSPACE}.ready"
_MARK: Final = "-- haops: "
# What takes a table's place in comparing: the server gives each a number of its own, and backups keep it.
_ID: Final = re.compile(r"\bID = [0-9a-f-]{36}\s+AND ")
_LONE_ID: Final = re.compile(r"\s+WITH ID = [0-9a-f-]{36}(?=\s*;)")
_REPLICATION: Final = re.compile(r"replication = \{([^}]*)\}")
_PAIR: Final = re.compile(r"'([^']*)'\s*:\s*'([^']*)'")
_COUNTER: Final = re.compile(r'^ +(?:\w+|"(?:[^"\n]|"")+") counter(?: static)?,?$', re.MULTILINE)
# Behind it come the options, comments among them.
_COLUMNS_END: Final = "\n) WITH "
_SIMPLE: Final = "replication_factor"
_VIEW: Final = "view"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing of a schema: `kind` is `keyspace`, `type`, `table`, `index`, ... in the server's words."""

    keyspace: str
    kind: str
    name: str
    cql: str

    @property
    def plain(self) -> str:
        """Its statement without what differs between equal things."""
        return " ".join(without_id(self.cql).split())

    @property
    def bare(self) -> str:
        """Its name without quotes."""
        return self.name[1:-1].replace('""', '"') if self.name.startswith('"') else self.name


@dataclass(frozen=True, slots=True)
class Only:
    """What of a cluster is meant: everything, a keyspace, or one table of it."""

    keyspace: str | None = None
    table: str | None = None

    def takes(self, keyspace: str, table: str | None = None) -> bool:
        """Whether a table (or a keyspace) is among it."""
        if self.keyspace not in (None, keyspace):
            return False
        return self.table is None or table is None or self.table == table


def parse_only(words: str | None) -> Only:
    """`keyspace` or `keyspace.table`, as the server spells them.

    Raises:
        BadInput: It is neither.
    """
    if words is None:
        return Only()
    keyspace, dot, table = words.partition(".")
    if not keyspace or (dot and not table) or "." in table:
        raise BadInput(f"{words!r} is no keyspace and no table", hint="write keyspace or keyspace.table")
    return Only(keyspace, table or None)


def is_users(keyspace: str) -> bool:
    """Whether a keyspace is not the server's own."""
    return not keyspace.startswith("system")


def without_id(cql: str) -> str:
    """A table's statement without the number that its server gave it: another table may have that already."""
    return _ID.sub("", _LONE_ID.sub("", cql))


def keyspaces(session: Any) -> Mapping[str, Mapping[str, str]]:
    """The users' keyspaces and their replication options. Raises one of TROUBLE."""
    rows = session.execute("SELECT keyspace_name, replication FROM system_schema.keyspaces")
    return {r.keyspace_name: dict(r.replication) for r in rows if is_users(r.keyspace_name)}


def describe(session: Any, names: Iterable[str]) -> tuple[Entry, ...]:
    """Keyspaces with everything in them, in an order in which they can be made; dropped columns too.

    Raises one of TROUBLE.
    """
    return tuple(
        Entry(name, row.type, row.name, row.create_statement.strip())
        for name in names
        for row in session.execute(f"DESCRIBE KEYSPACE {quoted(name)} WITH INTERNALS")
    )


def shapes(session: Any, only: Only, *, timed: bool) -> tuple[Shape, ...]:
    """The users' tables, sorted by name; materialized views, which follow from them, are none.

    Raises one of TROUBLE.
    """
    tables = session.execute("SELECT keyspace_name, table_name FROM system_schema.tables")
    wanted = {(r.keyspace_name, r.table_name) for r in tables if is_users(r.keyspace_name)}
    rows = [
        (r.keyspace_name, r.table_name, Column(r.column_name, r.type, r.kind), r.position)
        for r in session.execute("SELECT * FROM system_schema.columns")
    ]
    found = (
        shape_of(k, t, [(c, p) for ks, tb, c, p in rows if (ks, tb) == (k, t)], timed=timed)
        for k, t in sorted(wanted)
        if only.takes(k, t) and f"{k}.{t}" != PROOF_TABLE
    )
    return tuple(found)


def shape_of(keyspace: str, table: str, columns: Sequence[tuple[Column, int]], *, timed: bool) -> Shape:
    """A table from its columns and their positions in the key."""
    order = {"partition_key": 0, "clustering": 1, "regular": 2, "static": 3}
    ranked = sorted(columns, key=lambda c: (order[c[0].kind], c[1], c[0].name))
    return Shape(keyspace, table, tuple(c for c, _ in ranked), timed)


def written(entries: Sequence[Entry]) -> bytes:
    """A schema as a file that both people and `read` can read."""
    lines = (f"{_MARK}{json.dumps([e.keyspace, e.kind, e.name])}\n{e.cql}\n\n" for e in entries)
    return "".join(lines).encode()


def read(text: str) -> tuple[Entry, ...]:
    """The schema from such a file.

    Raises:
        NotRestorable: It is none.
    """
    found = []
    for part in re.split(rf"^{re.escape(_MARK)}", text, flags=re.MULTILINE)[1:]:
        head, _, cql = part.partition("\n")
        try:
            keyspace, kind, name = json.loads(head)
        except ValueError as error:
            raise NotRestorable("the backup's schema cannot be read", detail=head) from error
        found.append(Entry(keyspace, kind, name, cql.strip()))
    return tuple(found)


def statements(cql: str) -> Iterator[str]:
    """The single statements of a text: semicolons inside quotes and function bodies end none."""
    start, at, closing = 0, 0, ""
    while at < len(cql):
        if closing:
            if cql.startswith(closing, at):
                at += len(closing) - 1
                closing = ""
        elif cql.startswith("$$", at):
            closing, at = "$$", at + 1
        elif cql[at] in "'\"":
            closing = cql[at]
        elif cql[at] == ";":
            if words := cql[start:at].strip():
                yield words
            start = at + 1
        at += 1
    if words := cql[start:].strip():
        yield words


def replication_of(entry: Entry) -> Mapping[str, str]:
    """A keyspace's options, from its statement."""
    found = _REPLICATION.search(entry.cql)
    return dict(_PAIR.findall(found.group(1))) if found else {}


def fitting(options: Mapping[str, str], ring: Sequence[Member]) -> Mapping[str, str]:
    """Replication that a ring can have: no more copies than nodes, and in its own data centres only.

    Raises:
        NotRestorable: It has none of the data centres.
    """
    nodes = Counter(m.dc for m in ring)
    if _SIMPLE in options and options.get("class", "").endswith("SimpleStrategy"):
        return {**options, _SIMPLE: str(min(int(options[_SIMPLE]), len(ring)))}
    asked = {dc: int(n) for dc, n in options.items() if n.isdigit()}
    if not asked:
        return options
    kept = {dc: str(min(n, nodes[dc])) for dc, n in asked.items() if dc in nodes and n}
    if not kept:
        raise NotRestorable(
            f"no copy would be in the target's data centres: {', '.join(sorted(nodes))}",
            detail=f"the keyspace's copies are in {', '.join(sorted(asked))}",
            hint="restore into a cluster with one of those: haops up cassandra --dcs 2",
        )
    return {"class": options.get("class", "NetworkTopologyStrategy"), **kept}


def with_replication(entry: Entry, options: Mapping[str, str]) -> Entry:
    """The keyspace with other options."""
    words = ", ".join(f"'{k}': '{v}'" for k, v in options.items())
    return replace(entry, cql=_REPLICATION.sub(lambda _: f"replication = {{{words}}}", entry.cql, count=1))


def differs(ours: Sequence[Entry], theirs: Sequence[Entry]) -> tuple[Entry, ...]:
    """Things of a backup that a cluster has too, but otherwise; a keyspace's replication is its cluster's own."""
    there = {(e.keyspace, e.kind, e.name): e for e in theirs}
    return tuple(
        e
        for e in ours
        if e.kind != "keyspace"
        and (known := there.get((e.keyspace, e.kind, e.name)))
        and known.plain != e.plain
    )


def lacking(ours: Entry, theirs: Entry) -> tuple[str, ...]:
    """The statements that a table lacks because its making broke off after the first; empty if it is another.

    A table whose columns were dropped is made with them, and they are dropped then. Until that is
    done the server tells its columns in another order.
    """
    (first, *rest), (made, *done) = (tuple(statements(without_id(e.cql))) for e in (ours, theirs))
    if _lines(first) != _lines(made) or not set(done) <= set(rest):
        return ()
    return tuple(s for s in rest if s not in done)


def _lines(statement: str) -> list[str]:
    return sorted(" ".join(line.split()).removesuffix(",") for line in statement.splitlines())


def missing(ours: Sequence[Entry], theirs: Sequence[Entry]) -> tuple[Entry, ...]:
    """Things of a backup that a cluster lacks, in the order in which they are made."""
    there = {(e.keyspace, e.kind, e.name) for e in theirs}
    return tuple(e for e in ours if (e.keyspace, e.kind, e.name) not in there)


def selected(entries: Sequence[Entry], only: Only) -> tuple[Entry, ...]:
    """What of a schema is needed for a table or a keyspace; types and functions come with it."""
    found = []
    for e in entries:
        if f"{e.keyspace}.{e.bare}" == PROOF_TABLE or not only.takes(e.keyspace):
            continue
        if only.table is not None and e.kind in ("table", _VIEW) and e.bare != only.table:
            continue
        if only.table is not None and e.kind == "index" and not _is_of(e, only.table):
            continue
        found.append(e)
    return tuple(found)


def _is_of(index: Entry, table: str) -> bool:
    said = re.search(r"\bON\s+(?:\"?\w+\"?\.)?\"?(\w+)\"?\s*\(", index.cql)
    return bool(said) and said is not None and said.group(1) == table


def counts(entry: Entry) -> bool:
    """Whether it is a table of counters, which cannot be set to a value."""
    return entry.kind == "table" and _COUNTER.search(entry.cql.partition(_COLUMNS_END)[0]) is not None


def views(entries: Sequence[Entry]) -> tuple[str, ...]:
    """The names of materialized views."""
    return tuple(f"{e.keyspace}.{e.bare}" for e in entries if e.kind.endswith(_VIEW))

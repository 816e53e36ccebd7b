"""Snapshots and SSTable files: what a listing of a node's data folder says about them; pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from haops.runtime.port import FileFact
from haops.stores.backup import Form, NotRestorable, Part
from haops.stores.cassandra.schema import PROOF_TABLE, is_users

# Parts of a backup besides the files.
SCHEMA_PART: Final = "schema.cql"
ROWS: Final = "rows/"
# In a backup's details: up to which write time (Unix µs) its files and its rows are the same.
UNTIL: Final = "until_us"
# What is borrowed from a node: the snapshot by its tag, and the folder that a restore fills.
SNAPSHOT: Final = "snapshot"
STAGED: Final = "staging"

DATA: Final = "/var/lib/cassandra/data"
# Beside the data, on the same volume: an import moves files, and copies none.
STAGING: Final = "/var/lib/cassandra/haops-restore"
# Servers write these two last, so a snapshot that has both is whole; a restore needs neither.
_LAST: Final = frozenset({"manifest.json", "schema.cql"})
# <keyspace>/<table>-<id>/snapshots/<tag>/<file>; what lies deeper belongs to an index, which is built anew.
_SNAPSHOT: Final = re.compile(r"([^/]+)/([^/]+)-([0-9a-f]{32})/snapshots/([^/]+)/([^/]+)")
# What of a backup's names goes into paths and orders: the servers themselves allow no more.
_NODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_STORED: Final = re.compile(r"([^/]+)/(\w+)/(\w+)-[0-9a-f]{32}/(\w[\w.+-]*)", re.ASCII)
_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_FILE: Final = re.compile(r"([a-z]{2})-[^/]*-(big|bti)-[^/]+")


@dataclass(frozen=True, slots=True)
class Snapped:
    """A file of a snapshot on a node."""

    keyspace: str
    table: str
    id: str
    tag: str
    file: str
    fact: FileFact

    @property
    def place(self) -> str:
        """`keyspace/table-id/file`."""
        return f"{self.keyspace}/{self.table}-{self.id}/{self.file}"


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of a backup: the part it is, and what its name says."""

    part: str
    node: str
    keyspace: str
    table: str
    file: str
    size: int

    @property
    def name(self) -> str:
        """`keyspace.table`."""
        return f"{self.keyspace}.{self.table}"


def snapped(facts: Iterable[FileFact], tag: str) -> tuple[Snapped, ...]:
    """A snapshot's files in the listing of a data folder; what is the server's own is left out."""
    found = []
    for fact in facts:
        if not (match := _SNAPSHOT.fullmatch(fact.path)) or match.group(4) != tag:
            continue
        keyspace, table, number, _, file = match.groups()
        if is_users(keyspace) and f"{keyspace}.{table}" != PROOF_TABLE:
            found.append(Snapped(keyspace, table, number, tag, file, fact))
    return tuple(found)


def is_whole(files: Iterable[Snapped], tables: Collection[str]) -> bool:
    """Whether a snapshot has each of these tables (`keyspace.table`) in full."""
    seen: dict[str, set[str]] = {}
    for file in files:
        seen.setdefault(f"{file.keyspace}.{file.table}", set()).add(file.file)
    return all(seen.get(table, set()) >= _LAST for table in tables)


def taken_ns(files: Iterable[Snapped]) -> int | None:
    """When a snapshot's first table was done, Unix ns."""
    return min((f.fact.modified_ns for f in files if f.file in _LAST), default=None)


def parts(node: str, files: Iterable[Snapped]) -> tuple[Part, ...]:
    """A node's files as parts of a backup.

    An SSTable's files never change but for its statistics, which are replaced as a whole; its
    number may come again in a table's life, at another time. So size and time tell them apart.
    """
    return tuple(
        Part(
            f"{node}/{f.place}",
            node,
            Form.PHYSICAL,
            size=f.fact.size,
            stamp=f"{f.fact.size}:{f.fact.modified_ns}",
        )
        for f in sorted(files, key=lambda f: f.place)
        if f.file not in _LAST
    )


def where(tag: str, part: Part) -> str:
    """The path of a part in its node's container."""
    _, keyspace, folder, file = part.name.split("/")
    return f"{DATA}/{keyspace}/{folder}/snapshots/{tag}/{file}"


def stored(backup: Sequence[Part], nodes: Collection[str]) -> tuple[Stored, ...]:
    """The SSTable files among a backup's parts.

    Args:
        nodes: Those that the backup is of.

    Raises:
        NotRestorable: A part has a name that no backup of a ring gives it.
    """
    found = []
    for part in backup:
        if part.form is not Form.PHYSICAL or part.name == SCHEMA_PART:
            continue
        match = _STORED.fullmatch(part.name)
        if match is None or match.group(1) not in nodes or not _NODE.fullmatch(match.group(1)):
            raise NotRestorable(f"the backup has a part that is no file of a table: {part.name!r}")
        node, keyspace, table, file = match.groups()
        found.append(Stored(part.name, node, keyspace, table, file, part.size or 0))
    return tuple(found)


def staging(backup: str) -> str:
    """The folder on a node's disk that a restore of this backup fills.

    Raises:
        NotRestorable: The backup has an id that cannot be a folder's name.
    """
    if not _ID.fullmatch(backup) or ".." in backup:
        raise NotRestorable(f"{backup!r} is no id of a backup")
    return f"{STAGING}/{backup}"


def version_of(release: str) -> tuple[int, int]:
    """Major and minor of a server's release: a patch changes no format."""
    numbers = [int(n) for n in re.findall(r"\d+", release)[:2]]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)


def formats(files: Iterable[Stored]) -> tuple[str, ...]:
    """The formats among SSTable files, such as `big-nb`."""
    return tuple(sorted({f"{m.group(2)}-{m.group(1)}" for f in files if (m := _FILE.fullmatch(f.file))}))

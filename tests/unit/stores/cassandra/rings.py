"""A ring without servers: a session that knows a schema, nodes with files that `nodetool` works on."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fakes
import pytest

from haops.cluster.loans import Loans
from haops.cluster.spec import Cluster, StoreName
from haops.stores.backup import BackupTools, Facts, Part
from haops.stores.cassandra import backup, restore
from haops.stores.cassandra.schema import Entry
from haops.stores.cassandra.sstables import DATA

ID = "9c918a10e81f11f1b04ae7abe118a1cb"
OPTIONS = {"class": "org.apache.cassandra.locator.NetworkTopologyStrategy", "dc1": "3"}
KEYSPACE = Entry(
    "shop",
    "keyspace",
    "shop",
    "CREATE KEYSPACE shop WITH replication = {'class': 'org.apache.cassandra.locator.NetworkTopologyStrategy', "
    "'dc1': '3'} AND durable_writes = true;",
)
ITEMS = Entry(
    "shop",
    "table",
    "items",
    "CREATE TABLE shop.items (\n    id bigint PRIMARY KEY,\n    value blob\n) WITH a = 1;",
)
HITS = Entry(
    "shop",
    "table",
    "hits",
    "CREATE TABLE shop.hits (\n    id bigint PRIMARY KEY,\n    n counter\n) WITH a = 1;",
)
COLUMNS = {
    "items": (("id", "bigint", "partition_key", 0), ("value", "blob", "regular", -1)),
    "hits": (("id", "bigint", "partition_key", 0), ("n", "counter", "regular", -1)),
}


class Rows(list[Any]):
    """An answer."""

    def one(self) -> Any:
        return self[0] if self else None


class FakeSession:
    """Answers what is asked of a schema; keeps what it was told to do."""

    def __init__(self, entries: Sequence[Entry], release: str = "5.0.8") -> None:
        self.entries = list(entries)
        self.release = release
        self.full: set[str] = set()
        self.said: list[str] = []
        self.cluster = SimpleNamespace(metadata=SimpleNamespace(all_hosts=list))

    def execute(self, query: str, **_: Any) -> Rows:
        if "system_schema.keyspaces" in query:
            found = [e for e in self.entries if e.kind == "keyspace"]
            return Rows(SimpleNamespace(keyspace_name=e.keyspace, replication=OPTIONS) for e in found)
        if "system_schema.tables" in query:
            return Rows(SimpleNamespace(keyspace_name=e.keyspace, table_name=e.bare) for e in self._tables())
        if "system_schema.columns" in query:
            return Rows(self._columns())
        if "release_version" in query:
            return Rows([SimpleNamespace(release_version=self.release)])
        if query.startswith("DESCRIBE"):
            name = query.split('"')[1]
            return Rows(
                SimpleNamespace(type=e.kind, name=e.name, create_statement=e.cql)
                for e in self.entries
                if e.keyspace == name
            )
        if query.startswith("SELECT *"):
            return Rows([1] if query.split('"')[3] in self.full else [])
        return self._do(query)

    def _do(self, query: str) -> Rows:
        self.said.append(query)
        if query.startswith("TRUNCATE"):
            self.full.discard(query.split('"')[3])
        if query.startswith("DROP TABLE"):
            self.entries = [e for e in self.entries if e.bare != query.split('"')[3]]
        return Rows()

    def _tables(self) -> list[Entry]:
        return [e for e in self.entries if e.kind == "table"]

    def _columns(self) -> Iterator[Any]:
        for e in self._tables():
            for name, type_, kind, position in COLUMNS[e.bare]:
                yield SimpleNamespace(
                    keyspace_name=e.keyspace,
                    table_name=e.bare,
                    column_name=name,
                    type=type_,
                    kind=kind,
                    position=position,
                )


class Ring:
    """Nodes, a session, an engine; `nodetool` is what the fake engine's commands come to."""

    def __init__(self, nodes: int, folder: Path, entries: Sequence[Entry] = (KEYSPACE, ITEMS)) -> None:
        self.cluster = fakes.make_cluster("cassandra", nodes, name="cash")
        self.runtime = fakes.FakeRuntime()
        self.runtime.answer = self.nodetool
        folder.mkdir(exist_ok=True)
        self.loans = Loans(folder)
        self.session = FakeSession(entries)
        self.orders: list[tuple[str, str]] = []
        self.refuse: Callable[[str, str], bool] = lambda node, order: False
        self.leaves: set[str] = set()
        self.ended: dict[tuple[str, str], str] = {}
        self.imported: dict[tuple[str, str], bytes] = {}
        self.table_files: dict[str, bytes] = {
            "nb-1-big-Data.db": b"data of ",
            "nb-1-big-Statistics.db": b"statistics of ",
        }

    @property
    def tools(self) -> BackupTools:
        return BackupTools(self.runtime, self.loans)

    def snapshots(self, node: str) -> list[str]:
        return [path for at, path in self.runtime.disk if at == node and "/snapshots/" in path]

    def nodetool(self, node: str, argv: Sequence[str]) -> tuple[int, str]:
        if argv[:2] == ["rm", "-rf"]:
            for key in [k for k in self.runtime.disk if k[0] == node and k[1].startswith(argv[2] + "/")]:
                del self.runtime.disk[key]
            return 0, ""
        if argv[0] != "bash":
            return 0, ""
        # Jobs that go on by themselves: one has ended when it is looked at.
        if len(argv) == 5:
            return 0, self.ended[node, argv[4]]
        words, order = argv[5:], " ".join(argv[5:])
        self.orders.append((node, order))
        self.ended[node, argv[4]] = "1\nerror: no" if self.refuse(node, order) else "0\n"
        if self.refuse(node, order):
            return 0, ""
        match words[0]:
            case "snapshot":
                self._snapshot(node, words[2])
            case "clearsnapshot":
                for key in [
                    k for k in self.runtime.disk if k[0] == node and f"/snapshots/{words[2]}/" in k[1]
                ]:
                    del self.runtime.disk[key]
            case "import":
                self._import(node, words[words.index("--") + 3 :])
        return 0, ""

    def _snapshot(self, node: str, tag: str) -> None:
        for table in ("items", "hits"):
            if not any(e.bare == table for e in self.session.entries):
                continue
            folder = f"{DATA}/shop/{table}-{ID}/snapshots/{tag}"
            for name, content in self.table_files.items():
                self.runtime.disk[node, f"{folder}/{name}"] = content + f"{table} on {node}".encode()
            data = self.runtime.disk[node, f"{folder}/nb-1-big-Data.db"]
            self.runtime.disk[node, f"{folder}/nb-1-big-Digest.crc32"] = str(zlib.crc32(data)).encode()
            self.runtime.disk[node, f"{folder}/manifest.json"] = b"{}"
            self.runtime.disk[node, f"{folder}/schema.cql"] = b"CREATE"

    def _import(self, node: str, folders: Sequence[str]) -> None:
        for key in [
            k for k in self.runtime.disk if k[0] == node and k[1].startswith(tuple(f"{f}/" for f in folders))
        ]:
            if node not in self.leaves:
                self.imported[key] = self.runtime.disk.pop(key)


@dataclass(frozen=True)
class MemoryArchive:
    """A backup in memory."""

    content: Mapping[str, bytes]
    parts: tuple[Part, ...]
    facts: Facts
    id: str = "b1"
    store: StoreName = StoreName.CASSANDRA
    read_parts: list[str] = field(default_factory=list)

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        self.read_parts.append(name)
        return iter([self.content[name][start:]])


def facts_of(cluster: Cluster, version: str = "5.0.8") -> Facts:
    nodes = {n.name: {"token": n.params["token"], "dc": "dc1"} for n in cluster.servers}
    return Facts(version, "schema 1", datetime(2026, 1, 1, tzinfo=UTC), nodes=nodes)


def keep(source: backup.CassandraSource, cluster: Cluster) -> MemoryArchive:
    """A backup made of all parts of a source."""
    content = {p.name: b"".join(source.read(p)) for p in source.parts()}
    parts = tuple(replace(p, size=len(content[p.name])) for p in source.parts())
    return MemoryArchive(content, parts, facts_of(cluster))


@contextmanager
def in_force(monkeypatch: pytest.MonkeyPatch, ring: Ring) -> Iterator[None]:
    """What opens connections opens none, and finds this ring."""

    @contextmanager
    def both(_: Cluster) -> Iterator[tuple[Any, Any]]:
        raw = SimpleNamespace(
            execution_profile_clone_update=lambda *_, **__: None, cluster=ring.session.cluster
        )
        yield ring.session, raw

    @contextmanager
    def one(*_: Any, **__: Any) -> Iterator[Any]:
        yield ring.session

    with monkeypatch.context() as patch:
        patch.setattr(backup, "sessions", both)
        patch.setattr(backup, "answers", lambda _: True)
        patch.setattr(restore, "connect", one)
        patch.setattr(restore, "answers", lambda _: True)
        yield

"""Backups in memory, and what every test of them does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from haops.cluster.loans import Loans
from haops.cluster.spec import Cluster, StoreName
from haops.stores.backup import BackupTools, BackupWish, Facts, Form, Part, RestoreWish
from haops.stores.zookeeper.backup import BACKING
from haops.stores.zookeeper.restore import TREE
from haops.stores.zookeeper.tree import OPEN, Access, Acl, Kind, TreeNode, encode

from ....fakes import FakeRuntime


def tools() -> BackupTools:
    return BackupTools(FakeRuntime(), Loans(Path("unused")))


@dataclass
class MemoryArchive:
    """A backup whose parts are bytes; `stamps` are not its business."""

    blobs: dict[str, bytes]
    facts: Facts
    id: str = "b1"
    store: StoreName = StoreName.ZOOKEEPER

    @property
    def parts(self) -> Sequence[Part]:
        return [Part(name, "", Form.LOGICAL, len(raw)) for name, raw in self.blobs.items()]

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        raw = self.blobs[name]
        return (raw[i : i + 1000] for i in range(start, len(raw), 1000))


def node(
    path: str, data: bytes | None = b"", acl: Acl = OPEN, following: int = 0, **more: object
) -> TreeNode:
    made = TreeNode(path.encode(), data, acl, Kind.PERSISTENT, 0, following, 0, 0, 0, 0, 0, 0, 0)
    return made._replace(**more)  # type: ignore[arg-type]


def archive(nodes: Iterable[TreeNode], **more: object) -> MemoryArchive:
    facts = Facts("3.9.5", "zxid 0x1", datetime(2026, 1, 2, tzinfo=UTC))
    return MemoryArchive({TREE: b"".join(encode(nodes))}, facts, **more)  # type: ignore[arg-type]


def back_up(cluster: Cluster, *, logical: bool = False, node: str | None = None) -> MemoryArchive:
    with BACKING.source(cluster, tools(), BackupWish("b1", logical=logical, node=node)) as source:
        blobs = {part.name: b"".join(source.read(part)) for part in source.parts()}
        return MemoryArchive(blobs, source.facts())


def restore(
    cluster: Cluster,
    backup: MemoryArchive,
    wish: RestoreWish | None = None,
    *,
    wipe: bool = False,
    marked: Callable[[str, str], None] = lambda stage, mark: None,
    marks: dict[str, str] | None = None,
) -> None:
    with BACKING.restorer(cluster, tools(), backup, wish or RestoreWish()) as restorer:
        if wipe:
            restorer.wipe()
        for stage in restorer.stages():
            for advance in restorer.perform(stage, (marks or {}).get(stage.name, "")):
                marked(stage.name, advance.mark)


SECRET: Acl = (Access(31, b"digest", b"u:hash"), Access(1, b"ip", b"10.0.0.0/8"))

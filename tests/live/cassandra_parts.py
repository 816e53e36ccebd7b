"""A ring's backup as plain files, for tests that need no catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from haops.cluster.loans import Loans
from haops.cluster.spec import Cluster, StoreName
from haops.cluster.state import StateDir
from haops.runtime.docker import DockerRuntime
from haops.stores import load_backing
from haops.stores.backup import BackupTools, BackupWish, Facts, Part, RestoreWish

BACKING = load_backing(StoreName.CASSANDRA)


@dataclass(frozen=True)
class FolderArchive:
    """A backup whose parts are files of a folder."""

    folder: Path
    id: str
    parts: tuple[Part, ...]
    facts: Facts
    store: StoreName = StoreName.CASSANDRA

    def path(self, name: str) -> Path:
        return path_of(self.folder, name)

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        with self.path(name).open("rb") as file:
            file.seek(start)
            while block := file.read(1024 * 1024):
                yield block


def path_of(folder: Path, part: str) -> Path:
    return folder / part.replace("/", "@")


def tools(state: StateDir, name: str) -> BackupTools:
    return BackupTools(DockerRuntime(), Loans(state.cluster_dir(name)))


def back_up(state: StateDir, cluster: Cluster, folder: Path, wish: BackupWish) -> FolderArchive:
    """All parts of a backup, written as they come."""
    folder.mkdir()
    own = tools(state, cluster.name)
    with BACKING.source(cluster, own, wish) as source:
        parts = []
        for part in source.parts():
            with path_of(folder, part.name).open("wb") as file:
                size = sum(file.write(block) for block in source.read(part))
            parts.append(replace(part, size=size))
        facts = source.facts()
        assert {loan.was for loan in own.loans.open()} == {wish.id}
        source.release()
    assert own.loans.open() == ()
    return FolderArchive(folder, wish.id, tuple(parts), facts)


def restore(
    state: StateDir, cluster: Cluster, archive: FolderArchive, only: str | None = None, *, wipe: bool = True
) -> list[str]:
    """Wipe what is in the way, unless it is to stay, and restore; returns the stages' names."""
    own = tools(state, cluster.name)
    with BACKING.restorer(cluster, own, archive, RestoreWish(only=only)) as restorer:
        if wipe:
            restorer.wipe()
            assert restorer.in_the_way() == ()
        stages = restorer.stages()
        for stage in stages:
            last = None
            for advance in restorer.perform(stage, ""):
                last = advance
            assert last is None or last.done == stage.total
    assert own.loans.open() == ()
    return [stage.name for stage in stages]

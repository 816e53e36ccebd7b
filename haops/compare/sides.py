"""From the words of an operator to the two sides of a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from haops.cluster.spec import Cluster, StoreName
from haops.compare.rounds import Comparison, Manner, compare, compare_all
from haops.control.lifecycle import Lifecycle
from haops.errors import BadInput
from haops.stores import load_comparing
from haops.stores.backup import Archive
from haops.stores.compare import Comparing, Side

PREFIX: Final = "backup:"


@dataclass(frozen=True, slots=True)
class Named:
    """What a word stands for: a cluster or a backup; one of the two is there."""

    cluster: Cluster | None = None
    archive: Archive | None = None

    @property
    def store(self) -> StoreName:
        """The store it is of."""
        if self.cluster is not None:
            return self.cluster.store
        assert self.archive is not None
        return self.archive.store

    @property
    def label(self) -> str:
        """What people call it."""
        if self.cluster is not None:
            return self.cluster.name
        assert self.archive is not None
        return f"{PREFIX}{self.archive.id}"


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where backups are.

    Args:
        repository: A folder or URL; None is the default one.
        identities: Files with the secrets that open encrypted backups.
    """

    repository: str | None = None
    identities: tuple[Path, ...] = ()


def find(haops: Lifecycle, word: str, shelf: Shelf) -> Named:
    """The cluster of this name, or else the backup of this id.

    Args:
        word: A cluster's name, `backup:ID`, `backup:latest`, `backup:CLUSTER:latest`, or an id alone.

    Raises:
        BadInput: There is neither.
    """
    if word.startswith(PREFIX):
        return Named(archive=_archive(haops, word.removeprefix(PREFIX), shelf))
    if word in haops.state.names():
        return Named(cluster=haops.state.get(word))
    try:
        return Named(archive=_archive(haops, word, shelf))
    except BadInput as error:
        raise BadInput(
            f"there is neither a cluster nor a backup {word!r}",
            detail=str(error),
            hint="see: haops ls, haops backup list",
        ) from error


def _archive(haops: Lifecycle, word: str, shelf: Shelf) -> Archive:
    # Only a comparison with a backup needs its libraries.
    from haops.backup.archive import open_archive
    from haops.backup.keys import read_identities
    from haops.backup.repository import default_repository, open_repository

    repository = open_repository(shelf.repository or default_repository(haops.state.root))
    return open_archive(repository, word, read_identities(shelf.identities))


def check_same_store(left: Named, right: Named) -> Comparing:
    """How their store is compared.

    Raises:
        BadInput: They are of different stores, or one and the same.
    """
    if left.store is not right.store:
        raise BadInput(
            f"{left.label} is of {left.store}, {right.label} of {right.store}: they cannot be compared"
        )
    if left.label == right.label:
        raise BadInput(
            f"{left.label} is compared with itself", hint=f"its copies: haops compare {left.label} --replicas"
        )
    return load_comparing(left.store)


@contextmanager
def opened(
    haops: Lifecycle, comparing: Comparing, pair: tuple[Named, Named], only: str | None
) -> Iterator[tuple[Side, Side]]:
    """Both sides, open for reading.

    Args:
        only: A key prefix, `keyspace.table` or a path; None is everything.
    """
    with ExitStack() as stack:
        left, right = (stack.enter_context(_side(haops, comparing, named, only)) for named in pair)
        yield left, right


@contextmanager
def _side(haops: Lifecycle, comparing: Comparing, named: Named, only: str | None) -> Iterator[Side]:
    if named.cluster is not None:
        with comparing.side(named.cluster, haops.runtime, only) as side:
            yield side
    elif named.archive is not None:
        with comparing.of_backup(named.archive, only) as side:
            yield side


def compare_copies(haops: Lifecycle, cluster: Cluster) -> tuple[Comparison, ...]:
    """Each copy of a cluster's data with the first; none where there is one copy only."""
    with load_comparing(cluster.store).replicas(cluster, haops.runtime) as sides:
        return compare_all(sides, Manner()) if len(sides) > 1 else ()


def compare_with_backup(
    haops: Lifecycle,
    cluster: Cluster,
    archive: Archive,
    *,
    only: str | None = None,
    manner: Manner | None = None,
) -> Comparison:
    """Compare a backup (left) with a cluster (right).

    Raises:
        BadInput: They are of different stores, or the backup has no form that can be compared.
        HaopsError: A side could not be opened.
    """
    pair = (Named(archive=archive), Named(cluster=cluster))
    with opened(haops, check_same_store(*pair), pair, only) as sides:
        return compare(*sides, manner or Manner())


def names_nodes(cluster: Cluster, labels: Sequence[str]) -> bool:
    """Whether a cluster's copies are its nodes: those of a ring are spread over all of them."""
    return {node.name for node in cluster.nodes}.issuperset(labels)

"""Comparison of rings: everything read at ALL, a backup's rows, or each copy by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from cassandra import ConsistencyLevel

from haops.cluster.spec import Cluster
from haops.errors import ClusterUnhealthy
from haops.runtime.port import Runtime
from haops.stores.backup import Archive
from haops.stores.base import first_line
from haops.stores.cassandra import schema
from haops.stores.cassandra.connect import TROUBLE
from haops.stores.cassandra.mend import barred, mend, mend_replicas
from haops.stores.cassandra.placement import members, spans
from haops.stores.cassandra.reader import NODE_LOCAL, Way, sessions
from haops.stores.cassandra.ring import answers
from haops.stores.cassandra.schema import Only, parse_only
from haops.stores.cassandra.shown import show
from haops.stores.cassandra.sides import BackupSide, RingSide
from haops.stores.compare import Comparing, Side


@contextmanager
def side(cluster: Cluster, runtime: Runtime, only: str | None) -> Iterator[Side]:
    """A ring's rows at ALL: what any copy has.

    Raises:
        BadInput: `only` is neither a keyspace nor a table.
        ClusterUnhealthy: A node is down.
    """
    del runtime
    chosen = parse_only(only)
    _check_all_up(cluster)
    try:
        with sessions(cluster) as both:
            yield RingSide(cluster, both, chosen, Way(ConsistencyLevel.ALL), label=cluster.name)
    except TROUBLE as error:
        raise _broke_off(cluster, error) from error


@contextmanager
def of_backup(archive: Archive, only: str | None) -> Iterator[Side]:
    """A backup's rows.

    Raises:
        NotRestorable: It has files only.
    """
    yield BackupSide(archive, parse_only(only))


@contextmanager
def replicas(cluster: Cluster, runtime: Runtime) -> Iterator[Sequence[Side]]:
    """Copy 1 to copy RF: of each range the first holder's rows, the second's, and so on, from it alone.

    Where a keyspace has fewer copies than another, its own come again.

    Raises:
        ClusterUnhealthy: A node is down.
    """
    del runtime
    _check_all_up(cluster)
    try:
        with sessions(cluster) as both:
            ring, found = members(cluster), schema.keyspaces(both[0])
            most = max((len(s.holders) for o in found.values() for s in spans(ring, o)), default=1)
            yield [
                RingSide(cluster, both, Only(), Way(NODE_LOCAL, copy), label=f"copy {copy + 1}")
                for copy in range(most)
            ]
    except TROUBLE as error:
        raise _broke_off(cluster, error) from error


def _check_all_up(cluster: Cluster) -> None:
    down = [n.name for n in cluster.servers if not answers(n)]
    if down:
        raise ClusterUnhealthy(
            f"{', '.join(down)} does not answer: a comparison needs all copies",
            hint=f"bring it back first: haops heal {cluster.name}",
        )


def _broke_off(cluster: Cluster, error: Exception) -> ClusterUnhealthy:
    return ClusterUnhealthy(f"{cluster.name} broke off the comparison", detail=first_line(error))


COMPARING: Final = Comparing(
    side=side,
    of_backup=of_backup,
    replicas=replicas,
    mend=mend,
    mend_replicas=mend_replicas,
    show=show,
    barred=barred,
    picks="rows of",
)

"""Comparison and repair of Redis sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

from haops.cluster.spec import Cluster
from haops.errors import BadInput
from haops.runtime.port import Runtime
from haops.stores.backup import Archive
from haops.stores.compare import Comparing, Side
from haops.stores.redis.digest import show
from haops.stores.redis.mend import mend, mend_replicas
from haops.stores.redis.sides import BackupSide, CompareFailed, LiveSide
from haops.stores.redis.who import primary


def _prefix(only: str | None) -> bytes:
    """Raises BadInput for an empty one, which would mean everything."""
    if only == "":
        raise BadInput("the prefix is empty", hint="leave --only out to compare everything")
    return (only or "").encode()


@contextmanager
def side(cluster: Cluster, runtime: Runtime, only: str | None) -> Iterator[Side]:
    """A set, read at its primary; `only` is a prefix of keys."""
    with closing(LiveSide(primary(cluster, CompareFailed), cluster.name, _prefix(only))) as opened:
        yield opened


@contextmanager
def of_backup(archive: Archive, only: str | None) -> Iterator[Side]:
    """A backup's dump; `only` is a prefix of keys."""
    yield BackupSide(archive, _prefix(only))


@contextmanager
def replicas(cluster: Cluster, runtime: Runtime) -> Iterator[Sequence[Side]]:
    """Every server of a set, each for itself; the primary first."""
    first = primary(cluster, CompareFailed)
    ordered = sorted(cluster.servers, key=lambda n: (n != first, n.index))
    with ExitStack() as stack:
        yield [stack.enter_context(closing(LiveSide(node, node.name))) for node in ordered]


COMPARING = Comparing(
    side=side,
    of_backup=of_backup,
    replicas=replicas,
    mend=mend,
    mend_replicas=mend_replicas,
    show=show,
    picks="keys that begin with",
)

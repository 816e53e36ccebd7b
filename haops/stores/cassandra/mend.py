"""Making a ring's rows like another side's, and its copies like each other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from haops.cluster.spec import Cluster
from haops.errors import BadInput, ClusterUnhealthy, HaopsError
from haops.runtime.port import Runtime
from haops.stores.base import first_line
from haops.stores.cassandra import schema
from haops.stores.cassandra.connect import TROUBLE, connect
from haops.stores.cassandra.loader import Loader, Removal, Write, in_place_of, newest
from haops.stores.cassandra.nodetool import Nodetool
from haops.stores.cassandra.rows import ROW, Row, Shape, aged, split_key
from haops.stores.cassandra.shown import show
from haops.stores.cassandra.sides import COUNTER, RingSide, RowsSide
from haops.stores.compare import Record, Side

_GROUP: Final = 256
_REQUEST_S: Final = 30.0

Truth = tuple[bytes, Shape | None, Row | None]


def mend(first: Side, second: Side, keys: Sequence[bytes]) -> Iterator[int]:
    """Write the first side's rows into the second's ring; remove there what the first lacks.

    They are written at the present time, or just after the newest thing that stands there: what
    was written earlier than that would never be seen.

    A row whose values are all over in a backup is removed with nothing but its values: no backup's rows
    tell whether it lives on by its key alone. Where it does so, it is left, and not counted.

    Raises:
        BadInput: The second is no ring that can be written, or a table is of other columns or counts.
        ClusterUnhealthy: The ring broke off.
    """
    if not isinstance(first, RowsSide) or not isinstance(second, RingSide):
        raise BadInput("only a ring's rows can be mended, from a ring or a backup")
    _check(second, keys)
    truths = first.full(keys)
    done = 0
    try:
        while group := list(islice(truths, _GROUP)):
            for table in sorted({split_key(key)[0] for key, _, _ in group}):
                some = [t for t in group if split_key(t[0])[0] == table]
                done += _mend_some(second, table, some)
            yield done
    except TROUBLE as error:
        raise ClusterUnhealthy(f"{second.label} broke off the repair", detail=first_line(error)) from error


def barred(wanted: Record | None, has: Record | None) -> str:
    """Why a row stays as it is: a counter is only ever added to, and one that was deleted is not to be used again."""
    counts = any(record and record.kind == COUNTER for record in (wanted, has))
    return "a counter cannot be set to a value" if counts else ""


def _check(second: RingSide, keys: Sequence[bytes]) -> None:
    """Nothing is written before it is known that everything can be."""
    for table in sorted({split_key(key)[0] for key in keys}):
        shape = second.shape(table)
        if shape is None:
            raise BadInput(f"{second.label} has no table {table}", hint="make it first, or restore it")
        if shape.counts:
            raise BadInput(
                f"{table} counts, and a counter cannot be set to a value",
                hint="restore the table's files from a backup: haops restore --only",
            )


def _mend_some(second: RingSide, table: str, truths: Sequence[Truth]) -> int:
    """Mend rows of one table; returns how many were not left as they were."""
    shape = second.shape(table)
    if shape is None:
        raise BadInput(f"{second.label} has no table {table} any more")
    there = {key: row for key, _, row in second.full([key for key, _, _ in truths])}
    writes = [(there.get(truth[0]), writes_for(shape, truth, there.get(truth[0]))) for truth in truths]
    for _ in Loader(second.session, shape).write(w for _, some in writes for w in some):
        pass
    return sum(1 for row, some in writes if some or row is None)


def writes_for(shape: Shape, truth: Truth, there: Row | None) -> list[Write | Removal]:
    """What makes a row equal to the truth; nothing where only values are over that it does not have.

    Raises:
        BadInput: The truth is of other columns.
    """
    key, other, row = truth
    now_us = time.time_ns() // 1000
    at_us = max(now_us, newest(there) + 1)
    if row is None:
        _, kind, _, values = split_key(key)
        return [Removal(kind, values, at_us)]
    if other is None or other.columns != shape.columns:
        raise BadInput(f"{shape.name} has other columns on one side than on the other", detail=show(key))
    over = row.kind == ROW and aged(row, now_us // 1000) is None
    if over and not (there and any(c.value is not None for c in there.cells)):
        return []
    return in_place_of(row, at_us, now_us // 1000)


def mend_replicas(cluster: Cluster, runtime: Runtime, names: Sequence[str]) -> Iterator[str]:
    """Cassandra's own full repair, on every node for the ranges that it holds first; yields words.

    The newest write wins in it, whichever copy has it: the sides' `names` do not matter.

    Raises:
        ClusterUnhealthy: A node refused.
    """
    del names
    tool = Nodetool(cluster, runtime)
    try:
        with connect(cluster.servers, timeout_s=_REQUEST_S) as session:
            found = sorted(schema.keyspaces(session))
    except TROUBLE as error:
        raise ClusterUnhealthy("the ring does not answer", detail=first_line(error)) from error
    steps = [(node.name, keyspace) for node in cluster.servers for keyspace in found]
    for number, (node, keyspace) in enumerate(steps, start=1):
        began = time.monotonic()
        try:
            tool.finish(node, f"mend-{keyspace}", "repair", "-full", "-pr", keyspace)
        except HaopsError as error:
            raise ClusterUnhealthy(error.message, node=node, detail=error.detail, hint=error.hint) from error
        yield f"{node}: {keyspace} repaired in {time.monotonic() - began:.1f} s ({number} of {len(steps)})"

"""Making one side like another: key by key, or a replica as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from haops.cluster.spec import Cluster, Node
from haops.errors import BadInput
from haops.runtime.port import Runtime
from haops.stores.compare import Side
from haops.stores.redis.digest import place_of
from haops.stores.redis.keywise import payload, restore_command
from haops.stores.redis.sides import BackupSide, CompareFailed, LiveSide
from haops.stores.redis.who import primary
from haops.stores.redis.wire import Wire, info, pack
from haops.wait import wait_until

_BATCH: Final = 200
_ANSWER_S: Final = 10.0
_RESYNC_S: Final = 1800.0


def mend(truth: Side, wrong: Side, keys: Sequence[bytes]) -> Iterator[int]:
    """Copies the keys of `truth` over those of `wrong`, a living primary; what `truth` lacks is unlinked.

    Raises:
        BadInput: The side to be changed is no living cluster.
        CompareFailed: A server refused, such as a payload of a newer release.
    """
    if not isinstance(truth, LiveSide | BackupSide) or not isinstance(wrong, LiveSide):
        raise BadInput("only a living cluster can be mended", hint="to change a backup, make a new one")
    done, db = 0, -1
    batch: list[bytes] = []
    for name, saved in truth.saved(keys):
        place = place_of(name)
        if place.db != db:
            db = place.db
            batch.append(pack("SELECT", db))
        if saved is None:
            batch.append(pack("UNLINK", place.key))
        else:
            dumped = payload(saved.kind, saved.raw, saved.version)
            batch.append(restore_command(place.key, dumped, saved.expires))
        done += 1
        if len(batch) >= _BATCH:
            wrong.wire.carry_out(batch)
            yield done
            batch = []
    wrong.wire.carry_out(batch)
    yield done


def mend_replicas(cluster: Cluster, runtime: Runtime, names: Sequence[str]) -> Iterator[str]:
    """Has replicas copied anew from the primary, one after the other.

    Args:
        names: The truth, which must be the primary, and the replicas to be copied anew; all if none is named.

    Raises:
        BadInput: The truth is not the primary: Redis copies in that direction only.
    """
    first = primary(cluster, CompareFailed)
    if not names or names[0] != first.name:
        raise BadInput(
            f"the primary is {first.name}, and replicas are copied from it only",
            hint=f"make the other one the primary before: haops switchover {cluster.name} --to NODE",
        )
    replicas = [cluster.node(n) for n in names[1:]] or [n for n in cluster.servers if n != first]
    for replica in replicas:
        yield f"{replica.name} copies everything from {first.name}"
        _copy_anew(replica, first)
        yield f"{replica.name} is in sync"


def _copy_anew(replica: Node, first: Node) -> None:
    """As a primary for a moment it takes an id that nobody knows: nothing can be continued then.

    A write of a client in that moment would be lost by the copy; a replica refuses writes up to
    it, and whom the Sentinels name stays the same.
    """
    wire = Wire(replica, _ANSWER_S, CompareFailed)
    try:
        if wire.ask("ROLE")[0] != b"slave":
            raise CompareFailed("it is no replica", node=replica.name)
        wire.send(pack("MULTI") + pack("REPLICAOF", "NO", "ONE")
                  + pack("REPLICAOF", first.address, first.port) + pack("EXEC"))  # fmt: skip
        refused = wire.refusal(3)
        done = wire.answer()
        errors = [a for a in (done if isinstance(done, list) else [done]) if isinstance(a, Exception)]
        if refused or errors or not isinstance(done, list):
            told = refused or "".join(str(e) for e in errors[:1]) or repr(done)
            raise CompareFailed("it refused to be copied anew", node=replica.name, detail=told)
        wait_until(
            lambda: info(wire, "replication"),
            lambda r: r["role"] == "slave" and r["master_link_status"] == "up",
            what=f"{replica.name} to be in sync",
            deadline_s=_RESYNC_S,
            describe=lambda r: f"master_link_status:{r.get('master_link_status')}",
        )
    finally:
        wire.close()

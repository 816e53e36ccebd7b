"""What an operator can have done to a Redis set, and which node an action is aimed at."""

from __future__ import annotations

from haops.cluster.snapshot import Role, Snapshot
from haops.stores.base import only
from haops.stores.plan import Control, Operation
from haops.stores.redis import plan as plans
from haops.stores.redis.move import conductor, mend
from haops.stores.redis.watch import watch


def primary(snapshot: Snapshot) -> str:
    """The server that takes writes. Raises NoRole."""
    return only(snapshot, Role.PRIMARY)


CONTROL = Control(
    plans={
        Operation.SWITCHOVER: plans.switchover,
        Operation.FAILOVER: plans.failover,
        Operation.RESTART: plans.restart,
        Operation.REPLACE: plans.replace,
    },
    conductor=conductor,
    mend=mend,
    watch=watch,
    instead={
        Operation.DRAIN: "move the primary's role away from the node: haops switchover",
        Operation.RESUME: "a replica needs none",
        Operation.REPAIR: "a replica is a byte for byte copy; restart it to have it copied anew",
        Operation.RESTORE: "a backup is named: haops restore BACKUP --to NAME",
        Operation.DECOMMISSION: "take the cluster down and bring it up with fewer nodes",
    },
)

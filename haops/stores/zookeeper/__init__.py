"""ZooKeeper: an ensemble with one leader; a write is acknowledged by a majority (Zab)."""

from haops.cluster.spec import StoreName
from haops.stores.base import Store
from haops.stores.zookeeper.control import CONTROL, primary
from haops.stores.zookeeper.events import events
from haops.stores.zookeeper.lock import LOCK
from haops.stores.zookeeper.modes import STORE_MODES
from haops.stores.zookeeper.observe import observe
from haops.stores.zookeeper.probe import copies, probe
from haops.stores.zookeeper.readiness import readiness
from haops.stores.zookeeper.topology import layout, render_context
from haops.stores.zookeeper.workload import ZooKeeperWorkload

STORE = Store(
    name=StoreName.ZOOKEEPER,
    modes=STORE_MODES,
    layout=layout,
    render_context=render_context,
    readiness=readiness,
    observe=observe,
    primary=primary,
    events=events,
    workload=ZooKeeperWorkload,
    control=CONTROL,
    probe=probe,
    copies=copies,
    lock=LOCK,
)

"""Redis with Sentinel: one primary, its replicas, and the Sentinels that watch them."""

from haops.cluster.spec import StoreName
from haops.stores.base import Store
from haops.stores.redis.control import CONTROL, primary
from haops.stores.redis.events import events
from haops.stores.redis.lock import LOCK
from haops.stores.redis.modes import STORE_MODES
from haops.stores.redis.observe import observe
from haops.stores.redis.probe import copies, probe
from haops.stores.redis.readiness import readiness
from haops.stores.redis.topology import layout, render_context
from haops.stores.redis.workload import RedisWorkload

STORE = Store(
    name=StoreName.REDIS,
    modes=STORE_MODES,
    layout=layout,
    render_context=render_context,
    readiness=readiness,
    observe=observe,
    primary=primary,
    events=events,
    workload=RedisWorkload,
    control=CONTROL,
    probe=probe,
    copies=copies,
    lock=LOCK,
)

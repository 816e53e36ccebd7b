"""Cassandra: a ring of equal members; each row has RF copies, and a write's level says how many must answer."""

from haops.cluster.spec import StoreName
from haops.stores.base import Store
from haops.stores.cassandra.control import CONTROL, primary
from haops.stores.cassandra.events import events
from haops.stores.cassandra.modes import STORE_MODES
from haops.stores.cassandra.observe import observe
from haops.stores.cassandra.probe import copies, probe
from haops.stores.cassandra.readiness import readiness
from haops.stores.cassandra.topology import afresh, layout, render_context
from haops.stores.cassandra.workload import CassandraWorkload

STORE = Store(
    name=StoreName.CASSANDRA,
    modes=STORE_MODES,
    layout=layout,
    render_context=render_context,
    readiness=readiness,
    observe=observe,
    primary=primary,
    events=events,
    workload=CassandraWorkload,
    control=CONTROL,
    probe=probe,
    copies=copies,
    afresh=afresh,
)

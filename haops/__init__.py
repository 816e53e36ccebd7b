"""haops: high availability of Redis, ZooKeeper and Cassandra, set up, watched and broken on purpose."""

__version__ = "0.1.0"

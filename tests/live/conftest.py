"""Real clusters for the live tests: made once a session, removed at its end whatever happened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from live_helpers import Haops

PREFIX = "live"
# A session that is killed cannot clean up; the next one's `gc` may then remove what it left.
TTL = "90m"


@pytest.fixture(scope="session")
def haops(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Haops]:
    """A clean state directory; at the end not one labelled object of it may be left."""
    command = Haops(tmp_path_factory.mktemp("state"))
    command.run("gc")
    yield command
    command.run("down", "--all", "--volumes", check=None)
    command.run("gc", check=None)


@pytest.fixture(scope="session")
def owner(haops: Haops) -> str:
    return (haops.state / "owner").read_text().strip()


@pytest.fixture(scope="session")
def trio(haops: Haops) -> Mapping[str, str]:
    """One cluster of each store, up at once; names by store."""
    haops.run("up", "all", "--name", PREFIX, "--ttl", TTL)
    return {store: f"{PREFIX}-{store}" for store in ("redis", "zookeeper", "cassandra")}

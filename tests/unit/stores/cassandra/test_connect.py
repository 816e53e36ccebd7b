from __future__ import annotations

from typing import Any

import pytest
from cassandra.cluster import EXEC_PROFILE_DEFAULT
from cassandra.policies import HostDistance

from haops.cluster.spec import MAX_NODES
from haops.stores.cassandra import connect

from ....fakes import make_cluster


class Driver:
    """Takes down with what it is made."""

    made: dict[str, Any]

    def __init__(self, **options: Any) -> None:
        Driver.made = options

    def connect(self, wait_for_all_pools: bool) -> object:
        return object()

    def shutdown(self) -> None:
        """Nothing is open."""


class Host:
    """A member as the driver knows it."""

    def __init__(self, datacenter: str) -> None:
        self.datacenter = datacenter
        self.is_up = True


def test_members_of_both_data_centres_can_be_asked_those_of_the_first_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connect, "Cluster", Driver)
    cluster = make_cluster("cassandra", 8, dcs=2)
    with connect.connect(cluster.nodes, timeout_s=1.0):
        policy = Driver.made["execution_profiles"][EXEC_PROFILE_DEFAULT].load_balancing_policy._child_policy
    near, far = [Host("dc1") for _ in range(4)], [Host("dc2") for _ in range(MAX_NODES // 2)]
    policy.populate(None, [*far, *near])
    assert {policy.distance(h) for h in near} == {HostDistance.LOCAL}
    assert {policy.distance(h) for h in far} == {HostDistance.REMOTE}
    order = list(policy.make_query_plan())
    assert set(order[:4]) == set(near)
    assert set(order[4:]) == set(far)
    assert len(Driver.made["contact_points"]) == 8

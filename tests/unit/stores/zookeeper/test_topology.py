"""Who votes in an ensemble, and what its servers are told about it."""

from __future__ import annotations

import pytest
import yaml

from haops.cluster.spec import Cluster, ClusterSpec, StoreName
from haops.runtime.compose import render
from haops.stores.zookeeper.topology import is_observer, layout, majority, observers, render_context, voters

from ....fakes import make_cluster


def configuration(cluster: Cluster) -> list[str]:
    made = yaml.safe_load(render(cluster, render_context(cluster)))
    return str(made["configs"]["zoo.cfg"]["content"]).splitlines()


def test_observers_come_after_the_voters_and_are_marked() -> None:
    plans = layout(ClusterSpec("zk", StoreName.ZOOKEEPER, nodes=3, observers=2))
    assert [p.name for p in plans] == [f"zookeeper-{i}" for i in range(1, 6)]
    assert [dict(p.params) for p in plans] == [{}, {}, {}, {"role": "observer"}, {"role": "observer"}]
    assert all(p.has_admin for p in plans)


@pytest.mark.parametrize(
    ("nodes", "watching", "needed"), [(1, 0, 1), (1, 8, 1), (3, 2, 2), (4, 1, 3), (5, 4, 3)]
)
def test_observers_never_count_for_the_majority(nodes: int, watching: int, needed: int) -> None:
    cluster = make_cluster("zookeeper", nodes, observers=watching)
    assert (len(voters(cluster)), len(observers(cluster))) == (nodes, watching)
    assert majority(cluster) == needed
    assert not any(is_observer(n) for n in voters(cluster))


def test_every_server_is_told_who_has_no_vote() -> None:
    cluster = make_cluster("zookeeper", 3, observers=1)
    lines = [line for line in configuration(cluster) if line.startswith("server.")]
    assert [line.split(":")[3] for line in lines] == [
        "participant;2181", "participant;2181", "participant;2181", "observer;2181",
    ]  # fmt: skip


@pytest.mark.parametrize(("watching", "told"), [(0, False), (1, True)])
def test_a_single_voter_with_observers_is_no_standalone_server(watching: int, told: bool) -> None:
    assert (
        "standaloneEnabled=false" in configuration(make_cluster("zookeeper", 1, observers=watching))
    ) is told


def test_an_ensemble_without_observers_is_told_nothing_about_them() -> None:
    assert not any(
        "observer" in line or "standalone" in line for line in configuration(make_cluster("zookeeper"))
    )

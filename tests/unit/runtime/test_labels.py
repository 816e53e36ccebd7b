from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.runtime import labels

from ...fakes import make_cluster

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)


def test_a_node_carries_all_five_labels() -> None:
    cluster = make_cluster()
    assert labels.node_labels(cluster, cluster.nodes[0]) == {
        "haops.cluster": "redis",
        "haops.store": "redis",
        "haops.owner": cluster.owner,
        "haops.expires": "never",
        "haops.node": "redis-1",
    }


@pytest.mark.parametrize("value", [None, "", "never", "soon", "2025-13-45"])
def test_a_missing_or_odd_label_never_expires(value: str | None) -> None:
    assert not labels.expired(value, NOW)


@given(st.timedeltas(min_value=timedelta(days=-400), max_value=timedelta(days=400)), st.integers(-12, 12))
def test_a_cluster_expires_when_its_label_says_in_any_time_zone(ahead: timedelta, zone: int) -> None:
    expires = (NOW + ahead).replace(microsecond=0).astimezone(timezone(timedelta(hours=zone)))
    value = labels.cluster_labels(make_cluster(expires=expires))[labels.EXPIRES]
    assert labels.expired(value, NOW) == (expires <= NOW)


def test_a_label_without_a_time_zone_never_expires() -> None:
    assert not labels.expired("2020-01-01T00:00:00", NOW)

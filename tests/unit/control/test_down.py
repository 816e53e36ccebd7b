"""Down, garbage collection and healing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from haops.cluster.snapshot import Verdict
from haops.cluster.spec import Cluster, Phase
from haops.cluster.state import write_atomic
from haops.control.lifecycle import Garbage, Lifecycle, worst
from haops.errors import BadInput, EngineUnavailable, HaopsError
from haops.faults.ledger import Ledger
from haops.runtime.port import ContainerState

from ...fakes import FakeRuntime, Labelled, make_cluster, snapshot

NOW = datetime(2025, 6, 1, tzinfo=UTC)


def stand(haops: Lifecycle, runtime: FakeRuntime, cluster: Cluster, *, record: bool = True) -> Cluster:
    """A cluster of this state directory's owner with all its containers."""
    own = replace(cluster, owner=haops.state.owner())
    here = runtime.of(own)
    here.nodes = {n.name: ContainerState.RUNNING for n in own.nodes}
    here.networks, here.volumes = 1, len(own.nodes)
    here.expires = own.expires.isoformat() if own.expires else "never"
    if record:
        haops.state.save(own)
    return own


def damage(haops: Lifecycle, name: str) -> None:
    write_atomic(haops.state.cluster_dir(name) / "cluster.json", "{")


def test_down_keeps_data_and_record_unless_told_otherwise(haops: Lifecycle, runtime: FakeRuntime) -> None:
    cluster = stand(haops, runtime, make_cluster())
    haops.down("redis", keep_volumes=True)
    assert runtime.of(cluster).nodes == {}
    assert runtime.of(cluster).volumes == 6
    assert haops.state.get("redis") == cluster


def test_down_with_volumes_forgets_the_cluster(haops: Lifecycle, runtime: FakeRuntime) -> None:
    cluster = stand(haops, runtime, make_cluster())
    haops.down("redis", keep_volumes=False)
    assert runtime.of(cluster) == Labelled()
    assert haops.state.names() == ()


def test_down_of_a_damaged_record_works(haops: Lifecycle, runtime: FakeRuntime) -> None:
    cluster = stand(haops, runtime, make_cluster())
    damage(haops, "redis")
    haops.down("redis", keep_volumes=False)
    assert runtime.of(cluster) == Labelled()
    assert haops.state.names() == ()


def test_down_of_what_has_no_record_works_from_labels(haops: Lifecycle, runtime: FakeRuntime) -> None:
    cluster = stand(haops, runtime, make_cluster(), record=False)
    haops.down("redis", keep_volumes=False)
    assert runtime.of(cluster) == Labelled()


def test_down_of_a_record_without_containers_forgets_it(haops: Lifecycle) -> None:
    haops.state.save(make_cluster())
    haops.down("redis", keep_volumes=False)
    assert haops.state.names() == ()


def test_down_of_an_unknown_name_lists_the_known(haops: Lifecycle, runtime: FakeRuntime) -> None:
    stand(haops, runtime, make_cluster())
    with pytest.raises(BadInput, match="there is no cluster 'rediss'") as caught:
        haops.down("rediss", keep_volumes=False)
    assert caught.value.hint == "there are: redis"
    assert ("remove", "rediss", haops.state.owner()) not in runtime.calls


def test_down_leaves_another_owners_cluster_of_the_same_name_alone(
    haops: Lifecycle, runtime: FakeRuntime
) -> None:
    foreign = make_cluster(owner="somebodyelse")
    runtime.of(foreign).nodes = {"redis-1": ContainerState.RUNNING}
    with pytest.raises(BadInput):
        haops.down("redis", keep_volumes=False)
    assert runtime.of(foreign).nodes


def test_a_down_that_the_engine_broke_off_can_be_repeated(haops: Lifecycle, runtime: FakeRuntime) -> None:
    stand(haops, runtime, make_cluster())
    runtime.fail["remove"] = [EngineUnavailable("gone")]
    with pytest.raises(EngineUnavailable):
        haops.down("redis", keep_volumes=False)
    assert haops.state.names() == ("redis",)
    haops.down("redis", keep_volumes=False)
    assert haops.state.names() == ()


def test_down_waits_for_nobody_who_is_at_work(haops: Lifecycle, runtime: FakeRuntime) -> None:
    cluster = stand(haops, runtime, make_cluster())
    with haops.state.lock("redis", "drill"), pytest.raises(HaopsError, match="another haops"):
        haops.down("redis", keep_volumes=False)
    assert runtime.of(cluster).nodes


# ---- garbage


def found(haops: Lifecycle) -> dict[tuple[str, str], str]:
    return {(g.cluster, g.owner): g.why for g in haops.garbage(NOW)}


def test_a_ready_cluster_that_did_not_expire_is_no_garbage(haops: Lifecycle, runtime: FakeRuntime) -> None:
    stand(haops, runtime, make_cluster(expires=NOW + timedelta(seconds=1)))
    assert found(haops) == {}


def test_each_kind_of_garbage_is_found_with_its_reason(haops: Lifecycle, runtime: FakeRuntime) -> None:
    owner = haops.state.owner()
    stand(haops, runtime, make_cluster(name="half", phase=Phase.CREATING))
    stand(haops, runtime, make_cluster(name="unrecorded"), record=False)
    stand(haops, runtime, make_cluster(name="old", expires=NOW))
    haops.state.save(make_cluster(name="oldrecord", owner=owner, expires=NOW))
    stand(haops, runtime, make_cluster(name="damaged"))
    damage(haops, "damaged")
    damage(haops, "onlydamage")
    haops.state.cluster_dir("begun").mkdir()
    stand(haops, runtime, make_cluster(name="good"))
    assert found(haops) == {
        ("half", owner): "was left half-made",
        ("unrecorded", owner): "has no record in this state directory",
        ("old", owner): f"expired {NOW.isoformat()}",
        ("oldrecord", owner): f"expired {NOW.isoformat()}",
        ("damaged", owner): "its record cannot be read",
        ("begun", owner): "was left half-made",
        ("onlydamage", owner): "its record cannot be read",
    }


def test_of_other_owners_only_what_expired_is_garbage(haops: Lifecycle, runtime: FakeRuntime) -> None:
    for name, expires in (
        ("young", "2025-06-02T00:00:00+00:00"),
        ("old", "2025-05-31T00:00:00+00:00"),
        ("ever", "never"),
    ):
        here = runtime.of(make_cluster(name=name, owner="somebodyelse"))
        here.volumes, here.expires = 1, expires
    assert list(found(haops)) == [("old", "somebodyelse")]


def test_what_a_process_is_at_work_on_is_never_garbage(haops: Lifecycle, runtime: FakeRuntime) -> None:
    stand(haops, runtime, make_cluster(name="half", phase=Phase.CREATING))
    stand(haops, runtime, make_cluster(name="old", expires=NOW))
    with haops.state.lock("half", "up"), haops.state.lock("old", "drill"):
        assert found(haops) == {}
    assert len(found(haops)) == 2


def test_collecting_removes_containers_volumes_and_record(haops: Lifecycle, runtime: FakeRuntime) -> None:
    cluster = stand(haops, runtime, make_cluster(phase=Phase.CREATING))
    haops.collect(haops.garbage(NOW)[0])
    assert runtime.of(cluster) == Labelled()
    assert haops.state.names() == ()
    assert found(haops) == {}


def test_collecting_another_owners_cluster_keeps_ones_own_of_the_same_name(
    haops: Lifecycle, runtime: FakeRuntime
) -> None:
    own = stand(haops, runtime, make_cluster())
    foreign = make_cluster(owner="somebodyelse")
    runtime.of(foreign).volumes = 1
    haops.collect(Garbage("redis", "somebodyelse", "expired"))
    assert runtime.of(foreign).volumes == 0
    assert runtime.of(own).nodes
    assert haops.state.get("redis") == own


def test_collecting_what_somebody_began_to_use_is_refused(haops: Lifecycle, runtime: FakeRuntime) -> None:
    cluster = stand(haops, runtime, make_cluster(phase=Phase.CREATING))
    garbage = haops.garbage(NOW)[0]
    with haops.state.lock("redis", "up"), pytest.raises(HaopsError, match="another haops"):
        haops.collect(garbage)
    assert runtime.of(cluster).nodes


# ---- healing


def test_heal_starts_what_is_stopped_and_thaws_what_is_frozen(haops: Lifecycle, runtime: FakeRuntime) -> None:
    cluster = stand(haops, runtime, make_cluster())
    runtime.of(cluster).nodes |= {"redis-2": ContainerState.STOPPED, "sentinel-1": ContainerState.PAUSED}
    assert haops.heal(cluster) == ("redis-2", "sentinel-1")
    assert set(runtime.of(cluster).nodes.values()) == {ContainerState.RUNNING}
    assert haops.heal(cluster) == ()


def test_heal_does_not_meddle_with_a_running_drill(haops: Lifecycle, runtime: FakeRuntime) -> None:
    cluster = stand(haops, runtime, make_cluster())
    runtime.of(cluster).nodes["redis-2"] = ContainerState.STOPPED
    with haops.state.lock("redis", "drill"), pytest.raises(HaopsError, match="another haops"):
        haops.heal(cluster)
    assert runtime.of(cluster).nodes["redis-2"] is ContainerState.STOPPED


def test_heal_strikes_the_faults_that_it_undid(haops: Lifecycle, runtime: FakeRuntime) -> None:
    cluster = stand(haops, runtime, make_cluster())
    ledger = Ledger(haops.state.cluster_dir("redis"))
    ledger.register("redis-1", "kill", "start", "run-1")
    runtime.of(cluster).nodes["redis-1"] = ContainerState.STOPPED
    haops.heal(cluster)
    assert ledger.open_faults() == ()


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], Verdict.HEALTHY),
        ([Verdict.HEALTHY], Verdict.HEALTHY),
        ([Verdict.HEALTHY, Verdict.DEGRADED], Verdict.DEGRADED),
        ([Verdict.DEGRADED, Verdict.UNKNOWN], Verdict.UNKNOWN),
        ([Verdict.UNKNOWN, Verdict.DOWN, Verdict.DEGRADED], Verdict.DOWN),
    ],
)
def test_the_worst_verdict_of_several_counts(verdicts: list[Verdict], expected: Verdict) -> None:
    assert worst([snapshot(make_cluster(), v) for v in verdicts]) is expected

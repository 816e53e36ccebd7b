"""Results of disaster drills that look like real ones, built without a cluster."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from haops.cluster.spec import StoreName
from haops.drills.disaster_result import (
    DISASTER_VERSION,
    DisasterBudget,
    DisasterResult,
    DisasterTrial,
    Marks,
    Proof,
    Survival,
)
from haops.drills.result import DrillVerdict, combine

from .samples import NASTY

S = 1_000_000_000


def marks(*lengths_s: float) -> Marks:
    """Moments that lie so many seconds apart: load, backup, more load, destroy, rebuild, restore."""
    moments = [7_000 * S]
    for length in lengths_s:
        moments.append(moments[-1] + round(length * S))
    return Marks(*moments)


def trial(
    store: StoreName = StoreName.REDIS,
    verdict: DrillVerdict = DrillVerdict.PASS,
    *,
    lost: int = 2_401,
    lost_before: int = 0,
    point_s: float = 3.31,
    lengths_s: tuple[float, ...] = (6.0, 0.42, 3.0, 0.61, 5.2, 2.34),
    proof: Proof | None = None,
) -> DisasterTrial:
    acked, seen = 7_512, marks(*lengths_s)
    survived = Survival(
        acked=acked,
        acked_before=4_780,
        lost=lost,
        lost_before=lost_before,
        lost_ids=tuple(range(10_004_780, 10_004_780 + min(lost, 1_000))),
        recovery_point_s=point_s if lost else 0.0,
        unknown=16,
    )
    return DisasterTrial(
        store=store,
        cluster=f"disaster-{store.value}",
        mode="async",
        version="8.2.1",
        nodes=3,
        verdict=verdict,
        reasons=() if verdict is DrillVerdict.PASS else ("the first reason", "the second reason"),
        budget=DisasterBudget(60.0, 30.0),
        backup=f"20260304T050613Z-disaster-{store.value}",
        backup_s=lengths_s[1],
        bytes=1_482_113,
        destroy_s=lengths_s[3],
        rebuild_s=lengths_s[4],
        restore_s=lengths_s[5],
        recovery_time_s=sum(lengths_s[3:]),
        survival=survived,
        p_loss=survived.p_loss,
        p_recovered=survived.p_recovered,
        proof=proof or Proof(4_911, 0),
        marks=seen,
    )


def result(
    *stores: DisasterTrial, interrupted: bool = False, troubles: tuple[str, ...] = ()
) -> DisasterResult:
    started = datetime(2026, 3, 4, 5, 6, 7, 890_000, tzinfo=UTC)
    doubts = [DrillVerdict.UNKNOWN] if troubles or interrupted else []
    return DisasterResult(
        version=DISASTER_VERSION,
        run="20260304t050607-restore-after-disaster",
        playbook="restore-after-disaster",
        title="Restore after a disaster",
        started=started,
        finished=started + timedelta(seconds=141),
        haops="0.1.0",
        seed=42,
        interrupted=interrupted,
        verdict=combine([*(t.verdict for t in stores), *doubts]),
        stores=stores,
        troubles=troubles,
    )


def one() -> DisasterResult:
    return result(trial())


def three() -> DisasterResult:
    """Redis comes back, ZooKeeper could not be compared, Cassandra lost what its backup should have."""
    zookeeper = replace(
        trial(
            StoreName.ZOOKEEPER,
            DrillVerdict.UNKNOWN,
            lost=0,
            lengths_s=(6.0, 1.9, 3.0, 0.4, 11.8, 4.1),
            proof=Proof(2_102, 0, (), "zookeeper-2 did not answer in time"),
        ),
        reasons=(
            "the restored cluster could not be compared with the backup: zookeeper-2 did not answer in time",
        ),
    )
    cassandra = replace(
        trial(
            StoreName.CASSANDRA,
            DrillVerdict.FAIL,
            lost=311,
            lost_before=14,
            point_s=18.6,
            lengths_s=(6.0, 14.8, 3.0, 2.2, 88.4, 31.7),
            proof=Proof(1_904, 14, ("haops.elements 10000017: missing", "haops.elements 10000031: missing")),
        ),
        reasons=(
            "14 writes are lost that were acknowledged before the backup began",
            "the restored cluster differs from the backup in 14 of 1904 records",
        ),
        budget=DisasterBudget(180.0, 90.0),
    )
    return result(trial(), zookeeper, cassandra)


def hostile() -> DisasterResult:
    """Every free text is an attack."""
    bad = replace(
        trial(StoreName.REDIS, DrillVerdict.FAIL, proof=Proof(2, 1, (NASTY,), NASTY)),
        cluster=NASTY,
        mode=NASTY,
        version=NASTY,
        backup=NASTY,
        reasons=(NASTY,),
    )
    made = result(bad, interrupted=True, troubles=(NASTY,))
    return replace(made, run=NASTY, playbook=NASTY, title=NASTY, haops=NASTY)

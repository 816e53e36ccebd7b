"""Drill results that look like real ones, built without a cluster."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from haops.cluster.spec import StoreName
from haops.drills.result import (
    Budget,
    DrillResult,
    DrillVerdict,
    Latency,
    Phase,
    Spread,
    StoreResult,
    Timeline,
    Trial,
    TrialEvent,
    combine,
)

NASTY = '<script>alert("1")</script> & <img src=x onerror=alert(1)> \x1b[31mred\x00'
EMPTY_LINE = Timeline(0.1, (), (), (), ())
BUDGET = Budget(write_outage_ms=8_000.0, read_outage_ms=8_000.0, lost=0, harness_lag_ms=50.0)


def timeline(outage_s: float | None, fault_s: float = 10.0, end_s: float = 30.0, seed: int = 1) -> Timeline:
    rng, bucket = random.Random(seed), 0.1
    back = end_s if outage_s is None else fault_s + outage_s
    writes, reads, failed, p99 = [], [], [], []
    for i in range(round(end_s / bucket)):
        at = i * bucket
        down = fault_s <= at < back
        catch_up = back <= at < back + 1.0
        writes.append(0 if down else rng.randint(18, 22) + (14 if catch_up else 0))
        reads.append(0 if down and rng.random() < 0.9 else rng.randint(17, 23) + (10 if catch_up else 0))
        failed.append(rng.randint(10, 30) if down and rng.random() < 0.6 else 0)
        late = (back - at) * 1000 if down else rng.uniform(2.0, 6.0)
        p99.append(None if down and outage_s is None else late)
    return Timeline(bucket, tuple(writes), tuple(reads), tuple(failed), tuple(p99))


def events(outage_s: float | None, fault_s: float = 10.0) -> tuple[TrialEvent, ...]:
    happened = [
        TrialEvent(fault_s, "fault", "redis-1", "haops", "docker kill --signal KILL redis-1"),
        TrialEvent(
            fault_s + 0.9, "detected", "redis-1", "sentinel-1", "+sdown master haops 172.30.0.11 6379"
        ),
        TrialEvent(
            fault_s + 0.93, "detected", "redis-1", "sentinel-2", "+sdown master haops 172.30.0.11 6379"
        ),
        TrialEvent(fault_s + 1.1, "elected", "sentinel-2", "sentinel-2", "+elected-leader master haops"),
    ]
    if outage_s is not None:
        back = fault_s + outage_s
        happened += [
            TrialEvent(back - 0.3, "promoted", "redis-2", "redis-2", "MASTER MODE enabled (user request)"),
            TrialEvent(back - 0.1, "advertised", "redis-2", "sentinel-2", "+switch-master haops 172.30.0.11"),
            TrialEvent(back + 6.0, "restarted", "redis-1", "haops", "docker start redis-1"),
            TrialEvent(
                back + 7.2, "rejoined", "redis-1", "redis-1", "MASTER <-> REPLICA sync: Finished " + NASTY
            ),
        ]
    return tuple(happened)


def trial(
    number: int = 1, outage_s: float | None = 5.02, verdict: DrillVerdict = DrillVerdict.PASS, lost: int = 0
) -> Trial:
    outage = None if outage_s is None else outage_s * 1000
    back = 30.0 if outage_s is None else 10.0 + outage_s
    quiet = Latency(2_000, 1.24, 4.12, 9.8)
    return Trial(
        number=number,
        node="redis-1",
        verdict=verdict,
        reasons=() if verdict is DrillVerdict.PASS else (f"write outage over its budget {NASTY}",),
        write_outage_ms=outage,
        read_outage_ms=None if outage is None else outage * 0.9,
        write_recovery_ms=None if outage is None else outage + 12,
        read_recovery_ms=None if outage is None else outage * 0.9 + 9,
        worst_client_outage_ms=None if outage is None else outage + 203,
        detected_ms=903.0,
        promoted_ms=None if outage is None else outage - 300,
        acked=12_345,
        lost=lost,
        lost_ids=tuple(range(7_000, 7_000 + min(lost, 1_000))),
        unknown=31,
        appeared=4,
        failed=512,
        stale_reads=0,
        harness_lag_ms=0.42,
        offered_ops=400.0,
        sent_ops=399.6,
        phases=(
            Phase("before", 0.0, 10.0, quiet, quiet),
            Phase("during", 10.0, back, Latency(0, None, None, None), Latency(20, 900.0, 4_800.0, 5_010.0)),
            Phase("after", back, 30.0, Latency(3_100, 1.3, 6.4, 28.0), quiet),
        ),
        events=events(outage_s),
        timeline=timeline(outage_s, seed=number),
        errors={"TimeoutError": 31, "ConnectionError": 470, "ReadOnlyError <b>": 42},
    )


def store(name: StoreName, trials: tuple[Trial, ...], reasons: tuple[str, ...] = ()) -> StoreResult:
    def spread(values: list[float | None]) -> Spread | None:
        known = sorted(v for v in values if v is not None)
        return Spread(known[len(known) // 2], known[0], known[-1]) if known else None

    return StoreResult(
        store=name,
        cluster=f"drill-{name.value}",
        mode="1 primary, 2 replicas, 3 Sentinels",
        version=f"{name.value} 8.2.1",
        nodes=3,
        verdict=combine([t.verdict for t in trials]),
        reasons=reasons,
        budget=BUDGET,
        write_outage_ms=spread([t.write_outage_ms for t in trials]),
        read_outage_ms=spread([t.read_outage_ms for t in trials]),
        lost=sum(t.lost for t in trials),
        acked=sum(t.acked for t in trials),
        trials=trials,
    )


def result(*stores: StoreResult, interrupted: bool = False) -> DrillResult:
    started = datetime(2026, 3, 4, 5, 6, 7, 890_000, tzinfo=UTC)
    return DrillResult(
        version=1,
        run="20260304-050607-kill-primary",
        playbook="kill-primary",
        title="Kill the primary under load",
        description="SIGKILL to the node that takes the writes, while clients write and read at a steady rate.",
        started=started,
        finished=started + timedelta(seconds=185),
        haops="0.1.0",
        seed=42,
        rate=400,
        interrupted=interrupted,
        verdict=combine([s.verdict for s in stores]),
        stores={s.store: s for s in stores},
    )


def one_trial() -> DrillResult:
    return result(store(StoreName.REDIS, (trial(),)))


def five_trials() -> DrillResult:
    """Three stores; of five trials on Redis one lost writes and one never came back."""
    redis = (
        trial(1),
        trial(2, 5.3),
        trial(3, 4.91, DrillVerdict.FAIL, lost=1_312),
        trial(4, None, DrillVerdict.FAIL),
        trial(5, 5.05),
    )
    zookeeper = tuple(trial(n, 2.1 + n / 10) for n in range(1, 6))
    slow = replace(trial(1, 0.21, DrillVerdict.UNKNOWN), harness_lag_ms=73.0, promoted_ms=None)
    return result(
        store(
            StoreName.REDIS,
            redis,
            (
                "trial 3: 1,312 acknowledged writes were lost, 0 are allowed",
                "trial 4: writes never came back",
            ),
        ),
        store(StoreName.ZOOKEEPER, zookeeper),
        store(
            StoreName.CASSANDRA, (slow,), ("the harness sent operations 73 ms late (p99), 50 ms are allowed",)
        ),
    )


def bare_trial() -> Trial:
    """A trial that ended before anything was recorded."""
    return replace(
        trial(1, None, DrillVerdict.UNKNOWN),
        acked=0,
        detected_ms=None,
        phases=(),
        events=(),
        timeline=EMPTY_LINE,
        errors={},
    )


def hostile() -> DrillResult:
    """Every free text is an attack."""
    bad = replace(
        trial(1, 5.0, DrillVerdict.FAIL),
        node=NASTY,
        reasons=(NASTY,),
        events=tuple(TrialEvent(10.0 + i, NASTY, NASTY, NASTY, NASTY) for i in range(3)),
        errors={NASTY: 1},
    )
    area = replace(store(StoreName.REDIS, (bad, bad), (NASTY,)), cluster=NASTY, mode=NASTY, version=NASTY)
    return replace(
        result(area), run=NASTY, playbook=NASTY, title=NASTY, description=NASTY, haops=NASTY, interrupted=True
    )

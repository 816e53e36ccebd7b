from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.spec import StoreName
from haops.drills.result import Spread
from haops.report.text import (
    GLOSSARY,
    NONE,
    SummaryRow,
    format_count,
    format_ms,
    format_range,
    format_rate,
    format_since,
    format_spread,
    format_tick,
    format_time,
    printable,
    summary_rows,
)

from . import samples


@pytest.mark.parametrize(
    ("ms", "expected"),
    [
        (None, NONE),
        (float("nan"), NONE),
        (float("inf"), NONE),
        (0.0, "0 ms"),
        (0.001, "<0.01 ms"),
        (0.42, "0.42 ms"),
        (0.996, "1.0 ms"),
        (4.12, "4.1 ms"),
        (9.96, "10 ms"),
        (28.4, "28 ms"),
        (999.4, "999 ms"),
        (999.7, "1.00 s"),
        (5_020.0, "5.02 s"),
        (9_996.0, "10.0 s"),
        (59_960.0, "1 min 00 s"),
        (125_000.0, "2 min 05 s"),
        (3_720_000.0, "1 h 02 min"),
        (-28.0, "\u221228 ms"),
    ],
)
def test_durations_come_in_the_unit_that_people_would_choose(ms: float | None, expected: str) -> None:
    assert format_ms(ms) == expected


@given(st.floats(min_value=0, max_value=1e9))
def test_a_duration_never_shows_a_rounded_up_unit(ms: float) -> None:
    assert not format_ms(ms).startswith(("1000 ms", "60.0 s"))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (4_910.0, 5_300.0, f"4.91{NONE}5.30 s"),
        (980.0, 1_020.0, f"980 ms{NONE}1.02 s"),
        (5_001.0, 5_002.0, "5.00 s"),
        (125_000.0, 130_000.0, f"2 min 05 s{NONE}2 min 10 s"),
    ],
)
def test_ranges_write_a_shared_unit_once(low: float, high: float, expected: str) -> None:
    assert format_range(low, high) == expected


def test_small_formats() -> None:
    assert format_spread(None) == NONE
    assert format_spread(Spread(5_020.0, 5_020.0, 5_020.0)) == "5.02 s"
    assert format_count(12_345) == "12,345"
    assert format_count(None) == NONE
    assert format_rate(1_500.0) == "1,500/s"
    assert format_rate(2.5) == "2.5/s"
    assert format_since(5.02) == "+5.02 s"
    assert format_since(-0.5) == "\u2212500 ms"
    assert format_since(0.0) == "0 ms"
    assert [format_tick(ms) for ms in (0, 1, 500, 1_000, 1_500, 10_000)] == [
        "0",
        "1 ms",
        "500 ms",
        "1 s",
        "1.5 s",
        "10 s",
    ]


def test_times_are_shown_in_utc() -> None:
    moment = datetime(2026, 3, 4, 5, 6, 7, tzinfo=timezone(timedelta(hours=2)))
    assert format_time(moment) == "2026-03-04 03:06:07 UTC"
    assert format_time(datetime(2026, 3, 4, tzinfo=UTC).replace(tzinfo=None)) == "2026-03-04 00:00:00 UTC"


def test_control_characters_do_not_get_through() -> None:
    assert printable("a\x1b[31m\x00\ud800\ttab\n") == "a\ufffd[31m\ufffd\ufffd\ttab\n"


def test_one_trial_is_summed_up_without_ranges() -> None:
    (row,) = summary_rows(samples.one_trial())
    assert row == SummaryRow(
        store="Redis",
        verdict="PASS",
        trials="1",
        write_outage="5.02 s",
        read_outage="4.52 s",
        detected="903 ms",
        promoted="4.72 s",
        acked="12,345",
        lost="0",
        unknown="31",
        appeared="4",
        p99=f"4.1 ms \u2192 {NONE} \u2192 6.4 ms",
        harness_lag="0.42 ms",
    )


def test_several_trials_show_median_range_and_what_is_missing() -> None:
    redis, zookeeper, cassandra = summary_rows(samples.five_trials())
    assert redis.write_outage == f"5.05 s (4.91{NONE}5.30 s), 1 of 5 never"
    assert redis.promoted.endswith(", 1 of 5 without")
    assert redis.lost == "1,312"
    assert zookeeper.verdict == "PASS"
    assert cassandra.promoted == f"{NONE} (no role moved)"
    assert cassandra.harness_lag == "73 ms"


def test_missing_figures_say_why() -> None:
    gone = samples.result(samples.store(StoreName.REDIS, (samples.trial(1, None),)))
    assert summary_rows(gone)[0].write_outage == f"{NONE} (never came back)"
    bare = samples.result(samples.store(StoreName.REDIS, (samples.bare_trial(),)))
    assert summary_rows(bare)[0].write_outage == f"{NONE} (no successful write)"
    assert summary_rows(bare)[0].detected == f"{NONE} (not seen)"
    none = samples.result(samples.store(StoreName.REDIS, ()))
    assert summary_rows(none)[0].write_outage == f"{NONE} (no trial)"
    assert summary_rows(none)[0].harness_lag == f"{NONE} (no trial)"


def test_a_drill_without_reads_does_not_say_that_reads_never_came_back() -> None:
    trial = samples.trial()
    quiet = replace(trial.phases[0].read, count=0)
    trial = replace(
        trial,
        read_outage_ms=None,
        phases=tuple(replace(p, read=quiet) for p in trial.phases),
        timeline=replace(trial.timeline, ok_reads=(0,) * len(trial.timeline.ok_reads)),
    )
    (row,) = summary_rows(samples.result(samples.store(StoreName.REDIS, (trial,))))
    assert row.read_outage == f"{NONE} (no successful read)"


def test_every_term_explains_a_field_of_the_summary() -> None:
    assert {term.key for term in GLOSSARY} <= set(SummaryRow.__dataclass_fields__)

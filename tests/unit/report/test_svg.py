from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.spec import StoreName
from haops.report.scale import Linear, Log, decades, log_ticks, nice_ceiling, nice_step, nice_ticks
from haops.report.strip import strip_figures
from haops.report.svg import Label, el, place_labels, step_area, step_line
from haops.report.timeline import has_timeline, merge, outage_span, timeline_figures

from . import samples


@given(st.floats(min_value=1e-3, max_value=1e7), st.integers(2, 12))
def test_ticks_are_round_few_and_inside(high: float, count: int) -> None:
    top = nice_ceiling(high, count)
    ticks = nice_ticks(top, count)
    assert top >= high * (1 - 1e-6)
    assert ticks[0] == 0
    assert 2 <= len(ticks) <= count + 2
    assert ticks[-1] <= top * (1 + 1e-6)


@given(st.floats(min_value=1e-3, max_value=1e7), st.floats(min_value=1, max_value=1e6))
def test_decades_hold_their_values(low: float, factor: float) -> None:
    bottom, top = decades(low, low * factor)
    assert bottom <= low * (1 + 1e-6)
    assert top >= low * factor * (1 - 1e-6)
    assert 1 <= len(log_ticks(bottom, top, 4)) <= 4


def test_scales_hold_values_at_their_ends() -> None:
    scale = Linear(0.0, 10.0, 100.0, 200.0)
    assert [scale(v) for v in (-1, 0, 5, 10, 11)] == [100, 100, 150, 200, 200]
    assert Linear(0.0, 0.0, 5.0, 9.0)(3.0) == 5.0
    log = Log(1.0, 100.0, 0.0, 10.0)
    assert [log(v) for v in (0, 1, 10, 100, 1000)] == [0, 0, 5, 10, 10]


def test_elements_escape_text_and_attributes() -> None:
    markup = el("text", '<b>"', cls='a"b', stroke_width=2.0, none=None)
    assert markup == '<text class="a&#34;b" stroke-width="2">&lt;b&gt;&#34;</text>'


def test_step_lines_break_at_gaps_and_join_equal_values() -> None:
    same = float
    assert step_line((0, 1, 2, 3, 4), (5, 5, None, 7), same, same) == "M0 5H2M3 7H4"
    assert step_line((0, 1, 2), (5, 6), same, same) == "M0 5H1V6H2"
    assert step_area((0, 1), (5,), same, same) == "M0 5H1V0H0Z"
    assert step_area((), (), same, same) == ""


wanted = st.lists(
    st.tuples(st.floats(60, 1060), st.text("abcdefgh +.", min_size=1, max_size=18)), max_size=14
)


@given(wanted)
def test_labels_touch_neither_each_other_nor_a_line(labels: list[tuple[float, str]]) -> None:
    placed = place_labels(sorted(labels), 1066)
    assert len(placed) == len(labels)
    for index, one in enumerate(placed):
        for two in placed[index + 1 :]:
            assert not _overlap(one, two)
            upper, lower = (one, two) if one.lane < two.lane else (two, one)
            assert not lower.left <= upper.x <= lower.right
    assert all(label.right <= 1066 for label in placed)


def _overlap(one: Label, two: Label) -> bool:
    return one.lane == two.lane and one.left < two.right and two.left < one.right


@given(st.integers(1, 700), st.integers(1, 200))
def test_merging_keeps_every_operation(count: int, limit: int) -> None:
    line = samples.timeline(5.0, end_s=70.0)
    cut = replace(
        line,
        ok_writes=line.ok_writes[:count],
        ok_reads=line.ok_reads[:count],
        failed=line.failed[:count],
        p99_ms=line.p99_ms[:count],
    )
    series = merge(cut, limit)
    assert len(series.writes) <= limit
    assert len(series.edges) == len(series.writes) + 1
    widths = [b - a for a, b in zip(series.edges, series.edges[1:], strict=False)]
    total = sum(rate * width for rate, width in zip(series.writes, widths, strict=True))
    assert math.isclose(total, sum(cut.ok_writes), rel_tol=1e-6, abs_tol=1e-6)


def test_the_outage_is_the_phase_during_or_what_the_recovery_says() -> None:
    trial = samples.trial()
    assert outage_span(trial) == pytest.approx((10.0, 15.02))
    assert outage_span(replace(trial, phases=())) == pytest.approx((10.0, 15.032))
    gone = replace(samples.trial(1, None), phases=())
    assert outage_span(gone) == pytest.approx((10.0, 30.0))
    assert outage_span(replace(gone, events=())) is None


def test_a_timeline_is_drawn_for_each_width_with_a_description() -> None:
    figure = timeline_figures(samples.trial(), "redis-1", "Redis")
    assert figure.count("<svg ") == figure.count("<title ") == figure.count("<desc ") == 3
    assert "Outage from 10.00 s to 15.02 s." in figure
    assert "without a write" in figure
    assert "detected \u00d72" in figure
    assert "nan" not in figure


@pytest.mark.parametrize(
    "line",
    [
        replace(samples.timeline(5.0), p99_ms=(None,) * 300),
        replace(samples.timeline(5.0), p99_ms=(0.0,) * 300),
        replace(samples.timeline(5.0), ok_writes=(0,) * 300, ok_reads=(0,) * 300, failed=(0,) * 300),
    ],
)
def test_a_timeline_without_successes_is_drawn(line: object) -> None:
    figure = timeline_figures(replace(samples.trial(), timeline=line), "redis-1", "Redis")
    assert figure.count("<svg ") == 3
    assert "nan" not in figure


def test_an_empty_timeline_is_not_drawn() -> None:
    assert not has_timeline(samples.bare_trial())
    assert timeline_figures(samples.bare_trial(), "x", "x") == ""


def test_the_strip_has_a_dot_a_trial_and_a_cross_where_nothing_came_back() -> None:
    store = samples.five_trials().stores[StoreName.REDIS]
    figure = strip_figures(store, "redis-strip", "Redis")
    assert figure.count("<circle ") == 3 * 8
    assert figure.count('class="cross"') == 3 * 2
    assert "trial 4 never" in figure
    assert "budget 8.00 s" in figure


def test_the_strip_of_trials_that_never_came_back_is_drawn() -> None:
    trials = (samples.trial(1, None), samples.trial(2, None))
    assert strip_figures(samples.store(StoreName.REDIS, trials), "a", "b").count('class="cross"') == 12


@pytest.mark.parametrize("span", [5e-324, 1e-310, 1e-301, 0.0, -1.0])
def test_a_span_that_is_next_to_nothing_has_ticks_all_the_same(span: float) -> None:
    assert nice_step(span, 5) > 0
    assert nice_ticks(max(span, 0.0), 5)[0] == 0

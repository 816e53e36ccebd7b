from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.spec import StoreName
from haops.matrix.cells import Consistency, WindowOperation
from haops.report import matrix
from haops.report.matrix_plots import _LANES, MOST, _laid, _rows, drawn, shape, window_figures
from haops.report.scale import Linear

from . import matrix_fixture
from .matrix_fixture import NASTY, operation, window
from .test_html import Page

SIZES = ("wide", "middle", "narrow")
OPERATIONS = st.lists(
    st.builds(
        lambda process, words, node, sent, took, outcome: WindowOperation(
            process, words, node, sent, sent + took, outcome
        ),
        st.integers(0, 4),
        st.sampled_from(("read 7", "wrote 10000079003", "may have replaced 10000026006 by 10000079003")),
        st.sampled_from(("", "redis-1", "a-node-whose-name-is-far-too-long-for-the-picture")),
        st.floats(0, 1_000),
        st.floats(0, 1_000),
        st.sampled_from(("ok", "ok", "fail", "info")),
    ),
    min_size=1,
    max_size=16,
).map(tuple)


def figures(*operations: WindowOperation) -> Page:
    return Page(window_figures(operations, "w", "The window"))


def bars(*operations: WindowOperation) -> list[tuple[float, float]]:
    """Left borders and widths of the widest picture's bars, in order."""
    picture = window_figures(operations, "w", "The window").split("</svg>")[0]
    found = re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"[^>]*class="box"', picture)
    return [(float(left), float(width)) for left, width in found]


def test_bars_are_in_proportion_to_time() -> None:
    (a, wide), (b, half), (c, quarter) = bars(
        operation(1, "wrote 1", "n", 0.0, 40.0),
        operation(2, "read 1", "n", 10.0, 30.0),
        operation(3, "read 0", "n", 20.0, 30.0),
    )
    assert half / wide == pytest.approx(0.5, abs=0.001)
    assert quarter / wide == pytest.approx(0.25, abs=0.001)
    assert (b - a) / wide == pytest.approx(0.25, abs=0.001)
    assert (c - a) / wide == pytest.approx(0.5, abs=0.001)


def test_operations_too_short_to_see_are_still_drawn() -> None:
    drawn_bars = bars(operation(1, "wrote 1", "n", 0.0, 0.1), operation(2, "read 0", "n", 999.9, 1_000.0))
    assert [width for _, width in drawn_bars] == [6.0, 6.0]


def test_each_process_has_one_lane_however_many_operations_it_has() -> None:
    page = figures(*window(StoreName.REDIS, 2))
    assert [word for word in page.text if re.fullmatch(r"process \d+", word)] == [
        f"process {process}" for process in (1, 2, 4, 5, 6)
    ] * len(SIZES)


def test_an_empty_window_draws_nothing() -> None:
    assert window_figures((), "w", "The window") == ""
    assert drawn(()) == ()


def test_words_are_escaped() -> None:
    markup = window_figures((operation(1, NASTY, NASTY, 0.0, 5.0),), "w", NASTY)
    assert "<script" not in markup
    assert "<img" not in markup
    assert "\x1b" not in markup
    assert "&lt;script&gt;alert(&#34;1&#34;)" in markup


def test_kinds_differ_in_shape() -> None:
    shapes = {
        "read 7": "read",
        "did not find 7": "read",
        "wrote 7": "write",
        "replaced 7 by 8": "write",
    }
    assert {words: shape(operation(1, words, "n", 0.0, 1.0)) for words in shapes} == shapes
    assert shape(operation(1, "may have written 7", "n", 0.0, 1.0, "info")) == "info"
    markup = window_figures(window(StoreName.REDIS, 2), "w", "The window").split("</svg>")[0]
    rounded = re.findall(r'class="op (\w+)"', markup)
    assert sorted(set(rounded)) == ["info", "read", "write"]
    assert set(re.findall(r'rx="([\d.]+)"', markup)) >= {"0", "9"}
    assert 'class="tail"' in markup


def test_a_time_out_does_not_stretch_the_axis() -> None:
    page = figures(*window(StoreName.REDIS, 2))
    assert "12 ms" in page.text
    assert not any(re.fullmatch(r"\d+ s", word) for word in page.text)


def test_a_window_of_nothing_but_time_outs_is_drawn() -> None:
    page = figures(operation(1, "may have written 7", "n", 0.0, 5_000.0, "info"))
    assert len(page.all("svg")) == len(SIZES)
    assert "5 s" in page.text


def test_screen_readers_are_told_every_operation_that_is_drawn() -> None:
    page = figures(*window(StoreName.REDIS, 2))
    words = "".join(page.text)
    assert "The window" in words
    assert "process 5 read 10000031004 at redis-3, sent at 10.1 ms, answered at 10.9 ms" in words
    assert (
        "process 6 may have written 10000031007 at redis-3, sent at 1.4 ms, no answer until 5,001.4 ms"
        in words
    )
    assert {a["role"] for a in page.all("svg")} == {"img"}


def test_of_many_the_last_to_complete_are_drawn_from_the_first_of_them_on() -> None:
    crowd = tuple(operation(1, f"wrote {i}", "n", i * 2.0, i * 2.0 + 1) for i in range(20))
    late = operation(2, "may have written 99", "n", 3.0, 5_000.0, "info")
    shown = drawn((*crowd, late))
    assert len(shown) == MOST
    assert late.words in {o.words for o in shown}
    assert [o.words for o in shown if o.outcome == "ok"] == [f"wrote {i}" for i in range(9, 20)]
    assert shown[0].sent_ms == 0


@given(OPERATIONS)
def test_nothing_that_is_drawn_touches_another(operations: tuple[WindowOperation, ...]) -> None:
    for size in _LANES:
        x = Linear(0.0, 2_000.0, size.left + 4.0, size.width - 22.0)
        laid = [_laid(o, x) for o in operations]
        rows = _rows(laid)
        assert sum(len(row) for row in rows) == len(laid)
        for row in rows:
            ends = sorted((bar.first, bar.last) for bar in row)
            assert all(one[1] < two[0] for one, two in itertools.pairwise(ends))
        assert all(x.start <= bar.first <= bar.left < bar.right <= bar.last + 0.001 for bar in laid)
        assert all(bar.last <= x.end + 0.001 for bar in laid)


@given(OPERATIONS)
def test_any_window_gives_well_formed_pictures(operations: tuple[WindowOperation, ...]) -> None:
    page = figures(*operations)
    assert page.stack == []
    assert len(page.all("svg")) == len(SIZES)
    assert sum((a.get("class") or "").startswith("op ") for a in page.all("g")) == len(SIZES) * len(
        drawn(operations)
    )


def test_the_cell_says_how_many_operations_are_not_drawn() -> None:
    markup = matrix.render(matrix_fixture.matrix())
    assert "2 more operations of this window are not drawn." in markup
    assert "The smallest window that cannot be ordered: Redis async under partition, trial 1" in markup


def test_a_window_stands_below_its_trials_sentence() -> None:
    made = matrix_fixture.matrix(1)
    cell = next(c for c in made.cells if c.trials and c.trials[0].window)
    page = matrix.render(replace(made, cells=(cell,)))
    assert page.index("the register held before</span>") < page.index('<figure class="window">')
    unsure = replace(cell.trials[0], consistency=Consistency.UNKNOWN, window=())
    without = matrix.render(replace(made, cells=(replace(cell, trials=(unsure,)),)))
    assert "the register held before</span>" in without
    assert '<figure class="window">' not in without

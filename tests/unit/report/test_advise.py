"""The page and the table of `advise`."""

from __future__ import annotations

import math
from xml.etree import ElementTree

from haops.health.advise import Advice
from haops.health.replay import Detection, Outcome
from haops.report.advise import render, table


def outcome(detector: str, threshold: float, median_s: float, mistakes: int) -> Outcome:
    silent = Detection(10, 0, median_s, median_s * 1.5)
    return Outcome(detector, threshold, f"at {threshold:g}", silent, None, mistakes, 2.0, 0.1, 0.99)


FAST, SLOW = outcome("one", 1, 0.1, 40), outcome("one", 2, 0.5, 0)
OTHER = outcome("two <b>", 1, 0.7, 0)


def advice(*outcomes: Outcome, chosen: Outcome | None) -> Advice:
    return Advice("redis-1 & co", 2.0, 1 / 24, outcomes, chosen, proven=False, words=("Set <this>.",))


def test_the_page_is_well_formed_escaped_and_marks_the_chosen() -> None:
    page = render(advice(FAST, SLOW, OTHER, chosen=SLOW))
    assert "two &lt;b&gt;" in page and "<b>" not in page and "Set &lt;this&gt;." in page
    assert page.count('class="ring"') == 3  # one in each size
    assert page.count('class="chosen"') == 2
    for svg in page.split("<svg ")[1:]:
        ElementTree.fromstring(f"<svg {svg.split('</svg>')[0]}</svg>")


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = render(advice(FAST, SLOW, chosen=SLOW))
    assert "http:" not in page and "https:" not in page and "<script" not in page
    assert "default-src 'none'" in page.replace("&#39;", "'")


def test_no_mistake_has_its_own_row_below_the_scale() -> None:
    page = render(advice(FAST, SLOW, chosen=SLOW))
    assert "≤ 1.5" in page


def test_a_detector_that_never_sees_a_death_is_listed_but_not_drawn() -> None:
    never = outcome("one", 3, math.inf, 0)
    page = render(advice(FAST, never, chosen=None))
    assert "never" in page and "inf" not in page and "nan" not in page


def test_the_table_has_the_best_of_each_detector_and_a_star() -> None:
    lines = table(advice(FAST, SLOW, OTHER, chosen=SLOW)).splitlines()
    assert lines[1].split()[:4] == ["*", "one", "at", "2"]
    assert "500 ms" in lines[1] and "750 ms" in lines[1]
    assert lines[-1] == "Set <this>."
    assert len(lines) == 5

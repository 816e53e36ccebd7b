from __future__ import annotations

import base64
import hashlib
import itertools
import re
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.matrix.cells import Recovery
from haops.report import matrix
from haops.report.matrix_plots import segments

from . import matrix_fixture
from .test_html import Page, _contrast

MATRICES = {
    "three": matrix_fixture.matrix(),
    "one": matrix_fixture.matrix(1),
    "hostile": matrix_fixture.hostile(),
    "bare": matrix_fixture.bare(),
}
DURATION = st.floats(-10, 1e6)


@cache
def rendered(name: str) -> str:
    return matrix.render(MATRICES[name])


@cache
def page_of(name: str) -> Page:
    return Page(rendered(name))


@pytest.fixture(params=MATRICES.keys())
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def test_pages_are_well_formed_and_load_nothing(name: str) -> None:
    markup, page = rendered(name), page_of(name)
    assert page.stack == []
    assert not re.search(r"https?:|url\(|@import|//cdn", markup)
    assert not {"link", "img", "iframe", "object", "embed", "script"} & {tag for tag, _ in page.tags}
    assert all(not (a.get("src") or a.get("style")) for _, a in page.tags)
    assert not any(attribute.startswith("on") for _, a in page.tags for attribute in a)
    assert not re.search("[\x00-\x08\x0b-\x1f]", markup)


def test_ids_are_unique_and_links_lead_somewhere(name: str) -> None:
    page = page_of(name)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {(a["href"] or "")[1:] for a in page.all("a")} <= set(ids)
    named = [i for _, a in page.tags for i in (a.get("aria-labelledby") or "").split()]
    assert set(named) <= set(ids)


def test_the_policy_admits_just_this_style(name: str) -> None:
    page = page_of(name)
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.content["style"].encode()).digest()).decode()
    assert policy is not None
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "script" not in policy


def test_hostile_words_stay_words() -> None:
    markup, page = rendered("hostile"), page_of("hostile")
    assert "<script>" not in markup
    assert "<img" not in markup
    assert '<script>alert("1")</script> & <img src=x onerror=alert(1)>' in "".join(page.text)


def test_what_is_wrong_is_said_in_words_and_not_by_colour_alone() -> None:
    cells = re.findall(r'<td class="num (loss|stale|down|disorder)">(.*?)</td>', rendered("three"), re.DOTALL)
    assert {kind for kind, _ in cells} == {"loss", "stale", "down", "disorder"}
    for kind, body in cells:
        sign, meaning = next((s, m) for k, s, m in matrix.KINDS if k == kind)
        assert sign in body
        assert f'<span class="hidden">{meaning}: </span>' in body


def test_cells_link_to_their_details() -> None:
    page = page_of("three")
    details = {a["id"] for a in page.all("details")}
    assert len(details) == len(MATRICES["three"].cells)
    assert {f"#{i}" for i in details} <= {a["href"] for a in page.all("a")}


def test_every_fault_has_a_drawing_and_each_its_description() -> None:
    page = page_of("three")
    assert len(page.all("svg")) >= 3 * 3 * 3
    words = "".join(page.text)
    assert "Outages of writes of ZooKeeper under pause" in words
    assert "trial 1: writes never came back" in words
    assert "skipped: it has one data centre" in words


def test_the_model_stands_with_its_reasons() -> None:
    words = " ".join("".join(page_of("three").text).split())
    assert "The textbook model against the measurement" in words
    assert "The formula leaves out that the fault has to be noticed" in words
    assert "Left out for zookeeper: no write is acknowledged before a majority has it" in words


def test_interrupted_runs_say_so() -> None:
    assert "Interrupted." in rendered("bare")
    assert "Interrupted." not in rendered("three")


def test_rendering_is_deterministic(name: str) -> None:
    assert matrix.render(MATRICES[name]) == rendered(name)


@pytest.mark.parametrize("theme", [0, 1])
def test_words_on_colours_have_enough_contrast(theme: int) -> None:
    style = page_of("bare").content["style"]
    blocks = re.findall(r":root \{([^}]*--down[^}]*)\}", style)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", blocks[theme]))
    assert _contrast(colours["down"], colours["down-bg"]) >= 4.5
    for part in ("detect", "decide", "promote", "advertise", "reconnect", "untold"):
        assert _contrast(colours["letter"], colours[part]) >= 4.5


@given(st.builds(Recovery, st.none() | DURATION, *[st.none() | DURATION] * 5))
def test_the_parts_drawn_fill_the_outage_and_never_more(recovery: Recovery) -> None:
    drawn = segments(recovery)
    total = recovery.total_ms
    if total is None or total <= 0:
        assert drawn == ()
        return
    assert drawn[0].start_ms == 0
    assert drawn[-1].end_ms == pytest.approx(total)
    assert all(one.end_ms == two.start_ms for one, two in itertools.pairwise(drawn))
    assert all(0 <= part.start_ms < part.end_ms <= total for part in drawn)


def test_what_nobody_told_is_drawn_as_such() -> None:
    drawn = segments(Recovery(1_000.0, detect_ms=300.0, promote_ms=100.0))
    assert [part.name for part in drawn] == ["detect", "promote", "untold"]

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from html.parser import HTMLParser

import pytest

from haops.cluster.spec import StoreName
from haops.report import html

from . import samples

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects tags and checks that each is closed where it should be."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.text: list[str] = []
        self.content: dict[str, str] = {}
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] in {"style", "script"}:
            self.content[self.stack[-1]] = data
        else:
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


RESULTS = {
    "one": samples.one_trial(),
    "five": samples.five_trials(),
    "hostile": samples.hostile(),
    "bare": samples.result(samples.store(StoreName.REDIS, (samples.bare_trial(),)), interrupted=True),
    "no trial": samples.result(samples.store(StoreName.ZOOKEEPER, ())),
    "no store": samples.result(interrupted=True),
    "never back": samples.result(samples.store(StoreName.REDIS, (samples.trial(1, None),))),
}


@cache
def rendered(name: str) -> str:
    return html.render(RESULTS[name])


@cache
def page_of(name: str) -> Page:
    return Page(rendered(name))


@pytest.fixture(params=RESULTS.keys())
def drill(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_pages_are_well_formed_and_load_nothing(drill: str) -> None:
    markup, page = rendered(drill), page_of(drill)
    assert page.stack == []
    assert not re.search(r"https?:|url\(|@import|//cdn", markup)
    assert not {"link", "img", "iframe", "object", "embed"} & {tag for tag, _ in page.tags}
    assert all(not (a.get("src") or a.get("style")) for _, a in page.tags)
    assert not any(name.startswith("on") for _, a in page.tags for name in a)
    assert all((a["href"] or "").startswith("#") for a in page.all("a"))
    assert not re.search("[\x00-\x08\x0b-\x1f]", markup)


def test_ids_are_unique_and_links_lead_somewhere(drill: str) -> None:
    page = page_of(drill)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    # The two trials of the hostile result share a number on purpose.
    if drill != "hostile":
        assert len(ids) == len(set(ids))
    assert {(a["href"] or "")[1:] for a in page.all("a")} <= set(ids)
    named = [name for _, a in page.tags for name in (a.get("aria-labelledby") or "").split()]
    assert set(named) <= set(ids)


def test_the_policy_admits_just_this_style_and_script(drill: str) -> None:
    page = page_of(drill)
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    for name in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.content[name].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
        assert len(page.all(name)) == 1


def test_hostile_words_stay_words() -> None:
    markup, page = rendered("hostile"), page_of("hostile")
    assert "<script>alert" not in markup
    assert "<img" not in markup
    assert '<script>alert("1")</script> & <img src=x onerror=alert(1)>' in "".join(page.text)


def test_the_first_screen_has_verdict_and_figures() -> None:
    words = " ".join("".join(page_of("five").text).split())
    assert "Redis went over a budget; Cassandra could not be judged; ZooKeeper kept every budget." in words
    assert "5.05 s (4.91\u20135.30 s), 1 of 5 never" in words
    assert "trial 4: writes never came back" in words
    assert "Ids of 1,312 lost writes (the first 1,000)" in words


def test_only_the_worst_trial_is_open() -> None:
    page = page_of("five")
    trials = [a for a in page.all("details") if a.get("class") == "trial"]
    assert len(trials) == 10
    assert [a["id"] for a in trials if "open" in a] == ["redis-3", "zookeeper-5"]


def test_budgets_are_set_against_the_worst_trial() -> None:
    words = " ".join(" ".join(page_of("five").text).split())
    assert "Write outage \u2013 (never came back) 8.00 s over" in words
    assert "Harness lag 73 ms 50 ms over" in words


def test_interrupted_runs_say_so() -> None:
    assert "Interrupted." in rendered("no store")
    assert "Interrupted." not in rendered("one")
    assert "No timeline was recorded." in rendered("bare")


def test_rendering_is_deterministic(drill: str) -> None:
    assert html.render(RESULTS[drill]) == rendered(drill)


@pytest.mark.parametrize("theme", [0, 1, 2])
def test_words_have_enough_contrast(theme: int) -> None:
    style = page_of("one").content["style"]
    blocks = re.findall(r":root \{([^}]*--ink[^}]*)\}", style)
    assert len(blocks) == 3
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", blocks[theme]))
    for ink in ("ink", "soft", "link", "pass", "fail", "unknown"):
        assert _contrast(colours[ink], colours["page"]) >= 4.5
    for verdict in ("pass", "fail", "unknown"):
        assert _contrast(colours[verdict], colours[f"{verdict}-bg"]) >= 4.5
    for series in ("writes", "reads", "failed", "p99"):
        assert _contrast(colours[series], colours["page"]) >= 3.0
    assert _contrast(colours["soft"], colours["raised"]) >= 4.5


def _contrast(one: str, two: str) -> float:
    low, high = sorted((_luminance(one), _luminance(two)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue

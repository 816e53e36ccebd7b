from __future__ import annotations

import base64
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from haops.cluster.spec import StoreName
from haops.drills.disaster_result import DISASTER_VERSION, DisasterResult, DisasterTrial, Proof
from haops.drills.result import DrillVerdict
from haops.errors import BadInput
from haops.report import disaster, disaster_json, disaster_junit, jsonio
from haops.report.disaster_strip import SIZES, course_figures, steps
from haops.report.disaster_text import (
    GLOSSARY,
    DisasterRow,
    format_bytes,
    format_share,
    rows,
    sentence,
    verdict_sentence,
)
from haops.report.text import NONE

from . import disaster_samples as samples
from .samples import one_trial
from .test_html import Page
from .test_jsonio import any_of

RESULTS = {
    "one": samples.one(),
    "three": samples.three(),
    "hostile": samples.hostile(),
    "nothing lost": samples.result(samples.trial(lost=0)),
    "trouble": samples.result(samples.trial(), troubles=("zookeeper-1: it broke off\nhint: look at it",)),
    "no store": samples.result(interrupted=True),
}


def nothing_acked() -> DisasterTrial:
    made = samples.trial(verdict=DrillVerdict.UNKNOWN, lost=0)
    survived = replace(made.survival, acked=0, acked_before=0)
    return replace(made, survival=survived, p_loss=0.0, p_recovered=1.0)


@cache
def page_of(name: str) -> Page:
    return Page(disaster.render(RESULTS[name]))


def words_of(page: Page) -> str:
    return " ".join(" ".join(page.text).split())


@pytest.fixture(params=RESULTS.keys())
def drill(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


# The page.


def test_pages_are_well_formed_and_load_nothing(drill: str) -> None:
    markup, page = disaster.render(RESULTS[drill]), page_of(drill)
    assert page.stack == []
    assert not re.search(r"https?:|url\(|@import|//cdn", markup)
    assert not {"link", "img", "iframe", "object", "embed", "script"} & {tag for tag, _ in page.tags}
    assert not any(a.get("style") or name.startswith("on") for _, a in page.tags for name in a)
    assert not re.search("[\x00-\x08\x0b-\x1f]", markup)
    assert markup == disaster.render(RESULTS[drill])


def test_ids_are_unique_and_links_lead_somewhere(drill: str) -> None:
    page = page_of(drill)
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {(a["href"] or "")[1:] for a in page.all("a")} <= set(ids)
    named = [name for _, a in page.tags for name in (a.get("aria-labelledby") or "").split()]
    assert set(named) <= set(ids)


def test_the_policy_admits_just_this_style(drill: str) -> None:
    page = page_of(drill)
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.content["style"].encode()).digest()).decode()
    assert policy == (f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'")


def test_hostile_words_stay_words() -> None:
    page = page_of("hostile")
    assert '<script>alert("1")</script> & <img src=x onerror=alert(1)>' in "".join(page.text)
    assert "\x1b" not in "".join(page.text)


def test_the_answer_is_the_first_thing_after_the_title() -> None:
    words = words_of(page_of("one"))
    title = words.index("Restore after a disaster", words.index("haops drill report"))
    assert words[title:].startswith(f"Restore after a disaster PASS {sentence(samples.trial())}")


def test_every_stores_answer_and_reasons_are_told() -> None:
    words = words_of(page_of("three"))
    for trial in samples.three().stores:
        assert sentence(trial) in words
        for reason in trial.reasons:
            assert reason in words


def test_the_summary_has_every_figure_of_the_glossary() -> None:
    page, first = page_of("three"), rows(samples.three())[0]
    words = words_of(page).replace("\u00a0", " ")
    for term in GLOSSARY:
        assert term.meaning in words
        assert getattr(first, term.key) in words
    labels = [a.get("data-label") for a in page.all("td")]
    assert all(labels.count(term.heading) == 3 for term in GLOSSARY)


def test_what_may_not_be_is_marked() -> None:
    bad = [a for a in page_of("three").all("td") if "bad" in (a.get("class") or "")]
    assert [a.get("data-label") for a in bad] == ["Lost from backup", "Compared"]


def test_lost_ids_are_folded_away() -> None:
    page = page_of("one")
    assert "Ids of 2,401 lost writes (the first 1,000)" in words_of(page)
    assert [a for a in page.all("details") if a.get("class") == "ids"] == [{"class": "ids"}]
    assert not [a for a in page_of("nothing lost").all("details") if a.get("class") == "ids"]


def test_losses_from_the_backup_are_told_apart_from_those_after_it() -> None:
    words = words_of(page_of("three"))
    assert "297 were acknowledged after the backup had begun" in words
    assert "14 were acknowledged before the backup began" in words
    assert "Nothing: all 7,512 acknowledged writes were found" in words


@pytest.mark.parametrize(
    ("proof", "words"),
    [
        (Proof(4_911, 0), "They are equal: all 4,911 records"),
        (
            Proof(4_911, 3, ("k: value",)),
            "differs from the backup in 3 of 4,911 records. Some of them: k: value",
        ),
        (Proof(4_911, 1, ("k: value",)), "in 1 of 4,911 records. They are: k: value"),
        (Proof(9, 0, (), "redis-1 broke off"), "could not be told whether they are equal: redis-1 broke off"),
        (Proof(0, 0), "no record to compare with"),
    ],
)
def test_what_the_comparison_found(proof: Proof, words: str) -> None:
    page = Page(disaster.render(samples.result(samples.trial(proof=proof))))
    assert words in words_of(page)


@pytest.mark.parametrize("proof", [Proof(9, 0, (), "broke off"), Proof(0, 0)])
def test_what_was_not_compared_is_never_shown_as_equal(proof: Proof) -> None:
    page = Page(disaster.render(samples.result(samples.trial(proof=proof))))
    assert "Differences \u2013 0 not measured" in words_of(page)
    assert "They are equal" not in words_of(page)


def test_budgets_are_set_against_what_was_measured() -> None:
    slow = replace(samples.trial(), recovery_time_s=61.0)
    words = words_of(Page(disaster.render(samples.result(slow))))
    assert "Recovery time 1 min 01 s 1 min 00 s over" in words
    assert "Recovery point 3.31 s 30.0 s within" in words


def test_interruptions_and_troubles_are_told() -> None:
    assert "Interrupted." in words_of(page_of("no store"))
    assert "there are no figures" in words_of(page_of("no store"))
    assert "zookeeper-1: it broke off hint: look at it" in words_of(page_of("trouble"))
    assert "Interrupted." not in words_of(page_of("one"))


# The picture.


def test_the_course_meets_end_to_end_around_the_disaster() -> None:
    found = steps(samples.trial())
    assert [s.name for s in found] == ["Load", "Backup", "More load", "Destruction", "Rebuild", "Restore"]
    assert all(a.end_s == b.begin_s for a, b in pairwise(found))
    assert found[3].begin_s == 0
    assert [s.words for s in found] == ["6.00 s", "420 ms", "3.00 s", "610 ms", "5.20 s", "2.34 s"]


@given(st.lists(st.floats(0.001, 5_000), min_size=6, max_size=6))
def test_the_picture_stays_within_its_borders(lengths_s: list[float]) -> None:
    point_s = sum(lengths_s[:3]) * 0.9
    markup = course_figures(samples.trial(lengths_s=tuple(lengths_s), point_s=point_s), "x", "t")
    for size, drawn in zip(SIZES, re.findall(r"<svg.*?</svg>", markup), strict=True):
        for x, width in re.findall(r'<rect x="([\d.-]+)" y="[\d.]+" width="([\d.]+)"', drawn):
            assert size.left <= float(x)
            assert float(x) + float(width) <= size.width
        assert all(0 <= float(x) <= size.width for x in re.findall(r'<text x="([\d.-]+)"', drawn))
        assert drawn.count('class="bar ') == 6


def test_a_run_that_lost_nothing_has_no_recovery_point_drawn() -> None:
    assert 'class="lost"' in course_figures(samples.trial(), "x", "t")
    assert 'class="lost"' not in course_figures(samples.trial(lost=0), "x", "t")


def test_moments_in_no_order_are_not_drawn() -> None:
    made = samples.trial()
    broken = replace(made, marks=replace(made.marks, restored=made.marks.struck - 1))
    assert course_figures(broken, "x", "t") == ""
    assert "Its moments were not recorded." in disaster.render(samples.result(broken))


# Words.


def test_the_answer_has_time_point_and_share() -> None:
    assert sentence(samples.trial()) == (
        "Redis was healthy again 8.15 s after the destruction of all its nodes and volumes began; "
        "of 7,512 acknowledged writes 2,401 were lost, all from the last 3.31 s before the disaster "
        "(P_r = 1 \u2212 P_l = 0.6803)."
    )
    assert "none was lost (P_r = 1 \u2212 P_l = 1)" in sentence(samples.trial(lost=0))
    assert "14 of them from before the backup" in sentence(samples.three().stores[2])


def test_a_drill_without_writes_claims_nothing() -> None:
    trial = nothing_acked()
    assert "not known" in sentence(trial)
    assert "P_r" not in sentence(trial)
    row = rows(samples.result(trial))[0]
    assert (row.p_recovered, row.point) == (NONE, f"{NONE} (nothing acknowledged)")


def test_the_verdict_names_the_stores_it_rests_on() -> None:
    assert verdict_sentence(samples.three()) == (
        "Cassandra did not come back as it should; ZooKeeper could not be judged; "
        "Redis came back within its budgets."
    )
    both = samples.result(samples.trial(), samples.trial(StoreName.CASSANDRA))
    assert verdict_sentence(both) == "Redis and Cassandra came back within their budgets."
    assert verdict_sentence(samples.result()) == "No store was run to its end."


def test_a_row_is_ready_to_be_shown() -> None:
    assert rows(samples.three())[2] == DisasterRow(
        store="Cassandra",
        verdict="FAIL",
        recovery_time="2 min 02 s",
        parts="2.20 s / 1 min 28 s / 31.7 s",
        point="311 writes; 18.6 s",
        p_recovered="0.9585",
        acked="7,512",
        lost="311",
        lost_before="14",
        backup="1.41 MiB in 14.8 s",
        compared="1,904 records, 14 differences",
    )
    assert rows(samples.three())[1].compared == f"{NONE} (could not tell)"
    assert rows(samples.three())[1].point == "0 writes; 0 s"


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (1.0, "1"), (0.0, "0"), (0.5, "0.5000"), (0.99999, "0.9999"), (0.68037, "0.6803"), (0.0001, "0.0001"),
        (0.00001, "<0.0001"), (0.29, "0.2900"), (1 - 1e-16, "0.9999"), (1 / 3, "0.3333"),
    ],
)  # fmt: skip
def test_shares(share: float, shown: str) -> None:
    assert format_share(share) == shown


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_a_share_is_shown_as_all_only_where_nothing_is_lost(acked: int, lost: int) -> None:
    lost = min(lost, acked)
    assert format_share(1 - lost / acked) != "1"


@given(st.floats(0.0001, 1))
def test_a_share_is_never_shown_better_than_it_is(share: float) -> None:
    assert share - 0.0001 <= float(format_share(share)) <= share + 1e-9


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"), (999, "999 B"), (1_000, "0.98 KiB"), (1_482_113, "1.41 MiB"), (10 * 1024**2, "10.0 MiB"),
        (5 * 1024**5, "5,120 TiB"), (1023 * 1024, "1.00 MiB"), (150 * 1024, "150 KiB"),
    ],
)  # fmt: skip
def test_sizes(count: int, shown: str) -> None:
    assert format_bytes(count) == shown


# JSON.


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(any_of(DisasterResult).map(lambda result: replace(result, version=DISASTER_VERSION)))
def test_what_is_dumped_is_loaded(result: DisasterResult) -> None:
    text = disaster_json.dump(result)
    assert disaster_json.load(text, "result.json") == result
    assert disaster_json.dump(disaster_json.load(text, "result.json")) == text


def test_real_results_round_trip(drill: str) -> None:
    assert disaster_json.load(disaster_json.dump(RESULTS[drill]), "r") == RESULTS[drill]


def test_the_json_has_the_documented_keys() -> None:
    plain = json.loads(disaster_json.dump(samples.one()))
    assert list(plain) == [
        "version", "run", "playbook", "title", "started", "finished", "haops", "seed", "interrupted", "verdict",
        "stores", "troubles",
    ]  # fmt: skip
    documented = disaster_json.__doc__ or ""
    for part in (
        plain["stores"][0],
        *(plain["stores"][0][k] for k in ("budget", "survival", "proof", "marks")),
    ):
        for key in part:
            assert key in documented or key.endswith("_s"), key
    assert plain["version"] == 1
    assert plain["stores"][0]["survival"]["lost"] == 2_401


def test_a_figure_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        disaster_json.dump(samples.result(replace(samples.trial(), backup_s=float("nan"))))


def test_results_of_the_two_kinds_are_not_taken_for_each_other() -> None:
    with pytest.raises(BadInput, match=r"^r:\d+: stores: "):
        disaster_json.load(jsonio.dump(one_trial()), "r")
    with pytest.raises(BadInput, match=r"^r:\d+: "):
        jsonio.load(disaster_json.dump(samples.one()), "r")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"version": 1,', '"version": 2,', "newer than this haops"),
        ('"lost": 2401', '"lost": "2401"', "stores.0.survival.lost: "),
        ('"store": "redis"', '"store": "mongo"', "stores.0.store: "),
    ],
)
def test_errors_name_file_line_and_key(old: str, new: str, message: str) -> None:
    text = disaster_json.dump(samples.one())
    line = text[: text.index(old)].count("\n") + 1
    with pytest.raises(BadInput) as caught:
        disaster_json.load(text.replace(old, new, 1), "r.json")
    assert str(caught.value).startswith(f"r.json:{line}: ")
    assert message in str(caught.value)


# JUnit.


def parse(result: DisasterResult) -> ET.Element:
    return ET.fromstring(disaster_junit.render(result).encode())


def test_a_case_a_store_with_failures_and_errors_apart() -> None:
    root = parse(samples.three())
    assert [s.get("name") for s in root] == ["redis", "zookeeper", "cassandra"]
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("3", "1", "1")
    assert [len(s.findall("testcase")) for s in root] == [1, 1, 1]
    assert root[1].find("testcase/error") is not None
    failure = root[2].find("testcase/failure")
    assert failure is not None
    assert (failure.text or "").startswith("14 writes are lost")


def test_figures_are_properties() -> None:
    case = parse(samples.one())[0].find("testcase")
    assert case is not None
    figures = {p.get("name"): p.get("value") for p in case.iter("property")}
    assert (figures["recovery_time_s"], figures["lost"], figures["compared_records"]) == (
        "8.15",
        "2401",
        "4911",
    )
    assert float(figures["p_recovered"] or 0) == pytest.approx(samples.trial().p_recovered)
    assert case.get("time") == "17.570"


def test_troubles_and_interruptions_are_errors_of_their_own() -> None:
    root = parse(samples.result(samples.trial(), troubles=("first", "second"), interrupted=True))
    names = [c.get("name") for c in root.iter("testcase")]
    assert names == ["restore after a disaster", "trouble 1", "trouble 2", "interrupted"]
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("4", "0", "3")


@pytest.mark.parametrize(
    "result",
    [
        samples.result(),
        samples.result(interrupted=True),
        samples.result(troubles=("broke off",)),
        replace(samples.one(), verdict=DrillVerdict.UNKNOWN),
        replace(samples.one(), verdict=DrillVerdict.FAIL),
    ],
)
def test_what_is_no_pass_is_never_green(result: DisasterResult) -> None:
    root = parse(result)
    assert int(root.get("errors", "0")) + int(root.get("failures", "0")) == 1


def test_a_pass_is_green() -> None:
    root = parse(samples.one())
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("1", "0", "0")


def test_hostile_words_stay_words_in_xml() -> None:
    assert not list(parse(samples.hostile()).iter("script"))

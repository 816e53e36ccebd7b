from __future__ import annotations

import json
from dataclasses import is_dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from haops.cluster.spec import StoreName
from haops.drills.result import RESULT_VERSION, DrillResult
from haops.errors import BadInput
from haops.report import jsonio

from . import samples

finite = st.floats(allow_nan=False, allow_infinity=False)


def any_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type; hypothesis' own choice would have NaN and long lists."""
    parts = get_args(kind)
    if kind is float:
        return finite
    if kind is datetime:
        return st.datetimes(timezones=st.just(UTC))
    if kind is str:
        return st.text(max_size=12)
    if is_dataclass(kind):
        return st.builds(kind, **{name: any_of(hint) for name, hint in get_type_hints(kind).items()})
    if get_origin(kind) is tuple:
        return st.lists(any_of(parts[0]), max_size=2).map(tuple)
    if get_origin(kind) is dict:
        return st.dictionaries(any_of(parts[0]), any_of(parts[1]), max_size=2)
    if parts:
        return st.one_of(*(any_of(part) for part in parts))
    return st.none() if kind is NoneType else st.from_type(kind)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(any_of(DrillResult).map(lambda result: replace(result, version=RESULT_VERSION)))
def test_what_is_dumped_is_loaded(result: DrillResult) -> None:
    text = jsonio.dump(result)
    assert jsonio.load(text, "result.json") == result
    assert jsonio.dump(jsonio.load(text, "result.json")) == text


@pytest.mark.parametrize(
    "result", [samples.five_trials(), samples.hostile(), samples.result(interrupted=True)]
)
def test_real_results_round_trip(result: DrillResult) -> None:
    assert jsonio.load(jsonio.dump(result), "r") == result


def test_the_text_is_plain_sorted_and_compact() -> None:
    text = jsonio.dump(samples.one_trial())
    plain = json.loads(text)
    assert list(plain)[:3] == ["version", "run", "playbook"]
    assert plain["verdict"] == "pass"
    assert plain["started"] == "2026-03-04T05:06:07.890000Z"
    trial = plain["stores"]["redis"]["trials"][0]
    assert list(trial["errors"]) == sorted(trial["errors"])
    assert any(
        line.strip().startswith('"ok_writes": [') and line.rstrip().endswith("],")
        for line in text.splitlines()
    )


def test_times_of_other_zones_become_utc() -> None:
    local = datetime(2026, 3, 4, 7, 6, 7, tzinfo=timezone(timedelta(hours=2)))
    text = jsonio.dump(replace(samples.one_trial(), started=local))
    assert '"started": "2026-03-04T05:06:07Z"' in text


def test_a_figure_that_is_no_number_is_refused() -> None:
    trial = replace(samples.trial(), harness_lag_ms=float("nan"))
    with pytest.raises(ValueError, match="JSON"):
        jsonio.dump(samples.result(samples.store(StoreName.REDIS, (trial,))))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"seed": 42', '"seed": "many"', "seed: Input should be a valid integer"),
        ('"seed": 42', '"seed": 42,,', "not JSON"),
        ('"version": 1,', '"version": 2,', "newer than this haops"),
        ('"version": 1,', '"version": "1",', "version is '1'"),
        ('"version": 1,', '"version": true,', "version is True"),
        ('"verdict": "pass"', '"verdict": "maybe"', "verdict: Input should be"),
        ('"redis": {', '"mongo": {', "stores.mongo"),
        ('"acked": 12345,\n          "lost"', '"acked": null,\n          "lost"', "trials.0.acked"),
        ('"kind": "elected"', '"kind": 7', "events.3.kind"),
        ('"bucket_s": 0.1', '"bucket_s": "0.1"', "timeline.bucket_s"),
    ],
)
def test_errors_name_file_line_and_key(old: str, new: str, message: str) -> None:
    text = jsonio.dump(samples.one_trial())
    line = text[: text.index(old)].count("\n") + 1
    with pytest.raises(BadInput) as caught:
        jsonio.load(text.replace(old, new, 1), "runs/1/result.json")
    assert str(caught.value).startswith(f"runs/1/result.json:{line}: ")
    assert message in str(caught.value)


def test_a_missing_key_is_blamed_on_its_parent() -> None:
    text = jsonio.dump(samples.one_trial()).replace('"median": 5020.0,', "", 1)
    line = text[: text.index('"write_outage_ms": {')].count("\n") + 1
    with pytest.raises(BadInput, match=f"x:{line}: stores.redis.write_outage_ms.median: Field required"):
        jsonio.load(text, "x")


@pytest.mark.parametrize("text", ["", "[]", "null", "3", "{}", "[" * 200_000, "\ufeff{}"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(BadInput):
        jsonio.load(text, "x")


def test_many_problems_are_cut_short() -> None:
    with pytest.raises(BadInput) as caught:
        jsonio.load('{"version": 1}', "x")
    assert "x:1: run: Field required" in str(caught.value)
    assert "more" in str(caught.value)


def test_unknown_keys_are_ignored() -> None:
    text = jsonio.dump(samples.one_trial()).replace('"seed": 42', '"later": {"a": [1]}, "seed": 42')
    assert jsonio.load(text, "x") == samples.one_trial()

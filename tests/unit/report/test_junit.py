from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

from haops.cluster.spec import StoreName
from haops.drills.result import DrillResult, DrillVerdict
from haops.report import junit

from . import samples


def parse(result: DrillResult) -> ET.Element:
    return ET.fromstring(junit.render(result).encode())


def test_a_suite_a_store_and_a_case_a_trial() -> None:
    root = parse(samples.five_trials())
    assert [s.get("name") for s in root] == ["redis", "zookeeper", "cassandra"]
    assert [len(s.findall("testcase")) for s in root] == [5, 5, 1]
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("11", "2", "1")
    redis = root[0]
    assert (redis.get("tests"), redis.get("failures"), redis.get("errors")) == ("5", "2", "0")
    case = redis.findall("testcase")[2]
    assert case.get("name") == "trial 3: fault on redis-1"
    assert case.get("classname") == "haops.kill-primary.redis"
    assert case.get("time") == "30.000"
    failure = case.find("failure")
    assert failure is not None
    assert (failure.text or "").startswith("write outage over its budget <script>")


def test_unknown_is_an_error_not_a_failure() -> None:
    case = parse(samples.five_trials())[2].find("testcase")
    assert case is not None
    assert case.find("error") is not None
    assert case.find("failure") is None


def test_figures_are_properties_and_missing_ones_are_left_out() -> None:
    case = parse(samples.result(samples.store(StoreName.REDIS, (samples.trial(1, None),))))[0].find(
        "testcase"
    )
    assert case is not None
    figures = {p.get("name"): p.get("value") for p in case.iter("property")}
    assert figures["acked"] == "12345"
    assert figures["detected_ms"] == "903"
    assert figures["harness_lag_ms"] == "0.42"
    assert "write_outage_ms" not in figures


def test_hostile_words_stay_words() -> None:
    root = parse(samples.hostile())
    assert root.get("name", "").startswith('<script>alert("1")</script>')
    assert not list(root.iter("script"))


def test_nothing_run_is_never_green() -> None:
    empty = parse(samples.result())
    assert (empty.get("tests"), empty.get("errors")) == ("1", "1")
    without = parse(samples.result(samples.store(StoreName.REDIS, ())))
    error = without[0].find("testcase/error")
    assert error is not None
    assert error.get("message") == "no trial was run"
    cut = parse(replace(samples.one_trial(), interrupted=True))
    assert (cut.get("tests"), cut.get("errors")) == ("2", "1")


def test_a_verdict_of_the_store_or_run_alone_has_a_case() -> None:
    one = samples.one_trial()
    store = replace(one.stores[StoreName.REDIS], verdict=DrillVerdict.FAIL, reasons=("sum over the budget",))
    failed = replace(one, stores={StoreName.REDIS: store}, verdict=DrillVerdict.FAIL)
    failure = parse(failed)[0].find("testcase[@name='all trials']/failure")
    assert failure is not None
    assert failure.get("message") == "sum over the budget"
    assert parse(replace(one, verdict=DrillVerdict.FAIL)).get("failures") == "1"

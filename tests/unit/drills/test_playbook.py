from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.spec import StoreName
from haops.drills import playbook
from haops.drills.disaster_result import DisasterBudget
from haops.drills.result import Budget
from haops.errors import BadInput

GOOD = """\
title: A drill
description: What it does
load:
  clients: 4
phases:
  warmup: 1s
  steady: 2s
  recover_within: 10s
  detect_within: 5s
  dead: 1s
  rejoin_within: 30s
  after: 1s
fault:
  kind: kill
  target: primary
stores:
  redis:
    rate: 100
    write_outage: 500ms
    harness_lag: 25ms
"""


TOP_KEYS = "allowed: title, description, trials, load, phases, fault, stores"
LOAD_KEYS = "allowed: clients, processes, writes, registers, timeout"
STORE_KEYS = "allowed: rate, write_outage, read_outage, lost, harness_lag"

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
keys = st.text(max_size=5) | st.sampled_from(list(yaml.safe_load(GOOD)))
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


def refused(text: str) -> BadInput:
    with pytest.raises(BadInput) as caught:
        playbook.read(text, "my.yaml")
    assert caught.value.exit_code == 2
    return caught.value


def test_every_shipped_playbook_is_valid_and_found_by_its_name() -> None:
    assert "kill-primary" in playbook.names()
    for name in playbook.names():
        key, found = playbook.find(name)
        assert key == name
        assert found.title
        assert set(found.stores) == set(StoreName)


def test_a_playbook_becomes_frozen_models_with_defaults() -> None:
    found = playbook.read(GOOD, "my.yaml")
    assert (found.trials, found.load.clients, found.load.writes) == (1, 4, 0.5)
    assert found.load.timeout == timedelta(milliseconds=500)
    assert found.stores[StoreName.REDIS].budget() == Budget(500.0, None, None, 25.0)
    with pytest.raises(ValueError, match="frozen"):
        found.trials = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("old", "new", "start", "hint"),
    [
        # An unknown key, with what is allowed beside it.
        ("  clients: 4", "  client: 4", "my.yaml:4:3: load.client: unknown key", LOAD_KEYS),
        ("title: A", "titel: A", "my.yaml:1:1: titel: unknown key (and 1 more)", TOP_KEYS),
        ("    rate: 100", "    rat: 100", "my.yaml:18:5: stores.redis.rat: unknown key", STORE_KEYS),
        ("  kind: kill", "  kind: kill\n  node: x", "my.yaml:15:3: fault.node: unknown key", "allowed: kind, target"),
        # A value that cannot be.
        ("  warmup: 1s", "  warmup: soon", "my.yaml:6:3: phases.warmup: 'soon' is not a duration", None),
        ("  warmup: 1s", "  warmup: 5", "my.yaml:6:3: phases.warmup: a duration is text with a unit", None),
        ("  warmup: 1s", "  warmup: 0s", "my.yaml:6:3: phases.warmup: '0s' is not a duration", None),
        ("  clients: 4", "  clients: many", "my.yaml:4:3: load.clients: ", None),
        ("  clients: 4", "  clients: 0", "my.yaml:4:3: load.clients: ", None),
        ("  clients: 4", "  clients: 65", "my.yaml:4:3: load.clients: ", None),
        ("  clients: 4", "  clients: [4]", "my.yaml:4:3: load.clients: ", None),
        ("  clients: 4", "  writes: 0", "my.yaml:4:3: load.writes: ", None),
        ("  kind: kill", "  kind: flood", "my.yaml:14:3: fault.kind: ", None),
        ("    rate: 100", "    rate: 0", "my.yaml:18:5: stores.redis.rate: ", None),
        ("  redis:\n", "  mongo:\n", "my.yaml:17:3: stores.mongo: ", None),
        # Something that is missing, told where it should stand.
        ("  warmup: 1s\n", "", "my.yaml:5:1: phases.warmup: ", None),
        ("title: A drill\n", "", "my.yaml:1:1: title: ", None),
        (GOOD[GOOD.index("stores:") :], "stores: {}\n", "my.yaml:16:1: stores: ", None),
        # Another shape.
        ("load:\n  clients: 4", "load: fast", "my.yaml:3:1: load: ", None),
        ("load:\n  clients: 4", "load: [1]", "my.yaml:3:1: load: ", None),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(old: str, new: str, start: str, hint: str | None) -> None:
    assert old in GOOD
    error = refused(GOOD.replace(old, new))
    assert error.message.startswith(start)
    if hint is not None:
        assert error.hint == hint


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("", "my.yaml:1:1: a playbook is a mapping"),
        ("- a\n- b\n", "my.yaml:1:1: a playbook is a mapping"),
        ("just words", "my.yaml:1:1: a playbook is a mapping"),
        ("a: [1,\nb: 2", "my.yaml:2:"),
        ("a: b: c", "my.yaml:1:5: "),
        ("a:\n\t- b", "my.yaml:2:1: "),
        ("a: 1\n---\nb: 2", "my.yaml:2:1: "),
        ("a: *nowhere", "my.yaml:1:4: "),
        ("a: !!python/name:os.system x", "my.yaml:1:4: "),
    ],
)
def test_what_is_no_yaml_mapping_is_told_with_its_place(text: str, start: str) -> None:
    error = refused(text)
    assert error.message.startswith(start)
    assert error.hint


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("title: \x07", id="control character"),
        pytest.param("title: 2024-13-45", id="impossible date"),
        pytest.param("title: !!int x", id="tag that does not fit"),
    ],
)
def test_yaml_that_the_parser_refuses_without_a_place_is_bad_input_too(text: str) -> None:
    refused(text)


@given(documents)
def test_any_document_is_a_playbook_or_bad_input_with_a_place(document: object) -> None:
    with pytest.raises(BadInput, match=r"^my\.yaml:\d+:\d+: "):
        playbook.read(yaml.safe_dump(document), "my.yaml")


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match="unknown playbook 'nope'") as caught:
        playbook.find("nope")
    assert "kill-primary" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["nope.yaml", "./nope", "some/where.yml", "/"])
def test_a_path_that_is_not_there_is_refused_as_a_path(name: str) -> None:
    with pytest.raises(BadInput, match="there is no playbook file"):
        playbook.find(name)


def test_a_playbook_of_ones_own_is_found_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    key, found = playbook.find(str(tmp_path / "mine.yaml"))
    assert (key, found.title) == ("mine", "A drill")


def test_a_file_that_is_not_text_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match=r"mine\.yaml:1:1: cannot be read"):
        playbook.find(str(tmp_path / "mine.yaml"))


DISASTER = """\
kind: disaster
title: A disaster
description: What it does
load:
  clients: 4
phases:
  warmup: 1s
  before: 2s
  after: 3s
stores:
  redis:
    rate: 100
    recovery_time: 60s
"""


def test_the_shipped_disaster_is_one_for_every_store() -> None:
    found = playbook.find("restore-after-disaster")[1]
    assert isinstance(found, playbook.DisasterBook)
    assert set(found.stores) == set(StoreName)
    for model in found.stores.values():
        assert model.budget().recovery_time_s
        assert model.budget().recovery_point_s


def test_a_disasters_limits_are_in_seconds_and_may_be_missing() -> None:
    found = playbook.read_any(DISASTER, "my.yaml")
    assert isinstance(found, playbook.DisasterBook)
    assert found.stores[StoreName.REDIS].budget() == DisasterBudget(60.0, None)
    assert found.phases.after == timedelta(seconds=3)


def test_a_playbook_without_a_kind_breaks_a_node() -> None:
    assert isinstance(playbook.read_any(GOOD, "my.yaml"), playbook.Playbook)


@pytest.mark.parametrize(
    ("old", "new", "start"),
    [
        ("kind: disaster", "kind: flood", "my.yaml:1:1: kind: Input should be 'disaster'"),
        ("kind: disaster", "kind: disaster-x", "my.yaml:1:1: kind: Input should be 'disaster'"),
        ("kind: disaster", "kind: [disaster]", "my.yaml:1:1: kind: "),
        ("  before: 2s", "  steady: 2s", "my.yaml:8:3: phases.steady: unknown key (and 1 more)"),
        ("  before: 2s", "  before: 2", "my.yaml:8:3: phases.before: a duration is text with a unit"),
        ("stores:", "trials: 3\nstores:", "my.yaml:10:1: trials: unknown key"),
        ("    rate: 100", "    rate: 0", "my.yaml:12:5: stores.redis.rate: "),
        ("recovery_time: 60s", "recovery_time: soon", "my.yaml:13:5: stores.redis.recovery_time: 'soon' is not"),
        ("recovery_time: 60s", "lost: 0", "my.yaml:13:5: stores.redis.lost: unknown key"),
        ("  redis:\n", "  mongo:\n", "my.yaml:11:3: stores.mongo: "),
        ("title: A disaster\n", "", "my.yaml:1:1: title: "),
    ],
)  # fmt: skip
def test_a_mistake_in_a_disaster_is_told_with_its_place(old: str, new: str, start: str) -> None:
    assert old in DISASTER
    with pytest.raises(BadInput) as caught:
        playbook.read_any(DISASTER.replace(old, new), "my.yaml")
    assert caught.value.message.startswith(start)


@given(documents)
def test_any_document_of_a_kind_is_a_playbook_or_bad_input_with_a_place(document: object) -> None:
    text = yaml.safe_dump({"kind": "disaster", "stores": document})
    with pytest.raises(BadInput, match=r"^my\.yaml:\d+:\d+: "):
        playbook.read_any(text, "my.yaml")


def test_what_show_prints_can_be_run_by_its_path(tmp_path: Path) -> None:
    copy = tmp_path / "copy.yaml"
    copy.write_text(playbook.source("kill-primary"))
    assert playbook.find(str(copy))[1] == playbook.find("kill-primary")[1]

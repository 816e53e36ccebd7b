from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from haops.errors import (
    AddressTaken,
    EngineUnavailable,
    EnvironmentTrouble,
    HaopsError,
    ImageUnavailable,
    SubnetTaken,
)
from haops.runtime.docker import DockerRuntime, _compose_trouble, _container, _log_line
from haops.runtime.port import ContainerState, LogLine

from ...fakes import make_cluster

PORT = (
    "Error response from daemon: failed to set up container networking: driver failed programming external "
    "connectivity on endpoint x: Bind for 127.0.0.1:20000 failed: port is already allocated"
)
IN_USE = "failed to bind host port for 127.0.0.1:20000:10.231.0.10:6379/tcp: address already in use"
POOL = (
    "failed to create network haops-abcdef-redis_ring: Error response from daemon: invalid pool request: "
    "Pool overlaps with other one on this address space"
)
NO_IMAGE = 'Error response from daemon: No such image: "nope:1"'
DENIED = "pull access denied for nope, repository does not exist or may require 'docker login'"
MANIFEST = "Error response from daemon: manifest for redis:99 not found: manifest unknown"
NO_COMPOSE = "docker: 'compose' is not a docker command.\nSee 'docker --help'"
NO_COMPOSE_NEW = "docker: unknown command: docker compose\n\nRun 'docker --help' for more information"
NO_COMPOSE_FLAG = "unknown shorthand flag: 'f' in -f\nSee 'docker --help'."
FULL = "Error response from daemon: write /var/lib/docker/x: no space left on device"


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (PORT, AddressTaken, "a host port of redis is taken"),
        (IN_USE, AddressTaken, "a host port of redis is taken"),
        (POOL, SubnetTaken, "the subnet 10.231.0.0/27 is taken"),
        (NO_IMAGE, ImageUnavailable, "image image:1 is missing"),
        (DENIED, ImageUnavailable, "image image:1 is missing"),
        (MANIFEST, ImageUnavailable, "image image:1 is missing"),
        (NO_COMPOSE, EngineUnavailable, "the docker command has no Compose v2"),
        (NO_COMPOSE_NEW, EngineUnavailable, "the docker command has no Compose v2"),
        (NO_COMPOSE_FLAG, EngineUnavailable, "the docker command has no Compose v2"),
        (FULL, EnvironmentTrouble, "the engine's disk is full"),
        ("something new", EnvironmentTrouble, "Compose could not start redis"),
        ("", EnvironmentTrouble, "Compose could not start redis"),
    ],
)
def test_composes_words_become_the_right_error(words: str, kind: type[HaopsError], message: str) -> None:
    error = _compose_trouble(make_cluster(), words)
    assert type(error) is kind
    assert error.message == message
    assert error.exit_code == 3
    assert error.detail == words.strip()


def test_a_long_complaint_is_cut_to_its_last_lines() -> None:
    words = "\n".join(f"line {i}" for i in range(100))
    assert str(_compose_trouble(make_cluster(), words).detail).splitlines() == [
        f"line {i}" for i in range(94, 100)
    ]


def test_an_engine_that_is_not_there_is_told_with_the_way_to_start_one(
    monkeypatch: pytest.MonkeyPatch, closed_ports: Callable[[int], list[int]]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{closed_ports(1)[0]}")
    with pytest.raises(EngineUnavailable, match="no container engine answers") as caught:
        DockerRuntime().ping()
    assert "make engine" in str(caught.value.hint)


def row(state: str, **labels: str) -> dict[str, Any]:
    return {"Id": "1", "State": state, "Status": "as it says", "Labels": labels}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("running", ContainerState.RUNNING),
        ("restarting", ContainerState.RUNNING),
        ("paused", ContainerState.PAUSED),
        ("exited", ContainerState.STOPPED),
        ("created", ContainerState.CREATED),
        ("dead", ContainerState.STOPPED),
        ("removing", ContainerState.STOPPED),
    ],
)
def test_the_engines_states_become_those_that_matter(state: str, expected: ContainerState) -> None:
    assert _container(row(state)).state is expected


def test_a_container_is_described_by_its_labels() -> None:
    found = _container(row("running", **{"haops.cluster": "c", "haops.node": "n", "haops.owner": "o"}))
    assert (found.cluster, found.node, found.owner, found.store, found.expires) == ("c", "n", "o", "", "")


@pytest.mark.parametrize(
    ("line", "at_ns", "text"),
    [
        ("1970-01-01T00:00:01.000000002Z hello world", 1_000_000_002, "hello world"),
        ("1970-01-01T00:00:01.5Z x", 1_500_000_000, "x"),
        ("1970-01-01T00:00:01Z x", 1_000_000_000, "x"),
        ("1970-01-01T00:00:01.000000000Z ", 1_000_000_000, ""),
    ],
)
def test_a_log_line_keeps_its_nanoseconds(line: str, at_ns: int, text: str) -> None:
    assert _log_line("n", line) == LogLine("n", at_ns, text)


@pytest.mark.parametrize("line", ["", "no time stamp here", "Error grabbing logs: EOF"])
def test_a_line_without_a_time_is_passed_over(line: str) -> None:
    assert _log_line("n", line) is None

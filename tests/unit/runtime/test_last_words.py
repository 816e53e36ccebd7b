"""What a server said last, and what ended it."""

from __future__ import annotations

import pytest

from haops.runtime.port import LogLine, last_words

from ...fakes import FakeRuntime, make_cluster

STACK = [
    "INFO  CassandraDaemon starting",
    "ERROR CassandraDaemon Exception encountered during startup",
    "java.lang.RuntimeException: Cannot replace_address /10.0.0.1 because it doesn't exist in gossip",
    *[f"\tat org.apache.cassandra.service.StorageService.line({n})" for n in range(20)],
    "INFO  StorageService shutdown complete",
]


def said(*lines: str) -> list[str]:
    runtime, cluster = FakeRuntime(), make_cluster("cassandra")
    runtime.lines["cassandra-1"] = [LogLine("cassandra-1", n, text) for n, text in enumerate(lines)]
    return last_words(runtime, cluster, "cassandra-1").splitlines()


def test_the_cause_stands_before_the_end_of_the_log() -> None:
    words = said(*STACK)
    assert words[:2] == [STACK[2], "..."]
    assert words[2:] == STACK[-15:]


@pytest.mark.parametrize(
    "cause", ["Fatal error, can't open config file", "Error: no such host", "FATAL out of memory"]
)
def test_a_cause_that_is_at_the_end_is_said_once(cause: str) -> None:
    assert said("starting", cause, "bye") == ["starting", cause, "bye"]


def test_a_log_without_a_cause_is_its_end() -> None:
    assert said(*[f"line {n}" for n in range(40)]) == [f"line {n}" for n in range(25, 40)]
    assert said() == []

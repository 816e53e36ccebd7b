from __future__ import annotations

from datetime import timedelta

import pytest

from haops.cli import output
from haops.cli.cluster import _age
from haops.cli.output import lag_words
from haops.cluster.snapshot import Finding, FindingKind, Lag, NodeState, NodeView, Role, Snapshot, Verdict
from haops.cluster.spec import StoreName

from ...fakes import CREATED


def seen(*nodes: NodeView, reasons: tuple[str, ...] = (), verdict: Verdict = Verdict.HEALTHY) -> Snapshot:
    findings = tuple(Finding(FindingKind.NODE, reason) for reason in reasons)
    return Snapshot("c", StoreName.REDIS, "async", CREATED, verdict, findings, nodes)


@pytest.mark.parametrize(
    ("lag", "document"),
    [
        (None, None),
        (Lag(), {}),
        (Lag(bytes=0, seconds=0.0), {"bytes": 0, "seconds": 0.0}),
        (Lag(zxid=3), {"zxid": 3}),
        (Lag(hints=0), {"hints": 0}),
    ],
)
def test_a_lag_has_only_the_figures_that_its_store_has(lag: Lag | None, document: object) -> None:
    node = NodeView("n", Role.REPLICA, NodeState.UP, "127.0.0.1", 1, lag=lag)
    assert output.clusters_document([seen(node)])["clusters"][0]["nodes"][0]["lag"] == document


@pytest.mark.parametrize(
    ("lag", "words"),
    [
        (None, "-"),
        (Lag(), "?"),
        (Lag(bytes=1234567, seconds=1.5), "1,234,567 B, 1.5 s"),
        (Lag(zxid=1000), "1,000 zxid"),
        (Lag(hints=0), "0 hints"),
    ],
)
def test_a_lag_in_words(lag: Lag | None, words: str) -> None:
    assert lag_words(lag) == words


def test_reasons_are_told_of_clusters_that_are_not_healthy_alone() -> None:
    snapshots = [seen(reasons=("a",)), seen(reasons=("b", "c"), verdict=Verdict.DOWN)]
    assert [line.rpartition(" ")[2] for line in output.reasons_lines(snapshots)] == ["b", "c"]


@pytest.mark.parametrize("words", ["key [a] is gone", "closed [/tmp/x]"])
def test_square_brackets_in_servers_words_are_printed(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    node = NodeView("n", Role.REPLICA, NodeState.UNREACHABLE, "127.0.0.1", 1, why=words)
    snapshots = [seen(node, reasons=(words,), verdict=Verdict.DOWN)]
    console = output.out()
    console.print(output.status_table(snapshots, output.Output.WIDE))
    for line in output.reasons_lines(snapshots):
        console.print(line)
    assert capsys.readouterr().out.count(words) == 2


def test_a_long_line_does_not_break_in_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    output.out().print("x" * 150)
    assert capsys.readouterr().out == "x" * 150 + "\n"


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(seconds=59), "59s"),
        (timedelta(seconds=60), "1m"),
        (timedelta(hours=1), "1h"),
        (timedelta(days=3, hours=5), "3d"),
    ],
)
def test_an_age_in_its_largest_unit(age: timedelta, words: str) -> None:
    assert _age(age) == words

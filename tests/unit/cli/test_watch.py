from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from rich.console import Console

from haops.cli import live, watch
from haops.cli.main import app
from haops.cli.output import Output
from haops.cli.watch import Round, Until, rounds
from haops.cluster.changes import changes
from haops.cluster.snapshot import Finding, FindingKind, NodeState, Role, Snapshot, Verdict, not_up
from haops.cluster.spec import Cluster
from haops.control.lifecycle import Lifecycle
from haops.errors import EngineUnavailable

from ...fakes import make_cluster, snapshot
from .conftest import Run

Seen = Snapshot | BaseException | Callable[[], Snapshot]


def whole(name: str = "redis") -> Snapshot:
    return snapshot(make_cluster("redis", 3, name=name))


def with_node(seen: Snapshot, name: str, **fields: Any) -> Snapshot:
    nodes = tuple(replace(n, **fields) if n.name == name else n for n in seen.nodes)
    findings = not_up(nodes)
    return replace(
        seen, nodes=nodes, findings=findings, verdict=Verdict.DEGRADED if findings else Verdict.HEALTHY
    )


PAUSED = with_node(whole(), "redis-2", state=NodeState.PAUSED, why="its processes are frozen")
SPLIT = replace(
    whole(), verdict=Verdict.DEGRADED, findings=(Finding(FindingKind.SPLIT_BRAIN, "split brain: a and b"),)
)

Script = Callable[..., None]


@pytest.fixture
def script(fake: Lifecycle, monkeypatch: pytest.MonkeyPatch) -> Script:
    """What looks at clusters show, one after the other; Ctrl-C comes after the last one of all."""
    scripts: dict[str, list[Seen]] = {}
    last: dict[str, Seen] = {}
    monkeypatch.setattr(watch, "lifecycle", lambda: fake)

    def observe(self: Lifecycle, cluster: Cluster) -> Snapshot:
        if scripts[cluster.name]:
            last[cluster.name] = scripts[cluster.name].pop(0)
        found = last[cluster.name]
        if isinstance(found, BaseException):
            raise found
        return found() if callable(found) else found

    def wait(seconds: float) -> None:
        if not any(scripts.values()):
            raise KeyboardInterrupt
        time.sleep(min(seconds, 0.01))

    monkeypatch.setattr(Lifecycle, "observe", observe)
    # The module's own clock: nobody else's sleep may end in Ctrl-C.
    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=time.monotonic, sleep=wait))

    def write(*looks: Seen, name: str = "redis") -> None:
        fake.state.save(make_cluster("redis", 3, name=name, owner=fake.state.owner()))
        scripts[name] = [*looks]

    return write


def told(out: str) -> list[tuple[str, ...]]:
    """Lines without their times."""
    return [tuple(line.split(maxsplit=3)[1:]) for line in out.splitlines()]


# ---- lines


def test_in_a_pipe_each_change_is_a_line_after_what_is_there(run: Run, script: Script) -> None:
    script(whole(), PAUSED, whole())
    ended = run("watch", "redis", "--interval", "10ms")
    assert told(ended.out) == [
        ("redis", "verdict", "healthy"),
        ("redis/redis-2", "state", "up → paused: its processes are frozen"),
        ("redis", "verdict", "healthy → degraded"),
        ("redis/redis-2", "state", "paused → up"),
        ("redis", "verdict", "degraded → healthy"),
    ]
    assert (ended.code, ended.err) == (0, "")


def test_ctrl_c_ends_with_5_where_a_cluster_is_not_healthy(run: Run, script: Script) -> None:
    script(PAUSED)
    ended = run("watch", "redis")
    assert ended.code == 5
    assert told(ended.out) == [
        ("redis/redis-2", "begins", "redis-2 is paused: its processes are frozen"),
        ("redis", "verdict", "degraded"),
    ]


def test_json_is_a_document_a_line(run: Run, script: Script) -> None:
    script(whole(), PAUSED)
    lines = [json.loads(line) for line in run("watch", "redis", "-o", "json").out.splitlines()]
    assert [line["event"] for line in lines] == ["snapshot", "change", "change"]
    assert lines[0]["version"] == 1
    assert [c["name"] for c in lines[0]["clusters"]] == ["redis"]
    assert lines[1] == {
        "event": "change",
        "at": lines[1]["at"],
        "cluster": "redis",
        "node": "redis-2",
        "kind": "state",
        "what": "paused",
        "text": "up → paused: its processes are frozen",
        "severity": "warning",
    }
    assert (lines[2]["kind"], lines[2]["what"], lines[2]["node"]) == ("verdict", "degraded", None)


def test_names_are_those_of_what_changes(run: Run, script: Script) -> None:
    script(whole(), PAUSED)
    assert run("watch", "redis", "-o", "name").out.splitlines() == ["redis/redis-2", "redis"]


def test_every_line_is_out_before_the_next_look() -> None:
    with redirect_stdout(Mock()) as out:
        live._documents(Round([whole()], {}, [whole()], []), Output.JSON)
        live._lines(Round([whole()], {}, [whole()], []))
    assert [call[0] for call in out.method_calls] == ["write", "flush"] * 2


# ---- ends


def test_until_a_verdict_ends_with_0_when_all_clusters_have_it(run: Run, script: Script) -> None:
    script(whole("other"), name="other")
    script(PAUSED, PAUSED, whole(), PAUSED)
    ended = run("watch", "redis", "other", "--until", "healthy")
    assert ended.code == 0
    assert told(ended.out)[-1] == ("redis", "verdict", "degraded → healthy")


@pytest.mark.parametrize("word", ["split-brain", "degraded"])
def test_until_a_finding_ends_when_it_is_there(run: Run, script: Script, word: str) -> None:
    script(whole(), SPLIT, whole())
    assert run("watch", "redis", "--until", word).code == 0


def test_until_healthy_waits_for_a_cluster_that_is_out_of_sight(run: Run, script: Script) -> None:
    script(whole(), whole())
    script(*[EngineUnavailable("no container engine answers")] * 2, name="other")
    assert run("watch", "redis", "other", "--until", "healthy").code == 5


def test_until_does_not_take_an_end_for_a_beginning() -> None:
    over = changes(SPLIT, whole())
    assert not Until("split-brain").has_come([whole()], over)
    assert Until("split-brain").has_come([SPLIT], [])


def test_until_a_state_ends_when_a_node_changes_to_it(run: Run, script: Script) -> None:
    script(whole(), PAUSED, whole())
    ended = run("watch", "redis", "--until", "paused")
    assert ended.code == 0
    assert told(ended.out)[-1] == ("redis", "verdict", "healthy → degraded")


def test_what_does_not_come_in_time_ends_with_5(run: Run, script: Script) -> None:
    script(*[whole()] * 1000)
    began = time.monotonic()
    assert run("watch", "redis", "--until", "down", "--timeout", "200ms", "--interval", "10ms").code == 5
    assert run("watch", "redis", "--timeout", "100ms", "--interval", "10ms").code == 0
    assert time.monotonic() - began < 5


def test_a_long_interval_does_not_prolong_the_time(
    fake: Lifecycle, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(*[whole()] * 10)
    pauses: list[float] = []

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        time.sleep(seconds)

    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=time.monotonic, sleep=wait))
    for _ in rounds(fake, ["redis"], 60, 0.2):
        pass
    assert pauses
    assert max(pauses) <= 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["watch", "nope"], "there is no cluster 'nope'"),
        (["watch", "redis", "--until", "helthy"], "'helthy' would never come"),
        (["watch", "redis", "--interval", "1"], "'1' is not a duration"),
        (["watch", "redis", "--timeout", "soon"], "'soon' is not a duration"),
        (["status", "--watch"], "there is no cluster to watch"),
    ],
)
def test_bad_input_ends_with_2_and_a_hint(
    run: Run, fake: Lifecycle, monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str], message: str
) -> None:
    monkeypatch.setattr(watch, "lifecycle", lambda: fake)
    ended = run(*arguments)
    assert ended.code == 2
    assert message in ended.err
    assert "hint: " in ended.err


# ---- trouble while watching


def test_an_engine_that_stops_answering_is_told_once_and_its_return_too(run: Run, script: Script) -> None:
    gone = EngineUnavailable("no container engine answers")
    script(whole(), gone, gone, whole(), PAUSED)
    ended = run("watch", "redis", "--interval", "10ms")
    assert told(ended.out)[1:3] == [
        ("redis", "sight", "cannot be looked at: no container engine answers"),
        ("redis", "sight", "can be looked at again"),
    ]
    assert "Traceback" not in ended.err


def test_a_cluster_that_is_out_of_sight_is_not_healthy(run: Run, script: Script) -> None:
    script(whole(), EngineUnavailable("no container engine answers"))
    assert run("watch", "redis").code == 5
    script(EngineUnavailable("no container engine answers"))
    assert run("watch", "redis").code == 5


def test_a_look_that_hangs_holds_up_neither_the_others_nor_the_end(
    run: Run, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "PATIENCE_S", 0.2)
    release = threading.Event()

    def hang() -> Snapshot:
        release.wait(20)
        return whole()

    script(hang)
    other = with_node(whole("other"), "redis-2", state=NodeState.PAUSED)
    script(whole("other"), other, name="other")
    began = time.monotonic()
    ended = run("watch", "redis", "other", "--interval", "10ms")
    took = time.monotonic() - began
    release.set()
    assert took < 5
    assert ended.code == 5
    said = told(ended.out)
    assert said[0][:2] == ("redis", "sight")
    assert "no look ended within 0.2 s" in said[0][2]
    assert ("other/redis-2", "state", "up → paused") in said
    assert sum(line[1] == "sight" for line in said) == 1


def test_a_removed_cluster_ends_the_watch_with_words(run: Run, fake: Lifecycle, script: Script) -> None:
    def remove() -> Snapshot:
        fake.state.forget("redis")
        return whole()

    script(whole(), remove, whole(), whole())
    ended = run("watch", "redis", "--interval", "10ms")
    assert ended.code == 5
    assert ended.err == "haops: redis was removed while it was watched\n"


def test_the_record_is_read_anew_for_each_look(
    fake: Lifecycle, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(whole(), whole())
    ports: list[int] = []

    def look(self: Lifecycle, cluster: Cluster) -> Snapshot:
        ports.append(cluster.nodes[0].host_port)
        moved = tuple(replace(n, host_port=n.host_port + 100) for n in cluster.nodes)
        self.state.save(replace(cluster, nodes=moved))
        return whole()

    monkeypatch.setattr(Lifecycle, "observe", look)
    seen = rounds(fake, ["redis"], 0.01)
    next(seen)
    next(seen)
    assert ports == [20000, 20100]


def test_a_bug_in_a_look_is_told_as_one(run: Run, script: Script) -> None:
    script(ZeroDivisionError("x"))
    ended = run("watch", "redis")
    assert ended.code == 70
    assert "ZeroDivisionError" in ended.err


def test_a_reader_that_goes_away_ends_the_watch_without_a_word(
    run: Run, script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(seen: Round) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(live, "_lines", broken)
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr("sys.stdout.fileno", out.fileno, raising=False)
        script(whole(), PAUSED)
        ended = run("watch", "redis")
        assert os.fstat(out.fileno()).st_rdev == Path(os.devnull).stat().st_rdev
    assert (ended.code, ended.err) == (0, "")


def test_status_watch_is_the_same(run: Run, fake: Lifecycle, script: Script) -> None:
    script(whole(), PAUSED)
    ended = run("status", "redis", "--watch", "--interval", "10ms")
    assert ended.code == 5
    assert told(ended.out)[-1] == ("redis", "verdict", "healthy → degraded")


# ---- the tree


def drawn(*seen: Snapshot, **unseen: str) -> list[str]:
    console = Console(width=160, record=True, file=StringIO())
    news = changes(whole(), PAUSED)
    console.print(live.picture(Round(seen, unseen, [], []), deque(news)))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_the_tree_has_replicas_under_whom_they_follow_and_sentinels_apart() -> None:
    chained = with_node(whole(), "redis-2", follows="redis-1")
    chained = with_node(chained, "redis-3", follows="redis-2")
    chained = with_node(chained, "sentinel-1", follows="redis-1")
    lines = drawn(chained)
    ends = [line.replace("│", " ").split("  127")[0] for line in lines[:9]]
    assert ends[0].startswith("redis redis healthy")
    assert ends[1:5] == [
        "├── redis-1  primary  up",
        "    └── redis-2  replica  up",
        "        └── redis-3  replica  up",
        "└── Sentinels",
    ]
    assert lines[5].endswith("names redis-1")


def test_the_tree_tells_what_is_wrong_and_what_changed() -> None:
    lines = drawn(PAUSED)
    assert any("redis-2 is paused: its processes are frozen" in line for line in lines)
    assert lines[-1].endswith("verdict  healthy → degraded")
    assert any("no look" in line for line in drawn(whole(), redis="no look ended"))
    assert any(line == "other: no engine" for line in drawn(whole(), other="no engine"))


def test_replicas_in_a_circle_are_drawn_all_the_same() -> None:
    circle = with_node(with_node(whole(), "redis-2", follows="redis-3"), "redis-3", follows="redis-2")
    above = live.parents(circle)
    assert None in (above["redis-2"], above["redis-3"])
    text = "\n".join(drawn(circle))
    assert all(n.name in text for n in circle.nodes)


def test_followers_stand_under_the_leader() -> None:
    seen = snapshot(make_cluster("zookeeper", 3))
    assert live.parents(seen) == {
        "zookeeper-1": None,
        "zookeeper-2": "zookeeper-1",
        "zookeeper-3": "zookeeper-1",
    }
    lost = with_node(seen, "zookeeper-1", role=Role.UNKNOWN)
    assert set(live.parents(lost).values()) == {None}


def test_words_of_others_with_brackets_stay_what_they_are() -> None:
    odd = with_node(whole(), "redis-2", state=NodeState.UNREACHABLE, why="[Errno 111] refused [bold]")
    assert sum("[Errno 111] refused [bold]" in line for line in drawn(odd)) == 2


def test_the_command_is_there_with_examples() -> None:
    (command,) = [c for c in app.registered_commands if c.name == "watch"]
    assert "--until healthy" in str(command.epilog)

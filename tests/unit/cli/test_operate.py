"""Planned work at the prompt: what is refused, what is asked, what is printed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from haops.cli.operate import parse_size
from haops.cluster.snapshot import Lag, NodeState, NodeView, Role, Snapshot
from haops.cluster.spec import Cluster, StoreName
from haops.control.execute import Operations
from haops.control.journal import Outcome
from haops.control.lifecycle import Lifecycle
from haops.errors import BadInput
from haops.runtime.port import ContainerState
from haops.stores import load
from haops.stores.plan import Conductor, Operation, Plan, Step, StepFailed, Tools

from ...fakes import FakeRuntime, make_cluster, snapshot, with_readiness
from .conftest import Run


class Hand:
    """A conductor that only writes down."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.fails_at: str | None = None
        self.trouble: BaseException = StepFailed("it is gone")

    def perform(self, step: Step) -> str:
        self.did.append(step.verb)
        if step.verb == self.fails_at:
            raise self.trouble
        return f"{step.verb} was done"

    def put_back(self, done: Sequence[Step], failed: Step) -> str:
        return "redis-1 serves as before"


def seen(cluster: Cluster) -> Snapshot:
    """A healthy set as Redis shows it."""

    def view(node: NodeView) -> NodeView:
        if node.role is Role.REPLICA:
            return replace(node, lag=Lag(bytes=0), position=10, priority=100, follows="redis-1")
        return replace(node, follows="redis-1") if node.role is Role.SENTINEL else node

    healthy = snapshot(cluster)
    return replace(healthy, nodes=tuple(map(view, healthy.nodes)))


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def ops(fake: Lifecycle, hand: Hand, monkeypatch: pytest.MonkeyPatch) -> Operations:
    """Real plans; a conductor that only writes down."""

    @contextmanager
    def conductor(cluster: Cluster, tools: Tools, plan: Plan) -> Iterator[Conductor]:
        yield hand

    def store(name: StoreName) -> Any:
        real = load(name)
        control = replace(real.control, conductor=conductor)
        return replace(with_readiness(real), control=control, observe=lambda cluster, _: seen(cluster))

    for module in ("lifecycle", "execute"):
        monkeypatch.setattr(f"haops.control.{module}.load", store)
    made = Operations(fake)
    monkeypatch.setattr("haops.cli.operate.operations", lambda: made)
    monkeypatch.setattr("haops.cli.cluster.operations", lambda: made, raising=False)
    return made


@pytest.fixture
def redis(ops: Operations, runtime: FakeRuntime) -> Cluster:
    """A standing set of three."""
    cluster = make_cluster(owner=ops.lifecycle.state.owner())
    ops.lifecycle.state.save(cluster)
    runtime.of(cluster).nodes = {n.name: ContainerState.RUNNING for n in cluster.nodes}
    return cluster


def cut_off(ops: Operations, cluster: Cluster) -> str:
    """What a haops leaves that was killed."""
    plan = Plan(
        cluster.name,
        Operation.SWITCHOVER,
        "redis-1",
        "redis-2",
        (Step("pause", "redis-1", "pause it"),),
        "none",
    )
    entry = ops.journal(cluster).begin(plan, "bob@host", "died")
    entry.step(plan.steps[0])
    return entry.id


# ---- refused before anything is done


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["switchover", "nope"], "there is no cluster 'nope'", "redis"),
        (["failover", "nope"], "there is no cluster 'nope'", "redis"),
        (["restart", "nope"], "there is no cluster 'nope'", "redis"),
        (["journal", "nope"], "there is no cluster 'nope'", "redis"),
        (["node", "drain", "nope", "x"], "there is no cluster 'nope'", "redis"),
        (["switchover", "redis", "--to", "redis-9", "--yes"], "redis-9", "redis-1"),
        (["failover", "redis", "--to", "redis-9", "--yes"], "redis-9", "redis-1"),
        (["restart", "redis", "--node", "redis-9", "--yes"], "redis-9", "redis-1"),
        (["node", "drain", "redis", "redis-9", "--yes"], "redis-9", "redis-1"),
        (["switchover", "redis"], "there is no terminal to ask at", "--yes"),
        (["restart", "redis"], "there is no terminal to ask at", "--dry-run"),
        (["switchover", "redis", "--to", "redis-1", "--yes"], "the primary already", "redis-2"),
        (["switchover", "redis", "--to", "sentinel-1", "--yes"], "a Sentinel", "redis-2"),
        (["switchover", "redis", "--zone", "moon", "--yes"], "no node can be promoted", "haops status"),
        (["failover", "redis", "--yes"], "answers as the primary", "haops switchover redis"),
        (["node", "drain", "redis", "redis-1", "--yes"], "redis has no drain", "haops switchover"),
        (["node", "resume", "redis", "redis-1", "--yes"], "redis has no resume", "a replica needs none"),
        (["node", "replace", "redis", "redis-1", "--yes"], "redis-1 is the primary", "haops switchover"),
        (["node", "repair", "redis", "redis-1", "--yes"], "redis has no repair", "restart it"),
        (["node", "decommission", "redis", "redis-1", "--yes"], "redis has no decommission", "fewer nodes"),
        *(
            (["switchover", "redis", "--max-lag", size, "--yes"], f"{size!r} is not a size", "512KB or 1MB")
            for size in ("", "x", "1.5MB", "-1", "1TB", "1KMB", "MB", "²", "9" * 5000)
        ),
        (["switchover", "redis", "--before", "'", "--yes"], "--before", "quote it"),
        (["switchover", "redis", "--after", "'", "--yes"], "--after", "quote it"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)  # fmt: skip
def test_bad_input_ends_with_2_and_a_hint_before_anything_is_done(
    run: Run,
    ops: Operations,
    redis: Cluster,
    hand: Hand,
    arguments: list[str],
    message: str,
    hint: str,
) -> None:
    ended = run(*arguments)
    assert ended.code == 2, ended.err
    assert message in ended.err
    assert hint in ended.err.partition("hint: ")[2]
    assert ended.out == ""
    assert hand.did == []
    assert ops.journal(redis).read() == ()


@pytest.mark.parametrize("verb", ["drain", "resume", "replace", "repair", "decommission"])
def test_every_node_command_is_there_and_tells_what_it_is_for(run: Run, verb: str) -> None:
    ended = run("node", verb, "--help")
    assert ended.code == 0
    assert f"haops node {verb} cassandra" in ended.out


# ---- sizes


@given(st.integers(0, 2**50), st.sampled_from(["", "B", "KB", "MB", "GB"]), st.booleans(), st.booleans())
def test_a_size_is_read_as_powers_of_1024(number: int, unit: str, small: bool, apart: bool) -> None:
    text = f"{number}{' ' if apart else ''}{unit.lower() if small else unit}"
    factor = {"": 1, "B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}[unit]
    assert parse_size(text) == number * factor


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_is_a_size_or_bad_input(text: str) -> None:
    try:
        assert parse_size(text) >= 0
    except BadInput as error:
        assert error.hint


# ---- looking first


@pytest.mark.parametrize(
    "command", [["switchover"], ["restart"], ["restart", "--node", "redis-2"]], ids=" ".join
)
@pytest.mark.parametrize("shape", ["table", "json", "yaml"])
def test_a_dry_run_changes_nothing_and_asks_nothing(
    run: Run,
    ops: Operations,
    redis: Cluster,
    hand: Hand,
    runtime: FakeRuntime,
    command: list[str],
    shape: str,
) -> None:
    verb, *options = command
    ended = run(verb, "redis", *options, "--dry-run", "--before", "false", "-o", shape)
    assert ended.code == 0, ended.err
    assert hand.did == []
    assert ops.journal(redis).read() == ()
    assert not (ops.lifecycle.state.cluster_dir("redis") / "journal.jsonl").exists()
    assert {call[0] for call in runtime.calls} <= {"containers"}


def test_a_dry_run_prints_steps_candidates_and_risk(
    run: Run, ops: Operations, redis: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def observe(cluster: Cluster) -> Snapshot:
        made = seen(cluster)
        bad = {"redis-3": {"state": NodeState.STOPPED, "role": Role.UNKNOWN, "why": "Exited [137]"}}
        return replace(made, nodes=tuple(replace(n, **bad.get(n.name, {})) for n in made.nodes))  # type: ignore[arg-type]

    monkeypatch.setattr(Lifecycle, "observe", lambda self, cluster: observe(cluster))
    out = run("switchover", "redis", "--dry-run").out
    assert "switchover of redis: redis-1 → redis-2" in out
    assert out.index("1. win a new epoch") < out.index("promote redis-2") < out.index("risk: ")
    assert "redis-2" in out.partition("candidates:")[2]
    assert "yes (chosen)" in out
    assert "no: it is stopped: Exited [137]" in out
    document = json.loads(run("switchover", "redis", "--dry-run", "-o", "json").out)
    assert (document["version"], document["cluster"], document["operation"]) == (1, "redis", "switchover")
    assert (document["source"], document["target"]) == ("redis-1", "redis-2")
    assert {c["node"]: c["rejected"] for c in document["candidates"]} == {
        "redis-2": None,
        "redis-3": "it is stopped: Exited [137]",
    }
    assert document["steps"][0] == {
        "verb": "take-epoch",
        "node": None,
        "text": "win a new epoch by the Sentinels' votes",
    }
    assert yaml.safe_load(run("switchover", "redis", "--dry-run", "-o", "yaml").out) == document


def test_a_lag_over_the_limit_is_shown_as_the_reason(
    run: Run, ops: Operations, redis: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def observe(self: Lifecycle, cluster: Cluster) -> Snapshot:
        made = seen(cluster)
        return replace(
            made,
            nodes=tuple(replace(n, lag=Lag(bytes=4097)) if n.name == "redis-2" else n for n in made.nodes),
        )

    monkeypatch.setattr(Lifecycle, "observe", observe)
    assert "→ redis-3" in run("switchover", "redis", "--dry-run", "--max-lag", "4kb").out
    ended = run("switchover", "redis", "--to", "redis-2", "--dry-run", "--max-lag", "4096")
    assert ended.code == 2
    assert "its lag is 4,097 B, allowed is 4,096 B" in ended.err


# ---- doing it


def test_a_switchover_prints_its_way_on_stdout_and_its_steps_on_stderr(
    run: Run, ops: Operations, redis: Cluster, hand: Hand
) -> None:
    ended = run("switchover", "redis", "--yes", "--reason", "a [test]")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("redis: switchover redis-1 → redis-2 done in ")
    assert len(ended.out.splitlines()) == 1
    for verb in hand.did:
        assert f"{verb} was done" in ended.err
    (record,) = ops.journal(redis).read()
    assert (record.outcome, record.reason) == (Outcome.DONE, "a [test]")


def test_a_switchover_in_json_is_one_document(run: Run, ops: Operations, redis: Cluster) -> None:
    ended = run("switchover", "redis", "--yes", "-o", "json")
    document = json.loads(ended.out)
    (record,) = ops.journal(redis).read()
    assert (document["version"], document["id"], document["target"]) == (1, record.id, "redis-2")
    assert document["took_ms"] >= 0


def test_a_failed_step_ends_with_1_and_says_what_state_the_cluster_is_in(
    run: Run, ops: Operations, redis: Cluster, hand: Hand
) -> None:
    hand.fails_at = "catch-up"
    ended = run("switchover", "redis", "--yes")
    assert ended.code == 1
    assert "catch-up redis-2: it is gone" in ended.err
    assert "hint: redis-1 serves as before" in ended.err
    assert ended.out == ""
    assert run("journal", "redis").code == 0


def test_a_failed_step_shows_the_steps_before_it(
    run: Run, ops: Operations, redis: Cluster, hand: Hand
) -> None:
    hand.fails_at = "promote"
    err = run("switchover", "redis", "--yes").err
    for verb in ("take-epoch", "chain", "pause", "catch-up"):
        assert f"{verb} was done" in err


def test_ctrl_c_ends_with_130(run: Run, ops: Operations, redis: Cluster, hand: Hand) -> None:
    hand.fails_at, hand.trouble = "pause", KeyboardInterrupt()
    ended = run("switchover", "redis", "--yes")
    assert ended.code == 130
    assert "interrupted at pause redis-1" in ended.err


def test_a_veto_ends_with_1_and_a_failing_after_is_a_warning(
    run: Run, ops: Operations, redis: Cluster, hand: Hand
) -> None:
    ended = run("switchover", "redis", "--yes", "--before", "false")
    assert ended.code == 1
    assert "vetoed by 'false': exit code 1" in ended.err
    assert hand.did == []
    ended = run("switchover", "redis", "--yes", "--after", "false")
    assert ended.code == 0
    assert "warning: 'false': exit code 1" in ended.err


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_at_a_terminal_the_plan_is_shown_and_asked_for(
    run: Run,
    ops: Operations,
    redis: Cluster,
    hand: Hand,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    code: int,
) -> None:
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal(answer))
    ended = run("switchover", "redis")
    assert ended.code == code
    assert "switchover of redis: redis-1 → redis-2" in ended.out
    assert "Go on?" in ended.err
    assert bool(hand.did) == (code == 0)


def test_a_second_operator_is_told_who_is_at_work(
    run: Run, ops: Operations, redis: Cluster, hand: Hand
) -> None:
    with ops.lifecycle.state.lock("redis", "restart"):
        ended = run("switchover", "redis", "--yes")
    assert ended.code == 1
    assert "another haops is at work on redis" in ended.err
    assert "restart" in ended.err
    assert hand.did == []


# ---- the journal


def test_an_empty_journal_says_so(run: Run, ops: Operations, redis: Cluster) -> None:
    ended = run("journal", "redis")
    assert (ended.code, ended.out) == (0, "")
    assert "nothing was done to redis yet" in ended.err
    assert json.loads(run("journal", "redis", "-o", "json").out) == {"version": 1, "operations": []}
    assert run("journal", "redis", "-o", "name").out == ""


def test_the_journal_lists_what_was_done(run: Run, ops: Operations, redis: Cluster) -> None:
    run("switchover", "redis", "--yes", "--reason", "why [not]")
    (record,) = ops.journal(redis).read()
    assert run("journal", "redis", "-o", "name").out.split() == [record.id]
    table = run("journal", "redis").out
    for word in ("switchover", "done"):
        assert word in table
    document = json.loads(run("journal", "redis", "-o", "json").out)
    (operation,) = document["operations"]
    assert document["version"] == 1
    assert (operation["id"], operation["outcome"], operation["reason"]) == (record.id, "done", "why [not]")
    assert (operation["source"], operation["target"]) == ("redis-1", "redis-2")
    assert [s["verb"] for s in operation["done"]] == [s["verb"] for s in operation["steps"]]
    assert yaml.safe_load(run("journal", "redis", "-o", "yaml").out) == document


@pytest.mark.parametrize("options", [["--steps"], ["-o", "wide"]], ids=" ".join)
def test_the_journals_steps_are_shown_on_demand(
    run: Run, ops: Operations, redis: Cluster, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    run("switchover", "redis", "--yes")
    assert "promote redis-2: promote was done" not in run("journal", "redis").out
    assert "promote redis-2: promote was done" in run("journal", "redis", *options).out


@pytest.mark.parametrize("shape", ["table", "wide", "json", "yaml", "name"])
def test_an_operation_that_was_cut_off_ends_the_journal_with_5_in_every_shape(
    run: Run, ops: Operations, redis: Cluster, shape: str
) -> None:
    identity = cut_off(ops, redis)
    ended = run("journal", "redis", "-o", shape)
    assert ended.code == 5
    assert "haops heal redis" in ended.err
    if shape == "json":
        (operation,) = json.loads(ended.out)["operations"]
        assert (operation["id"], operation["outcome"], operation["ended"]) == (identity, "cut off", None)
        assert operation["done"][0]["took_ms"] is None


def test_a_running_operation_is_no_trouble(run: Run, ops: Operations, redis: Cluster) -> None:
    cut_off(ops, redis)
    with ops.lifecycle.state.lock("redis", "switchover"):
        ended = run("journal", "redis", "-o", "json")
    assert ended.code == 0
    assert json.loads(ended.out)["operations"][0]["outcome"] == "running"


def test_after_an_operation_was_cut_off_the_way_is_heal(
    run: Run, ops: Operations, redis: Cluster, hand: Hand
) -> None:
    cut_off(ops, redis)
    for command in (["switchover", "redis", "--yes"], ["switchover", "redis", "--dry-run"]):
        ended = run(*command)
        assert ended.code == 1
        assert "was cut off at its step pause" in ended.err
        assert "haops heal redis" in ended.err
    ended = run("status", "redis")
    assert ended.code == 5
    assert "was cut off at its step pause" in " ".join(ended.out.split())
    assert hand.did == []


# ---- recover


@pytest.fixture
def recovering(ops: Operations, redis: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """`haops recover` works on the same set, and compares nothing afterwards."""
    monkeypatch.setattr("haops.cli.restore.operations", lambda: ops)
    monkeypatch.setattr("haops.cli.restore._compared", lambda *_: ())


def test_a_recovery_can_be_looked_at_first(run: Run, recovering: None, hand: Hand) -> None:
    refused = run("recover", "redis", "redis-2")
    assert refused.code == BadInput.exit_code
    assert "recover changes a standing cluster" in refused.err
    assert "--dry-run" in refused.err
    ended = run("recover", "redis", "redis-2", "--dry-run")
    assert (ended.code, hand.did) == (0, [])
    assert ended.out.startswith("recover of redis: redis-2")
    assert "risk: redis-2 is healthy" in ended.out
    document = json.loads(run("recover", "redis", "redis-2", "--dry-run", "-o", "json").out)
    assert [step["verb"] for step in document["steps"]] == ["forget", "lay-out", "await"]
    assert hand.did == []


def test_a_recovery_is_journalled_as_one(
    run: Run, recovering: None, hand: Hand, ops: Operations, redis: Cluster
) -> None:
    assert run("recover", "redis", "redis-2", "--yes", "--reason", "no disk").code == 0
    assert hand.did == ["forget", "lay-out", "await"]
    assert [record.reason for record in ops.journal(redis).read()] == ["recover: no disk"]

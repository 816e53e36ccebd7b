"""Carrying plans out: what stands in the journal, what is put back, what the operator is told."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from haops.cluster.snapshot import Snapshot, Verdict
from haops.cluster.spec import Cluster, StoreName
from haops.control import execute
from haops.control.execute import Done, Operations, Order, StepProgress, operator
from haops.control.hooks import Vetoed
from haops.control.journal import Entry, Outcome, Record
from haops.control.lifecycle import Lifecycle
from haops.errors import BadInput, Busy, EnvironmentTrouble, HaopsError, Interrupted
from haops.stores import load
from haops.stores.plan import (
    Conductor,
    Control,
    Intent,
    NotPlannable,
    Operation,
    Plan,
    Step,
    StepFailed,
    Tools,
)

from ...fakes import FakeRuntime, make_cluster, with_readiness

STEPS = (
    Step("one", None, "first"),
    Step("two", "redis-1", "second"),
    Step("three", "redis-2", "third"),
)
PLAN = Plan("redis", Operation.SWITCHOVER, "redis-1", "redis-2", STEPS, "nothing is lost")
INTENT = Intent(Operation.SWITCHOVER)
EVERY_STEP = pytest.mark.parametrize("at", range(len(STEPS)), ids=[s.verb for s in STEPS])


@dataclass
class Script:
    """A store's control that plays a script and writes down what happened, journal and acts alike.

    `raises[verb]` is what a step raises; `worse` what putting back raises.
    """

    log: list[str] = field(default_factory=list)
    raises: dict[str, BaseException] = field(default_factory=dict)
    worse: BaseException | None = None
    opens: BaseException | None = None
    unplannable: NotPlannable | None = None
    put_back_with: list[tuple[tuple[Step, ...], Step]] = field(default_factory=list)
    mends: list[tuple[Plan, tuple[Step, ...]]] = field(default_factory=list)
    mend_raises: BaseException | None = None
    during_put_back: Callable[[], None] = lambda: None

    def planner(self, cluster: Cluster, snapshot: Snapshot, intent: Intent) -> Plan:
        if self.unplannable:
            raise self.unplannable
        return PLAN

    @contextmanager
    def conductor(self, cluster: Cluster, tools: Tools, plan: Plan) -> Iterator[Conductor]:
        if self.opens:
            raise self.opens
        self.log.append("open")
        try:
            yield self
        finally:
            self.log.append("closed")

    def perform(self, step: Step) -> str:
        self.log.append(f"perform {step.verb}")
        if error := self.raises.get(step.verb):
            raise error
        return f"{step.verb} was done"

    def put_back(self, done: Sequence[Step], failed: Step) -> str:
        self.log.append("put back")
        self.put_back_with.append((tuple(done), failed))
        self.during_put_back()
        if self.worse:
            raise self.worse
        return "redis-1 serves as before"

    def mend(self, cluster: Cluster, tools: Tools, plan: Plan, begun: Sequence[Step]) -> str:
        self.log.append("mend")
        if self.mend_raises:
            raise self.mend_raises
        self.mends.append((plan, tuple(begun)))
        return "finished it"

    @property
    def control(self) -> Control:
        return Control({Operation.SWITCHOVER: self.planner}, self.conductor, self.mend)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    made = Script()
    store = replace(with_readiness(load(StoreName.REDIS)), control=made.control)
    monkeypatch.setattr("haops.control.lifecycle.load", lambda name: store)
    monkeypatch.setattr("haops.control.execute.load", lambda name: store)
    for event in ("step", "did", "end"):
        original = getattr(Entry, event)

        def spy(
            self: Entry, *about: object, _event: str = event, _original: Callable[..., None] = original
        ) -> None:
            _original(self, *about)
            what = about[0]
            word = getattr(what, "verb", "") or getattr(what, "value", "")
            made.log.append(f"journal {_event} {word}".strip())

        monkeypatch.setattr(Entry, event, spy)
    return made


@pytest.fixture
def ops(haops: Lifecycle) -> Operations:
    return Operations(haops)


@pytest.fixture
def cluster(haops: Lifecycle) -> Cluster:
    made = make_cluster(owner=haops.state.owner())
    haops.state.save(made)
    return made


def order(**about: object) -> Order:
    return Order("ann@host", "a test", **about)  # type: ignore[arg-type]


def last(ops: Operations, cluster: Cluster) -> Record:
    return ops.journal(cluster).read()[-1]


def carry_out(ops: Operations, cluster: Cluster, **about: object) -> Done:
    return ops.carry_out(cluster, INTENT, order(**about))


def leave_cut_off(ops: Operations, cluster: Cluster, steps: int = 1) -> str:
    """What a haops leaves that was killed."""
    entry = ops.journal(cluster).begin(PLAN, "bob@host", "died")
    for step in STEPS[:steps]:
        entry.step(step)
    return entry.id


# ---- when all goes well


def test_a_step_stands_in_the_journal_before_it_acts(
    ops: Operations, cluster: Cluster, script: Script
) -> None:
    carry_out(ops, cluster)
    assert script.log == [
        "open",
        *(
            line
            for step in STEPS
            for line in (f"journal step {step.verb}", f"perform {step.verb}", "journal did")
        ),
        "closed",
        "journal end done",
    ]


def test_the_journal_says_who_why_what_and_how_it_ended(
    ops: Operations, cluster: Cluster, script: Script
) -> None:
    done = carry_out(ops, cluster)
    record = last(ops, cluster)
    assert (record.id, record.actor, record.reason, record.plan) == (done.id, "ann@host", "a test", PLAN)
    assert (record.outcome, record.begun) == (Outcome.DONE, STEPS)
    assert [s.outcome for s in record.steps] == ["one was done", "two was done", "three was done"]
    assert done.took_ms >= 0
    assert done.warnings == ()


def test_progress_tells_of_each_step_twice(ops: Operations, cluster: Cluster, script: Script) -> None:
    seen: list[StepProgress] = []
    carry_out(ops, cluster, report=seen.append)
    assert [(p.step, p.outcome) for p in seen] == [
        (s, outcome) for s in STEPS for outcome in (None, f"{s.verb} was done")
    ]
    assert all((p.took_ms is None) == (p.outcome is None) for p in seen)


def test_a_plan_alone_changes_nothing(
    ops: Operations, cluster: Cluster, script: Script, runtime: FakeRuntime
) -> None:
    assert ops.plan(cluster, INTENT) == PLAN
    assert script.log == []
    assert ops.journal(cluster).read() == ()
    assert {call[0] for call in runtime.calls} == {"containers"}


def test_what_cannot_be_planned_leaves_no_entry(ops: Operations, cluster: Cluster, script: Script) -> None:
    script.unplannable = NotPlannable("no node can be promoted")
    with pytest.raises(NotPlannable):
        carry_out(ops, cluster)
    assert ops.journal(cluster).read() == ()
    assert script.log == []


def test_the_operator_is_a_person_at_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    monkeypatch.setattr("socket.gethostname", lambda: "host")
    assert operator() == "ann@host"

    def nobody() -> str:
        raise KeyError("no entry")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert operator() == f"{os.getuid()}@host"


# ---- a step that fails


@EVERY_STEP
def test_a_failed_step_is_put_back_once_with_what_was_done_and_what_failed(
    ops: Operations, cluster: Cluster, script: Script, at: int
) -> None:
    script.raises[STEPS[at].verb] = StepFailed("it is gone", node="redis-2", detail="Connection refused")
    with pytest.raises(StepFailed) as caught:
        carry_out(ops, cluster)
    assert script.put_back_with == [(STEPS[:at], STEPS[at])]
    record = last(ops, cluster)
    assert (record.outcome, record.begun) == (Outcome.PUT_BACK, STEPS[: at + 1])
    where = f"{STEPS[at].verb} {STEPS[at].node or ''}".strip()
    assert record.note == f"{where}: it is gone; redis-1 serves as before"
    error = caught.value
    assert (error.exit_code, error.message) == (1, f"{where}: it is gone")
    assert (error.node, error.detail) == ("redis-2", "Connection refused")
    assert error.hint == "redis-1 serves as before"


@EVERY_STEP
def test_an_interruption_is_put_back_and_ends_with_130(
    ops: Operations, cluster: Cluster, script: Script, at: int
) -> None:
    script.raises[STEPS[at].verb] = KeyboardInterrupt()
    with pytest.raises((Interrupted, KeyboardInterrupt)) as caught:  # a raw one would end pytest itself
        carry_out(ops, cluster)
    assert isinstance(caught.value, Interrupted)
    assert caught.value.exit_code == 130
    assert caught.value.hint == "redis-1 serves as before"
    assert script.put_back_with == [(STEPS[:at], STEPS[at])]
    assert last(ops, cluster).outcome is Outcome.PUT_BACK


@EVERY_STEP
def test_a_failure_to_put_back_is_told_with_both_texts(
    ops: Operations, cluster: Cluster, script: Script, at: int
) -> None:
    script.raises[STEPS[at].verb] = StepFailed("it is gone")
    script.worse = StepFailed("both are primaries")
    with pytest.raises(StepFailed) as caught:
        carry_out(ops, cluster)
    record = last(ops, cluster)
    assert record.outcome is Outcome.FAILED
    for text in (record.note, caught.value.message):
        assert "it is gone" in text
        assert "could not be put back: both are primaries" in text
    assert "haops status" in str(caught.value.hint)
    assert script.log.count("put back") == 1


def test_a_bug_in_a_step_is_put_back_too_and_stays_a_bug(
    ops: Operations, cluster: Cluster, script: Script
) -> None:
    script.raises["two"] = KeyError("a bug")
    with pytest.raises(KeyError):
        carry_out(ops, cluster)
    assert last(ops, cluster).outcome is Outcome.PUT_BACK


def test_a_bug_in_putting_back_leaves_the_journal_closed_as_failed(
    ops: Operations, cluster: Cluster, script: Script
) -> None:
    script.raises["two"] = StepFailed("it is gone")
    script.worse = KeyError("a bug")
    with pytest.raises((KeyError, StepFailed)):
        carry_out(ops, cluster)
    assert last(ops, cluster).outcome is Outcome.FAILED


def test_connections_that_cannot_be_opened_are_a_failure_and_nothing_to_put_back(
    ops: Operations, cluster: Cluster, script: Script
) -> None:
    script.opens = StepFailed("no connection")
    with pytest.raises(StepFailed, match="no connection"):
        carry_out(ops, cluster)
    assert last(ops, cluster).outcome is Outcome.FAILED
    assert script.put_back_with == []


@EVERY_STEP
@pytest.mark.parametrize("moment", ["begun", "ended"])
@pytest.mark.parametrize("trouble", [KeyboardInterrupt(), BrokenPipeError(32, "Broken pipe")], ids=repr)
def test_trouble_while_a_step_is_reported_is_put_back(
    ops: Operations, cluster: Cluster, script: Script, at: int, moment: str, trouble: BaseException
) -> None:
    # A terminal that is gone, or Ctrl-C between two steps: writes may be paused at that moment.
    def report(progress: StepProgress) -> None:
        if progress.step == STEPS[at] and (progress.outcome is None) == (moment == "begun"):
            raise trouble

    with pytest.raises((KeyboardInterrupt, Interrupted, BrokenPipeError)):
        carry_out(ops, cluster, report=report)
    whole = moment == "ended" and STEPS[at] is STEPS[-1]  # then nothing needs to be undone
    assert last(ops, cluster).outcome in ((Outcome.DONE, Outcome.PUT_BACK) if whole else (Outcome.PUT_BACK,))
    assert len(script.put_back_with) == 1 or whole


@pytest.mark.parametrize("event", ["step", "did"])
def test_a_disk_that_fills_up_in_the_middle_is_put_back(
    ops: Operations, cluster: Cluster, script: Script, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    original = getattr(Entry, event)

    def full(self: Entry, *about: object) -> None:
        if "perform one" in script.log:
            raise EnvironmentTrouble("cannot write journal.jsonl", detail="No space left on device")
        original(self, *about)

    monkeypatch.setattr(Entry, event, full)
    with pytest.raises(HaopsError):
        carry_out(ops, cluster)
    assert len(script.put_back_with) == 1


def test_ctrl_c_while_it_is_put_back_waits_until_that_is_done_and_the_journal_says_so(
    ops: Operations, cluster: Cluster, script: Script
) -> None:
    script.raises["two"] = StepFailed("it is gone")
    finished = []

    def interrupted() -> None:
        signal.raise_signal(signal.SIGINT)
        finished.append(True)

    script.during_put_back = interrupted
    with pytest.raises((KeyboardInterrupt, HaopsError)):
        carry_out(ops, cluster)
    assert finished == [True]
    assert last(ops, cluster).outcome is Outcome.PUT_BACK


def test_the_lock_is_free_after_a_failure(ops: Operations, cluster: Cluster, script: Script) -> None:
    script.raises["two"] = StepFailed("it is gone")
    with pytest.raises(StepFailed):
        carry_out(ops, cluster)
    del script.raises["two"]
    carry_out(ops, cluster)
    assert [r.outcome for r in ops.journal(cluster).read()] == [Outcome.PUT_BACK, Outcome.DONE]


# ---- two at once, and what a dead one left


def test_a_second_operator_is_refused_and_told_who_is_at_work(
    ops: Operations, cluster: Cluster, script: Script
) -> None:
    with ops.lifecycle.state.lock(cluster.name, "restart"), pytest.raises(Busy) as caught:
        carry_out(ops, cluster)
    assert "restart" in str(caught.value.detail)
    assert script.log == []
    assert ops.journal(cluster).read() == ()


def test_the_cluster_is_locked_while_steps_act(ops: Operations, cluster: Cluster, script: Script) -> None:
    seen = []
    carry_out(ops, cluster, report=lambda _: seen.append(ops.lifecycle.state.locked(cluster.name)))
    assert seen == [True] * 2 * len(STEPS)
    assert not ops.lifecycle.state.locked(cluster.name)


def test_nothing_new_is_begun_while_an_operation_is_cut_off(
    ops: Operations, cluster: Cluster, script: Script
) -> None:
    leave_cut_off(ops, cluster)
    for attempt in (lambda: ops.plan(cluster, INTENT), lambda: carry_out(ops, cluster)):
        with pytest.raises(Busy) as caught:
            attempt()
        assert "was cut off at its step one" in caught.value.message
        assert f"haops heal {cluster.name}" in str(caught.value.hint)
    assert "open" not in script.log


def test_a_running_operation_is_not_taken_for_one_that_was_cut_off(
    ops: Operations, cluster: Cluster, script: Script
) -> None:
    leave_cut_off(ops, cluster)
    with ops.lifecycle.state.lock(cluster.name, "switchover"):
        assert ops.plan(cluster, INTENT) == PLAN
        assert ops.lifecycle.observe(cluster).verdict is Verdict.HEALTHY


def test_status_tells_of_an_operation_that_was_cut_off(
    ops: Operations, cluster: Cluster, script: Script
) -> None:
    leave_cut_off(ops, cluster, steps=2)
    seen = ops.lifecycle.observe(cluster)
    assert seen.verdict is Verdict.DEGRADED
    assert "was cut off at its step two" in seen.reasons[-1]
    assert f"haops heal {cluster.name}" in seen.reasons[-1]


def test_mend_gets_the_plan_and_what_was_begun_and_closes_the_entry(
    ops: Operations, cluster: Cluster, script: Script
) -> None:
    leave_cut_off(ops, cluster, steps=2)
    (said,) = ops.mend(cluster)
    assert said.startswith("switchover of ")
    assert said.endswith(": finished it")
    assert script.mends == [(PLAN, STEPS[:2])]
    record = last(ops, cluster)
    assert (record.outcome, record.note) == (Outcome.MENDED, "finished it")


def test_mend_a_second_time_does_nothing(ops: Operations, cluster: Cluster, script: Script) -> None:
    leave_cut_off(ops, cluster)
    leave_cut_off(ops, cluster)
    assert len(ops.mend(cluster)) == 2
    assert ops.mend(cluster) == ()
    assert len(script.mends) == 2
    carry_out(ops, cluster)  # and new work may begin


def test_what_cannot_be_mended_stays_open_for_the_next_try(
    ops: Operations, cluster: Cluster, script: Script
) -> None:
    leave_cut_off(ops, cluster)
    script.mend_raises = StepFailed("both are primaries")
    with pytest.raises(StepFailed):
        ops.mend(cluster)
    assert last(ops, cluster).outcome is Outcome.CUT_OFF
    script.mend_raises = None
    assert len(ops.mend(cluster)) == 1


def test_mend_does_not_meddle_with_a_running_operation(
    ops: Operations, cluster: Cluster, script: Script
) -> None:
    leave_cut_off(ops, cluster)
    with ops.lifecycle.state.lock(cluster.name, "switchover"), pytest.raises(Busy):
        ops.mend(cluster)
    assert script.mends == []


# ---- hooks


@pytest.fixture
def note(tmp_path: Path) -> SimpleNamespace:
    """A command that writes its arguments and haops' words in its environment to a file, line by line."""
    script, out = tmp_path / "hook.py", tmp_path / "told"
    script.write_text(
        "import json, os, sys\n"
        "told = {k: v for k, v in os.environ.items() if k.startswith('HAOPS_') and k != 'HAOPS_STATE'}\n"
        f"open({str(out)!r}, 'a').write(json.dumps([sys.argv[1:], told]) + '\\n')\n"
        "sys.exit(int(os.environ.get('TEST_EXIT', 0)))\n"
    )

    def told() -> list[tuple[list[str], dict[str, str]]]:
        return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []

    return SimpleNamespace(command=f"{sys.executable} {script}", told=told)


FACTS = {
    "HAOPS_CLUSTER": "redis",
    "HAOPS_OPERATION": "switchover",
    "HAOPS_SOURCE": "redis-1",
    "HAOPS_TARGET": "redis-2",
    "HAOPS_REASON": "a test",
}


def test_before_is_told_the_facts_before_anything_acts(
    ops: Operations, cluster: Cluster, script: Script, note: SimpleNamespace
) -> None:
    carry_out(ops, cluster, before=f"{note.command} 'two words'")
    assert note.told() == [[["two words"], FACTS]]


def test_a_veto_leaves_everything_unchanged_and_no_entry(
    ops: Operations,
    cluster: Cluster,
    script: Script,
    note: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEST_EXIT", "7")
    with pytest.raises(Vetoed, match="exit code 7") as caught:
        carry_out(ops, cluster, before=note.command)
    assert (caught.value.exit_code, caught.value.hint) == (1, "nothing was changed")
    assert script.log == []
    assert ops.journal(cluster).read() == ()


@pytest.mark.parametrize(
    ("at", "error", "worse", "outcome"),
    [
        (None, None, None, "done"),
        *((at, StepFailed("x"), None, "put back") for at in range(len(STEPS))),
        *((at, KeyboardInterrupt(), None, "put back") for at in range(len(STEPS))),
        (1, StepFailed("x"), StepFailed("y"), "failed"),
        (1, KeyError("a bug"), None, "put back"),
        (1, StepFailed("x"), KeyError("a bug"), "failed"),
    ],
    ids=repr,
)
def test_after_is_told_the_outcome_in_every_ending(
    ops: Operations,
    cluster: Cluster,
    script: Script,
    note: SimpleNamespace,
    at: int | None,
    error: BaseException | None,
    worse: BaseException | None,
    outcome: str,
) -> None:
    script.worse = worse
    if at is not None and error is not None:
        script.raises[STEPS[at].verb] = error
        with pytest.raises(BaseException, match=r".*"):
            carry_out(ops, cluster, after=note.command)
    else:
        carry_out(ops, cluster, after=note.command)
    assert note.told() == [[[], {**FACTS, "HAOPS_OUTCOME": outcome}]]


def test_after_is_told_when_the_servers_cannot_be_reached_at_all(
    ops: Operations, cluster: Cluster, script: Script, note: SimpleNamespace
) -> None:
    script.opens = StepFailed("no connection")
    with pytest.raises(StepFailed):
        carry_out(ops, cluster, after=note.command)
    assert [environment["HAOPS_OUTCOME"] for _, environment in note.told()] == ["failed"]


def test_a_failing_after_is_only_a_warning(ops: Operations, cluster: Cluster, script: Script) -> None:
    done = carry_out(ops, cluster, after="false")
    assert done.warnings == ("'false': exit code 1",)
    assert last(ops, cluster).outcome is Outcome.DONE


def test_a_failing_after_does_not_hide_the_failure_before_it(
    ops: Operations, cluster: Cluster, script: Script
) -> None:
    script.raises["two"] = StepFailed("it is gone")
    with pytest.raises(StepFailed, match="it is gone"):
        carry_out(ops, cluster, after="false")


@pytest.mark.parametrize("option", ["before", "after"])
@pytest.mark.parametrize("command", ["'", "", "  "])
def test_a_hook_that_cannot_be_read_is_refused_before_anything_acts(
    ops: Operations, cluster: Cluster, script: Script, option: str, command: str
) -> None:
    if option == "before" and not command:
        pytest.skip("an empty --before is none")
    if option == "after" and not command:
        pytest.skip("an empty --after is none")
    with pytest.raises(BadInput, match=f"--{option}"):
        carry_out(ops, cluster, **{option: command})
    assert script.log == []


def test_facts_of_a_plan_without_source_and_target_are_empty_words() -> None:
    facts = execute.facts(replace(PLAN, source=None, target=None), "why")
    assert (facts["HAOPS_SOURCE"], facts["HAOPS_TARGET"]) == ("", "")
    assert all(isinstance(v, str) for v in facts.values())

"""Carrying plans out: what stands in the journal, what is put back, what the operator is told."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from haops.cluster.snapshot import Verdict
from haops.cluster.spec import Cluster
from haops.control import execute
from haops.control.execute import Operations, StepProgress, operator
from haops.control.journal import Entry, Outcome
from haops.errors import Busy, EnvironmentTrouble, HaopsError, Interrupted
from haops.stores.plan import NotPlannable, StepFailed

from ...fakes import FakeRuntime
from .scripted import INTENT, PLAN, STEPS, Script, carry_out, last, leave_cut_off

EVERY_STEP = pytest.mark.parametrize("at", range(len(STEPS)), ids=[s.verb for s in STEPS])


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


def test_facts_of_a_plan_without_source_and_target_are_empty_words() -> None:
    facts = execute.facts(replace(PLAN, source=None, target=None), "why")
    assert (facts["HAOPS_SOURCE"], facts["HAOPS_TARGET"]) == ("", "")
    assert all(isinstance(v, str) for v in facts.values())

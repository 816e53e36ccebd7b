"""Carrying plans out with an operator's own commands before and after."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from haops.cluster.spec import Cluster
from haops.control.execute import Operations
from haops.control.hooks import Vetoed
from haops.control.journal import Outcome
from haops.errors import BadInput
from haops.stores.plan import StepFailed

from .scripted import STEPS, Script, carry_out, last


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

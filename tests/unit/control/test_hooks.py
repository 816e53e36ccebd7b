"""An operator's own commands: a veto, a word afterwards, and no shell."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.control import hooks
from haops.control.hooks import Vetoed, ask, tell, words
from haops.errors import BadInput

FACTS = {"HAOPS_CLUSTER": "redis", "HAOPS_REASON": "$(touch x); `touch x`"}


def python(code: str) -> str:
    return f'{sys.executable} -c "{code}"'


def test_a_command_that_ends_with_0_lets_the_operation_go_on() -> None:
    ask("true", FACTS)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("false", "exit code 1"),
        (python("import sys; sys.exit(42)"), "exit code 42"),
        (python("import os; os.kill(os.getpid(), 9)"), "exit code -9"),
        ("/nonexistent/command", "No such file or directory"),
        ("/", "Permission denied"),
    ],
)
def test_any_other_ending_is_a_veto_that_says_why(command: str, why: str) -> None:
    with pytest.raises(Vetoed) as caught:
        ask(command, FACTS)
    assert why in caught.value.message
    assert repr(command) in caught.value.message
    assert caught.value.hint == "nothing was changed"


def test_a_veto_carries_the_commands_own_words() -> None:
    with pytest.raises(Vetoed) as caught:
        ask(python("import sys; print('not on a Friday'); sys.exit('nor on a Monday')"), FACTS)
    assert set(str(caught.value.detail).splitlines()) == {"not on a Friday", "nor on a Monday"}


def test_a_command_without_an_end_is_killed_and_a_veto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "HOOK_S", 0.2)
    with pytest.raises(Vetoed, match=r"no end after 0\.2 s"):
        ask("sleep 60", FACTS)
    assert tell("sleep 60", FACTS) == "'sleep 60': no end after 0.2 s"


def test_a_command_finds_facts_beside_its_own_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MINE", "still here")
    out = tmp_path / "out"
    keys = "('HAOPS_CLUSTER', 'HAOPS_REASON', 'MINE')"
    ask(python(f"import os; open('{out}', 'w').write('|'.join(os.environ[k] for k in {keys}))"), FACTS)
    assert out.read_text() == "redis|$(touch x); `touch x`|still here"


def test_no_shell_reads_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("true ; touch x", "true && touch x", "true $(touch x)", "true `touch x`", "true > x"):
        ask(command, FACTS)
        assert tell(command, FACTS) is None
    assert list(tmp_path.iterdir()) == []


def test_a_command_reads_nothing_from_the_terminal() -> None:
    ask(python("import sys; assert sys.stdin.read() == ''"), FACTS)


def test_output_that_is_no_text_is_no_trouble() -> None:
    with pytest.raises(Vetoed):
        ask(python(r"import sys; sys.stdout.buffer.write(bytes([255, 254])); sys.exit(1)"), FACTS)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_words_that_were_quoted_for_a_shell_come_out_as_they_were(wanted: list[str]) -> None:
    import shlex

    assert words(shlex.join(wanted), "--before") == wanted


@pytest.mark.parametrize("command", ["", "   ", "'", 'echo "x', "echo \\"])
@pytest.mark.parametrize("option", ["--before", "--after"])
def test_what_cannot_be_read_is_bad_input_that_names_the_option(command: str, option: str) -> None:
    with pytest.raises(BadInput) as caught:
        words(command, option)
    assert option in caught.value.message
    assert caught.value.hint


def test_what_goes_wrong_afterwards_is_told_and_not_raised() -> None:
    assert tell("true", FACTS) is None
    assert tell("false", FACTS) == "'false': exit code 1"
    assert tell("/nonexistent/command", FACTS) == "'/nonexistent/command': No such file or directory"

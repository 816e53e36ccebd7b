from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
import typer

from haops import __version__
from haops.cli.main import app
from haops.cluster.state import StateDir
from haops.control.lifecycle import Lifecycle

from ...fakes import make_cluster
from .conftest import Run


def commands(group: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    """Every command's path below the program's name."""
    if hasattr(group, "commands"):
        for name, command in group.commands.items():
            yield from commands(command, *path, name)
    else:
        yield path


ALL = sorted(commands(typer.main.get_command(app)))


def test_all_documented_commands_are_there() -> None:
    names = {" ".join(path) for path in ALL}
    assert {"up", "ls", "status", "down", "gc", "heal", "doctor"} <= names
    assert {"drill list", "drill show", "drill run", "images list", "images build", "images check"} <= names


def test_the_version_is_printed_on_stdout(run: Run) -> None:
    ended = run("--version")
    assert (ended.code, ended.out, ended.err) == (0, f"haops {__version__}\n", "")


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_commands_and_exit_codes(run: Run, flag: str) -> None:
    ended = run(flag)
    assert ended.code == 0
    assert "70 bug" in " ".join(ended.out.split())
    assert all(path[0] in ended.out for path in ALL)


def test_without_arguments_help_is_shown(run: Run) -> None:
    assert "Usage" in run().out + run().err


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_commands_help_has_an_example(run: Run, path: tuple[str, ...]) -> None:
    ended = run(*path, "--help")
    assert ended.code == 0
    assert "Example" in ended.out
    assert f"haops {' '.join(path)}" in " ".join(ended.out.split())


def test_an_unknown_command_or_option_is_a_usage_error(run: Run) -> None:
    for arguments in (["nope"], ["up", "redis", "--nope"], ["up"], ["status", "-o", "xml"]):
        ended = run(*arguments)
        assert ended.code == 2, arguments
        assert ended.err
        assert ended.out == ""


def test_an_expected_failure_is_a_message_with_a_hint_and_no_traceback(run: Run) -> None:
    ended = run("up", "mongo")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "haops: unknown store 'mongo'\nhint: allowed: redis, zookeeper, cassandra, all\n"


def test_debug_shows_a_traceback_with_the_message(run: Run) -> None:
    ended = run("--debug", "up", "mongo")
    assert ended.code == 2
    assert "Traceback (most recent call last)" in ended.err
    assert ended.err.endswith(
        "haops: unknown store 'mongo'\nhint: allowed: redis, zookeeper, cassandra, all\n"
    )


def test_debug_can_be_asked_for_by_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAOPS_DEBUG", "1")
    assert "Traceback" in run("up", "mongo").err


@pytest.mark.parametrize("value", ["0", "false"])
def test_debug_that_is_switched_off_in_the_environment_is_off(
    run: Run, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("HAOPS_DEBUG", value)
    assert "Traceback" not in run("up", "mongo").err


def test_a_bug_is_called_a_bug_without_a_traceback(
    run: Run, fake: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> tuple[str, ...]:
        raise RuntimeError("oh")

    monkeypatch.setattr(StateDir, "names", broken)
    ended = run("ls")
    assert ended.code == 70
    assert ended.err.startswith("haops: RuntimeError: oh\n")
    assert "this is a bug in haops" in ended.err
    assert "Traceback" not in ended.err


def test_ctrl_c_ends_with_130_and_no_traceback(
    run: Run, fake: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: object) -> tuple[str, ...]:
        raise KeyboardInterrupt

    monkeypatch.setattr(StateDir, "names", interrupted)
    ended = run("ls")
    assert ended.code == 130
    assert "Traceback" not in ended.err


def test_a_request_to_end_ends_like_ctrl_c(
    run: Run, fake: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(_: object) -> tuple[str, ...]:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal must have come first")

    monkeypatch.setattr(StateDir, "names", asked)
    assert run("ls").code == 130


# ---- without an engine


ENGINE_COMMANDS = (["up", "redis"], ["gc"], ["drill", "run", "kill-primary"], ["down", "redis"])


@pytest.mark.parametrize("arguments", ENGINE_COMMANDS, ids=" ".join)
def test_without_an_engine_a_command_ends_with_3_and_the_way_to_one(
    run: Run, no_engine: None, arguments: list[str]
) -> None:
    ended = run(*arguments)
    assert ended.code == 3
    assert ended.err.startswith("haops: no container engine answers\n")
    assert "hint: " in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""


def test_without_an_engine_status_of_a_recorded_cluster_ends_with_3(run: Run, no_engine: None) -> None:
    StateDir().save(make_cluster())
    assert run("status").code == 3


def test_a_socket_that_is_not_there_is_no_engine() -> None:
    code = "from haops.cli.main import main; main()"
    environment = os.environ | {"DOCKER_HOST": "unix:///nonexistent"}
    ended = subprocess.run(
        [sys.executable, "-c", code, "gc"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "no container engine answers" in ended.stderr
    assert "Traceback" not in ended.stderr

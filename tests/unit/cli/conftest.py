"""Running the command line in this process, as the entry point does."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from haops.cli import main as entry
from haops.cluster.state import StateDir
from haops.control.execute import Operations
from haops.control.lifecycle import Lifecycle

from ...fakes import FakeClock, FakeRuntime


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs `haops` with arguments, through the real entry point."""
    monkeypatch.delenv("HAOPS_DEBUG", raising=False)
    handler = signal.getsignal(signal.SIGTERM)

    def invoke(*arguments: str) -> Ended:
        monkeypatch.setattr("sys.argv", ["haops", *arguments])
        monkeypatch.setattr(entry, "_tracebacks", [])  # as in a process of its own
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            entry.main()
        said = capsys.readouterr()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0, said.out, said.err)

    yield invoke
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def fake(runtime: FakeRuntime, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Lifecycle:
    """Commands work with an engine in memory."""
    made = Lifecycle(StateDir(), runtime, lambda store, image: image or f"haops/{store}:test", clock.clock)
    for module in ("cluster", "drill", "doctor"):
        monkeypatch.setattr(f"haops.cli.{module}.lifecycle", lambda: made)
    for module in ("cluster", "operate", "guard"):
        monkeypatch.setattr(f"haops.cli.{module}.operations", lambda: Operations(made))
    return made


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch, closed_ports: Callable[[int], list[int]]) -> None:
    """An engine's address where nobody answers."""
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{closed_ports(1)[0]}")

"""Fixtures of all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from haops.cluster.state import StateDir
from haops.control.lifecycle import Lifecycle

from . import fakes

# A machine that runs containers beside the tests is slow now and then; pytest-timeout bounds a test.
settings.register_profile("haops", deadline=None, max_examples=60)
settings.load_profile("haops")


@pytest.fixture(autouse=True)
def own_state(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No unit test writes into the state directory of whoever runs it."""
    if not request.node.get_closest_marker("live"):
        monkeypatch.setenv("HAOPS_STATE", str(tmp_path_factory.mktemp("state")))


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """An empty state directory."""
    return StateDir(tmp_path / "state")


@pytest.fixture
def runtime() -> fakes.FakeRuntime:
    """An empty engine in memory."""
    return fakes.FakeRuntime()


@pytest.fixture
def clock() -> fakes.FakeClock:
    """Time that moves only by sleeping."""
    return fakes.FakeClock()


@pytest.fixture
def haops(state: StateDir, runtime: fakes.FakeRuntime, clock: fakes.FakeClock) -> Lifecycle:
    """The verbs over fakes."""
    return Lifecycle(state, runtime, lambda store, image: image or f"haops/{store}:test", clock.clock)


@pytest.fixture
def closed_ports() -> Iterator[Callable[[int], list[int]]]:
    """Makes ports on loopback that refuse connections until the test ends."""
    with ExitStack() as stack:
        yield lambda count: stack.enter_context(fakes.held_ports(count))

"""Commands in containers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from haops.errors import EnvironmentTrouble
from haops.runtime import inside, labels


@dataclass
class Ran:
    exit_code: int
    output: bytes


@dataclass
class Handle:
    """A container that answers, refuses, or is frozen until it is released."""

    refusal: Exception | None = None
    frozen: bool = False
    released: threading.Event = field(default_factory=threading.Event)
    labels: dict[str, str] = field(default_factory=lambda: {labels.NODE: "redis-2"})

    def exec_run(self, argv: list[str]) -> Ran:
        if self.refusal:
            raise self.refusal
        if self.frozen:
            self.released.wait(10)
        return Ran(3, " ".join(argv).encode())


@pytest.fixture
def frozen() -> Iterator[Handle]:
    handle = Handle(frozen=True)
    yield handle
    handle.released.set()


def test_a_commands_code_and_words_come_back() -> None:
    assert inside.run(Handle(), ("cat", "x")) == (3, b"cat x")


def test_what_the_engine_refuses_is_raised_where_it_was_asked() -> None:
    with pytest.raises(LookupError, match="no such container"):
        inside.run(Handle(LookupError("no such container")), ["true"])


def test_a_command_in_a_frozen_container_is_given_up_and_named(frozen: Handle) -> None:
    with pytest.raises(EnvironmentTrouble, match=r"not done in 0\.05 s\nsleep 'a while'") as caught:
        inside.run(frozen, ["sleep", "a while"], deadline_s=0.05)
    assert caught.value.node == "redis-2"

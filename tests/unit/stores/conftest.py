"""A Redis set in memory, and a time that does not wait where only silence is to come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from haops.stores.redis.links import Command, Link, Links

from ...fake_redis import FakeSet, serve_set

_LOOK_S = 0.05


class LinkTime:
    """Time as links to a fake set see it.

    Who answers late is waited for in real time. Once nobody but the silent is waited for, no answer
    can come any more: then each look at the clock moves it by 50 ms, and a wait for one answer is over.
    """

    def __init__(self, group: FakeSet) -> None:
        self._group = group
        self._asked: set[str] = set()
        self._passed = 0.0

    def monotonic(self) -> float:
        """Real seconds, and those that were not waited for."""
        if self._asked and all(self._group.members[name].swallowed for name in self._asked):
            self._passed += _LOOK_S
        return time.monotonic() + self._passed

    def sent(self, name: str) -> None:
        """A command is on its way."""
        self._group.members[name].swallowed = False
        self._asked.add(name)

    def received(self, name: str) -> None:
        """Its answer came, or none is waited for any more."""
        self._asked.discard(name)

    def wait(self, link: Link, within_s: float) -> float:
        """Until an answer can be read or none will come; the seconds that are left for it."""
        end = time.monotonic() + within_s
        while (left := end - time.monotonic()) > 0 and not link.ready():
            if self._group.members[link.name].swallowed:
                self._passed += left
                return 0
        return left


@pytest.fixture
def group() -> Iterator[FakeSet]:
    """Three servers and three Sentinels."""
    with serve_set() as made:
        yield made


@pytest.fixture
def link_time(group: FakeSet, monkeypatch: pytest.MonkeyPatch) -> LinkTime:
    """Links to the set live in its own time."""
    made = LinkTime(group)
    send, receive = Link.send, Link.receive

    def send_noted(self: Link, command: Command) -> None:
        made.sent(self.name)
        try:
            send(self, command)
        except BaseException:
            made.received(self.name)
            raise

    def receive_noted(self: Link, within_s: float) -> Any:
        try:
            return receive(self, made.wait(self, within_s))
        finally:
            made.received(self.name)

    monkeypatch.setattr(Link, "send", send_noted)
    monkeypatch.setattr(Link, "receive", receive_noted)
    monkeypatch.setattr("haops.stores.redis.links.time", SimpleNamespace(monotonic=made.monotonic))
    return made


@pytest.fixture
def links(group: FakeSet, link_time: LinkTime) -> Iterator[Links]:
    """Open links to all of them."""
    made = Links(group.cluster.nodes, 0.5)
    yield made
    made.close()

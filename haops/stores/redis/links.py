"""Connections for commands whose order and timing matter: to several nodes at once, none waits for another.

A client of redis-py asks one server and waits. During a switchover every
millisecond of that waiting is an outage, and one frozen Sentinel must not hold
up the others.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from redis.connection import Connection
from redis.exceptions import RedisError, ResponseError

from haops.cluster.spec import Node
from haops.parallel import ask_all
from haops.stores.plan import StepFailed
from haops.stores.redis.connect import no_retry

Command = Sequence[str | int]
_RESP2: Final = 2
_GLANCE_S: Final = 0.0005


class Link:
    """One connection to one node; lost for good once it fails, until `reopen`."""

    def __init__(self, node: Node, timeout_s: float) -> None:
        self.node = node
        self._timeout_s = timeout_s
        self._connection: Connection | None = None

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

    @property
    def usable(self) -> bool:
        """Whether it was opened and has not failed since."""
        return self._connection is not None

    def reopen(self) -> bool:
        """Connect anew; whether that worked."""
        self.close()
        connection = Connection(  # type: ignore[no-untyped-call]
            host=self.node.host,
            port=self.node.host_port,
            socket_timeout=self._timeout_s,
            socket_connect_timeout=self._timeout_s,
            retry=no_retry(),
            decode_responses=True,
            protocol=_RESP2,  # no greeting to wait for
            driver_info=None,
        )
        try:
            connection.connect()  # type: ignore[no-untyped-call]
        except (RedisError, OSError):
            return False
        self._connection = connection
        return True

    def send(self, command: Command) -> None:
        """Send without waiting. Raises RedisError or OSError."""
        if self._connection is None:
            raise StepFailed("no connection", node=self.name)
        try:
            self._connection.send_command(*command, check_health=False)  # type: ignore[no-untyped-call]
        except BaseException:
            self.close()
            raise

    def ready(self) -> bool:
        """Whether an answer, or the end of the connection, can be read; waits half a millisecond for it."""
        try:
            return self._connection is None or bool(self._connection.can_read(_GLANCE_S))
        except (RedisError, OSError):
            return True  # reading it will tell

    def receive(self, within_s: float) -> Any:
        """The answer to what was sent first. Raises RedisError or OSError."""
        if self._connection is None:
            raise StepFailed("no connection", node=self.name)
        try:
            return self._connection.read_response(timeout=max(within_s, _GLANCE_S))
        except (RedisError, OSError) as error:
            # A refusal leaves the connection in order; anything else leaves an answer under way.
            if not isinstance(error, ResponseError):
                self.close()
            raise

    def ask(self, *command: str | int) -> Any:
        """One command, one answer.

        Raises:
            StepFailed: There is none, or the server refused; with its own words.
        """
        try:
            self.send(command)
            return self.receive(self._timeout_s)
        except (RedisError, OSError) as error:
            raise StepFailed(f"{command[0]} failed", node=self.name, detail=str(error)) from error

    def close(self) -> None:
        """Let the connection go."""
        if self._connection is not None:
            with contextlib.suppress(RedisError, OSError):
                self._connection.disconnect()  # type: ignore[no-untyped-call]
            self._connection = None


class Links:
    """The links of one cluster, by node name.

    Args:
        closed: A node that is known to be gone, and not worth the wait.
    """

    def __init__(self, nodes: Iterable[Node], timeout_s: float, closed: str | None = None) -> None:
        self._links = {n.name: Link(n, timeout_s) for n in nodes}
        ask_all(Link.reopen, [link for name, link in self._links.items() if name != closed])

    def __getitem__(self, name: str) -> Link:
        return self._links[name]

    def usable(self, names: Iterable[str] | None = None) -> list[Link]:
        """The links that stand, of `names` or of all."""
        wanted = self._links.keys() if names is None else names
        return [self._links[name] for name in wanted if self._links[name].usable]

    def revive(self) -> None:
        """Try the lost ones again."""
        ask_all(Link.reopen, [link for link in self._links.values() if not link.usable])

    def close(self) -> None:
        """Close all."""
        for link in self._links.values():
            link.close()


def ask_each(
    commands: Mapping[str, Command],
    links: Links,
    within_s: float,
    *,
    enough: int | None = None,
    longest_s: float = 0.0,
) -> dict[str, Any]:
    """Send every node its command, then collect: an answer, or the error that came instead.

    The whole takes `within_s` seconds at most; who is silent until then loses the
    connection, so that the next round does not wait for it again.

    Args:
        enough: Good answers without which it is worth waiting on, up to `longest_s` seconds.
    """
    started = time.monotonic()
    end = started + within_s
    answers: dict[str, Any] = {}
    waiting = []
    for name, command in commands.items():
        try:
            links[name].send(command)
            waiting.append(links[name])
        except (RedisError, OSError, StepFailed) as error:
            answers[name] = error
    while waiting:
        over = time.monotonic() >= end
        if over and enough is not None and len(good(answers)) < enough:
            over = time.monotonic() >= started + longest_s
        # Who has answered is heard first: one that is silent to the end must not use up the others' time.
        for link in [each for each in waiting if over or each.ready()]:
            waiting.remove(link)
            try:
                answers[link.name] = link.receive(end - time.monotonic())
            except (RedisError, OSError, StepFailed) as error:
                answers[link.name] = error
    return answers


def good(answers: Mapping[str, Any]) -> dict[str, Any]:
    """The answers that are no errors."""
    return {name: answer for name, answer in answers.items() if not isinstance(answer, Exception)}

"""Standing in as a primary, for a replica that is a few lines long."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from haops.stores.backup import RestoreFailed
from haops.stores.redis.standin import StandIn
from haops.stores.redis.wire import pack

HOST = "127.0.0.1"


class Replica(threading.Thread):
    """Shakes hands as a server does, then takes what comes until the other side hangs up."""

    def __init__(self, port: int, *, leaves_after: int | None = None) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._leaves_after = leaves_after
        self.said: list[bytes] = []
        self.taken = b""

    def run(self) -> None:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self._port), 5) as link:
            steps = (
                ("PING",),
                ("REPLCONF", "listening-port", 6379),
                ("REPLCONF", "capa", "eof", "capa", "psync2"),
            )
            for words in steps:
                link.sendall(pack(*words))
                self.said.append(link.recv(100))
            link.sendall(pack("PSYNC", "?", -1))
            while data := link.recv(65536):
                self.taken += data
                if self._leaves_after is not None and len(self.taken) > self._leaves_after:
                    return


def test_a_replica_gets_the_dump_and_the_commands_after_it() -> None:
    standin = StandIn(HOST, HOST, call_s=5)
    replica = Replica(standin.port)
    replica.start()
    standin.accept()
    assert list(standin.snapshot(6, [b"RED", b"IS!"])) == [3, 6]
    standin.commands(pack("SET", "k", 1))
    assert standin.streamed == len(pack("SET", "k", 1))
    assert not standin.lost()
    standin.close()
    replica.join(5)
    assert replica.said == [b"+PONG\r\n", b"+OK\r\n", b"+OK\r\n"]
    resync, rest = replica.taken.split(b"\r\n", 1)
    word, history, offset = resync.split()
    assert (word, len(history), offset) == (b"+FULLRESYNC", 40, b"0")
    assert rest == b"$6\r\nREDIS!" + pack("SET", "k", 1)


def test_nobody_but_the_server_itself_is_answered() -> None:
    standin = StandIn(HOST, "10.9.9.9", call_s=0.3)
    replica = Replica(standin.port)
    replica.start()
    with pytest.raises(RestoreFailed, match="did not call"):
        standin.accept()
    replica.join(5)
    assert replica.taken == b""
    assert b"".join(replica.said) == b""
    standin.close()


def test_callers_that_come_and_go_do_not_put_the_end_off() -> None:
    standin = StandIn(HOST, "10.9.9.9", call_s=0.3)
    over = threading.Event()

    def call() -> None:
        while not over.wait(0.05):
            with contextlib.suppress(OSError):
                socket.create_connection((HOST, standin.port), 1).close()

    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    began = time.monotonic()
    with pytest.raises(RestoreFailed, match="did not call"):
        standin.accept()
    assert time.monotonic() - began < 2
    over.set()
    caller.join(5)
    standin.close()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (b"PING\r\n\x00", "Protocol error"),
        (b"*0\r\n", "no command"),
        (b"*1\r\n:5\r\n", "no command"),
        (b"*1\r\n$4\r\nPI", "timed out"),
        (b"*1\r\n$4\r\nPING\r\n" * 3, "timed out"),
    ],
)
def test_a_server_that_says_something_else_is_told_from_one_that_asks_to_be_filled(
    words: bytes, says: str
) -> None:
    standin = StandIn(HOST, HOST, call_s=0.3)
    with socket.create_connection((HOST, standin.port), 5) as link:
        link.sendall(words)
        with pytest.raises(RestoreFailed, match="did not call") as caught:
            standin.accept()
    assert says in str(caught.value.detail)
    standin.close()


def test_a_dump_of_another_size_than_announced_is_not_called_done() -> None:
    standin = StandIn(HOST, HOST, call_s=5)
    Replica(standin.port).start()
    standin.accept()
    with pytest.raises(RestoreFailed, match="3 bytes, not 6"):
        list(standin.snapshot(6, [b"RED"]))
    standin.close()


def test_a_server_that_goes_away_in_the_middle_is_noticed() -> None:
    standin = StandIn(HOST, HOST, call_s=5)
    replica = Replica(standin.port, leaves_after=1000)
    replica.start()
    standin.accept()
    with pytest.raises(RestoreFailed, match="broke off"):
        list(standin.snapshot(1 << 30, (bytes(1 << 20) for _ in range(1 << 10))))
    replica.join(5)
    assert standin.lost()
    standin.close()

"""Taking a dump over the wire, putting keys into a server, and which server is chosen."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anycrc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.loans import Loans
from haops.cluster.spec import Cluster, Node, NodeKind
from haops.stores.backup import BackupFailed, BackupTools, BackupWish, RestoreFailed
from haops.stores.redis import backup, keywise
from haops.stores.redis.borrow import Borrowed
from haops.stores.redis.dump import Checked, take
from haops.stores.redis.keyspace import pattern
from haops.stores.redis.keywise import Passed, command, payload, put
from haops.stores.redis.log import KeptLog
from haops.stores.redis.rdb import Entry, Rdb
from haops.stores.redis.restore import caught_up, newest_readable, on_disk
from haops.stores.redis.servers import ServerView
from haops.stores.redis.who import Choice, choose
from haops.stores.redis.wire import Wire, pack
from haops.wait import Clock
from tests.fakes import make_cluster
from tests.unit.stores.redis.fake_server import FakeServer, cluster_of

MARK = b"0123456789" * 4


def dump(body: bytes = b"some keys") -> bytes:
    start = b"REDIS0012" + body + b"\xff"
    return start + int(anycrc.Model("CRC64-REDIS").calc(start)).to_bytes(8, "little")


Serve = Callable[[socket.socket], None]


@contextmanager
def wired(serve: Serve, failure: type[BackupFailed | RestoreFailed] = BackupFailed) -> Iterator[Wire]:
    """A wire to a server that is one function."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        link, _ = listener.accept()
        with link:
            serve(link)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    node = Node("redis-2", NodeKind.SERVER, 2, "10.0.0.2", 6379, listener.getsockname()[1])
    wire = Wire(node, 5.0, failure)
    try:
        yield wire
    finally:
        wire.close()
        thread.join(5)
        listener.close()


def sends(*pieces: bytes) -> Serve:
    """Takes the two REPLCONF and SYNC, then sends."""

    def serve(link: socket.socket) -> None:
        heard = b""
        for name in (b"capa", b"rdb-only"):
            while name not in heard:
                heard += link.recv(1000)
            link.sendall(b"+OK\r\n")
        while b"SYNC" not in heard:
            heard += link.recv(1000)
        for piece in pieces:
            link.sendall(piece)

    return serve


def taken(*pieces: bytes) -> bytes:
    with wired(sends(*pieces)) as wire:
        return b"".join(take(wire))


def test_a_dump_of_known_length_comes_whole_after_signs_of_life() -> None:
    whole = dump()
    assert taken(b"\n", b"\n", b"$%d\r\n" % len(whole), whole) == whole


@pytest.mark.parametrize("at", [1, 12, 20, 45])
def test_a_dump_that_ends_with_a_mark_comes_without_it(at: int) -> None:
    whole = dump(bytes(100))
    stream = b"\n$EOF:" + MARK + b"\r\n" + whole + MARK
    assert taken(stream[:-at], stream[-at:]) == whole


def test_a_flipped_bit_is_found() -> None:
    whole = bytearray(dump())
    whole[12] ^= 1
    with pytest.raises(BackupFailed, match="checksum"):
        taken(b"$%d\r\n" % len(whole), bytes(whole))


def test_a_server_that_hangs_up_in_the_middle_is_told() -> None:
    whole = dump()
    with pytest.raises(BackupFailed, match="closed"):
        taken(b"$%d\r\n" % len(whole), whole[:-3])
    with pytest.raises(BackupFailed, match="closed"):
        taken(b"$EOF:" + MARK + b"\r\n" + whole + MARK[:-1])


def test_a_refusal_is_told_in_the_servers_words() -> None:
    with pytest.raises(BackupFailed) as caught:
        taken(b"-NOMASTERLINK Can't SYNC while not connected with my master\r\n")
    assert "NOMASTERLINK" in str(caught.value)


@given(st.binary(min_size=1, max_size=200), st.integers(1, 50), st.data())
def test_the_checksum_is_the_same_however_the_bytes_come(body: bytes, size: int, data: st.DataObject) -> None:
    whole = dump(body)
    checked = Checked()
    for at in range(0, len(whole), size):
        checked.add(whole[at : at + size])
    checked.finish()
    broken = bytearray(whole)
    broken[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    again = Checked()
    again.add(bytes(broken))
    with pytest.raises(BackupFailed):
        again.finish()


@given(st.binary(min_size=1, max_size=100), st.integers(1, 20))
def test_a_dump_that_is_cut_off_is_never_whole(body: bytes, less: int) -> None:
    whole = dump(body)
    checked = Checked()
    checked.add(whole[: max(len(whole) - less, 0)])
    with pytest.raises(BackupFailed):
        checked.finish()


def test_a_server_that_writes_no_checksums_is_believed() -> None:
    checked = Checked()
    checked.add(dump()[:-8] + bytes(8))
    checked.finish()


def test_plain_strings_go_by_set_and_everything_else_by_its_payload() -> None:
    assert command(Entry(0, b"k", 0, b"\x03abc", 0), 12) == pack("SET", "k", "abc")
    assert command(Entry(0, b"k", 0, b"\x40\x41" + b"v" * 65, 7), 12) == pack("SET", "k", "v" * 65, "PXAT", 7)
    dumped = payload(0, b"\xc0\x05", 12)
    assert dumped[:2] + dumped[2:5] == b"\x00\xc0\x05\x0c\x00"
    wanted = pack("RESTORE", "k", 9, dumped, "REPLACE", "ABSTTL")
    assert command(Entry(0, b"k", 0, b"\xc0\x05", 9), 12) == wanted


def test_a_payload_is_what_the_server_itself_makes() -> None:
    made = bytes.fromhex("0005706c61696e0c00b18855966d410baa")  # DUMP of `plain`, Redis 8.0.2
    assert payload(0, made[1:-10], 12) == made


class Keys:
    """Counts what comes; refuses what it is told to."""

    def __init__(self, *refusals: bytes) -> None:
        self._refusals = list(refusals)
        self.sent = b""

    def __call__(self, link: socket.socket) -> None:
        while data := link.recv(1 << 20):
            self.sent += data
            count = (
                data.count(b"*3\r\n$3\r\nSET")
                + data.count(b"SELECT")
                + data.count(b"LOAD")
                + data.count(b"*5\r\n$3\r\nSET")
            )
            for _ in range(count):
                link.sendall(self._refusals.pop(0) if self._refusals else b"+OK\r\n")


def keys(only: bytes) -> Rdb:
    def one(name: bytes, expires: int = 0) -> bytes:
        before = b"\xfc" + expires.to_bytes(8, "little") if expires else b""
        return before + b"\x00" + bytes([len(name)]) + name + b"\x01v"

    parts = one(b"a:1") + one(b"b:1") + one(b"a:2", expires=1) + b"\xfe\x03" + one(b"a:3", expires=2**42)
    return Rdb([b"REDIS0012\xfe\x00" + parts + b"\xff" + bytes(8)], only)


def put_into(server: Keys, only: bytes = b"", skip: int = 0) -> list[Passed]:
    clock = Clock(sleep=lambda _: None)
    with wired(server, RestoreFailed) as wire:
        return list(put(keys(only), wire, skip, libraries=not only, clock=clock))


def test_a_prefix_is_put_with_its_databases_and_without_what_is_over() -> None:
    server = Keys()
    passed = put_into(server, b"a:")
    first = pack("SELECT", 0) + pack("SET", "a:1", "v")
    assert server.sent == first + pack("SELECT", 3) + pack("SET", "a:3", "v", "PXAT", 2**42)
    assert passed[-1].keys == 3


def test_a_batch_that_begins_with_a_library_selects_the_database_as_well() -> None:
    server = Keys(b"$1\r\nL\r\n")
    library = b"\xf5\x03lua"
    one = b"\x00\x01k\x01v"
    rdb = Rdb([b"REDIS0012" + library + b"\xfe\x02" + one + b"\xff" + bytes(8)], b"")
    with wired(server, RestoreFailed) as wire:
        list(put(rdb, wire, 0, libraries=True))
    assert server.sent == pack("FUNCTION", "LOAD", "REPLACE", "lua") + pack("SELECT", 2) + pack(
        "SET", "k", "v"
    )


def test_each_batch_selects_its_database_for_it_may_be_sent_again_after_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keywise, "_BATCH", 1)
    server = Keys()
    put_into(server)
    assert server.sent.count(pack("SELECT", 0)) == 2
    assert server.sent.count(pack("SELECT", 3)) == 1


def test_a_server_is_told_to_wait_longer_while_its_dump_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FakeServer(settings={"repl-timeout": "10", "repl-diskless-sync-delay": "5"})
    during: list[str] = []

    def read(_: Wire) -> Iterator[bytes]:
        during.extend(server.settings.values())
        yield dump()

    monkeypatch.setattr(backup, "take", read)
    monkeypatch.setattr(backup, "to_read", lambda c, *_: Choice(c.node("redis-2"), 0, False))
    with cluster_of(make_cluster("redis"), {"redis-2": server}) as cluster:
        tools = BackupTools(None, Loans(tmp_path))  # type: ignore[arg-type]
        with backup.source(cluster, tools, BackupWish("b")) as source:
            list(source.read(source.parts()[0]))
    assert during == ["120", "0"]
    assert server.settings == {"repl-timeout": "10", "repl-diskless-sync-delay": "5"}


def test_the_kept_files_of_each_backup_are_on_record(tmp_path: Path) -> None:
    class Runs:
        def execute(self, cluster: Cluster, node: str, argv: Sequence[str]) -> tuple[int, str]:
            return (0, "file base.rdb seq 1 type b\n") if argv[0] == "cat" else (0, "")

        def files(self, cluster: Cluster, node: str, folder: str) -> list[object]:
            return []

    server = FakeServer(
        settings={"appenddirname": "aof", "appendfilename": "log"}, says={"TIME": lambda _: ["1", "2"]}
    )
    loans, runtime = Loans(tmp_path), Runs()
    with cluster_of(make_cluster("redis"), {"redis-2": server}) as cluster:
        node = cluster.node("redis-2")
        borrowed = Borrowed(cluster, runtime, loans, BackupFailed)  # type: ignore[arg-type]
        wire = Wire(node, 2.0, BackupFailed)
        for name in ("one", "two"):
            KeptLog(cluster, runtime, node, name)._link(wire, borrowed, "/data/")  # type: ignore[arg-type]
        wire.close()
    assert [loan.was for loan in loans.open()] == ["/data/haops-one", "/data/haops-two"]


def test_a_restore_goes_on_behind_the_keys_that_are_done() -> None:
    server = Keys()
    put_into(server, skip=1)
    assert b"a:1" not in server.sent
    assert b"b:1" in server.sent


def test_a_primary_that_waits_for_its_replicas_is_waited_for() -> None:
    server = Keys(b"+OK\r\n", b"-NOREPLICAS Not enough good replicas to write.\r\n")
    assert put_into(server)[-1].keys == 4
    assert server.sent.count(b"b:1") == 2


def test_another_refusal_ends_the_restore_in_the_servers_words() -> None:
    with pytest.raises(RestoreFailed, match="OOM"):
        put_into(Keys(b"+OK\r\n", b"-OOM command not allowed\r\n"))


def view(offset: int, *, primary: bool = False, up: bool = True) -> ServerView:
    return ServerView(primary, offset, "h", "0" * 40, -1, None if primary else ("10.0.0.1", 6379), up, 2)


def test_the_replica_with_the_least_lag_is_read_and_the_primary_only_without_one() -> None:
    cluster = make_cluster("redis")
    views = {"redis-1": view(100, primary=True), "redis-2": view(80), "redis-3": view(95)}
    found = choose(cluster, views, None, BackupFailed)
    assert (found.node.name, found.behind, found.is_primary) == ("redis-3", 5, False)
    views = {"redis-1": view(100, primary=True), "redis-2": view(100, up=False)}
    assert choose(cluster, views, None, BackupFailed).is_primary
    assert choose(cluster, views, "redis-1", BackupFailed).node.name == "redis-1"
    with pytest.raises(BackupFailed, match="in sync"):
        choose(cluster, views, "redis-2", BackupFailed)


@pytest.mark.parametrize(
    ("server", "reads"),
    [("8.0.2", 12), ("7.4.1", 12), ("7.2.5", 11), ("7.0.15", 10), ("6.2.7", 9), ("8.4.0", 13), ("3.2.1", 8)],
)
def test_which_rdb_a_server_reads(server: str, reads: int) -> None:
    assert newest_readable(server) == reads


def test_a_restore_is_done_only_when_disk_and_replicas_have_it() -> None:
    calm = {"aof_enabled": "1", "aof_rewrite_in_progress": "0", "aof_rewrite_scheduled": "0"}
    assert on_disk({**calm, "aof_last_bgrewrite_status": "ok"})
    assert not on_disk({**calm, "aof_last_bgrewrite_status": "err"})
    assert not on_disk({**calm, "aof_rewrite_in_progress": "1", "aof_last_bgrewrite_status": "ok"})
    assert on_disk({**calm, "aof_enabled": "0", "aof_last_bgrewrite_status": "err"})


def test_a_replica_that_is_online_but_has_acknowledged_nothing_does_not_count() -> None:
    told = {
        "role": "master",
        "slave0": "ip=1,port=1,state=online,offset=0,lag=0",
        "slave1": "ip=2,port=1,state=online,offset=90,lag=0",
        "slave2": "ip=3,port=1,state=wait_bgsave,offset=90,lag=0",
    }
    assert caught_up(told, 90) == 1
    assert caught_up(told, 91) == 0
    assert caught_up(told, 0) == 1


def test_a_prefix_with_special_characters_means_itself() -> None:
    assert pattern(b"a*[b]?\\") == b"a\\*\\[b\\]\\?\\\\*"

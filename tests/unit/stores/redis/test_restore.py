"""Restore: what is wiped, what a resumed one may believe, and what it refuses; against a server of a few lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.loans import Loans
from haops.cluster.spec import Cluster, Node, StoreName
from haops.errors import BadInput
from haops.stores.backup import BackupTools, Facts, Form, NotRestorable, Part, RestoreFailed, RestoreWish
from haops.stores.redis import marks, mend
from haops.stores.redis import restore as restore_module
from haops.stores.redis.aof import Manifest
from haops.stores.redis.compare import COMPARING
from haops.stores.redis.digest import name_of
from haops.stores.redis.marks import Marks, acknowledged, keys_done, mark_of
from haops.stores.redis.restore import FILL, KEYS, RedisRestorer
from haops.stores.redis.sides import BackupSide, CompareFailed
from haops.stores.redis.wire import Wire, pack
from haops.wait import Clock
from tests.fakes import make_cluster
from tests.unit.stores.redis.fake_server import FakeServer, Words, cluster_of
from tests.unit.stores.redis.test_standin import Replica

RUN, OTHER = "a" * 40, "b" * 40
ENTRIES = b"".join(b"\x00\x03k:%d\x01v" % number for number in range(6))
RDB = b"REDIS0012\xfe\x00" + ENTRIES + b"\xff" + bytes(8)
FACTS = Facts("8.0.2", "x:1", datetime(2026, 1, 1, tzinfo=UTC), details={"rdb-version": "12"})


@dataclass
class Saved:
    """A backup with six keys."""

    id: str = "b"
    store: StoreName = StoreName.REDIS
    facts: Facts = FACTS
    parts: tuple[Part, ...] = (Part("redis/dump.rdb", "redis-2", Form.PHYSICAL, len(RDB)),)
    data: Mapping[str, bytes] = field(default_factory=lambda: {"redis/dump.rdb": RDB})

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        yield self.data[name][start:]


class Door:
    """A runtime that has a way to this machine, or none."""

    def __init__(self, address: str | None) -> None:
        self._address = address

    def doorstep(self, cluster: Cluster) -> str | None:
        return self._address


def primary_server() -> FakeServer:
    return FakeServer(
        info={
            "redis_version": "8.0.2",
            "run_id": RUN,
            "loading": "0",
            "aof_enabled": "0",
            "role": "master",
            "master_repl_offset": "10",
            "slave0": "ip=1,port=1,state=online,offset=10,lag=0",
            "slave1": "ip=2,port=1,state=online,offset=10,lag=0",
            "db0": "keys=3,expires=0",
        },
        says={"ROLE": lambda _: ["master", 0, []], "FUNCTION": lambda _: []},
    )


Open = Callable[..., RedisRestorer]


@pytest.fixture
def server() -> FakeServer:
    return primary_server()


@pytest.fixture
def opened(server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    with cluster_of(make_cluster("redis"), {"redis-1": server}) as found:
        # A replica calls from its own address.
        nodes = [replace(n, address="127.0.0.1") if n.name == "redis-1" else n for n in found.servers]
        cluster = replace(found, nodes=tuple(nodes))
        monkeypatch.setattr(restore_module, "primary", lambda c, _: c.node("redis-1"))

        def restorer(
            door: str | None = "127.0.0.1", saved: Saved | None = None, **wish: Any
        ) -> RedisRestorer:
            tools = BackupTools(Door(door), Loans(tmp_path))  # type: ignore[arg-type]
            return RedisRestorer(cluster, tools, saved or Saved(), RestoreWish(**wish))

        yield restorer


def test_a_whole_load_is_not_preceded_by_a_flush(opened: Open, server: FakeServer) -> None:
    restorer = opened()
    assert restorer.stages()[0].name == FILL
    restorer.wipe()
    assert not server.told("FLUSHALL")
    assert not server.told("FUNCTION", "FLUSH")


def test_key_by_key_everything_is_flushed_before(opened: Open, server: FakeServer) -> None:
    restorer = opened(None)
    assert restorer.stages()[0].name == KEYS
    restorer.wipe()
    assert server.told("FLUSHALL")
    assert server.told("FUNCTION", "FLUSH")


def test_while_it_is_filled_a_server_waits_longer_than_usual(opened: Open, server: FakeServer) -> None:
    server.settings = {"repl-timeout": "10", "repl-diskless-load": "disabled"}
    during: list[str] = []
    told = server.info

    def replicaof(words: Words) -> str:
        if words[1:] == ["NO", "ONE"]:
            server.says["ROLE"] = lambda _: ["master", 0, []]
            return "OK"
        during.append(server.settings["repl-timeout"])
        told.update(role="slave", master_link_status="up", slave_repl_offset="0")
        server.says["ROLE"] = lambda _: ["slave", "192.0.2.1", 1, "connected", 0]
        Replica(int(words[2])).start()
        return "OK"

    server.says["REPLICAOF"] = replicaof
    restorer = opened()
    advances = list(restorer.perform(restorer.stages()[0], ""))
    assert advances[-1].done == len(RDB)
    restorer.end()
    assert during == ["120"]
    assert server.settings["repl-timeout"] == "10"


def test_commands_are_sent_only_when_the_base_is_loaded(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []

    class Sink:
        def snapshot(self, size: int, blocks: Iterator[bytes]) -> Iterator[int]:
            happened.append("base")
            yield len(b"".join(blocks))

        def commands(self, data: bytes) -> None:
            happened.append("commands")

    restorer = opened()
    archive = Saved(data={"redis/aof/base": RDB, "redis/aof/incr": pack("SET", "k", "v")})
    monkeypatch.setattr(restore_module, "_await_loaded", lambda *_: happened.append("loaded"))
    monkeypatch.setattr(restorer, "_archive", archive)
    monkeypatch.setattr(restorer, "_log", Manifest("base", ("incr",)))
    monkeypatch.setattr(restorer, "_wish", RestoreWish(at=datetime(2026, 1, 1, tzinfo=UTC)))
    monkeypatch.setattr(restorer, "_sizes", {n: len(d) for n, d in archive.data.items()})
    list(restorer._feed(Sink(), None))  # type: ignore[arg-type]
    assert happened == ["base", "loaded", "commands"]


MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
LOGGED = replace(FACTS, earliest=MOMENT, details={**FACTS.details, "log-until": MOMENT.isoformat()})
LISTED = b"file base.rdb seq 1 type b\nfile one.aof seq 1 type i\nfile two.aof seq 2 type i\n"


def with_log(**files: bytes) -> Saved:
    data = {"redis/dump.rdb": RDB, **{f"redis/aof/{name}": content for name, content in files.items()}}
    parts = tuple(Part(name, "redis-2", Form.PHYSICAL, len(content)) for name, content in data.items())
    return Saved(facts=LOGGED, parts=parts, data=data)


@pytest.mark.parametrize("missing", ["manifest", "base.rdb", "one.aof", "two.aof"])
def test_a_log_that_lacks_a_file_is_no_log_to_restore_from(opened: Open, missing: str) -> None:
    log = {"manifest": LISTED, "base.rdb": RDB, "one.aof": b"", "two.aof": b""}
    assert opened(saved=with_log(**log), at=MOMENT).stages()[0].total == len(RDB)
    del log[missing]
    with pytest.raises(NotRestorable, match=f"lacks files of its log: {missing}\n"):
        opened(saved=with_log(**log), at=MOMENT)
    assert opened(saved=with_log(**log)).stages()[0].total == len(RDB)


@pytest.mark.parametrize("manifest", [b"", b"rubbish\n", b"file 'base.rdb seq 1 type b\n"])
def test_a_log_whose_manifest_is_none_is_no_log_to_restore_from(opened: Open, manifest: bytes) -> None:
    with pytest.raises(NotRestorable) as caught:
        opened(saved=with_log(manifest=manifest), at=MOMENT)
    assert "--at" in (caught.value.hint or "")


def test_a_hash_whose_fields_are_all_over_is_in_no_comparison() -> None:
    over = b"\x18\x01h" + (1000).to_bytes(8, "little") + b"\x01\x01\x01f\x01v"
    body = b"REDIS0012\xfe\x00" + b"\x00\x01k\x01v" + over + b"\xff" + bytes(8)
    side = BackupSide(Saved(data={"redis/dump.rdb": body}), b"")  # type: ignore[arg-type]
    name = name_of(0, b"h")
    assert len(side.digests(frozenset(range(256)))) == 1
    assert side.describe([name]) == {name: None}
    assert dict(side.saved([name])) == {name: None}


def test_an_empty_prefix_is_no_prefix_and_refused(opened: Open) -> None:
    with pytest.raises(NotRestorable, match="empty"):
        opened(only="")


def test_a_comparison_with_an_empty_prefix_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="empty"), COMPARING.of_backup(Saved(), ""):  # type: ignore[arg-type]
        pass
    monkeypatch.setattr("haops.stores.redis.compare.primary", lambda c, _: c.servers[0])
    with (
        pytest.raises(BadInput, match="empty"),
        COMPARING.side(make_cluster("redis"), Door(None), ""),  # type: ignore[arg-type]
    ):
        pass


@pytest.mark.parametrize("door", ["127.0.0.1", None])
def test_after_a_restart_of_the_primary_the_last_stage_is_not_known_any_more(
    opened: Open, server: FakeServer, door: str | None
) -> None:
    before = [stage.name for stage in opened(door).stages()]
    assert [stage.name for stage in opened(door).stages()] == before
    server.info["run_id"] = OTHER
    after = [stage.name for stage in opened(door).stages()]
    assert after[0] == before[0]
    assert before[1] not in after


def test_a_primary_that_was_restarted_is_not_called_restored(opened: Open, server: FakeServer) -> None:
    restorer = opened()
    settle = restorer.stages()[-1]
    assert list(restorer.perform(settle, ""))[-1].done == 3
    server.info["run_id"] = OTHER
    with pytest.raises(RestoreFailed, match="restarted"):
        list(restorer.perform(settle, ""))


def test_a_mark_of_another_run_is_of_no_use(opened: Open, server: FakeServer) -> None:
    restorer = opened(None)
    list(restorer.perform(restorer.stages()[0], mark_of(RUN, 4)))
    assert [words[1] for words in server.told("SET")] == ["k:4", "k:5"]
    server.heard.clear()
    advances = list(restorer.perform(restorer.stages()[0], mark_of(OTHER, 4)))
    assert len(server.told("SET")) == 6
    assert mark_of(RUN, 6) in [advance.mark for advance in advances]


@given(st.text(max_size=20), st.text(alphabet="abcdef0123456789", min_size=1), st.integers(0, 10**12))
def test_only_a_mark_of_the_same_run_is_believed(text: str, run: str, keys: int) -> None:
    assert keys_done(mark_of(run, keys), run) == keys
    assert keys_done(mark_of(run, keys), run + "0") == 0
    assert keys_done(text, "no such run") == 0


def test_a_batch_is_marked_only_when_every_connected_replica_has_it(server: FakeServer) -> None:
    clock = iter(range(100))
    with cluster_of(make_cluster("redis"), {"redis-1": server}) as cluster:
        wire = Wire(cluster.node("redis-1"), 2.0, RestoreFailed)
        kept = Marks(wire, RUN, Clock(monotonic=lambda: float(next(clock))))
        server.info["master_repl_offset"] = "11"
        assert kept.after(5) == ""
        server.info |= {"master_repl_offset": "12", "slave0": "ip=1,state=online,offset=12,lag=0"}
        assert kept.after(6) == ""
        server.info |= {"master_repl_offset": "13", "slave1": "ip=2,state=online,offset=11,lag=0"}
        assert kept.after(7) == mark_of(RUN, 5)
        server.info["slave1"] = "ip=2,state=wait_bgsave,offset=13,lag=0"
        assert kept.after(8) == ""
        for name in ("slave0", "slave1"):
            del server.info[name]
        assert kept.after(9) == mark_of(RUN, 9)
        server.info["role"] = "slave"
        assert kept.after(10) == ""
        wire.close()


def test_replicas_are_not_asked_for_each_batch(server: FakeServer) -> None:
    with cluster_of(make_cluster("redis"), {"redis-1": server}) as cluster:
        wire = Wire(cluster.node("redis-1"), 2.0, RestoreFailed)
        kept = Marks(wire, RUN, Clock(monotonic=lambda: 5.0))
        assert [kept.after(1), kept.after(2)] == [mark_of(RUN, 1), ""]
        wire.close()
    assert marks._EACH_S < 0.5  # marks go to the disk that often
    assert acknowledged({"master_repl_offset": "7", "slave_read_repl_offset": "3"}) == 7


def copied_anew(first: FakeServer) -> None:
    with cluster_of(make_cluster("redis"), {"redis-2": first}) as cluster:
        node: Node = cluster.node("redis-2")
        mend._copy_anew(node, cluster.node("redis-1"))


def test_a_replica_that_refuses_to_be_copied_anew_is_told_in_its_own_words() -> None:
    server = FakeServer(
        info={"role": "slave", "master_link_status": "up"},
        says={"ROLE": lambda _: ["slave", "10.0.0.1", 1, "connected", 0], "EXEC": lambda _: ["OK", "OK"]},
    )
    copied_anew(server)
    server.says["EXEC"] = lambda _: Exception("EXECABORT Transaction discarded")
    with pytest.raises(CompareFailed, match="EXECABORT"):
        copied_anew(server)
    server.says["EXEC"] = lambda _: ["OK", Exception("ERR REPLICAOF not allowed")]
    with pytest.raises(CompareFailed, match="not allowed"):
        copied_anew(server)
    server.says |= {"EXEC": lambda _: ["OK"], "REPLICAOF": lambda _: Exception("NOPERM no")}
    with pytest.raises(CompareFailed, match="NOPERM"):
        copied_anew(server)


@pytest.mark.parametrize("merge", [False, True])
def test_a_prefix_that_no_key_has_is_refused_and_nothing_was_changed(
    opened: Open, server: FakeServer, merge: bool
) -> None:
    restorer = opened(only="nosuch:", merge=merge)
    with pytest.raises(NotRestorable, match="no key begins with 'nosuch:'"):
        list(restorer.perform(restorer.stages()[0], ""))
    assert restorer.unchanged()
    assert not server.told("SET")


def test_no_key_is_removed_for_a_prefix_that_no_key_of_the_backup_has(
    opened: Open, server: FakeServer
) -> None:
    restorer = opened(only="k:*")
    with pytest.raises(NotRestorable, match="no key begins with") as caught:
        restorer.wipe()
    assert "no glob" in (caught.value.hint or "")
    assert restorer.unchanged()
    assert not server.told("SCAN")


def test_keys_that_have_the_prefix_are_put_though_none_is_new(opened: Open, server: FakeServer) -> None:
    restorer = opened(only="k:")
    list(restorer.perform(restorer.stages()[0], mark_of(RUN, 6)))
    assert not server.told("SET")
    assert not restorer.unchanged()


class Fills:
    """Takes a dump, block by block."""

    def snapshot(self, size: int, blocks: Iterator[bytes]) -> Iterator[int]:
        sent = 0
        for block in blocks:
            sent += len(block)
            yield sent


@pytest.mark.parametrize("damaged", [True, False])
def test_a_server_keeps_what_it_has_until_the_last_byte_of_a_dump(
    opened: Open, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    def read(self: Saved, name: str, start: int = 0) -> Iterator[bytes]:
        yield RDB[:-1]
        if damaged:
            raise RestoreFailed("a chunk is damaged")
        yield RDB[-1:]

    monkeypatch.setattr(Saved, "read", read)
    monkeypatch.setattr(restore_module, "_await_loaded", lambda *_: None)
    restorer = opened()
    assert restorer.unchanged()
    fed = restorer._feed(Fills(), None)  # type: ignore[arg-type]
    assert next(fed).done == len(RDB) - 1
    assert restorer.unchanged()
    if damaged:
        with pytest.raises(RestoreFailed, match="damaged"):
            next(fed)
    else:
        next(fed)
    assert restorer.unchanged() == damaged

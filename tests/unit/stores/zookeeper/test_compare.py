from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haops.cluster.spec import Cluster, StoreName
from haops.compare.repair import RepairOrder, Truth, plan
from haops.compare.repair import repair as carry_out
from haops.compare.rounds import Manner, compare
from haops.errors import BadInput
from haops.stores.backup import NotRestorable, RestoreFailed
from haops.stores.compare import Record, Side
from haops.stores.zookeeper import repair
from haops.stores.zookeeper.compare import COMPARING, acl_words, as_record
from haops.stores.zookeeper.reading import Ensemble
from haops.stores.zookeeper.tree import Access, Kind

from ....fakes import FakeRuntime, make_cluster
from .archives import SECRET, MemoryArchive, archive, back_up, node
from .fake_server import CONTAINER, TTL, FakeServer, ensemble


def filled() -> FakeServer:
    server = FakeServer()
    server.put("/app", b"x", acl=((31, b"digest", b"u:h"),))
    server.put("/app/a", b"1")
    server.put("/app/b", b"2", owner=CONTAINER)
    server.put("/app/c", b"3", owner=TTL + 9)
    server.put("/lock", b"", owner=0x1000000000001)
    return server


@contextmanager
def sides_of(opened: Sequence[Side]) -> Iterator[tuple[Side, Side]]:
    left, right = opened
    yield left, right


@contextmanager
def sides(*servers: FakeServer) -> Iterator[list[Side]]:
    with ExitStack() as opened:
        clusters = [opened.enter_context(ensemble(s)) for s in servers]
        yield [opened.enter_context(COMPARING.side(c, FakeRuntime(), None)) for c in clusters]


def different(one: Side, other: Side) -> list[bytes]:
    """As the comparison upstairs narrows it down."""
    first, second = one.survey(), other.survey()
    unequal = (first.counts != second.counts) | (first.sums != second.sums)
    buckets = frozenset(np.flatnonzero(unequal).tolist())
    mine, theirs = one.digests(buckets), other.digests(buckets)
    return sorted({*one.keys(np.setdiff1d(mine, theirs)), *other.keys(np.setdiff1d(theirs, mine))})


def described(sides: Sequence[Side], key: bytes) -> list[Record | None]:
    return [s.describe([key])[key] for s in sides]


def test_a_backup_and_the_ensemble_that_it_was_made_of_are_equal() -> None:
    with ensemble(filled()) as cluster:
        backup = back_up(cluster)
        with COMPARING.of_backup(backup, None) as kept, COMPARING.side(cluster, FakeRuntime(), None) as now:
            assert different(kept, now) == []
            assert kept.moved == 0
            assert now.moved > 0
            keys = [b"/app", b"/app/a", b"/app/b", b"/app/c", b"/none"]
            assert kept.describe(keys) == now.describe(keys)
            assert now.describe(keys)[b"/none"] is None


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (b"/app/a", {"data": b"other"}),
        (b"/app/a", {"data": None}),
        (b"/app", {"acl": ((1, b"world", b"anyone"),)}),
        (b"/app/b", {"owner": 0}),
        (b"/app/c", {"owner": TTL + 10}),
        (b"/app", {"creates": 12}),
    ],
)
def test_every_difference_is_found_and_told(path: bytes, change: dict[str, object]) -> None:
    other = filled()
    for name, value in change.items():
        setattr(other.nodes[path], name, value)
    with sides(filled(), other) as (one, two):
        assert different(one, two) == [path]
        first, second = described((one, two), path)
        assert first != second


def test_missing_and_extra_nodes_are_found_on_both_sides() -> None:
    one, two = filled(), filled()
    one.put("/only1", creates=3)
    two.put("/only2")
    with sides(one, two) as both:
        assert different(*both) == [b"/only1", b"/only2"]
        assert [r is None for r in described(both, b"/only1")] == [False, True]


def test_history_sessions_and_the_ensembles_own_are_no_difference_between_ensembles() -> None:
    one, two = filled(), filled()
    two.nodes[b"/app/a"].mzxid = two.nodes[b"/app/a"].version = 99
    del two.nodes[b"/lock"]
    two.put("/zookeeper/config", b"other")
    with sides(one, two) as both:
        assert different(*both) == []
        assert both[0].describe([b"/lock"]) == {b"/lock": None}


def test_copies_of_one_ensemble_must_agree_in_history_and_sessions_too() -> None:
    one, two = filled(), filled()
    two.nodes[b"/app/a"].version = 99
    del two.nodes[b"/lock"]
    two.nodes[b"/"].creates = one.nodes[b"/"].creates
    with ensemble(one) as first, ensemble(two) as second:
        with COMPARING.replicas(first, FakeRuntime()) as a, COMPARING.replicas(second, FakeRuntime()) as b:
            assert [s.label for s in a] == ["zookeeper-1"]
            assert different(a[0], b[0]) == [b"/app/a", b"/lock"]
            told = described((a[0], b[0]), b"/app/a")
        assert told[0] != told[1]


def test_only_a_subtree_is_compared() -> None:
    one, two = filled(), filled()
    two.put("/apple")
    two.put("/app/z")
    with (
        ensemble(one) as first,
        ensemble(two) as second,
        COMPARING.side(first, FakeRuntime(), "/app") as a,
        COMPARING.side(second, FakeRuntime(), "/app") as b,
    ):
        assert different(a, b) == [b"/app", b"/app/z"]


def test_without_a_snapshot_an_ensemble_is_walked() -> None:
    server = filled()
    server.nodes[b"/app/b"].owner = server.nodes[b"/app/c"].owner = 0
    with ensemble(server) as cluster:
        backup = back_up(cluster)
        server.admin = (404, b"")
        with COMPARING.of_backup(backup, None) as kept, COMPARING.side(cluster, FakeRuntime(), None) as now:
            assert different(kept, now) == []


@pytest.mark.parametrize("only", ["", "app", "/app/", "/zookeeper"])
def test_what_is_no_path_is_refused(only: str) -> None:
    with (
        ensemble(FakeServer()) as cluster,
        pytest.raises(NotRestorable),
        COMPARING.side(cluster, FakeRuntime(), only),
    ):
        pass
    with pytest.raises(NotRestorable), COMPARING.of_backup(archive([node("/")]), only):
        pass


def test_another_stores_backup_is_refused() -> None:
    for wrong in (archive([], store=StoreName.REDIS), MemoryArchive({}, archive([]).facts)):
        with pytest.raises(NotRestorable), COMPARING.of_backup(wrong, None):
            pass


# ---- repair


@settings(max_examples=12, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from("abcdef"), st.tuples(st.binary(max_size=3), st.integers(0, 5)), max_size=6
    ),
    st.dictionaries(
        st.sampled_from("abcdef"), st.tuples(st.binary(max_size=3), st.integers(0, 5)), max_size=6
    ),
)
def test_after_a_repair_nothing_differs_but_counters_that_cannot_go_back(
    one: dict[str, tuple[bytes, int]], two: dict[str, tuple[bytes, int]]
) -> None:
    servers = []
    for shape in (one, two):
        servers.append(FakeServer())
        for name, (data, depth) in shape.items():
            for level in range(depth + 1):
                servers[-1].put(f"/{name}" + "/x" * level, data)
    with sides(*servers) as both:
        keys = different(*both)
        assert [*COMPARING.mend(*both, keys)][-1:] == ([len(keys)] if keys else [])
        for key in different(*both):
            wanted, has = described(both, key)
            assert wanted is not None
            assert has is not None
            assert replace(wanted, version="") == replace(has, version="")
            assert int(has.version.split()[1]) > int(wanted.version.split()[1])


@pytest.mark.parametrize(
    ("one", "two", "barred"),
    [
        ({"creates": 3}, {"creates": 7}, True),
        ({"creates": 7}, {"creates": 3}, False),
        ({"creates": 3}, {"creates": 7, "data": b"other"}, False),
        ({"creates": 3}, None, False),
    ],
)
def test_a_node_that_differs_in_nothing_but_a_next_suffix_that_is_higher_stays_and_says_why(
    one: dict[str, object], two: dict[str, object] | None, barred: bool
) -> None:
    servers = [FakeServer(), FakeServer()]
    for server, fields in zip(servers, (one, two), strict=True):
        if fields is not None:
            server.put("/a", b"1")
            for name, value in fields.items():
                setattr(server.nodes[b"/a"], name, value)
    with sides(*servers) as both:
        wanted, has = described(both, b"/a")
    assert bool(COMPARING.barred(wanted, has)) is barred
    assert not COMPARING.barred(has, None)
    if barred:
        assert "next sequence number" in COMPARING.barred(wanted, has)


def test_a_repair_ends_without_what_cannot_be_lowered_and_counts_it_not() -> None:
    one, two = FakeServer(), FakeServer()
    one.put("/a", creates=3)
    two.put("/a", creates=7)
    one.put("/b", b"1")
    with sides(one, two) as both:
        first = compare(*both, Manner(rounds=1))
        order = RepairOrder(COMPARING, lambda: sides_of(both), Truth.LEFT, Manner(rounds=1))
        done = carry_out(order, first)
        assert (done.done, [k.key for k in done.kept]) == (1, [b"/a"])
        assert plan(done.after, Truth.LEFT, COMPARING.barred).keys == ()


def test_a_backup_repairs_a_cluster_and_another_kind_is_made_anew() -> None:
    server = filled()
    with ensemble(server) as cluster:
        backup = back_up(cluster)
        server.nodes[b"/app/b"].owner = 0
        server.nodes[b"/app"].acl = ((1, b"world", b"anyone"),)
        server.put("/extra/".rstrip("/"))
        server.put("/extra/deep")
        with COMPARING.of_backup(backup, None) as kept, COMPARING.side(cluster, FakeRuntime(), None) as now:
            list(COMPARING.mend(kept, now, different(kept, now)))
            # Making a child anew counts as a creation below its parent: that stays.
            assert different(kept, now) == [b"/app"]
    assert server.nodes[b"/app/b"].owner == CONTAINER
    assert server.nodes[b"/app"].acl == ((31, b"digest", b"u:h"),)
    assert b"/extra" not in server.nodes
    assert b"/lock" in server.nodes


def test_a_node_of_another_kind_with_children_is_not_removed() -> None:
    one, two = FakeServer(), FakeServer()
    one.put("/a", owner=CONTAINER)
    two.put("/a")
    two.put("/a/session", owner=7)
    with sides(one, two) as both, pytest.raises(RestoreFailed, match="another kind"):
        list(COMPARING.mend(*both, [b"/a"]))
    assert b"/a/session" in two.nodes


def test_a_node_that_must_go_but_has_children_that_were_not_named_stays_and_differs() -> None:
    one, two = FakeServer(), FakeServer()
    two.put("/a")
    two.put("/a/session", owner=7)
    two.put("/b")
    with sides(one, two) as both:
        assert [*COMPARING.mend(*both, [b"/a", b"/b"])] == [2]
        assert different(*both) == [b"/a"]
    assert set(two.nodes) == {b"/", b"/zookeeper", b"/a", b"/a/session"}


def test_above_a_named_node_what_is_missing_is_made_as_the_truth_has_it_and_nothing_else_is_touched() -> None:
    one, two = FakeServer(), FakeServer()
    for server in (one, two):
        server.put("/top", b"right" if server is one else b"wrong")
    one.put("/top/box", b"b", owner=CONTAINER)
    one.put("/top/box/in", b"i")
    one.put("/top/box/in/deep", b"d")
    two.put("/extra")
    with sides(one, two) as both:
        assert [*COMPARING.mend(*both, [b"/top/box/in/deep", b"/extra/none"])] == [2]
    assert (two.nodes[b"/top/box"].owner, two.nodes[b"/top/box/in"].data) == (CONTAINER, b"i")
    assert two.nodes[b"/top/box/in/deep"].data == b"d"
    assert two.nodes[b"/top"].data == b"wrong"
    assert b"/extra" in two.nodes


def test_above_a_subtree_of_a_backup_what_is_missing_is_made_plain() -> None:
    backup = archive([node("/"), node("/a", b"x"), node("/a/b", b"y"), node("/a/b/c", b"z"), node("/a/b/d")])
    server = FakeServer()
    with (
        ensemble(server) as cluster,
        COMPARING.of_backup(backup, "/a/b") as kept,
        COMPARING.side(cluster, FakeRuntime(), "/a/b") as now,
    ):
        assert [*COMPARING.mend(kept, now, [b"/a/b/c"])] == [1]
    assert {p: n.data for p, n in server.nodes.items() if p.startswith(b"/a")} == {
        b"/a": b"",
        b"/a/b": b"y",
        b"/a/b/c": b"z",
    }


_SHAPE = st.sets(st.sampled_from(["/a", "/a/b", "/a/b/c", "/a/d", "/e", "/e/f"]))


@settings(max_examples=12, deadline=None)
@given(_SHAPE, _SHAPE, st.randoms(use_true_random=False), st.integers(1, 3))
def test_a_repair_in_parts_of_any_size_and_order_ends_with_the_truths_nodes(
    one: set[str], two: set[str], chance: random.Random, limit: int
) -> None:
    servers = []
    for shape in (one, two):
        servers.append(FakeServer())
        whole = {"/".join(p.split("/")[:n]) for p in shape for n in range(2, p.count("/") + 2)}
        for path in sorted(whole):
            servers[-1].put(path, path.encode())
    for _ in range(60):
        with sides(*servers) as both:
            keys = [k for k in different(*both) if (k in servers[0].nodes) != (k in servers[1].nodes)]
            if not keys:
                break
            some = chance.sample(keys, min(limit, len(keys)))
            assert [*COMPARING.mend(*both, some)][-1] == len(some)
    assert set(servers[1].nodes) == set(servers[0].nodes)


def test_a_backup_cannot_be_repaired() -> None:
    with (
        sides(FakeServer()) as (side,),
        COMPARING.of_backup(archive([node("/")]), None) as kept,
        pytest.raises(BadInput, match="cannot be changed"),
    ):
        list(COMPARING.mend(side, kept, [b"/"]))


class Recorder(FakeRuntime):
    """Remembers what is done to which node."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[str, str]] = []

    def execute(self, cluster: Cluster, node: str, argv: Sequence[str]) -> tuple[int, str]:
        self.done.append((node, " ".join(argv)))
        return self.answer(node, argv)

    def stop(self, cluster: Cluster, node: str, *, grace_s: float) -> None:
        self.done.append((node, "stop"))

    def start(self, cluster: Cluster, node: str) -> None:
        self.done.append((node, "start"))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """`zookeeper-2` leads, and all are in sync whenever somebody asks."""
    made = Recorder()
    monkeypatch.setattr(repair, "ensemble", lambda c: Ensemble(c.servers[1], 1, "3.9.5", c.servers))
    monkeypatch.setattr(repair, "_await_whole", lambda c: made.done.append(("all", "whole")))
    return made


def test_members_are_emptied_stopped_and_started_one_by_one_while_all_others_are_in_sync(
    recorder: Recorder,
) -> None:
    cluster, runtime = make_cluster("zookeeper"), recorder
    said = list(COMPARING.mend_replicas(cluster, runtime, ["zookeeper-2"]))
    one = [("all", "whole"), ("zookeeper-1", f"sh -c {repair._EMPTY}"),
           ("zookeeper-1", "stop"), ("zookeeper-1", "start"), ("all", "whole")]  # fmt: skip
    assert runtime.done == one + [(n.replace("-1", "-3"), what) for n, what in one]
    assert said == [f"{n} has its copy from zookeeper-2" for n in ("zookeeper-1", "zookeeper-3")]
    with pytest.raises(BadInput, match="that is zookeeper-2"):
        list(COMPARING.mend_replicas(cluster, runtime, ["zookeeper-1"]))


def test_a_member_that_could_not_be_emptied_stays_stopped_and_is_told(recorder: Recorder) -> None:
    recorder.answer = lambda node, argv: (1, "rm: cannot remove it\n")
    with pytest.raises(RestoreFailed, match="could not be removed") as caught:
        list(COMPARING.mend_replicas(make_cluster("zookeeper"), recorder, ["zookeeper-2"]))
    assert recorder.done[-1] == ("zookeeper-1", "stop")
    assert "haops recover zookeeper zookeeper-1" in (caught.value.hint or "")


@pytest.mark.parametrize(("removes", "code"), [("rm -rf", 0), ("false", 1)])
def test_one_command_holds_a_server_removes_its_data_and_kills_it_whoever_waits_for_it(
    tmp_path: Path, removes: str, code: int
) -> None:
    """Run here with what would signal the processes of a container only told."""
    log = tmp_path / "told"
    for folder in ("version-2", "log/version-2"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").touch()
    (tmp_path / "myid").touch()
    script = repair._EMPTY.replace("kill", f"ls {tmp_path} {tmp_path}/log >>{log}; echo kill >>{log}")
    script = script.replace(">/dev/null 2>&1", "").replace("sleep 3", "sleep 0.2").replace("rm -rf", removes)
    script = script.replace("/data/", f"{tmp_path}/")
    assert "kill" not in script.replace("echo kill", "")
    assert subprocess.run(["sh", "-c", script], check=False).returncode == code
    end = time.monotonic() + 10
    while "-KILL -1" not in log.read_text() and time.monotonic() < end:
        time.sleep(0.02)
    held, killed = log.read_text().split("kill -STOP -1\n")
    assert "version-2" in held
    assert killed.endswith("kill -KILL -1\n")
    assert ("version-2" in killed) is bool(code)
    assert "myid" in killed


# ---- words


def test_records_are_in_words() -> None:
    record = as_record(node("/a", b"\xffhi", SECRET, 7, kind=Kind.TTL, ttl=5), exact=False)
    assert record.kind == "ttl"
    assert record.preview == "\\xffhi"
    assert record.acl == "digest:u:hash:rwcda, ip:10.0.0.0/8:r"
    assert record.expires == "5 ms after its last change"
    assert record.version == "next 7"
    assert as_record(node("/", following=7), exact=False).version == ""
    assert "version 0" in as_record(node("/"), exact=True).version


def test_rights_are_letters_as_zkcli_prints_them() -> None:
    assert acl_words((Access(1, b"world", b"anyone"),)) == "world:anyone:r"
    assert acl_words((Access(28, b"auth", b""),)) == "auth::cda"


def test_keys_are_shown_whatever_is_in_them() -> None:
    assert COMPARING.show("/ä".encode()) == "/ä"
    assert COMPARING.show(b"/\xff") == "/\\xff"

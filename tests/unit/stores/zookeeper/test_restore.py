from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haops.cluster.spec import StoreName
from haops.stores.backup import NotRestorable, RestoreFailed, RestoreWish
from haops.stores.zookeeper import writing
from haops.stores.zookeeper.backup import BACKING
from haops.stores.zookeeper.tree import Access, Kind, TreeNode, decode, fingerprint
from haops.stores.zookeeper.writing import batches

from .archives import SECRET, MemoryArchive, archive, back_up, node, restore, tools
from .fake_server import ANYONE, CONTAINER, TTL, FakeServer, ensemble


def sample(count: int = 5) -> list[TreeNode]:
    nodes = [node("/", following=9), node("/app", None, SECRET, following=count + 3)]
    nodes += [node(f"/app/n{i}", b"%d" % i) for i in range(count)]
    nodes += [node("/box", kind=Kind.CONTAINER), node("/old", b"t", kind=Kind.TTL, ttl=777, following=1500)]
    return nodes


def told(server: FakeServer, only: bytes = b"/") -> dict[bytes, int]:
    """What a backup of it would compare."""
    with ensemble(server) as cluster:
        return {
            n.path: fingerprint(n) for n in decode(back_up(cluster).read("tree")) if n.path.startswith(only)
        }


def expected(nodes: list[TreeNode]) -> dict[bytes, int]:
    return {n.path: fingerprint(n) for n in nodes}


def test_an_empty_ensemble_gets_every_node_list_kind_and_counter() -> None:
    server = FakeServer()
    with ensemble(server) as cluster:
        restore(cluster, archive(sample()))
    assert told(server) == expected(sample())
    assert server.nodes[b"/old"].owner == TTL + 777
    assert server.nodes[b"/box"].owner == CONTAINER
    assert server.nodes[b"/old"].creates == 1500
    assert server.children(b"/old") == []


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.binary(max_size=9), st.integers(0, 40)), max_size=40))
def test_any_tree_comes_back_as_it_was(shape: list[tuple[int, bytes, int]]) -> None:
    source = FakeServer()
    paths = [""]
    for number, (above, data, extra) in enumerate(shape):
        paths.append(f"{paths[above % len(paths)]}/{number}")
        source.put(paths[-1], data)
        source.nodes[paths[-1].encode()].creates = extra
    for path in source.nodes:  # counters never are below the number of children
        source.nodes[path].creates = max(source.nodes[path].creates, len(source.children(path)))
    target = FakeServer()
    with ensemble(source) as cluster:
        backup = back_up(cluster)
    with ensemble(target) as cluster:
        restore(cluster, backup)
    assert told(target) == told(source)


@pytest.mark.parametrize("deaths", [(1,), (2,), (0, 0, 1, 3), (4, 5), (9, 3)])
def test_a_restore_cut_off_anywhere_goes_on_from_its_mark(
    deaths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_NODES", 10)
    monkeypatch.setattr(writing, "_PAIRS", 100)
    nodes = sample(55)
    server = FakeServer()
    marks: dict[str, str] = {}
    with ensemble(server) as cluster:
        for after in deaths:
            server.transactions, server.dies_after = 0, after
            with pytest.raises(RestoreFailed, match="connection to the server ended"):
                restore(cluster, archive(nodes), marked=marks.__setitem__, marks=marks)
        server.dies_after = None
        restore(cluster, archive(nodes), marked=marks.__setitem__, marks=marks)
    assert told(server) == expected(nodes)


def test_a_restore_done_twice_changes_nothing_the_second_time() -> None:
    server = FakeServer()
    with ensemble(server) as cluster:
        restore(cluster, archive(sample()))
        before = {p: (n.creates, n.version, n.mzxid) for p, n in server.nodes.items()}
        restore(cluster, archive(sample()))
    assert {p: (n.creates, n.version, n.mzxid) for p, n in server.nodes.items()} == before


def test_only_a_subtree_is_restored_and_its_parents_are_made_plain() -> None:
    nodes = [
        node("/"),
        node("/a", b"a", SECRET),
        node("/a/b", b"b"),
        node("/a/b/c"),
        node("/a/bc"),
        node("/d"),
    ]
    server = FakeServer()
    with ensemble(server) as cluster:
        restore(cluster, archive(nodes), RestoreWish(only="/a/b"))
    assert set(server.nodes) == {b"/", b"/zookeeper", b"/a", b"/a/b", b"/a/b/c"}
    assert (server.nodes[b"/a"].data, server.nodes[b"/a"].acl) == (b"", ANYONE)
    assert server.nodes[b"/a/b"].data == b"b"


def test_parents_that_are_there_are_left_as_they_are() -> None:
    server = FakeServer()
    server.put("/a", b"mine")
    with ensemble(server) as cluster:
        restore(cluster, archive([node("/"), node("/a", b"x"), node("/a/b")]), RestoreWish(only="/a/b"))
    assert server.nodes[b"/a"].data == b"mine"


def test_merging_overwrites_data_and_lists_and_keeps_the_rest() -> None:
    server = FakeServer()
    server.put("/app", b"old", creates=50)
    server.put("/app/mine", b"kept")
    server.put("/app/n0", b"0")
    server.put("/app/n1", b"session's", owner=5)
    with ensemble(server) as cluster:
        restore(cluster, archive(sample()), RestoreWish(merge=True))
    assert server.nodes[b"/app"].data is None
    assert server.nodes[b"/app"].acl == tuple(map(tuple, SECRET))
    assert server.nodes[b"/app"].creates > 50, "a counter never goes back"
    assert server.nodes[b"/app/mine"].data == b"kept"
    assert server.nodes[b"/app/n0"].version == 0, "what is equal is not written"
    assert server.nodes[b"/app/n1"].owner == 0


def test_what_is_in_the_way_is_named_and_wiped_and_nothing_else() -> None:
    server = FakeServer()
    for path in ("/a", "/a/b", "/c", "/zookeeper/config"):
        server.put(path)
    backup = archive([node("/"), node("/a"), node("/a/b")])
    with ensemble(server) as cluster:
        with BACKING.restorer(cluster, tools(), backup, RestoreWish(only="/a/b")) as restorer:
            assert restorer.in_the_way() == ("/a/b",)
            restorer.wipe()
            restorer.wipe()
            assert restorer.in_the_way() == ()
        assert set(server.nodes) == {b"/", b"/a", b"/c", b"/zookeeper", b"/zookeeper/config"}
        with BACKING.restorer(cluster, tools(), backup, RestoreWish(merge=True)) as restorer:
            assert restorer.in_the_way() == ()
        with BACKING.restorer(cluster, tools(), backup, RestoreWish()) as restorer:
            assert restorer.in_the_way() == ("/a", "/c")
            restorer.wipe()
            assert restorer.in_the_way() == ()
    assert set(server.nodes) == {b"/", b"/zookeeper", b"/zookeeper/config"}


def test_a_crowd_in_the_way_is_cut_short() -> None:
    server = FakeServer()
    for i in range(14):
        server.put(f"/n{i:02}")
    with (
        ensemble(server) as cluster,
        BACKING.restorer(cluster, tools(), archive([node("/")]), RestoreWish()) as restorer,
    ):
        assert restorer.in_the_way()[-1] == "and 4 more"


def test_a_wipe_removes_deep_and_wide_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_NODES", 70)
    server = FakeServer()
    deep = ""
    for _ in range(40):
        deep += "/d"
        server.put(deep)
    for i in range(300):
        server.put(f"/d/n{i}")
    with (
        ensemble(server) as cluster,
        BACKING.restorer(cluster, tools(), archive([node("/")]), RestoreWish()) as restorer,
    ):
        restorer.wipe()
    assert set(server.nodes) == {b"/", b"/zookeeper"}


def test_a_refused_access_list_is_told_with_its_path_and_the_restore_can_go_on() -> None:
    server = FakeServer()
    nodes = [node("/"), node("/a"), node("/b", acl=(Access(31, b"unknown", b"x"),))]
    with ensemble(server) as cluster, pytest.raises(RestoreFailed, match=r"access list.*\n?.*/b"):
        restore(cluster, archive(nodes))


FLEETING = [node("/box", kind=Kind.CONTAINER, following=3), node("/old", kind=Kind.TTL, ttl=9, following=3)]


@pytest.mark.parametrize("gone", FLEETING)
def test_a_node_that_expired_before_its_suffix_was_raised_is_passed_over(gone: TreeNode) -> None:
    server = FakeServer()
    backup = archive([node("/"), gone, node("/z", following=5)])
    with ensemble(server) as cluster, BACKING.restorer(cluster, tools(), backup, RestoreWish()) as restorer:
        nodes, suffixes = restorer.stages()
        list(restorer.perform(nodes, ""))
        del server.nodes[gone.path]
        assert [a.done for a in restorer.perform(suffixes, "")][-1] == suffixes.total
    assert gone.path not in server.nodes
    assert server.nodes[b"/z"].creates == 5


@pytest.mark.parametrize("gone", FLEETING)
def test_a_node_that_expires_while_its_suffix_is_raised_is_passed_over(
    gone: TreeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_PAIRS", 1)
    server = FakeServer()
    backup = archive([node("/"), gone._replace(next=1000), node("/z", following=5)])
    with ensemble(server) as cluster, BACKING.restorer(cluster, tools(), backup, RestoreWish()) as restorer:
        nodes, suffixes = restorer.stages()
        list(restorer.perform(nodes, ""))
        server.before = lambda: server.nodes.pop(gone.path, None)
        server.transactions = 0
        assert [a.done for a in restorer.perform(suffixes, "")][-1] == suffixes.total
    assert server.nodes[b"/z"].creates == 5
    assert server.transactions < 50, "nothing more is sent for a node that is gone"


def test_a_lasting_node_that_is_gone_before_its_suffix_was_raised_is_told() -> None:
    server = FakeServer()
    backup = archive([node("/"), node("/a", following=3)])
    with ensemble(server) as cluster, BACKING.restorer(cluster, tools(), backup, RestoreWish()) as restorer:
        nodes, suffixes = restorer.stages()
        list(restorer.perform(nodes, ""))
        del server.nodes[b"/a"]
        with pytest.raises(RestoreFailed, match="no such node"):
            list(restorer.perform(suffixes, ""))


def test_no_session_waits_while_a_mark_is_looked_for() -> None:
    server = FakeServer()
    backup = archive(sample())
    with ensemble(server) as cluster, BACKING.restorer(cluster, tools(), backup, RestoreWish()) as restorer:
        nodes, *_ = restorer.stages()
        list(restorer.perform(nodes, ""))
        before = server.sessions
        backup.blobs["tree"] = backup.blobs["tree"][:60]
        with pytest.raises(RestoreFailed, match="ends too early"):
            list(restorer.perform(nodes, "5"))
        assert server.sessions == before


def test_progress_ends_at_the_stages_totals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_NODES", 50)
    server = FakeServer()
    seen: dict[str, tuple[int, int]] = {}
    with (
        ensemble(server) as cluster,
        BACKING.restorer(cluster, tools(), archive(sample(170)), RestoreWish()) as restorer,
    ):
        for stage in restorer.stages():
            done = [a.done for a in restorer.perform(stage, "")]
            assert done == sorted(done)
            seen[stage.name] = (done[-1], stage.total)
    assert set(seen) == {"nodes", "suffixes"}
    assert all(done == total for done, total in seen.values())


@pytest.mark.parametrize(
    ("backup", "wish", "words"),
    [
        (archive([node("/")], store=StoreName.REDIS), RestoreWish(), "redis does not go into zookeeper"),
        (archive([node("/")]), RestoreWish(at=datetime(2026, 1, 1, tzinfo=UTC)), "one point in time"),
        (archive([node("/")]), RestoreWish(only=""), "not a path"),
        (archive([node("/")]), RestoreWish(only="//"), "not a path"),
        (archive([node("/")]), RestoreWish(only="a"), "not a path"),
        (archive([node("/")]), RestoreWish(only="/a/"), "not a path"),
        (archive([node("/")]), RestoreWish(only="/zookeeper/config"), "ensemble's own"),
        (archive([node("/")]), RestoreWish(only="/nowhere"), "nothing at /nowhere"),
        (MemoryArchive({"snapshot": b""}, archive([]).facts), RestoreWish(), "no tree"),
        (MemoryArchive({"tree": b"haops-zookeeper-tree 2\n"}, archive([]).facts), RestoreWish(), "form 2"),
        (MemoryArchive({"tree": b"rubbish"}, archive([]).facts), RestoreWish(), "not whole"),
    ],
)
def test_what_cannot_be_restored_is_refused_before_anything_is_touched(
    backup: MemoryArchive, wish: RestoreWish, words: str
) -> None:
    server = FakeServer()
    with ensemble(server) as cluster:
        with pytest.raises(NotRestorable, match=words):
            restore(cluster, backup, wish)
        assert server.transactions == 0


@given(st.lists(st.integers(0, 400_000), max_size=30))
def test_batches_keep_order_and_stay_below_the_servers_limit(sizes: list[int]) -> None:
    nodes = [node(f"/{i}", bytes(size)) for i, size in enumerate(sizes)]
    groups = list(batches(nodes))
    assert [n for g in groups for n in g] == nodes
    assert all(len(g) == 1 or sum(len(n.data or b"") for n in g) < 300_000 for g in groups)

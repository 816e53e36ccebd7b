"""Quotas: restored with the paths that they are of, last, and what is used of them counted by the server."""

from __future__ import annotations

import pytest

from haops.stores.backup import NotRestorable, RestoreFailed, RestoreWish
from haops.stores.zookeeper import writing
from haops.stores.zookeeper.backup import BACKING
from haops.stores.zookeeper.restore import QUOTA
from haops.stores.zookeeper.tree import TreeNode, encode

from .archives import SECRET, MemoryArchive, archive, node, restore, tools
from .fake_server import FakeServer, ensemble

TOP = "/zookeeper/quota"
LIMITS, STATS = "zookeeper_limits", "zookeeper_stats"


def quota(path: str, limit: bytes = b"count=9") -> list[TreeNode]:
    """The nodes of one quota, without those above."""
    return [
        node(f"{TOP}{path}", acl=SECRET),
        node(f"{TOP}{path}/{LIMITS}", limit),
        node(f"{TOP}{path}/{STATS}", b"count=7"),
    ]


def backup(*quotas: list[TreeNode]) -> MemoryArchive:
    made = archive([node("/"), node("/a"), node("/a/b"), node("/ab", following=6)])
    made.blobs[QUOTA] = b"".join(encode([n for each in quotas for n in each]))
    return made


def quotas_of(server: FakeServer) -> dict[str, bytes | None]:
    return {
        p.decode().removeprefix(TOP): n.data
        for p, n in server.nodes.items()
        if p.startswith(TOP.encode() + b"/")
    }


def test_a_whole_restore_brings_every_quota_after_everything_that_it_counts() -> None:
    server = FakeServer()
    made = backup(quota("/a"), quota("/a/b", b"bytes=1"), quota("/ab"))
    with ensemble(server) as cluster:
        with BACKING.restorer(cluster, tools(), made, RestoreWish()) as restorer:
            assert [(s.name, s.total) for s in restorer.stages()] == [
                ("nodes", 4),
                ("suffixes", 3),
                ("quotas", 9),
            ]
        restore(cluster, made)
    found = quotas_of(server)
    assert {p: d for p, d in found.items() if p.endswith(LIMITS)} == {
        f"/a/{LIMITS}": b"count=9", f"/a/b/{LIMITS}": b"bytes=1", f"/ab/{LIMITS}": b"count=9",
    }  # fmt: skip
    assert f"/a/b/{STATS}" in found
    assert server.nodes[f"{TOP}/a".encode()].acl == tuple(map(tuple, SECRET))
    newest = max(n.czxid for p, n in server.nodes.items() if not p.startswith(TOP.encode()))
    assert server.nodes[f"{TOP}/a/{LIMITS}".encode()].czxid > newest


@pytest.mark.parametrize(("only", "came"), [("/a", {"/a", "/a/b"}), ("/a/b", {"/a/b"}), ("/ab", {"/ab"})])
def test_of_a_subtree_come_the_quotas_of_its_paths_only(only: str, came: set[str]) -> None:
    server = FakeServer()
    with ensemble(server) as cluster:
        restore(cluster, backup(quota("/a"), quota("/a/b"), quota("/ab")), RestoreWish(only=only))
    assert {p.removesuffix(f"/{LIMITS}") for p in quotas_of(server) if p.endswith(LIMITS)} == came


def test_a_backup_without_quotas_has_no_such_stage_and_leaves_quotas_alone() -> None:
    for made in (backup(), archive([node("/"), node("/a")])):
        server = FakeServer()
        server.put(TOP)
        with ensemble(server) as cluster:
            with BACKING.restorer(cluster, tools(), made, RestoreWish()) as restorer:
                assert "quotas" not in [s.name for s in restorer.stages()]
            restore(cluster, made)
        assert quotas_of(server) == {}


def test_quotas_that_are_there_are_in_the_way_and_wiped_with_what_they_are_of() -> None:
    server = FakeServer()
    for path in (TOP, f"{TOP}/a", f"{TOP}/a/{LIMITS}", f"{TOP}/a/{STATS}", f"{TOP}/z", f"{TOP}/z/{LIMITS}"):
        server.put(path)
    server.put("/zookeeper/config")
    made = backup(quota("/a"))
    with ensemble(server) as cluster:
        with BACKING.restorer(cluster, tools(), made, RestoreWish(only="/a")) as restorer:
            assert restorer.in_the_way() == ("quota of /a",)
            restorer.wipe()
            restorer.wipe()
            assert restorer.in_the_way() == ()
        assert {*quotas_of(server)} == {"/a", "/z", f"/z/{LIMITS}"}
        with BACKING.restorer(cluster, tools(), made, RestoreWish()) as restorer:
            assert restorer.in_the_way() == ("quota of /z",)
            restorer.wipe()
            assert restorer.in_the_way() == ()
    assert set(server.nodes) == {b"/", b"/zookeeper", b"/zookeeper/config", TOP.encode()}


def test_merging_sets_limits_anew_and_has_the_server_count_again() -> None:
    server = FakeServer()
    for path in (TOP, f"{TOP}/a", f"{TOP}/z", f"{TOP}/z/{LIMITS}"):
        server.put(path)
    server.put(f"{TOP}/a/{LIMITS}", b"count=1")
    was = server.put(f"{TOP}/a/{STATS}", b"count=4").czxid
    made = backup(quota("/a"))
    with ensemble(server) as cluster:
        restore(cluster, made, RestoreWish(merge=True))
        again = quotas_of(server)
        assert server.nodes[f"{TOP}/a/{LIMITS}".encode()].data == b"count=9"
        assert server.nodes[f"{TOP}/a/{STATS}".encode()].czxid > was, (
            "it is counted when it is made, and only then"
        )
        restore(cluster, made, RestoreWish(merge=True))
    assert quotas_of(server) == again
    assert f"/z/{LIMITS}" in again


def test_quotas_go_on_from_their_mark_after_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_NODES", 2)
    server = FakeServer()
    made = backup(*(quota(f"/q{i}") for i in range(6)))
    marks: dict[str, str] = {}
    with ensemble(server) as cluster:
        for _ in range(2):
            server.transactions, server.dies_after = 0, 4
            with pytest.raises(RestoreFailed):
                restore(cluster, made, marked=marks.__setitem__, marks=marks)
        assert int(marks["quotas"]) >= 4
        server.dies_after = None
        restore(cluster, made, marked=marks.__setitem__, marks=marks)
    assert sum(p.endswith(LIMITS) for p in quotas_of(server)) == 6


def test_damaged_quotas_touch_nothing() -> None:
    server = FakeServer()
    made = backup(quota("/a"))
    made.blobs[QUOTA] = made.blobs[QUOTA][:-3]
    with ensemble(server) as cluster:
        with pytest.raises(NotRestorable, match="not whole"):
            restore(cluster, made)
        assert server.transactions == 0


def test_only_what_quotas_are_made_of_is_taken_from_their_part() -> None:
    server = FakeServer()
    made = backup(quota("/a"), [node("/zookeeper/config", b"evil"), node("/b", b"evil")])
    with ensemble(server) as cluster:
        restore(cluster, made)
    assert b"/b" not in server.nodes
    assert b"/zookeeper/config" not in server.nodes


def test_an_older_backup_that_knows_of_no_quotas_leaves_those_that_are_there() -> None:
    server = FakeServer()
    for path in (TOP, f"{TOP}/a", f"{TOP}/a/{LIMITS}"):
        server.put(path)
    made = archive([node("/"), node("/a")])
    with ensemble(server) as cluster:
        with BACKING.restorer(cluster, tools(), made, RestoreWish()) as restorer:
            assert restorer.in_the_way() == ()
        restore(cluster, made, wipe=True)
    assert {*quotas_of(server)} == {"/a", f"/a/{LIMITS}"}
    assert b"/a" in server.nodes

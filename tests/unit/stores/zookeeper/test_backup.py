from __future__ import annotations

import pytest

from haops.errors import BadInput
from haops.stores.backup import BackupFailed, BackupWish, Form
from haops.stores.zookeeper.backup import BACKING
from haops.stores.zookeeper.tree import Kind, decode, is_system

from ....fakes import FakeRuntime
from .archives import back_up, tools
from .fake_server import CONTAINER, TTL, FakeServer, ensemble


def filled() -> FakeServer:
    server = FakeServer()
    server.put("/app", b"x", acl=((31, b"digest", b"u:h"),))
    server.put("/app/q", b"", owner=CONTAINER)
    server.put("/app/t", b"", owner=TTL + 9)
    server.put("/lock", b"", owner=0x1000000000001)
    server.put("/zookeeper/quota")
    server.put("/zookeeper/quota/zookeeper_limits")
    return server


def test_both_parts_are_of_the_same_snapshot() -> None:
    server = filled()
    with ensemble(server) as cluster:
        with BACKING.source(cluster, tools(), BackupWish("b1")) as source:
            snapshot, tree, quotas = source.parts()
            assert [p.form for p in (snapshot, tree, quotas)] == [Form.PHYSICAL, Form.LOGICAL, Form.LOGICAL]
            raw = b"".join(source.read(snapshot))
            server.put("/later")
            nodes = list(decode(source.read(tree)))
        assert snapshot.size == len(raw)
    assert [n.path for n in nodes] == [b"/", b"/app", b"/app/q", b"/app/t"]
    assert [n.kind for n in nodes[2:]] == [Kind.CONTAINER, Kind.TTL]


def test_the_tree_can_be_read_before_and_after_the_snapshot() -> None:
    with (
        ensemble(filled()) as cluster,
        BACKING.source(cluster, tools(), BackupWish("b1")) as source,
    ):
        snapshot, tree, _ = source.parts()
        first = b"".join(source.read(tree))
        raw = b"".join(source.read(snapshot))
        assert len(raw) == snapshot.size
        assert b"".join(source.read(tree)) == first


def test_facts_name_position_version_and_what_is_left_out() -> None:
    server = filled()
    with ensemble(server) as cluster:
        facts = back_up(cluster).facts
    assert facts.position == f"zxid {server.zxid:#x}"
    assert facts.version == "3.9.5"
    assert facts.lag == ""
    assert facts.details["nodes"] == "4"
    said = "; ".join(facts.left_out)
    assert "1 ephemeral node (" in said
    assert "/zookeeper (the ensemble's own), but for its quotas" in said
    assert facts.details["quotas"] == "1"
    assert "either state" not in said


def test_changes_made_while_the_server_wrote_are_owned_up_to() -> None:
    server = filled()
    server.drift = 5
    with ensemble(server) as cluster:
        facts = back_up(cluster).facts
    assert facts.details["changed_until"] == f"{server.zxid + 5:#x}"
    assert "either state" in facts.left_out[-1]


@pytest.mark.parametrize(
    ("status", "hint"), [(403, "admin.snapshot.enabled"), (404, "3.9"), (429, "rateLimiter"), (503, "status")]
)
def test_a_refusal_is_told_in_the_servers_words_with_what_to_do(status: int, hint: str) -> None:
    server = filled()
    server.admin = (status, b'{"command": "snapshot", "error": "No, because"}')
    with ensemble(server) as cluster, pytest.raises(BackupFailed, match="No, because") as error:
        back_up(cluster)
    assert hint in str(error.value)
    assert "--logical" in str(error.value)


def test_a_server_that_does_not_know_the_command_is_not_taken_for_one_that_answers() -> None:
    server = filled()
    server.admin = (200, b'{"command": "snapshot", "error": "Unknown command: snapshot"}')
    with ensemble(server) as cluster, pytest.raises(BackupFailed, match="Unknown command"):
        back_up(cluster)


def test_without_a_snapshot_a_logical_backup_reads_node_by_node() -> None:
    server = filled()
    server.admin = (404, b"not here")
    with ensemble(server) as cluster:
        backup = back_up(cluster, logical=True)
    assert list(backup.blobs) == ["tree", "quotas"]
    nodes = {n.path: n for n in decode(backup.read("tree"))}
    assert set(nodes) == {b"/", b"/app", b"/app/q", b"/app/t"}
    assert nodes[b"/app"].next == 2
    assert nodes[b"/app"].acl == ((31, b"digest", b"u:h"),)
    assert any("containers" in words for words in backup.facts.left_out)


def test_a_walk_and_a_snapshot_find_the_same() -> None:
    server = FakeServer()
    for i in range(300):
        server.put(f"/n{i}", b"%d" % i)
        server.put(f"/n{i}/c", None, creates=i)
    with ensemble(server) as cluster:
        one = back_up(cluster)
        server.admin = (404, b"")
        other = back_up(cluster, logical=True)
    assert sorted(decode(one.read("tree"))) == sorted(decode(other.read("tree")))


@pytest.mark.parametrize("end", [10, 200, -1])
def test_a_snapshot_that_breaks_off_fails(end: int) -> None:
    server = filled()
    server.cut_snapshot = end
    with ensemble(server) as cluster, pytest.raises(BackupFailed, match=r"ended after|not whole"):
        back_up(cluster)


def test_point_in_time_and_strange_nodes_are_refused() -> None:
    with ensemble(filled()) as cluster:
        with (
            pytest.raises(BadInput, match="one point in time"),
            BACKING.source(cluster, tools(), BackupWish("b1", pitr=True)),
        ):
            pass
        with pytest.raises(BadInput, match="no node"):
            back_up(cluster, node="zookeeper-9")


def test_an_ensemble_that_nobody_leads_is_not_backed_up() -> None:
    with ensemble(filled()) as cluster:
        pass
    with pytest.raises(BackupFailed, match="nobody leads"):
        back_up(cluster)


def test_there_is_no_loan_to_give_back() -> None:
    from haops.cluster.loans import Loan

    with ensemble(filled()) as cluster:
        assert "no setting" in BACKING.give_back(cluster, FakeRuntime(), Loan("zookeeper-1", "x", "1"))


def with_quotas() -> FakeServer:
    server = filled()
    server.put("/zookeeper/config")
    server.put("/zookeeper/quota/app", acl=((1, b"world", b"anyone"),))
    server.put("/zookeeper/quota/app/zookeeper_limits", b"count=9")
    server.put("/zookeeper/quota/app/zookeeper_stats", b"count=3")
    server.put("/zookeeper/quota/app/passing", owner=0x1000000000001)
    return server


@pytest.mark.parametrize("refused", [None, (404, b"not here")])
def test_what_quotas_are_made_of_is_a_part_of_its_own(refused: tuple[int, bytes] | None) -> None:
    server = with_quotas()
    server.admin = refused
    with ensemble(server) as cluster:
        backup = back_up(cluster, logical=True)
    found = {n.path: n for n in decode(backup.read("quotas"))}
    top = b"/zookeeper/quota"
    assert set(found) == {
        top + p for p in (b"/zookeeper_limits", b"/app", b"/app/zookeeper_limits", b"/app/zookeeper_stats")
    }
    assert found[top + b"/app/zookeeper_limits"].data == b"count=9"
    assert found[top + b"/app"].acl == ((1, b"world", b"anyone"),)
    assert backup.facts.details["quotas"] == "2"
    assert not any(is_system(n.path) for n in decode(backup.read("tree")))


def test_quotas_can_be_read_before_the_tree_and_are_of_its_snapshot() -> None:
    server = with_quotas()
    with ensemble(server) as cluster, BACKING.source(cluster, tools(), BackupWish("b1")) as source:
        snapshot, tree, quotas = source.parts()
        server.put("/zookeeper/quota/later")
        first = b"".join(source.read(quotas))
        assert len(list(decode([first]))) == 4
        assert len(b"".join(source.read(snapshot))) == snapshot.size
        assert len(list(decode(source.read(tree)))) == 4
        assert b"".join(source.read(quotas)) == first
        assert source.facts().details["quotas"] == "2"

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.stores.zookeeper.snapshot_file import SnapshotReader
from haops.stores.zookeeper.tree import Access, Kind, Torn

from .fake_server import CONTAINER, TTL, FakeServer, seal


def server() -> FakeServer:
    made = FakeServer()
    made.put("/a", b"data", acl=((31, b"digest", b"u:p"), (1, b"world", b"anyone")))
    made.put("/a/b", None)
    made.put("/a/c", b"", owner=CONTAINER)
    made.put("/a/t", b"", owner=TTL + 1500)
    made.put("/e", b"", owner=0x100000000000001)
    made.delete(b"/a/b")
    return made


def test_nodes_come_with_data_lists_kinds_and_counters() -> None:
    reader = SnapshotReader([server().snapshot()])
    nodes = {n.path: n for n in reader.nodes()}
    assert list(nodes) == [b"/", b"/zookeeper", b"/a", b"/a/c", b"/a/t", b"/e"]
    assert nodes[b"/a"].data == b"data"
    assert nodes[b"/a"].acl == (Access(31, b"digest", b"u:p"), Access(1, b"world", b"anyone"))
    assert nodes[b"/a"].next == 3, "three were made below it, whatever is left"
    assert (nodes[b"/a/c"].kind, nodes[b"/e"].kind) == (Kind.CONTAINER, Kind.EPHEMERAL)
    assert (nodes[b"/a/t"].kind, nodes[b"/a/t"].ttl) == (Kind.TTL, 1500)


def test_no_data_is_not_empty_data() -> None:
    made = FakeServer()
    made.put("/none", None)
    made.put("/empty", b"")
    nodes = {n.path: n.data for n in SnapshotReader([made.snapshot()]).nodes()}
    assert (nodes[b"/none"], nodes[b"/empty"]) == (None, b"")


@given(st.integers(1, 100))
def test_blocks_of_any_size_are_read(size: int) -> None:
    raw = server().snapshot()
    reader = SnapshotReader(raw[i : i + size] for i in range(0, len(raw), size))
    assert len(list(reader.nodes())) == 6
    assert reader.ended_at == server().zxid


@pytest.mark.parametrize("size", [64, 10_000])
def test_no_flipped_bit_goes_unnoticed(size: int) -> None:
    raw = server().snapshot()
    for place in range(len(raw)):
        damaged = bytearray(raw)
        damaged[place] ^= 1 << place % 8
        with pytest.raises(Torn):
            list(SnapshotReader(bytes(damaged[i : i + size]) for i in range(0, len(raw), size)).nodes())


def test_no_cut_goes_unnoticed_but_the_end_of_what_came_later() -> None:
    raw = server().snapshot()
    # Servers before 3.6 and 3.9 ended there: a whole snapshot of theirs.
    older = {len(raw) - 21, len(raw) - 21 - 33}
    for end in range(len(raw)):
        if end in older:
            assert len(list(SnapshotReader([raw[:end]]).nodes())) == 6
        else:
            with pytest.raises(Torn):
                list(SnapshotReader([raw[:end]]).nodes())


def test_more_than_a_snapshot_is_noticed() -> None:
    with pytest.raises(Torn):
        list(SnapshotReader([server().snapshot(), bytes(500)]).nodes())


def test_a_snapshot_without_a_digest_still_tells_its_last_zxid() -> None:
    raw = server().snapshot()
    body = raw[: len(raw) - 21 - 33]
    reader = SnapshotReader([seal(body + (7).to_bytes(8, "big"))])
    list(reader.nodes())
    assert reader.ended_at == 7


def test_a_compressed_or_foreign_file_is_named() -> None:
    with pytest.raises(Torn, match="compressed"):
        list(SnapshotReader([b"\x1f\x8b" + bytes(100)]).nodes())


def test_a_snapshot_of_another_format_is_named() -> None:
    raw = bytearray(server().snapshot())
    raw[7] = 3
    with pytest.raises(Torn, match="format 3, this haops reads 2"):
        list(SnapshotReader([bytes(raw)]).nodes())

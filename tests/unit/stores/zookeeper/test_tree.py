from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.stores.zookeeper.tree import (
    OPEN,
    Access,
    Kind,
    Left,
    Torn,
    TreeNode,
    UnknownForm,
    decode,
    encode,
    fingerprint,
    is_limits,
    is_stats,
    is_system,
    kind_of,
    limited,
    quota_of,
    within,
)

whole = st.integers(-(2**63), 2**63 - 1)
small = st.integers(-(2**31), 2**31 - 1)
access = st.builds(Access, small, st.binary(max_size=8), st.binary(max_size=8))
nodes = st.builds(
    TreeNode,
    path=st.binary(max_size=20).map(lambda b: b"/" + b),
    data=st.none() | st.binary(max_size=40),
    acl=st.lists(access, max_size=3).map(tuple),
    kind=st.sampled_from(Kind),
    ttl=st.integers(0, 2**40 - 1),
    next=whole,
    created=whole,
    changed=whole,
    children=whole,
    ctime=whole,
    mtime=whole,
    version=small,
    aversion=small,
)


def plain(path: bytes = b"/a", **more: object) -> TreeNode:
    return TreeNode(path, b"x", OPEN, Kind.PERSISTENT, 0, 3, 1, 2, 3, 4, 5, 6, 7)._replace(**more)  # type: ignore[arg-type]


def cut(raw: bytes, size: int) -> Iterator[bytes]:
    return (raw[i : i + size] for i in range(0, len(raw), size))


@given(st.lists(nodes, max_size=8), st.integers(1, 50))
def test_what_was_written_is_read_however_the_blocks_are_cut(written: list[TreeNode], size: int) -> None:
    assert list(decode(cut(b"".join(encode(written)), size))) == written


@given(st.lists(nodes, max_size=4), st.data())
def test_a_stream_that_is_cut_off_anywhere_is_torn(written: list[TreeNode], data: st.DataObject) -> None:
    raw = b"".join(encode(written))
    end = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(Torn):
        list(decode([raw[:end]]))


@given(st.binary(max_size=200))
def test_rubbish_is_torn_or_of_an_unknown_form_and_nothing_else(raw: bytes) -> None:
    for stream in (raw, b"haops-zookeeper-tree 1\n" + raw):
        try:
            list(decode([stream]))
        except (Torn, UnknownForm):
            continue
        assert stream[-9:-8] == b"\0", "whole streams end with their count"


def test_something_behind_the_end_is_torn() -> None:
    with pytest.raises(Torn, match="behind its end"):
        list(decode([*encode([plain()]), b"x"]))


def test_a_newer_form_says_what_to_do() -> None:
    with pytest.raises(UnknownForm, match=r"form 2, this haops reads 1\n.*later one"):
        list(decode([b"haops-zookeeper-tree 2\nwhatever"]))


def test_large_trees_come_in_blocks_of_bounded_size() -> None:
    blocks = list(encode(plain(data=bytes(1000)) for _ in range(2000)))
    assert len(blocks) > 4
    assert max(map(len, blocks)) < 300_000


@pytest.mark.parametrize(
    ("owner", "kind"),
    [
        (0, (Kind.PERSISTENT, 0)),
        (-(1 << 63), (Kind.CONTAINER, 0)),
        (0x1000000000001, (Kind.EPHEMERAL, 0)),
        (-(1 << 56) + 5000, (Kind.TTL, 5000)),
        (-(1 << 56) + (1 << 40) - 1, (Kind.TTL, (1 << 40) - 1)),
        # A session of the server with the number 255 has bits that no time to live has.
        (-(1 << 56) + (1 << 40), (Kind.EPHEMERAL, 0)),
        (-(1 << 62), (Kind.EPHEMERAL, 0)),
    ],
)
def test_the_owner_tells_what_a_node_is(owner: int, kind: tuple[Kind, int]) -> None:
    assert kind_of(owner) == kind


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("path", b"/b"),
        ("data", b"y"),
        ("data", None),
        ("acl", (Access(1, b"world", b"anyone"),)),
        ("kind", Kind.CONTAINER),
        ("ttl", 1),
        ("next", 4),
    ],
)
def test_a_difference_between_ensembles_changes_the_fingerprint(field: str, value: object) -> None:
    assert fingerprint(plain(**{field: value})) != fingerprint(plain())


@pytest.mark.parametrize("field", ["created", "changed", "children", "ctime", "mtime", "version", "aversion"])
def test_history_counts_only_among_copies_of_one_ensemble(field: str) -> None:
    other = plain(**{field: 99})
    assert fingerprint(other) == fingerprint(plain())
    assert fingerprint(other, exact=True) != fingerprint(plain(), exact=True)


def test_no_data_and_empty_data_are_different() -> None:
    assert fingerprint(plain(data=None)) != fingerprint(plain(data=b""))


def test_the_order_of_an_access_list_is_no_difference() -> None:
    one, other = Access(1, b"world", b"anyone"), Access(31, b"digest", b"u:p")
    assert fingerprint(plain(acl=(one, other))) == fingerprint(plain(acl=(other, one)))


def test_the_roots_suffix_counts_only_among_copies() -> None:
    root, later = plain(b"/"), plain(b"/", next=9)
    assert fingerprint(root) == fingerprint(later)
    assert fingerprint(root, exact=True) != fingerprint(later, exact=True)


def test_the_ensembles_own_and_sessions_nodes_are_left_out_and_counted() -> None:
    left = Left()
    kept = [
        plain(b"/"),
        plain(b"/zookeeper"),
        plain(b"/zookeeper/quota"),
        plain(b"/zookeeper/quota/a"),
        plain(b"/zookeeper/quota/a/zookeeper_limits"),
        plain(b"/zookeeper/quota/a/passing", kind=Kind.EPHEMERAL),
        plain(b"/zookeepers", kind=Kind.TTL, ttl=5),
        plain(b"/lock", kind=Kind.EPHEMERAL),
    ]
    assert [n.path for n in left.keep(kept)] == [b"/", b"/zookeepers"]
    assert (left.nodes, left.bytes, left.sessions, left.system) == (2, 2, 1, 5)
    assert left.quotas == kept[3:5]
    assert left.lasting == 1


def test_a_subtree_is_a_path_and_what_is_below_it() -> None:
    assert within(b"/a", b"/a")
    assert within(b"/a/b", b"/a")
    assert not within(b"/ab", b"/a")
    assert within(b"/ab", b"/")
    assert is_system(b"/zookeeper/config")
    assert not is_system(b"/zookeeperx")


@pytest.mark.parametrize(
    ("path", "of"),
    [
        (b"/zookeeper/quota/zookeeper_limits", b"/"),
        (b"/zookeeper/quota/a/b/zookeeper_limits", b"/a/b"),
        (b"/zookeeper/quota/a/b/zookeeper_stats", None),
        (b"/zookeeper/quota/a", None),
        (b"/zookeeper/quotas/a/zookeeper_limits", None),
        (b"/a/zookeeper_limits", None),
    ],
)
def test_a_quota_is_known_by_its_place_and_is_of_the_path_that_its_place_says(
    path: bytes, of: bytes | None
) -> None:
    assert is_limits(path) == (of is not None)
    if of is not None:
        assert limited(path) == of
        assert within(path, quota_of(of))
    assert is_stats(path) == path.endswith(b"/b/zookeeper_stats")

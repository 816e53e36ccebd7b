"""The append-only file: its manifest, and which commands belong to a moment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.stores.backup import BackupFailed
from haops.stores.redis.aof import Manifest, Replay, read_manifest
from haops.stores.redis.wire import pack


def replayed(data: bytes, until: int | None, size: int = 1 << 20) -> tuple[bytes, Replay]:
    replay = Replay(until)
    blocks = (data[at : at + size] for at in range(0, len(data), size))
    return b"".join(replay.commands(blocks)), replay


def stamp(second: int) -> bytes:
    return b"#TS:%d\r\n" % second


def test_a_manifest_tells_the_base_and_the_increments_in_order() -> None:
    text = (
        "file a.1.base.rdb seq 1 type h\n"
        "file a.2.base.rdb seq 2 type b\n"
        "file a.10.incr.aof seq 10 type i startoffset 5\n"
        "file a.9.incr.aof seq 9 type i\n"
    )
    assert read_manifest(text) == Manifest("a.2.base.rdb", ("a.9.incr.aof", "a.10.incr.aof"))


@pytest.mark.parametrize("text", ["", "file a seq 1 type i\n", "nonsense\n", "file a seq x type b\n"])
def test_a_manifest_without_a_base_or_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(BackupFailed):
        read_manifest(text)


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_what_was_done_up_to_the_second_is_replayed_and_nothing_later(size: int) -> None:
    one, two, three = (pack("SET", "k", n) for n in range(3))
    data = stamp(10) + one + stamp(11) + two + stamp(12) + three
    found, replay = replayed(data, 11, size)
    assert found == one + two
    assert replay.over
    assert replay.last == 11
    assert replayed(data, None, size)[0] == one + two + three


def test_a_value_that_looks_like_a_time_stamp_is_none() -> None:
    tricky = pack("SET", "k", b"\r\n#TS:99\r\n*1\r\n$4\r\nexec\r\n")
    assert replayed(stamp(1) + tricky + stamp(2) + tricky, 2)[0] == tricky * 2


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_transaction_comes_whole_or_not_at_all(size: int) -> None:
    before, inside = pack("SET", "a", 1), pack("SET", "b", 2)
    cut_off = before + pack("MULTI") + inside
    assert replayed(cut_off, None, size)[0] == before
    whole = cut_off + stamp(5) + inside + pack("EXEC")
    assert replayed(whole, None, size)[0] == before + pack("MULTI") + inside * 2 + pack("EXEC")
    assert replayed(whole, 4, size)[0] == replayed(whole, None, size)[0]


def test_a_damaged_log_is_told() -> None:
    with pytest.raises(BackupFailed, match="damaged"):
        replayed(pack("SET", "k", 1) + b"garbage\r\n", None)
    with pytest.raises(BackupFailed, match="damaged"):
        replayed(b"*2\r\n$3\r\nGET\r\nk\r\n", None)


commands = st.lists(st.lists(st.binary(max_size=12), min_size=1, max_size=4), max_size=8)


@given(commands, st.integers(1, 60), st.integers(0, 200))
def test_a_log_that_ends_anywhere_gives_a_whole_number_of_commands(
    words: list[list[bytes]], size: int, end: int
) -> None:
    packed = [pack(b"x", *each) for each in words]
    whole = b"".join(stamp(n) + one for n, one in enumerate(packed))
    found, replay = replayed(whole[:end], None, size)
    possible = [b"".join(packed[:n]) for n in range(len(packed) + 1)]
    assert found in possible
    if end >= len(whole):
        assert found == b"".join(packed)
        assert replay.consumed == len(whole)

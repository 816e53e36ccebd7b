"""RDB files made here byte by byte: what is read back, and that nothing broken is taken for whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haops.stores.redis.coding import Unreadable, lzf, string
from haops.stores.redis.rdb import Entry, Library, Rdb, notes_of


def sized(number: int) -> bytes:
    if number < 64:
        return bytes([number])
    if number < 1 << 14:
        return (number | 1 << 14).to_bytes(2, "big")
    if number < 1 << 32:
        return b"\x80" + number.to_bytes(4, "big")
    return b"\x81" + number.to_bytes(8, "big")


def text(data: bytes) -> bytes:
    return sized(len(data)) + data


def aux(name: str, value: str) -> bytes:
    return b"\xfa" + text(name.encode()) + text(value.encode())


def key(name: bytes, kind: int, raw: bytes, expires: int = 0) -> bytes:
    before = b"\xfc" + expires.to_bytes(8, "little") if expires else b""
    return before + bytes([kind]) + text(name) + raw


def rdb(*parts: bytes, version: int = 12) -> bytes:
    return b"REDIS%04d" % version + b"".join(parts) + b"\xff" + bytes(8)


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def entries(data: bytes, size: int = 1 << 20) -> list[Entry]:
    return [item for item in Rdb(cut(data, size)).items() if isinstance(item, Entry)]


# One raw value of each type byte that servers up to Redis 8.0 write, as `rdb.c` lays it out.
PIECES = b"\x01\x05\x02\x06\x05" + text(b"piece") + b"\x04" + bytes(8) + b"\x03" + bytes(4) + b"\x00"
GROUP1 = text(b"g") + b"\x01\x02" + b"\x01" + bytes(24) + b"\x03" + b"\x01" + text(b"me")
STREAM = b"\x01" + text(bytes(16)) + text(b"entries")
RAW = {
    0: text(b"v" * 70),
    1: b"\x02" + text(b"a") + b"\xc0\x07",
    2: b"\x01" + text(b"m"),
    3: b"\x03" + text(b"m") + b"\x031.5" + text(b"n") + b"\xfe" + text(b"o") + b"\xff",
    4: b"\x01" + text(b"f") + b"\xc1\x00\x01",
    5: b"\x01" + text(b"m") + bytes(8),
    7: b"\x81" + bytes(8) + PIECES,
    9: text(b"zipmap"),
    10: text(b"ziplist"),
    11: text(b"intset"),
    12: text(b"ziplist"),
    13: text(b"ziplist"),
    14: b"\x02" + text(b"one") + text(b"two"),
    15: STREAM + b"\x05\x06\x07" + b"\x01" + GROUP1 + bytes(8) + b"\x01" + bytes(16),
    16: text(b"listpack"),
    17: text(b"listpack"),
    18: b"\x02\x01" + text(b"plain") + b"\x02" + text(b"packed"),
    19: STREAM + bytes(8) + b"\x01" + text(b"g") + b"\x01\x02\x03" + b"\x00" + b"\x00",
    20: text(b"listpack"),
    21: STREAM
    + bytes(8)
    + b"\x01"
    + text(b"g")
    + b"\x01\x02\x03\x00\x01"
    + text(b"me")
    + bytes(16)
    + b"\x01"
    + bytes(16),
    24: bytes(8) + b"\x02" + b"\x00" + text(b"f") + text(b"v") + b"\x09" + text(b"g") + text(b"w"),
    25: bytes(8) + text(b"listpack"),
}


@pytest.mark.parametrize("kind", RAW)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_a_value_of_every_type_is_passed_over_to_the_byte(kind: int, size: int) -> None:
    data = rdb(key(b"before", 0, text(b"x")), key(b"k", kind, RAW[kind]), key(b"after", 0, text(b"y")))
    found = entries(data, size)
    assert [e.key for e in found] == [b"before", b"k", b"after"]
    assert (found[1].kind, found[1].raw) == (kind, RAW[kind])


@pytest.mark.parametrize("kind", RAW)
def test_an_rdb_that_ends_anywhere_before_its_end_is_refused(kind: int) -> None:
    data = rdb(key(b"k", kind, RAW[kind], expires=5))[:-8]
    for end in range(len(data)):
        with pytest.raises(Unreadable):
            entries(data[:end])


def test_what_stands_before_and_between_keys_is_read_or_passed_over() -> None:
    data = rdb(
        aux("redis-ver", "8.0.2"),
        aux("repl-offset", "77"),
        b"\xf7\x81" + bytes(8) + b"\x02\x01" + b"\x02\x05\x00",  # a module's own
        b"\xf5" + text(b"#!lua name=one"),
        b"\xfe\x00\xfb\x02\x01",
        b"\xf9\x05" + key(b"often", 0, text(b"1")),
        b"\xf8\x40\xc8" + key(b"idle", 0, text(b"2")),
        b"\xfd" + (9).to_bytes(4, "little") + key(b"seconds", 0, text(b"3")),
        b"\xf4\x01\x02\x03",
        b"\xfe\x05" + key(b"elsewhere", 0, text(b"4"), expires=1234),
    )
    reader = Rdb([data])
    library, *keys = reader.items()
    assert library == Library(b"#!lua name=one")
    seen = [(k.db, k.key, k.expires) for k in keys if isinstance(k, Entry)]
    assert seen == [
        (0, b"often", 0),
        (0, b"idle", 0),
        (0, b"seconds", 9000),
        (5, b"elsewhere", 1234),
    ]
    assert reader.head.notes == {"redis-ver": "8.0.2", "repl-offset": "77"}
    assert reader.consumed == len(data) - 8


@pytest.mark.parametrize("kind", [6, 8, 22, 23, 26, 60, 240, 246])
def test_a_type_that_is_not_known_is_named_instead_of_guessed(kind: int) -> None:
    with pytest.raises(Unreadable, match=str(kind)):
        entries(rdb(key(b"k", kind, text(b"?"))))


def test_a_newer_version_is_refused_and_its_notes_are_still_told() -> None:
    data = rdb(aux("redis-ver", "9.9"), version=13)
    with pytest.raises(Unreadable, match="13"):
        entries(data)
    assert notes_of(rdb(version=11)[:-9])["rdb-version"] == "11"
    assert notes_of(data[:30]) == {"rdb-version": "13", "redis-ver": "9.9"}
    assert notes_of(data[:9]) == {"rdb-version": "13"}


@pytest.mark.parametrize("size", [1, 30, 1 << 20])
@pytest.mark.parametrize("packed", [5, 63, 64, 300])
@pytest.mark.parametrize("plain", [20, 63, 64, 20_000])
def test_packed_strings_of_any_length_are_passed_over(packed: int, plain: int, size: int) -> None:
    raw = b"\xc3" + sized(packed) + sized(plain) + b"\xff" * packed
    found = entries(rdb(key(b"k", 0, raw), key(b"after", 0, text(b"x"))), size)
    assert [(e.key, e.raw) for e in found] == [(b"k", raw), (b"after", text(b"x"))]


def test_something_else_is_no_rdb() -> None:
    with pytest.raises(Unreadable, match="begin"):
        entries(b"PK\x03\x04" + bytes(100))


@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        (b"\xc0\xff", b"-1"),
        (b"\xc1\x00\x80", b"-32768"),
        (b"\xc2\xff\xff\xff\x7f", b"2147483647"),
        (text(b"abc"), b"abc"),
        (b"\xc3\x09\x3d\x01aa\xe0\x30\x00\x01ab", b"a" * 60 + b"b"),
    ],
)
def test_a_string_comes_out_as_the_server_would_answer_it(packed: bytes, plain: bytes) -> None:
    assert string(packed, 0) == (plain, len(packed))


@given(st.binary(max_size=40), st.integers(0, 60))
def test_damaged_packed_strings_never_come_out_with_the_wrong_size(data: bytes, size: int) -> None:
    try:
        found = lzf(data, size)
    except Unreadable:
        return
    assert len(found) == size


names = st.binary(max_size=70)
values = st.binary(max_size=20000)


@settings(max_examples=60)
@given(st.lists(st.tuples(names, values, st.integers(0, 2**45))), st.integers(1, 5000))
def test_keys_written_are_keys_read_however_the_bytes_come(
    wanted: list[tuple[bytes, bytes, int]], size: int
) -> None:
    data = rdb(*(key(name, 0, text(value), expires) for name, value, expires in wanted))
    found = [(e.key, string(e.raw, 0)[0], e.expires) for e in entries(data, size)]
    assert found == wanted


@given(
    st.lists(st.tuples(names, st.binary(max_size=200), st.sampled_from([0, 9]))), names, st.integers(1, 300)
)
def test_only_the_keys_with_a_prefix_are_given_out(
    there: list[tuple[bytes, bytes, int]], prefix: bytes, size: int
) -> None:
    data = rdb(*(key(name, 0, text(value), expires) for name, value, expires in there))
    for only in (prefix, prefix[:1], b""):
        found = [e.key for e in Rdb(cut(data, size), only).items() if isinstance(e, Entry)]
        assert found == [name for name, _, _ in there if name.startswith(only)]

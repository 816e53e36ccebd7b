"""Bodies and digests from raw values: the golden ones are a Redis 8.0.2's own DUMP and its scripts' digests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.stores.redis.coding import Unreadable
from haops.stores.redis.digest import name_of, place_of, record, show, summed, trailer
from haops.stores.redis.packed import intset, listpack, ziplist
from haops.stores.redis.rdb import Entry
from haops.stores.redis.values import is_over, value_of

# Key: its DUMP, and the digest that the server computed.
GOLDEN = {
    "hpack": ("10121200000004008161020101816202817802ff0c00b37178ab23fd9b56", 0xFC399D9A910E2BD5),
    "hpacktime": (
        "1900d8c32cbb0300001e1e0000000600816202817802f400d8c32cbb0300000981610201010001ff0c00c0f9de"
        "0c80097c77",
        0xA468325558377609,
    ),
    "htable": ("0402016201780161c0010c00c06de04f5add13b2", 0x5678A96880955E73),
    "htabletime": ("1800d8c32cbb030000020001620178010161c0010c00d87b97e8fe54649e", 0x7BB2145ADB813998),
    "int": ("00c12efb0c0056dd11300d7977ff", 0x326BB7558F93AA85),
    "intset": ("0b140400000003000000feffffff01000000701101000c00fb244938361b8172", 0x59C3A01C0FD77ECB),
    "listpack": (
        "120102c3194059115900000004008161020101f178ec03e04679e03c000148ff0c00770402159b09789c",
        0xF95CBA6A94C0B1FF,
    ),
    "nodes": (
        "1203020f0f00000002008261610382626203ff021010000000020082636303f270110104ff0211110000000100"
        "f400b02923feffffff09ff0c007ca9136531c88a9e",
        0xF305BF26F1D3DC53,
    ),
    "packed": ("00c3093d016161e030000161620c003b5d11a9935f4151", 0xE0FE6A11F09CF0DB),
    "quicklist": ("12010213130000000300826530038265310382653203ff0c00e05fe0a2bcb58c7b", 0x51DDC26F3117EB5D),
    "setpack": ("140f0f00000003008161028162020701ff0c00c8dc80abe96f601a", 0x6699626FF3D603A4),
    "settable": ("02030162016101630c0052bab41da3a84c1c", 0x3778F385649A0086),
    "stream": (
        "150110000000000000000500000000000000013d3d000000180002010101010181660200010201000100018176"
        "0204010101000101010201816602817702816702020108010201000102018177020401ff020503050105020301"
        "047465616d050181ffffffffffffffff0100000000000000050000000000000001adb75c0ea20100000101026d"
        "65adb75c0ea2010000adb75c0ea201000001000000000000000500000000000000010c006de38cc1599f7a09",
        0x1D0B702F076F5EF9,
    ),
    "text": ("0005706c61696e0c00b18855966d410baa", 0xFC52B3EA63BA7B40),
    "zpack": (
        "111d1d0000000600816202842d322e3505816102010181630283696e6604ff0c00506eb302a84f1c82",
        0x411CF7FC4273D97E,
    ),
    "ztable": (
        "050301619a9999999999f13f016200000000000000800163000000000000f0ff0c008753c1a1c7c56c38",
        0x26E41499C7195A23,
    ),
}
NOW = 4_000_000_000_000


def entry(name: str, raw: bytes, kind: int, expires: int = 0) -> Entry:
    return Entry(0, name.encode(), kind, raw, expires)


def golden(name: str) -> Entry:
    dumped = bytes.fromhex(GOLDEN[name][0])
    return entry(name, dumped[1:-10], dumped[0])


@pytest.mark.parametrize("name", GOLDEN)
def test_a_value_of_every_encoding_has_the_digest_that_the_server_computes(name: str) -> None:
    found = golden(name)
    value = value_of(found, NOW)
    assert record(0, found.key, value.letter, 0, value.body) == GOLDEN[name][1]


def test_encodings_of_the_same_value_have_the_same_body() -> None:
    assert value_of(golden("hpack"), NOW).body == value_of(golden("htable"), NOW).body
    assert value_of(golden("hpack"), NOW).body != value_of(golden("hpacktime"), NOW).body


def test_a_field_whose_time_is_over_is_left_out() -> None:
    later = 4_200_000_000_000
    assert value_of(golden("htabletime"), NOW).preview == "2 elements"
    assert value_of(golden("htabletime"), later).preview == "1 elements"
    assert value_of(golden("hpacktime"), later).preview == "1 elements"


@pytest.mark.parametrize("kind", ["table", "pack"])
def test_a_hash_is_over_when_the_last_of_its_fields_is(kind: str) -> None:
    until = 4_102_444_800_000  # what GOLDEN's hashes have
    assert not is_over(golden(f"h{kind}time"), until + 10**9)  # another field has no time
    one = {
        "table": entry("k", until.to_bytes(8, "little") + b"\x01\x01\x01f\x01v", 24),
        "pack": entry(
            "k",
            until.to_bytes(8, "little")
            + b"\x17"
            + bytes(6)
            + b"\x81f\x02\x81v\x02\xf4"
            + until.to_bytes(8, "little")
            + b"\x09\xff",
            25,
        ),
    }[kind]
    assert not is_over(one, until - 1)
    assert is_over(one, until)
    assert not is_over(entry("k", b"\x01\x01f\x01v", 4), until)


def test_a_modules_value_is_compared_by_presence_only() -> None:
    one, other = (value_of(entry("k", raw, 7), NOW) for raw in (b"\x00\x00", b"\x01\x00"))
    assert one == other
    assert one.kind == ""


def test_old_encodings_have_the_bodies_of_new_ones() -> None:
    packed = b"\x13\0\0\0\0\0\0\0\x02\0" + b"\x00\x01a" + b"\x03\xf2" + b"\xff"
    assert list(ziplist(packed)) == [b"a", b"1"]
    old = value_of(entry("k", bytes([len(packed)]) + packed, 13), NOW)
    pairs = b"\x01\x01a\xc0\x01"
    assert old.body == value_of(entry("k", pairs, 4), NOW).body
    scores = b"\x02\x01a\x031.5\x01b\xff"
    binary = b"\x02\x01a" + bytes(6) + b"\xf8\x3f" + b"\x01b" + bytes(6) + b"\xf0\xff"
    assert value_of(entry("k", scores, 3), NOW).body == value_of(entry("k", binary, 5), NOW).body


@pytest.mark.parametrize(
    ("element", "wanted"),
    [
        (b"\x05hello", b"hello"),
        (b"\x41\x2c" + b"x" * 300, b"x" * 300),
        (b"\x80\0\0\x01\x2c" + b"x" * 300, b"x" * 300),
        (b"\xc0\xff\xff", b"-1"),
        (b"\xd0\0\0\0\x80", b"-2147483648"),
        (b"\xe0" + b"\xff" * 8, b"-1"),
        (b"\xf0\x01\0\x80", b"-8388607"),
        (b"\xfe\x80", b"-128"),
        (b"\xfd", b"12"),
    ],
)
def test_a_ziplist_has_each_kind_of_element(element: bytes, wanted: bytes) -> None:
    assert list(ziplist(bytes(10) + b"\x00" + element + b"\xfe\0\0\0\0" + element + b"\xff")) == [wanted] * 2


@pytest.mark.parametrize(
    ("element", "wanted"),
    [
        (b"\x7f\x01", b"127"),
        (b"\xc3abc\x04".replace(b"\xc3", b"\x83"), b"abc"),
        (b"\xdf\xff\x02", b"-1"),
        (b"\xe1\x2c" + b"x" * 300 + b"\x02\xae", b"x" * 300),
        (b"\xf0\x10\x27\0\0" + b"x" * 10000 + b"\x4e\x95", b"x" * 10000),
        (b"\xf1\0\x80\x03", b"-32768"),
        (b"\xf2\xff\xff\xff\x04", b"-1"),
        (b"\xf4" + b"\xff" * 7 + b"\x7f\x09", b"9223372036854775807"),
    ],
)
def test_a_listpack_has_each_kind_of_element(element: bytes, wanted: bytes) -> None:
    assert list(listpack(bytes(6) + element * 2 + b"\xff")) == [wanted] * 2


def test_cut_off_packs_are_refused() -> None:
    for broken in (lambda: list(listpack(bytes(6) + b"\x01\x01")), lambda: list(ziplist(bytes(11)))):
        with pytest.raises(Unreadable):
            broken()
    with pytest.raises(Unreadable):
        list(intset(b"\x02\0\0\0\x05\0\0\0\0\0"))


@given(st.integers(0, 15), st.binary(max_size=40))
def test_a_key_and_its_database_come_back_from_its_name(db: int, key: bytes) -> None:
    place = place_of(name_of(db, key))
    assert (place.db, place.key) == (db, key)


@given(st.tuples(st.integers(0, 15), st.binary()), st.tuples(st.integers(0, 15), st.binary()))
def test_different_places_have_different_names(one: tuple[int, bytes], other: tuple[int, bytes]) -> None:
    assert (one == other) == (name_of(*one) == name_of(*other))


parts = st.tuples(
    st.binary(max_size=6), st.binary(max_size=6), st.sampled_from([b"s", b"l"]), st.integers(0, 2**50)
)


@given(parts, parts)
def test_different_records_are_digested_from_different_bytes(
    one: tuple[bytes, bytes, bytes, int], other: tuple[bytes, bytes, bytes, int]
) -> None:
    made = [body + key + trailer(0, kind, until, len(key)) for body, key, kind, until in (one, other)]
    assert (made[0] == made[1]) == (one == other)


@given(st.lists(st.binary(max_size=8)), st.randoms())
def test_the_order_of_elements_does_not_matter(elements: list[bytes], random: object) -> None:
    shuffled = sorted(elements, key=lambda e: hash((e, id(random))))
    assert summed(elements) == summed(shuffled)
    assert summed([*elements, b"more"]) != summed(elements)


def test_a_key_is_shown_as_text_with_its_database() -> None:
    assert show(name_of(0, b"user:1")) == "user:1"
    assert show(name_of(3, b"\xff")) == "\\xff (database 3)"

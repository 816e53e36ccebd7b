"""Lengths and strings as an RDB writes them (Redis, `rdb.c`), and LZF, by which it packs strings."""

from __future__ import annotations

from haops.stores.backup import BackupFailed


class Unreadable(BackupFailed):
    """The bytes are no RDB, or one of a kind that this version does not know."""


class Short(Exception):
    """The bytes at hand end before the item does."""


def length(buf: bytes, at: int) -> tuple[int, int]:
    """A length and where it ends. Raises IndexError or Short at the buffer's end."""
    first = buf[at]
    if first < 0x40:
        return first, at + 1
    if first < 0x80:
        return (first & 0x3F) << 8 | buf[at + 1], at + 2
    size = {0x80: 4, 0x81: 8}.get(first)
    if size is None:
        raise Unreadable(f"a length begins with {first:#x}")
    within(buf, at + 1 + size)
    return int.from_bytes(buf[at + 1 : at + 1 + size], "big"), at + 1 + size


def within(buf: bytes, end: int) -> int:
    """`end`, if the bytes go so far. Raises Short."""
    if end > len(buf):
        raise Short
    return end


def skip_string(buf: bytes, at: int) -> int:
    """Where a string ends."""
    first = buf[at]
    if first < 0xC0:
        size, at = length(buf, at)
        return at + size
    if first <= 0xC2:
        return at + 1 + (1 << (first & 3))
    if first == 0xC3:
        packed, at = length(buf, at + 1)
        _, at = length(buf, at)
        return at + packed
    raise Unreadable(f"a string begins with {first:#x}")


def string(buf: bytes, at: int) -> tuple[bytes, int]:
    """A string, decoded, and where it ends."""
    first = buf[at]
    if first < 0xC0:
        size, at = length(buf, at)
        return buf[at : within(buf, at + size)], at + size
    if first <= 0xC2:
        end = within(buf, at + 1 + (1 << (first & 3)))
        return b"%d" % int.from_bytes(buf[at + 1 : end], "little", signed=True), end
    if first != 0xC3:
        raise Unreadable(f"a string begins with {first:#x}")
    packed, at = length(buf, at + 1)
    size, at = length(buf, at)
    return lzf(buf[at : within(buf, at + packed)], size), at + packed


def lzf(data: bytes, size: int) -> bytes:
    """Undo LZF (the format of liblzf: literal runs and back references)."""
    out = bytearray()
    at = 0
    try:
        while at < len(data):
            control = data[at]
            at += 1
            if control < 32:
                out += data[at : at + control + 1]
                at += control + 1
                continue
            run = control >> 5
            if run == 7:
                run += data[at]
                at += 1
            start = len(out) - ((control & 31) << 8 | data[at]) - 1
            at += 1
            if start < 0:
                raise Unreadable("a packed string refers to before its beginning")
            _repeat(out, start, run + 2)
    except IndexError as error:
        raise Unreadable("a packed string is cut off") from error
    if len(out) != size:
        raise Unreadable(f"a packed string has {len(out)} bytes, not {size}")
    return bytes(out)


def _repeat(out: bytearray, start: int, count: int) -> None:
    """Append `count` bytes that begin at `start`; they may overlap with what is appended."""
    distance = len(out) - start
    if distance >= count:
        out += out[start : start + count]
        return
    unit = bytes(out[start:])
    out += (unit * (count // distance + 1))[:count]

"""Raw values in words, for people; what no reader of a report would know is shown as hexadecimal."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final
from uuid import UUID

from haops.stores.cassandra.rows import STATIC, Column, split_key

_LONG: Final = 40
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_ZERO: Final = 2**31


def _text(raw: bytes) -> str:
    return repr(raw.decode(errors="backslashreplace"))


def _number(raw: bytes) -> str:
    return str(int.from_bytes(raw, "big", signed=True))


def _moment(raw: bytes) -> str:
    return f"{_EPOCH + timedelta(milliseconds=int.from_bytes(raw, 'big', signed=True)):%Y-%m-%dT%H:%M:%S.%fZ}"


def _day(raw: bytes) -> str:
    return f"{_EPOCH + timedelta(days=int.from_bytes(raw, 'big') - _DAY_ZERO):%Y-%m-%d}"


_WORDS: Final[Mapping[str, Callable[[bytes], str]]] = {
    **dict.fromkeys(("ascii", "text", "varchar"), _text),
    **dict.fromkeys(("tinyint", "smallint", "int", "bigint", "varint", "counter"), _number),
    **dict.fromkeys(("uuid", "timeuuid"), lambda raw: str(UUID(bytes=raw))),
    "boolean": lambda raw: "true" if raw != b"\0" else "false",
    "float": lambda raw: f"{struct.unpack('>f', raw)[0]:g}",
    "double": lambda raw: f"{struct.unpack('>d', raw)[0]:g}",
    "timestamp": _moment,
    "date": _day,
    "inet": lambda raw: str(ip_address(raw)),
}


def shown(type_: str, raw: bytes | None) -> str:
    """A value in words; its beginning where it is long."""
    if raw is None:
        return "null"
    try:
        words = _WORDS[type_](raw)
    except (KeyError, ValueError, OverflowError, struct.error):
        words = f"0x{raw[:_LONG].hex()}"
    return words if len(words) <= _LONG else f"{words[: _LONG - 1]}…"


def shown_cells(columns: Sequence[Column], values: Sequence[bytes | None]) -> str:
    """A row's values by name, those that are there."""
    return ", ".join(
        f"{c.name}={shown(c.type, v)}" for c, v in zip(columns, values, strict=True) if v is not None
    )


def show(key: bytes) -> str:
    """A record's key: `keyspace.table(primary key)`, and whether it is a partition's static part."""
    table, kind, types, values = split_key(key)
    words = ", ".join(shown(t, v) for t, v in zip(types, values, strict=True))
    return f"{table}({words})" + (" static" if kind == STATIC else "")

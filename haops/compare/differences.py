"""What can differ under a key, and the decision whether it does."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from haops.stores.compare import Record


class Kind(StrEnum):
    """In what a key differs."""

    MISSING = "missing"
    """Only the left side has it."""
    EXTRA = "extra"
    """Only the right side has it."""
    TYPE = "type"
    VALUE = "value"
    EXPIRY = "expiry"
    ACL = "acl"
    VERSION = "version"
    UNSEEN = "unseen"
    """The digests differ again and again, although what can be shown of the records is equal."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that differs, in one aspect or in several."""

    key: bytes
    kinds: tuple[Kind, ...]
    left: Record | None
    right: Record | None

    def __str__(self) -> str:
        return f"{self.key.decode(errors='backslashreplace')}: {', '.join(self.kinds)}"


def aspects(left: Record | None, right: Record | None) -> tuple[Kind, ...]:
    """In what two records differ; empty if they are equal. Previews do not count."""
    if left is None or right is None:
        one = left or right
        if one is None or one.perhaps:
            return ()
        return (Kind.MISSING,) if right is None else (Kind.EXTRA,)
    pairs = (
        (Kind.TYPE, left.kind, right.kind),
        (Kind.VALUE, left.value, right.value),
        (Kind.EXPIRY, left.expires, right.expires),
        (Kind.ACL, left.acl, right.acl),
        (Kind.VERSION, left.version, right.version),
    )
    return tuple(kind for kind, here, there in pairs if here != there)


def alive(record: Record | None, now_ms: int) -> Record | None:
    """The record, unless its time is over: a backup still has what its cluster has let go since.

    Args:
        now_ms: The time, Unix ms.
    """
    if record is None or not record.expires.isdecimal() or int(record.expires) > now_ms:
        return record
    return None


def difference(key: bytes, left: Record | None, right: Record | None) -> Difference | None:
    """How a key differs, if it does."""
    kinds = aspects(left, right)
    return Difference(key, kinds, left, right) if kinds else None

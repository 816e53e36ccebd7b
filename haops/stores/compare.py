"""Comparing: what a store offers to `haops.compare`.

Two sides are reconciled by the digests of their records. A record is everything that must be
equal about one key: type, value, expiry, ACL, version. Its digest is 64 bits that both sides
compute in the same way, wherever they are: in the server, or from a backup's bytes.
Buckets are the digest's highest byte, so a record that differs differs in two buckets at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from haops.cluster.spec import Cluster
from haops.runtime.port import Runtime
from haops.stores.backup import Archive

BUCKETS: Final = 256


@dataclass(frozen=True, slots=True)
class Survey:
    """A side's fingerprint: for each of the 256 buckets how many records and the sum of their digests mod 2**64."""

    counts: NDArray[np.uint64]
    sums: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Record:
    """What one side has under a key; equal records are equal in each field.

    Args:
        kind: The type, such as `string` or `hash`; empty where a store has only one.
        value: A digest of the value, hexadecimal.
        preview: The value's beginning, for people; not compared.
        expires: Unix ms, or empty.
        acl: The access list in words, or empty.
        version: Version or write time, where it must be equal; else empty.
        perhaps: Nothing under the key would be as right.
    """

    kind: str
    value: str
    preview: str = ""
    expires: str = ""
    acl: str = ""
    version: str = ""
    perhaps: bool = False


# What a backup says of a record that was written while it was made: neither state is wrong.
UNTOLD: Final = Record(kind="", value="untold")


def readable(raw: bytes) -> str:
    """Others' bytes on one line, for people: nothing in it that a terminal would obey."""
    text = raw.decode("utf-8", errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def never_barred(_wanted: Record | None, _has: Record | None) -> str:
    """A store that can make any record into any other."""
    return ""


class Side(Protocol):
    """One of the two things compared: a cluster, one copy of it, or a backup."""

    @property
    def label(self) -> str:
        """Its name in reports."""
        ...

    @property
    def moved(self) -> int:
        """Bytes that came from the servers so far for this comparison, as far as the client can tell."""
        ...

    def survey(self) -> Survey:
        """Fingerprints of everything, read anew at each call; where the server can hash, little moves."""
        ...

    def digests(self, buckets: frozenset[int]) -> NDArray[np.uint64]:
        """The digests of all records in these buckets, read at one go."""
        ...

    def keys(self, digests: NDArray[np.uint64]) -> Sequence[bytes]:
        """The keys of the records that had these digests in the last answer of `digests`, in any order.

        A record may have changed since; where its key is gone, it may be left out.
        """
        ...

    def describe(self, keys: Sequence[bytes]) -> Mapping[bytes, Record | None]:
        """What is there under these keys now (a backup: then); None where nothing is, UNTOLD where either may be.

        Up to 10,000 keys are asked for at once.
        """
        ...


@dataclass(frozen=True, slots=True)
class Comparing:
    """What a store offers for comparison and repair.

    Args:
        side: A cluster, read at its primary or at its strongest consistency; only what `only` selects.
        of_backup: A backup's logical content; only what `only` selects.
        replicas: A cluster's copies, each as a side, read at that copy alone.
        mend: Makes the second side's cluster like the first for these keys (missing ones are deleted);
            yields how many are done. The first may be a backup.
        mend_replicas: Makes all copies like the first-named node's, by the store's own means; yields words.
        show: A key for people.
        barred: Why nothing makes a record (the second) into what it should be (the first); empty if `mend` does.
        picks: What `only` selects, in words that go before it.
    """

    side: Callable[[Cluster, Runtime, str | None], AbstractContextManager[Side]]
    of_backup: Callable[[Archive, str | None], AbstractContextManager[Side]]
    replicas: Callable[[Cluster, Runtime], AbstractContextManager[Sequence[Side]]]
    mend: Callable[[Side, Side, Sequence[bytes]], Iterator[int]]
    mend_replicas: Callable[[Cluster, Runtime, Sequence[str]], Iterator[str]]
    show: Callable[[bytes], str]
    barred: Callable[[Record | None, Record | None], str] = never_barred
    picks: str = "records of"

"""The two kinds of things that are compared: a living server, and a backup's dump."""

from __future__ import annotations

import hashlib
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from haops.cluster.spec import Node
from haops.errors import HaopsError
from haops.stores.backup import Archive
from haops.stores.compare import BUCKETS, Record, Survey
from haops.stores.gathered import Gathered, add_surveys, survey_of
from haops.stores.redis.digest import KINDS, body_of, name_of, place_of, record, tag
from haops.stores.redis.dump import DUMP
from haops.stores.redis.keyspace import expiring, pattern
from haops.stores.redis.lua import DESCRIBE, LIST, NAMES, SLICE, SUMS
from haops.stores.redis.rdb import Entry, Rdb
from haops.stores.redis.values import is_over, preview_of, value_of
from haops.stores.redis.wire import Wire

_ANSWER_S: Final = 60.0
# Keys in one run of a script: some 8 ms of the server's time where values are of 64 bytes.
_SLICE: Final = 2500
_STEP: Final = 50
# Larger values make smaller slices, so that a run takes about as long.
_SLICE_BYTES: Final = 1024 * 1024
_ELEMENTS: Final = 1000
_TRIES: Final = 5
_FEW: Final = 100
_SUM: Final = np.dtype([("count", ">u2"), ("sum", ">u8")])
# A digest and its key's tag, as LIST tells them.
_MARKS: Final = np.dtype([("digest", ">u8"), ("tag", ">u4")])
_MARK: Final = struct.Struct(">QI")
# By so many bits of a tag the server chooses keys: few others come with them, and the choice takes 4 KB.
_TAG_STARTS: Final = 4096
_TAG_REST: Final = 20
_CARDINALITY: Final = {"set": "SCARD", "zset": "ZCARD", "hash": "HLEN"}


class CompareFailed(HaopsError):
    """A server broke off or refused a comparison; in its own words."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A key as it can be put elsewhere: a command's payload, and when it expires (Unix ms, 0 is never)."""

    kind: int
    raw: bytes
    version: int
    expires: int


class LiveSide:
    """A server that digests its keys itself."""

    def __init__(self, node: Node, label: str, only: bytes = b"") -> None:
        self.node = node
        self.wire = Wire(node, _ANSWER_S, CompareFailed)
        self._label = label
        self._only = only
        self._loaded: dict[str, bytes] = {}
        self._marks = _sorted(b"")

    @property
    def label(self) -> str:
        """Its name in reports."""
        return self._label

    @property
    def moved(self) -> int:
        """Bytes to and from the server."""
        return self.wire.received + self.wire.sent

    def run(self, script: str, *words: bytes | str | int) -> Any:
        """A script that only reads; `words` begin with the number of keys."""
        if script not in self._loaded:
            self._loaded[script] = self.wire.ask("SCRIPT", "LOAD", script)
        return self.wire.ask("EVALSHA_RO", self._loaded[script], *words)

    def survey(self) -> Survey:
        """Sums made in the server: 2,560 bytes for each 2,500 keys."""
        total = Survey(np.zeros(BUCKETS, np.uint64), np.zeros(BUCKETS, np.uint64))
        for output, large, _ in self._walk(SUMS, ()):
            table = np.frombuffer(output, _SUM)
            np.add(total.counts, table["count"], out=total.counts)
            np.add(total.sums, table["sum"], out=total.sums)  # wraps around, as it must
            if large:
                total = add_surveys((total, survey_of(np.array([digest for _, digest in large], np.uint64))))
        return total

    def digests(self, buckets: frozenset[int]) -> NDArray[np.uint64]:
        """Each once, though SCAN may have told a key twice; the tags of their keys are kept for `keys`."""
        told: list[bytes] = []
        for output, large, db in self._walk(LIST, (_mask(buckets),)):
            told.append(output)
            told += [_MARK.pack(d, tag(db, key)) for key, d in large if d >> 56 in buckets]
        self._marks = _sorted(b"".join(told))
        return self._marks[0]

    def keys(self, digests: NDArray[np.uint64]) -> Sequence[bytes]:
        """By one more pass, in which the server tells keys whose tags begin as those that are wanted."""
        known, tags = self._marks
        wanted = set(tags[np.isin(known, digests)].tolist())
        names: dict[bytes, None] = {}
        for output, _, db in self._walk(NAMES, (_mask({t >> _TAG_REST for t in wanted}, _TAG_STARTS),)):
            for told in output:
                if int.from_bytes(told[:4], "big") in wanted:
                    names[name_of(db, told[4:])] = None
        return list(names)

    def _walk(
        self, script: str, last: tuple[bytes, ...]
    ) -> Iterator[tuple[Any, list[tuple[bytes, int]], int]]:
        """The script over all keys of all databases: its output, large values with digests, database."""
        match = pattern(self._only) if self._only else b""
        for db, (expires, fields) in sorted(expiring(self.wire).items()):
            self.wire.ask("SELECT", db)
            cursor, want, step = b"0", _FEW, 10
            while True:
                words: tuple[bytes | int, ...] = (
                    cursor,
                    want,
                    step,
                    match,
                    int(expires),
                    int(fields),
                    db,
                    *last,
                )
                cursor, seen, size, output, large = self.run(script, 0, *words)
                yield output, [(key, self._digest_large(db, key, fields=fields)) for key in large], db
                if cursor == b"0":
                    break
                most = _SLICE_BYTES // max(size // max(seen, 1), 1)
                want, step = min(max(most, 10), _SLICE), min(max(most // 10, 1), _STEP)

    def _digest_large(self, db: int, key: bytes, *, fields: bool) -> int:
        kind = self.wire.ask("TYPE", key).decode()
        expires = max(self.wire.ask("PEXPIRETIME", key), 0)
        return record(db, key, KINDS.get(kind, b"m"), expires, self._large(key, kind, fields=fields))

    def _large(self, key: bytes, kind: str, *, fields: bool) -> bytes:
        """A large value's body, slice by slice. While its table grows, a server may tell elements twice."""
        for _ in range(_TRIES):
            total = count = 0
            cursor: bytes = b"0"
            while cursor:
                cursor, piece, number = self.run(SLICE, 1, key, kind, cursor, _ELEMENTS, int(fields))
                total += int.from_bytes(piece, "big")
                count += number
            if kind not in _CARDINALITY or count == self.wire.ask(_CARDINALITY[kind], key):
                break
        return body_of(total, count)

    def describe(self, keys: Sequence[bytes]) -> Mapping[bytes, Record | None]:
        """Type, expiry and a digest of the value, made in the server."""
        found: dict[bytes, Record | None] = {}
        for db, some in _by_database(keys):
            self.wire.ask("SELECT", db)
            fields = expiring(self.wire).get(db, (True, True))[1]
            for start in range(0, len(some), _FEW):
                part = some[start : start + _FEW]
                answer = self.run(DESCRIBE, len(part), *part, int(fields))
                for key, told in zip(part, answer, strict=True):
                    found[name_of(db, key)] = self._record(key, told, fields=fields)
        return found

    def _record(self, key: bytes, told: Sequence[Any], *, fields: bool) -> Record | None:
        kind, time_ms, digest, shown = told
        if kind == b"none":
            return None
        expires = str(time_ms) if time_ms > 0 else ""
        name = kind.decode()
        if name == "string":
            return Record(name, (digest or b"")[:16].decode(), preview_of(shown), expires)
        if name not in KINDS:
            return Record("", "", "", expires)
        body = shown if digest is not None else self._large(key, name, fields=fields)
        if name == "hash" and not any(body[8:]):
            return None  # its fields' times are over, and it is about to go
        return _many(name, body, expires)

    def saved(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, Saved | None]]:
        """The keys as DUMP has them; None where nothing is."""
        for db, some in _by_database(keys):
            self.wire.ask("SELECT", db)
            for start in range(0, len(some), _FEW):
                part = some[start : start + _FEW]
                asked = [(word, key) for key in part for word in ("DUMP", "PEXPIRETIME")]
                answers = self.wire.ask_all(asked)
                for key, dumped, until in zip(part, answers[::2], answers[1::2], strict=True):
                    yield name_of(db, key), _saved(dumped, until) if dumped else None

    def close(self) -> None:
        """Hang up."""
        self.wire.close()


def _saved(dumped: bytes, until: int) -> Saved:
    return Saved(dumped[0], dumped[1:-10], int.from_bytes(dumped[-10:-8], "little"), max(until, 0))


def _many(kind: str, body: bytes, expires: str) -> Record:
    digest = hashlib.sha1(body, usedforsecurity=False).hexdigest()[:16]
    return Record(kind, digest, f"{int.from_bytes(body[8:], 'big')} elements", expires)


def _mask(wanted: frozenset[int] | set[int], size: int = BUCKETS) -> bytes:
    return bytes(0x31 if number in wanted else 0x30 for number in range(size))


def _sorted(told: bytes) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """Digests, each once and sorted, and their keys' tags."""
    table = np.frombuffer(told, _MARKS)
    digests, first = np.unique(table["digest"].astype(np.uint64), return_index=True)
    return digests, table["tag"][first].astype(np.uint32)


def _by_database(names: Sequence[bytes]) -> list[tuple[int, list[bytes]]]:
    sorted_out: dict[int, list[bytes]] = defaultdict(list)
    for name in names:
        place = place_of(name)
        sorted_out[place.db].append(place.key)
    return sorted(sorted_out.items())


class BackupSide:
    """A backup's dump. Keys and fields whose time is over by now are not in it: no server would show them."""

    moved = 0

    def __init__(self, archive: Archive, only: bytes, clock: Callable[[], float] = time.time) -> None:
        self._archive = archive
        self._only = only
        self._clock = clock
        self._gathered: Gathered | None = None

    @property
    def label(self) -> str:
        """Its name in reports."""
        return f"backup {self._archive.id}"

    @property
    def _all(self) -> Gathered:
        if self._gathered is None:
            self._gathered = Gathered.of(self._pairs())
        return self._gathered

    def _entries(self) -> Iterator[tuple[Entry, int]]:
        now = int(self._clock() * 1000)
        rdb = Rdb(self._archive.read(DUMP), self._only)
        for item in rdb.items():
            if isinstance(item, Entry) and not 0 < item.expires <= now and not is_over(item, now):
                yield item, rdb.head.version

    def _pairs(self) -> Iterator[tuple[bytes, int]]:
        now = int(self._clock() * 1000)
        for entry, _ in self._entries():
            value = value_of(entry, now)
            yield (
                name_of(entry.db, entry.key),
                record(entry.db, entry.key, value.letter, entry.expires, value.body),
            )

    def survey(self) -> Survey:
        """The dump is read to its end the first time."""
        return self._all.survey()

    def digests(self, buckets: frozenset[int]) -> NDArray[np.uint64]:
        """The digests in these buckets."""
        return self._all.digests(buckets)

    def keys(self, digests: NDArray[np.uint64]) -> Sequence[bytes]:
        """The keys of these digests."""
        return self._all.keys(digests)

    def describe(self, keys: Sequence[bytes]) -> Mapping[bytes, Record | None]:
        """By one more pass over the dump."""
        now = int(self._clock() * 1000)
        found: dict[bytes, Record | None] = dict.fromkeys(keys)
        for entry, _ in self._entries():
            name = name_of(entry.db, entry.key)
            if name in found:
                found[name] = _described(entry, now)
        return found

    def saved(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, Saved | None]]:
        """By one more pass over the dump; those that are not in it come last."""
        wanted = set(keys)
        for entry, version in self._entries():
            name = name_of(entry.db, entry.key)
            if name in wanted:
                wanted.discard(name)
                yield name, Saved(entry.kind, entry.raw, version, entry.expires)
        for name in sorted(wanted):
            yield name, None


def _described(entry: Entry, now: int) -> Record:
    value = value_of(entry, now)
    expires = str(entry.expires) if entry.expires else ""
    if value.kind == "string":
        digest = hashlib.sha1(value.body, usedforsecurity=False).hexdigest()[:16]
        return Record(value.kind, digest, value.preview, expires)
    return _many(value.kind, value.body, expires) if value.kind else Record("", "", "", expires)

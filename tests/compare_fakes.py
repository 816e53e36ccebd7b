"""A side of a comparison in memory, whose servers may lag, move, and fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from haops.stores.compare import Comparing, Record, Side, Survey
from haops.stores.gathered import Gathered

Records = dict[bytes, Record]
SURVEY_BYTES = 4096
DIGEST_BYTES = 8


def text(value: str, **fields: str) -> Record:
    """A string record."""
    return Record(**{"kind": "string", "value": value, "preview": value, **fields})


def digest(key: bytes, record: Record) -> int:
    """64 bits over everything of a record but its preview."""
    parts = (record.kind, record.value, record.expires, record.acl, record.version)
    return int.from_bytes(blake3(repr((key, parts)).encode()).digest(8), "big")


@dataclass
class FakeSide:
    """A side over a dict; every question reads what is there then, but `keys` tells those of the last digests.

    Args:
        before: Called with the question's name before each answer; may change `records`, or raise.
        blind: Keys whose records look equal to everybody's, whatever their digest.
    """

    records: Records
    label: str = "side"
    before: Callable[[str], None] = field(default=lambda _: None)
    moved: int = 0
    asked: list[str] = field(default_factory=list)
    blind: frozenset[bytes] = frozenset()
    _last: Gathered = field(default_factory=lambda: Gathered.of(()))

    def _gathered(self, question: str) -> Gathered:
        self._note(question)
        return Gathered.of((key, digest(key, record)) for key, record in self.records.items())

    def _note(self, question: str) -> None:
        self.asked.append(question)
        self.before(question)

    def survey(self) -> Survey:
        self.moved += SURVEY_BYTES
        return self._gathered("survey").survey()

    def digests(self, buckets: frozenset[int]) -> NDArray[np.uint64]:
        self._last = self._gathered("digests")
        found = self._last.digests(buckets)
        self.moved += DIGEST_BYTES * len(found)
        return found

    def keys(self, digests: NDArray[np.uint64]) -> Sequence[bytes]:
        self._note("keys")
        found = [key for key in self._last.keys(digests) if key in self.records]
        self.moved += sum(map(len, found))
        return found

    def describe(self, keys: Sequence[bytes]) -> Mapping[bytes, Record | None]:
        self._note("describe")
        found = {key: text("?") if key in self.blind else self.records.get(key) for key in keys}
        self.moved += sum(len(r.value) for r in found.values() if r)
        return found


def mend(truth: Side, target: Side, keys: Sequence[bytes]) -> Iterator[int]:
    """Copy the truth's records; what it has not is deleted."""
    assert isinstance(target, FakeSide)
    for number, (key, record) in enumerate(truth.describe(keys).items(), start=1):
        if record is None:
            target.records.pop(key, None)
        else:
            target.records[key] = record
        yield number


def comparing(sides: Mapping[str, FakeSide], copies: Sequence[FakeSide] = ()) -> Comparing:
    """A store whose clusters and backups are these sides, by name or id."""

    @contextmanager
    def side(cluster, runtime, only) -> Iterator[Side]:
        sides[cluster.name].asked.append(f"open {only}")
        yield sides[cluster.name]

    @contextmanager
    def of_backup(archive, only) -> Iterator[Side]:
        yield sides[archive.id]

    @contextmanager
    def replicas(cluster, runtime) -> Iterator[Sequence[Side]]:
        yield copies

    def mend_replicas(cluster, runtime, nodes: Sequence[str]) -> Iterator[str]:
        by_label = {copy.label: copy for copy in copies}
        for node in nodes[1:]:
            by_label[node].records = dict(by_label[nodes[0]].records)
            yield f"{node} is made anew"

    return Comparing(side, of_backup, replicas, mend, mend_replicas, lambda key: key.decode(errors="replace"))

"""Sides of a comparison: a backup's rows, a ring read range by range, and one copy of it alone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from threading import Lock
from types import SimpleNamespace
from typing import Any

import fakes
import pytest
from cassandra import OperationTimedOut

from haops.compare.rounds import Manner, Verdict, compare
from haops.stores.backup import Form, NotRestorable, Part
from haops.stores.cassandra import mend, reader
from haops.stores.cassandra.compare import COMPARING, of_backup
from haops.stores.cassandra.loader import Removal, Write
from haops.stores.cassandra.placement import members, pieces, spans
from haops.stores.cassandra.reader import NODE_LOCAL, Reader, Way
from haops.stores.cassandra.rows import ROW, STATIC, Cell, Page, Row, Shape, joined_key
from haops.stores.cassandra.sides import RingSide, record_of, token
from haops.stores.cassandra.sstables import UNTIL
from haops.stores.cassandra.stream import stream
from haops.stores.compare import UNTOLD

from .pages import PLAIN, WIDE, page
from .rings import MemoryArchive, facts_of

CLUSTER = fakes.make_cluster("cassandra", 3)
OPTIONS = {"class": "NetworkTopologyStrategy", "dc1": "3"}


def plain(number: int, value: bytes, ttl: int | None = None, age_s: int = 0) -> Row:
    read_ms = time.time_ns() // 1_000_000 - age_s * 1000
    return Row(ROW, (number.to_bytes(8, "big"),), (Cell(value, ttl, number),), read_ms)


def archive(*rows: Row, wide: tuple[Row, Row] | None = None) -> MemoryArchive:
    pages = [page(PLAIN, [(r.key, r, None)], r.read_ms) for r in rows]
    content = {"rows/shop.items": b"".join(stream(PLAIN, pages))}
    if wide:
        row, static = wide
        content["rows/odd.Mixed"] = b"".join(stream(WIDE, [page(WIDE, [(row.key, row, static)])]))
    parts = tuple(Part(name, "", Form.LOGICAL, len(data)) for name, data in content.items())
    return MemoryArchive(content, parts, facts_of(CLUSTER))


def test_equal_rows_are_equal_whatever_their_order_and_write_times() -> None:
    one = archive(plain(1, b"a"), plain(2, b"b"))
    later = Row(ROW, plain(1, b"").key, (Cell(b"a", None, 999),), 7)
    with of_backup(one, None) as left, of_backup(archive(plain(2, b"b"), later), None) as right:
        assert compare(left, right, Manner()).differences == ()


def test_every_kind_of_difference_is_found_by_its_key() -> None:
    left = archive(plain(1, b"same"), plain(2, b"gone"), plain(3, b"old"), plain(4, b"ttl"))
    right = archive(plain(1, b"same"), plain(3, b"new"), plain(4, b"ttl", 60), plain(5, b"more"))
    with of_backup(left, None) as one, of_backup(right, None) as other:
        found = {d.key: d for d in compare(one, other, Manner(rounds=1)).differences}
    assert set(found) == {joined_key(PLAIN, plain(n, b"")) for n in (2, 3, 4, 5)}


def test_rows_whose_life_ended_since_the_backup_are_not_there() -> None:
    left = archive(plain(1, b"ever"), plain(2, b"over", 60, age_s=61), plain(3, b"not yet", 600, age_s=61))
    right = archive(plain(1, b"ever"), plain(3, b"not yet", 500))
    over = joined_key(PLAIN, plain(2, b""))
    with of_backup(left, None) as one, of_backup(right, None) as other:
        assert int(one.survey().counts.sum()) == 2
        assert compare(one, other, Manner(rounds=1)).differences == ()
        (told,) = one.describe([over]).values()
        assert told
        assert (told.perhaps, told.preview) == (True, "its key alone")


def bare(number: int) -> Row:
    return replace(plain(number, b""), cells=tuple(Cell(None) for _ in plain(number, b"").cells))


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize(
    ("there", "differs"), [((), False), ((bare(2),), False), ((plain(2, b"other"),), True)]
)
def test_a_row_whose_values_are_over_may_live_by_its_key_or_be_gone_but_has_no_values(
    there: tuple[Row, ...], differs: bool, rounds: int
) -> None:
    left = archive(plain(1, b"ever"), plain(2, b"over", 60, age_s=61))
    right = archive(plain(1, b"ever"), *there)
    with of_backup(left, None) as one, of_backup(right, None) as other:
        found = compare(one, other, Manner(rounds=rounds, pause_s=0))
    assert found.verdict is (Verdict.DIFFERENT if differs else Verdict.EQUAL)
    assert len(found.differences) == differs


class FakeRing(RingSide):
    """A ring with these rows, and what is written to it."""

    def __init__(self, *rows: Row) -> None:
        self.rows = {joined_key(PLAIN, row): row for row in rows}
        self.session, self.written = None, list[Write | Removal]()
        self._label = "ring"

    def shape(self, table: str) -> Shape | None:
        return PLAIN

    def full(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, Shape | None, Row | None]]:
        yield from ((key, PLAIN, self.rows.get(key)) for key in keys)


def test_rows_that_may_live_by_their_key_alone_are_not_removed_nor_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare = replace(plain(2, b""), cells=(Cell(None),))
    ring = FakeRing(plain(1, b"new"), bare, plain(3, b"extra"))
    taken = SimpleNamespace(write=lambda writes: iter(ring.written.extend(writes) or ()))
    monkeypatch.setattr(mend, "Loader", lambda *_: taken)
    with of_backup(archive(plain(1, b"a", 60, age_s=61), plain(2, b"b", 60, age_s=61)), None) as side:
        (done,) = mend.mend(side, ring, list(ring.rows))
    removed = [w.key for w in ring.written if isinstance(w, Removal)]
    assert removed == [plain(3, b"").key], "the backup never had it"
    assert [(w.key, w.insert, w.values) for w in ring.written if isinstance(w, Write)] == [
        (plain(1, b"").key, False, (None,))
    ]
    assert done == 2


def test_rows_of_a_table_that_counts_say_so_and_cannot_be_made_equal() -> None:
    columns = [replace(c, type="counter") if c.kind == "regular" else c for c in PLAIN.columns]
    counter = record_of(replace(PLAIN, columns=tuple(columns)), plain(1, b"a"))
    row = record_of(PLAIN, plain(1, b"a"))
    assert counter
    assert counter.kind == "counter"
    for pair in ((counter, None), (None, counter), (counter, row)):
        assert COMPARING.barred(*pair) == "a counter cannot be set to a value"
    assert COMPARING.barred(row, None) == COMPARING.barred(None, row) == ""


def test_a_row_of_its_key_alone_says_so() -> None:
    bare = record_of(PLAIN, replace(plain(1, b""), cells=(Cell(None),)))
    assert bare
    assert bare.preview == "its key alone"


def test_only_selects_a_table() -> None:
    wide = Row(ROW, (b"\0\0\0\1", b"b"), (Cell(None), Cell(b"v", None, 1)), 0)
    static = Row(STATIC, (b"\0\0\0\1",), (Cell(b"s", None, 1),), 0)
    made = archive(plain(1, b"a"), wide=(wide, static))
    for only, records in ((None, 3), ("odd", 2), ("odd.Mixed", 2), ("shop.items", 1), ("nothing", 0)):
        with of_backup(made, only) as side:
            assert int(side.survey().counts.sum()) == records
    with of_backup(made, None) as side:
        keys = side.keys(side.digests(frozenset(range(256))))
        described = side.describe([*keys, joined_key(PLAIN, plain(9, b""))])
    assert [record.kind for record in described.values() if record].count("static") == 1
    assert list(described.values()).count(None) == 1


def test_a_backup_without_rows_says_how_else_it_can_be_compared() -> None:
    bare = MemoryArchive({}, (), facts_of(CLUSTER))
    with pytest.raises(NotRestorable, match="no rows") as caught, of_backup(bare, None):
        pass
    assert "--logical" in str(caught.value)


@pytest.mark.parametrize(
    ("partition", "expected"),
    [
        # Of a running server: SELECT token(a) ...
        ([(1).to_bytes(4, "big")], -4069959284402364209),
        ([(2).to_bytes(4, "big")], -3248873570005575792),
    ],
)
def test_tokens_are_the_servers(partition: list[bytes], expected: int) -> None:
    assert token(partition) == expected


class FakeRaw:
    """A raw session over rows by token; counts requests by host, and fails some."""

    def __init__(self, rows: int, fails: int = 0) -> None:
        self.rows = [plain(n, b"v" * 20) for n in range(rows)]
        self.fails = fails
        self.asked: list[tuple[Any, int, int]] = []
        self.answers: list[Any] = []
        self.lock = Lock()
        hosts = [
            SimpleNamespace(endpoint=SimpleNamespace(address=n.host, port=n.host_port), name=n.name)
            for n in CLUSTER.servers
        ]
        self.cluster = SimpleNamespace(metadata=SimpleNamespace(all_hosts=lambda: hosts))

    def execution_profile_clone_update(self, *_: Any, **__: Any) -> None:
        return None

    def prepare(self, text: str) -> Any:
        assert "token" in text
        return SimpleNamespace(bind=lambda bounds: SimpleNamespace(bounds=bounds))

    def execute(self, bound: Any, *, paging_state: int | None, host: Any, **_: Any) -> Any:
        with self.lock:
            if self.fails:
                self.fails -= 1
                raise OperationTimedOut
            self.asked.append((host.name, bound.consistency_level, bound.fetch_size))
        low, high = bound.bounds
        step = 2**64 // len(self.rows)
        inside = [r for i, r in enumerate(self.rows) if low < -(2**63) + step * i + 1 <= high]
        start = paging_state or 0
        some = inside[start : start + bound.fetch_size]
        more = start + len(some) if start + len(some) < len(inside) else None
        rows = [page(PLAIN, [(r.key, r, None) for r in some])]
        self.answers.append(SimpleNamespace(current_rows=rows, paging_state=more))
        return self.answers[-1]


def read(raw: FakeRaw, way: Way) -> Iterator[Page]:
    ranges = pieces(spans(members(CLUSTER), OPTIONS), 2)
    return Reader(CLUSTER, raw).pages(PLAIN, ranges, way)


def test_every_row_is_read_once_in_the_order_of_tokens() -> None:
    raw = FakeRaw(5000)
    body = b"".join(p.body for p in read(raw, Way()))
    assert body == page(PLAIN, [(r.key, r, None) for r in raw.rows]).body


def test_a_copy_is_read_from_its_own_holder_and_nobody_else() -> None:
    for copy in range(3):
        raw = FakeRaw(100)
        list(read(raw, Way(NODE_LOCAL, copy)))
        assert {level for _, level, _ in raw.asked} == {11}
        assert {name for name, _, _ in raw.asked} == {n.name for n in CLUSTER.servers}
    ring = spans(members(CLUSTER), OPTIONS)
    assert all(len({s.holders[copy] for copy in range(3)}) == 3 for s in ring)


def test_answers_that_the_driver_keeps_have_no_pages_any_more() -> None:
    raw = FakeRaw(5000)
    assert sum(p.rows for p in read(raw, Way())) == 5000
    assert raw.answers
    assert not any(answer.current_rows for answer in raw.answers)


def test_pages_of_wide_rows_have_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_PAGE_BYTES", 800)
    raw = FakeRaw(4000)
    list(read(raw, Way()))
    assert min(size for _, _, size in raw.asked) < 20


def test_a_page_that_does_not_come_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_AGAIN_S", 0.0)
    raw = FakeRaw(100, fails=3)
    assert sum(p.rows for p in read(raw, Way())) == 100


def test_a_page_that_never_comes_ends_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_PATIENCE_S", 0.0)
    with pytest.raises(OperationTimedOut):
        list(read(FakeRaw(100, fails=100), Way()))


def test_a_reader_that_is_left_early_stops_reading_ahead() -> None:
    raw = FakeRaw(50_000)
    pages = read(raw, Way())
    next(pages)
    pages.close()  # type: ignore[attr-defined]
    asked = len(raw.asked)
    assert asked < 30


def test_what_was_written_while_the_backup_was_made_may_be_there_or_not() -> None:
    """`plain` has its number as its write time: files and rows are the same up to 2."""
    made = archive(plain(1, b"a"), plain(2, b"b"), plain(3, b"c"), plain(4, b"new"))
    made = replace(made, facts=replace(made.facts, details={UNTIL: "2"}))
    restored = archive(plain(1, b"a"), plain(3, b"c"), plain(4, b"old"))
    with of_backup(made, None) as left, of_backup(restored, None) as right:
        found = compare(left, right, Manner(rounds=1))
        assert left.describe([joined_key(PLAIN, plain(4, b""))]) == {joined_key(PLAIN, plain(4, b"")): UNTOLD}
    assert [d.key for d in found.differences] == [joined_key(PLAIN, plain(2, b""))]
    assert found.untold == 1

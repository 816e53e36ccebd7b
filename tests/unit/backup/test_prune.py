"""What stays and what goes; what another backup needs never goes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.backup import prune as pruning
from haops.backup.catalogue import BackupState, complete, entries, find
from haops.backup.documents import Damaged
from haops.backup.manifest import Checked
from haops.backup.prune import prune
from haops.backup.repository import CHUNKS, open_repository
from haops.backup.retention import Point, Rules, decide
from haops.backup.sweep import SWEEPS
from haops.errors import BadInput

from ...backup_fakes import NOW, Died
from .conftest import CHUNK, Shop, noise, order

moments = st.datetimes(datetime(2019, 12, 20), datetime(2026, 3, 1)).map(lambda d: d.replace(tzinfo=UTC))
points = st.lists(st.tuples(st.sampled_from("ab"), moments), max_size=25).map(
    lambda found: [
        Point(f"{n}", ("owner", c), at, ("held",) if at.minute % 7 == 0 else ())
        for n, (c, at) in enumerate(found)
    ]
)
counts = st.integers(0, 5)
rules = st.builds(
    Rules,
    last=st.integers(1, 5),
    within=st.none() | st.timedeltas(timedelta(days=1), timedelta(days=900)),
    daily=counts,
    weekly=counts,
    monthly=counts,
    yearly=counts,
)


@given(points, rules)
def test_every_backup_either_stays_for_a_reason_or_goes(found: list[Point], rule: Rules) -> None:
    decision = decide(found, rule, NOW)
    assert decision.keep.keys() | set(decision.forget) == {p.id for p in found}
    assert not decision.keep.keys() & set(decision.forget)
    assert all(decision.keep.values())
    assert {p.id for p in found if p.held} == {i for i, why in decision.keep.items() if "held" in why}


@given(points, rules)
def test_the_newest_of_each_series_stays(found: list[Point], rule: Rules) -> None:
    kept = decide(found, rule, NOW).keep
    for series in {p.series for p in found}:
        own = sorted((p for p in found if p.series == series), key=lambda p: (p.created, p.id), reverse=True)
        assert {p.id for p in own[: rule.last]} <= kept.keys()
        assert own[0].id in kept


@given(points, rules)
def test_pruning_again_removes_nothing_more(found: list[Point], rule: Rules) -> None:
    first = decide(found, rule, NOW)
    again = decide([p for p in found if p.id in first.keep], rule, NOW)
    assert again.forget == ()


@given(points, rules)
def test_each_series_is_decided_by_itself_and_each_rule_only_adds(found: list[Point], rule: Rules) -> None:
    whole = decide(found, rule, NOW).keep
    for series in {p.series for p in found}:
        own = [p for p in found if p.series == series]
        assert decide(own, rule, NOW).keep.items() <= whole.items()
    assert decide(found, replace(rule, daily=0, within=None), NOW).keep.keys() <= whole.keys()


@given(points, st.integers(1, 5))
def test_a_day_week_month_and_year_keep_the_newest_of_each(found: list[Point], number: int) -> None:
    for name, period in (
        ("daily", "%Y-%m-%d"), ("weekly", "%G-%V"), ("monthly", "%Y-%m"), ("yearly", "%Y")
    ):  # fmt: skip
        kept = decide(found, Rules(**{name: number}), NOW).keep  # type: ignore[arg-type]
        for series in {p.series for p in found}:
            newest: dict[str, Point] = {}
            for point in sorted((p for p in found if p.series == series), key=lambda p: (p.created, p.id)):
                newest[point.created.strftime(period)] = point
            wanted = [newest[key].id for key in sorted(newest, reverse=True)[:number]]
            own = {p.id for p in found if p.series == series}
            assert {i for i, why in kept.items() if name in why and i in own} == set(wanted)


@pytest.mark.parametrize("nothing", [{}, {"last": -1}, {"daily": 0}])
def test_without_a_rule_nothing_is_decided(nothing: dict[str, int]) -> None:
    with pytest.raises(BadInput, match="no rule"):
        Rules(**nothing)  # type: ignore[arg-type]


def chunks_of(shop: Shop) -> int:
    return sum(key.startswith(CHUNKS) for key in shop.storage.objects)


def test_a_dry_run_says_the_same_and_removes_nothing(shop: Shop, history: list[str]) -> None:
    before = dict(shop.storage.objects)
    said = prune(open_repository(shop.storage), order(dry_run=True))
    assert shop.storage.objects == before
    assert said == prune(open_repository(shop.storage), order())
    assert said.decision.forget == (history[1], history[0])
    assert said.chunks == 2
    assert shop.verify(history[2]).ok


def test_chunks_that_are_young_stay(shop: Shop, history: list[str]) -> None:
    shop.storage.clock = lambda: NOW - timedelta(minutes=59)
    shop.storage.put(f"{CHUNKS}ab/{'ab' * 32}", b"somebody's")
    prune(open_repository(shop.storage), order())
    assert shop.storage.size(f"{CHUNKS}ab/{'ab' * 32}") is not None
    prune(open_repository(shop.storage), order(grace=timedelta(minutes=58)))
    assert shop.storage.size(f"{CHUNKS}ab/{'ab' * 32}") is None


def cut_off(shop: Shop, at: datetime) -> None:
    shop.moment, shop.storage.clock = at, lambda: at
    content = {"data/big": noise(3 * CHUNK, 99)} | {
        k: v for k, v in shop.source.content.items() if k == "zeros"
    }
    shop.use(replace(shop.source, content=content, stamps={"data/big": "1"}, fails="zeros"))
    with pytest.raises(Died):
        shop.make(fresh=True)


def test_while_a_backup_is_made_no_chunk_goes(shop: Shop, history: list[str]) -> None:
    cut_off(shop, NOW - timedelta(minutes=10))
    before = chunks_of(shop)
    pruned = prune(open_repository(shop.storage), order(incomplete=True))
    assert "being made" in pruned.chunks_stay
    assert chunks_of(shop) == before
    assert pruned.dropped == ()


def test_a_backup_that_was_cut_off_keeps_what_it_needs_and_goes_only_when_asked(
    shop: Shop, history: list[str]
) -> None:
    cut_off(shop, NOW - timedelta(hours=5))
    prune(open_repository(shop.storage), order())
    shop.use(replace(shop.source, fails=None, read_parts=[]))
    twin = shop.twin()
    made = twin.make()
    assert twin.source.read_parts == ["zeros"]
    assert twin.verify(made.id).ok
    pruned = prune(open_repository(shop.storage), order(incomplete=True))
    assert len(pruned.dropped) == 1
    assert [e.state for e in entries(open_repository(shop.storage))] == [BackupState.COMPLETE]
    assert shop.verify(history[2]).ok


@pytest.mark.parametrize("newer", [False, True])
def test_where_a_backup_cannot_be_read_no_chunk_goes(shop: Shop, history: list[str], newer: bool) -> None:
    key = f"backups/{history[2]}/manifest.json"
    raw = shop.storage.get(key)
    shop.storage.put(key, raw.replace(b'"format":1', b'"format":7') if newer else raw[:-9] + b"123456789")
    before = chunks_of(shop)
    pruned = prune(open_repository(shop.storage), order(damaged=newer))
    assert history[2] in pruned.chunks_stay
    assert chunks_of(shop) == before
    assert pruned.decision.forget == (history[0],)
    assert shop.storage.size(key) is not None
    if not newer:
        assert prune(open_repository(shop.storage), order(damaged=True)).chunks_stay == ""
        assert shop.storage.size(key) is None
        assert shop.verify(history[1]).ok


def test_only_the_named_cluster_is_pruned(shop: Shop, history: list[str]) -> None:
    pruned = prune(open_repository(shop.storage), order(cluster="other"))
    assert (pruned.decision.keep, pruned.decision.forget) == ({}, ())
    assert len(entries(open_repository(shop.storage))) == 3


def test_what_a_killed_writer_left_goes(shop: Shop, history: list[str]) -> None:
    shop.storage.put("tmp/1234", b"half")
    prune(open_repository(shop.storage), order(grace=timedelta(days=30)))
    assert shop.storage.size("tmp/1234") is not None
    prune(open_repository(shop.storage), order())
    assert shop.storage.size("tmp/1234") is None


def test_backups_are_found_by_id_beginning_and_latest(shop: Shop, history: list[str]) -> None:
    repository = open_repository(shop.storage)
    assert find(repository, history[0]).id == history[0]
    assert find(repository, history[0][:10]).id == history[0]
    assert find(repository, "latest").id == find(repository, "redis:latest").id == history[2]
    for word, says in (
        ("2026", "begins the ids of 3"),
        ("nope", "no backup"),
        ("other:latest", "no complete"),
        ("", "no backup"),
    ):
        with pytest.raises(BadInput, match=says):
            find(repository, word)


def test_the_latest_is_a_complete_one(shop: Shop, history: list[str]) -> None:
    cut_off(shop, NOW)
    assert find(open_repository(shop.storage), "latest").id == history[2]


def test_a_backup_known_to_be_bad_is_only_opened_by_its_whole_id(shop: Shop, history: list[str]) -> None:
    repository = open_repository(shop.storage)
    repository.note_checked(history[2], Checked("full", NOW, ok=False))
    for word in ("latest", "redis:latest", history[2][:-1]):
        with pytest.raises(Damaged, match="failed") as caught:
            complete(repository, word)
        assert history[2] in str(caught.value.hint)
    assert complete(repository, history[2]).id == history[2]
    assert complete(repository, history[1][:-1]).id == history[1]


@pytest.mark.parametrize("resumed", [False, True])
def test_pruning_stops_where_somebody_begins_a_backup_meanwhile(
    shop: Shop, history: list[str], monkeypatch: pytest.MonkeyPatch, resumed: bool
) -> None:
    monkeypatch.setattr(pruning, "BATCH_S", 0.0)
    if resumed:
        cut_off(shop, NOW - timedelta(hours=5))
    shop.storage.clock = lambda: NOW - timedelta(hours=2)
    for number in range(10):
        shop.storage.put(f"{CHUNKS}00/{number:064}", b"nobody needs it")
    delete = shop.storage.delete

    def begun(key: str) -> None:
        delete(key)
        if key.startswith(CHUNKS):
            folder = max(k.split("/")[1] for k in shop.storage.objects if "begun" in k) if resumed else "new"
            shop.storage.clock = lambda: NOW
            shop.storage.put(f"backups/{folder}/{'begun' if resumed else 'manifest'}.json", b"{}")

    monkeypatch.setattr(shop.storage, "delete", begun)
    pruned = prune(open_repository(shop.storage), order())
    assert pruned.chunks == 1
    assert "begun meanwhile" in pruned.chunks_stay
    assert not any(key.startswith(SWEEPS) for key in shop.storage.objects)


def test_files_that_lie_beside_the_backups_are_passed_over(shop: Shop, history: list[str]) -> None:
    shop.storage.put("backups/.DS_Store", b"?")
    found = entries(open_repository(shop.storage))
    assert [e.id for e in found] == history
    assert prune(open_repository(shop.storage), order(damaged=True)).chunks_stay == ""
    assert shop.storage.size("backups/.DS_Store") is not None


def test_a_catalogue_of_many_backups_holds_no_chunks(shop: Shop, history: list[str]) -> None:
    import pickle

    repository = open_repository(shop.storage)
    few = [len(pickle.dumps(e)) for e in entries(repository)]
    shop.moment = NOW
    shop.use(replace(shop.source.changed(**{"data/big": noise(60 * CHUNK, 5)}), latest=NOW))
    made = shop.make()
    assert len(list(made.chunks())) > 60
    many = entries(repository)[-1]
    assert len(pickle.dumps(many)) < max(few) + 50
    assert (many.summary and (many.summary.bytes, many.summary.stored)) == (made.bytes, made.stored)


def test_a_tombstone_goes_after_its_documents_are_gone_for_good(
    shop: Shop, history: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[list[str]] = []

    def settle(prefix: str) -> None:
        left.append([key for key in shop.storage.objects if key.startswith(prefix)])

    monkeypatch.setattr(shop.storage, "settle", settle)
    prune(open_repository(shop.storage), order())
    assert left == [[f"backups/{backup}/forgotten.json"] for backup in (history[0], history[1])]


@pytest.mark.parametrize("dry_run", [False, True])
def test_what_is_too_young_to_go_is_counted(shop: Shop, history: list[str], dry_run: bool) -> None:
    shop.storage.clock = lambda: NOW - timedelta(minutes=5)
    shop.storage.put(f"{CHUNKS}00/{0:064}", b"12345")
    pruned = prune(open_repository(shop.storage), order(dry_run=dry_run))
    assert pruned.chunks > 0
    assert pruned.chunks_stay == "1 that no backup needs (5 bytes) are younger than 1 hour"
    assert shop.storage.size(f"{CHUNKS}00/{0:064}") == 5

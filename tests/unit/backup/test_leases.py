"""Who restores a backup keeps it from being removed, while something is heard of him; and bad backups go when asked."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.backup.archive import open_archive
from haops.backup.catalogue import entries
from haops.backup.leases import LEASE_FOR, RENEW_S, Restoring, ago, holds, renewed
from haops.backup.manifest import Checked
from haops.backup.prune import prune
from haops.backup.repository import CHUNKS, open_repository
from haops.backup.storage import StorageTrouble
from haops.errors import BadInput

from ...backup_fakes import NOW
from .conftest import Shop, order

ages = st.timedeltas(timedelta(days=-30), timedelta(days=900))


def dated(shop: Shop, at: datetime) -> None:
    """What is written from now on is of this moment."""
    shop.storage.clock = lambda: at


def leased(shop: Shop, backup: str, age: timedelta, holder: str = "me@there") -> None:
    """A restore that was last heard of so long ago."""
    dated(shop, NOW - age)
    open_repository(shop.storage).lease(backup, "other", holder)
    dated(shop, NOW)


def test_a_backup_that_is_being_restored_stays_and_says_by_whom_and_since_when(
    shop: Shop, history: list[str]
) -> None:
    leased(shop, history[0], timedelta(hours=5))
    repository = open_repository(shop.storage)
    said = prune(repository, order(dry_run=True))
    pruned = prune(repository, order())
    assert said == pruned
    assert pruned.decision.forget == (history[1],)
    (why,) = pruned.decision.keep[history[0]]
    assert why.startswith(f"being restored into other by me@there since {datetime.now(UTC):%Y-%m-%d}")
    assert why.endswith("last heard of 5 hours ago")
    assert pruned.remarks == ()
    assert shop.verify(history[0]).ok
    repository.end_lease(history[0], "other")
    repository.end_lease(history[0], "other")
    assert prune(repository, order()).decision.forget == (history[0],)


@pytest.mark.parametrize("over", [timedelta(0), timedelta(seconds=1)])
def test_a_restore_that_is_not_heard_of_for_a_week_holds_its_backup_no_longer(
    shop: Shop, history: list[str], over: timedelta
) -> None:
    leased(shop, history[0], LEASE_FOR + over)
    repository = open_repository(shop.storage)
    said = prune(repository, order(dry_run=True))
    pruned = prune(repository, order())
    assert said == pruned
    if not over:
        assert (pruned.decision.forget, pruned.remarks) == ((history[1],), ())
        assert shop.verify(history[0]).ok
        return
    assert pruned.decision.forget == (history[1], history[0])
    (remark,) = pruned.remarks
    assert remark.startswith(f"{history[0]}: a restore into other by me@there since ")
    assert remark.endswith("last heard of 7 days ago: after 7 days it holds the backup no longer")
    assert not any(history[0] in key for key in shop.storage.objects)
    assert shop.verify(history[2]).ok


def test_a_lease_that_is_renewed_holds_on_and_says_since_when_it_was_taken(
    shop: Shop, history: list[str]
) -> None:
    leased(shop, history[0], timedelta(days=20))
    repository = open_repository(shop.storage)
    before = repository.leases(repository.folders()[history[0]], NOW)
    dated(shop, NOW - timedelta(days=1))
    repository.renew_lease(history[0], "other", "me@there")
    after = repository.leases(repository.folders()[history[0]], NOW)
    assert [(x.holds, x.since, x.heard) for x in (*before, *after)] == [
        (False, before[0].since, NOW - timedelta(days=20)),
        (True, before[0].since, NOW - timedelta(days=1)),
    ]
    assert history[0] in prune(repository, order()).decision.keep


def test_a_lease_that_is_renewed_while_its_backup_is_removed_keeps_it(
    shop: Shop, history: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    leased(shop, history[0], timedelta(days=8))
    repository = open_repository(shop.storage)
    put = shop.storage.put

    def race(key: str, content: bytes) -> None:
        put(key, content)
        if key.endswith("forgotten.json"):
            repository.renew_lease(history[0], "other", "me@there")

    monkeypatch.setattr(shop.storage, "put", race)
    pruned = prune(repository, order())
    assert pruned.decision.forget == (history[1],)
    assert shop.verify(history[0]).ok
    assert not any("forgotten" in key for key in shop.storage.objects)


def test_a_wrong_clock_of_who_prunes_ends_no_lease(shop: Shop, history: list[str]) -> None:
    leased(shop, history[0], timedelta(hours=1))
    repository = open_repository(shop.storage)
    pruned = prune(repository, order(now=lambda: NOW + timedelta(days=30), grace=timedelta(days=60)))
    assert history[0] in pruned.decision.keep
    assert history[0] not in pruned.decision.forget
    assert shop.verify(history[0]).ok


def test_without_a_tombstone_on_a_full_disk_a_lease_is_given_the_benefit_of_the_doubt(
    shop: Shop, history: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    leased(shop, history[0], timedelta(days=8))

    def full(*_: object) -> None:
        raise StorageTrouble("full")

    monkeypatch.setattr(shop.storage, "put", full)
    pruned = prune(open_repository(shop.storage), order())
    assert pruned.decision.forget == (history[1],)
    assert shop.verify(history[0]).ok


def test_a_restore_that_begins_while_its_backup_is_removed_keeps_it_or_is_told(
    shop: Shop, history: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = open_repository(shop.storage)
    folder = repository.folders()[history[0]]
    put = shop.storage.put

    def race(key: str, content: bytes) -> None:
        put(key, content)
        if key.endswith("forgotten.json"):
            put(f"backups/{history[0]}/restoring-other.json", b"{}")

    with monkeypatch.context() as patch:
        patch.setattr(shop.storage, "put", race)
        pruned = prune(repository, order())
    assert pruned.decision.forget == (history[1],)
    (why,) = pruned.decision.keep[history[0]]
    assert why.startswith("being restored into other, last heard of ")
    assert shop.verify(history[0]).ok
    repository.end_lease(history[0], "other")
    assert repository.forget(folder)
    with pytest.raises(BadInput, match="was removed"):
        repository.lease(history[0], "other")
    assert not any(history[0] in key for key in shop.storage.objects)


def test_a_lease_alone_is_no_backup_and_goes(shop: Shop, history: list[str]) -> None:
    shop.storage.put("backups/20260101T000000Z-redis/restoring-other.json", b"{}")
    repository = open_repository(shop.storage)
    assert len(entries(repository)) == 3
    prune(repository, order())
    assert not any("restoring" in key for key in shop.storage.objects)


def test_an_archive_leases_in_the_name_of_who_restores(
    shop: Shop, history: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("haops.backup.archive.operator", lambda: "me@here")
    repository = open_repository(shop.storage)
    archive = open_archive(repository, history[1])
    for act, age in ((archive.lease, timedelta(days=20)), (archive.renew_lease, timedelta(0))):
        dated(shop, NOW - age)
        act("other")
        (found,) = repository.leases(repository.folders()[history[1]], NOW)
        assert (found.cluster, found.holder, found.heard) == ("other", "me@here", NOW - age)
    archive.end_lease("other")
    assert repository.leases(repository.folders()[history[1]], NOW) == []


def test_renewals_go_on_while_a_step_takes_long_and_stop_with_the_section() -> None:
    calls: list[float] = []
    thrice = threading.Event()

    def renew() -> None:
        calls.append(time.monotonic())
        if len(calls) >= 3:
            thrice.set()
        raise StorageTrouble("away")  # one that fails is no reason to give the next one up

    with renewed(renew, 0.001):
        assert thrice.wait(5)
    count = len(calls)
    time.sleep(0.02)
    assert len(calls) == count
    assert "lease" not in {t.name for t in threading.enumerate()}


def test_a_lease_outlives_many_renewals_that_fail() -> None:
    assert LEASE_FOR / timedelta(seconds=RENEW_S) > 100


@given(ages)
def test_a_lease_holds_to_its_last_moment_and_says_the_same(age: timedelta) -> None:
    heard = NOW - age
    found = Restoring("other", "", None, heard, holds(heard, NOW))
    assert found.holds == (age <= LEASE_FOR)
    assert found.words(NOW).startswith("being restored" if found.holds else "a restore")
    assert ("no longer" in found.words(NOW)) != found.holds


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(seconds=-5), "just now"),
        (timedelta(seconds=59), "just now"),
        (timedelta(seconds=60), "1 minute ago"),
        (timedelta(hours=23), "23 hours ago"),
        (timedelta(days=1), "1 day ago"),
        (timedelta(days=400), "400 days ago"),
    ],
)
def test_ages_come_in_their_largest_unit(age: timedelta, words: str) -> None:
    assert ago(age) == words


def failed(shop: Shop, *backups: str) -> None:
    for backup in backups:
        open_repository(shop.storage).note_checked(backup, Checked("full", NOW, ok=False))


def test_a_backup_whose_verification_failed_fills_no_rule_and_stays(shop: Shop, history: list[str]) -> None:
    repository = open_repository(shop.storage)
    failed(shop, history[2])
    pruned = prune(repository, order())
    assert pruned.decision.keep[history[2]] == ("its verification failed; to remove it: --damaged",)
    assert "newest" in pruned.decision.keep[history[1]]
    assert pruned.decision.forget == (history[0],)
    assert shop.verify(history[2]).ok
    assert prune(repository, order()).decision.forget == (history[1],)


@pytest.mark.parametrize("rules", [None, order().rules])
def test_when_asked_those_whose_verification_failed_go_and_take_nothing_that_others_need(
    shop: Shop, history: list[str], rules: object
) -> None:
    dated(shop, NOW)  # it was verified a moment ago: that makes it no younger
    failed(shop, history[2])
    repository = open_repository(shop.storage)
    before = dict(shop.storage.objects)
    said = prune(repository, order(rules=rules, damaged=True, dry_run=True))
    assert shop.storage.objects == before
    pruned = prune(repository, order(rules=rules, damaged=True))
    assert said == pruned
    assert pruned.dropped == (history[2],)
    assert pruned.remarks == (f"{history[2]}: its last verification (full, 2026-03-04 05:06 UTC) failed",)
    assert pruned.chunks == (1 if rules is None else 2), "what only it and those that go as well had"
    assert not any(history[2] in key for key in shop.storage.objects)
    assert {*pruned.decision.keep} == ({*history[:2]} if rules is None else {history[1]})
    for backup in pruned.decision.keep:
        assert shop.verify(backup).ok


def test_a_failed_one_stays_where_it_is_being_restored_or_its_cluster_has_no_other(
    shop: Shop, history: list[str]
) -> None:
    failed(shop, *history)
    leased(shop, history[0], timedelta(days=1))
    repository = open_repository(shop.storage)
    pruned = prune(repository, order(damaged=True))
    assert pruned.dropped == (history[1],)
    assert pruned.decision.keep[history[2]] == ("its verification failed, but its cluster has no other",)
    assert pruned.decision.keep[history[0]][0].startswith("being restored into other")
    assert {k.split("/")[1] for k in shop.storage.objects if k.startswith("backups/")} == {
        history[0],
        history[2],
    }


def test_a_restore_of_a_failed_one_that_begins_while_it_is_removed_keeps_it(
    shop: Shop, history: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed(shop, history[0])
    repository = open_repository(shop.storage)
    put = shop.storage.put

    def race(key: str, content: bytes) -> None:
        put(key, content)
        if key.endswith("forgotten.json"):
            put(f"backups/{history[0]}/restoring-other.json", b"{}")

    monkeypatch.setattr(shop.storage, "put", race)
    pruned = prune(repository, order(rules=None, damaged=True))
    assert pruned.dropped == ()
    assert pruned.decision.keep[history[0]][0].startswith("being restored into other")
    assert shop.verify(history[0]).ok


def test_only_the_named_clusters_failed_ones_go(shop: Shop, history: list[str]) -> None:
    failed(shop, history[0])
    repository = open_repository(shop.storage)
    chunks = sum(key.startswith(CHUNKS) for key in shop.storage.objects)
    assert prune(repository, order(rules=None, cluster="other", damaged=True)).dropped == ()
    assert sum(key.startswith(CHUNKS) for key in shop.storage.objects) == chunks
    assert prune(repository, order(rules=None, cluster="redis", damaged=True)).dropped == (history[0],)

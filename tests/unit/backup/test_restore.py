"""Restoring: what is refused, what is removed, and how a restore that was killed goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from haops.backup import restore as module
from haops.backup.restore import NotEmpty, Outlook, Progress, RestoreOrder, look, refusal, restore
from haops.cluster.loans import Loan, Loans
from haops.cluster.snapshot import Verdict
from haops.cluster.spec import Cluster, StoreName
from haops.control.half_restored import HalfRestored, RestoreFile
from haops.control.journal import Journal, Outcome
from haops.control.lifecycle import Lifecycle
from haops.control.loans import give_back_loans
from haops.errors import BadInput, Busy, StateDamaged
from haops.runtime.port import Runtime
from haops.stores import load
from haops.stores.backup import (
    Advance,
    Archive,
    Backing,
    BackupTools,
    Facts,
    NotRestorable,
    Part,
    RestoreFailed,
    RestoreWish,
    Stage,
)
from haops.wait import wait_until

from ...fakes import make_cluster, with_readiness

ITEMS = 10


@dataclass
class FakeArchive:
    """A backup whose items are the numbers below `ITEMS`."""

    id: str = "20250102T030405Z-redis"
    store: StoreName = StoreName.REDIS
    facts: Facts = field(default_factory=lambda: Facts("8.0", "x:1", datetime(2025, 1, 2, tzinfo=UTC)))
    parts: Sequence[Part] = ()
    leases: set[tuple[str, str]] = field(default_factory=set)
    renewals: int = 0

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        yield b""

    def lease(self, lessee: str) -> None:
        self.leases.add((self.id, lessee))

    def renew_lease(self, lessee: str) -> None:
        assert (self.id, lessee) in self.leases
        self.renewals += 1

    def end_lease(self, lessee: str, *, of: str = "") -> None:
        self.leases.discard((of or self.id, lessee))


@dataclass
class Server:
    """The target: what it has, after how many writes the tool is killed, and whether its restorer tells of them."""

    has: dict[str, int] = field(default_factory=dict)
    dies_after: int | None = None
    refuses: bool = False
    tells: bool = False
    writes: int = 0
    wiped: int = 0
    returned: list[Loan] = field(default_factory=list)

    def write(self, stage: str, item: int) -> None:
        if self.dies_after is not None and self.writes >= self.dies_after:
            raise KeyboardInterrupt
        self.writes += 1
        self.has[f"{stage}/{item}"] = item


class FakeRestorer:
    """Two stages of ten items each; marks after each item."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def in_the_way(self) -> tuple[str, ...]:
        return (f"{len(self.server.has)} keys",) if self.server.has else ()

    def wipe(self) -> None:
        self.server.wiped += 1
        self.server.has.clear()

    def stages(self) -> Sequence[Stage]:
        return (Stage("one", "the first half", ITEMS, "keys"), Stage("two", "the rest", ITEMS, "keys"))

    def perform(self, stage: Stage, mark: str) -> Iterator[Advance]:
        for item in range(int(mark or 0), ITEMS):
            self.server.write(stage.name, item)
            yield Advance(item + 1, str(item + 1))


class TellingRestorer(FakeRestorer):
    """Knows whether it has written anything; removes nothing by itself."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._written = server.writes

    def wipe(self) -> None:
        pass

    def unchanged(self) -> bool:
        return self.server.writes == self._written


WHOLE = {f"{stage}/{item}": item for stage in ("one", "two") for item in range(ITEMS)}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()

    @contextmanager
    def restorer(
        cluster: Cluster, tools: BackupTools, archive: Archive, wish: RestoreWish
    ) -> Iterator[FakeRestorer]:
        if wish.at or made.refuses:
            raise NotRestorable("no log")
        yield TellingRestorer(made) if made.tells else FakeRestorer(made)

    def give_back(cluster: Cluster, runtime: Runtime, loan: Loan) -> str:
        made.returned.append(loan)
        return "given back"

    backing = Backing(source=None, restorer=restorer, give_back=give_back)  # type: ignore[arg-type]
    monkeypatch.setattr(module, "load_backing", lambda store: backing)
    monkeypatch.setattr("haops.control.loans.load_backing", lambda store: backing)
    monkeypatch.setattr("haops.control.lifecycle.load", lambda name: with_readiness(load(name)))
    monkeypatch.setattr(module, "_MARK_S", 0.0)
    return made


@pytest.fixture
def cluster(haops: Lifecycle) -> Cluster:
    made = make_cluster("redis", owner=haops.state.owner())
    haops.state.save(made)
    return made


def half(haops: Lifecycle, cluster: Cluster) -> HalfRestored | None:
    return RestoreFile(haops.state.cluster_dir(cluster.name)).read()


def test_an_empty_cluster_is_filled_stage_by_stage(
    haops: Lifecycle, cluster: Cluster, server: Server
) -> None:
    heard = []
    done = restore(haops, cluster, FakeArchive(), RestoreOrder(report=heard.append))
    assert server.has == WHOLE
    assert [(s.stage.name, s.done) for s in done.stages] == [("one", ITEMS), ("two", ITEMS)]
    assert [p.done for p in heard if p.stage.name == "two"] == list(range(ITEMS + 1))
    assert half(haops, cluster) is None
    (record,) = Journal(haops.state.cluster_dir("redis")).read()
    assert (record.outcome, record.plan.source) == (Outcome.DONE, FakeArchive().id)


def test_what_is_there_is_never_touched_unasked(haops: Lifecycle, cluster: Cluster, server: Server) -> None:
    server.has = {"theirs": 1}
    archive = FakeArchive()
    with pytest.raises(NotEmpty, match="not empty") as caught:
        restore(haops, cluster, archive, RestoreOrder())
    assert archive.leases == set()
    assert caught.value.detail == "1 keys"
    assert (server.has, half(haops, cluster)) == ({"theirs": 1}, None)
    assert Journal(haops.state.cluster_dir("redis")).read() == ()


def test_wipe_removes_what_is_in_the_way_and_merge_keeps_it(
    haops: Lifecycle, cluster: Cluster, server: Server
) -> None:
    server.has = {"theirs": 1}
    restore(haops, cluster, FakeArchive(), RestoreOrder(RestoreWish(merge=True)))
    assert server.has == {"theirs": 1, **WHOLE}
    restore(haops, cluster, FakeArchive(), RestoreOrder(wipe=True))
    assert (server.has, server.wiped) == (WHOLE, 1)


def test_another_stores_backup_touches_nothing(haops: Lifecycle, cluster: Cluster, server: Server) -> None:
    for act in (
        lambda a: restore(haops, cluster, a, RestoreOrder(wipe=True)),
        lambda a: look(haops, cluster, a, RestoreWish()),
    ):
        with pytest.raises(NotRestorable, match="is of zookeeper, cluster redis is of redis"):
            act(FakeArchive(store=StoreName.ZOOKEEPER))
    assert server.writes == server.wiped == 0


def test_a_wish_that_cannot_be_fulfilled_leaves_no_trace(
    haops: Lifecycle, cluster: Cluster, server: Server
) -> None:
    with pytest.raises(NotRestorable):
        restore(haops, cluster, FakeArchive(), RestoreOrder(RestoreWish(at=datetime.now(UTC)), wipe=True))
    assert half(haops, cluster) is None


def test_a_look_tells_what_is_in_the_way_and_changes_nothing(
    haops: Lifecycle, cluster: Cluster, server: Server
) -> None:
    server.has = {"theirs": 1}
    seen = look(haops, cluster, FakeArchive(), RestoreWish())
    assert (seen.in_the_way, [s.name for s in seen.stages]) == (("1 keys",), ["one", "two"])
    assert (server.has, half(haops, cluster)) == ({"theirs": 1}, None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15)
@given(kills=st.lists(st.integers(0, 2 * ITEMS - 1), min_size=1, max_size=4), occupied=st.booleans())
def test_killed_anywhere_it_goes_on_where_it_was(
    haops: Lifecycle, cluster: Cluster, server: Server, kills: list[int], occupied: bool
) -> None:
    RestoreFile(haops.state.cluster_dir("redis")).clear()
    server.has, server.wiped = ({"theirs": 1} if occupied else {}), 0
    order, complete = RestoreOrder(wipe=True), False
    for budget in kills:
        server.writes, server.dies_after = 0, budget
        try:
            restore(haops, cluster, FakeArchive(), order)
        except KeyboardInterrupt:
            assert half(haops, cluster) is not None
            seen = haops.observe(cluster)
            assert seen.verdict is not Verdict.HEALTHY
            assert "haops restore 20250102T030405Z-redis --to redis --resume" in "; ".join(seen.reasons)
            order = replace(order, resume=True)
        else:
            complete = True
            break
    server.writes, server.dies_after = 0, None
    if not complete:
        restore(haops, cluster, FakeArchive(), order)
    assert server.has == WHOLE
    assert server.wiped == int(occupied)
    assert half(haops, cluster) is None


def test_a_half_restored_cluster_is_not_restored_anew_by_mistake(
    haops: Lifecycle, cluster: Cluster, server: Server
) -> None:
    server.dies_after = 3
    with pytest.raises(KeyboardInterrupt):
        restore(haops, cluster, FakeArchive(), RestoreOrder())
    server.dies_after = None
    with pytest.raises(Busy, match="was cut off here") as caught:
        restore(haops, cluster, FakeArchive(), RestoreOrder())
    assert "--resume" in str(caught.value.hint)
    with pytest.raises(BadInput, match="not of other"):
        restore(haops, cluster, FakeArchive("other"), RestoreOrder(resume=True))
    with pytest.raises(BadInput, match="--only k"):
        restore(haops, cluster, FakeArchive(), RestoreOrder(RestoreWish(only="k"), resume=True))
    restore(haops, cluster, FakeArchive(), RestoreOrder(wipe=True))
    assert server.has == WHOLE


def test_there_must_be_something_to_resume(haops: Lifecycle, cluster: Cluster, server: Server) -> None:
    with pytest.raises(BadInput, match="nothing to resume"):
        restore(haops, cluster, FakeArchive(), RestoreOrder(resume=True))


def test_a_server_that_refuses_is_told_and_journalled(
    haops: Lifecycle, cluster: Cluster, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(stage: str, item: int) -> None:
        raise RestoreFailed("no", node="redis-1", detail="OOM")

    monkeypatch.setattr(server, "write", refuse)
    with pytest.raises(RestoreFailed):
        restore(haops, cluster, FakeArchive(), RestoreOrder())
    (record,) = Journal(haops.state.cluster_dir("redis")).read()
    assert record.outcome is Outcome.FAILED
    assert half(haops, cluster) is not None


def test_what_an_earlier_process_borrowed_is_given_back_first(
    haops: Lifecycle, cluster: Cluster, server: Server
) -> None:
    loans = Loans(haops.state.cluster_dir("redis"))
    loans.take(Loan("redis-1", "repl-diskless-sync-delay", "5"))
    restore(haops, cluster, FakeArchive(), RestoreOrder())
    assert server.returned == [Loan("redis-1", "repl-diskless-sync-delay", "5")]
    assert loans.open() == ()


def test_heal_gives_back_what_was_borrowed(haops: Lifecycle, cluster: Cluster, server: Server) -> None:
    loans = Loans(haops.state.cluster_dir("redis"))
    loans.take(Loan("redis-2", "a", "1"))
    assert haops.heal(cluster) == ("redis-2",)
    assert (server.returned, loans.open()) == ([Loan("redis-2", "a", "1")], ())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 9}', '{"format": 1, "restore": {"backup": 1}}'])
def test_a_record_that_cannot_be_read_says_where_and_how_to_go_on(
    haops: Lifecycle, cluster: Cluster, server: Server, text: str
) -> None:
    path = haops.state.cluster_dir("redis") / "restore.json"
    path.write_text(text)
    with pytest.raises(StateDamaged, match=r"restore\.json:1:") as caught:
        restore(haops, cluster, FakeArchive(), RestoreOrder())
    assert "--wipe" in str(caught.value.hint)
    restore(haops, cluster, FakeArchive(), RestoreOrder(wipe=True))
    assert server.has == WHOLE


def test_a_resumed_restore_wipes_only_if_that_was_asked_for_when_it_began(
    haops: Lifecycle, cluster: Cluster, server: Server
) -> None:
    server.dies_after = 0
    with pytest.raises(KeyboardInterrupt):
        restore(haops, cluster, FakeArchive(), RestoreOrder())
    kept = half(haops, cluster)
    assert kept is not None
    RestoreFile(haops.state.cluster_dir("redis")).write(replace(kept, wiped=False))
    server.has, server.dies_after = {"written since": 1}, None
    with pytest.raises(NotEmpty):
        restore(haops, cluster, FakeArchive(), RestoreOrder(resume=True))
    assert server.has == {"written since": 1}
    RestoreFile(haops.state.cluster_dir("redis")).write(replace(kept, wiped=False, wipe=True))
    restore(haops, cluster, FakeArchive(), RestoreOrder(resume=True))
    assert server.has == WHOLE


def test_a_backup_is_kept_from_pruning_until_its_restore_is_complete(
    haops: Lifecycle, cluster: Cluster, server: Server
) -> None:
    archive = FakeArchive()
    server.dies_after = 3
    with pytest.raises(KeyboardInterrupt):
        restore(haops, cluster, archive, RestoreOrder())
    assert archive.leases == {(archive.id, f"redis.{cluster.owner[:6]}")}
    server.dies_after = None
    restore(haops, cluster, archive, RestoreOrder(resume=True))
    assert archive.leases == set()


@pytest.mark.parametrize("damaged", [False, True])
def test_one_that_cannot_go_on_with_a_restore_leaves_its_backup_kept_from_pruning(
    haops: Lifecycle, cluster: Cluster, server: Server, damaged: bool
) -> None:
    archive = FakeArchive()
    server.dies_after = 3
    with pytest.raises(KeyboardInterrupt):
        restore(haops, cluster, archive, RestoreOrder())
    kept = set(archive.leases)
    server.refuses = True
    if damaged:
        (haops.state.cluster_dir("redis") / "restore.json").write_text("{")
    for _ in range(2):
        with pytest.raises(NotRestorable):
            restore(haops, cluster, archive, RestoreOrder(resume=not damaged, wipe=damaged))
        assert archive.leases == kept != set()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_restore_in_anothers_place_lets_go_of_that_ones_backup(
    haops: Lifecycle, cluster: Cluster, server: Server, elsewhere: bool
) -> None:
    first = FakeArchive()
    server.dies_after = 3
    with pytest.raises(KeyboardInterrupt):
        restore(haops, cluster, first, RestoreOrder(repository="here"))
    second = FakeArchive(id="20250102T030406Z-redis", leases=first.leases)
    order = RestoreOrder(repository="there" if elsewhere else "here", wipe=True)
    server.refuses = True
    with pytest.raises(NotRestorable):
        restore(haops, cluster, second, order)
    assert {backup for backup, _ in first.leases} == {first.id}, "nothing was touched"
    server.refuses, server.dies_after = False, None
    restore(haops, cluster, second, order)
    assert {backup for backup, _ in first.leases} == ({first.id} if elsewhere else set())


def test_no_backup_is_made_of_a_cluster_while_it_is_restored(
    haops: Lifecycle, cluster: Cluster, server: Server
) -> None:
    with haops.state.lock("redis", "backup", part="backup"), pytest.raises(Busy):
        restore(haops, cluster, FakeArchive(), RestoreOrder())
    assert server.writes == 0


def test_the_command_that_finishes_it_is_told_whole(haops: Lifecycle, cluster: Cluster) -> None:
    wish = RestoreWish("my key", datetime(2025, 1, 1, tzinfo=UTC), merge=True)
    assert (
        HalfRestored("b1", "s3://x/y", wish, "now")
        .words("redis")
        .endswith(
            "haops restore b1 --to redis --resume --repo s3://x/y "
            "--only 'my key' --at 2025-01-01T00:00:00+00:00 --merge"
        )
    )


@pytest.mark.parametrize(("merge", "options"), [(False, "--resume;"), (True, "--resume and --merge;")])
def test_the_other_way_out_is_told_as_it_can_be_said(merge: bool, options: str) -> None:
    words = HalfRestored("b1", "", RestoreWish(merge=merge), "now").words("redis")
    assert f"with this backup or another, by --wipe in place of {options}" in words


def test_heal_leaves_a_running_backup_what_it_has_borrowed(
    haops: Lifecycle, cluster: Cluster, server: Server
) -> None:
    loans = Loans(haops.state.cluster_dir("redis"))
    loans.take(Loan("redis-2", "a", "1"))
    with haops.state.lock("redis", "backup", part="backup"):
        assert haops.heal(cluster) == ()
    assert loans.open() == (Loan("redis-2", "a", "1"),)


def test_loans_go_back_last_first_and_one_that_cannot_does_not_keep_the_others(
    haops: Lifecycle, cluster: Cluster, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    loans = Loans(haops.state.cluster_dir("redis"))
    for setting in ("first", "second", "third"):
        loans.take(Loan("redis-1", setting, "1"))
    asked: list[str] = []

    def give_back(cluster: Cluster, runtime: Runtime, loan: Loan) -> str:
        asked.append(loan.setting)
        if loan.setting == "second":
            raise RestoreFailed("it is down", node="redis-1")
        return ""

    backing = Backing(None, None, give_back)  # type: ignore[arg-type]
    monkeypatch.setattr("haops.control.loans.load_backing", lambda store: backing)
    with pytest.raises(RestoreFailed):
        give_back_loans(cluster, haops.runtime, loans)
    assert asked == ["third", "second", "first"]
    assert [k.setting for k in loans.open()] == ["second"]


def test_a_record_survives_its_round_trip(haops: Lifecycle, cluster: Cluster) -> None:
    file = RestoreFile(haops.state.cluster_dir("redis"))
    kept = HalfRestored(
        "b",
        "s3://x",
        RestoreWish("k", datetime(2025, 1, 1, tzinfo=UTC), merge=True),
        "now",
        wipe=True,
        wiped=True,
        stage="one",
        mark="m",
        done=7,
    )
    file.write(kept)
    assert file.read() == kept
    assert json.loads((haops.state.cluster_dir("redis") / "restore.json").read_text())["format"] == 1


def test_a_restore_renews_its_lease_while_it_is_at_work(
    haops: Lifecycle, cluster: Cluster, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = FakeArchive()
    monkeypatch.setattr(module, "RENEW_S", 0.001)

    def slowly(progress: object) -> None:
        wait_until(lambda: archive.renewals, bool, what="a renewal", deadline_s=5, interval_s=0.001)

    restore(haops, cluster, archive, RestoreOrder(report=slowly))
    assert (archive.leases, server.has) == (set(), WHOLE)


def test_one_that_fails_before_anything_is_changed_is_no_half_of_a_restore(
    haops: Lifecycle, cluster: Cluster, server: Server
) -> None:
    archive = FakeArchive()
    server.tells, server.dies_after, server.has = True, 0, {"theirs": 1}
    with pytest.raises(KeyboardInterrupt):
        restore(haops, cluster, archive, RestoreOrder(wipe=True))
    assert (half(haops, cluster), archive.leases, server.has) == (None, set(), {"theirs": 1})
    assert haops.observe(cluster).reasons == ()
    (record,) = Journal(haops.state.cluster_dir("redis")).read()
    assert (record.outcome, record.note) == (Outcome.FAILED, "interrupted")


def test_one_that_fails_before_anything_is_changed_says_so(
    haops: Lifecycle, cluster: Cluster, server: Server
) -> None:
    def broken(progress: Progress) -> None:
        raise RestoreFailed("a chunk is damaged")

    server.tells = True
    with pytest.raises(RestoreFailed) as caught:
        restore(haops, cluster, FakeArchive(), RestoreOrder(report=broken))
    assert caught.value.__notes__ == ["nothing was changed: redis holds what it held before"]


@pytest.mark.parametrize("same", [False, True])
def test_one_that_changes_nothing_leaves_what_an_earlier_one_left_half_restored(
    haops: Lifecycle, cluster: Cluster, server: Server, same: bool
) -> None:
    first = FakeArchive()
    server.dies_after = 3
    with pytest.raises(KeyboardInterrupt):
        restore(haops, cluster, first, RestoreOrder())
    before, leases = half(haops, cluster), set(first.leases)
    server.tells = True
    second = first if same else FakeArchive(id="20250102T030406Z-redis", leases=first.leases)
    with pytest.raises(KeyboardInterrupt):
        restore(haops, cluster, second, RestoreOrder(wipe=True))
    assert (half(haops, cluster), first.leases) == (before, leases)
    server.dies_after = None
    restore(haops, cluster, first, RestoreOrder(resume=True))
    assert (server.has, first.leases) == (WHOLE, set())


def test_one_that_changes_nothing_leaves_the_mark_where_the_earlier_one_cannot_be_read(
    haops: Lifecycle, cluster: Cluster, server: Server
) -> None:
    (haops.state.cluster_dir("redis") / "restore.json").write_text("{")
    server.tells, server.dies_after = True, 0
    with pytest.raises(KeyboardInterrupt):
        restore(haops, cluster, FakeArchive(), RestoreOrder(wipe=True))
    assert RestoreFile(haops.state.cluster_dir("redis")).there


def test_one_that_has_begun_to_write_stays_marked_and_names_both_ways_out(
    haops: Lifecycle, cluster: Cluster, server: Server
) -> None:
    def broken(progress: Progress) -> None:
        if progress.done == 3:
            raise RestoreFailed("a chunk is damaged")

    server.tells = True
    with pytest.raises(RestoreFailed) as caught:
        restore(haops, cluster, FakeArchive(), RestoreOrder(report=broken))
    kept = half(haops, cluster)
    assert kept is not None
    assert caught.value.__notes__ == [kept.words("redis")]
    assert haops.observe(cluster).reasons == (kept.words("redis"),)
    assert "with this backup or another, by --wipe" in kept.words("redis")
    assert "--resume" in kept.words("redis")


@pytest.mark.parametrize(
    "order",
    [
        RestoreOrder(),
        RestoreOrder(wipe=True),
        RestoreOrder(RestoreWish(merge=True)),
        RestoreOrder(resume=True),
        RestoreOrder(RestoreWish(only="k"), resume=True),
    ],
)
@pytest.mark.parametrize("earlier", [False, True])
def test_what_a_restore_is_refused_with_is_told_without_it(
    haops: Lifecycle, cluster: Cluster, server: Server, order: RestoreOrder, earlier: bool
) -> None:
    archive = FakeArchive()
    if earlier:
        server.dies_after = 3
        with pytest.raises(KeyboardInterrupt):
            restore(haops, cluster, archive, RestoreOrder())
        server.dies_after = None
    server.has["theirs"] = 1
    foretold = refusal(haops, cluster, archive, order, Outlook(("1 keys",), ()))
    came: BadInput | Busy | None = None
    try:
        restore(haops, cluster, archive, order)
    except (BadInput, Busy) as error:
        came = error
    assert (type(foretold), getattr(foretold, "message", "")) == (type(came), getattr(came, "message", ""))

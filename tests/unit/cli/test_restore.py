"""`haops restore` and `haops recover`: what is asked, refused and printed before and after the work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from haops.backup.restore import Outlook, Restored, RestoreOrder, StageDone
from haops.cli import restore as module
from haops.control.execute import Operations
from haops.control.half_restored import HalfRestored, RestoreFile
from haops.control.lifecycle import Lifecycle
from haops.errors import EXIT_INTERRUPTED, BadInput, Busy
from haops.stores.backup import RestoreWish, Stage

from ...fakes import make_cluster
from .conftest import Run

HALF = HalfRestored("b1", "/r", RestoreWish("k"), "now", stage="load")
STAGE = Stage("load", "loads [it]", 10, "keys")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, fake: Lifecycle) -> Iterator[list[RestoreOrder]]:
    """The orders that were carried out, on a cluster in whose way two keys are."""
    orders: list[RestoreOrder] = []
    fake.state.save(make_cluster("redis", owner=fake.state.owner()))
    monkeypatch.setattr(module, "lifecycle", lambda: fake)
    monkeypatch.setattr(module, "operations", lambda: Operations(fake))

    def carry_out(haops: object, cluster: object, archive: object, order: RestoreOrder) -> Restored:
        orders.append(order)
        return Restored("b1", "redis", (StageDone(STAGE, 10, 2.0),), 0.5, 2.5)

    class Archive:
        id, store = "b1", "redis"

    monkeypatch.setattr("haops.backup.repository.open_repository", lambda where: where)
    monkeypatch.setattr("haops.backup.archive.open_archive", lambda *_: Archive())
    monkeypatch.setattr("haops.backup.restore.check_fits", lambda *_: None)
    monkeypatch.setattr("haops.backup.restore.restore", carry_out)
    monkeypatch.setattr("haops.backup.restore.look", lambda *_: Outlook(("2 keys",), (STAGE,)))
    yield orders


def test_the_words_become_an_order(run: Run, asked: list[RestoreOrder]) -> None:
    ended = run(
        "restore", "b1", "--to", "redis", "--only", "user:", "--at", "2026-01-31T13:00:00+01:00", "--merge",
        "--repo", "/r", "--reason", "why",
    )  # fmt: skip
    assert ended.code == 0
    (order,) = asked
    assert order.wish == RestoreWish("user:", datetime(2026, 1, 31, 12, tzinfo=UTC), merge=True)
    assert (order.repository, order.wipe, order.resume, order.reason) == ("/r", False, False, "why")
    assert "loads [it]" in ended.out
    assert "5 keys/s" in ended.out
    assert "restored in 2.5 s" in ended.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--wipe", "--merge"], "--merge keeps it"),
        (["--only", ""], "--only is empty"),
        (["--at", "yesterday"], "is not a moment"),
        (["--at", "0001-01-01T00:00:00+14:00"], "is not a moment"),
        (["--wipe"], "no terminal"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_done(
    run: Run, asked: list[RestoreOrder], options: list[str], words: str
) -> None:
    ended = run("restore", "b1", "--to", "redis", *options)
    assert ended.code == BadInput.exit_code
    assert words in ended.err
    assert asked == []


def test_a_dry_run_tells_and_does_nothing(run: Run, asked: list[RestoreOrder]) -> None:
    ended = run("restore", "b1", "--to", "redis", "--wipe", "--dry-run")
    assert "in the way: 2 keys" in ended.out
    assert "1. loads [it] (10 keys)" in ended.out
    document = json.loads(run("restore", "b1", "--to", "redis", "--dry-run", "-o", "json").out)
    assert document["in_the_way"] == ["2 keys"]
    assert document["stages"][0]["name"] == "load"
    assert asked == []


def test_a_dry_run_ends_as_the_restore_would(run: Run, asked: list[RestoreOrder]) -> None:
    command = ("restore", "b1", "--to", "redis", "--dry-run")
    ended = run(*command, "--only", "user 1:", "--at", "2026-01-31T13:00:00+01:00")
    assert ended.code == BadInput.exit_code
    assert "refused as it stands: say --wipe or --merge" in ended.out
    assert "restore of b1 to redis --only 'user 1:' --at 2026-01-31T12:00:00+00:00\n" in ended.out
    refused = run(*command, "-o", "json")
    assert refused.code == BadInput.exit_code
    assert "not empty" in json.loads(refused.out)["refused"]
    wiping = run(*command, "--wipe")
    assert wiping.code == 0
    assert "what is in the way is removed: --wipe" in wiping.out
    assert "refused" not in wiping.out
    merging = run(*command, "--merge", "-o", "json")
    assert merging.code == 0
    assert json.loads(merging.out)["refused"] is None


def test_a_dry_run_tells_of_a_restore_that_was_cut_off(
    run: Run, asked: list[RestoreOrder], fake: Lifecycle
) -> None:
    RestoreFile(fake.state.cluster_dir("redis")).write(HALF)
    ended = run("restore", "b1", "--to", "redis", "--dry-run")
    assert ended.code == Busy.exit_code
    assert "refused as it stands: a restore of b1 was cut off here; go on with it: --resume" in ended.out


@pytest.mark.parametrize("begun", [True, False])
def test_an_interrupted_restore_says_what_goes_on_with_it(
    run: Run, asked: list[RestoreOrder], fake: Lifecycle, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    def interrupted(*_: object) -> Restored:
        if begun:
            RestoreFile(fake.state.cluster_dir("redis")).write(HALF)
        stop = KeyboardInterrupt()
        stop.add_note("and something could not be given back")
        raise stop

    monkeypatch.setattr("haops.backup.restore.restore", interrupted)
    ended = run("restore", "b1", "--to", "redis")
    assert ended.code == EXIT_INTERRUPTED
    way = "go on with: haops restore b1 --to redis --resume --repo /r --only k"
    assert f"haops: interrupted; {way if begun else 'nothing is left half restored'}\n" in ended.err
    assert "could not be given back" in ended.err


def test_yes_wipes_without_a_question(run: Run, asked: list[RestoreOrder]) -> None:
    assert run("restore", "b1", "--to", "redis", "--wipe", "--yes", "-o", "name").out.strip() == "redis"
    assert asked[0].wipe


def test_the_json_tells_every_stage(run: Run, asked: list[RestoreOrder]) -> None:
    document = json.loads(run("restore", "b1", "--to", "redis", "--resume", "-o", "json").out)
    assert asked[0].resume
    assert document == {
        "version": 1,
        "backup": "b1",
        "cluster": "redis",
        "stages": [{"name": "load", "done": 10, "unit": "keys", "seconds": 2.0}],
        "healthy_seconds": 0.5,
        "seconds": 2.5,
    }


def test_an_unknown_cluster_or_node_is_told_at_once(run: Run, asked: list[RestoreOrder]) -> None:
    assert "there is no cluster 'other'" in run("restore", "b1", "--to", "other").err
    assert "has no node 'redis-9'" in run("recover", "redis", "redis-9", "--yes").err
    assert asked == []

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyrage
import pytest

from haops.backup.keys import NoKey
from haops.backup.manifest import Checked
from haops.backup.repository import open_repository
from haops.cli.backup import parse_share
from haops.cli.transfer import size_words, transfer_words
from haops.compare.proof import Proof
from haops.control.lifecycle import Lifecycle
from haops.errors import BadInput, EngineUnavailable, HaopsError, Interrupted

from ...backup_fakes import Died, FakeSource
from ...fakes import make_cluster
from .conftest import Ended, Run

Backup = Callable[..., Ended]


@pytest.fixture
def source(fake: Lifecycle, monkeypatch: pytest.MonkeyPatch) -> FakeSource:
    """A cluster `redis` with some bytes."""
    for module in ("backup", "proving"):
        monkeypatch.setattr(f"haops.cli.{module}.lifecycle", lambda: fake)
    monkeypatch.setenv("COLUMNS", "300")
    fake.state.save(make_cluster("redis", owner=fake.state.owner()))
    return FakeSource({"schema": b"create", "data": bytes(range(256)) * 400}).offered(monkeypatch)


@pytest.fixture
def backup(run: Run, source: FakeSource) -> Backup:
    """Runs `haops backup ...`."""
    return lambda *arguments: run("backup", *arguments)


def objects(fake: Lifecycle) -> list[Path]:
    return sorted(p for p in (fake.state.root / "backups" / "chunks").rglob("*") if p.is_file())


def test_a_backup_is_made_listed_shown_and_verified(backup: Backup) -> None:
    made = json.loads(backup("create", "redis", "-o", "json").out)["backup"]
    assert (made["store"], made["cluster"], made["state"]) == ("redis", "redis", "complete")
    (row,) = json.loads(backup("list", "-o", "json").out)["backups"]
    assert {k: row[k] for k in ("id", "bytes", "state", "encrypted", "parts", "position", "verified")} == {
        "id": made["id"], "bytes": 102406, "state": "complete", "encrypted": False, "parts": 2,
        "position": "position 7", "verified": None,
    }  # fmt: skip
    shown = json.loads(backup("show", "redis:latest", "-o", "json").out)["backup"]
    assert [part["name"] for part in shown["parts"]] == ["schema", "data"]
    assert shown["left_out"] == ["locks"]
    for depth in ([], ["--sample", "5%", "--seed", "3"], ["--full"]):
        ended = backup("verify", "latest", *depth, "-o", "json")
        document = json.loads(ended.out)
        assert (ended.code, document["ok"]) == (0, True)
    assert json.loads(backup("list", "-o", "json").out)["backups"][0]["verified"]["depth"] == "full"
    assert backup("list", "-o", "name").out.split() == [made["id"]]


def test_tables_say_it_in_words(backup: Backup) -> None:
    ended = backup("create", "redis")
    assert "2 parts, 100.0 KB" in ended.out
    assert "not in it: locks" in ended.err
    assert "complete" in backup("list").out
    assert "position 7" in backup("list", "-o", "wide").out
    assert "it is not encrypted" in backup("show", "latest").out
    assert "schema" in backup("show", "latest", "-o", "wide").out
    ended = backup("verify", "--sample", "50%", "--seed", "9")
    assert "sample" in ended.out
    assert "--seed 9" in ended.err


def test_damage_ends_with_1_and_names_part_and_chunk(backup: Backup, fake: Lifecycle) -> None:
    backup("create", "redis")
    for path in objects(fake):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert backup("verify").code == 0  # sizes are right
    ended = backup("verify", "--full")
    assert ended.code == 1
    assert "part schema: chunk " in ended.err
    assert "2 wrong" in ended.out
    objects(fake)[0].unlink()
    ended = backup("verify", "-o", "json")
    assert ended.code == 1
    (verified,) = json.loads(ended.out)["verified"]
    assert verified["findings"][0]["words"] == "is missing"
    assert backup("verify", "-o", "name").out.strip() == verified["backup"]


def test_an_incomplete_backup_is_listed_and_not_called_good(
    backup: Backup, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.fails = "data"
    with pytest.raises(Died):
        backup("create", "redis")
    (row,) = json.loads(backup("list", "-o", "json").out)["backups"]
    assert row["state"] == "incomplete"
    assert "go on with it: haops backup create redis" in row["note"]
    ended = backup("verify")
    assert (ended.code, "is left out" in ended.err) == (1, True)
    assert "there is no complete backup" in ended.err
    assert json.loads(backup("verify", "-o", "json").out)["ok"] is False
    assert backup("verify", row["id"]).code == 1
    source.fails = None
    ended = backup("create", "redis", "-o", "name")
    assert ended.out.strip() == row["id"]
    assert "going on with" in ended.err


def test_an_encrypted_backup_needs_its_key_to_be_read(backup: Backup, tmp_path: Path) -> None:
    key, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    for name, identity in (("key", key), ("other", other)):
        (tmp_path / name).write_text(f"{identity}\n")
        (tmp_path / name).chmod(0o600)
    assert backup("create", "redis", "--encrypt", str(key.to_public())).code == 0
    assert json.loads(backup("list", "-o", "json").out)["backups"][0]["encrypted"] is True
    ended = backup("verify", "--full")
    assert (ended.code, "only the stored bytes" in ended.err) == (0, True)
    assert json.loads(backup("verify", "--full", "--identity", f"{tmp_path}/key", "-o", "json").out)[
        "verified"
    ][0]["plain"]
    ended = backup("verify", "--full", "--identity", f"{tmp_path}/other")
    assert (ended.code, "none of the identities fits" in ended.err) == (2, True)


@pytest.mark.parametrize(
    "wrong",
    [
        ("show", "nope"),
        ("verify", "nope"),
        ("verify", "--sample", "0"),
        ("verify", "--sample", "5%", "--full"),
        ("create", "nobody"),
        ("create", "redis", "--rate", "fast"),
        ("create", "redis", "--node", "redis-9"),
        ("create", "redis", "--encrypt", "me"),
        ("create", "redis", "--repo", "ftp://host/x"),
        ("list", "--repo", "/nothing/here"),
        ("prune",),
        ("prune", "--keep-last", "1"),  # there is nobody to ask
    ],
)
def test_what_cannot_be_meant_ends_with_2(backup: Backup, wrong: tuple[str, ...]) -> None:
    assert backup("create", "redis").code == 0
    ended = backup(*wrong)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("haops: ")
    assert len(backup("list", "-o", "name").out.split()) == 1


def test_old_backups_are_removed_when_confirmed(backup: Backup) -> None:
    ids = [backup("create", "redis", "-o", "name").out.strip() for _ in range(3)]
    keep = ("prune", "--keep-last", "1")
    dry = json.loads(backup(*keep, "--dry-run", "-o", "json").out)
    assert (dry["dry_run"], sorted(dry["removed"])) == (True, ids[:2])
    assert backup("list", "-o", "name").out.split() == ids
    assert "would go" in backup(*keep, "--dry-run").out
    assert sorted(backup(*keep, "--yes", "-o", "name").out.split()) == ids[:2]
    assert backup("list", "-o", "name").out.split() == ids[2:]
    assert backup("verify", "--full").code == 0


def test_shares_sizes_and_speeds_in_words() -> None:
    assert (parse_share("5%"), parse_share("0.05"), parse_share("100%")) == (0.05, 0.05, 1.0)
    for wrong in ("", "0%", "101%", "two", "nan"):
        with pytest.raises(BadInput):
            parse_share(wrong)
    assert [size_words(n) for n in (0, 1023, 1024, 1536 * 1024)] == ["0 B", "1023 B", "1.0 KB", "1.5 MB"]
    assert transfer_words("x", 2**20, 3 * 2**20, 1.0) == "x: 1.0 MB of 3.0 MB, 1.0 MB/s, 2 s left"
    assert transfer_words("x", 2**20, None, 0.5) == "x: 1.0 MB, 2.0 MB/s"


def proved(backup: str, ok: bool | None) -> Proof:
    return Proof(backup, "proof-1", ok, 2.0, 1.0, 7, 0 if ok is not False else 3)


@pytest.fixture
def ids(backup: Backup, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return [backup("create", "redis", "-o", "name").out.strip() for _ in range(2)]


def offer(monkeypatch: pytest.MonkeyPatch, outcomes: dict[str, bool | BaseException | None]) -> None:
    """What restoring each backup comes to."""

    def prove(_: object, __: object, backup: str, *___: object) -> Proof:
        outcome = outcomes.get(backup, True)
        if isinstance(outcome, BaseException):
            raise outcome
        return proved(backup, outcome)

    monkeypatch.setattr("haops.compare.proof.prove", prove)


@pytest.mark.parametrize(
    ("outcome", "code", "ok", "noted", "says"),
    [
        (True, 0, True, ("restore", True), "restored and equal"),
        (False, 1, False, ("restore", False), "3 differences"),
        (None, 4, None, ("listing", True), "unknown"),
        (HaopsError("a stage failed"), 1, False, ("restore", False), "FAILED"),
        (EngineUnavailable("no engine"), 4, None, ("listing", True), "unknown"),
        (NoKey("it is encrypted"), 4, None, ("listing", True), "unknown"),
    ],
)
def test_what_restoring_one_backup_comes_to_is_kept_and_the_others_go_on(
    backup: Backup,
    ids: list[str],
    monkeypatch: pytest.MonkeyPatch,
    outcome: bool | BaseException | None,
    code: int,
    ok: bool | None,
    noted: tuple[str, bool],
    says: str,
) -> None:
    offer(monkeypatch, {ids[0]: outcome})
    ended = backup("verify", "--by-restore", "-o", "json")
    document = json.loads(ended.out)
    assert (ended.code, document["ok"]) == (code, ok)
    assert [p["ok"] for p in document["proofs"]] == [ok, True]
    rows = json.loads(backup("list", "-o", "json").out)["backups"]
    assert (rows[0]["verified"]["depth"], rows[0]["verified"]["ok"]) == noted
    assert (rows[1]["verified"]["depth"], rows[1]["verified"]["ok"]) == ("restore", True)
    ended = backup("verify", "--by-restore")
    assert f"{ids[0]}: {says}" in ended.out
    assert not isinstance(outcome, HaopsError) or outcome.message in ended.err


@pytest.mark.parametrize(("error", "code"), [(Interrupted("stop"), 130), (BadInput("no key"), 2)])
def test_what_is_no_failure_of_a_backup_ends_all_proofs(
    backup: Backup, ids: list[str], monkeypatch: pytest.MonkeyPatch, error: HaopsError, code: int
) -> None:
    offer(monkeypatch, {ids[0]: error})
    assert backup("verify", "--by-restore").code == code
    rows = json.loads(backup("list", "-o", "json").out)["backups"]
    assert {r["verified"]["depth"] for r in rows} == {"listing"}


def test_a_repository_that_cannot_be_written_takes_proofs_with_a_remark(
    backup: Backup, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from haops.backup.storage import LocalStorage, StorageTrouble

    def full(*_: object) -> None:
        raise StorageTrouble("cannot write")

    offer(monkeypatch, {})
    monkeypatch.setattr(LocalStorage, "put", full)
    ended = backup("verify", "--by-restore")
    assert (ended.code, ended.err.count("could not be kept")) == (0, 2)


def test_a_backup_that_is_being_restored_is_kept_in_the_table(
    backup: Backup, ids: list[str], fake: Lifecycle
) -> None:
    open_repository(str(fake.state.root / "backups")).lease(ids[0], "other")
    ended = backup("prune", "--keep-last", "1", "--yes")
    assert "being restored into other" in ended.out
    assert backup("list", "-o", "name").out.split() == ids


def test_show_and_prune_say_who_restores_a_backup_and_when_that_holds_no_longer(
    backup: Backup, ids: list[str], fake: Lifecycle
) -> None:
    root = fake.state.root / "backups"
    open_repository(str(root)).lease(ids[0], "other", "me@there")
    shown = backup("show", ids[0])
    assert "being restored into other by me@there since 20" in shown.out
    (held,) = json.loads(backup("show", ids[0], "-o", "json").out)["backup"]["restores"]
    assert (held["cluster"], held["holder"], held["holds"]) == ("other", "me@there", True)
    assert json.loads(backup("show", ids[1], "-o", "json").out)["backup"]["restores"] == []
    long_ago = time.time() - 8 * 86400
    os.utime(root / "backups" / ids[0] / "restoring-other.json", (long_ago, long_ago))
    assert "after 7 days it holds the backup no longer" in backup("show", ids[0]).out
    dry = json.loads(backup("prune", "--keep-last", "1", "--dry-run", "-o", "json").out)
    assert (dry["removed"], ["8 days ago" in r for r in dry["remarks"]]) == ([ids[0]], [True])
    ended = backup("prune", "--keep-last", "1", "--yes")
    assert (ended.code, "holds the backup no longer" in ended.err) == (0, True)
    assert backup("list", "-o", "name").out.split() == ids[1:]


def test_a_backup_whose_verification_failed_goes_when_asked_and_confirmed(
    backup: Backup, ids: list[str], fake: Lifecycle
) -> None:
    open_repository(str(fake.state.root / "backups")).note_checked(
        ids[1], Checked("full", datetime.now(UTC), ok=False)
    )
    assert "to remove it: --damaged" in backup("prune", "--keep-last", "1", "--dry-run").out
    assert backup("prune", "--damaged").code == 2  # there is nobody to ask
    dry = backup("prune", "--damaged", "--dry-run")
    assert ("would go" in dry.out, "(full, " in dry.err) == (True, True)
    assert backup("list", "-o", "name").out.split() == ids
    assert backup("prune", "--damaged", "--yes", "-o", "name").out.split() == ids[1:]
    assert backup("list", "-o", "name").out.split() == ids[:1]
    assert backup("verify", "--full").code == 0

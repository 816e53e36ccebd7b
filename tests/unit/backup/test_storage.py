"""Storages: what is there is whole, private, and listed; what fails says what to do."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from obstore.exceptions import GenericError, PermissionDeniedError
from obstore.store import LocalStore, MemoryStore

from haops.backup.objects import ObjectStorage, open_objects
from haops.backup.repository import open_storage
from haops.backup.storage import LocalStorage, ObjectMissing, Storage, StorageTrouble
from haops.errors import BadInput, EnvironmentTrouble

from .conftest import CHUNK, Shop


@pytest.fixture(params=["folder", "memory", "objects in a folder"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return LocalStorage(tmp_path / "deep" / "repository")
    if request.param == "memory":
        return ObjectStorage(MemoryStore(), "s3://bucket/prefix/")
    return ObjectStorage(LocalStore(tmp_path, mkdir=True), "file")


def test_what_is_put_is_found_listed_and_removed(storage: Storage) -> None:
    storage.put("a/b/one", b"1")
    storage.put("a/two", b"22")
    storage.put("b/three", b"")
    assert storage.get("a/two") == b"22"
    assert storage.size("b/three") == 0
    assert sorted((e.key, e.size) for e in storage.entries("a/")) == [("a/b/one", 1), ("a/two", 2)]
    assert {e.key for e in storage.entries("")} == {"a/b/one", "a/two", "b/three"}
    storage.put("a/two", b"333")
    assert storage.get("a/two") == b"333"
    storage.delete("a/two")
    storage.delete("a/two")
    assert storage.size("a/two") is None
    with pytest.raises(ObjectMissing):
        storage.get("a/two")
    assert list(storage.entries("nothing/")) == []


def test_what_is_there_is_not_replaced_when_it_must_be_new(storage: Storage) -> None:
    assert storage.put_new("a/b", b"1") is True
    assert storage.put_new("a/b", b"2") is False
    assert storage.get("a/b") == b"1"


def test_files_are_private_and_nothing_unfinished_stays(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        storage = LocalStorage(tmp_path / "repository")
        storage.put("a/b", b"1")
        storage.put_new("a/c", b"1")
        storage.put_new("a/c", b"1")
    finally:
        os.umask(old)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "repository").rglob("*")}
    assert modes == {"a": 0o700, "b": 0o600, "c": 0o600, "tmp": 0o700}
    assert stat.S_IMODE((tmp_path / "repository").stat().st_mode) == 0o700


@pytest.mark.parametrize("call", ["fsync", "replace", "write"])
def test_a_write_that_fails_leaves_the_old_bytes_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    storage = LocalStorage(tmp_path)
    storage.put("a/b", b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if call == "replace":
            patch.setattr(Path, "replace", full)
        else:
            patch.setattr(os, {"write": "fdopen", "fsync": "fsync"}[call], full)
        with pytest.raises(StorageTrouble, match="the same command goes on") as caught:
            storage.put("a/b", b"new")
    assert isinstance(caught.value, EnvironmentTrouble)
    assert storage.get("a/b") == b"old"
    assert {e.key for e in storage.entries("")} == {"a/b"}


def test_bytes_reach_the_disk_before_their_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = LocalStorage(tmp_path)
    storage.put("a/first", b"1")
    acts: list[str] = []
    sync, replace = os.fsync, Path.replace

    def synced(fd: int) -> None:
        acts.append("sync folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "sync file")
        sync(fd)

    def renamed(self: Path, to: Path) -> Path:
        acts.append("rename")
        return replace(self, to)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    storage.put("a/b", b"1")
    assert acts == ["sync file", "rename", "sync folder"]


def test_a_disk_without_hard_links_takes_new_objects_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    storage = LocalStorage(tmp_path)
    assert storage.put_new("a", b"1") is True
    assert storage.put_new("a", b"2") is False
    assert storage.get("a") == b"1"


@pytest.mark.parametrize("key", ["", "/etc/passwd", "a/../../b", "a//b", "./a", ".."])
def test_no_key_leads_out_of_the_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(BadInput):
        LocalStorage(tmp_path).get(key)


def test_a_folder_of_somebody_else_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(StorageTrouble, match="a folder of yours"):
        LocalStorage(tmp_path).put("a", b"1")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionDeniedError("403 Forbidden\n\nDebug source: much"), "credentials"),
        (GenericError("connection refused\n\nDebug source: much"), "AWS_ENDPOINT_URL"),
    ],
)
@pytest.mark.parametrize(
    "act",
    [
        lambda s: s.get("a"),
        lambda s: s.put("a", b""),
        lambda s: s.put_new("a", b""),
        lambda s: list(s.entries("a/")),
        lambda s: s.size("a"),
        lambda s: s.delete("a"),
    ],
)
def test_errors_of_an_object_store_say_where_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[Storage], object], error: Exception, words: str
) -> None:
    import obstore

    def fail(*_: object, **__: object) -> None:
        raise error

    for name in ("get", "put", "list", "head", "delete"):
        monkeypatch.setattr(obstore, name, fail)
    with pytest.raises(StorageTrouble) as caught:
        act(ObjectStorage(MemoryStore(), "s3://bucket"))
    assert words in str(caught.value)
    assert "s3://bucket/a" in str(caught.value)
    assert "Debug source" not in str(caught.value)


def test_a_server_without_conditions_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    import obstore
    from obstore.exceptions import NotSupportedError

    real = obstore.put

    def put(*args: object, **options: object) -> object:
        if options.get("mode") == "create":
            raise NotSupportedError("no conditional put")
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(obstore, "put", put)
    storage = ObjectStorage(MemoryStore(), "s3://bucket")
    assert storage.put_new("a", b"1") is True
    assert storage.put_new("a", b"2") is False
    assert storage.get("a") == b"1"


def test_urls_choose_the_storage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert isinstance(open_storage(str(tmp_path)), LocalStorage)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    assert open_storage("s3://bucket/prefix/").label == "s3://bucket/prefix"
    for wrong in ("ftp://host/x", "s3://", "s3:///"):
        with pytest.raises(BadInput, match="is no repository"):
            open_storage(wrong)


def test_without_the_extra_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(EnvironmentTrouble, match=r"pip install 'haops\[objects\]'"):
        open_objects("s3://bucket")


def test_a_backup_goes_into_an_object_store_and_comes_out_whole(shop: Shop) -> None:
    from haops.backup.archive import open_archive
    from haops.backup.repository import open_repository

    storage = ObjectStorage(MemoryStore(), "s3://bucket")
    made = shop.make(storage)
    archive = open_archive(open_repository(storage), made.id)
    assert {p.name: b"".join(archive.read(p.name)) for p in archive.parts} == shop.source.content
    assert shop.make(storage).new == 0


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_chunk_of_a_wrong_length_in_an_object_store_is_put_anew(shop: Shop, encrypted: bool) -> None:
    import pyrage

    from haops.backup.archive import open_archive
    from haops.backup.keys import Identities
    from haops.backup.repository import CHUNKS, open_repository

    key = pyrage.x25519.Identity.generate()
    recipients = [str(key.to_public())] if encrypted else []
    storage = ObjectStorage(MemoryStore(), "s3://bucket")
    first = shop.make(storage, recipients=recipients)
    for found in list(storage.entries(CHUNKS)):
        storage.put(found.key, storage.get(found.key)[: found.size // 3])
    shop.make(storage, recipients=recipients)
    archive = open_archive(open_repository(storage), first.id, Identities([key]))
    assert {p.name: b"".join(archive.read(p.name)) for p in archive.parts} == shop.source.content


@pytest.mark.parametrize("encrypted", [False, True])
def test_large_chunks_in_an_object_store_are_not_read_to_be_leant_on(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    import pyrage

    recipients = [str(pyrage.x25519.Identity.generate().to_public())] if encrypted else []
    storage = ObjectStorage(MemoryStore(), "s3://bucket")
    shop.make(storage, recipients=recipients)
    read: list[str] = []
    get = storage.get
    monkeypatch.setattr(storage, "get", lambda key: (read.append(key), get(key))[1])
    assert shop.make(storage, recipients=recipients).new == 0
    assert all((storage.size(key) or 0) < CHUNK / 2 for key in read if key.startswith("chunks/"))


def test_a_restore_from_a_storage_that_cannot_be_written_needs_no_lease(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from haops.backup.archive import open_archive
    from haops.backup.repository import open_repository

    def full(*_: object) -> None:
        raise StorageTrouble("cannot write")

    made = shop.make()
    archive = open_archive(open_repository(shop.storage), made.id)
    monkeypatch.setattr(shop.storage, "put", full)
    monkeypatch.setattr(shop.storage, "delete", full)
    archive.lease("other")
    archive.end_lease("other")

"""Backups in a real S3-compatible server."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from backup_fakes import Died, FakeSource
from fakes import FakeClock, FakeRuntime, make_cluster

from haops.backup import chunks
from haops.backup.archive import open_archive
from haops.backup.catalogue import entries, find
from haops.backup.create import BackupOrder, create
from haops.backup.keys import Identities
from haops.backup.manifest import Manifest
from haops.backup.objects import ObjectStorage, open_objects
from haops.backup.prune import PruneOrder, prune
from haops.backup.repository import CHUNKS, NoRepository, Repository, open_repository
from haops.backup.retention import Rules
from haops.backup.storage import ObjectMissing, StorageTrouble
from haops.backup.verify import Depth, Plan, verify
from haops.cluster.state import StateDir
from haops.control.lifecycle import Lifecycle
from haops.runtime.images import resolve
from haops.wait import wait_until

pytestmark = [pytest.mark.live, pytest.mark.timeout(90)]

BUCKET = "backups"
# A session that is killed cannot clean up: the container ends, and removes itself, by itself.
LIFE_S = 600
START_S = 60
CHUNK = 50_000
PAGE = 1000


@dataclass(frozen=True, slots=True)
class Server:
    """Where it is, and what it lets in."""

    endpoint: str
    key: str
    secret: str


def docker(*args: str, **env: str) -> str:
    done = subprocess.run(
        ["docker", *args],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"docker {args}: {done.stderr}"
    return done.stdout.strip()


def answers(endpoint: str) -> str:
    try:
        with urllib.request.urlopen(endpoint, timeout=2) as answer:
            return f"HTTP {answer.status}"
    except urllib.error.HTTPError as error:
        with error:
            return f"HTTP {error.code}"
    except OSError as error:
        return str(error)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """An object store of this module's own, on a free port of loopback, with drawn credentials."""
    name = f"haops-test-s3-{secrets.token_hex(4)}"
    key, secret = secrets.token_hex(8), secrets.token_hex(20)
    made = {"S3_ACCESS_KEY_ID": key, "S3_SECRET_ACCESS_KEY": secret, "S3_BUCKETS": BUCKET}
    names = [word for variable in made for word in ("--env", variable)]
    run = ["run", "--detach", "--rm", "--name", name, "--publish", "127.0.0.1::9000", *names]
    command = [resolve("s3", None), str(LIFE_S), "/docker-entrypoint.sh"]
    try:
        docker(*run, "--entrypoint", "timeout", *command, **made)
        endpoint = "http://" + docker("port", name, "9000/tcp").splitlines()[0]
        wait_until(
            lambda: answers(endpoint),
            lambda seen: seen == "HTTP 403",
            what="the object store",
            deadline_s=START_S,
        )
        yield Server(endpoint, key, secret)
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)


@pytest.fixture
def environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """What a user sets; a test may set something else."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    return monkeypatch


@pytest.fixture
def url(environment: pytest.MonkeyPatch) -> str:
    """A folder of the bucket that nobody else uses."""
    return f"s3://{BUCKET}/{secrets.token_hex(4)}/inner"


@pytest.fixture
def storage(url: str) -> ObjectStorage:
    return open_objects(url)


def test_an_object_is_written_read_replaced_measured_and_removed(storage: ObjectStorage) -> None:
    storage.put("a/one", b"first")
    assert storage.get("a/one") == b"first"
    storage.put("a/one", b"other")
    assert (storage.get("a/one"), storage.size("a/one")) == (b"other", 5)
    storage.put("a/empty", b"")
    assert (storage.get("a/empty"), storage.size("a/empty")) == (b"", 0)
    storage.delete("a/one")
    storage.delete("a/one")
    assert storage.size("a/one") is None
    with pytest.raises(ObjectMissing, match="a/one is missing"):
        storage.get("a/one")


def test_a_big_object_comes_back_whole(storage: ObjectStorage) -> None:
    content = secrets.token_bytes(12_000_000)
    storage.put("big", content)
    assert storage.size("big") == len(content)
    assert storage.get("big") == content


def test_a_key_that_is_taken_is_not_overwritten(storage: ObjectStorage) -> None:
    assert storage.put_new("claim", b"mine") is True
    assert storage.put_new("claim", b"yours") is False
    assert storage.get("claim") == b"mine"


def test_a_listing_goes_on_past_its_first_page(storage: ObjectStorage) -> None:
    sizes = {f"many/{n:04}": n % 7 for n in range(PAGE + 50)}
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda item: storage.put(item[0], bytes(item[1])), sizes.items()))
    storage.put("many-more/x", b"beside it")
    begun = datetime.now(UTC)
    found = list(storage.entries("many/"))
    assert {o.key: o.size for o in found} == sizes
    assert len(found) == len(sizes)
    assert all(abs(o.modified - begun) < timedelta(minutes=5) for o in found)
    assert {o.key for o in storage.entries("")} == {*sizes, "many-more/x"}
    assert list(storage.entries("none/")) == []


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_named_and_not_told(
    environment: pytest.MonkeyPatch, server: Server, url: str, variable: str
) -> None:
    environment.setenv(variable, "not-the-one")
    storage = open_objects(url)
    acts: Sequence[Callable[[], object]] = (
        lambda: storage.get("x"),
        lambda: storage.put("x", b"1"),
        lambda: storage.put_new("x", b"1"),
        lambda: storage.size("x"),
        lambda: storage.delete("x"),
        lambda: list(storage.entries("")),
    )
    for act in acts:
        with pytest.raises(StorageTrouble, match=r"may not \w+") as caught:
            act()
        assert "AWS_ACCESS_KEY_ID" in (caught.value.hint or "")
        assert server.secret not in str(caught.value)
        assert "not-the-one" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_no_missing_object(environment: pytest.MonkeyPatch) -> None:
    storage = open_objects("s3://no-such-bucket/folder")
    with pytest.raises(StorageTrouble, match="no-such-bucket"):
        storage.put("x", b"1")
    with pytest.raises(StorageTrouble, match="no-such-bucket"):
        open_repository("s3://no-such-bucket/folder")
    with pytest.raises(StorageTrouble, match="no-such-bucket"):
        list(storage.entries(""))


def test_plain_http_has_to_be_allowed(environment: pytest.MonkeyPatch, url: str) -> None:
    environment.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(StorageTrouble) as caught:
        open_objects(url).put("x", b"1")
    assert "AWS_ALLOW_HTTP" in (caught.value.hint or "")


def test_an_endpoint_that_is_not_there_is_said_soon(
    environment: pytest.MonkeyPatch, server: Server, url: str, closed_ports: Callable[[int], list[int]]
) -> None:
    (port,) = closed_ports(1)
    environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    begun = time.monotonic()
    with pytest.raises(StorageTrouble, match="cannot read") as caught:
        open_objects(url).get("x")
    assert time.monotonic() - begun < 35
    assert "AWS_ENDPOINT_URL" in (caught.value.hint or "")
    assert server.secret not in str(caught.value)


class Shop:
    """A made-up cluster that is backed up to the server."""

    def __init__(self, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.haops = Lifecycle(
            StateDir(folder), FakeRuntime(), lambda store, image: image or "image", FakeClock().clock
        )
        self.cluster = make_cluster("redis", owner=self.haops.state.owner())
        self.haops.state.save(self.cluster)
        self.url = url
        self._monkeypatch = monkeypatch

    @property
    def repository(self) -> Repository:
        return open_repository(self.url, make=True)

    def back_up(self, source: FakeSource) -> Manifest:
        source.offered(self._monkeypatch)
        return create(self.haops, self.cluster, self.repository, BackupOrder())

    def ok(self, backup: str, depth: Depth) -> bool:
        found = find(self.repository, backup)
        return verify(self.repository, found, Identities(), Plan(depth)).ok


@pytest.fixture
def shop(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setattr(chunks, "CHUNK_SIZE", CHUNK)
    return Shop(tmp_path / "state", url, monkeypatch)


def content() -> dict[str, bytes]:
    return {"small": b"few", "big": secrets.token_bytes(5 * CHUNK + 3), "empty": b""}


def test_where_no_backup_was_made_there_is_no_repository(url: str) -> None:
    with pytest.raises(NoRepository):
        open_repository(url)


def test_a_backup_comes_back_as_it_was(shop: Shop) -> None:
    before = content()
    made = shop.back_up(FakeSource(before))
    assert shop.ok(made.id, Depth.FULL)
    archive = open_archive(shop.repository, made.id)
    assert {p.name: b"".join(archive.read(p.name)) for p in archive.parts} == before


def test_a_lost_and_a_changed_object_are_found(shop: Shop, storage: ObjectStorage) -> None:
    made = shop.back_up(FakeSource(content()))
    first, second = [o.key for o in storage.entries(CHUNKS)][:2]
    kept, flipped = storage.get(first), bytearray(storage.get(second))
    storage.delete(first)
    assert not shop.ok(made.id, Depth.LISTING)
    assert not shop.ok(made.id, Depth.FULL)
    storage.put(first, kept)
    assert shop.ok(made.id, Depth.FULL)
    flipped[len(flipped) // 2] ^= 1
    storage.put(second, bytes(flipped))
    assert not shop.ok(made.id, Depth.FULL)


def test_a_backup_that_was_cut_off_is_gone_on_with(shop: Shop) -> None:
    whole = content()
    with pytest.raises(Died):
        shop.back_up(FakeSource(whole, stamps=dict.fromkeys(whole, "1"), fails="big"))
    again = FakeSource(whole, stamps=dict.fromkeys(whole, "1"))
    made = shop.back_up(again)
    assert "small" not in again.read_parts
    assert [e.id for e in entries(shop.repository)] == [made.id]
    assert shop.ok(made.id, Depth.FULL)


def test_pruning_removes_what_no_rule_keeps_and_nothing_else(shop: Shop, storage: ObjectStorage) -> None:
    old = content()
    first = shop.back_up(FakeSource(old))
    second = shop.back_up(FakeSource({**old, "big": secrets.token_bytes(5 * CHUNK)}))
    before = {o.key for o in storage.entries(CHUNKS)}
    later = datetime.now(UTC) + timedelta(minutes=1)
    pruned = prune(shop.repository, PruneOrder(Rules(last=1), grace=timedelta(), now=lambda: later))
    assert pruned.decision.forget == (first.id,)
    after = {o.key for o in storage.entries(CHUNKS)}
    assert len(before - after) == pruned.chunks > 0
    assert [e.id for e in entries(shop.repository)] == [second.id]
    assert shop.ok(second.id, Depth.FULL)

"""Chunks, keys and the limit on speed."""

from __future__ import annotations

from pathlib import Path

import pyrage
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from haops.backup import chunks
from haops.backup.archive import ArchiveReader, open_archive
from haops.backup.documents import Damaged
from haops.backup.keys import Identities, Lock, NoKey, read_identities, ring
from haops.backup.rate import Throttle, parse_rate
from haops.backup.repository import CHUNKS, open_repository
from haops.errors import BadInput

from ...fakes import FakeClock
from .conftest import CHUNK, Shop, noise

ME = pyrage.x25519.Identity.generate()
OTHER = pyrage.x25519.Identity.generate()


@given(st.lists(st.binary(max_size=40)), st.integers(1, 16))
def test_chunks_are_the_blocks_joined_and_all_but_the_last_are_full(blocks: list[bytes], size: int) -> None:
    cut = list(chunks.cut(blocks, size))
    assert b"".join(cut) == b"".join(blocks)
    assert all(len(c) == size for c in cut[:-1])
    assert all(0 < len(c) <= size for c in cut[-1:])


@given(st.one_of(st.binary(max_size=3000), st.integers(0, 5000).map(bytes)), st.booleans())
def test_a_chunk_comes_back_and_is_never_much_larger(plain: bytes, encrypted: bool) -> None:
    name = chunks.name_of(plain)
    stored = chunks.encode(name, plain, Lock([str(ME.to_public())]) if encrypted else None)
    assert chunks.decode(name, len(plain), stored, Identities([ME])) == plain
    assert len(stored) <= len(plain) + (1000 if encrypted else 41)
    if not encrypted and len(plain) > 200 and not any(plain):
        assert len(stored) < len(plain)


def test_a_frame_that_claims_more_than_it_may_is_not_unpacked() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(50_000_000))
    name = chunks.name_of(b"small")
    head = bytes([1])
    stored = b"HAOPSC1\n" + head + chunks._digest(name, head, bomb) + bomb
    with pytest.raises(Damaged, match="another size"):
        chunks.decode(name, 5, stored, Identities())


def test_who_has_a_key_reads_and_who_has_not_is_told_for_whom_it_is(shop: Shop) -> None:
    public = str(ME.to_public())
    made = shop.make(recipients=[public, public])
    assert made.recipients == (public,)
    repository = open_repository(shop.storage)
    assert all(
        part not in c for c, _ in shop.storage.objects.values() for part in [shop.source.content["schema"]]
    )
    archive = open_archive(repository, made.id, Identities([OTHER, ME]))
    assert {p.name: b"".join(archive.read(p.name)) for p in archive.parts} == shop.source.content
    for wrong in (Identities([OTHER]), Identities()):
        with pytest.raises(NoKey, match=f"encrypted for {public}") as caught:
            open_archive(repository, made.id, wrong)
        assert caught.value.exit_code == 2


def test_stored_bytes_are_verified_without_a_key_and_plain_ones_with_it(shop: Shop) -> None:
    made = shop.make(recipients=[str(ME.to_public())])
    blind, seeing = shop.verify(made.id), shop.verify(made.id, identities=Identities([ME]))
    assert (blind.ok, blind.plain, bool(blind.note)) == (True, False, True)
    assert (seeing.ok, seeing.plain, seeing.note) == (True, True, "")
    key = next(k for k in shop.storage.objects if k.startswith(CHUNKS))
    content = shop.storage.get(key)
    for at in (8, len(content) - 1):  # the flags, the payload
        shop.storage.put(key, content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert not shop.verify(made.id).ok
    shop.storage.put(key, content)
    with pytest.raises(NoKey):
        shop.verify(made.id, identities=Identities([OTHER]))


def test_an_encrypted_backup_leans_on_no_chunk_that_lies_in_the_clear(shop: Shop) -> None:
    plain = shop.make()
    mine = shop.make(recipients=[str(ME.to_public())])
    others = shop.make(recipients=[str(OTHER.to_public())])
    assert mine.new == mine.stored > 0
    assert others.new == others.stored > 0
    assert shop.make(recipients=[str(ME.to_public())]).new == 0
    assert ring(plain.recipients) == "" != ring(mine.recipients) != ring(others.recipients)


def test_a_part_is_read_from_any_offset(shop: Shop) -> None:
    archive = ArchiveReader(open_repository(shop.storage, make=True), shop.make())
    content = shop.source.content["data/big"]
    for start in (
        0,
        1,
        CHUNK - 1,
        CHUNK,
        CHUNK + 1,
        3 * CHUNK,
        len(content) - 1,
        len(content),
        len(content) + 9,
    ):
        assert b"".join(archive.read("data/big", start)) == content[start:]
    with pytest.raises(BadInput, match="has no part"):
        archive.read("nothing")


def test_a_reader_that_stops_early_leaves_nothing_running(shop: Shop) -> None:
    import threading

    archive = ArchiveReader(open_repository(shop.storage, make=True), shop.make())
    reading = archive.read("data/big")
    next(iter(reading))
    reading.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("archive")]


def test_identities_come_from_private_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key.txt"
    file.write_text(f"# created: today\n# public key: {ME.to_public()}\n{ME}\n")
    file.chmod(0o644)
    with pytest.raises(BadInput, match="chmod 600"):
        read_identities([file])
    file.chmod(0o600)
    secret = pyrage.encrypt(b"x", [ME.to_public()])
    assert read_identities([file]).decrypt(secret, ()) == b"x"
    assert not read_identities([])
    monkeypatch.setenv("HAOPS_AGE_IDENTITY", str(file))
    assert read_identities([]).decrypt(secret, ()) == b"x"
    with pytest.raises(BadInput, match="cannot be read"):
        read_identities([tmp_path / "none"])


@pytest.mark.parametrize("text", ["", "nothing here", "AGE-SECRET-KEY-1QQQ"])
def test_a_file_without_an_identity_is_refused_and_not_quoted(tmp_path: Path, text: str) -> None:
    file = tmp_path / "key.txt"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(BadInput) as caught:
        read_identities([file])
    assert "QQQ" not in str(caught.value)


@pytest.mark.parametrize(
    "form",
    ["{}", " {}", "# created: 2026-01-01\n# public key: age1x\n{}\n", "age1x {}"],
    ids=["bare", "blank", "file", "both"],
)
@pytest.mark.parametrize("lower", [False, True])
def test_a_secret_key_is_no_recipient_and_is_not_repeated(form: str, lower: bool) -> None:
    secret = str(ME).lower() if lower else str(ME)
    with pytest.raises(BadInput, match="secret key") as caught:
        Lock([form.format(secret)])
    assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "shown"), [("age1short", "'age1short'"), ("ssh-rsa x", "'ssh-rsa x'"), ("AGE-SECRT-KEY-1QQ", "")]
)
def test_what_is_no_recipient_is_repeated_only_where_it_is_public(word: str, shown: str) -> None:
    with pytest.raises(BadInput, match="is no recipient") as caught:
        Lock([word])
    assert (shown or "what is given") in str(caught.value)
    assert (word in str(caught.value)) is bool(shown)


@given(st.lists(st.integers(1, 5_000_000), min_size=1, max_size=50), st.integers(1000, 100_000_000))
def test_no_more_bytes_go_than_the_rate_allows(sizes: list[int], rate: int) -> None:
    clock = FakeClock()
    start, throttle = clock.now, Throttle(rate, clock.clock)
    for number, size in enumerate(sizes, start=1):
        throttle.take(size)
        earliest = sum(sizes[:number]) / rate
        assert earliest - 0.0201 <= clock.now - start <= earliest + 0.001


def test_without_a_rate_nobody_waits() -> None:
    clock = FakeClock()
    Throttle(None, clock.clock).take(10**12)
    assert clock.slept == []


def test_rates_are_read_as_people_write_them() -> None:
    assert [parse_rate(t) for t in ("50MB/s", "512 kb/s", "1.5MB/S", "1GB", "100")] == [
        50 * 1024**2, 512 * 1024, 3 * 512 * 1024, 1024**3, 100,
    ]  # fmt: skip
    for wrong in ("", "0", "fast", "-1MB/s", "5TB/s", "1MB/min", "nan", "inf"):
        with pytest.raises(BadInput):
            parse_rate(wrong)


def test_an_ssh_key_opens_what_was_made_for_it(shop: Shop, tmp_path: Path) -> None:
    import shutil
    import subprocess

    if shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen")
    file = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
    made = shop.make(recipients=[file.with_suffix(".pub").read_text().strip()])
    assert shop.verify(made.id, identities=read_identities([file])).plain


def test_noise_is_stored_as_it_is() -> None:
    plain = noise(100_000)
    assert len(chunks.encode(chunks.name_of(plain), plain, None)) == len(plain) + 41

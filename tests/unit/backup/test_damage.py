"""A flipped byte, a cut-off or a lost object: whatever it is, it is noticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from haops.backup.archive import ArchiveReader, open_archive
from haops.backup.catalogue import BackupState, complete, entries
from haops.backup.chunks import CHUNK_SIZE
from haops.backup.documents import Damaged, TooNew, dump, load
from haops.backup.manifest import Checked, Chunk
from haops.backup.repository import CHUNKS, open_repository
from haops.backup.verify import Depth
from haops.errors import HaopsError

from ...backup_fakes import NOW
from .conftest import Shop

Harm = Callable[[bytes, int], bytes | None]

# What makes a fixture's shop safe to share between examples: each works on a copy.
shared = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def flip(content: bytes, at: int) -> bytes:
    place, bit = (at // 8) % len(content), at % 8
    return content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]


def cut_off(content: bytes, at: int) -> bytes:
    return content[: at % len(content)]


def lose(content: bytes, at: int) -> None:
    return None


def noticed(shop: Shop, depth: Depth, backup: str) -> bool:
    """Whether `verify` finds something wrong, or says that it cannot even begin."""
    try:
        return not shop.verify(backup, depth).ok
    except HaopsError:
        return True


def harmed(shop: Shop, key: str, harm: Harm, at: int) -> Shop:
    twin = shop.twin()
    after = harm(twin.storage.objects[key][0], at)
    if after is None:
        twin.storage.delete(key)
    else:
        twin.storage.put(key, after)
    return twin


@pytest.mark.parametrize("harm", [flip, cut_off, lose])
@shared
@given(at=st.integers(0, 2**31), which=st.integers(0, 10**6))
def test_any_harm_to_any_object_is_noticed_when_all_is_read(
    shop: Shop, harm: Harm, at: int, which: int
) -> None:
    made = shop.make() if not shop.storage.objects else complete(open_repository(shop.storage), "latest")
    keys = sorted(shop.storage.objects)
    assert noticed(harmed(shop, keys[which % len(keys)], harm, at), Depth.FULL, made.id)


@pytest.mark.parametrize("harm", [flip, cut_off, lose])
def test_harm_to_each_object_is_noticed(shop: Shop, harm: Harm) -> None:
    made = shop.make()
    for key in list(shop.storage.objects):
        for at in (8 * 8, 8 * 60 + 3):
            twin = harmed(shop, key, harm, at)
            assert noticed(twin, Depth.FULL, made.id), (key, at)
            if key.startswith("backups/") or harm is not flip:
                assert noticed(twin, Depth.LISTING, made.id), (key, at)
    assert shop.verify(made.id).ok


@pytest.mark.parametrize("harm", [flip, cut_off, lose])
def test_a_reader_gets_no_harmed_byte(shop: Shop, harm: Harm) -> None:
    made = shop.make()
    for part in made.parts:
        for chunk in part.chunks:
            twin = harmed(shop, f"{CHUNKS}{chunk.id[:2]}/{chunk.id}", harm, 8 * 45)
            archive = ArchiveReader(open_repository(twin.storage), made)
            got = bytearray()
            with pytest.raises(Damaged) as caught:
                for block in archive.read(part.name):
                    got += block
            assert shop.source.content[part.name].startswith(got)
            assert made.id in str(caught.value)
            assert part.name in str(caught.value)
            assert chunk.id[:16] in str(caught.value)


def test_a_chunk_under_the_name_of_another_is_noticed(shop: Shop) -> None:
    made = shop.make()
    one, other = [k for k in shop.storage.objects if k.startswith(CHUNKS)][:2]
    shop.storage.put(one, shop.storage.get(other))
    assert not shop.verify(made.id).ok


def test_a_chunk_of_a_part_in_another_order_is_noticed(shop: Shop) -> None:
    from dataclasses import replace

    made = shop.make()
    parts = [replace(p, chunks=tuple(reversed(p.chunks))) if p.name == "data/big" else p for p in made.parts]
    open_repository(shop.storage).finish(replace(made, parts=tuple(parts)))
    found = shop.verify(made.id)
    assert [f.part for f in found.findings] == ["data/big"]
    assert "do not make up the part" in found.findings[0].words


def test_a_lost_manifest_is_damage_and_not_a_backup_less(shop: Shop) -> None:
    made = shop.make()
    shop.storage.delete(f"backups/{made.id}/manifest.json")
    (entry,) = entries(open_repository(shop.storage))
    assert (entry.state, entry.note) == (BackupState.DAMAGED, f"the manifest of {made.id} is missing")
    with pytest.raises(Damaged):
        complete(open_repository(shop.storage), made.id)


def test_a_newer_format_is_left_alone(shop: Shop) -> None:
    made = shop.make()
    key = f"backups/{made.id}/manifest.json"
    raw = shop.storage.get(key).replace(b'"format":1', b'"format":2')
    shop.storage.put(key, raw)
    before = dict(shop.storage.objects)
    with pytest.raises(TooNew, match="made by a newer haops"):
        shop.verify(made.id)
    with pytest.raises(TooNew):
        complete(open_repository(shop.storage), made.id)
    assert entries(open_repository(shop.storage))[0].newer
    assert shop.storage.objects == before
    shop.storage.put("haops-repo.json", shop.storage.get("haops-repo.json").replace(b":1", b":9"))
    with pytest.raises(TooNew):
        open_repository(shop.storage)


def test_a_sample_reads_its_share_and_tells_its_seed(shop: Shop) -> None:
    made = shop.make()
    chunks = len({chunk.id for chunk in made.chunks()})
    found = shop.verify(made.id, Depth.SAMPLE)
    assert (found.ok, found.seed, found.chunks) == (True, 1, chunks)
    assert found.read == round(chunks / 2)
    assert shop.verify(made.id, Depth.LISTING).read == 0


def test_the_last_verification_is_kept(shop: Shop) -> None:
    made = shop.make()
    shop.verify(made.id, Depth.FULL)
    (entry,) = entries(open_repository(shop.storage))
    assert entry.checked is not None
    assert (entry.checked.depth, entry.checked.ok) == ("full", True)


def test_a_lost_record_of_the_repository_is_told_and_written_anew(shop: Shop) -> None:
    made = shop.make()
    shop.storage.delete("haops-repo.json")
    with pytest.raises(Damaged, match="though there are backups"):
        open_repository(shop.storage)
    shop.make()
    assert shop.verify(made.id).ok


def test_a_document_says_the_same_after_reading(shop: Shop) -> None:
    made = shop.make()
    assert open_repository(shop.storage).manifest(made.id) == made
    assert dump(made) == shop.storage.get(f"backups/{made.id}/manifest.json")


def test_a_document_that_says_the_same_in_other_bytes_is_noticed(shop: Shop) -> None:
    made = shop.make()
    key = f"backups/{made.id}/manifest.json"
    shop.storage.put(key, shop.storage.get(key) + b"\n")
    with pytest.raises(Damaged):
        open_repository(shop.storage).manifest(made.id)


@pytest.mark.parametrize("harm", [cut_off, lose])
def test_a_backup_that_is_not_all_there_is_not_opened(shop: Shop, harm: Harm) -> None:
    made = shop.make()
    assert open_archive(open_repository(shop.storage), made.id).id == made.id
    for key in list(shop.storage.objects):
        if key == f"backups/{made.id}/manifest.json" or key == "haops-repo.json":
            continue
        with pytest.raises(Damaged, match=r"not whole|missing|damaged"):
            open_archive(open_repository(harmed(shop, key, harm, 60).storage), made.id)


def test_a_manifest_that_is_not_the_sealed_one_is_not_opened(shop: Shop) -> None:
    from dataclasses import replace

    made = shop.make()
    shop.storage.put(f"backups/{made.id}/manifest.json", dump(replace(made, parts=made.parts[1:])))
    with pytest.raises(Damaged, match="not the one that was sealed"):
        open_archive(open_repository(shop.storage), made.id)


def test_a_whole_chunk_of_another_length_is_no_damage(shop: Shop) -> None:
    from haops.backup import chunks

    made = shop.make()
    plain = shop.source.content["zeros"][: made.parts[3].chunks[0].size]
    name = chunks.name_of(plain)
    head = bytes([0])
    stored = b"HAOPSC1\n" + head + chunks._digest(name, head, plain) + plain
    shop.storage.put(f"{CHUNKS}{name[:2]}/{name}", stored)
    archive = open_archive(open_repository(shop.storage), made.id)
    assert b"".join(archive.read("zeros")) == shop.source.content["zeros"]
    assert all(shop.verify(made.id, depth).ok for depth in Depth)


@pytest.mark.parametrize(
    ("failed", "then", "stands"),
    [
        ("full", "listing", True),
        ("full", "sample", True),
        ("sample", "listing", True),
        ("restore", "sample", True),
        ("restore", "full", True),
        ("restore", "restore", False),
        ("full", "full without a key", True),
        ("full without a key", "full", False),
        ("full without a key", "full without a key", False),
        ("sample", "sample", True),
        ("sample", "full without a key", False),
        ("listing", "sample", False),
        ("full", "restore", False),
        ("listing", "listing", False),
        ("listing", "full", False),
    ],
)
def test_looking_at_less_does_not_wash_a_failure_off(
    shop: Shop, failed: str, then: str, stands: bool
) -> None:
    made = shop.make()
    repository = open_repository(shop.storage)
    bad, good = verification(failed, ok=False), verification(then, ok=True)
    repository.note_checked(made.id, bad)
    assert repository.note_checked(made.id, good) == (bad if stands else None)
    assert repository.checked(made.id) == (bad if stands else good)


def verification(words: str, *, ok: bool) -> Checked:
    depth, _, rest = words.partition(" ")
    return Checked(depth, NOW, ok=ok, plain=not rest)


@pytest.mark.parametrize("failed", ["sample", "full without a key", "full", "restore"])
def test_a_failure_of_less_does_not_take_the_place_of_one_that_needs_more_to_end(
    shop: Shop, failed: str
) -> None:
    made = shop.make()
    repository = open_repository(shop.storage)
    bad = verification(failed, ok=False)
    repository.note_checked(made.id, bad)
    repository.note_checked(made.id, verification("listing", ok=False))
    repository.note_checked(made.id, verification("listing", ok=True))
    assert repository.checked(made.id) == bad


@pytest.mark.parametrize("failed", ["listing", "sample", "full without a key", "full", "restore"])
def test_what_a_failure_says_would_end_it_does(shop: Shop, failed: str) -> None:
    made = shop.make()
    repository = open_repository(shop.storage)
    bad = verification(failed, ok=False)
    repository.note_checked(made.id, bad)
    then = {"": "listing", "--full": "full", "--by-restore": "restore"}[bad.remedy]
    assert repository.note_checked(made.id, verification(then, ok=True)) is None


def test_a_verification_says_that_a_deeper_failure_stands(shop: Shop) -> None:
    made = shop.make()
    open_repository(shop.storage).note_checked(made.id, Checked("restore", NOW, ok=False))
    for depth in Depth:
        assert shop.verify(made.id, depth).note.endswith("failed and still stands: see verify --by-restore")
    open_repository(shop.storage).note_checked(made.id, Checked("restore", NOW, ok=True))
    assert shop.verify(made.id, Depth.FULL).note == ""


@pytest.mark.parametrize(("size", "stored"), [(CHUNK_SIZE + 1, 1), (1, 3 * CHUNK_SIZE), (-1, 1), (1, -1)])
def test_a_chunk_of_a_size_that_is_never_made_is_damage(size: int, stored: int) -> None:
    load(Chunk, dump(Chunk("0" * 64, CHUNK_SIZE, CHUNK_SIZE + 200)), "a chunk")
    with pytest.raises(Damaged, match="a chunk is damaged"):
        load(Chunk, dump(Chunk("0" * 64, size, stored)), "a chunk")

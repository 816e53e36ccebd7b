"""Files in and out of containers, by the engine's tar interface."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from haops.errors import EnvironmentTrouble
from haops.runtime import archive
from haops.runtime.port import FileFact, FileToWrite


@dataclass
class Ran:
    output: bytes
    exit_code: int = 0


@dataclass
class Handle:
    """A container that keeps what is put into it, and hands tars out in odd pieces."""

    tar: bytes = b""
    listed: bytes = b""
    piece: int = 700
    accepts: bool = True
    folders: list[str] = field(default_factory=list)

    def exec_run(self, argv: list[str]) -> Ran:
        return Ran(self.listed)

    def get_archive(self, path: str, chunk_size: int) -> tuple[Iterator[bytes], dict[str, object]]:
        pieces = (self.tar[at : at + self.piece] for at in range(0, len(self.tar), self.piece))
        return pieces, {}

    def put_archive(self, folder: str, data: Iterable[bytes]) -> bool:
        self.folders.append(folder)
        self.tar = b"".join(data)
        return self.accepts


def packed(name: str, content: bytes, form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@given(content=st.binary(max_size=5000), piece=st.integers(1, 3000))
def test_a_file_comes_out_as_it_is_however_the_engine_cuts_it(content: bytes, piece: int) -> None:
    handle = Handle(packed("dump.rdb", content), piece=piece)
    assert b"".join(archive.read(handle, "/data/dump.rdb")) == content


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_headers_of_long_names_are_passed_over(form: int) -> None:
    handle = Handle(packed("x" * 300, b"content", form))
    assert b"".join(archive.read(handle, "/data/" + "x" * 300)) == b"content"


@pytest.mark.parametrize("kept", [0, 100, 512, 600])
def test_a_copy_that_breaks_off_is_never_taken_for_the_file(kept: int) -> None:
    handle = Handle(packed("f", b"c" * 1000)[:kept])
    with pytest.raises(EnvironmentTrouble, match="broke off"):
        list(archive.read(handle, "/data/f"))


@given(
    files=st.dictionaries(
        st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,3}", fullmatch=True), st.binary(max_size=2000), max_size=6
    )
)
def test_what_is_written_can_be_unpacked_with_its_owner_and_its_folders(files: dict[str, bytes]) -> None:
    names = list(files)
    if any(a != b and b.startswith(a + "/") for a in names for b in names):
        return  # a file cannot be a folder too
    handle = Handle()
    wanted = [FileToWrite(n, len(c), [c[:7], c[7:]]) for n, c in files.items()]
    archive.write(handle, "/var/lib", wanted, uid=999)
    assert handle.folders == ["/var/lib"]
    with tarfile.open(fileobj=io.BytesIO(handle.tar)) as tar:
        members = tar.getmembers()
        found = {m.name: tar.extractfile(m).read() for m in members if m.isfile()}  # type: ignore[union-attr]
    assert found == files
    assert {(m.uid, m.gid) for m in members} <= {(999, 999)}
    order = [m.name for m in members]
    for name in files:
        for depth in range(1, name.count("/") + 1):
            assert order.index("/".join(name.split("/")[:depth])) < order.index(name)


@pytest.mark.parametrize("content", [[b"short"], [b"much too", b" long"]])
def test_a_file_of_another_size_than_announced_ends_the_writing(content: list[bytes]) -> None:
    with pytest.raises(EnvironmentTrouble, match="bytes, not the 6"):
        archive.write(Handle(), "/data", [FileToWrite("f", 6, content)], uid=1)


def test_an_engine_that_does_not_take_it_is_told() -> None:
    with pytest.raises(EnvironmentTrouble, match="could not write to /data"):
        archive.write(Handle(accepts=False), "/data", [], uid=1)


def test_a_listing_knows_path_size_and_time_whatever_the_names() -> None:
    lines = [b"5 1700000000.1234567890 b/with space", b"0 1700000001.0000000000 a\nline", b"broken", b""]
    listed = b"\0".join(lines) + b"all-listed"
    assert archive.listing(Handle(listed=listed), "/data") == (
        FileFact("a\nline", 0, 1_700_000_001_000_000_000),
        FileFact("b/with space", 5, 1_700_000_000_123_456_789),
    )


@pytest.mark.parametrize("listed", [b"", b"5 1700000000.0 a\0", b"sh: find: not found\n"])
def test_a_listing_that_was_cut_off_is_not_taken_for_a_shorter_one(listed: bytes) -> None:
    with pytest.raises(EnvironmentTrouble, match="could not be listed"):
        archive.listing(Handle(listed=listed), "/data")


def test_an_engine_that_goes_away_in_the_middle_of_a_file_is_told_as_such() -> None:
    def broken(path: str, chunk_size: int) -> tuple[Iterator[bytes], dict[str, object]]:
        def pieces() -> Iterator[bytes]:
            yield packed("f", b"c" * 1000)[:700]
            raise requests.exceptions.ChunkedEncodingError("cut")

        return pieces(), {}

    handle = Handle()
    handle.get_archive = broken  # type: ignore[method-assign]
    with pytest.raises(EnvironmentTrouble, match="broke off"):
        list(archive.read(handle, "/data/f"))


@pytest.mark.parametrize(
    ("networks", "address"),
    [
        ([], None),
        ([{"IPAM": None}], None),
        ([{"IPAM": {"Config": [{"Gateway": "127.0.0.1", "Subnet": "10.0.0.0/8"}]}}], "127.0.0.1"),
        ([{"IPAM": {"Config": [{"Subnet": "127.0.0.0/24"}]}}], "127.0.0.1"),
        ([{"IPAM": {"Config": [{"Gateway": "203.0.113.7"}]}}], None),
    ],
    ids=["none", "no config", "gateway", "first address", "of another machine"],
)
def test_the_doorstep_is_a_gateway_of_this_machine(
    networks: list[dict[str, object]], address: str | None
) -> None:
    assert archive.own_gateway(networks) == address

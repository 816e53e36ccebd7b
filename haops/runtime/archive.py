"""Files in and out of containers, as streams, through the engine's tar interface."""

from __future__ import annotations

import ipaddress
import socket
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from haops.errors import EnvironmentTrouble
from haops.runtime import inside
from haops.runtime.port import FileFact, FileToWrite

_BLOCK: Final = 512
_END: Final = "all-listed"
_LIST: Final = f"""
cd "$1" 2>/dev/null && find . -type f -printf '%s %T@ %P\\0'
printf {_END}
"""
_PIECE: Final = 1024 * 1024
_FILE_TYPES: Final = (tarfile.REGTYPE, tarfile.AREGTYPE)


def listing(handle: Any, folder: str) -> tuple[FileFact, ...]:
    """Every file below a folder; one that goes away meanwhile is not in it."""
    said = inside.run(handle, ["sh", "-c", _LIST, "_", folder])[1].decode(errors="replace")
    if not said.endswith(_END):  # a list that was cut off would be taken for a shorter one
        raise EnvironmentTrouble(f"the files in {folder} could not be listed", detail=said[-200:] or None)
    return tuple(sorted(_facts(said.removesuffix(_END)), key=lambda fact: fact.path))


def _facts(said: str) -> Iterator[FileFact]:
    for line in said.split("\0"):
        size, _, rest = line.partition(" ")
        moment, _, path = rest.partition(" ")
        seconds, _, fraction = moment.partition(".")
        if size.isdigit() and seconds.isdigit() and path:
            yield FileFact(path, int(size), int(seconds) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9]))


def read(handle: Any, path: str) -> Iterator[bytes]:
    """One file's bytes; the request ends when the reader does."""
    stream, _ = handle.get_archive(path, chunk_size=_PIECE)
    return _translated(_content(iter(stream), path), path)


def _translated(blocks: Iterator[bytes], path: str) -> Iterator[bytes]:
    """The engine may end its answer at any moment."""
    import requests

    try:
        yield from blocks
    except (requests.RequestException, tarfile.TarError) as error:
        raise EnvironmentTrouble(f"the engine's copy of {path} broke off", detail=str(error)) from error


def _content(stream: Iterator[bytes], path: str) -> Iterator[bytes]:
    """The bytes of a tar's first regular file."""
    held = bytearray()

    def pull() -> None:
        piece = next(stream, None)
        if piece is None:
            raise EnvironmentTrouble(f"the engine's copy of {path} broke off")
        held.extend(piece)

    def take(size: int) -> bytes:
        while len(held) < size:
            pull()
        taken = bytes(held[:size])
        del held[:size]
        return taken

    while True:
        info = tarfile.TarInfo.frombuf(take(_BLOCK), "utf-8", "surrogateescape")
        if info.type in _FILE_TYPES:
            break
        take(-(-info.size // _BLOCK) * _BLOCK)  # a header of long names or of extended attributes
    left = info.size
    while left:
        if not held:
            pull()
        taken = take(min(left, len(held)))
        left -= len(taken)
        yield taken


def write(handle: Any, folder: str, files: Iterable[FileToWrite], uid: int) -> None:
    """Files as one tar, which the engine unpacks as it comes."""
    if not handle.put_archive(folder, _packed(files, uid)):
        raise EnvironmentTrouble(f"the engine could not write to {folder}")


def _packed(files: Iterable[FileToWrite], uid: int) -> Iterator[bytes]:
    made: set[str] = set()
    for file in files:
        yield from _folders(file.path, made, uid)
        info = _header(file.path, uid)
        info.size, info.mode = file.size, 0o640
        yield info.tobuf(tarfile.PAX_FORMAT)
        written = 0
        for piece in file.content:
            written += len(piece)
            yield piece
        if written != file.size:
            raise EnvironmentTrouble(f"{file.path} has {written} bytes, not the {file.size} it should have")
        if rest := -file.size % _BLOCK:
            yield bytes(rest)
    yield bytes(2 * _BLOCK)


def _folders(path: str, made: set[str], uid: int) -> Iterator[bytes]:
    steps = path.split("/")[:-1]
    for depth in range(1, len(steps) + 1):
        folder = "/".join(steps[:depth])
        if folder not in made:
            made.add(folder)
            info = _header(folder, uid)
            info.type, info.mode = tarfile.DIRTYPE, 0o750
            yield info.tobuf(tarfile.PAX_FORMAT)


def _header(path: str, uid: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.uid = info.gid = uid
    info.mtime = int(time.time())
    return info


def own_gateway(networks: Sequence[Mapping[str, Any]]) -> str | None:
    """The first gateway that this machine can listen at: with a remote engine there is none."""
    for network in networks:
        for config in (network.get("IPAM") or {}).get("Config") or ():
            if (address := _gateway(config)) and _is_here(address):
                return address
    return None


def _gateway(config: Mapping[str, Any]) -> str | None:
    """As the engine tells it, or the subnet's first address, which is the engine's own choice."""
    if gateway := config.get("Gateway"):
        return str(gateway)
    subnet = config.get("Subnet")
    return str(ipaddress.ip_network(subnet)[1]) if subnet else None


def _is_here(address: str) -> bool:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True

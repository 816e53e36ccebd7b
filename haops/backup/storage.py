"""Where a repository's objects lie: a handful of verbs, and a folder of this machine that answers them.

A key is a path of ASCII words with `/` between them. Whatever the storage, an object is there
whole or not at all: a crash leaves nothing half-written under its key.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from haops.cluster.state import sync_directory
from haops.errors import BadInput, EnvironmentTrouble, HaopsError

# What a writer was killed over lies here, and nobody reads it; `prune` removes it.
UNFINISHED: Final = "tmp/"

_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700
_NO_HARD_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)


class StorageTrouble(EnvironmentTrouble):
    """A repository's storage is full, may not be used or does not answer."""


class ObjectMissing(HaopsError):
    """There is no object of this key."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object.

    Args:
        size: Bytes.
        modified: UTC, by the storage's clock.
    """

    key: str
    size: int
    modified: datetime


class Storage(Protocol):
    """Objects by key; every method may raise StorageTrouble, and may be called from several threads."""

    @property
    def label(self) -> str:
        """Where it is, for people."""
        ...

    @property
    def near(self) -> bool:
        """Whether reading an object costs no more than writing it, as on a disk of this machine."""
        ...

    def get(self, key: str) -> bytes:
        """An object's bytes. Raises ObjectMissing."""
        ...

    def put(self, key: str, content: bytes) -> None:
        """Write an object, or replace it; returns when it would survive a crash of the machine."""
        ...

    def put_new(self, key: str, content: bytes) -> bool:
        """Write an object unless there is one; whether it was written."""
        ...

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        """Every object below a folder `prefix/`, one after the other."""
        ...

    def size(self, key: str) -> int | None:
        """An object's bytes; None where there is none."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; a missing one is fine. It may be back after a crash of the machine, until `settle`."""
        ...

    def settle(self, prefix: str) -> None:
        """Return when what was removed right in a folder `prefix/` would stay so through a crash of the machine."""
        ...


class LocalStorage:
    """A folder. Files are 0600 and folders 0700: a backup is as secret as what it was made from."""

    near = True

    def __init__(self, root: Path) -> None:
        self._root = root.expanduser().absolute()

    @property
    def label(self) -> str:
        """The folder."""
        return str(self._root)

    def get(self, key: str) -> bytes:
        """A file's bytes."""
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectMissing(f"{self.label}/{key} is missing") from None
        except OSError as error:
            raise trouble(f"read {self.label}/{key}", error) from error

    def put(self, key: str, content: bytes) -> None:
        """Write beside, sync, rename, sync the folder."""

        def replace(temp: Path, path: Path) -> bool:
            temp.replace(path)
            return True

        self._write(key, content, replace)

    def put_new(self, key: str, content: bytes) -> bool:
        """As `put`, but by a hard link, which fails where the name is taken."""
        return self._write(key, content, _link)

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        """Walk the folder; what goes away meanwhile is passed over."""
        try:
            yield from self._walk(self._path(prefix.rstrip("/")) if prefix else self._root)
        except OSError as error:
            raise trouble(f"list {self.label}/{prefix}", error) from error

    def size(self, key: str) -> int | None:
        """A file's size."""
        try:
            return self._path(key).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise trouble(f"look at {self.label}/{key}", error) from error

    def delete(self, key: str) -> None:
        """Remove a file, and its folder if that is empty then."""
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise trouble(f"remove {self.label}/{key}", error) from error
        with contextlib.suppress(OSError):
            for folder in path.relative_to(self._root).parents[:-1]:
                (self._root / folder).rmdir()

    def settle(self, prefix: str) -> None:
        """Sync the folder, if it is still there."""
        try:
            sync_directory(self._path(prefix.rstrip("/")))
        except FileNotFoundError:
            return
        except OSError as error:
            raise trouble(f"sync {self.label}/{prefix}", error) from error

    def _path(self, key: str) -> Path:
        if not key or any(word in ("", ".", "..") for word in key.split("/")):
            raise BadInput(f"{key!r} cannot be the key of an object")
        return self._root / key

    def _walk(self, folder: Path) -> Iterator[StoredObject]:
        try:
            found = sorted(os.scandir(folder), key=lambda e: e.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(Path(entry.path))
                continue
            with contextlib.suppress(FileNotFoundError):
                facts = entry.stat()
                key = Path(entry.path).relative_to(self._root).as_posix()
                yield StoredObject(key, facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC))

    def _write(self, key: str, content: bytes, publish: Callable[[Path, Path], bool]) -> bool:
        path = self._path(key)
        temp = self._root / UNFINISHED / uuid.uuid4().hex
        try:
            try:
                self._fill(temp, content)
                return self._publish(temp, path, publish)
            finally:
                temp.unlink(missing_ok=True)
        except OSError as error:
            raise trouble(f"write {path}", error) from error

    def _fill(self, temp: Path, content: bytes) -> None:
        _make_folder(temp.parent)
        fd = os.open(temp, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _FILE_MODE)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def _publish(self, temp: Path, path: Path, publish: Callable[[Path, Path], bool]) -> bool:
        _make_folder(path.parent)
        try:
            written = publish(temp, path)
        except FileNotFoundError:  # another process removed the folder, which was empty
            _make_folder(path.parent)
            written = publish(temp, path)
        sync_directory(path.parent)
        return written


def _link(temp: Path, path: Path) -> bool:
    try:
        path.hardlink_to(temp)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if path.exists():
            return False
        temp.replace(path)
    return True


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each private and each surviving a crash."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=_FOLDER_MODE)
        sync_directory(folder.parent)


def trouble(doing: str, error: OSError) -> StorageTrouble:
    """An error of the file system, with the mend."""
    hints = {
        errno.ENOSPC: "free some space there; what is written is kept, and the same command goes on with it",
        errno.EDQUOT: "free some space there; what is written is kept, and the same command goes on with it",
        errno.EROFS: "choose a folder that can be written: --repo",
        errno.EACCES: "choose a folder of yours: --repo",
    }
    return StorageTrouble(
        f"cannot {doing}", detail=error.strerror or str(error), hint=hints.get(error.errno or 0)
    )

"""Stand-ins for backups: a store whose parts are made up, storages in memory that fill up or die."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from haops.backup.storage import ObjectMissing, Storage, StoredObject
from haops.cluster.spec import Cluster
from haops.stores.backup import Backing, BackupTools, BackupWish, Facts, Form, Part

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
# As many bytes a block as a socket gives; no divisor of a chunk.
BLOCK = 60_000


class MemoryStorage:
    """Objects in a dictionary; `clock` dates them."""

    label = "memory"
    near = True

    def __init__(self, clock: Callable[[], datetime] = lambda: NOW) -> None:
        self.objects: dict[str, tuple[bytes, datetime]] = {}
        self.clock = clock
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes:
        try:
            return self.objects[key][0]
        except KeyError:
            raise ObjectMissing(f"{key} is missing") from None

    def put(self, key: str, content: bytes) -> None:
        self.objects[key] = (bytes(content), self.clock())

    def put_new(self, key: str, content: bytes) -> bool:
        with self._lock:
            if key in self.objects:
                return False
            self.objects[key] = (bytes(content), self.clock())
        return True

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        for key, (content, at) in sorted(self.objects.items()):
            if key.startswith(prefix):
                yield StoredObject(key, len(content), at)

    def size(self, key: str) -> int | None:
        return len(self.objects[key][0]) if key in self.objects else None

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def settle(self, prefix: str) -> None:
        pass


class Died(BaseException):
    """The process was killed; not even `except Exception` sees it."""


class MortalStorage:
    """Another storage, until its `last` operation; none comes after. `after` does that one, too."""

    near = True

    def __init__(self, inner: Storage, last: int, *, after: bool = False) -> None:
        self._inner = inner
        self._left = last
        self._after = after
        self._lock = threading.Lock()
        self.label = inner.label

    def _live(self, act: Callable[[], object]) -> None:
        """Whether there is life in it; dies of the last operation, before or after it."""
        with self._lock:
            self._left -= 1
            if self._left <= 0:
                if self._left == 0 and self._after:
                    act()
                raise Died

    def get(self, key: str) -> bytes:
        self._live(lambda: None)
        return self._inner.get(key)

    def put(self, key: str, content: bytes) -> None:
        self._live(lambda: self._inner.put(key, content))
        self._inner.put(key, content)

    def put_new(self, key: str, content: bytes) -> bool:
        self._live(lambda: self._inner.put_new(key, content))
        return self._inner.put_new(key, content)

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        self._live(lambda: None)
        return self._inner.entries(prefix)

    def size(self, key: str) -> int | None:
        self._live(lambda: None)
        return self._inner.size(key)

    def delete(self, key: str) -> None:
        self._live(lambda: self._inner.delete(key))
        self._inner.delete(key)

    def settle(self, prefix: str) -> None:
        self._live(lambda: None)


@dataclass
class FakeSource:
    """Parts with made-up bytes; notes what was read and released.

    Args:
        stamps: The parts that have one.
        announced: Sizes that are told and not true.
        fails: The part in whose middle the server dies.
    """

    content: Mapping[str, bytes] = field(default_factory=dict)
    stamps: Mapping[str, str] = field(default_factory=dict)
    announced: Mapping[str, int] = field(default_factory=dict)
    fails: str | None = None
    latest: datetime = NOW
    read_parts: list[str] = field(default_factory=list)
    wishes: list[BackupWish] = field(default_factory=list)
    released: int = 0
    block: int = BLOCK

    def parts(self) -> Sequence[Part]:
        return [
            Part(
                name,
                "node-1",
                Form.PHYSICAL,
                self.announced.get(name, len(content)) if name in self.stamps or self.announced else None,
                self.stamps.get(name, ""),
            )
            for name, content in self.content.items()
        ]

    def read(self, part: Part) -> Iterator[bytes]:
        self.read_parts.append(part.name)
        content = self.content[part.name]
        for at in range(0, len(content), self.block):
            if self.fails == part.name and at >= len(content) // 2:
                raise Died
            yield content[at : at + self.block]

    def facts(self) -> Facts:
        return Facts("8.0.2", "position 7", self.latest, left_out=("locks",), details={"a": "b"})

    def release(self) -> None:
        self.released += 1

    @property
    def backing(self) -> Backing:
        """A store that opens this source."""

        @contextmanager
        def source(cluster: Cluster, tools: BackupTools, wish: BackupWish) -> Iterator[FakeSource]:
            self.wishes.append(wish)
            yield self

        def refuse(*_: object) -> object:
            raise AssertionError("not for this test")

        return Backing(source, refuse, refuse)  # type: ignore[arg-type]

    def offered(self, monkeypatch: pytest.MonkeyPatch) -> FakeSource:
        """Every store is this one, from now on."""
        monkeypatch.setattr("haops.backup.create.load_backing", lambda store: self.backing)
        return self

    def changed(self, **content: bytes) -> FakeSource:
        """The same with other bytes in some parts."""
        return replace(self, content={**self.content, **content}, read_parts=[])

"""Backup of a Redis set: a dump taken as a replica takes it, and the append-only file for points in time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from haops.cluster.spec import Cluster, Node
from haops.stores.backup import Backing, BackupFailed, BackupTools, BackupWish, Facts, Form, Part
from haops.stores.redis.aof import UNTIL
from haops.stores.redis.borrow import Borrowed, give_back, giving_back
from haops.stores.redis.dump import DUMP, take
from haops.stores.redis.log import KeptLog
from haops.stores.redis.rdb import HEAD_BYTES, VERSION, notes_of
from haops.stores.redis.restore import restorer
from haops.stores.redis.who import Choice, to_read
from haops.stores.redis.wire import Wire

# A server may first finish another child's work, and it sends empty lines while it does.
_SILENT_S: Final = 120.0


class RedisSource:
    """One backup. The dump is read from one server; so is the log, and from the same one."""

    def __init__(self, cluster: Cluster, tools: BackupTools, wish: BackupWish) -> None:
        self._cluster = cluster
        self._runtime = tools.runtime
        self._wish = wish
        self._choice: Choice = to_read(cluster, wish.node, BackupFailed)
        self._borrowed = Borrowed(cluster, tools.runtime, tools.loans, BackupFailed)
        self._notes: Mapping[str, str] | None = None
        self._begun = 0.0
        self._log: KeptLog | None = None

    @property
    def node(self) -> Node:
        """The server that is read."""
        return self._choice.node

    def begin(self) -> None:
        """Borrow what is needed, and keep the log's files. Raises BadInput where the log has no time stamps."""
        if self._wish.pitr:
            self._log = KeptLog(self._cluster, self._runtime, self.node, self._wish.id)
            self._log.keep(self._borrowed)

    def parts(self) -> Sequence[Part]:
        """The dump; and the log's manifest, base and increments, where points in time are wanted."""
        found = [Part(DUMP, self.node.name, Form.PHYSICAL)]
        return [*found, *(self._log.parts() if self._log else ())]

    def read(self, part: Part) -> Iterator[bytes]:
        """A part's bytes. Raises BackupFailed."""
        if part.name == DUMP:
            return self._read_dump()
        if self._log is None:
            raise BackupFailed(f"there is no part {part.name}", node=self.node.name)
        return self._log.read(part)

    def _read_dump(self) -> Iterator[bytes]:
        # The default waits 5 s for further replicas; the wait of whoever takes this dump, only.
        self._borrowed.config(self.node, "repl-diskless-sync-delay", "0")
        # A repository may take nothing for longer than the 10 s after which the server would hang up.
        self._borrowed.config(self.node, "repl-timeout", f"{_SILENT_S:.0f}")
        wire = Wire(self.node, _SILENT_S, BackupFailed)
        start = bytearray()
        try:
            for block in take(wire):
                if not start:
                    self._begun = time.time()
                if len(start) < HEAD_BYTES:
                    start += block[:HEAD_BYTES]
                yield block
        finally:
            wire.close()
        self._notes = notes_of(bytes(start))

    def facts(self) -> Facts:
        """What the dump says of itself. Raises BackupFailed where it was not read to its end."""
        if self._notes is None:
            raise BackupFailed("the dump was not read to its end", node=self.node.name)
        notes = self._notes
        if "ctime" not in notes:
            raise BackupFailed("the dump does not say when it was made", node=self.node.name)
        written = float(notes["ctime"]) + 1  # whole seconds: it may be any moment of that one
        details = {VERSION: notes[VERSION]}
        if self._log:
            details[UNTIL] = self._log.latest.isoformat()
        return Facts(
            version=notes.get("redis-ver", ""),
            position=f"{notes.get('repl-id', 'unknown')}:{notes.get('repl-offset', 'unknown')}",
            latest=datetime.fromtimestamp(min(written, self._begun), UTC),
            lag=f"{self.node.name} was {self._choice.behind:,} B behind" if self._choice.behind else "",
            earliest=self._log.earliest if self._log else None,
            details=details,
        )

    def release(self) -> None:
        """The kept files of the log go when the context is left; a server keeps nothing else."""

    def end(self) -> None:
        """Give everything back."""
        self._borrowed.end()


@contextmanager
def source(cluster: Cluster, tools: BackupTools, wish: BackupWish) -> Iterator[RedisSource]:
    """A backup of a set."""
    opened = RedisSource(cluster, tools, wish)
    with giving_back(opened.end):
        opened.begin()
        yield opened


BACKING = Backing(source=source, restorer=restorer, give_back=give_back)

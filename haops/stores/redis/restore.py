"""Restore of a Redis set: as a whole by standing in as its primary's primary, or key by key."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from haops.cluster.loans import Loan
from haops.cluster.spec import Cluster, Node
from haops.stores.backup import (
    Advance,
    Archive,
    BackupFailed,
    BackupTools,
    NotRestorable,
    RestoreFailed,
    Restorer,
    RestoreWish,
    Stage,
)
from haops.stores.redis.aof import LOG, MANIFEST, UNTIL, Manifest, Replay, read_manifest
from haops.stores.redis.borrow import UPSTREAM, Borrowed, give_back, giving_back
from haops.stores.redis.dump import DUMP
from haops.stores.redis.keyspace import any_key, databases, remove
from haops.stores.redis.keywise import put
from haops.stores.redis.marks import Marks, keys_done
from haops.stores.redis.rdb import NEWEST, VERSION, Entry, Rdb
from haops.stores.redis.standin import StandIn
from haops.stores.redis.who import primary
from haops.stores.redis.wire import Wire, info
from haops.wait import wait_until

FILL: Final = "fill"
KEYS: Final = "keys"
SETTLE: Final = "settle"
_ANSWER_S: Final = 60.0
_LOAD_S: Final = 3600.0
_SETTLE_S: Final = 1800.0
# With the 10 s of a set's own file it would leave haops where a repository stalls for a moment.
_REPL_TIMEOUT_S: Final = 120
# A Sentinel takes a primary that says it is a replica for dead after `down-after` and two of its INFO
# periods of 10 s (sentinel.c); an hour of loading is not a reason to fail over.
_PATIENCE_MS: Final = 3_600_000
_AS_A_WHOLE: Final = "leave --at out: its dump can be restored without the log"
# The newest RDB version that a server of a release reads (rdb.h of each). Older releases are not run here.
_READS: Final = ((8, 0, 12), (7, 4, 12), (7, 2, 11), (7, 0, 10), (6, 0, 9), (5, 0, 9))


def newest_readable(version: str) -> int:
    """The RDB version up to which a server reads; one of a release that is not known yet reads all we know."""
    major, minor = (int(part) for part in version.split(".")[:2])
    for known_major, known_minor, reads in _READS:
        if (major, minor) == (known_major, known_minor):
            return reads
    if (major, minor) > (8, 0):
        return NEWEST + 1
    return next((reads for a, b, reads in _READS if (major, minor) > (a, b)), 8)


class RedisRestorer:
    """One restore into the server that the Sentinels name as the primary; replicas follow by themselves."""

    def __init__(self, cluster: Cluster, tools: BackupTools, archive: Archive, wish: RestoreWish) -> None:
        self._cluster = cluster
        self._runtime = tools.runtime
        self._archive = archive
        self._wish = wish
        if wish.only == "":
            raise NotRestorable("the prefix is empty", hint="leave --only out to restore everything")
        self._only = (wish.only or "").encode()
        self._sizes = {part.name: part.size or 0 for part in archive.parts}
        self._log = self._check_moment()
        self._node = primary(cluster, RestoreFailed)
        self._check_version()
        self._doorstep = None if self._only or wish.merge else tools.runtime.doorstep(cluster)
        self._check_way()
        self._borrowed = Borrowed(cluster, tools.runtime, tools.loans, RestoreFailed)
        self._changed = False

    def unchanged(self) -> bool:
        """Whether no key was removed or written by this restore, nor the last byte of a dump sent."""
        return not self._changed

    def _check_moment(self) -> Manifest | None:
        if DUMP not in self._sizes:
            raise NotRestorable(f"the backup {self._archive.id} has no dump of Redis")
        at = self._wish.at
        if at is None:
            return None
        facts = self._archive.facts
        if facts.earliest is None or UNTIL not in facts.details:
            raise NotRestorable(
                "this backup has one point in time only", hint="back up with --pitr to choose later"
            )
        latest = datetime.fromisoformat(facts.details[UNTIL])
        if not facts.earliest <= at <= latest:
            raise NotRestorable(
                f"{_utc(at)} is not in this backup",
                hint=f"allowed: {_utc(facts.earliest)} to {_utc(latest)}, by the second",
            )
        return self._read_log()

    def _read_log(self) -> Manifest:
        """The log's parts; all of them are needed, whatever the moment."""
        self._check_log([MANIFEST])
        try:
            log = read_manifest(b"".join(self._archive.read(LOG + MANIFEST)).decode(errors="replace"))
        except BackupFailed as error:
            raise NotRestorable(error.message, detail=error.detail, hint=_AS_A_WHOLE) from error
        self._check_log([log.base, *log.added])
        return log

    def _check_log(self, files: Sequence[str]) -> None:
        if missing := [name for name in files if LOG + name not in self._sizes]:
            raise NotRestorable(
                f"the backup {self._archive.id} lacks files of its log: {', '.join(missing)}",
                hint=_AS_A_WHOLE,
            )

    def _check_version(self) -> None:
        wire = Wire(self._node, _ANSWER_S, RestoreFailed)
        try:
            told_of_it = info(wire, "server")
            server, self._run_id = told_of_it["redis_version"], told_of_it["run_id"]
        finally:
            wire.close()
        told = self._archive.facts.details.get(VERSION, "")
        written = int(told) if told.isdigit() else 0
        if written > newest_readable(server):
            raise NotRestorable(
                f"the backup is of RDB version {written} (Redis {self._archive.facts.version}),"
                f" and {self._cluster.name} runs Redis {server}, which reads up to {newest_readable(server)}",
                hint="restore to a cluster of the same release or a newer one",
            )
        self._whole_only = written > NEWEST

    def _check_way(self) -> None:
        if self._doorstep is not None:
            return
        if self._log is not None:
            raise NotRestorable(
                "a point in time can be restored only as a whole, with an engine on this machine",
                hint="restore it as a whole to a throw-away cluster, back that up, and take the keys from there",
            )
        if self._whole_only:
            raise NotRestorable(
                "this haops cannot take single keys out of so new an RDB", hint="update haops"
            )

    def in_the_way(self) -> tuple[str, ...]:
        """Keys and function libraries that a restore would mix with."""
        if self._wish.merge:
            return ()
        with self._wire() as wire:
            if self._only:
                found = [db for db in databases(wire) if any_key(wire, db, self._only)]
                return tuple(f"keys that begin with {self._wish.only} in database {db}" for db in found)
            there = [f"{count:,} keys in database {db}" for db, count in databases(wire).items()]
            libraries = len(wire.ask("FUNCTION", "LIST"))
            return (*there, *([f"{libraries} function libraries"] if libraries else []))

    def wipe(self) -> None:
        """Everything, or the keys with the prefix.

        Nothing before a whole load: the server keeps what it has until it has all of the dump, and
        the load itself replaces every key and function. So one that breaks off costs no data.

        Raises:
            NotRestorable: The backup has no key with the prefix; nothing is removed.
        """
        if self._wish.merge or self._doorstep is not None:
            return
        if self._only and not self._has_key():
            raise self._no_key()
        with self._writable() as wire:
            self._changed = True
            if self._only:
                for db in databases(wire):
                    remove(wire, db, self._only)
            else:
                wire.ask("FLUSHALL", "ASYNC")
                wire.ask("FUNCTION", "FLUSH")

    def _has_key(self) -> bool:
        """Whether the dump has a key with the prefix; reads as far as the first."""
        items = Rdb(self._archive.read(DUMP), self._only).items()
        return any(isinstance(item, Entry) for item in items)

    def _no_key(self) -> NotRestorable:
        kind = "no glob: * stands for itself" if b"*" in self._only else "taken as it is written"
        return NotRestorable(f"no key begins with {self._wish.only!r}", hint=f"--only is a prefix, {kind}")

    @contextmanager
    def _wire(self) -> Iterator[Wire]:
        wire = Wire(self._node, _ANSWER_S, RestoreFailed)
        try:
            yield wire
        finally:
            wire.close()

    @contextmanager
    def _writable(self) -> Iterator[Wire]:
        """A restore that was killed has left a primary that follows nobody there is."""
        give_back(self._cluster, self._runtime, Loan(self._node.name, UPSTREAM, ""))
        with self._wire() as wire:
            yield wire

    def stages(self) -> Sequence[Stage]:
        """One that brings the data, and one until disk and replicas have it.

        The second is the server's of now: resumed with another one, or after a restart that
        may have lost the data, it is not known any more, and all begins with the first again.
        """
        into = f"{self._cluster.name}/{self._node.name}"
        if self._log is not None:
            size = sum(self._sizes[LOG + f] for f in (self._log.base, *self._log.added))
            first = Stage(FILL, f"{into} loads the log up to {_utc(self._wish.at)}", size, "bytes")
        elif self._doorstep is not None:
            first = Stage(FILL, f"{into} loads the dump", self._sizes[DUMP], "bytes")
        else:
            what = f"keys that begin with {self._wish.only}" if self._only else "the dump, key by key,"
            first = Stage(KEYS, f"{what} into {into}", self._sizes[DUMP], "bytes")
        copies = len(self._cluster.servers)
        return (
            first,
            Stage(f"{SETTLE}:{self._run_id}", "disk and replicas have all of it", copies, "copies"),
        )

    def perform(self, stage: Stage, mark: str) -> Iterator[Advance]:
        """Do a stage. Raises RestoreFailed."""
        acts: Mapping[str, Callable[[str], Iterator[Advance]]] = {
            FILL: self._fill,
            KEYS: self._keys,
            SETTLE: self._settle,
        }
        return acts[stage.name.partition(":")[0]](mark)

    def _fill(self, _mark: str) -> Iterator[Advance]:
        """From the beginning each time: a server loads all or nothing."""
        assert self._doorstep is not None
        self._borrowed.patience(_PATIENCE_MS)
        # Off, the server keeps what it has until the whole dump has come, and needs no second memory for it.
        self._borrowed.config(self._node, "repl-diskless-load", "disabled")
        self._borrowed.config(self._node, "repl-timeout", str(_REPL_TIMEOUT_S))
        standin = StandIn(self._doorstep, self._node.address)
        upstream = self._borrowed.note(self._node, UPSTREAM, "nobody")
        try:
            with self._wire() as wire:
                wire.ask("REPLICAOF", self._doorstep, standin.port)
                standin.accept()
                yield from self._feed(standin, wire)
                _await_loaded(wire, standin, self._node)
                self._borrowed.back(upstream)
            yield Advance(self.stages()[0].total)
        finally:
            standin.close()

    def _feed(self, standin: StandIn, wire: Wire) -> Iterator[Advance]:
        base = DUMP if self._log is None else LOG + self._log.base
        for sent in standin.snapshot(self._sizes[base], self._noted(base)):
            yield Advance(sent)
        if self._log is None:
            return
        assert self._wish.at is not None
        # It takes nothing while it loads the base, which may be longer than a stand-in waits for a stalled one.
        _await_loaded(wire, standin, self._node)
        replay = Replay(int(self._wish.at.timestamp()))
        done = self._sizes[base]
        for name in self._log.added:
            before = replay.consumed
            for piece in replay.commands(self._archive.read(LOG + name)):
                standin.commands(piece)
                yield Advance(done + replay.consumed - before)
            done += self._sizes[LOG + name]
            if replay.over:
                break

    def _noted(self, base: str) -> Iterator[bytes]:
        """A dump's blocks; with its last byte the server lets go of what it has."""
        left = self._sizes[base]
        for block in self._archive.read(base):
            left -= len(block)
            self._changed = self._changed or left <= 0
            yield block

    def _keys(self, mark: str) -> Iterator[Advance]:
        """Raises NotRestorable at the end where not one key had the prefix; then nothing was written."""
        changed, self._changed = self._changed, True
        skip, found = keys_done(mark, self._run_id), 0
        with self._writable() as wire, self._wire() as asked:
            marks = Marks(asked, self._run_id)
            rdb = Rdb(self._archive.read(DUMP), self._only)
            for passed in put(rdb, wire, skip, libraries=not self._only):
                found = passed.keys
                yield Advance(passed.size, marks.after(found))
        if self._only and not found:
            self._changed = changed
            raise self._no_key()

    def _settle(self, _mark: str) -> Iterator[Advance]:
        """Its own log is rewritten after a full load; until then a crash would bring the old data back."""
        with self._wire() as wire:
            self._check_same(wire)
            wait_until(
                lambda: info(wire, "persistence"),
                on_disk,
                what=f"{self._node.name} to have it on disk",
                deadline_s=_SETTLE_S,
                describe=lambda p: f"aof_rewrite_in_progress:{p['aof_rewrite_in_progress']}",
            )
            yield Advance(1)
            wanted = len(self._cluster.servers) - 1
            goal = int(info(wire, "replication")["master_repl_offset"])
            wait_until(
                lambda: info(wire, "replication"),
                lambda r: caught_up(r, goal) >= wanted,
                what="the replicas to follow",
                deadline_s=_SETTLE_S,
                describe=lambda r: f"{caught_up(r, goal)} of {wanted} have acknowledged it",
            )
            self._check_same(wire)
        self._agree()
        yield Advance(1 + wanted)

    def _check_same(self, wire: Wire) -> None:
        if info(wire, "server")["run_id"] != self._run_id:
            raise RestoreFailed(
                "it was restarted meanwhile, and may have lost what was restored",
                node=self._node.name,
                hint="go on with --resume: it begins anew",
            )

    def _agree(self) -> None:
        now = primary(self._cluster, RestoreFailed)
        if now.name != self._node.name:
            raise RestoreFailed(
                f"the Sentinels have made {now.name} the primary meanwhile",
                node=self._node.name,
                hint="restore again: it goes to the new one",
            )

    def end(self) -> None:
        """Give everything back."""
        self._borrowed.end()


def on_disk(persistence: Mapping[str, str]) -> bool:
    """Whether the append-only file is whole, or there is none."""
    if persistence["aof_enabled"] == "0":
        return True
    busy = persistence["aof_rewrite_in_progress"] != "0" or persistence["aof_rewrite_scheduled"] != "0"
    return not busy and persistence["aof_last_bgrewrite_status"] == "ok"


def caught_up(replication: Mapping[str, str], goal: int) -> int:
    """Replicas that have acknowledged `goal`; one is called online before it has loaded its copy."""
    found = 0
    for name, text in replication.items():
        if name.startswith("slave") and "state=online" in text:
            facts = dict(part.split("=", 1) for part in text.split(","))
            found += int(facts.get("offset", "0")) >= max(goal, 1)
    return found


def _await_loaded(wire: Wire, standin: StandIn, node: Node) -> None:
    """Until it has loaded the dump and carried out what came after it. Raises RestoreFailed."""
    end = time.monotonic() + _LOAD_S
    while True:
        seen = info(wire, "replication")
        if seen["role"] != "slave":
            raise RestoreFailed("somebody made it a primary while it loaded", node=node.name)
        if seen["master_link_status"] == "up":
            if int(seen["slave_repl_offset"]) >= standin.streamed:
                return
        elif standin.lost():
            raise RestoreFailed("it refused the dump", node=node.name, hint="see: haops logs")
        if time.monotonic() > end:
            raise RestoreFailed(f"it has not loaded the dump after {_LOAD_S:g} s", node=node.name)
        time.sleep(0.01)


def _utc(moment: datetime | None) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds") if moment else ""


@contextmanager
def restorer(cluster: Cluster, tools: BackupTools, archive: Archive, wish: RestoreWish) -> Iterator[Restorer]:
    """A restore into a set."""
    opened = RedisRestorer(cluster, tools, archive, wish)
    with giving_back(opened.end):
        yield opened

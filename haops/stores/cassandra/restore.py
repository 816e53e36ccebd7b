"""Restoring a ring: the schema, then each node's files imported where their rows belong, or rows written anew."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from cassandra import ConsistencyLevel

from haops.cluster.loans import Loan
from haops.cluster.spec import Cluster
from haops.errors import HaopsError
from haops.runtime.port import FileToWrite
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
from haops.stores.base import first_line
from haops.stores.cassandra import schema
from haops.stores.cassandra.connect import TROUBLE, connect
from haops.stores.cassandra.course import Course, chart, check_wish, stages_of
from haops.stores.cassandra.loader import Loader, Write, as_it_was
from haops.stores.cassandra.nodetool import Nodetool
from haops.stores.cassandra.placement import members
from haops.stores.cassandra.ring import answers
from haops.stores.cassandra.rows import Page, Walker, quoted
from haops.stores.cassandra.schema import Entry, parse_only
from haops.stores.cassandra.sstables import ROWS, STAGED, Stored, staging
from haops.stores.cassandra.stream import PageStream
from haops.stores.cassandra.watched import Counter, watched

_REQUEST_S: Final = 60.0
_UID: Final = 999
_VERSION: Final = "SELECT release_version FROM system.local"


@contextmanager
def restorer(cluster: Cluster, tools: BackupTools, archive: Archive, wish: RestoreWish) -> Iterator[Restorer]:
    """A restore into a ring whose nodes are all up.

    Raises:
        NotRestorable: The backup, the wish or the target do not allow it; nothing was touched.
        RestoreFailed: A node is down, or the ring broke off.
    """
    check_wish(wish)
    down = [n.name for n in cluster.servers if not answers(n)]
    if down:
        raise RestoreFailed(
            f"{', '.join(down)} does not answer: every node gets its part of a restore",
            hint=f"bring it back first: haops heal {cluster.name}",
        )
    # At ALL: a row that a single copy has would not be seen otherwise, and be removed with its table.
    ring = connect(cluster.servers, timeout_s=_REQUEST_S, level=ConsistencyLevel.ALL)
    with _in_our_words(), ring as session:
        release = session.execute(_VERSION).one().release_version
        theirs = schema.describe(session, sorted(schema.keyspaces(session)))
        course = chart(archive, parse_only(wish.only), wish, members(cluster), release, theirs)
        made = CassandraRestorer(cluster, tools, archive, session, course, merge=wish.merge)
        with _and_then(made.tidy), _in_our_words():
            yield made


@contextmanager
def _and_then(tidy: Callable[[], None]) -> Iterator[None]:
    """Tidy up at the end; what goes wrong with that is a note on the error that came first, if one did."""
    try:
        yield
    except BaseException as error:
        try:
            tidy()
        except Exception as trouble:
            error.add_note(f"and its folders could not be removed: {trouble}")
        raise
    tidy()


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except TROUBLE as error:
        raise RestoreFailed("the ring broke off the restore", detail=first_line(error)) from error
    except BackupFailed as error:
        raise RestoreFailed(error.message, node=error.node, detail=error.detail) from error


@dataclass(frozen=True, slots=True)
class _Table:
    """One table's files on their way to one node, by the folders they are staged in."""

    node: str
    keyspace: str
    table: str
    folders: Mapping[str, tuple[Stored, ...]]

    @property
    def size(self) -> int:
        return sum(f.size for files in self.folders.values() for f in files)


class CassandraRestorer:
    """One restore in progress."""

    def __init__(
        self,
        cluster: Cluster,
        tools: BackupTools,
        archive: Archive,
        session: Any,
        course: Course,
        *,
        merge: bool = False,
    ) -> None:
        self._cluster = cluster
        self._tools = tools
        self._archive = archive
        self._session = session
        self._course = course
        self._tool = Nodetool(cluster, tools.runtime)
        self._merge = merge
        self._folder = staging(archive.id)
        self._emptied: set[tuple[str, str]] = set()
        self._staged: set[str] = set()

    def tidy(self) -> None:
        """Remove the folders that this restore staged, and give them back; another's are not touched."""
        for loan in self._tools.loans.open():
            if loan.setting == STAGED and loan.was == self._folder and loan.node in self._staged:
                self._run(loan.node, ["rm", "-rf", self._folder])
                self._tools.loans.strike(loan)

    def in_the_way(self) -> tuple[str, ...]:
        """Tables with rows, and tables that are something else than in the backup."""
        theirs = schema.describe(self._session, sorted(schema.keyspaces(self._session)))
        found = [f"{e.keyspace}.{e.bare} is defined otherwise" for e in self._other_tables(theirs)]
        found += [f"{'.'.join(name)} has rows" for name in self._there(theirs) if self._has_rows(name)]
        return tuple(found)

    def _other_tables(self, theirs: Sequence[Entry]) -> tuple[Entry, ...]:
        return tuple(e for e in schema.differs(self._course.entries, theirs) if e.kind == "table")

    def _there(self, theirs: Sequence[Entry]) -> tuple[tuple[str, str], ...]:
        wanted = {(e.keyspace, e.bare) for e in self._course.entries if e.kind == "table"}
        return tuple(
            sorted(
                (e.keyspace, e.bare) for e in theirs if e.kind == "table" and (e.keyspace, e.bare) in wanted
            )
        )

    def _has_rows(self, name: tuple[str, str]) -> bool:
        return self._session.execute(f"SELECT * FROM {_quoted(name)} LIMIT 1").one() is not None

    def wipe(self) -> None:
        """Empty the tables that the restore writes; drop those that are defined otherwise."""
        theirs = schema.describe(self._session, sorted(schema.keyspaces(self._session)))
        other = {(e.keyspace, e.bare) for e in self._other_tables(theirs)}
        for name in self._there(theirs):
            verb = "DROP TABLE" if name in other else "TRUNCATE"
            self._session.execute(f"{verb} {_quoted(name)}")
            self._emptied.add(name)

    def stages(self) -> Sequence[Stage]:
        """The schema, each table, and the removal of rows that a node was given too many."""
        return stages_of(self._course)

    def perform(self, stage: Stage, mark: str) -> Iterator[Advance]:
        """Do a stage; a table's mark names the nodes that have all of it, a stream's its place."""
        verb, _, about = stage.name.partition(" ")
        match verb:
            case "schema":
                return self._make_schema()
            case "files":
                return self._files(about, mark)
            case "rows":
                return self._rows(about, mark)
            case _:
                return self._clean_up()

    def _make_schema(self) -> Iterator[Advance]:
        theirs = schema.describe(self._session, sorted(schema.keyspaces(self._session)))
        half = self._half_made(theirs)
        if other := [e for e in schema.differs(self._course.entries, theirs) if e not in half]:
            names = ", ".join(f"{e.kind} {e.keyspace}.{e.bare}" for e in other)
            raise RestoreFailed(
                f"the target has these, but defined otherwise: {names}",
                hint="remove them first: --wipe; or restore into another cluster",
            )
        if not self._merge:
            self._remove_removals(theirs)
        missing = schema.missing(self._course.entries, theirs)
        lacking = half | {e: schema.statements(schema.without_id(e.cql)) for e in missing}
        done = len(self._course.entries) - len(lacking)
        for entry in (e for e in self._course.entries if e in lacking):
            for statement in lacking[entry]:
                self._session.execute(statement)
            done += 1
            yield Advance(done)

    def _half_made(self, theirs: Sequence[Entry]) -> dict[Entry, Iterable[str]]:
        """Tables whose making broke off, and what they lack; one that has rows is somebody's."""
        there = {(e.keyspace, e.name): e for e in theirs if e.kind == "table"}
        found: dict[Entry, Iterable[str]] = {}
        for entry in self._other_tables(theirs):
            left = schema.lacking(entry, there[entry.keyspace, entry.name])
            if left and not self._has_rows((entry.keyspace, entry.bare)):
                found[entry] = left
        return found

    def _remove_removals(self, theirs: Sequence[Entry]) -> None:
        """Empty the tables that will be written, though they show no row.

        Rows that were deleted there have left tombstones, which are newer than the backup's rows: those
        would be restored and not be seen. Only before anything is written, and not where the
        restore is to leave what is there. Rows that came since it was looked, such as while the
        restore was cut off, are somebody's: nobody asked to have those removed.
        """
        written = self._course.ways.keys() | self._course.rows.keys()
        names = [n for n in self._there(theirs) if ".".join(n) in written and n not in self._emptied]
        if full := [".".join(n) for n in names if self._has_rows(n)]:
            raise NotRestorable(
                f"rows were written meanwhile to {', '.join(full)}, which the restore has to empty first",
                hint="stop whoever writes there; then begin anew, which removes those rows: --wipe; "
                "or remove them yourself and go on: --resume",
            )
        for name in names:
            self._session.execute(f"TRUNCATE {_quoted(name)}")
            self._emptied.add(name)

    def _files(self, name: str, mark: str) -> Iterator[Advance]:
        """Write node after node, and import in one while the next is written."""
        tables = self._tables(name)
        done = set(json.loads(mark)) if mark else set()
        running: dict[str, Future[None]] = {}
        counter = Counter(sum(t.size for t in tables if t.node in done))
        with ThreadPoolExecutor(max_workers=max(len(tables), 1)) as pool:
            for table in (t for t in tables if t.node not in done):
                for bytes_done in watched(lambda table=table: self._stage(table, counter), counter):  # type: ignore[misc]
                    yield Advance(bytes_done, _mark(done, running))
                running[table.node] = pool.submit(self._import, table)
            for future in running.values():
                future.result()
                yield Advance(counter.value, _mark(done, running))

    def _tables(self, name: str) -> tuple[_Table, ...]:
        way = self._course.ways[name]
        files = [f for f in self._course.files if f.name == name]
        made = []
        for node in sorted({n for names in way.receivers.values() for n in names}):
            folders = {
                source: tuple(f for f in files if f.node == source)
                for source, names in way.receivers.items()
                if node in names and any(f.node == source for f in files)
            }
            if folders:
                made.append(_Table(node, files[0].keyspace, files[0].table, folders))
        return tuple(made)

    def _stage(self, table: _Table, counter: Counter) -> None:
        """Lay a node's files of a table out on its own disk."""
        self._tools.loans.take(Loan(table.node, STAGED, self._folder))
        self._staged.add(table.node)
        for source, files in table.folders.items():
            folder = self._place(table, source)
            self._run(table.node, ["rm", "-rf", folder])
            self._run(table.node, ["mkdir", "-p", folder])
            self._tools.runtime.write_files(
                self._cluster,
                table.node,
                folder,
                (FileToWrite(f.file, f.size, counter.counted(self._archive.read(f.part))) for f in files),
                uid=_UID,
            )

    def _place(self, table: _Table, source: str) -> str:
        # A server passes over files in a folder that is not named after keyspace and table.
        return f"{self._folder}/{source}/{table.keyspace}/{table.table}"

    def _import(self, table: _Table) -> None:
        """Let the server take the files; it says nothing of those that it leaves lying because they are damaged."""
        places = [self._place(table, source) for source in table.folders]
        flags = () if self._course.ways[f"{table.keyspace}.{table.table}"].in_place else ("-t",)
        words = ("import", *flags, "--", table.keyspace, table.table, *places)
        try:
            said = self._tool.finish(table.node, f"import-{table.keyspace}.{table.table}", *words)
        except HaopsError as error:
            raise _not_taken(self._cluster, table, error.detail) from error
        runtime = self._tools.runtime
        left = [f.path for place in places for f in runtime.files(self._cluster, table.node, place)]
        if any(path.endswith("-Data.db") for path in left):
            raise _not_taken(self._cluster, table, said.strip() or left[0])

    def _rows(self, name: str, mark: str) -> Iterator[Advance]:
        part, start = f"{ROWS}{name}", int(mark or 0)
        shape = PageStream(self._archive.read(part)).shape()
        if shape.name != name:
            raise RestoreFailed(f"the rows of {name} are those of {shape.name}")
        pages = PageStream(self._archive.read(part, start), start)
        if not start:
            pages.shape()
        walker, loader = Walker(shape), Loader(self._session, shape)
        mark = str(pages.at)
        for page in pages.pages():
            for _ in loader.write(_writes(walker, page)):
                pass
            mark = str(pages.at)
            yield Advance(pages.at, mark)
        yield Advance(pages.at, mark)  # from behind its end a stream cannot be read

    def _clean_up(self) -> Iterator[Advance]:
        """Rows of ranges that a node does not keep: it was given whole files."""
        nodes = dict.fromkeys(node for node, _ in self._course.cleaning)
        done = 0
        with ThreadPoolExecutor(max_workers=max(len(nodes), 1)) as pool:
            for future in as_completed([pool.submit(self._clean_up_node, node) for node in nodes]):
                done += future.result()
                yield Advance(done)

    def _clean_up_node(self, node: str) -> int:
        keyspaces = [keyspace for name, keyspace in self._course.cleaning if name == node]
        for keyspace in keyspaces:
            try:
                self._tool.finish(node, f"cleanup-{keyspace}", "cleanup", keyspace)
            except HaopsError as error:
                raise RestoreFailed(error.message, node=node, detail=error.detail) from error
        return len(keyspaces)

    def _run(self, node: str, argv: Sequence[str]) -> None:
        code, said = self._tools.runtime.execute(self._cluster, node, argv)
        if code:
            raise RestoreFailed(f"{argv[0]} failed", node=node, detail=said.strip() or None)


def _not_taken(cluster: Cluster, table: _Table, detail: str | None) -> RestoreFailed:
    return RestoreFailed(
        f"the server did not take all files of {table.keyspace}.{table.table}",
        node=table.node,
        detail=detail,
        hint=f"why, is in its log: docker logs {cluster.project}-{table.node}-1",
    )


def _writes(walker: Walker, page: Page) -> Iterator[Write]:
    now_ms = time.time_ns() // 1_000_000
    for row in walker.rows(page):
        yield from as_it_was(row, now_ms)


def _mark(done: set[str], running: Mapping[str, Future[None]]) -> str:
    whole = {name for name, future in running.items() if future.done() and not future.exception()}
    return json.dumps(sorted(done | whole)) if done | whole else ""


def _quoted(name: tuple[str, str]) -> str:
    return ".".join(quoted(part) for part in name)

"""The append-only file of one server, kept as it was at one moment: for restores to a point in time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from haops.cluster.spec import Cluster, Node
from haops.errors import BadInput
from haops.runtime.port import Runtime
from haops.stores.backup import BackupFailed, Form, Part
from haops.stores.redis.aof import LOG, MANIFEST, Manifest, read_manifest
from haops.stores.redis.borrow import KEPT, Borrowed
from haops.stores.redis.rdb import HEAD_BYTES, notes_of
from haops.stores.redis.wire import Wire, info, setting
from haops.wait import wait_until

_ANSWER_S: Final = 5.0
_REWRITE_S: Final = 600.0


class KeptLog:
    """The append-only file of one server, as it was at one moment."""

    def __init__(self, cluster: Cluster, runtime: Runtime, node: Node, backup: str) -> None:
        self._cluster = cluster
        self._runtime = runtime
        self._node = node
        self._folder = f"haops-{re.sub(r'[^A-Za-z0-9-]', '-', backup)}"
        self._kept = ""
        self._sizes: dict[str, int] = {}
        self.earliest = self.latest = datetime.fromtimestamp(0, UTC)

    def keep(self, borrowed: Borrowed) -> None:
        """Hard links to the files of now, which no rewrite can take away. Raises BadInput, BackupFailed."""
        wire = Wire(self._node, _ANSWER_S, BackupFailed)
        try:
            self._check(wire)
            held = borrowed.config(self._node, "auto-aof-rewrite-percentage", "0")
            wait_until(
                lambda: info(wire, "persistence"),
                lambda p: p["aof_rewrite_in_progress"] == "0" and p["aof_rewrite_scheduled"] == "0",
                what=f"{self._node.name} to end its rewriting of the append-only file",
                deadline_s=_REWRITE_S,
                describe=lambda p: f"aof_rewrite_in_progress:{p['aof_rewrite_in_progress']}",
            )
            home = f"{setting(wire, 'dir')}/"
            manifest = self._link(wire, borrowed, home)
            if held is not None:
                borrowed.back(held)
        finally:
            wire.close()
        self.earliest = self._beginning(manifest)

    def _check(self, wire: Wire) -> None:
        if setting(wire, "appendonly") != "yes":
            raise BadInput("points in time need the append-only file", node=self._node.name,
                           hint="CONFIG SET appendonly yes, on every server")  # fmt: skip
        if setting(wire, "aof-timestamp-enabled") != "yes":
            raise BadInput(
                "its append-only file has no time stamps, so no point in time can be found in it",
                node=self._node.name,
                hint="CONFIG SET aof-timestamp-enabled yes, CONFIG REWRITE and BGREWRITEAOF, on every server",
            )

    def _link(self, wire: Wire, borrowed: Borrowed, home: str) -> Manifest:
        files, name = home + setting(wire, "appenddirname"), setting(wire, "appendfilename")
        kept = home + self._folder
        borrowed.note(self._node, KEPT + self._folder, kept)
        self._run("rm", "-rf", kept)  # what a backup of the same name left that was killed
        self._run("mkdir", kept)
        manifest = read_manifest(self._run("cat", f"{files}/{name}.manifest"))
        seconds, micro = wire.ask("TIME")
        for file in (manifest.base, *manifest.added[:-1]):
            self._run("ln", "-f", f"{files}/{file}", f"{kept}/{file}")
        # The last one still grows, and a copy of a growing file breaks off: it is copied first.
        for file in manifest.added[-1:]:
            self._run("cp", "--reflink=auto", f"{files}/{file}", f"{kept}/{file}")
        self._run("cp", f"{files}/{name}.manifest", f"{kept}/{MANIFEST}")
        again = read_manifest(self._run("cat", f"{kept}/{MANIFEST}"))
        if again != manifest:
            raise BackupFailed("its append-only file was rewritten meanwhile", node=self._node.name)
        self.latest = datetime.fromtimestamp(int(seconds) + int(micro) / 1e6, UTC)
        listed = self._runtime.files(self._cluster, self._node.name, kept)
        self._sizes, self._kept = {f.path: f.size for f in listed}, kept
        return manifest

    def _beginning(self, manifest: Manifest) -> datetime:
        """From when on each second is in it: the base was written at some moment of its own second."""
        blocks = self._runtime.read_file(self._cluster, self._node.name, f"{self._kept}/{manifest.base}")
        start = next(blocks, b"")[:HEAD_BYTES]
        if not start.startswith(b"REDIS"):
            raise BadInput("the base of its append-only file is no RDB", node=self._node.name,
                           hint="CONFIG SET aof-use-rdb-preamble yes, then BGREWRITEAOF")  # fmt: skip
        notes = notes_of(start)
        if "ctime" not in notes:
            raise BackupFailed("the base of its append-only file does not say when it was written",
                               node=self._node.name, hint="BGREWRITEAOF, then try again")  # fmt: skip
        return datetime.fromtimestamp(int(notes["ctime"]) + 1, UTC)

    def _run(self, *argv: str) -> str:
        code, said = self._runtime.execute(self._cluster, self._node.name, list(argv))
        if code:
            raise BackupFailed(f"{argv[0]} failed in its container", node=self._node.name, detail=said)
        return said

    def parts(self) -> list[Part]:
        """Each kept file; their bytes change no more."""
        order = sorted(self._sizes, key=lambda name: (name != MANIFEST, name))
        return [Part(LOG + n, self._node.name, Form.PHYSICAL, self._sizes[n]) for n in order]

    def read(self, part: Part) -> Iterator[bytes]:
        """One kept file."""
        name = part.name.removeprefix(LOG)
        size = 0
        for block in self._runtime.read_file(self._cluster, self._node.name, f"{self._kept}/{name}"):
            size += len(block)
            yield block
        if size != self._sizes.get(name):
            raise BackupFailed(f"{name} has {size} bytes, not {self._sizes.get(name)}", node=self._node.name)

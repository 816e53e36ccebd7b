"""The state directory: atomic files, one lock a cluster, nothing half-written.

Layout under `$HAOPS_STATE`, else `$XDG_STATE_HOME/haops`:
`owner`, `clusters/NAME/{cluster.json,compose.yaml,ledger.jsonl}`, `locks/NAME`, `runs/`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from haops.cluster.spec import Cluster, Phase, check_name, is_name
from haops.errors import BadInput, Busy, EnvironmentTrouble, StateDamaged

_FORMAT = 1


def write_atomic(path: Path, text: str) -> None:
    """Write `text` so that a reader, or a machine after a crash, sees the old file or the new one.

    Raises:
        EnvironmentTrouble: The disk is full, read-only or not ours.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, temp = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temp).replace(path)
        except BaseException:
            Path(temp).unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
    except OSError as error:
        raise disk_trouble(path, error) from error


def sync_directory(path: Path) -> None:
    """Make what was created, renamed or removed in a folder survive a crash of the machine."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def disk_trouble(path: Path, error: OSError) -> EnvironmentTrouble:
    """A write that failed, as an error of ours with the mend."""
    hints = {
        errno.ENOSPC: "free some space, or set HAOPS_STATE to a folder on another disk",
        errno.EROFS: "set HAOPS_STATE to a folder that can be written",
        errno.EACCES: "set HAOPS_STATE to a folder of yours",
    }
    return EnvironmentTrouble(
        f"cannot write {path}", detail=error.strerror, hint=hints.get(error.errno or 0, "set HAOPS_STATE")
    )


def default_root() -> Path:
    """`$HAOPS_STATE`, else `$XDG_STATE_HOME/haops`, else `~/.local/state/haops`."""
    if override := os.environ.get("HAOPS_STATE"):
        return Path(override).expanduser().absolute()
    from platformdirs import user_state_path  # 10 ms that --help need not pay

    return user_state_path("haops")


class StateDir:
    """Everything that haops remembers between two commands."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()

    @property
    def runs(self) -> Path:
        """Where drills leave their results."""
        return self.root / "runs"

    def owner(self) -> str:
        """The identity of this state directory, on every container's label.

        `gc` removes only what carries its own owner, so that two state
        directories on one engine (a test's and an operator's) do not collect
        each other's clusters.
        """
        path = self.root / "owner"
        try:
            if not path.exists():
                with self.allocation():  # two first commands must not give themselves two names
                    if not path.exists():
                        write_atomic(path, uuid.uuid4().hex[:12] + "\n")
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise StateDamaged(f"{path}:1:1: cannot be read", detail=str(error)) from error

    def cluster_dir(self, name: str) -> Path:
        """The folder of one cluster. Raises BadInput for what cannot be a cluster's name."""
        return self.root / "clusters" / check_name(name)

    def names(self) -> tuple[str, ...]:
        """The clusters that have a record, readable or not, sorted."""
        root = self.root / "clusters"
        if not root.is_dir():
            return ()
        return tuple(sorted(p.name for p in root.iterdir() if p.is_dir() and is_name(p.name)))

    def save(self, cluster: Cluster) -> None:
        """Record a cluster."""
        from pydantic import TypeAdapter

        body = TypeAdapter(Cluster).dump_python(cluster, mode="json")
        write_atomic(
            self.cluster_dir(cluster.name) / "cluster.json",
            json.dumps({"format": _FORMAT, "cluster": body}, indent=2) + "\n",
        )

    def find(self, name: str) -> Cluster | None:
        """The recorded cluster, or None if there is no record.

        Raises:
            StateDamaged: The record is there but cannot be read.
        """
        path = self.cluster_dir(name) / "cluster.json"
        if not path.is_file():
            return None
        from pydantic import TypeAdapter, ValidationError

        hint = f"remove it and its containers with: haops down {name} --volumes"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(document, dict) or document.get("format") != _FORMAT:
                raise StateDamaged(f"{path}:1:1: not a cluster record of format {_FORMAT}", hint=hint)
            return TypeAdapter(Cluster).validate_python(document["cluster"], strict=False)
        except json.JSONDecodeError as error:
            raise StateDamaged(f"{path}:{error.lineno}:{error.colno}: {error.msg}", hint=hint) from error
        except (ValidationError, KeyError, UnicodeDecodeError, OSError) as error:
            raise StateDamaged(f"{path}:1:1: the record is damaged", detail=str(error), hint=hint) from error

    def get(self, name: str) -> Cluster:
        """The recorded cluster.

        Raises:
            BadInput: There is no cluster of that name.
        """
        cluster = self.find(name)
        if cluster is None:
            known = ", ".join(self.names())
            raise BadInput(
                f"there is no cluster {name!r}",
                hint=f"there are: {known}" if known else "there is none; start one: haops up redis",
            )
        return cluster

    def mark(self, cluster: Cluster, phase: Phase) -> Cluster:
        """Record that a cluster reached `phase`."""
        moved = replace(cluster, phase=phase)
        self.save(moved)
        return moved

    def forget(self, name: str) -> None:
        """Remove a cluster's record; last step of `down`."""
        shutil.rmtree(self.cluster_dir(name), ignore_errors=True)

    @contextlib.contextmanager
    def lock(self, name: str, purpose: str, *, part: str = "") -> Iterator[None]:
        """Hold the one lock of cluster `name`; the kernel releases it if this process dies.

        Args:
            part: A lock of its own beside the cluster's, such as its guards'.

        Raises:
            Busy: Another process holds it; says which and for what.
        """
        # A cluster's name has no dot in it.
        path = self.root / "locks" / (f"{check_name(name)}.{part}" if part else check_name(name))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise disk_trouble(path, error) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise Busy(
                    f"another haops is at work on {name}",
                    detail=file.read().strip(),
                    hint="wait for it to end",
                ) from None
            try:
                file.truncate(0)
                file.write(f"{purpose} (process {os.getpid()})")
                file.flush()
            except OSError as error:
                raise disk_trouble(path, error) from error
            yield

    def locked(self, name: str) -> bool:
        """Whether a process holds the lock of cluster `name` at this moment."""
        try:
            with self.lock(name, "look"):
                return False
        except Busy:
            return True

    @contextlib.contextmanager
    def allocation(self) -> Iterator[None]:
        """Serialise the choice of ports and subnets between clusters; waits for its turn."""
        path = self.root / "locks" / ".allocation"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise disk_trouble(path, error) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

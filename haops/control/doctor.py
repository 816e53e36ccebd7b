"""Examining the machine: a list of small checks, each with a finding and a mend."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from haops.cluster.spec import StoreName
from haops.control.lifecycle import Lifecycle
from haops.errors import HaopsError, StateDamaged
from haops.faults.ledger import Ledger
from haops.runtime.addresses import host_routes, subnets
from haops.runtime.resources import compose_dir, playbook_dir

_GIB: Final = 1024**3
# Twelve containers of three stores take 3 GiB; images and volumes about 4 GiB.
_MEMORY_GIB: Final = 4
_DISK_GIB: Final = 5
_COMPOSE_S: Final = 10
# The first that knows configuration within the compose file (`configs.content`).
_COMPOSE_VERSION: Final = (2, 23, 1)


class Level(StrEnum):
    """How grave a finding is; FAIL means that haops cannot work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it."""

    check: str
    level: Level
    detail: str
    fix: str | None = None


def examine(haops: Lifecycle) -> tuple[Finding, ...]:
    """Run all checks; one that stumbles becomes a finding itself."""
    found: list[Finding] = []
    for check in (
        _python,
        _files,
        _state,
        _engine,
        _compose,
        _images,
        _memory,
        _disk,
        _addresses,
        _leftovers,
    ):
        try:
            found += check(haops)
        except (HaopsError, OSError) as error:
            hint = error.hint if isinstance(error, HaopsError) else None
            words = error.message if isinstance(error, HaopsError) else str(error)
            found.append(Finding(check.__name__.strip("_"), Level.FAIL, words, hint))
    return tuple(found)


def _python(_: Lifecycle) -> Iterator[Finding]:
    yield Finding("python", Level.OK, f"{platform.python_version()} on {platform.system()}")


def _files(_: Lifecycle) -> Iterator[Finding]:
    yield Finding("files", Level.OK, f"{compose_dir()}, {len(list(playbook_dir().glob('*.yaml')))} playbooks")


def _state(haops: Lifecycle) -> Iterator[Finding]:
    haops.state.owner()  # writes, so that a read-only folder shows
    yield Finding("state", Level.OK, str(haops.state.root))
    for name in haops.state.names():
        try:
            cluster = haops.state.find(name)
        except StateDamaged as error:
            yield Finding("state", Level.WARN, error.message, f"haops down {name} --volumes")
            continue
        if cluster and cluster.store is StoreName.ZOOKEEPER and cluster.spec().nodes % 2 == 0:
            detail = f"ensemble {name} has an even number of servers: one fewer survives as many losses"
            yield Finding("ensemble", Level.WARN, detail, "make it odd: --nodes 3 or 5")
        for fault in Ledger(haops.state.cluster_dir(name)).open_faults():
            detail = f"{fault.node} of {name}: {fault.kind} by {fault.run} was not undone"
            yield Finding("faults", Level.WARN, detail, f"haops heal {name}")


def _engine(haops: Lifecycle) -> Iterator[Finding]:
    yield Finding("engine", Level.OK, f"version {haops.runtime.ping()}")


def _compose(_: Lifecycle) -> Iterator[Finding]:
    fix = "make engine"
    try:
        run = subprocess.run(
            ["docker", "compose", "version", "--short"],
            capture_output=True,
            text=True,
            timeout=_COMPOSE_S,
            check=False,
        )
    except FileNotFoundError:
        yield Finding("compose", Level.FAIL, "there is no docker command", fix)
        return
    except subprocess.TimeoutExpired:
        yield Finding(
            "compose", Level.FAIL, f"`docker compose version` gave no answer in {_COMPOSE_S} s", fix
        )
        return
    version = run.stdout.strip().removeprefix("v")
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:3])
    if version and numbers < _COMPOSE_VERSION:
        wanted = ".".join(map(str, _COMPOSE_VERSION))
        yield Finding(
            "compose",
            Level.FAIL,
            f"version {version} is older than {wanted}",
            "install a newer Compose plug-in",
        )
    elif run.returncode or not version:
        yield Finding("compose", Level.FAIL, "the docker command has no Compose v2", fix)
    else:
        yield Finding("compose", Level.OK, f"version {version}")


def _images(_: Lifecycle) -> Iterator[Finding]:
    from haops.runtime.images import image_states

    for image in image_states():
        if image.state == "ready":
            yield Finding("image", Level.OK, image.ref)
        else:
            yield Finding(
                "image", Level.WARN, f"{image.ref} is {image.state}", f"haops images build {image.name}"
            )


def _memory(_: Lifecycle) -> Iterator[Finding]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    cores = os.cpu_count() or 1
    detail = f"{total:.0f} GiB, {cores} cores"
    if total < _MEMORY_GIB:
        yield Finding(
            "memory", Level.WARN, detail, f"three stores at once want {_MEMORY_GIB} GiB; start one at a time"
        )
    else:
        yield Finding("memory", Level.OK, detail)


def _disk(haops: Lifecycle) -> Iterator[Finding]:
    folder = haops.state.root
    while not folder.exists():
        folder = folder.parent
    for place in {folder, Path("/var/lib/docker")}:
        if not place.exists():
            continue
        free = shutil.disk_usage(place).free / _GIB
        if free < _DISK_GIB:
            yield Finding("disk", Level.WARN, f"{free:.1f} GiB free at {place}", "docker system prune")
        else:
            yield Finding("disk", Level.OK, f"{free:.0f} GiB free at {place}")


def _addresses(haops: Lifecycle) -> Iterator[Finding]:
    free = next(subnets([*haops.runtime.networks(), *host_routes()]), None)
    if free is None:
        yield Finding("addresses", Level.FAIL, "no subnet is free for a further cluster", "haops gc")
    else:
        yield Finding("addresses", Level.OK, f"next subnet {free}")


def _leftovers(haops: Lifecycle) -> Iterator[Finding]:
    garbage = haops.garbage(datetime.now(UTC))
    for piece in garbage:
        yield Finding("leftovers", Level.WARN, f"{piece.cluster} {piece.why}", "haops gc")
    if not garbage:
        yield Finding("leftovers", Level.OK, "none")

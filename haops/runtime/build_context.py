"""What goes into an image besides its own folder: haops' sources and the packages they need.

Packages are installed here, by this interpreter's pip, into a folder that the
image takes over: pip's settings on this machine (a mirror, a proxy, a bundle of
certificates) then count without being handed to a build, and the image needs
no pip. Copying what this interpreter has installed would save the download,
but not be right: its Python is seldom the image's, and with the version
change the compiled parts and some requirements.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from haops.errors import EnvironmentTrouble

# Where the Dockerfile expects the two.
_SOURCE: Final = "source"
_PACKAGES: Final = "packages"

_PACKAGE: Final = Path(__file__).resolve().parent.parent
# What an installed haops carries inside the package, and no process in a container reads.
_SHIPPED: Final = "_shipped"
_PIP_S: Final = 300
_LAST_LINES: Final = 6
# Wheels for any of these run on Debian.
_MANYLINUX: Final = ("2_28", "2_27", "2_17", "2014", "2_12", "2010", "2_5", "1")
_MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}


def own_sources() -> Iterator[tuple[str, Path]]:
    """The modules of the haops that runs, as names in the context and files."""
    for path in sorted(_PACKAGE.rglob("*.py")):
        inside = path.relative_to(_PACKAGE)
        if inside.parts[0] != _SHIPPED:
            yield f"{_SOURCE}/{_PACKAGE.name}/{inside.as_posix()}", path


def packages(pinned: Sequence[str], python: str) -> Mapping[str, bytes]:
    """The files of `pinned` packages, installed for another Python on Linux; names in the context.

    Kept in the user's cache folder: haops' own sources, which go into the same
    image, change far more often, and pip asks the index about each package.

    Args:
        pinned: Requirements with exact versions; nothing that they need is added.
        python: The version of the image's Python, such as 3.13.

    Raises:
        EnvironmentTrouble: pip is not there, or cannot get them.
    """
    kept = _kept(pip_command(pinned, python, Path()))
    with contextlib.suppress(OSError, tarfile.TarError):
        return unpack(kept.read_bytes())
    with tempfile.TemporaryDirectory(prefix="haops-packages-") as folder:
        _install(pip_command(pinned, python, Path(folder)))
        content = dict(_installed(Path(folder)))
    _keep(kept, pack(content).getvalue())
    return content


def _kept(command: Sequence[str]) -> Path:
    from platformdirs import user_cache_path

    # Which interpreter's pip it was does not matter.
    asked = hashlib.sha256("\0".join(command[1:]).encode()).hexdigest()[:16]
    return user_cache_path("haops") / f"packages-{asked}.tar"


def _keep(path: Path, data: bytes) -> None:
    with contextlib.suppress(OSError):  # without it the next build takes longer, and that is all
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob("packages-*.tar"):
            old.unlink()
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(data)
        Path(file.name).replace(path)


def pip_command(pinned: Sequence[str], python: str, folder: Path) -> list[str]:
    """How pip is called; pure but for the machine's own kind."""
    machine = _MACHINES.get(platform.machine().lower(), platform.machine().lower())
    return [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--target", str(folder), "--no-deps", "--no-compile", "--only-binary=:all:"),
        *("--implementation", "cp", "--python-version", python, "--abi", f"cp{python.replace('.', '')}"),
        *(word for kind in _MANYLINUX for word in ("--platform", f"manylinux{_joint(kind)}_{machine}")),
        *pinned,
    ]


def _joint(kind: str) -> str:
    return f"_{kind}" if "_" in kind else kind


def _install(command: Sequence[str]) -> None:
    # These two would have pip refuse a folder of one's own.
    env = {**os.environ, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
    try:
        done = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PIP_S
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentTrouble(f"pip has not got the packages within {_PIP_S} s") from error
    if done.returncode == 0:
        return
    words = "\n".join(done.stderr.strip().splitlines()[-_LAST_LINES:])
    if "No module named pip" in words:
        raise EnvironmentTrouble(
            "this Python has no pip", detail=words, hint=f"install it: {sys.executable} -m ensurepip"
        )
    raise EnvironmentTrouble(
        "pip cannot get the packages",
        detail=words,
        hint="is a package index in reach? then: haops images build",
    )


def _installed(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        # Commands name this machine's Python, and the record has their hashes.
        if path.is_file() and inside.parts[0] != "bin" and path.name != "RECORD":
            yield f"{_PACKAGES}/{inside.as_posix()}", path.read_bytes()


def pack(content: Mapping[str, bytes]) -> io.BytesIO:
    """An archive of files; times are left out, so that equal sources hit the builder's cache."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in sorted(content.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.mode = 0o644
            tar.addfile(entry, io.BytesIO(data))
    archive.seek(0)
    return archive


def unpack(archive: bytes) -> Mapping[str, bytes]:
    """The files of an archive that `pack` has made."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        opened = {member.name: tar.extractfile(member) for member in tar}
        return {name: file.read() for name, file in opened.items() if file}

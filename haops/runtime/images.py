"""The images that clusters run on: what they should be, whether they are here, building and checking them.

Images are built on this machine from `compose/images/`, because a container
registry is not to be had everywhere, while package registries mostly are. A
build's sources are hashed into a label, so that an image made from older
sources is seen as stale.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import queue
import subprocess
import threading
import tomllib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from haops import __version__
from haops.errors import BadInput, EngineUnavailable, EnvironmentTrouble, ImageUnavailable
from haops.runtime.build_context import own_sources, pack, packages
from haops.runtime.resources import compose_dir

SOURCE_LABEL: Final = "haops.source"

_BUILD_HINT: Final = "haops images build (or: make images)"
_CA_FILE: Final = "ca-bundle.crt"
# Debian, Ubuntu and Arch; Fedora; macOS and Alpine.
_CA_BUNDLES: Final = ("ssl/certs/ca-certificates.crt", "pki/tls/certs/ca-bundle.crt", "ssl/cert.pem")
_LAST_LINES: Final = 12
# A build step that prints nothing must not look like an engine that hangs.
_SILENCE_S: Final = 900
_CHECK_S: Final = 60


class Rebuild(Enum):
    """Which images a build makes anew."""

    STALE = "stale"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An image of `versions.toml`; with `packages` it gets haops too, if `optional` it is built by name only."""

    name: str
    ref: str
    base: str
    base_ref: str
    version: str
    context: Path
    args: tuple[tuple[str, str], ...] = ()
    packages: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True, slots=True)
class ImageState:
    """What the engine has of an image; `state` is ready, stale or missing."""

    name: str
    ref: str
    state: str
    id: str = ""
    size_bytes: int = 0
    created: str = ""
    optional: bool = False


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """One step of a build, for showing."""

    image: str
    text: str


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """One item of an image's contract, and whether the image keeps it."""

    item: str
    ok: bool
    detail: str


def specs() -> tuple[ImageSpec, ...]:
    """All images, in the order of `versions.toml`."""
    folder = compose_dir() / "images"
    pinned = tomllib.loads((folder / "versions.toml").read_text(encoding="utf-8"))
    return tuple(
        ImageSpec(
            name=name,
            ref=image["ref"].format(haops=__version__),
            base=image["base"],
            base_ref=pinned["bases"][image["base"]],
            version=image["version"].format(haops=__version__),
            context=folder / name,
            args=tuple(sorted(image.get("args", {}).items())),
            packages=tuple(image.get("packages", ())),
            optional=image.get("optional", False),
        )
        for name, image in pinned["images"].items()
    )


def _spec(name: str) -> ImageSpec:
    known = {spec.name: spec for spec in specs()}
    if name not in known:
        raise BadInput(f"there is no image {name!r}", hint=f"one of: {', '.join(known)}")
    return known[name]


def _context_files(spec: ImageSpec) -> Iterator[tuple[str, Path]]:
    # Images that Maven takes part in share the scripts that call it.
    shared = [spec.context.parent / "maven"] if (spec.context / "pom.xml").is_file() else []
    for folder in (spec.context, *shared):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != _CA_FILE:
                yield path.relative_to(folder).as_posix(), path
    if spec.packages:
        yield from own_sources()


def source_digest(spec: ImageSpec) -> str:
    """A hash over everything that a build of `spec` is made from, except the build host's certificates."""
    digest = hashlib.sha256()
    for part in (spec.base, spec.version, *(f"{key}={value}" for key, value in spec.args), *spec.packages):
        digest.update(part.encode() + b"\0")
    for name, path in _context_files(spec):
        content = path.read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:32]


def _engine() -> Any:
    import docker  # 120 ms

    try:
        client = docker.from_env(timeout=_SILENCE_S)
        client.ping()
    except docker.errors.DockerException as error:
        hint = "start an engine, or let haops do it: make engine"
        raise EngineUnavailable("no container engine answers", detail=str(error), hint=hint) from error
    return client


def _inspect(client: Any, ref: str) -> Mapping[str, Any] | None:
    import docker

    with contextlib.suppress(docker.errors.ImageNotFound):
        found: Mapping[str, Any] = client.api.inspect_image(ref)
        return found
    return None


def _state(client: Any, spec: ImageSpec) -> ImageState:
    found = _inspect(client, spec.ref)
    if found is None:
        return ImageState(spec.name, spec.ref, "missing", optional=spec.optional)
    labels = (found.get("Config") or {}).get("Labels") or {}
    state = "ready" if labels.get(SOURCE_LABEL) == source_digest(spec) else "stale"
    size, created = int(found.get("Size") or 0), str(found.get("Created") or "")
    return ImageState(spec.name, spec.ref, state, found["Id"], size, created, spec.optional)


def image_states(*, optional: bool = False) -> tuple[ImageState, ...]:
    """Each image as the engine has it, the `optional` ones if asked for. Raises EngineUnavailable."""
    client = _engine()
    return tuple(_state(client, spec) for spec in specs() if optional or not spec.optional)


def build(
    names: Sequence[str] | None,
    *,
    rebuild: Rebuild = Rebuild.STALE,
    on_progress: Callable[[BuildProgress], None],
) -> None:
    """Build images; what is ready is skipped.

    Images of one base are built after each other (they share layers), those of
    different bases at the same time.

    Args:
        names: The images wanted; all but the optional ones where there are none.
        rebuild: Whether ready images are built anew too.
        on_progress: Called for each step, from one thread at a time.
    """
    every = [spec for spec in specs() if not spec.optional]
    wanted = [_spec(name) for name in dict.fromkeys(names)] if names else every
    client = _engine()
    if rebuild is Rebuild.STALE:
        wanted = [spec for spec in wanted if _state(client, spec).state != "ready"]
    lanes: dict[str, list[ImageSpec]] = {}
    for spec in wanted:
        lanes.setdefault(spec.base, []).append(spec)
    _run_lanes(client, lanes, on_progress)


def _run_lanes(
    client: Any, lanes: Mapping[str, Sequence[ImageSpec]], on_progress: Callable[[BuildProgress], None]
) -> None:
    """Run each lane in a thread of its own; the first failure ends the others."""
    stop, lock = threading.Event(), threading.Lock()
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def progress(step: BuildProgress) -> None:
        with lock:
            on_progress(step)

    def work(base: str, members: Sequence[ImageSpec]) -> None:
        error: BaseException | None = None
        try:
            _make_base(base, progress, stop)
            for spec in members:
                if not stop.is_set():
                    _build_one(client, spec, progress, stop)
        except BaseException as caught:
            error = caught
        ended.put(error)

    # Daemon threads: after Ctrl-C the process may end at once, which closes the
    # connections, and the engine then cancels the builds and removes their containers.
    threads = [threading.Thread(target=work, args=lane, daemon=True) for lane in lanes.items()]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            error = ended.get()
            if error is not None:
                raise error
    finally:
        stop.set()


def _make_base(base: str, progress: Callable[[BuildProgress], None], stop: threading.Event) -> None:
    command = ["bash", str(compose_dir() / "images" / "base.sh"), base]
    lines: deque[str] = deque(maxlen=_LAST_LINES)
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            for line in process.stderr or ():
                lines.append(line.rstrip())
                progress(BuildProgress(f"base:{base}", lines[-1].removeprefix("base: ")))
                if stop.is_set():
                    break
        finally:
            if stop.is_set() and process.poll() is None:
                process.terminate()
    if process.returncode and not stop.is_set():
        raise EnvironmentTrouble(f"the base image {base} could not be made", detail="\n".join(lines))


def _build_one(
    client: Any, spec: ImageSpec, progress: Callable[[BuildProgress], None], stop: threading.Event
) -> None:
    import docker

    before = _inspect(client, spec.ref)
    if spec.packages:
        progress(BuildProgress(spec.name, f"getting {len(spec.packages)} Python packages"))
    lines: deque[str] = deque(maxlen=_LAST_LINES)
    try:
        events = client.api.build(
            fileobj=_context_tar(spec),
            custom_context=True,
            tag=spec.ref,
            buildargs={"BASE": spec.base_ref, **dict(spec.args)},
            labels={SOURCE_LABEL: source_digest(spec)},
            network_mode="host",
            # The legacy builder, which every engine has, leaves its containers behind unless told.
            rm=True,
            forcerm=True,
            decode=True,
        )
        for text in _texts(spec, events, lines):
            progress(BuildProgress(spec.name, text))
            if stop.is_set():
                return
    except docker.errors.APIError as error:
        raise EnvironmentTrouble(f"the engine refused to build {spec.ref}", detail=str(error)) from error
    progress(BuildProgress(spec.name, f"made {spec.ref}"))
    _drop_old(client, before, spec.ref)


def _texts(spec: ImageSpec, events: Iterator[Mapping[str, Any]], lines: deque[str]) -> Iterator[str]:
    """The steps out of a build's events; everything else is kept in `lines` for an error."""
    for event in events:
        if "error" in event:
            raise ImageUnavailable(
                f"the build of {spec.ref} failed: {str(event['error']).strip()}",
                detail="\n".join(lines),
                hint=f"haops images build {spec.name}, once the cause is gone",
            )
        for line in str(event.get("stream", "")).splitlines():
            if text := line.strip():
                lines.append(text)
            if text.startswith(("Step ", "WARNING")):
                yield text


def _drop_old(client: Any, before: Mapping[str, Any] | None, ref: str) -> None:
    import docker

    after = _inspect(client, ref)
    if before is None or after is None or before["Id"] == after["Id"]:
        return
    # Still in use by a container, or another name's too: then it stays.
    with contextlib.suppress(docker.errors.APIError):
        client.api.remove_image(before["Id"])


def _context_tar(spec: ImageSpec) -> io.BytesIO:
    content = {name: path.read_bytes() for name, path in _context_files(spec)}
    if "trust.sh" in content:
        content[_CA_FILE] = _host_certificates()
    if spec.packages:
        content |= packages(spec.packages, dict(spec.args)["PYTHON_VERSION"])
    return pack(content)


def _host_certificates() -> bytes:
    """What this machine trusts: builds may have to go through a proxy that only it knows."""
    for candidate in (os.environ.get("SSL_CERT_FILE", ""), *(f"/etc/{name}" for name in _CA_BUNDLES)):
        if candidate and Path(candidate).is_file():
            return Path(candidate).read_bytes()
    return b""


def resolve(store: str, override: str | None) -> str:
    """The image to run `store` on. Raises ImageUnavailable where there is none.

    Args:
        store: The name of an image in `versions.toml`.
        override: Another image's reference; pulled where it isn't here.
    """
    spec = _spec(store)
    client = _engine()
    ref = override or spec.ref
    if _inspect(client, ref) is not None:
        return ref
    if override is None:
        hint = f"haops images build {store}" if spec.optional else _BUILD_HINT
        raise ImageUnavailable(f"image {ref} is missing", hint=hint)
    import docker

    try:
        client.images.pull(ref)
    except docker.errors.APIError as error:
        hint = f"check its name, or use the local image: {_BUILD_HINT}"
        raise ImageUnavailable(f"image {ref} cannot be pulled", detail=str(error), hint=hint) from error
    return ref


def check(store: str, ref: str) -> tuple[CheckFinding, ...]:
    """Run `ref` in a throw-away container without network, against the contract of `store`."""
    spec = _spec(store)
    script = (spec.context.parent / "contract.sh").read_text(encoding="utf-8")
    rows = [line.split("\t", 2) for line in _output(_engine(), ref, ["-c", script, "contract", store])]
    found = tuple(CheckFinding(row[0], row[1] == "ok", row[2]) for row in rows if len(row) == 3)
    return found or (
        CheckFinding("contract", ok=False, detail="\n".join(map("".join, rows)) or "said nothing"),
    )


def _output(client: Any, ref: str, command: Sequence[str]) -> list[str]:
    import docker

    try:
        container = client.containers.create(
            ref,
            command,
            entrypoint=["bash"],
            user="0:0",
            network_mode="none",
            environment={"HOME": "/tmp"},  # noqa: S108
        )
        try:
            container.start()
            container.wait(timeout=_CHECK_S)
            output: bytes = container.logs()
        finally:
            # With its anonymous volumes, which the engine's own clean-up at exit would keep here.
            container.remove(force=True, v=True)
    except docker.errors.ImageNotFound as error:
        raise ImageUnavailable(f"image {ref} is not here", hint=_BUILD_HINT) from error
    except docker.errors.APIError as error:
        raise ImageUnavailable(f"image {ref} cannot be run", detail=str(error)) from error
    return output.decode(errors="replace").splitlines()

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import pytest
from typer.testing import CliRunner

from haops.cli import images as commands
from haops.errors import BadInput, EnvironmentTrouble, ImageUnavailable
from haops.runtime import images
from haops.runtime.images import SOURCE_LABEL, BuildProgress, CheckFinding, Rebuild
from haops.runtime.resources import compose_dir

VERSIONS = """
[bases]
trixie = "haops/base:trixie"
bookworm = "haops/base:bookworm"

[images.redis]
ref = "haops/redis:8.0"
base = "trixie"
version = "8.0"

[images.cassandra]
ref = "haops/cassandra:5.0.8"
base = "bookworm"
version = "5.0.8"
[images.cassandra.args]
CASSANDRA_VERSION = "5.0.8"
"""


OPTIONAL = """
[images.extra]
ref = "haops/extra:1"
base = "trixie"
version = "1"
optional = true
"""


class FakeApi:
    """The engine's low-level API: images by reference, builds that succeed unless told otherwise."""

    def __init__(self) -> None:
        self.images: dict[str, dict[str, Any]] = {}
        self.builds: list[dict[str, Any]] = []
        self.removed: list[str] = []
        self.events: list[Mapping[str, Any]] = [{"stream": "Step 1/1 : FROM x\n"}, {"stream": " ---> abc\n"}]

    def add(self, ref: str, label: str = "", number: int = 1) -> None:
        self.images[ref] = {
            "Id": f"sha256:{number}",
            "Size": 5,
            "Created": "2026-01-02T03:04:05Z",
            "Config": {"Labels": {SOURCE_LABEL: label}},
        }

    def inspect_image(self, ref: str) -> Mapping[str, Any]:
        if ref not in self.images:
            raise docker.errors.ImageNotFound(f"No such image: {ref}")
        return self.images[ref]

    def build(self, **options: Any) -> Iterator[Mapping[str, Any]]:
        self.builds.append(options)
        yield from self.events
        self.add(options["tag"], options["labels"][SOURCE_LABEL], number=100 + len(self.builds))

    def remove_image(self, image: str) -> None:
        self.removed.append(image)


class FakeContainer:
    def __init__(self, output: bytes) -> None:
        self.output = output
        self.calls: list[Any] = []

    def start(self) -> None:
        self.calls.append("start")

    def wait(self, *, timeout: float) -> None:
        self.calls.append("wait")

    def logs(self) -> bytes:
        return self.output

    def remove(self, *, force: bool, v: bool) -> None:
        self.calls.append(("remove", force, v))


class FakeClient:
    """Stands for `docker.DockerClient`; its own `images` and `containers` too."""

    def __init__(self) -> None:
        self.api = FakeApi()
        self.images = self
        self.containers = self
        self.pulled: list[str] = []
        self.pull_words = ""
        self.container = FakeContainer(b"")
        self.created: dict[str, Any] = {}

    def pull(self, ref: str) -> None:
        if self.pull_words:
            raise docker.errors.APIError(self.pull_words)
        self.pulled.append(ref)

    def create(self, ref: str, command: list[str], **options: Any) -> FakeContainer:
        self.created = {"ref": ref, "command": command, **options}
        return self.container


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    top = tmp_path / "images"
    for name in ("redis", "cassandra"):
        (top / name).mkdir(parents=True)
        (top / name / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\n")
    (top / "cassandra" / "trust.sh").write_text("true\n")
    (top / "versions.toml").write_text(VERSIONS)
    (top / "base.sh").write_text('echo "base: made $1" >&2\n')
    (top / "contract.sh").write_text("true\n")
    monkeypatch.setattr(images, "compose_dir", lambda: tmp_path)
    return top


@pytest.fixture
def optional(folder: Path) -> None:
    """One more image, which is optional."""
    (folder / "versions.toml").write_text(VERSIONS + OPTIONAL)
    (folder / "extra").mkdir()
    (folder / "extra" / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\n")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    fake = FakeClient()
    monkeypatch.setattr(images, "_engine", lambda: fake)
    return fake


def build(*names: str, rebuild: Rebuild = Rebuild.STALE) -> list[BuildProgress]:
    steps: list[BuildProgress] = []
    images.build(names or None, rebuild=rebuild, on_progress=steps.append)
    return steps


def context_of(options: Mapping[str, Any]) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(options["fileobj"].getvalue())) as tar:
        members = tar.getmembers()
        assert {m.mtime for m in members} == {0}
        found = {m.name: tar.extractfile(m) for m in members}
        return {name: file.read() for name, file in found.items() if file}


def test_shipped_specs_are_complete() -> None:
    found = {spec.name: spec for spec in images.specs()}
    assert set(found) == {"redis", "zookeeper", "cassandra", "tools", "s3", "guard"}
    assert found["redis"].ref == "haops/redis:8.0"
    assert dict(found["zookeeper"].args)["ZOOKEEPER_VERSION"] == found["zookeeper"].version
    assert dict(found["cassandra"].args)["CASSANDRA_VERSION"] == found["cassandra"].version
    assert dict(found["s3"].args)["S3PROXY_VERSION"] == found["s3"].version
    assert [spec.name for spec in found.values() if spec.optional] == ["s3"]
    for spec in found.values():
        assert (spec.context / "Dockerfile").is_file()
        assert spec.ref.endswith(spec.version)


def test_shipped_dockerfiles_take_every_pinned_argument() -> None:
    for spec in images.specs():
        text = (spec.context / "Dockerfile").read_text()
        for name, _ in spec.args:
            assert f"ARG {name}\n" in text, f"{spec.name}: {name} is pinned and not used"
        # The legacy builder knows neither.
        assert "<<" not in text
        assert "--mount" not in text


def test_shipped_contract_knows_every_image() -> None:
    text = (compose_dir() / "images" / "contract.sh").read_text()
    for spec in images.specs():
        assert f"    {spec.name})\n" in text


def test_digest_follows_sources_and_versions(folder: Path) -> None:
    redis, cassandra = images.specs()
    before = images.source_digest(cassandra)
    assert before == images.source_digest(cassandra)
    assert before != images.source_digest(redis)

    (folder / "cassandra" / "Dockerfile").write_text("FROM scratch\n")
    changed = images.source_digest(cassandra)
    assert changed != before

    (folder / "versions.toml").write_text(VERSIONS.replace('N = "5.0.8"', 'N = "5.0.9"'))
    assert images.source_digest(images.specs()[1]) != changed


def test_digest_leaves_the_hosts_certificates_out(folder: Path) -> None:
    before = images.source_digest(images.specs()[1])
    (folder / "cassandra" / "ca-bundle.crt").write_text("of one host only")
    assert images.source_digest(images.specs()[1]) == before


def test_states(folder: Path, client: FakeClient) -> None:
    redis, cassandra = images.specs()
    assert [s.state for s in images.image_states()] == ["missing", "missing"]
    client.api.add(redis.ref, images.source_digest(redis))
    client.api.add(cassandra.ref, "older")
    ready, stale = images.image_states()
    assert (ready.name, ready.state, ready.size_bytes) == ("redis", "ready", 5)
    assert (stale.name, stale.state) == ("cassandra", "stale")


def test_an_image_without_labels_is_stale(folder: Path, client: FakeClient) -> None:
    client.api.images["haops/redis:8.0"] = {"Id": "sha256:1", "Config": {"Labels": None}}
    assert images.image_states()[0].state == "stale"


def test_build_makes_what_is_missing_and_only_that(folder: Path, client: FakeClient) -> None:
    redis, _ = images.specs()
    client.api.add(redis.ref, images.source_digest(redis))
    steps = build()
    (options,) = client.api.builds
    assert options["tag"] == "haops/cassandra:5.0.8"
    assert options["buildargs"] == {"BASE": "haops/base:bookworm", "CASSANDRA_VERSION": "5.0.8"}
    assert options["network_mode"] == "host"
    assert options["rm"] is options["forcerm"] is True
    assert [(s.image, s.text) for s in steps] == [
        ("base:bookworm", "made bookworm"),
        ("cassandra", "Step 1/1 : FROM x"),
        ("cassandra", "made haops/cassandra:5.0.8"),
    ]
    assert [s.state for s in images.image_states()] == ["ready", "ready"]


@pytest.mark.usefixtures("optional")
def test_an_optional_image_is_built_only_by_name(client: FakeClient) -> None:
    build()
    assert {b["tag"] for b in client.api.builds} == {"haops/redis:8.0", "haops/cassandra:5.0.8"}
    build(rebuild=Rebuild.ALL)
    assert "haops/extra:1" not in {b["tag"] for b in client.api.builds}
    build("extra")
    assert client.api.builds[-1]["tag"] == "haops/extra:1"


@pytest.mark.usefixtures("optional")
def test_an_optional_image_is_among_the_states_only_if_asked_for(client: FakeClient) -> None:
    assert "extra" not in {s.name for s in images.image_states()}
    missing = images.image_states(optional=True)[-1]
    assert (missing.name, missing.state, missing.optional) == ("extra", "missing", True)
    build("extra")
    ready = images.image_states(optional=True)[-1]
    assert (ready.name, ready.state, ready.optional) == ("extra", "ready", True)
    assert not images.image_states(optional=True)[0].optional


@pytest.mark.usefixtures("optional")
def test_a_missing_optional_image_names_the_build_that_makes_it(client: FakeClient) -> None:
    with pytest.raises(ImageUnavailable) as caught:
        images.resolve("extra", None)
    assert caught.value.hint == "haops images build extra"


@pytest.mark.usefixtures("optional")
def test_the_list_says_that_clusters_do_without_an_optional_image(client: FakeClient) -> None:
    shown = CliRunner().invoke(commands.app, ["list"]).output
    (line,) = [line for line in shown.splitlines() if line.startswith("extra")]
    assert "not built (for tests only)" in line
    assert "missing" in next(line for line in shown.splitlines() if line.startswith("redis"))
    build("extra")
    assert "ready (for tests only)" in CliRunner().invoke(commands.app, ["list"]).output
    told = json.loads(CliRunner().invoke(commands.app, ["list", "-o", "json"]).output)
    assert {i["name"]: i["optional"] for i in told["images"]} == {
        "redis": False,
        "cassandra": False,
        "extra": True,
    }


def test_build_all_replaces_what_is_ready(folder: Path, client: FakeClient) -> None:
    for number, spec in enumerate(images.specs()):
        client.api.add(spec.ref, images.source_digest(spec), number)
    assert build() == []
    build("redis", rebuild=Rebuild.ALL)
    assert [b["tag"] for b in client.api.builds] == ["haops/redis:8.0"]
    assert client.api.removed == ["sha256:0"]


def test_context_holds_certificates_only_where_they_are_used(
    folder: Path, client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.crt"
    bundle.write_bytes(b"certificates")
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    build()
    contexts = {options["tag"]: context_of(options) for options in client.api.builds}
    assert set(contexts["haops/redis:8.0"]) == {"Dockerfile"}
    assert contexts["haops/cassandra:5.0.8"]["ca-bundle.crt"] == b"certificates"


def test_context_has_an_empty_bundle_where_the_host_has_none(
    folder: Path, client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setattr(images, "_CA_BUNDLES", ())
    build("cassandra")
    assert context_of(client.api.builds[0])["ca-bundle.crt"] == b""


def test_a_failed_build_says_its_last_lines(folder: Path, client: FakeClient) -> None:
    client.api.events = [
        {"stream": "Step 1/2 : RUN it\n"},
        {"stream": "it is broken\n"},
        {"error": "code: 1"},
    ]
    with pytest.raises(ImageUnavailable, match=r"haops/redis:8\.0 failed: code: 1") as caught:
        build("redis")
    assert caught.value.detail == "Step 1/2 : RUN it\nit is broken"


def test_a_base_that_cannot_be_made(folder: Path, client: FakeClient) -> None:
    (folder / "base.sh").write_text('echo "base: no way" >&2\nexit 3\n')
    with pytest.raises(EnvironmentTrouble, match="base image trixie") as caught:
        build("redis")
    assert caught.value.detail == "base: no way"
    assert client.api.builds == []


def test_unknown_names(folder: Path, client: FakeClient) -> None:
    with pytest.raises(BadInput, match="no image 'postgres'"):
        build("postgres")
    with pytest.raises(BadInput):
        images.resolve("postgres", None)


def test_resolve_names_the_local_image_or_how_to_get_it(folder: Path, client: FakeClient) -> None:
    with pytest.raises(ImageUnavailable) as caught:
        images.resolve("redis", None)
    assert "haops images build" in (caught.value.hint or "")
    assert client.pulled == []
    client.api.add("haops/redis:8.0")
    assert images.resolve("redis", None) == "haops/redis:8.0"


def test_resolve_pulls_an_override(folder: Path, client: FakeClient) -> None:
    assert images.resolve("redis", "redis:8") == "redis:8"
    assert client.pulled == ["redis:8"]
    client.api.add("redis:8")
    assert images.resolve("redis", "redis:8") == "redis:8"
    assert client.pulled == ["redis:8"]


def test_resolve_of_what_cannot_be_pulled(folder: Path, client: FakeClient) -> None:
    client.pull_words = "registry unreachable"
    with pytest.raises(ImageUnavailable, match="redis:8 cannot be pulled") as caught:
        images.resolve("redis", "redis:8")
    assert "registry unreachable" in (caught.value.detail or "")


def test_check_reads_findings_and_cleans_up(folder: Path, client: FakeClient) -> None:
    client.container = FakeContainer(
        b"user redis\tok\t999:999\ncommand redis-cli\tfail\tnot on PATH\nnoise\n"
    )
    assert images.check("redis", "redis:8") == (
        CheckFinding("user redis", ok=True, detail="999:999"),
        CheckFinding("command redis-cli", ok=False, detail="not on PATH"),
    )
    assert client.created["network_mode"] == "none"
    assert client.container.calls == ["start", "wait", ("remove", True, True)]


def test_check_of_an_image_that_says_nothing(folder: Path, client: FakeClient) -> None:
    client.container = FakeContainer(b"exec format error\n")
    (finding,) = images.check("redis", "redis:8")
    assert (finding.ok, finding.detail) == (False, "exec format error")

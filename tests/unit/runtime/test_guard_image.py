"""What goes into the image that carries haops, and the container that runs it beside a cluster."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from haops import __version__
from haops.cluster.spec import Cluster
from haops.errors import BadInput, EnvironmentTrouble
from haops.runtime import beside, build_context, images, labels
from haops.runtime.build_context import own_sources, pack, packages, pip_command
from haops.runtime.images import ImageSpec
from haops.runtime.port import Companion
from haops.runtime.resources import compose_dir

from ...fakes import make_cluster

ROOT = Path(__file__).resolve().parents[3]
GUARD = "haops.cli.main haops.cli.guard haops.control.guard haops.control.leadership haops.control.execute \
haops.control.detached haops.stores.redis haops.stores.redis.watch haops.stores.zookeeper.lease pydantic"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the cache of whoever runs it."""
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache" / "haops"


def guard_spec() -> ImageSpec:
    return next(spec for spec in images.specs() if spec.name == "guard")


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_image_is_named_after_haops_own_version() -> None:
    assert guard_spec().ref == f"haops/guard:{__version__}"


def test_its_packages_have_the_versions_that_the_tests_run_with() -> None:
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    tested = {plain(line.partition("==")[0]): line.partition("==")[2] for line in pins if "==" in line}
    for pinned in guard_spec().packages:
        name, _, version = pinned.partition("==")
        assert tested[plain(name)] == version


def test_its_packages_are_all_that_the_guard_imports() -> None:
    code = f"import sys, {', '.join(GUARD.split())}\nprint(*{{n.partition('.')[0] for n in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    by_module = packages_distributions()
    imported = {plain(d) for module in done.stdout.split() for d in by_module.get(module, ())}
    has = {plain(p.partition("==")[0]) for p in guard_spec().packages}
    # setuptools puts itself into every interpreter of its environment.
    assert imported - has - {"haops", "setuptools", "pip"} == set()


def test_the_dockerfile_takes_what_the_context_holds() -> None:
    text = (compose_dir() / "images" / "guard" / "Dockerfile").read_text()
    assert "COPY packages " in text
    assert "COPY source " in text


def test_own_sources_are_the_package_without_what_it_ships() -> None:
    names = [name for name, _ in own_sources()]
    assert "source/haops/cli/main.py" in names
    assert names == sorted(names)
    assert not any("_shipped" in name or "__pycache__" in name for name in names)


def test_an_installed_haops_leaves_its_shipped_files_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "haops"
    (package / "_shipped" / "compose").mkdir(parents=True)
    (package / "_shipped" / "compose" / "x.py").write_text("")
    (package / "errors.py").write_text("1")
    monkeypatch.setattr(build_context, "_PACKAGE", package)
    assert [name for name, _ in own_sources()] == ["source/haops/errors.py"]


def test_the_digest_follows_haops_sources_and_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "haops"
    package.mkdir()
    (package / "errors.py").write_text("1")
    monkeypatch.setattr(build_context, "_PACKAGE", package)
    spec = guard_spec()
    seen = {images.source_digest(spec)}
    (package / "errors.py").write_text("2")
    seen.add(images.source_digest(spec))
    seen.add(images.source_digest(replace(spec, packages=(*spec.packages, "x==1"))))
    seen.add(images.source_digest(replace(spec, packages=())))
    assert len(seen) == 4


def test_packages_are_chosen_for_the_images_python_not_for_this_one(tmp_path: Path) -> None:
    command = pip_command(["redis==8.1.0"], "3.13", tmp_path)
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert command[command.index("--python-version") + 1] == "3.13"
    assert command[command.index("--abi") + 1] == "cp313"
    assert "--only-binary=:all:" in command
    assert "--no-deps" in command
    assert command[-1] == "redis==8.1.0"


@pytest.mark.parametrize(
    ("machine", "named"), [("arm64", "aarch64"), ("AMD64", "x86_64"), ("x86_64", "x86_64")]
)
def test_packages_are_chosen_for_this_machines_kind(
    machine: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    command = pip_command([], "3.13", tmp_path)
    assert f"manylinux_2_28_{named}" in command
    assert f"manylinux2014_{named}" in command


def fake_pip(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    def command(pinned: Sequence[str], python: str, folder: Path) -> list[str]:
        return [sys.executable, "-c", code, str(folder)]

    monkeypatch.setattr(build_context, "pip_command", command)


def test_what_names_this_machine_stays_out_of_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip(
        monkeypatch,
        "import pathlib, sys\n"
        "for name in ('redis/client.py', 'bin/typer', 'redis.dist-info/RECORD', 'redis.dist-info/METADATA'):\n"
        "    path = pathlib.Path(sys.argv[1], name)\n"
        "    path.parent.mkdir(exist_ok=True)\n"
        "    path.write_text(name)\n",
    )
    assert packages(["redis==8.1.0"], "3.13") == {
        "packages/redis/client.py": b"redis/client.py",
        "packages/redis.dist-info/METADATA": b"redis.dist-info/METADATA",
    }


COUNTS = "import pathlib, sys\npathlib.Path(sys.argv[1], 'x.py').write_text('x')\nopen({!r}, 'a').write('.')"


def test_packages_are_got_once_and_again_when_they_change(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    ask = build_context.pip_command

    def command(pinned: Sequence[str], python: str, folder: Path) -> list[str]:
        return [
            sys.executable,
            "-c",
            COUNTS.format(str(calls)),
            str(folder),
            *ask(pinned, python, folder)[-1:],
        ]

    monkeypatch.setattr(build_context, "pip_command", command)
    first = packages(["redis==8.1.0"], "3.13")
    assert packages(["redis==8.1.0"], "3.13") == first == {"packages/x.py": b"x"}
    assert calls.read_text() == "."
    packages(["redis==8.2.0"], "3.13")
    assert calls.read_text() == ".."
    (kept,) = cache.iterdir()
    kept.write_bytes(b"half a file")
    assert packages(["redis==8.2.0"], "3.13") == first


def test_a_cache_that_cannot_be_written_is_no_obstacle(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.parent.write_text("a file where the folder should be")
    fake_pip(monkeypatch, "import pathlib, sys\npathlib.Path(sys.argv[1], 'x.py').write_text('x')")
    assert packages(["redis==8.1.0"], "3.13") == {"packages/x.py": b"x"}


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("/usr/bin/python3: No module named pip", "this Python has no pip", "-m ensurepip"),
        ("ERROR: No matching distribution found", "pip cannot get the packages", "haops images build"),
    ],
)
def test_packages_that_cannot_be_had_are_told_in_pips_words(
    words: str, message: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_pip(monkeypatch, f"raise SystemExit({words!r})")
    with pytest.raises(EnvironmentTrouble, match=message) as caught:
        packages(["redis==8.1.0"], "3.13")
    assert caught.value.detail == words
    assert hint in (caught.value.hint or "")


def test_a_context_is_the_same_archive_each_time() -> None:
    content = {"b": b"2", "a": b"1"}
    first = pack(content).getvalue()
    assert first == pack(dict(reversed(content.items()))).getvalue()
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        assert [(m.name, m.mtime, m.mode) for m in tar] == [("a", 0, 0o644), ("b", 0, 0o644)]


# The container.


class FakeApi:
    """The engine's low-level API: one network a cluster, containers as they are created."""

    def __init__(self, clusters: Sequence[Cluster]) -> None:
        self.net = [
            {
                "Id": f"net-{c.name}",
                "Name": f"{c.project}_ring",
                "IPAM": {"Config": [{"Subnet": c.subnet}]},
                "Labels": labels.cluster_labels(c),
            }
            for c in clusters
        ]
        self.rows: list[dict[str, Any]] = []
        self.created: list[dict[str, Any]] = []
        self.host: list[dict[str, Any]] = []
        self.calls: list[tuple[Any, ...]] = []
        self.image = "sha256:1"

    def networks(self, *, filters: Mapping[str, Any]) -> list[dict[str, Any]]:
        wanted = [w.split("=", 1) for w in filters["label"]]
        return [n for n in self.net if all(n["Labels"][k] == v for k, v in wanted)]

    def containers(self, *, filters: Mapping[str, Any], **_: bool) -> list[dict[str, Any]]:
        if network := filters.get("network"):
            name = next(n["Name"] for n in self.net if n["Id"] == network)
            return [r for r in self.rows if name in r["NetworkSettings"]["Networks"]]
        wanted = {tuple(w.split("=", 1)) for w in filters["label"]}
        return [r for r in self.rows if wanted <= set(r["Labels"].items())]

    def inspect_image(self, ref: str) -> Mapping[str, Any]:
        return {"Id": self.image}

    def create_endpoint_config(self, *, ipv4_address: str) -> Mapping[str, Any]:
        return {"IPAMConfig": {"IPv4Address": ipv4_address}}

    def create_networking_config(self, endpoints: Mapping[str, Any]) -> Mapping[str, Any]:
        return endpoints

    def create_host_config(self, **options: Any) -> Mapping[str, Any]:
        self.host.append(options)
        return options

    def create_container(self, image: str, command: list[str], **options: Any) -> Mapping[str, Any]:
        self.created.append({"image": image, "command": command, **options})
        number = f"container-{len(self.created)}"
        self.rows.append(
            {
                "Id": number,
                "State": "created",
                "Labels": options["labels"],
                "NetworkSettings": {"Networks": dict(options["networking_config"])},
            }
        )
        return {"Id": number}

    def connect_container_to_network(self, made: str, network: str, *, ipv4_address: str) -> None:
        self.calls.append(("connect", made, network, ipv4_address))

    def disconnect_container_from_network(self, made: str, network: str, *, force: bool) -> None:
        self.calls.append(("disconnect", made, network, force))

    def start(self, made: str) -> None:
        self.calls.append(("start", made))
        next(r for r in self.rows if r["Id"] == made)["State"] = "running"

    def stop(self, made: str, *, timeout: int) -> None:
        self.calls.append(("stop", made))

    def remove_container(self, made: str, *, force: bool, v: bool) -> None:
        self.calls.append(("remove", made))
        self.rows = [r for r in self.rows if r["Id"] != made]


class FakeClient:
    def __init__(self, *clusters: Cluster) -> None:
        self.api = FakeApi(clusters)
        self.security: list[str] = []

    def info(self) -> Mapping[str, Any]:
        return {"SecurityOptions": self.security}


REDIS = make_cluster("redis", name="cache")
ENSEMBLE = replace(make_cluster("zookeeper", name="zk"), subnet="10.231.1.0/27")
COMPANION = Companion(
    node="guard",
    image="haops/guard:1",
    argv=("guard", "cache", "--block=60s"),
    environment={"HAOPS_STATE": "/state"},
    user="1000:1000",
    folder=Path("/var/lib/haops"),
    seen_as="/state",
)


def test_a_companion_has_next_to_no_rights_and_no_port() -> None:
    client = FakeClient(REDIS)
    assert beside.run(client, REDIS, COMPANION)
    (created,), (host,) = client.api.created, client.api.host
    assert created["command"] == ["guard", "cache", "--block=60s"]
    assert created["user"] == "1000:1000"
    assert host["read_only"] is True
    assert host["cap_drop"] == ["ALL"]
    assert host["security_opt"] == ["no-new-privileges:true"]
    assert host["mem_limit"] == host["memswap_limit"]
    assert host["log_config"]["Config"] == {"max-size": "20m", "max-file": "3"}
    assert host["restart_policy"] == {"Name": "unless-stopped"}
    (mount,) = host["mounts"]
    assert (mount["Source"], mount["Target"], mount["Type"]) == ("/var/lib/haops", "/state", "bind")
    assert not {"ports", "port_bindings", "privileged", "publish_all_ports"} & {*host, *created}
    assert created["environment"] == {"HAOPS_STATE": "/state"}


def test_a_companion_carries_the_clusters_labels() -> None:
    client = FakeClient(REDIS)
    beside.run(client, REDIS, COMPANION)
    made = client.api.created[0]["labels"]
    assert labels.cluster_labels(REDIS).items() <= made.items()
    assert made[labels.NODE] == "guard"
    assert not any(key.startswith("com.docker.compose") for key in made)


def test_a_companion_that_runs_by_the_same_description_stays() -> None:
    client = FakeClient(REDIS)
    assert beside.run(client, REDIS, COMPANION)
    assert not beside.run(client, REDIS, COMPANION)
    assert len(client.api.created) == 1


@pytest.mark.parametrize(
    "changed",
    [
        replace(COMPANION, argv=("guard", "cache", "--block=5s")),
        replace(COMPANION, user="0:0"),
        replace(COMPANION, environment={}),
        replace(COMPANION, joins=(ENSEMBLE,)),
    ],
)
def test_a_companion_of_another_description_is_replaced_gently(changed: Companion) -> None:
    client = FakeClient(REDIS, ENSEMBLE)
    beside.run(client, REDIS, COMPANION)
    assert beside.run(client, REDIS, changed)
    assert ("stop", "container-1") in client.api.calls
    assert [r["Id"] for r in client.api.rows] == ["container-2"]


def test_a_companion_of_an_older_image_or_that_does_not_run_is_replaced() -> None:
    client = FakeClient(REDIS)
    beside.run(client, REDIS, COMPANION)
    client.api.image = "sha256:2"
    assert beside.run(client, REDIS, COMPANION)
    client.api.rows[0]["State"] = "exited"
    assert beside.run(client, REDIS, COMPANION)
    assert [r["Id"] for r in client.api.rows] == ["container-3"]


def test_a_companion_joins_further_networks_at_addresses_that_nobody_has() -> None:
    client = FakeClient(REDIS, ENSEMBLE)
    other = {"IPAMConfig": {"IPv4Address": "10.231.1.30"}}
    client.api.rows.append(
        {"Id": "other", "Labels": {}, "NetworkSettings": {"Networks": {f"{ENSEMBLE.project}_ring": other}}}
    )
    beside.run(client, REDIS, replace(COMPANION, joins=(ENSEMBLE,)))
    own = client.api.created[0]["networking_config"][f"{REDIS.project}_ring"]
    assert own["IPAMConfig"]["IPv4Address"] == "10.231.0.30"
    assert client.api.calls == [
        ("connect", "container-1", "net-zk", "10.231.1.29"),
        ("start", "container-1"),
    ]


def test_a_companion_that_cannot_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient(REDIS)

    def start(made: str) -> None:
        raise OSError("no")

    monkeypatch.setattr(client.api, "start", start)
    with pytest.raises(OSError, match="no"):
        beside.run(client, REDIS, COMPANION)
    assert client.api.rows == []


def test_a_cluster_that_is_down_can_have_no_companion() -> None:
    with pytest.raises(BadInput, match="cache is not up"):
        beside.run(FakeClient(), REDIS, COMPANION)


def test_an_engine_of_the_users_own_maps_its_root_to_the_user() -> None:
    client = FakeClient(REDIS)
    client.security = ["name=seccomp,profile=default", "name=rootless"]
    beside.run(client, REDIS, COMPANION)
    assert client.api.created[0]["user"] == "0:0"


def test_addresses_run_from_the_end_and_run_out() -> None:
    assert beside.last_free("10.0.0.0/29", ["10.0.0.6", "10.0.0.4"]) == "10.0.0.5"
    with pytest.raises(BadInput, match=r"no address is free in 10\.0\.0\.0/30"):
        beside.last_free("10.0.0.0/30", ["10.0.0.1", "10.0.0.2"])


def test_a_network_is_released_by_everybody_on_it() -> None:
    client = FakeClient(REDIS, ENSEMBLE)
    beside.run(client, REDIS, COMPANION)
    beside.release(client, client.api.net[0])
    beside.release(client, client.api.net[1])
    assert client.api.calls[1:] == [("disconnect", "container-1", "net-cache", True)]

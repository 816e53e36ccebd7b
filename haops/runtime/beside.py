"""A container beside a cluster's nodes: on its network, without a published port, with next to no rights."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from haops.cluster.spec import Cluster
from haops.errors import BadInput
from haops.runtime import labels
from haops.runtime.port import Companion

# Says what a container was made from: one that runs by the same description is left alone.
_MADE_FROM: Final = "haops.made-from"

_MEMORY: Final = "128m"
_PROCESSES: Final = 64
_STOP_S: Final = 10
# As in compose/common.j2.
_LOG_OPTIONS: Final = {"max-size": "20m", "max-file": "3"}


def run(client: Any, cluster: Cluster, companion: Companion) -> bool:
    """Start a companion, or leave the one that runs by the same description; whether it was started now."""
    networks = [_network(client, c) for c in (cluster, *companion.joins)]
    image = client.api.inspect_image(companion.image)["Id"]
    made_from = fingerprint(companion, image, [n["Id"] for n in networks])
    if row := _present(client, cluster, companion.node):
        if row["State"] == "running" and row["Labels"].get(_MADE_FROM) == made_from:
            return False
        _end(client, row["Id"])
    _start(client, cluster, companion, networks, made_from)
    return True


def fingerprint(companion: Companion, image_id: str, network_ids: Sequence[str]) -> str:
    """A hash over everything that a companion's container is made from; pure."""
    parts = [
        image_id,
        *network_ids,
        companion.user,
        str(companion.folder),
        companion.seen_as,
        json.dumps([list(companion.argv), sorted(companion.environment.items())]),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _network(client: Any, cluster: Cluster) -> Mapping[str, Any]:
    wanted = {"label": [f"{labels.CLUSTER}={cluster.name}", f"{labels.OWNER}={cluster.owner}"]}
    for row in client.api.networks(filters=wanted):
        found: Mapping[str, Any] = row
        return found
    raise BadInput(f"{cluster.name} is not up: it has no network", hint=f"haops up {cluster.store}")


def _present(client: Any, cluster: Cluster, node: str) -> Mapping[str, Any] | None:
    pairs = ((labels.CLUSTER, cluster.name), (labels.OWNER, cluster.owner), (labels.NODE, node))
    wanted = {"label": [f"{key}={value}" for key, value in pairs]}
    rows: Sequence[Mapping[str, Any]] = client.api.containers(all=True, filters=wanted)
    return rows[0] if rows else None


def _end(client: Any, container: str) -> None:
    """Gently: it may be in the middle of something that it would like to finish."""
    import docker

    with contextlib.suppress(docker.errors.NotFound):
        client.api.stop(container, timeout=_STOP_S)
        client.api.remove_container(container, force=True, v=True)


def _start(
    client: Any,
    cluster: Cluster,
    companion: Companion,
    networks: Sequence[Mapping[str, Any]],
    made_from: str,
) -> None:
    api = client.api
    own, *others = networks
    addresses = {n["Name"]: _address(client, n) for n in networks}
    endpoints = {own["Name"]: api.create_endpoint_config(ipv4_address=addresses[own["Name"]])}
    made = api.create_container(
        companion.image,
        list(companion.argv),
        name=f"{cluster.project}-{companion.node}-1",  # as Compose would call it
        hostname=f"{socket.gethostname().partition('.')[0][:50]}-{companion.node}",
        user="0:0" if _rootless(client) else companion.user,
        environment=dict(companion.environment),
        labels={
            **labels.cluster_labels(cluster),
            labels.NODE: companion.node,
            _MADE_FROM: made_from,
        },
        networking_config=api.create_networking_config(endpoints),
        host_config=_host_config(api, companion, own["Name"]),
    )["Id"]
    try:
        for network in others:
            api.connect_container_to_network(made, network["Id"], ipv4_address=addresses[network["Name"]])
        api.start(made)
    except BaseException:
        api.remove_container(made, force=True, v=True)
        raise


def _rootless(client: Any) -> bool:
    """Whether the engine runs as the user: then its root is that user, and other numbers are strangers."""
    return "name=rootless" in (client.info().get("SecurityOptions") or ())


def _host_config(api: Any, companion: Companion, network: str) -> Any:
    from docker.types import LogConfig, Mount

    return api.create_host_config(
        network_mode=network,
        mounts=[Mount(companion.seen_as, str(companion.folder), type="bind")],
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        mem_limit=_MEMORY,
        memswap_limit=_MEMORY,
        pids_limit=_PROCESSES,
        log_config=LogConfig(type="json-file", config=dict(_LOG_OPTIONS)),
        # It has to be there when nobody looks: after a crash, or when the engine was restarted.
        restart_policy={"Name": "unless-stopped"},
    )


def _address(client: Any, network: Mapping[str, Any]) -> str:
    rows = client.api.containers(all=True, filters={"network": network["Id"]})
    used = []
    for row in rows:
        endpoint = row["NetworkSettings"]["Networks"].get(network["Name"]) or {}
        used += [endpoint.get("IPAddress"), (endpoint.get("IPAMConfig") or {}).get("IPv4Address")]
    return last_free(network["IPAM"]["Config"][0]["Subnet"], filter(None, used))


def last_free(subnet: str, used: Iterable[str]) -> str:
    """The highest address of a subnet that nobody has; pure.

    The engine would hand out the lowest free ones, among which are those of
    nodes that are stopped: such a node could not come back.
    """
    taken = set(used)
    for address in reversed(list(ipaddress.IPv4Network(subnet).hosts())):
        if str(address) not in taken:
            return str(address)
    raise BadInput(f"no address is free in {subnet}")


def release(client: Any, network: Mapping[str, Any]) -> None:
    """Disconnect whoever is still on a network, running or not: the engine removes none that is in use."""
    import docker

    for row in client.api.containers(all=True, filters={"network": network["Id"]}):
        with contextlib.suppress(docker.errors.APIError):
            client.api.disconnect_container_from_network(row["Id"], network["Id"], force=True)

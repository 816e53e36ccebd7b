"""Host ports and subnets that nobody uses yet."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

from haops.cluster.spec import LOOPBACK
from haops.errors import AddressTaken

Subnet = ipaddress.IPv4Network

# Private space that neither Docker's default pools (172.17-31/16, 192.168/16) nor most home and
# office routers hand out; one /27 holds nine servers, their Sentinels and the gateway.
# The others are for hosts with a route (a VPN's, say) over the first.
_POOLS = (Subnet("10.231.0.0/16"), Subnet("192.168.240.0/20"), Subnet("172.30.0.0/16"))
_PREFIX = 27


def port_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether `host:port` can be bound now."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def choose_ports(count: int, *, base: int | None, reserved: Iterable[int]) -> list[int]:
    """`count` free ports on loopback: from `base` on, or below the kernel's ephemeral range.

    Ports that clients' sockets draw from (32768 and above on Linux) are left
    alone: one of them could be in use just when a stopped node comes back.

    Raises:
        AddressTaken: A wished-for port is used, or there are not enough free ones.
    """
    taken = set(reserved)
    if base is not None:
        wished = list(range(base, base + count))
        for port in wished:
            if port in taken or not port_free(port):
                raise AddressTaken(f"port {port} on {LOOPBACK} is taken", hint="choose another --port")
        return wished
    found: list[int] = []
    for port in range(20000, 32768):
        if port not in taken and port_free(port):
            found.append(port)
            if len(found) == count:
                return found
    raise AddressTaken(f"there are no {count} free ports on {LOOPBACK}", hint="stop a cluster: haops ls")


def host_routes(table: Path = Path("/proc/net/route")) -> list[Subnet]:
    """Destinations of this host's IPv4 routes, without the default route; empty where unknown."""
    if not table.is_file():
        return []
    routes = []
    for line in table.read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        destination, mask = _little_endian(fields[1]), _little_endian(fields[7])
        if mask:
            routes.append(Subnet((destination, bin(mask).count("1")), strict=False))
    return routes


def _little_endian(word: str) -> int:
    return int.from_bytes(bytes.fromhex(word), "little")


def subnets(used: Iterable[str | Subnet]) -> Iterator[Subnet]:
    """Subnets of the pools that overlap nothing in `used`, in order."""
    busy = [Subnet(u, strict=False) for u in used if ":" not in str(u)]
    for pool in _POOLS:
        for candidate in pool.subnets(new_prefix=_PREFIX):
            if not any(candidate.overlaps(b) for b in busy):
                yield candidate

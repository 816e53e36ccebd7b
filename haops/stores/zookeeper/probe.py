"""`ruok` as a heartbeat; zxids and the digests of `hash` as a comparison of copies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from haops.cluster.spec import Cluster, Node
from haops.health.beat import Beat, Evidence
from haops.health.redundancy import CopyReading
from haops.parallel import ask_all
from haops.stores.base import Probe, SocketProbe, first_line
from haops.stores.zookeeper.connect import four_letter
from haops.stores.zookeeper.observe import NotServing, parse_zxid

_ANSWER_S: Final = 0.3
# `ruok` is the heartbeat; whether the server also serves need not be asked as often.
_SERVES_EVERY_S: Final = 1.0
_COUNTER: Final = 2**32 - 1


class ZooKeeperProbe:
    """`ruok` tells of the process; `srvr`, now and then, of whether it serves."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._alive = SocketProbe(node, b"ruok", None, lambda _: "")
        self._asked_s = float("-inf")
        self.says = ""

    def probe(self, patience_s: float) -> Beat:
        """Ask once; a server without a leader is alive."""
        beat = self._alive.probe(patience_s)
        left = patience_s - beat.round_trip_ns / 1e9
        if (
            beat.evidence is Evidence.ANSWERED
            and left > 0
            and time.monotonic() > self._asked_s + _SERVES_EVERY_S
        ):
            self._asked_s = time.monotonic()
            self.says = _against(self._node, left)
        return beat

    def close(self) -> None:
        """Nothing is kept: the server closes after each word."""
        self._alive.close()


def _against(node: Node, patience_s: float) -> str:
    try:
        parse_zxid(four_letter(node, "srvr", patience_s))
    except NotServing as error:
        return first_line(error)
    except OSError as error:
        return f"answers ruok, but not srvr: {first_line(error)}"
    return ""


def probe(node: Node) -> Probe:
    """`ruok`, and `srvr` once a second."""
    return ZooKeeperProbe(node)


def parse_hash(text: str) -> tuple[tuple[int, str], ...]:
    """(zxid, digest of the whole tree) in order, as `hash` lists every 128th; empty if it may not be asked."""
    found = []
    for line in text.splitlines():
        zxid, colon, digest = line.partition(":")
        try:
            found.append((int(zxid, 16), digest.strip()))
        except ValueError:
            if colon:
                continue
            return ()
    return tuple(sorted(found))


class ZooKeeperCopies:
    """zxids as they are, and each digest once: digests belong to zxids that are long past."""

    def __init__(self, cluster: Cluster) -> None:
        self._nodes = cluster.servers
        self._told: dict[str, int] = {}

    def read(self) -> tuple[CopyReading, ...]:
        """What each server says that serves."""
        readings = [r for each in ask_all(self._one, self._nodes) for r in each]
        return tuple(sorted(readings, key=lambda r: r.at_ns))

    def _one(self, node: Node) -> list[CopyReading]:
        try:
            zxid = parse_zxid(four_letter(node, "srvr", _ANSWER_S))
            history = parse_hash(four_letter(node, "hash", _ANSWER_S))
        except OSError:  # it is not there, or does not serve: the detectors' business
            return []
        told = self._told.get(node.name, -1)
        at = time.monotonic_ns()
        fresh = [CopyReading(node.name, at, z, digest) for z, digest in history if told < z <= zxid]
        if history:
            self._told[node.name] = max(told, history[-1][0])
        # A new epoch begins with a zxid that stands for no transaction: who lacks it lacks nothing.
        position = zxid if zxid & _COUNTER else None
        return [*fresh, CopyReading(node.name, at, position, None)]


@contextmanager
def copies(cluster: Cluster) -> Iterator[ZooKeeperCopies]:
    """A reader of all servers' copies."""
    yield ZooKeeperCopies(cluster)

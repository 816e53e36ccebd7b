"""kazoo as this project uses it, and the four-letter words that it cannot send to a chosen server."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence

from kazoo.client import KazooClient

from haops.cluster.spec import Node

# kazoo logs each connection that it loses; a drill loses them on purpose.
logging.getLogger("kazoo").setLevel(logging.CRITICAL)

# Reconnect at a steady 50 ms: kazoo's default grows to a minute, which would add to any outage.
_RECONNECT = {"max_tries": -1, "delay": 0.05, "backoff": 1, "max_jitter": 0.5, "max_delay": 0.2}


def connect(nodes: Sequence[Node], session_s: float = 4.0) -> KazooClient:
    """A client of the ensemble that tries `nodes` in their order; not started yet."""
    return KazooClient(
        hosts=",".join(f"{n.host}:{n.host_port}" for n in nodes),
        timeout=session_s,
        randomize_hosts=False,
        connection_retry=dict(_RECONNECT),
    )


def four_letter(node: Node, word: str, timeout_s: float) -> str:
    """One server's answer to a four-letter word.

    Raises:
        OSError: No answer within `timeout_s`.
    """
    with socket.create_connection((node.host, node.host_port), timeout=timeout_s) as link:
        link.sendall(word.encode("ascii"))
        chunks = []
        while chunk := link.recv(65536):
            chunks.append(chunk)
    return b"".join(chunks).decode("utf-8", errors="replace")

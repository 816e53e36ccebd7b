"""The reconfiguration by which a leader gives its role up; see `plan` for why it does.

Source: Leader.getDesignatedLeader and QuorumPeer.processReconfig of ZooKeeper 3.9.
"""

from __future__ import annotations

import contextlib
import re
from typing import Final

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss, KazooException, NoAuthError, SessionExpiredError
from kazoo.handlers.threading import KazooTimeoutError

from haops.cluster.spec import Cluster, Node
from haops.stores.base import first_line
from haops.stores.plan import StepFailed
from haops.stores.zookeeper.connect import connect
from haops.stores.zookeeper.topology import QUORUM_PORTS, superuser

_CONFIG: Final = "/zookeeper/config"
_ANSWER_S: Final = 5.0
_VERSION = re.compile(r"^version=([0-9a-f]+)$", re.MULTILINE)


def with_other_port(config: str, node: Node) -> str:
    """The line of `node` in the ensemble's configuration, with the other one of its two quorum ports.

    Raises:
        StepFailed: The configuration does not have the node.
    """
    line = re.search(rf"^(server\.{node.index}=[^:\n]+):(\d+)(:\d+:.*)$", config, re.MULTILINE)
    if not line:
        raise StepFailed(
            f"{node.name} does not stand in the ensemble's configuration",
            node=node.name,
            detail=config.strip() or None,
            hint="a cluster of an older haops cannot be reconfigured: haops down, then haops up",
        )
    first, second = QUORUM_PORTS
    port = second if int(line[2]) == first else first
    return f"{line[1]}:{port}{line[3]}"


class Superuser:
    """A session of one who may reconfigure, at the leader itself; opened before anything waits for it."""

    def __init__(self, cluster: Cluster, leader: Node) -> None:
        self._cluster = cluster
        self._leader = leader
        self._client: KazooClient | None = None

    def open(self) -> None:
        """Connect; an open session stays.

        Raises:
            StepFailed: The leader did not answer.
        """
        if self._client is not None:
            return
        client = connect([self._leader])
        try:
            client.start(timeout=_ANSWER_S)
            client.add_auth_async("digest", superuser(self._cluster)).get(timeout=_ANSWER_S)
        except (KazooException, KazooTimeoutError) as error:
            _end(client)
            raise self._failed(error) from error
        self._client = client

    def close(self) -> None:
        """End the session."""
        if self._client is not None:
            _end(self._client)
            self._client = None

    def hand_over(self) -> str:
        """Change the leader's quorum port, if nobody has changed the configuration in between.

        Raises:
            StepFailed: The servers refused.
        """
        self.open()
        client = self._client
        assert client is not None
        try:
            data, _ = client.get_async(_CONFIG).get(timeout=_ANSWER_S)
            config = data.decode()
            line = with_other_port(config, self._leader)
            version = _VERSION.search(config)
            request = client.reconfig_async(
                joining=line,
                leaving=None,
                new_members=None,
                from_config=int(version[1], 16) if version else -1,
            )
            request.get(timeout=_ANSWER_S)
        except (ConnectionLoss, SessionExpiredError):
            # The old leader closes its connections when it steps down: who leads then tells more.
            return "no answer; who leads will tell"
        except (KazooException, KazooTimeoutError) as error:
            raise self._failed(error) from error
        return f"{line.partition(';')[0]}"

    def _failed(self, error: Exception) -> StepFailed:
        hint = "reconfiguration must be allowed: a cluster of an older haops is made anew by down and up"
        return StepFailed(
            f"{self._leader.name} did not hand its role over",
            node=self._leader.name,
            detail=f"{type(error).__name__} {first_line(error)}",
            hint=hint if isinstance(error, (NoAuthError, KazooTimeoutError)) else None,
        )


def _end(client: KazooClient) -> None:
    with contextlib.suppress(KazooException, KazooTimeoutError):
        client.stop()
    client.close()

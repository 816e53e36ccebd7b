"""One look at a Redis replica set: INFO of the servers, the Sentinels' opinions, a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis.exceptions import RedisError

from haops.cluster.snapshot import Snapshot
from haops.cluster.spec import Cluster, Node, NodeKind
from haops.parallel import ask_all
from haops.runtime.port import Container
from haops.stores.base import ANSWER_S, not_running, unreachable
from haops.stores.redis.connect import connect_node
from haops.stores.redis.judge import HEARD_S, Report, Reports, SentinelReport, ServerReport, judge
from haops.stores.redis.topology import SERVICE

__all__ = ["Report", "Reports", "SentinelReport", "ServerReport", "ask", "gather", "judge", "observe"]


def parse_info(info: Mapping[str, Any], needs: int = 0) -> ServerReport:
    """INFO as redis-py parses it, and `min-replicas-to-write`."""
    version = str(info.get("redis_version", ""))
    if info["role"] == "master":
        copies = [v for k, v in info.items() if k.startswith("slave") and _online(v)]
        return ServerReport(
            is_primary=True,
            offset=int(info["master_repl_offset"]),
            version=version,
            replicas=len(copies),
            needs=needs,
            good=int(info.get("min_slaves_good_slaves", len(copies))),
            paused=str(info.get("paused_actions", "none")) != "none",
            pause_left_s=float(info.get("paused_timeout_milliseconds", 0)) / 1000,
            heard=tuple((str(v["ip"]), int(v["port"])) for v in copies if int(v["lag"]) <= HEARD_S),
        )
    return ServerReport(
        is_primary=False,
        offset=int(info.get("slave_repl_offset", 0)),
        version=version,
        upstream=(str(info["master_host"]), int(info["master_port"])),
        link_up=info.get("master_link_status") == "up",
        syncing=bool(info.get("master_sync_in_progress")),
        silent_s=float(max(info.get("master_last_io_seconds_ago", -1), 0)),
        priority=int(info.get("slave_priority", 100)),
    )


def _online(value: object) -> bool:
    return isinstance(value, dict) and value.get("state") == "online"


def parse_sentinel(state: Mapping[str, Any]) -> SentinelReport:
    """One entry of SENTINEL MASTERS as redis-py parses it."""
    flags = state["flags"]
    names = flags if isinstance(flags, (set, frozenset, list, tuple)) else str(flags).split(",")
    return SentinelReport(
        primary=(str(state["ip"]), int(state["port"])),
        flags=tuple(sorted(names)),
        replicas=int(state["num-slaves"]),
        sentinels=int(state["num-other-sentinels"]) + 1,
        quorum=int(state["quorum"]),
        epoch=int(state["config-epoch"]),
        down_after_ms=int(state.get("down-after-milliseconds", 0)),
    )


def ask(node: Node) -> ServerReport | SentinelReport:
    """One node's answer. Raises RedisError, OSError, or LookupError for a Sentinel without a primary."""
    client = connect_node(node, ANSWER_S)
    try:
        if node.kind is NodeKind.SENTINEL:
            states: dict[str, dict[str, Any]] = client.sentinel_masters()  # type: ignore[assignment]
            return parse_sentinel(states[SERVICE])
        asked = client.pipeline(transaction=False)  # one round trip
        for section in ("server", "replication", "clients"):
            asked.info(section)
        asked.config_get("min-replicas-to-write")
        *parts, setting = asked.execute(raise_on_error=False)
    finally:
        client.close()
    for part in parts:
        if isinstance(part, Exception):
            raise part
    info = {key: value for part in parts for key, value in part.items()}
    return parse_info(info, _needed_replicas(setting, info))


def _needed_replicas(setting: object, info: Mapping[str, Any]) -> int:
    """`min-replicas-to-write`; where CONFIG is not allowed, INFO tells at least whether it is set."""
    if isinstance(setting, Mapping) and "min-replicas-to-write" in setting:
        return int(setting["min-replicas-to-write"])
    return int("min_slaves_good_slaves" in info)


def gather(cluster: Cluster, containers: Mapping[str, Container]) -> Reports:
    """Every node's answer, or why there is none."""

    def one(node: Node) -> Report:
        try:
            return not_running(node, containers) or ask(node)
        except (RedisError, OSError, LookupError) as error:
            return unreachable(error)

    return dict(zip((n.name for n in cluster.nodes), ask_all(one, cluster.nodes), strict=True))


def observe(cluster: Cluster, containers: Mapping[str, Container]) -> Snapshot:
    """Ask every node once and judge."""
    return judge(cluster, gather(cluster, containers))

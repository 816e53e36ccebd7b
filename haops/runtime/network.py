"""Cutting a node off from its sisters, and joining it again.

A helper container enters the node's network namespace with NET_ADMIN and no
other right: the stores' own images need no tools, and the host's rules are not
touched. Clients, which come through the engine's proxy, still reach the node.
A node that is started anew has a namespace without the rules.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any, Final

from haops.cluster.spec import Cluster
from haops.errors import FaultRefused
from haops.runtime import labels
from haops.runtime.port import Moment

_CHAIN: Final = "HAOPS"
_PATIENCE_S: Final = 30
_JOIN: Final = f"""
for hook in INPUT OUTPUT; do
  while iptables -w -D "$hook" -j {_CHAIN} 2>/dev/null; do :; done
done
iptables -w -F {_CHAIN} 2>/dev/null
iptables -w -X {_CHAIN} 2>/dev/null
! iptables -w -S | grep -q {_CHAIN}
"""


def rules(peers: Sequence[str]) -> str:
    """What `iptables-restore` reads: nothing comes from and nothing goes to `peers` any more; pure."""
    drops = [f"-A {_CHAIN} {side} {peer} -j DROP" for peer in peers for side in ("-s", "-d")]
    hooks = [f"-I {hook} -j {_CHAIN}" for hook in ("INPUT", "OUTPUT")]
    return "\n".join(["*filter", f":{_CHAIN} - [0:0]", *drops, *hooks, "COMMIT", ""])


def cut(client: Any, cluster: Cluster, container: str, image: str, peers: Sequence[str]) -> Moment:
    """Drop all packets between a container and `peers`; returns when they are."""
    # The rules come into force at once, by one call; the clock is read around it.
    apply = f"iptables-restore --noflush <<'END'\n{rules(peers)}END"
    script = f"set -eu\ndate +%s%N\n{apply}\ndate +%s%N\n"
    sent_ns = time.monotonic_ns()
    said = _run(client, cluster, container, image, script)
    seen_ns = time.monotonic_ns()
    return _moment(said, sent_ns, seen_ns)


def join(client: Any, cluster: Cluster, container: str, image: str) -> None:
    """Take the rules away; where there are none, nothing happens."""
    _run(client, cluster, container, image, _JOIN)


def _moment(said: str, sent_ns: int, seen_ns: int) -> Moment:
    """The helper's own clock, if it is this machine's: its container takes a while to start and to end."""
    offset = time.time_ns() - time.monotonic_ns()
    try:
        before, after = (int(word) - offset for word in said.split())
    except ValueError:
        return Moment(sent_ns, seen_ns)
    if sent_ns <= before <= after <= seen_ns:
        return Moment(before, after)
    return Moment(sent_ns, seen_ns)


def _run(client: Any, cluster: Cluster, container: str, image: str, script: str) -> str:
    import docker

    api = client.api
    host = api.create_host_config(
        network_mode=f"container:{container}",
        cap_drop=["ALL"],
        cap_add=["NET_ADMIN", "NET_RAW"],
        security_opt=["no-new-privileges:true"],
    )
    made = api.create_container(
        image, ["sh", "-c", script], user="0:0", labels=labels.cluster_labels(cluster), host_config=host
    )["Id"]
    try:
        api.start(made)
        code = int(api.wait(made, timeout=_PATIENCE_S)["StatusCode"])
        said = str(api.logs(made, stdout=True, stderr=True).decode(errors="replace"))
    finally:
        with contextlib.suppress(docker.errors.NotFound):
            api.remove_container(made, force=True, v=True)
    if code:
        raise FaultRefused(
            "the node's packets cannot be filtered",
            detail=said.strip() or f"exit code {code}",
            hint="the kernel under the engine must have iptables (ip_tables or nf_tables)",
        )
    return said

"""A million keys of 64-byte values, made inside the server."""

from __future__ import annotations

from typing import Final

from haops.cluster.spec import Node
from haops.stores.redis.connect import connect_node

KEYS: Final = 1_000_000
VALUE: Final = 64
_SLICE: Final = 5000
# Hexadecimal digits without runs: what repeats itself, a server packs in its dumps (LZF).
_SCRIPT: Final = """
for i = tonumber(ARGV[1]), tonumber(ARGV[2]) - 1 do
  redis.call('SET', 'key:' .. i, redis.sha1hex(i) .. string.sub(redis.sha1hex(-i - 1), 1, 24))
end
"""


def fill(node: Node) -> None:
    """Empty the primary and fill it anew; returns when both replicas have everything."""
    with connect_node(node, 60) as client:
        client.flushall()
        script = client.register_script(_SCRIPT)
        for start in range(0, KEYS, _SLICE):
            script(args=[start, start + _SLICE])
            if start % (20 * _SLICE) == 0:
                client.wait(2, 10_000)
        assert client.wait(2, 30_000) == 2
        assert client.dbsize() == KEYS

"""Which way a half-done move of a Redis primary is ended, from what its servers say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from haops.stores.redis.move import Named, Way, inherits, named_by_sentinels, way
from haops.stores.redis.servers import ServerView, parse

from ...fakes import make_cluster


def server(**about: object) -> ServerView:
    base = ServerView(True, 1000, "aa", "00", -1, None, True, 1)
    return replace(base, **about)  # type: ignore[arg-type]


OLD = server()
PROMOTED = server(offset=1000, history="bb", second_history="aa", second_offset=1001)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (OLD, PROMOTED, True),
        (server(offset=999), PROMOTED, True),
        (server(offset=1001), PROMOTED, False),
        (server(history="cc"), PROMOTED, False),
        (OLD, server(offset=5000, history="bb", second_history="aa", second_offset=1001), True),
        (server(offset=1200), replace(PROMOTED, offset=5000), False),
        (OLD, server(), False),
    ],
    ids=["at the same byte", "ahead", "one byte behind", "another history", "went on", "both went on", "no past"],
)  # fmt: skip
def test_a_promoted_copy_inherits_what_the_old_one_had_when_it_left_their_common_history(
    old: ServerView, new: ServerView, expected: bool
) -> None:
    assert inherits(new, old) is expected


REPLICA = server(is_primary=False, upstream=("10.231.0.10", 6379))
WROTE = server(offset=2000)


@pytest.mark.parametrize(
    ("old", "new", "named", "expected"),
    [
        (OLD, REPLICA, Named.SOURCE, Way.BACK),
        (OLD, REPLICA, Named.NOBODY, Way.BACK),
        (OLD, None, Named.SOURCE, Way.BACK),
        (OLD, PROMOTED, Named.SOURCE, Way.FORWARD),
        (OLD, PROMOTED, Named.TARGET, Way.FORWARD),
        (OLD, PROMOTED, Named.NOBODY, Way.FORWARD),
        (WROTE, PROMOTED, Named.TARGET, Way.FORWARD),
        (WROTE, PROMOTED, Named.SOURCE, Way.BACK),
        (WROTE, PROMOTED, Named.NOBODY, Way.UNCLEAR),
        (None, PROMOTED, Named.SOURCE, Way.FORWARD),
        (REPLICA, PROMOTED, Named.SOURCE, Way.FORWARD),
        (None, None, Named.NOBODY, Way.BACK),
    ],
)
def test_a_half_done_move_goes_to_where_clients_writes_are(
    old: ServerView | None, new: ServerView | None, named: Named, expected: Way
) -> None:
    assert way(old, new, named) is expected


def test_the_sentinels_word_is_put_in_the_moves_own_terms() -> None:
    one, two = make_cluster().servers[:2]
    assert named_by_sentinels(None, one, two) is Named.NOBODY
    assert named_by_sentinels(one, one, two) is Named.SOURCE
    assert named_by_sentinels(two, one, two) is Named.TARGET


# ---- INFO replication


PRIMARY_INFO = """# Replication
role:master
connected_slaves:2
slave0:ip=10.231.0.11,port=6379,state=online,offset=1000,lag=0
slave1:ip=10.231.0.12,port=6379,state=wait_bgsave,offset=0,lag=0
master_failover_state:no-failover
master_replid:aa
master_replid2:00
master_repl_offset:1014
second_repl_offset:-1
repl_backlog_active:1
"""
REPLICA_INFO = """# Replication
role:slave
master_host:10.231.0.10
master_port:6379
master_link_status:down
slave_repl_offset:990
slave_priority:7
master_replid:aa
master_replid2:bb
master_repl_offset:1000
second_repl_offset:500
"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_info_of_a_primary_and_of_a_replica_is_read(end: str) -> None:
    assert parse(PRIMARY_INFO.replace("\n", end)) == ServerView(True, 1014, "aa", "00", -1, None, True, 1)
    assert parse(REPLICA_INFO.replace("\n", end)) == ServerView(
        False, 990, "aa", "bb", 500, ("10.231.0.10", 6379), False, 0, 7
    )

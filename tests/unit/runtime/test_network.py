from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from haops.runtime import network

addresses = st.lists(st.ip_addresses(v=4).map(str), min_size=1, max_size=9, unique=True)


@given(addresses)
def test_both_directions_of_every_sister_are_dropped_and_nobody_elses(peers: list[str]) -> None:
    lines = network.rules(peers).splitlines()
    drops = [line.split() for line in lines if line.endswith("-j DROP")]
    assert sorted((d[2], d[3]) for d in drops) == sorted((side, p) for p in peers for side in ("-s", "-d"))
    assert {line for line in lines if line.startswith("-I")} == {"-I INPUT -j HAOPS", "-I OUTPUT -j HAOPS"}
    assert (lines[0], lines[-1]) == ("*filter", "COMMIT")


def test_the_moment_is_the_helpers_own_where_its_clock_is_ours() -> None:
    offset = time.time_ns() - time.monotonic_ns()
    said = f"{2_000_000 + offset}\n{3_000_000 + offset}\n"
    moment = network._moment(said, 0, 10_000_000_000)
    assert abs(moment.sent_ns - 2_000_000) < 1_000_000
    assert abs(moment.seen_ns - 3_000_000) < 1_000_000


def test_a_helper_whose_clock_is_another_machines_is_not_believed() -> None:
    for said in ("5 6", "", "what?", "1 2 3"):
        moment = network._moment(said, 100, 200)
        assert (moment.sent_ns, moment.seen_ns) == (100, 200)

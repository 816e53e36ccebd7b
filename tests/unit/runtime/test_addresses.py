from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Network
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haops.errors import AddressTaken
from haops.runtime.addresses import choose_ports, host_routes, port_free, subnets

ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
eth0\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
tun0\t0102030A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0
"""


@pytest.fixture
def bound() -> Iterator[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_a_bound_port_is_not_free(bound: int) -> None:
    assert not port_free(bound)


def test_a_wished_port_that_somebody_holds_is_refused_by_its_number(bound: int) -> None:
    with pytest.raises(AddressTaken, match=f"port {bound} on 127.0.0.1 is taken") as caught:
        choose_ports(1, base=bound, reserved=())
    assert caught.value.exit_code == 3
    assert caught.value.hint == "choose another --port"


def test_a_wished_range_reaches_to_its_last_port(bound: int) -> None:
    with pytest.raises(AddressTaken, match=str(bound)):
        choose_ports(2, base=bound - 1, reserved=())


def test_a_wished_port_that_another_cluster_reserved_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haops.runtime.addresses.port_free", lambda port: True)
    with pytest.raises(AddressTaken, match="port 7001"):
        choose_ports(3, base=7000, reserved=[7001])
    assert choose_ports(3, base=7000, reserved=[7003]) == [7000, 7001, 7002]


@settings(max_examples=30)
@given(
    count=st.integers(1, 30),
    reserved=st.sets(st.integers(20000, 20060)),
    used=st.sets(st.integers(20000, 20060)),
)
def test_chosen_ports_are_free_unreserved_and_below_the_ephemeral_range(
    count: int, reserved: set[int], used: set[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("haops.runtime.addresses.port_free", lambda port: port not in used)
        ports = choose_ports(count, base=None, reserved=reserved)
    assert len(set(ports)) == count
    assert not set(ports) & (reserved | used)
    assert all(20000 <= port < 32768 for port in ports)


def test_a_machine_without_free_ports_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haops.runtime.addresses.port_free", lambda port: False)
    with pytest.raises(AddressTaken, match="no 3 free ports"):
        choose_ports(3, base=None, reserved=())


def test_routes_are_read_without_the_default_route(tmp_path: Path) -> None:
    table = tmp_path / "route"
    table.write_text(ROUTES)
    assert [str(r) for r in host_routes(table)] == ["172.17.0.0/16", "192.168.0.0/24", "10.3.2.1/32"]


def test_a_machine_without_a_route_table_has_no_known_routes(tmp_path: Path) -> None:
    assert host_routes(tmp_path / "missing") == []


networks = st.builds(
    lambda address, prefix: str(IPv4Network((address, prefix), strict=False)),
    st.integers(int(IPv4Network("10.231.0.0/16")[0]) - 2**16, int(IPv4Network("10.231.0.0/16")[-1]) + 2**16),
    st.integers(17, 32),
)


@given(st.lists(networks, max_size=20))
def test_an_offered_subnet_never_overlaps_a_used_one(used: list[str]) -> None:
    for offered in islice(subnets(used), 50):
        assert offered.is_private
        assert offered.num_addresses >= 9 + 3 + 10 + 2
        assert not any(offered.overlaps(IPv4Network(u)) for u in used)


def test_subnets_that_were_offered_one_after_the_other_do_not_overlap() -> None:
    used: list[str] = []
    for _ in range(20):
        used.append(str(next(subnets(used))))
    assert len({IPv4Network(u) for u in used}) == 20


def test_an_ipv6_network_does_not_matter() -> None:
    assert next(subnets(["fd00::/64"])) == next(subnets([]))


def test_a_route_over_the_first_pool_is_avoided() -> None:
    assert not next(subnets(["10.0.0.0/8"])).overlaps(IPv4Network("10.0.0.0/8"))


def test_used_up_pools_offer_nothing() -> None:
    assert list(subnets(["0.0.0.0/0"])) == []

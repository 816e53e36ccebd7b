from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.cluster.spec import StoreName
from haops.errors import BadInput
from haops.faults.catalogue import FaultKind
from haops.matrix.cells import CellKey
from haops.matrix.order import Visit, choose, visits

ALL = choose(list(StoreName), [], list(FaultKind))


def test_the_main_modes_of_a_store_are_taken_unasked() -> None:
    keys = choose([StoreName.REDIS], [], [FaultKind.NONE, FaultKind.KILL])
    assert list(dict.fromkeys(k.mode for k in keys)) == ["async", "wait-1", "wait-all", "waitaof"]
    assert len(keys) == 8


def test_a_mode_by_name_or_alias_is_for_every_store_that_has_it() -> None:
    keys = choose(list(StoreName), ["quorum", "sync"], [FaultKind.KILL])
    assert [(k.store.value, k.mode) for k in keys] == [
        ("zookeeper", "quorum"), ("zookeeper", "quorum-sync"), ("cassandra", "quorum"),
    ]  # fmt: skip


def test_a_mode_that_no_chosen_store_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadInput, match="unknown mode 'lwt'") as caught:
        choose([StoreName.REDIS], ["lwt"], [FaultKind.NONE])
    assert "redis: async, wait-1" in str(caught.value.hint)


def test_every_cell_is_visited_once_before_any_twice_and_undisturbed_ones_first() -> None:
    order = list(visits(ALL, 2, ()))
    first = order[: len(ALL)]
    assert {v.key for v in first} == set(ALL)
    assert {v.number for v in first} == {1}
    of_redis = [v.key.fault for v in first if v.key.store is StoreName.REDIS]
    assert of_redis == sorted(of_redis, key=list(FaultKind).index)


@given(st.sets(st.tuples(st.sampled_from(ALL), st.integers(1, 3))))
def test_what_is_done_is_not_done_again_and_nothing_is_left_out(done: set[tuple[CellKey, int]]) -> None:
    finished = {Visit(*pair) for pair in done}
    left = list(visits(ALL, 3, finished))
    assert len(left) == len(set(left))
    assert set(left) | finished == {Visit(k, n) for k in ALL for n in (1, 2, 3)}
    assert not set(left) & finished

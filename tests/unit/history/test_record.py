from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from haops.history.record import COLUMNS, NIL, TYPES, History, Kind, Outcome, Recorder, merge, read_back

from ...histories import Row, histories, history, op, rows_of

numbers = st.integers(-(2**63), 2**63 - 1)
rows = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(Kind),
        numbers,
        numbers,
        numbers,
        numbers,
        numbers,
        st.sampled_from(Outcome),
        st.sampled_from(["", "redis-1", "redis-2"]),
        st.sampled_from(["", "TimeoutError", "é"]),
    ),
    max_size=30,
)


@given(rows)
def test_every_recorded_operation_is_in_the_merged_history_in_order_of_completion(
    given_rows: list[Row],
) -> None:
    seen = history(*given_rows)
    assert len(seen) == len(given_rows)
    assert sorted(rows_of(seen)) == sorted(given_rows)
    assert all(seen.completed[1:] >= seen.completed[:-1])


def test_a_merge_of_nothing_is_an_empty_history_of_the_right_types() -> None:
    for seen in (merge([]), merge([Recorder(1).export()])):
        assert len(seen) == 0
        assert all(getattr(seen, name).dtype.char in (TYPES[name], "l") for name in COLUMNS)


def test_nodes_and_errors_of_several_clients_share_one_table() -> None:
    seen = history(
        op(1, client=0, outcome=Outcome.FAIL, error="A", node="n2"),
        op(2, client=1, outcome=Outcome.FAIL, error="B", node="n1"),
        op(3, client=1, outcome=Outcome.FAIL, error="A", node="n2"),
    )
    assert [seen.errors[e] for e in seen.error] == ["A", "B", "A"]
    assert [seen.nodes[n] for n in seen.node] == ["n2", "n1", "n2"]
    assert len(seen.errors) == len(seen.nodes) == 3


def test_operations_are_selected_by_kind_and_outcome() -> None:
    seen = history(
        op(1, key=1),
        op(2, key=2, kind=Kind.READ),
        op(3, key=3, outcome=Outcome.FAIL),
        op(4, key=4, outcome=Outcome.INFO),
        op(5, key=5, kind=Kind.READ, value=NIL),
    )
    assert seen.of(Kind.WRITE).key.tolist() == [1, 3, 4]
    assert seen.of(Kind.WRITE, Outcome.OK, Outcome.INFO).key.tolist() == [1, 4]
    assert seen.of(Kind.READ, Outcome.FAIL).key.tolist() == []
    assert seen.missed.key.tolist() == [5]
    assert seen.ok.key.tolist() == [1, 2, 5]


@given(histories(max_size=15), st.data())
def test_a_read_back_is_a_read_of_each_key_after_everything_else(seen: History, data: st.DataObject) -> None:
    keys = np.unique(seen.key)
    found = set(data.draw(st.sets(st.sampled_from(keys.tolist())))) if len(keys) else set()
    whole = read_back(seen, keys, found)
    assert rows_of(whole)[: len(seen)] == rows_of(seen)
    looked = whole.select(np.arange(len(whole)) >= len(seen))
    assert dict(zip(looked.key.tolist(), (looked.value != NIL).tolist(), strict=True)) == {
        key: key in found for key in keys.tolist()
    }
    assert (looked.sent > seen.completed.max(initial=0)).all()
    assert (looked.sent[1:] > looked.completed[:-1]).all()
    assert not set(looked.process.tolist()) & set(seen.process.tolist())

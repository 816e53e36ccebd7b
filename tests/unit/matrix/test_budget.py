from __future__ import annotations

from pathlib import Path

import pytest

from haops.cluster.spec import StoreName
from haops.drills.result import Latency
from haops.errors import BadInput
from haops.faults.catalogue import FaultKind
from haops.matrix.budget import check_keys, load, overruns, read
from haops.matrix.cells import Cell, CellKey, CellTrial, Consistency
from haops.stores.mode import Replication

from .trials import trial

KEY = CellKey(StoreName.REDIS, "async", FaultKind.KILL)


def cell(*trials: CellTrial, key: CellKey = KEY) -> Cell:
    return Cell(key, Replication.ASYNCHRONOUS, "promise", 3, trials)


def over(limit: str, *trials: CellTrial, pattern: str = "redis/async/kill") -> tuple[str, ...]:
    return overruns(read(f'cells: {{"{pattern}": {{{limit}}}}}', "b.yaml"), cell(*trials))


def test_what_is_within_the_budget_is_not_told() -> None:
    limits = (
        "write_outage: 3s, read_outage: 3s, lost: 0, stale: 0, write_p50: 1ms, write_p99: 1ms, "
        "write_availability: 0.6, linearizable: true, longest_stale: 1ms"
    )
    assert over(limits, trial(1), trial(2)) == ()


@pytest.mark.parametrize(
    ("limit", "one", "words"),
    [
        ("write_outage: 1s", trial(), "trial 1: writes were out for 2000 ms; the budget is 1000 ms"),
        ("read_outage: 1s", trial(), "trial 1: reads were out for 2000 ms; the budget is 1000 ms"),
        ("write_outage: 1s", trial(write_outage_ms=None), "trial 1: writes did not come back"),
        ("lost: 1", trial(lost=2), "2 acknowledged writes are lost; the budget is 1"),
        ("stale: 0", trial(stale=1), "1 reads were stale; the budget is 0"),
        ("longest_stale: 5ms", trial(longest_stale_ms=6.0), "trial 1: a read was stale for 6 ms; the budget is 5 ms"),
        ("write_p50: 1ms", trial(write=Latency(1, 1.5, 2, 3)), "write p50 is 1.5 ms; the budget is 1.0 ms"),
        ("write_p99: 1ms", trial(write=Latency(1, 0.5, 2, 3)), "write p99 is 2.0 ms; the budget is 1.0 ms"),
        ("write_availability: 0.9", trial(), "0.700 of the writes succeeded; the budget is 0.900"),
        ("linearizable: true", trial(consistency=Consistency.VIOLATED),
         "the registers' history cannot be ordered; the budget wants it linearizable"),
    ],
)  # fmt: skip
def test_what_is_beyond_the_budget_is_told_with_both_figures(limit: str, one: CellTrial, words: str) -> None:
    assert over(limit, one) == (words,)
    assert over(limit, one, pattern="*/async/*") == (words,)
    assert over(limit, one, pattern="zookeeper/*/*") == ()


def test_an_unknown_key_is_told_with_its_place_and_those_that_are_known(tmp_path: Path) -> None:
    path = tmp_path / "b.yaml"
    path.write_text('cells:\n  "redis/async/kill":\n    write_outtage: 5s\n')
    with pytest.raises(
        BadInput, match=r"b\.yaml:3:5: cells\.redis/async/kill\.write_outtage: unknown key"
    ) as caught:
        load(path)
    assert "write_outage" in str(caught.value.hint)


def test_a_file_that_is_missing_or_no_mapping_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        load(tmp_path / "none.yaml")
    with pytest.raises(BadInput, match="a budget is a mapping"):
        read("- 1", "b.yaml")
    with pytest.raises(BadInput, match=r"b\.yaml:1:31"):
        read('cells: {"redis/async/kill": {lost: -1}}'.replace("lost", " lost"), "b.yaml")


def test_an_entry_that_fits_no_cell_is_refused_for_it_would_never_fail() -> None:
    budget = read('cells: {"redis/asinc/kill": {lost: 0}}', "b.yaml")
    with pytest.raises(BadInput, match="'redis/asinc/kill' fits no cell"):
        check_keys(budget, (KEY,), "b.yaml")
    check_keys(read('cells: {"*/async/*": {lost: 0}}', "b.yaml"), (KEY,), "b.yaml")

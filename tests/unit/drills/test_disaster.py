from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from haops.drills.disaster_result import (
    DisasterBudget,
    Marks,
    Proof,
    Survival,
    judge,
    survival,
)
from haops.drills.result import DrillVerdict
from haops.history.record import History, Kind, Outcome
from haops.stores.base import FIRST_ELEMENT

from ...histories import MS, Row, history, op

NO_LIMIT = DisasterBudget()
EQUAL = Proof(100, 0)
# The drill's moments, ms: start, backup, backed up, struck, destroyed, stands, restored.
MARKS = Marks(*(at * MS for at in (0, 100, 150, 300, 310, 400, 500)))


def write(at_ms: float, key: int, outcome: Outcome = Outcome.OK) -> Row:
    return op(at_ms, took_ms=1, key=FIRST_ELEMENT + key, outcome=outcome)


def survived(found: set[int], *rows: Row) -> Survival:
    return survival(history(*rows), frozenset(FIRST_ELEMENT + key for key in found), MARKS)


@st.composite
def aftermaths(draw: st.DrawFn) -> tuple[History, frozenset[int], Survival]:
    """Any run of unique writes, and any part of them found afterwards."""
    rows = [
        write(draw(st.integers(0, 400)), key, draw(st.sampled_from(Outcome)))
        for key in range(draw(st.integers(0, 25)))
    ]
    keys = [FIRST_ELEMENT + key for key in range(len(rows))]
    found = draw(st.frozensets(st.sampled_from(keys))) if keys else frozenset()
    seen = history(*rows)
    return seen, found, survival(seen, found, MARKS)


def test_what_was_acknowledged_and_is_not_there_is_lost() -> None:
    told = survived({1, 3}, write(10, 1), write(200, 2), write(201, 3))
    assert (told.acked, told.acked_before, told.lost, told.lost_before) == (3, 1, 1, 0)
    assert told.lost_ids == (FIRST_ELEMENT + 2,)
    assert told.p_loss == pytest.approx(1 / 3)


def test_the_recovery_point_reaches_back_to_the_first_lost_acknowledgement() -> None:
    told = survived(set(), write(199, 1), write(250, 2))
    assert told.recovery_point_s == pytest.approx(0.1)  # acknowledged at 200 ms, struck at 300 ms


@pytest.mark.parametrize(
    ("row", "acked", "unknown"),
    [
        (write(299, 1), 0, 0),  # acknowledged at the disaster's own moment
        (write(350, 1), 0, 0),
        (write(298, 1), 1, 0),
        (write(50, 1, Outcome.INFO), 0, 1),
        (write(299, 1, Outcome.INFO), 0, 1),
        (write(301, 1, Outcome.INFO), 0, 0),  # the disaster's own doing
        (write(50, 1, Outcome.FAIL), 0, 0),
        (op(50, key=FIRST_ELEMENT - 1), 0, 0),  # a register, which is overwritten on purpose
        (op(50, kind=Kind.READ, key=FIRST_ELEMENT + 1), 0, 0),
    ],
)
def test_only_unique_writes_acknowledged_before_the_disaster_can_be_lost(
    row: Row, acked: int, unknown: int
) -> None:
    told = survived(set(), row)
    assert (told.acked, told.lost, told.unknown) == (acked, acked, unknown)


def test_only_what_was_acknowledged_before_the_backup_began_must_be_in_it() -> None:
    told = survived(set(), write(98, 1), write(99, 2), write(120, 3))  # the backup runs from 100 to 150 ms
    assert (told.acked_before, told.lost_before, told.lost) == (1, 1, 3)


def test_what_was_written_while_the_backup_was_made_or_shortly_before_counts_once_a_key() -> None:
    marks = replace(MARKS, backup=10_000 * MS, backed_up=10_100 * MS, struck=10_300 * MS)
    register = op(10_050, key=7)
    rows = (write(4_000, 1), write(5_500, 2), write(10_050, 3), write(10_200, 4), register, register)
    told = survival(history(*rows), frozenset(), marks)
    assert told.during == 3


def test_a_long_list_of_lost_writes_is_cut_but_counted() -> None:
    told = survived(set(), *(write(1 + i / 100, i) for i in range(1_200)))
    assert (told.lost, len(told.lost_ids)) == (1_200, 1_000)


@given(aftermaths())
def test_a_survival_adds_up(aftermath: tuple[History, frozenset[int], Survival]) -> None:
    seen, found, told = aftermath
    assert 0 <= told.lost_before <= told.lost <= told.acked <= len(seen)
    assert told.lost_before <= told.acked_before <= told.acked
    assert told.p_recovered + told.p_loss == pytest.approx(1)
    assert 0 <= told.p_recovered <= 1
    assert (told.recovery_point_s == 0) is (told.lost == 0)
    assert not set(told.lost_ids) & found
    assert (told.p_recovered == 1) is (told.lost == 0)


@given(aftermaths(), st.integers(0, 5))
def test_finding_more_never_loses_more(
    aftermath: tuple[History, frozenset[int], Survival], extra: int
) -> None:
    seen, found, told = aftermath
    more = survival(seen, found | set(told.lost_ids[:extra]), MARKS)
    assert more.lost == told.lost - min(extra, told.lost)
    assert more.recovery_point_s <= told.recovery_point_s


@given(aftermaths(), st.floats(0, 1e6), st.booleans())
def test_a_write_from_before_the_backup_that_is_missing_always_fails(
    aftermath: tuple[History, frozenset[int], Survival], took_s: float, equal: bool
) -> None:
    told = aftermath[2]
    assume(told.lost_before)
    verdict, reasons = judge(told, EQUAL if equal else Proof(9, 1), took_s, NO_LIMIT)
    assert verdict is DrillVerdict.FAIL
    assert reasons[0].startswith(f"{told.lost_before} writes are lost")


@given(
    aftermaths(),
    st.builds(Proof, st.integers(0, 9), st.integers(0, 3), st.just(()), st.sampled_from(("", "broken"))),
    st.floats(0, 100),
    st.builds(DisasterBudget, st.none() | st.floats(0, 100), st.none() | st.floats(0, 1)),
)
def test_a_pass_means_that_everything_was_shown(
    aftermath: tuple[History, frozenset[int], Survival], proof: Proof, took_s: float, budget: DisasterBudget
) -> None:
    told = aftermath[2]
    verdict, reasons = judge(told, proof, took_s, budget)
    assert (verdict is DrillVerdict.PASS) is (not reasons)
    if verdict is DrillVerdict.PASS:
        assert proof.records
        assert (proof.differences, proof.trouble, told.lost_before) == (0, "", 0)
        assert 0 < told.acked_before < told.acked
        assert budget.recovery_time_s is None or took_s <= budget.recovery_time_s
        assert budget.recovery_point_s is None or told.recovery_point_s <= budget.recovery_point_s


GOOD = replace(survived({1}, write(10, 1), write(200, 2)), during=3)


@pytest.mark.parametrize(
    ("told", "proof", "budget", "verdict", "reason"),
    [
        (GOOD, EQUAL, NO_LIMIT, DrillVerdict.PASS, ""),
        (GOOD, EQUAL, DisasterBudget(10.0, 0.099), DrillVerdict.PASS, ""),
        (GOOD, EQUAL, DisasterBudget(9.9, None), DrillVerdict.FAIL, "recovery took 10.0 s; the budget is 9.9 s"),
        (GOOD, EQUAL, DisasterBudget(None, 0.05), DrillVerdict.FAIL, "0.1 s of writes are lost; the budget is 0.05 s"),
        (GOOD, Proof(100, 2), NO_LIMIT, DrillVerdict.FAIL, "differs from the backup in 2 of 100 records"),
        # Nothing was shown: no pass.
        (GOOD, Proof(100, 0, (), "redis-1 broke off"), NO_LIMIT, DrillVerdict.UNKNOWN, "backup: redis-1"),
        (GOOD, Proof(0, 0), NO_LIMIT, DrillVerdict.UNKNOWN, "nothing in the backup"),
        (survived({1}, write(10, 1)), EQUAL, NO_LIMIT, DrillVerdict.UNKNOWN, "nothing after it"),
        (survived({2}, write(200, 2)), EQUAL, NO_LIMIT, DrillVerdict.UNKNOWN, "nothing was acknowledged before"),
        (survived(set()), EQUAL, NO_LIMIT, DrillVerdict.UNKNOWN, "nothing was acknowledged before"),
        (GOOD, Proof(100, 0, copies=3), NO_LIMIT, DrillVerdict.PASS, ""),
        (GOOD, Proof(100, 0, copies=4), NO_LIMIT, DrillVerdict.FAIL, "4 records are not the same in all copies"),
        (GOOD, Proof(100, 0, untold=3), NO_LIMIT, DrillVerdict.PASS, ""),
        (GOOD, Proof(100, 0, untold=4), NO_LIMIT, DrillVerdict.UNKNOWN, "though only 3 were written while"),
        # What is known outweighs what is not.
        (GOOD, Proof(100, 2, (), "broke off"), NO_LIMIT, DrillVerdict.FAIL, "in 2 of 100 records"),
    ],
)  # fmt: skip
def test_the_verdict_and_its_reason(
    told: Survival, proof: Proof, budget: DisasterBudget, verdict: DrillVerdict, reason: str
) -> None:
    found, reasons = judge(told, proof, 10.0, budget)
    assert found is verdict
    assert reason in "; ".join(reasons)

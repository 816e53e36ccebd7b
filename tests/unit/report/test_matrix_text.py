from __future__ import annotations

from dataclasses import replace

import pytest

from haops.cluster.spec import StoreName
from haops.faults.catalogue import FaultKind
from haops.matrix.cells import Cell, CellKey, Recovery
from haops.matrix.diff import Change, Judgement, Scale, diff
from haops.matrix.model import predict
from haops.report import matrix_text
from haops.report.matrix_findings import findings

from . import matrix_fixture

KEY = CellKey(StoreName.REDIS, "async", FaultKind.KILL)


def cell(mode: str, fault: FaultKind, trials: int = 3) -> Cell:
    return next(c for c in matrix_fixture.cells(trials) if (c.key.mode, c.key.fault) == (mode, fault))


def column(of: Cell, name: str) -> str:
    made = replace(matrix_fixture.bare(), cells=(of,))
    return dict(zip(matrix_text.COLUMNS, matrix_text.rows(made)[0], strict=True))[name]


def never(of: Cell, *numbers: int) -> Cell:
    trials = (replace(t, write_recovery=Recovery(None)) if t.number in numbers else t for t in of.trials)
    return replace(of, trials=tuple(trials))


def test_every_row_fills_every_column() -> None:
    for matrix in (matrix_fixture.matrix(), matrix_fixture.hostile()):
        assert {len(row) for row in matrix_text.rows(matrix)} == {len(matrix_text.COLUMNS)}
    assert matrix_text.rows(matrix_fixture.bare()) == ()


def test_a_skipped_cell_says_why_and_has_no_figures() -> None:
    row = matrix_text.rows(matrix_fixture.matrix())[-1]
    assert "skipped: it has one data centre, and the mode needs two" in row
    assert [word for word in row[5:] if word] == ["skipped: it has one data centre, and the mode needs two"]


def test_losses_are_counted_over_all_trials() -> None:
    of = cell("async", FaultKind.PARTITION)
    lost, acked = (sum(getattr(t, name) for t in of.trials) for name in ("lost", "acked"))
    assert column(of, "LOST") == f"{lost}/{acked:,}"


def test_writes_that_never_came_back_are_said_so() -> None:
    of = cell("async", FaultKind.KILL)
    assert column(never(of, 1, 2, 3), "RTO W") == "never (in 3 of 3)"
    assert column(never(of, 2), "RTO W").endswith(", never in 1 of 3")
    assert "never" not in column(of, "RTO W")


def test_undisturbed_cells_have_no_rto_and_broken_ones_no_throughput() -> None:
    quiet, broken = cell("async", FaultKind.NONE), cell("async", FaultKind.KILL)
    assert (column(quiet, "RTO W"), column(quiet, "RTO R")) == ("\u2013", "\u2013")
    assert column(quiet, "OPS/S") != "\u2013"
    assert column(broken, "OPS/S") == "\u2013"


def test_times_in_doubt_are_left_out_and_counts_are_not() -> None:
    of = cell("async", FaultKind.PARTITION)
    slow = replace(of.trials[0], trouble="late", write_recovery=Recovery(99_000.0))
    doubtful = replace(of, trials=(slow, *of.trials[1:]))
    assert column(doubtful, "TRIALS") == "3 (1 in doubt)"
    assert "1 min" not in column(doubtful, "RTO W")
    assert column(doubtful, "LOST") == column(of, "LOST")


def test_parts_that_nobody_told_are_dashes() -> None:
    assert column(cell("quorum", FaultKind.KILL), matrix_text.COLUMNS[8]).count("+") == 4
    of = cell("one", FaultKind.KILL)
    assert column(of, matrix_text.COLUMNS[8]).startswith("\u2013 + \u2013 + \u2013 + \u2013 + ")


def test_a_violation_stands_before_what_was_in_order() -> None:
    of = cell("async", FaultKind.PARTITION)
    fine = replace(of.trials[0], consistency=cell("async", FaultKind.NONE).trials[0].consistency)
    mixed = replace(of, trials=(fine, *of.trials[1:]))
    assert column(mixed, "CONSISTENCY") == "2 of 3 violated, 1 of 3 linearizable"


def test_footnotes_warn_of_few_trials_and_of_none_lost() -> None:
    few = " ".join(matrix_text.footnotes(matrix_fixture.matrix(2)))
    enough = " ".join(matrix_text.footnotes(matrix_fixture.matrix(3)))
    assert "fewer than 3 trials" in few
    assert "fewer than 3 trials" not in enough
    assert "still allows" in enough


@pytest.mark.parametrize(
    ("share", "words"), [(None, "\u2013"), (0.0, "0%"), (1.0, "100%"), (0.99999, "99.9%"), (0.00001, "0.1%")]
)
def test_all_and_nothing_are_said_of_nothing_else(share: float | None, words: str) -> None:
    assert matrix_text.percent(share) == words


def test_findings_name_loss_staleness_and_outages() -> None:
    said = findings(matrix_fixture.matrix())
    assert 3 <= len(said) <= 6
    everything = " ".join(said)
    assert (
        "Redis async lost 333 of 4,154 acknowledged writes under partition; wait-1 and wait-all lost none"
        in everything
    )
    assert "ZooKeeper and Cassandra lost none of" in everything
    assert "quorum-sync missed none" in everything
    assert "Cassandra all (in 9 of 9 trials under kill, pause and partition)" in everything
    assert "took writes for the least of the time" in everything
    assert "the times of 6 trials are in doubt" in everything


def test_findings_of_nothing_claim_nothing() -> None:
    assert findings(matrix_fixture.bare()) == ("No cell has a finished trial yet.",)


def change(judgement: Judgement, **fields: object) -> Change:
    known = Change(
        KEY, "write RTO", "ms", Scale.RATIO, 1_000.0, 1_500.0, 1.2, 1.7, (5, 5), judgement, "because"
    )
    return replace(known, **fields)  # type: ignore[arg-type]


def test_what_became_worse_comes_first_and_what_did_not_change_is_left_out() -> None:
    changes = [change(j) for j in (Judgement.NO_CHANGE, Judgement.IMPROVEMENT, Judgement.REGRESSION)]
    assert [row[7] for row in matrix_text.diff_rows(changes)] == ["regression", "improvement"]
    assert len(matrix_text.diff_rows(changes, everything=True)) == 3
    assert matrix_text.diff_summary(changes).startswith("3 figures: 1 regression, 1 improvement")


def test_changes_are_shown_with_sign_and_interval() -> None:
    row = matrix_text.diff_rows([change(Judgement.REGRESSION)])[0]
    assert row[2:7] == ("1.00 s", "1.50 s", "+50%", "+20% to +70%", "5, 5")
    share = change(
        Judgement.REGRESSION, unit="share", scale=Scale.DIFFERENCE, a=0.0, b=0.08, low=0.07, high=0.09
    )
    assert matrix_text.diff_rows([share])[0][2:6] == ("0%", "8.00%", "+8.00 pp", "+7.00 pp to +9.00 pp")
    gone = change(Judgement.REGRESSION, b=None, high=float("inf"))
    assert matrix_text.diff_rows([gone])[0][3:6] == ("never", "\u2013", "+20% to never")


def test_rows_fill_the_columns_of_diff_and_model() -> None:
    made = matrix_fixture.matrix()
    assert {len(r) for r in matrix_text.diff_rows(diff(made, made))} == {len(matrix_text.DIFF_COLUMNS)}
    assert {len(r) for r in matrix_text.model_rows(predict(made).predictions)} == {
        len(matrix_text.MODEL_COLUMNS)
    }
    assert all(
        "cassandra" in words or "zookeeper" in words
        for words in matrix_text.left_out_lines(predict(made).left_out)
    )

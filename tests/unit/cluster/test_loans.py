from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from haops.cluster.loans import Loan, Loans

DELAY = Loan("redis-1", "repl-diskless-sync-delay", "5")


def test_a_loan_is_on_the_disk_until_it_is_given_back(tmp_path: Path) -> None:
    Loans(tmp_path).take(DELAY)
    assert Loans(tmp_path).open() == (DELAY,)
    Loans(tmp_path).strike(DELAY)
    assert Loans(tmp_path).open() == ()
    assert list(tmp_path.iterdir()) == []


def test_what_was_borrowed_first_is_what_goes_back(tmp_path: Path) -> None:
    loans = Loans(tmp_path)
    loans.take(DELAY)
    loans.take(Loan("redis-1", "repl-diskless-sync-delay", "0"))  # read from the server while it was borrowed
    assert loans.open() == (DELAY,)


def test_a_line_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    loans = Loans(tmp_path)
    loans.take(DELAY)
    with (tmp_path / "loans.jsonl").open("a") as file:
        file.write('{"node": "redis-2", "sett\n{"else": 1}\n')
    assert loans.open() == (DELAY,)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    acts=st.lists(
        st.tuples(st.booleans(), st.sampled_from("abc"), st.sampled_from("xy"), st.text(max_size=3))
    )
)
def test_loans_are_a_dictionary_on_disk(tmp_path: Path, acts: list[tuple[bool, str, str, str]]) -> None:
    (tmp_path / "loans.jsonl").unlink(missing_ok=True)
    loans, model = Loans(tmp_path), dict[tuple[str, str], str]()
    for taken, node, setting, was in acts:
        if taken:
            loans.take(Loan(node, setting, was))
            model.setdefault((node, setting), was)
        else:
            loans.strike(Loan(node, setting, was))
            model.pop((node, setting), None)
    assert {(k.node, k.setting): k.was for k in loans.open()} == model

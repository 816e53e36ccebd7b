from __future__ import annotations

import threading

import pytest

from haops.parallel import ask_all


def test_all_are_asked_at_once_and_answer_in_their_order() -> None:
    together = threading.Barrier(5, timeout=5)

    def ask(number: int) -> int:
        together.wait()
        return number * 10

    assert ask_all(ask, range(5)) == [0, 10, 20, 30, 40]
    assert ask_all(ask, []) == []


def test_an_error_of_one_question_reaches_the_asker() -> None:
    def ask(number: int) -> int:
        raise LookupError(str(number))

    with pytest.raises(LookupError):
        ask_all(ask, [1])

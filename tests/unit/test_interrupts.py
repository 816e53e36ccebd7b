from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from haops.interrupts import uninterrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def heard() -> Iterator[list[int]]:
    """What reaches the handlers that stand outside the section."""
    found: list[int] = []
    before = {number: signal.signal(number, lambda n, _: found.append(n)) for number in SIGNALS}
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_inside_is_held_back_until_the_section_ends(heard: list[int], number: int) -> None:
    with uninterrupted():
        signal.raise_signal(number)
        assert heard == []
    assert heard == [number]


def test_of_several_signals_the_last_one_is_let_through(heard: list[int]) -> None:
    with uninterrupted():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert heard == [signal.SIGTERM]


def test_without_a_signal_nothing_happens_and_the_handlers_are_back(heard: list[int]) -> None:
    with uninterrupted():
        pass
    assert heard == []
    signal.raise_signal(signal.SIGINT)
    assert heard == [signal.SIGINT]


def test_ctrl_c_inside_a_section_that_fails_still_arrives() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt) as caught, uninterrupted():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("x")
    assert isinstance(caught.value.__context__, ValueError)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_sections_inside_each_other_let_the_signal_through_at_the_outer_end(heard: list[int]) -> None:
    with uninterrupted():
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
        assert heard == []
    assert heard == [signal.SIGINT]


def test_in_another_thread_it_does_nothing(heard: list[int]) -> None:
    handlers: list[object] = []

    def section() -> None:
        with uninterrupted():
            handlers.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=section)
    thread.start()
    thread.join()
    assert handlers == [before]

from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.errors import BadInput
from haops.timing import parse_duration

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))


def written(ms: int) -> str:
    parts = []
    for unit, size in _UNITS:
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


@given(st.integers(min_value=1, max_value=10 * 365 * 86_400_000))
def test_a_written_duration_is_read_back_to_the_millisecond(ms: int) -> None:
    assert parse_duration(written(ms)) == timedelta(milliseconds=ms)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("300ms", 300),
        ("5s", 5000),
        ("2m", 120_000),
        ("1h30m", 5_400_000),
        ("2d", 172_800_000),
        ("0.5s", 500),
        (" 1h 30m ", 5_400_000),
        ("5S", 5000),
        ("1m500ms", 60_500),
    ],
)
def test_forms_that_people_write_are_accepted(text: str, ms: int) -> None:
    assert parse_duration(text) == timedelta(milliseconds=ms)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "5",
        "s",
        "-5s",
        "5 parsecs",
        "5sx",
        "x5s",
        "0s",
        "0ms0s",
        "1e3s",
        "5,5s",
        ".5s",
        "5.s",
        "inf",
        "nan",
    ],
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_duration(text)
    assert repr(text) in caught.value.message
    assert "300ms" in str(caught.value.hint)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["9" * 30 + "d", "9" * 400 + "s", "999999999999d"])
def test_a_duration_beyond_all_time_is_refused_not_a_crash(text: str) -> None:
    with pytest.raises(BadInput):
        parse_duration(text)


def test_a_duration_that_rounds_to_nothing_is_refused() -> None:
    with pytest.raises(BadInput):
        parse_duration("0.0001ms")


@given(st.text(max_size=12))
def test_any_text_is_either_a_positive_duration_or_bad_input(text: str) -> None:
    with contextlib.suppress(BadInput):
        assert parse_duration(text) >= timedelta(0)

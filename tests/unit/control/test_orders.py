from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.control.orders import OrderFile, Orders, Window, parse_window
from haops.errors import BadInput, StateDamaged

SUNDAY_3 = datetime(2025, 6, 1, 3, 0, tzinfo=UTC)  # 2025-06-01 is a Sunday


def test_without_orders_a_guard_may_act(tmp_path: Path) -> None:
    assert OrderFile(tmp_path).read().against(SUNDAY_3) is None


def test_a_pause_holds_until_resume(tmp_path: Path) -> None:
    orders = OrderFile(tmp_path)
    orders.pause(None)
    assert OrderFile(tmp_path).read().against(SUNDAY_3) == "paused"
    orders.resume()
    assert OrderFile(tmp_path).read().against(SUNDAY_3) is None


def test_a_pause_with_an_end_ends_by_itself() -> None:
    orders = Orders(paused=True, until=SUNDAY_3)
    assert "paused until" in (orders.against(SUNDAY_3 - timedelta(seconds=1)) or "")
    assert orders.against(SUNDAY_3) is None


def test_windows_and_pauses_are_kept_apart(tmp_path: Path) -> None:
    orders = OrderFile(tmp_path)
    orders.windows((parse_window("Sun 02:00-04:00"),))
    orders.pause(None)
    orders.resume()
    assert "maintenance window Sun 02:00-04:00" in (orders.read().against(SUNDAY_3) or "")
    assert orders.read().against(SUNDAY_3 + timedelta(days=1)) is None


def test_a_window_may_pass_midnight() -> None:
    window = parse_window("Sat 23:00-04:00")
    assert window.covers(SUNDAY_3)
    assert not window.covers(SUNDAY_3 + timedelta(days=1))
    assert not window.covers(SUNDAY_3 + timedelta(hours=1))


@given(begin=st.times(), end=st.times(), day=st.none() | st.integers(0, 6))
def test_what_a_window_prints_reads_back(begin: time, end: time, day: int | None) -> None:
    window = Window(begin.replace(second=0, microsecond=0), end.replace(second=0, microsecond=0), day)
    if window.begin != window.end:
        assert parse_window(str(window)) == window


@given(begin=st.times(), end=st.times(), moment=st.datetimes(timezones=st.just(UTC)))
def test_a_daily_window_and_its_complement_cover_every_moment_once(
    begin: time, end: time, moment: datetime
) -> None:
    if begin != end:
        assert Window(begin, end).covers(moment) != Window(end, begin).covers(moment)


@pytest.mark.parametrize("text", ["", "2-4", "25:00-26:00", "Xyz 02:00-04:00", "02:00-02:00", "02:00"])
def test_what_is_no_window_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadInput, match="window") as caught:
        parse_window(text)
    assert "Sun 02:00-04:00" in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["{", "[]", '{"paused": true}', '{"paused":1,"until":"x","windows":[]}'])
def test_a_damaged_order_file_is_told_with_its_place(tmp_path: Path, text: str) -> None:
    (tmp_path / "guard.json").write_text(text)
    with pytest.raises(StateDamaged, match=r"guard\.json:\d+:\d+"):
        OrderFile(tmp_path).read()

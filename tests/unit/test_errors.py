from __future__ import annotations

import pytest

from haops import errors
from haops.errors import HaopsError


def test_an_error_tells_node_message_words_and_hint_in_this_order() -> None:
    error = HaopsError("it broke", node="redis-1", detail="OOM\nkilled", hint="buy memory")
    assert str(error) == "redis-1: it broke\nOOM\nkilled\nhint: buy memory"


def test_an_error_without_extras_is_its_message_alone() -> None:
    assert str(HaopsError("it broke")) == "it broke"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.HaopsError, 1),
        (errors.BadInput, 2),
        (errors.EnvironmentTrouble, 3),
        (errors.EngineUnavailable, 3),
        (errors.ImageUnavailable, 3),
        (errors.StateDamaged, 3),
        (errors.AddressTaken, 3),
        (errors.SubnetTaken, 3),
        (errors.ClusterUnhealthy, 5),
        (errors.DeadlineExceeded, 5),
        (errors.Interrupted, 130),
    ],
)
def test_each_error_ends_with_its_documented_exit_code(kind: type[HaopsError], code: int) -> None:
    assert kind("x").exit_code == code

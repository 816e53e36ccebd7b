"""The view of others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.health.beat import Opinion
from haops.health.corroborate import Reach, Standing, Witness, conclude

DEAD = Opinion(suspects=True, level=1.0, why="2 probes in a row refused (threshold 2)")
FINE = Opinion(suspects=False, level=0.0, why="the last probe was answered")
LOST, REACHED, MUTE = Reach.LOST, Reach.REACHED, Reach.CANNOT_SAY
NEED = {"sentinel": 2}


def party(replicas: list[Reach], sentinels: list[Reach] | None = None) -> list[Witness]:
    said = [Witness(f"redis-{i}", "replica", r, "its link is down") for i, r in enumerate(replicas, 2)]
    return [*said, *(Witness(f"sentinel-{i}", "sentinel", r, "") for i, r in enumerate(sentinels or [], 1))]


def test_what_all_have_lost_is_down_and_everybody_is_named() -> None:
    conclusion = conclude(DEAD, party([LOST, LOST], [LOST, LOST, MUTE]), majorities=NEED)
    assert conclusion.state is Standing.DOWN
    assert "redis-2 (replica) lost it: its link is down" in conclusion.why
    assert "2 probes in a row refused" in conclusion.why


@pytest.mark.parametrize(
    ("witnesses", "majorities"),
    [
        (party([LOST, LOST], [LOST, MUTE, MUTE]), NEED),
        (party([LOST, LOST]), NEED),
        (party([MUTE, MUTE]), {}),
        (party([MUTE], [MUTE, MUTE]), NEED),
        ([], {}),
        ([], NEED),
    ],
)
def test_too_little_evidence_is_suspect(witnesses: list[Witness], majorities: dict[str, int]) -> None:
    assert conclude(DEAD, witnesses, majorities=majorities).state is Standing.SUSPECT


def test_replicas_that_cannot_say_leave_it_to_the_majority() -> None:
    assert conclude(DEAD, party([MUTE, MUTE], [LOST, LOST]), majorities=NEED).state is Standing.DOWN


def test_one_replica_that_can_say_is_enough_where_the_others_cannot() -> None:
    assert conclude(DEAD, party([LOST, MUTE]), majorities={}).state is Standing.DOWN


def test_a_missing_majority_is_counted_in_words() -> None:
    conclusion = conclude(DEAD, party([LOST], [LOST, MUTE, MUTE]), majorities=NEED)
    assert "1 of the 2 needed sentinels have lost it" in conclusion.why
    assert "sentinel-2 (sentinel) cannot say" in conclusion.why


def test_a_node_that_a_replica_still_reaches_is_partitioned_and_the_words_say_who() -> None:
    conclusion = conclude(DEAD, party([REACHED, LOST], [LOST, LOST]), majorities=NEED)
    assert conclusion.state is Standing.PARTITIONED
    assert "redis-2 (replica) reaches it" in conclusion.why and "redis-3 (replica) lost it" in conclusion.why


def test_a_node_that_only_the_observer_reaches_is_partitioned() -> None:
    conclusion = conclude(FINE, party([LOST]), majorities={})
    assert conclusion.state is Standing.PARTITIONED
    assert conclusion.why.startswith("reached from here; redis-2 (replica) lost it")


def test_a_node_that_answers_is_alive_though_others_are_silent() -> None:
    conclusion = conclude(FINE, party([MUTE, MUTE], [MUTE]), majorities=NEED)
    assert (conclusion.state, conclusion.why) == (Standing.ALIVE, FINE.why)


@given(
    st.lists(st.sampled_from(list(Reach)), max_size=5),
    st.lists(st.sampled_from(list(Reach)), max_size=5),
    st.integers(0, 3),
    st.booleans(),
)
def test_down_needs_suspicion_a_majority_and_nobody_who_reaches_it(
    replicas: list[Reach], sentinels: list[Reach], need: int, suspects: bool
) -> None:
    witnesses = party(replicas, sentinels)
    conclusion = conclude(DEAD if suspects else FINE, witnesses, majorities={"sentinel": need})
    reaches = [w.reach for w in witnesses]
    assert conclusion.why
    if conclusion.state is Standing.DOWN:
        assert suspects and REACHED not in reaches and LOST in reaches
        assert sentinels.count(LOST) >= need
    if REACHED in reaches and (suspects or LOST in reaches):
        assert conclusion.state is Standing.PARTITIONED

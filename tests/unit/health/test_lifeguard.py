"""Lifeguard: an observer that is late itself holds its suspicion back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from haops.health.beat import Beat, Evidence
from haops.health.heartbeat import Heartbeat
from haops.health.lifeguard import Lifeguard, LifeguardSettings
from haops.health.timeout import FixedTimeout

from .traces import MS, S, answered, refused, regular, silent


def test_a_punctual_observer_says_what_the_wrapped_detector_says() -> None:
    plain, guarded = Heartbeat(), Lifeguard(Heartbeat())
    for beat in (answered(S), refused(2 * S), refused(3 * S)):
        plain.feed(beat)
        guarded.feed(beat)
        guarded.late(beat.known_ns, 5 * MS)
    assert guarded.opinion(4 * S) == plain.opinion(4 * S)
    assert guarded.opinion(4 * S).suspects


def test_a_freeze_of_the_observer_is_no_suspicion_at_the_first_wake_up() -> None:
    guarded = Lifeguard(FixedTimeout(0.3))
    for beat in regular(50):
        guarded.feed(beat)
    woke = 20 * S
    assert guarded.opinion(woke).suspects  # the wrapped one would cry wolf
    guarded.late(woke, 17 * S)
    opinion = guarded.opinion(woke)
    assert not opinion.suspects and opinion.level < 1
    assert "the observer itself woke up 17.0 s late" in opinion.why
    guarded.feed(answered(woke + MS))
    assert "silent for 0.0 ms" in guarded.opinion(woke + 2 * MS).why


def test_a_probe_that_slept_through_the_freeze_is_no_evidence() -> None:
    guarded = Lifeguard(Heartbeat(silences=1), LifeguardSettings(patience_s=0.15))
    guarded.feed(answered(S))
    # Nobody told of the freeze: the probe's own length does.
    guarded.feed(Beat(2 * S, 7 * S, Evidence.SILENT))
    assert not guarded.opinion(7 * S).suspects


def test_after_a_freeze_a_target_that_is_really_dead_is_still_suspected() -> None:
    guarded = Lifeguard(Heartbeat())
    for beat in regular(10):
        guarded.feed(beat)
    at = 20 * S
    guarded.late(at, 10 * S)
    suspected = None
    for _ in range(40):
        guarded.feed(silent(at))
        at += 150 * MS
        if guarded.opinion(at).suspects:
            suspected = at - 20 * S
            break
    assert suspected is not None
    assert 2 * 150 * MS < suspected <= 3 * S


def test_a_late_observer_wants_more_evidence_and_says_so() -> None:
    guarded = Lifeguard(Heartbeat())
    guarded.feed(answered(S))
    guarded.late(2 * S, 150 * MS)
    guarded.feed(refused(2 * S + MS))
    guarded.feed(refused(2 * S + 2 * MS))
    opinion = guarded.opinion(2 * S + 3 * MS)
    assert not opinion.suspects
    assert opinion.why.startswith(
        "the observer itself woke up 150 ms late: its trust is 0.4, suspicion is held back"
    )
    for i in range(3):
        guarded.feed(refused(2 * S + (3 + i) * MS))
    opinion = guarded.opinion(2 * S + 10 * MS)
    assert opinion.suspects and "in spite of a trust of 0.4" in opinion.why


def test_a_late_observer_without_suspicion_has_nothing_to_hold_back() -> None:
    guarded = Lifeguard(Heartbeat())
    guarded.feed(answered(S))
    guarded.late(2 * S, 5 * S)
    assert guarded.opinion(2 * S).why == "the last probe was answered"


def test_trust_returns_with_punctual_time() -> None:
    guarded = Lifeguard(Heartbeat())
    guarded.late(S, 10 * S)
    trusts = [guarded.trust(S + i * S // 2) for i in range(5)]
    assert trusts == sorted(trusts)
    assert trusts[0] == 1 / 9 and trusts[-1] == 1


def test_suspicion_waits_for_a_fresh_probe_but_not_for_ever() -> None:
    guarded = Lifeguard(FixedTimeout(0.3), LifeguardSettings(recovery_s=0.1))
    guarded.feed(answered(S))
    guarded.late(10 * S, 5 * S)
    assert not guarded.opinion(10 * S + 900 * MS).suspects
    assert guarded.opinion(11 * S).suspects


STEPS = st.tuples(
    st.sampled_from(list(Evidence)),
    st.integers(0, 200 * MS),
    st.integers(0, 900 * MS),
    st.integers(0, 400 * MS),
)


@given(st.lists(STEPS, max_size=40), st.integers(0, 3 * S))
def test_it_never_suspects_where_the_wrapped_detector_does_not(
    steps: list[tuple[Evidence, int, int, int]], wait: int
) -> None:
    for make in (Heartbeat, lambda: FixedTimeout(0.3)):
        plain, guarded = make(), Lifeguard(make(), LifeguardSettings(patience_s=0.1))
        sent = S
        for evidence, trip, late, rest in steps:
            guarded.late(sent, late)
            beat = Beat(sent, sent + trip, evidence)
            plain.feed(beat)
            guarded.feed(beat)
            for now in (beat.known_ns, beat.known_ns + rest, beat.known_ns + wait):
                opinion = guarded.opinion(now)
                assert opinion.suspects <= plain.opinion(now).suspects
                assert opinion.suspects == (opinion.level >= 1)
            sent = beat.known_ns + rest

"""Heartbeat, time-outs and phi: what they suspect, when, and how they say so."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.errors import BadInput
from haops.health.beat import Beat, Detector, Evidence, span
from haops.health.heartbeat import Heartbeat
from haops.health.phi import PhiAccrual, PhiSettings, Shape, deviations, tail
from haops.health.timeout import AdaptiveSettings, AdaptiveTimeout, FixedTimeout

from .traces import MS, S, answered, refused, regular, silent

MAKERS: dict[str, Callable[[], Detector]] = {
    "heartbeat": Heartbeat,
    "fixed": lambda: FixedTimeout(0.3),
    "adaptive": AdaptiveTimeout,
    "phi": PhiAccrual,
    "phi exponential": lambda: PhiAccrual(PhiSettings(shape=Shape.EXPONENTIAL)),
}
every_detector = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)

KINDS = st.tuples(st.sampled_from(list(Evidence)), st.integers(0, 300 * MS), st.integers(MS, 50 * MS))


def beats_of(kinds: list[tuple[Evidence, int, int]]) -> list[Beat]:
    beats, sent = [], S
    for evidence, trip, rest in kinds:
        beats.append(Beat(sent, sent + trip, evidence))
        sent += trip + rest
    return beats


def fed(detector: Detector, *beats: Beat) -> Detector:
    for beat in beats:
        detector.feed(beat)
    return detector


@every_detector
@given(kinds=st.lists(KINDS, max_size=40))
def test_an_answer_always_clears_suspicion(
    make: Callable[[], Detector], kinds: list[tuple[Evidence, int, int]]
) -> None:
    beats = beats_of([*kinds, (Evidence.ANSWERED, MS, MS)])
    opinion = fed(make(), *beats).opinion(beats[-1].known_ns)
    assert not opinion.suspects and opinion.level < 1


@every_detector
@given(kinds=st.lists(KINDS, max_size=40), looks=st.lists(st.integers(0, 40), max_size=40))
def test_an_opinion_depends_on_the_beats_alone(
    make: Callable[[], Detector], kinds: list[tuple[Evidence, int, int]], looks: list[int]
) -> None:
    beats = beats_of(kinds)
    quiet, asked = make(), make()
    for number, beat in enumerate(beats):
        quiet.feed(beat)
        asked.feed(beat)
        for _ in range(looks.count(number)):
            asked.opinion(beat.known_ns + number * MS)
    end = beats[-1].known_ns if beats else S
    assert quiet.opinion(end) == asked.opinion(end)


@every_detector
@given(kinds=st.lists(KINDS, max_size=40), waits=st.lists(st.integers(0, 20 * S), min_size=2, max_size=5))
def test_silence_never_reassures(
    make: Callable[[], Detector], kinds: list[tuple[Evidence, int, int]], waits: list[int]
) -> None:
    beats = beats_of(kinds)
    detector = fed(make(), *beats)
    end = beats[-1].known_ns if beats else S
    levels = [detector.opinion(end + wait).level for wait in sorted(waits)]
    assert levels == sorted(levels)
    assert all(math.isfinite(level) for level in levels)


@every_detector
@given(kinds=st.lists(KINDS, max_size=40), wait=st.integers(0, 5 * S))
def test_suspicion_is_a_level_of_one_and_more(
    make: Callable[[], Detector], kinds: list[tuple[Evidence, int, int]], wait: int
) -> None:
    beats = beats_of(kinds)
    opinion = fed(make(), *beats).opinion((beats[-1].known_ns if beats else S) + wait)
    assert opinion.suspects == (opinion.level >= 1)
    assert opinion.why


@every_detector
def test_two_refusals_are_evidence_at_once_and_one_is_not(make: Callable[[], Detector]) -> None:
    beats = regular(50)
    at = beats[-1].known_ns
    detector = fed(make(), *beats, refused(at + MS))
    assert not detector.opinion(at + 2 * MS).suspects
    detector.feed(refused(at + 2 * MS))
    opinion = detector.opinion(at + 3 * MS)
    assert opinion.suspects
    assert "2 probes in a row refused (threshold 2)" in opinion.why


@every_detector
def test_without_a_probe_there_is_no_suspicion(make: Callable[[], Detector]) -> None:
    opinion = make().opinion(S)
    assert (opinion.suspects, opinion.level, opinion.why) == (False, 0.0, "no probe yet")


@every_detector
def test_a_target_that_never_answered_is_suspected(make: Callable[[], Detector]) -> None:
    beats = [silent(S + i * 150 * MS) for i in range(200)]
    assert fed(make(), *beats).opinion(beats[-1].known_ns).suspects


def test_heartbeat_counts_silences() -> None:
    heartbeat = Heartbeat(silences=3)
    fed(heartbeat, answered(S), silent(2 * S), silent(3 * S))
    assert not heartbeat.opinion(4 * S).suspects
    assert heartbeat.last_seen_ns == S + MS
    heartbeat.feed(silent(4 * S))
    opinion = heartbeat.opinion(5 * S + MS)
    assert opinion.suspects
    assert opinion.why == "3 probes in a row silent (threshold 3); last seen 4.0 s ago"


def test_heartbeat_adds_refusals_and_silences_up() -> None:
    heartbeat = fed(Heartbeat(refusals=3, silences=3), answered(S), refused(2 * S), silent(3 * S))
    assert not heartbeat.opinion(4 * S).suspects
    heartbeat.feed(refused(4 * S))
    opinion = heartbeat.opinion(5 * S)
    assert opinion.suspects and opinion.level == 1
    assert "2 probes in a row refused (threshold 3) and 1 probe silent (threshold 3)" in opinion.why


def test_a_silence_that_is_older_than_the_last_answer_does_not_count() -> None:
    late = Beat(S, S + 500 * MS, Evidence.SILENT)
    heartbeat = fed(Heartbeat(silences=1), answered(S + 20 * MS), late)
    assert not heartbeat.opinion(2 * S).suspects


def test_a_fixed_time_out_suspects_after_its_limit() -> None:
    detector = fed(FixedTimeout(0.3), answered(S))
    seen = S + MS
    assert not detector.opinion(seen + 299 * MS).suspects
    opinion = detector.opinion(seen + 312 * MS)
    assert opinion.suspects and opinion.why == "silent for 312 ms, allowed 300 ms"


def test_an_adaptive_time_out_follows_the_round_trips() -> None:
    quick = fed(AdaptiveTimeout(AdaptiveSettings(floor_s=0.01)), *regular(200))
    slow = AdaptiveTimeout(AdaptiveSettings(floor_s=0.01))
    beats = [answered(S + i * 200 * MS, trip=(20 + 130 * (i % 2)) * MS) for i in range(200)]
    fed(slow, *beats)
    assert quick.opinion(regular(200)[-1].known_ns + 100 * MS).suspects
    assert not slow.opinion(beats[-1].known_ns + 400 * MS).suspects
    assert slow.opinion(beats[-1].known_ns + 700 * MS).suspects


def test_an_adaptive_time_out_keeps_to_floor_and_ceiling() -> None:
    settings = AdaptiveSettings(floor_s=0.25, ceiling_s=0.5)
    quiet = fed(AdaptiveTimeout(settings), *regular(100))
    seen = regular(100)[-1].known_ns
    assert not quiet.opinion(seen + 249 * MS).suspects
    assert quiet.opinion(seen + 250 * MS).suspects
    wild = fed(AdaptiveTimeout(settings), *(answered(S + i * 3 * S, trip=2 * S) for i in range(9)))
    assert wild.opinion(S + 26 * S + 500 * MS).suspects


def test_phi_is_the_tail_of_the_normal_distribution() -> None:
    # The chances of 1, 3 and 6 deviations, from tables.
    for z, chance in ((0, 0.5), (1, 0.158655254), (3, 0.001349898), (6, 9.865876e-10)):
        assert tail(0, 1, z) == pytest.approx(-math.log10(chance), rel=1e-6)
        assert deviations(-math.log10(chance)) == pytest.approx(z, abs=1e-6)


def test_phi_keeps_growing_where_the_chance_is_less_than_a_float_can_hold() -> None:
    values = [tail(0, 1, z) for z in (25, 28.28, 28.29, 38, 50, 1e3, 1e6)]
    assert values == sorted(set(values)) and all(map(math.isfinite, values))
    # Mills' ratio: for large z the chance is close to exp(-z^2 / 2) / (z sqrt(2 pi)).
    assert tail(0, 1, 50) == pytest.approx(
        (1250 + math.log(50 * math.sqrt(2 * math.pi))) / math.log(10), rel=1e-6
    )


@given(st.floats(-40, 60), st.floats(0, 1))
def test_phi_is_monotone_in_time(z: float, more: float) -> None:
    assert tail(0, 1, z) <= tail(0, 1, z + more) + 1e-9


def test_phi_explains_itself() -> None:
    beats = regular(100, interval=50 * MS)
    detector = fed(PhiAccrual(), *beats)
    opinion = detector.opinion(beats[-1].known_ns + 1200 * MS)
    assert opinion.suspects
    assert opinion.why.startswith("phi 30.2 over 8: last seen 1.2 s ago, mean gap 50 ms, deviation 100 ms")


def test_the_exponential_shape_is_cassandras() -> None:
    beats = regular(100)
    detector = fed(PhiAccrual(PhiSettings(shape=Shape.EXPONENTIAL)), *beats)
    seen = beats[-1].known_ns
    # Cassandra: phi = 0.434 * t / mean, so that 8 is reached after 18.4 gaps of 20 ms.
    assert not detector.opinion(seen + 368 * MS).suspects
    assert detector.opinion(seen + 369 * MS).suspects


def test_a_pause_is_accepted_before_phi_grows() -> None:
    beats = regular(100)
    seen = beats[-1].known_ns
    plain = fed(PhiAccrual(), *beats)
    patient = fed(PhiAccrual(PhiSettings(pause_s=1.0)), *beats)
    assert plain.opinion(seen + 600 * MS).suspects
    assert not patient.opinion(seen + 1500 * MS).suspects
    assert patient.opinion(seen + 1600 * MS).suspects


def test_an_outage_is_no_sample_of_phi() -> None:
    before = regular(50)
    after = regular(50, start=before[-1].known_ns + 30 * S)
    detector = PhiAccrual()
    fed(detector, *before, *after)
    assert detector.fit[0] == pytest.approx(20 * MS, rel=0.01)


def test_phi_forgets_what_left_its_window() -> None:
    slow, quick = regular(30, interval=500 * MS), regular(20, start=60 * S, interval=20 * MS)
    detector = PhiAccrual(PhiSettings(window=15, min_deviation_s=0.001))
    fed(detector, *slow, *quick)
    assert detector.fit == (20 * MS, MS)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Heartbeat(refusals=0),
        lambda: Heartbeat(silences=0),
        lambda: FixedTimeout(0),
        lambda: AdaptiveSettings(floor_s=2, ceiling_s=1),
        lambda: PhiSettings(threshold=0),
        lambda: PhiSettings(window=0),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(BadInput) as caught:
        make()
    assert caught.value.hint


@pytest.mark.parametrize(
    ("ns", "words"), [(400_000, "0.4 ms"), (312 * MS, "312 ms"), (1.2 * S, "1.2 s"), (-20 * MS, "-20 ms")]
)
def test_spans_are_written_for_people(ns: float, words: str) -> None:
    assert span(ns) == words

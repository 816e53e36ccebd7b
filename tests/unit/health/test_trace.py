"""Traces on disk."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.errors import BadInput, EnvironmentTrouble
from haops.health.beat import Beat, Evidence
from haops.health.trace import Interval, TraceWriter, Truth, read_trace

from .traces import MS, S, answered, refused, regular, silent

BEATS = [*regular(5), refused(2 * S), silent(3 * S), answered(4 * S)]


def written(path: Path, beats: list[Beat], origin: int = 0) -> Path:
    with TraceWriter(path, "redis-1", interval_s=0.02, patience_s=0.15, origin_ns=origin) as writer:
        for beat in beats:
            writer.append(beat)
    return path


@pytest.mark.parametrize("name", ["t.trace", "t.trace.gz"])
def test_what_was_written_is_read_again(tmp_path: Path, name: str) -> None:
    trace = read_trace(written(tmp_path / "deep" / name, BEATS, origin=S // 2))
    assert list(trace.beats()) == BEATS
    assert (trace.target, trace.interval_s, trace.patience_s) == ("redis-1", 0.02, 0.15)
    assert trace.hours == pytest.approx(3.001 / 3600)


@given(
    st.lists(st.tuples(st.sampled_from(list(Evidence)), st.integers(0, S), st.integers(0, S)), max_size=600)
)
def test_any_sequence_survives(tmp_path_factory: pytest.TempPathFactory, steps: list) -> None:
    beats, sent = [], 0
    for evidence, trip, rest in steps:
        beats.append(Beat(sent, sent + trip, evidence))
        sent += trip + rest
    path = written(tmp_path_factory.mktemp("t") / "t.gz", beats)
    assert list(read_trace(path).beats()) == beats


def test_marks_become_intervals_and_an_open_one_ends_with_the_trace(tmp_path: Path) -> None:
    path = tmp_path / "t"
    with TraceWriter(path, "redis-1", interval_s=0.02, patience_s=0.15, origin_ns=7) as writer:
        writer.append(answered(S))
        writer.mark(2 * S, Truth.PAUSED)
        writer.mark(3 * S, None)
        writer.mark(4 * S, Truth.DOWN)
        writer.append(silent(5 * S))
    end = 5 * S + 150 * MS
    assert read_trace(path).truths == (
        Interval(Truth.PAUSED, 2 * S, 3 * S),
        Interval(Truth.DOWN, 4 * S, end),
    )


@pytest.mark.parametrize("name", ["t", "t.gz"])
def test_a_cut_last_line_is_dropped(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, regular(2000))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 200])
    trace = read_trace(path)
    assert 1000 < len(trace) < 2000
    assert list(trace.beats()) == regular(2000)[: len(trace)]


def test_every_cut_of_a_plain_file_is_read(tmp_path: Path) -> None:
    data = written(tmp_path / "t", BEATS).read_bytes()
    header = data.index(b"\n") + 1
    for length in range(header, len(data)):
        (tmp_path / "cut").write_bytes(data[:length])
        beats = list(read_trace(tmp_path / "cut").beats())
        assert beats == BEATS[: data[:length].count(b"\n") - 1]


def test_a_writer_that_is_killed_loses_no_more_than_its_buffer(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / "t.gz", "r", interval_s=0.02, patience_s=0.15, origin_ns=0)
    for beat in regular(1000):
        writer.append(beat)
    assert len(read_trace(tmp_path / "t.gz")) >= 1000 - 256
    writer.close()
    writer.close()


HEAD = '{"format": 1, "target": "r", "interval_ms": 20, "patience_ms": 150, "origin_ns": 0}\n'


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", ":1:1: there is no header"),
        ("{oops\n", ":1:2: "),
        ('{"format": 9}\n', ":1:1: not a trace of format 1"),
        ('{"format": 1}\n', ":1:1: the header lacks 'target'"),
        (HEAD + "1 2 a\n1 2 x\n", ":3:5: neither"),
        (HEAD + "1 2 a\n12 zwei a\n", ":3:4: neither"),
        (HEAD + "x 2 a\n", ":2:1: neither"),
        (HEAD + "! 5 sideways\n", ":2:5: neither"),
        (HEAD + "1 2\n", ":2:"),
        (HEAD + "10 2 a\n! 11 down\n5 2 a\n", ":4:1: times run backwards"),
        (HEAD + "10 -2 a\n", ":2:1: times run backwards"),
    ],
)
def test_damage_is_told_with_its_place(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "t"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        read_trace(path)
    assert f"{path}{place}" in str(caught.value) and caught.value.hint


def test_damaged_compression_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.gz"
    data = bytearray(gzip.compress((HEAD + "".join(f"{i} 2 a\n" for i in range(9999))).encode()))
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(BadInput, match=r"t\.gz:\d+:"):
        read_trace(path)
    path.write_bytes(b"no gzip")
    with pytest.raises(BadInput, match="the compressed data are damaged"):
        read_trace(path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read_trace(tmp_path / "none")


def test_a_disk_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentTrouble):
        TraceWriter(tmp_path / "file" / "t", "r", interval_s=1, patience_s=1, origin_ns=0)

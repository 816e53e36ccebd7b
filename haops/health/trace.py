"""Recorded heartbeats as a compact file, and back.

A header line of JSON (`format`, `target`, `interval_ms`, `patience_ms`,
`origin_ns`), then a line a probe, `SENT ROUND E`: when it was sent, ns since
the origin; how long until its outcome was known, ns; `a`nswered, `r`efused or
`s`ilent.  A line `! AT KIND` marks what really happened to the target:
`down`, `paused`, `up`.  Names that end in `.gz` are compressed.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Final, Self

import numpy as np
import numpy.typing as npt

from haops.cluster.state import disk_trouble
from haops.errors import BadInput
from haops.health.beat import Beat, Evidence

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FORMAT: Final = 1
LETTERS: Final = {"a": Evidence.ANSWERED, "r": Evidence.REFUSED, "s": Evidence.SILENT}
# Evidence as it stands in a trace's column.
CODES: Final = tuple(LETTERS.values())
_LETTER = {evidence: letter for letter, evidence in LETTERS.items()}
_BUFFERED = 256
_HINT = "record it anew, or cut the file before this line"


class Truth(StrEnum):
    """What really happened to the target: it was gone, or only held up for a while and lived."""

    DOWN = "down"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Interval:
    """From when to when something was true; monotonic ns."""

    truth: Truth
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Probes of one target, columns of equal length ordered by `known`.

    Args:
        target: Who was probed.
        interval_s: Intended time between two probes.
        patience_s: How long a probe waited for its answer.
        sent: When probes were sent, monotonic ns.
        known: When outcomes were known, monotonic ns.
        evidence: Index into `CODES`.
        truths: When the target was really down or paused, in order; empty if it lived throughout.
    """

    target: str
    interval_s: float
    patience_s: float
    sent: Ints
    known: Ints
    evidence: Ints
    truths: tuple[Interval, ...] = ()

    def __len__(self) -> int:
        return len(self.sent)

    @property
    def hours(self) -> float:
        """How long was recorded."""
        return float(self.known[-1] - self.sent[0]) / 3.6e12 if len(self) else 0.0

    def beats(self) -> Iterator[Beat]:
        """The probes one by one."""
        columns = (self.sent.tolist(), self.known.tolist(), self.evidence.tolist())
        return (Beat(s, k, CODES[e]) for s, k, e in zip(*columns, strict=True))


class TraceWriter:
    """Appends to a trace file; holds back at most 256 lines, so that a kill costs seconds.

    Args:
        path: Compressed if its name ends in `.gz`; an existing file is replaced.
        origin_ns: Monotonic ns that times are counted from; nothing may be older.

    Raises:
        EnvironmentTrouble: The disk is full, read-only or not ours; also from `append`, `mark`, `close`.
    """

    def __init__(
        self, path: Path, target: str, *, interval_s: float, patience_s: float, origin_ns: int
    ) -> None:
        self._path = path
        self._origin = origin_ns
        self._file: IO[bytes] | gzip.GzipFile
        header = {
            "format": FORMAT,
            "target": target,
            "interval_ms": interval_s * 1000,
            "patience_ms": patience_s * 1000,
            "origin_ns": origin_ns,
        }
        self._lines = [json.dumps(header)]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.name.endswith(".gz"):
                self._file = gzip.open(path, "wb", compresslevel=6)  # noqa: SIM115 - closed by close()
            else:
                self._file = path.open("wb")
        except OSError as error:
            raise disk_trouble(path, error) from error

    def append(self, beat: Beat) -> None:
        """Add a probe; in the order in which they became known."""
        sent = beat.sent_ns - self._origin
        self._add(f"{sent} {beat.known_ns - beat.sent_ns} {_LETTER[beat.evidence]}")

    def mark(self, at_ns: int, truth: Truth | None) -> None:
        """Note what is true of the target from `at_ns` on; None is that it is up."""
        self._add(f"! {at_ns - self._origin} {truth or 'up'}")

    def _add(self, line: str) -> None:
        self._lines.append(line)
        if len(self._lines) >= _BUFFERED:
            self.flush()

    def flush(self) -> None:
        """Hand everything to the operating system."""
        try:
            if self._lines:
                self._file.write(("\n".join(self._lines) + "\n").encode())
                self._lines.clear()
            self._file.flush()
        except OSError as error:
            raise disk_trouble(self._path, error) from error

    def close(self) -> None:
        """Write the rest; closing twice does no harm."""
        if self._file.closed:
            return
        try:
            self.flush()
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_trace(path: Path) -> Trace:
    """Read a trace; a last line that was cut, as a killed writer leaves it, is dropped.

    Raises:
        BadInput: The file cannot be read or is damaged; names file, line and column.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}:1:1: cannot be read: {error.strerror}") from error
    if path.name.endswith(".gz"):
        data = _unpack(data, path)
    return _Reader(path).read(data)


def _unpack(data: bytes, path: Path) -> bytes:
    """Whatever a gzip file holds, though its end be missing."""
    parts: list[bytes] = []
    try:
        while data:
            unpacker = zlib.decompressobj(wbits=31)
            for start in range(0, len(data), 1 << 16):
                if unpacker.eof:
                    break
                parts.append(unpacker.decompress(data[start : start + (1 << 16)]))
                end = start + (1 << 16)
            data = unpacker.unused_data + data[end:] if unpacker.eof else b""
    except zlib.error as error:
        line = b"".join(parts).count(b"\n") + 1
        raise BadInput(f"{path}:{line}:1: the compressed data are damaged: {error}", hint=_HINT) from error
    return b"".join(parts)


class _Reader:
    """Lines to columns; knows the place for an error."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sent: list[int] = []
        self._trip: list[int] = []
        self._code: list[int] = []
        self._line: list[int] = []
        self._marks: list[tuple[int, Truth | None]] = []

    def read(self, data: bytes) -> Trace:
        lines = data.split(b"\n")
        lines.pop()  # empty after a whole last line, else the cut one
        if not lines:
            raise self._bad(1, 1, "there is no header", "a trace begins with a line of JSON")
        header, origin = self._header(lines[0])
        codes = {letter.encode(): number for number, letter in enumerate(LETTERS)}
        for number, line in enumerate(lines[1:], start=2):
            try:
                sent, trip, letter = line.split(b" ")
                if sent == b"!":
                    self._mark(trip, letter)
                    continue
                self._code.append(codes[letter])
                self._sent.append(int(sent))
                self._trip.append(int(trip))
                self._line.append(number)
            except (ValueError, KeyError):
                raise self._misread(number, line) from None
        return self._columns(header, origin)

    def _header(self, line: bytes) -> tuple[tuple[str, float, float], int]:
        try:
            header = json.loads(line)
            if not isinstance(header, dict) or header.get("format") != FORMAT:
                raise self._bad(1, 1, f"not a trace of format {FORMAT}", "is it a trace at all?")
            known = str(header["target"]), float(header["interval_ms"]), float(header["patience_ms"])
            return known, int(header["origin_ns"])
        except json.JSONDecodeError as error:
            raise self._bad(1, error.colno, error.msg, "is it a trace at all?") from None
        except UnicodeDecodeError as error:
            raise self._bad(1, error.start + 1, "not UTF-8", "is it a trace at all?") from None
        except KeyError as error:
            raise self._bad(1, 1, f"the header lacks {error}", _HINT) from None
        except (TypeError, ValueError) as error:
            raise self._bad(1, 1, f"the header is damaged: {error}", _HINT) from None

    def _mark(self, at: bytes, kind: bytes) -> None:
        truths: dict[bytes, Truth | None] = {t.value.encode(): t for t in Truth}
        self._marks.append((int(at), (truths | {b"up": None})[kind]))

    def _columns(self, header: tuple[str, float, float], origin: int) -> Trace:
        sent = np.array(self._sent, dtype=np.int64) + origin
        trip = np.array(self._trip, dtype=np.int64)
        known = sent + trip
        wrong = trip < 0
        wrong[1:] |= np.diff(known) < 0
        if wrong.any():
            line = self._line[int(np.argmax(wrong))]
            raise self._bad(line, 1, "times run backwards", _HINT)
        end = int(known[-1]) if len(known) else origin
        truths = tuple(_intervals([(at + origin, truth) for at, truth in self._marks], end))
        target, interval_ms, patience_ms = header
        evidence = np.array(self._code, dtype=np.int64)
        return Trace(target, interval_ms / 1000, patience_ms / 1000, sent, known, evidence, truths)

    def _misread(self, number: int, line: bytes) -> BadInput:
        """The error for a line that is neither a probe nor a mark, at its first wrong word."""
        column = 1
        words = line.split(b" ")
        for place, word in enumerate(words[:3]):
            mark = words[0] == b"!"
            good = (word == b"!" and place == 0) or word.lstrip(b"-").isdigit()
            if place == 2:
                good = word in ((b"down", b"paused", b"up") if mark else (b"a", b"r", b"s"))
            if not good:
                break
            column += len(word) + 1
        return self._bad(number, column, "neither a probe (SENT ROUND a|r|s) nor a mark (! AT KIND)", _HINT)

    def _bad(self, line: int, column: int, what: str, hint: str) -> BadInput:
        return BadInput(f"{self._path}:{line}:{column}: {what}", hint=hint)


def _intervals(marks: list[tuple[int, Truth | None]], end_ns: int) -> Iterator[Interval]:
    """Marks as intervals; one that is open ends with the trace."""
    # One longer than the marks where there are none.
    following = [*(at for at, _ in marks[1:]), end_ns]
    for (at, truth), until in zip(marks, following, strict=False):
        if truth is not None and until > at:
            yield Interval(truth, at, until)

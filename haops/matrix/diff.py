"""Two runs of the matrix against each other: what became worse, what better, and what cannot be told.

Each figure gets an interval in which the change lies with 95 % confidence, and a margin
below which nobody should care. A verdict needs the whole interval on one side of the margin.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from haops.faults.catalogue import FaultKind
from haops.matrix import summary
from haops.matrix.cells import Cell, CellKey, CellTrial, Matrix
from haops.matrix.summary import Share

MARGIN: Final = 0.10
MIN_TRIALS: Final = 3
# A change of a share by less than this is never relevant: one in a thousand.
SHARE_FLOOR: Final = 0.001
# Availability differs by a few operations from trial to trial without a reason.
AVAILABILITY_FLOOR: Final = 0.01
_ENOUGH: Final = 5  # trials, from which on intervals of medians are to be trusted
_RESAMPLES: Final = 4000
_Z95: Final = 1.959964
_SEED: Final = 20_120_827

Floats = NDArray[np.float64]
Figure = Callable[[CellTrial], float | None]


class Judgement(StrEnum):
    """What the change of a figure amounts to."""

    REGRESSION = "regression"
    IMPROVEMENT = "improvement"
    NO_CHANGE = "no change"
    CANNOT_TELL = "cannot tell"


class Scale(StrEnum):
    """What `Change.low` and `Change.high` are: `b / a`, or `b - a` with 1 for the whole."""

    RATIO = "ratio"
    DIFFERENCE = "difference"


@dataclass(frozen=True, slots=True)
class Change:
    """A figure of a cell in both runs.

    Args:
        unit: ms, /s or share.
        a: Median of the trials, or the share of all of them; None is "never came back", which is
            longer than any time.
        b: Likewise.
        low: Lower end of the 95 % interval; None if there is no interval.
        high: Upper end; infinite where `b` may never come back.
        trials: Trials of both that the figure rests on.
        why: The verdict's reason in one sentence.
    """

    key: CellKey
    figure: str
    unit: str
    scale: Scale
    a: float | None
    b: float | None
    low: float | None
    high: float | None
    trials: tuple[int, int]
    judgement: Judgement
    why: str


@dataclass(frozen=True, slots=True)
class _Timed:
    name: str
    unit: str
    faults: frozenset[bool]
    values: Callable[[Cell], list[float]]


@dataclass(frozen=True, slots=True)
class _Pair:
    """A figure of both runs before it is judged.

    Args:
        margin: Lower and upper end of what nobody should care about.
        apart: Whether the runs differ by more than their trials do among themselves.
    """

    figure: str
    unit: str
    scale: Scale
    middle: tuple[float, float]
    interval: tuple[float, float]
    trials: tuple[int, int]
    margin: tuple[float, float]
    more_is_better: bool
    apart: bool = True


def diff(a: Matrix, b: Matrix) -> tuple[Change, ...]:
    """Every figure of every cell that was run in both, in the order of `a`.

    Times, rates and availability: percentile bootstrap of the trials' medians (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13), with a fixed seed. It
    cannot reach beyond what was seen, so with three trials a median's interval covers 75 %
    rather than 95 %. So with fewer than five trials a verdict also asks that the runs lie further
    apart than their trials do among themselves. What is left (simulated, log-normal figures that
    vary by 10 to 60 %): with three trials of 1,000 unchanged figures up to 8 are called changed, of
    five trials up to 5, and a run has hundreds of figures: a check of releases wants five trials.

    Shares of lost writes and stale reads: Newcombe's hybrid score interval for the difference
    of two proportions (Statistics in Medicine 17, 1998, pages 873-890, method 10), over
    Wilson's intervals. Losses come in bursts, so writes of one trial are no independent draws:
    the counts are first divided by their design effect between trials (Rao and Scott,
    Biometrics 48, 1992, pages 577-585).
    """
    others = {cell.key: cell for cell in b.cells}
    changes: list[Change] = []
    for cell in a.cells:
        other = others.get(cell.key)
        if other is not None and cell.trials and other.trials:
            pairs = (*_timed(cell, other), *_shares(cell, other), *_availability(cell, other))
            changes += [_change(cell.key, pair) for pair in pairs]
    return tuple(changes)


def _known(cell: Cell, figure: Figure) -> list[float]:
    return [v for t in summary.trusted(cell) if (v := figure(t)) is not None]


def _recoveries(cell: Cell, figure: Figure) -> list[float]:
    # Never is longer than any time; so the medians come out right without leaving trials out.
    return [math.inf if (v := figure(t)) is None else v for t in summary.trusted(cell)]


_BROKEN, _WHOLE = frozenset({True}), frozenset({False})
_TIMED: Final = (
    _Timed("write p50", "ms", _BROKEN | _WHOLE, lambda c: _known(c, lambda t: t.write.p50_ms)),
    _Timed("write p99", "ms", _BROKEN | _WHOLE, lambda c: _known(c, lambda t: t.write.p99_ms)),
    _Timed("throughput", "/s", _WHOLE, lambda c: list(c.parts.throughput) if c.parts else []),
    _Timed("write RTO", "ms", _BROKEN, lambda c: _recoveries(c, lambda t: t.write_recovery.total_ms)),
    _Timed("read RTO", "ms", _BROKEN, lambda c: _recoveries(c, lambda t: t.read_recovery_ms)),
)
_AVAILABLE: Final[tuple[tuple[str, Figure], ...]] = (
    ("write availability", lambda t: t.write_availability),
    ("read availability", lambda t: t.read_availability),
)


def _timed(a: Cell, b: Cell) -> Iterator[_Pair]:
    broken = a.key.fault is not FaultKind.NONE
    margin = (1 / (1 + MARGIN), 1 + MARGIN)
    for known in _TIMED:
        before, after = known.values(a), known.values(b)
        if broken in known.faults and before and after:
            interval = _bootstrap(before, after, f"{a.key} {known.name}", _ratio)
            counts = len(before), len(after)
            middle = _median(before), _median(after)
            yield _Pair(
                known.name,
                known.unit,
                Scale.RATIO,
                middle,
                interval,
                counts,
                margin,
                more_is_better=known.unit == "/s",
                apart=_apart([_log(v) for v in before], [_log(v) for v in after]),
            )


def _availability(a: Cell, b: Cell) -> Iterator[_Pair]:
    for name, figure in _AVAILABLE:
        before, after = _known(a, figure), _known(b, figure)
        if before and after:
            middle = _median(before), _median(after)
            # A tenth of what is missing, not of what is there: 99 % to 95 % is five times the outage.
            wide = max(AVAILABILITY_FLOOR, MARGIN * (1 - middle[0]))
            interval = _bootstrap(before, after, f"{a.key} {name}", lambda x, y: y - x)
            counts, margin = (len(before), len(after)), (-wide, wide)
            apart = _apart(before, after)
            yield _Pair(
                name,
                "share",
                Scale.DIFFERENCE,
                middle,
                interval,
                counts,
                margin,
                more_is_better=True,
                apart=apart,
            )


def _shares(a: Cell, b: Cell) -> Iterator[_Pair]:
    for name, figure in (("lost writes", summary.lost), ("stale reads", summary.stale)):
        before, after = figure(a), figure(b)
        if before.value is not None and after.value is not None:
            wide = max(SHARE_FLOOR, MARGIN * before.value)
            interval, middle = difference_of_shares(before, after), (before.value, after.value)
            counts, margin = (len(before.counts), len(after.counts)), (-wide, wide)
            yield _Pair(
                name, "share", Scale.DIFFERENCE, middle, interval, counts, margin, more_is_better=False
            )


def _change(key: CellKey, pair: _Pair) -> Change:
    judgement, why = _judge(pair.interval, pair.margin, more_is_better=pair.more_is_better)
    if judgement in (Judgement.REGRESSION, Judgement.IMPROVEMENT) and not pair.apart:
        judgement, why = (
            Judgement.CANNOT_TELL,
            "few trials, which differ among themselves as much as the runs",
        )
    low: float | None
    high: float | None
    low, high = pair.interval
    if (fewest := min(pair.trials)) < MIN_TRIALS:
        words = "1 trial" if fewest == 1 else f"{fewest} trials"
        judgement, why = Judgement.CANNOT_TELL, f"{words} on one side; it takes {MIN_TRIALS}"
        low = high = None
    a, b = (value if math.isfinite(value) else None for value in pair.middle)
    return Change(key, pair.figure, pair.unit, pair.scale, a, b, low, high, pair.trials, judgement, why)


def _judge(
    interval: tuple[float, float], margin: tuple[float, float], *, more_is_better: bool
) -> tuple[Judgement, str]:
    (low, high), (bottom, top) = interval, margin
    if low > top or high < bottom:
        better = (low > top) == more_is_better
        kind = Judgement.IMPROVEMENT if better else Judgement.REGRESSION
        return kind, "the whole interval lies beyond the margin"
    if bottom <= low and high <= top:
        return Judgement.NO_CHANGE, "the whole interval lies within the margin"
    if low < bottom and high > top:
        return Judgement.CANNOT_TELL, "it may be better or worse: the trials differ too much"
    return Judgement.CANNOT_TELL, "the interval reaches over the margin: more trials would tell"


def _bootstrap(
    a: Sequence[float], b: Sequence[float], name: str, combine: Callable[[Floats, Floats], Floats]
) -> tuple[float, float]:
    """95 % interval of a combination of both medians; the same figures always give the same interval."""
    # A seed of its own for each figure, which does not depend on which other cells were run.
    rng = np.random.default_rng([_SEED, zlib.crc32(name.encode())])
    values = np.sort(combine(_medians(a, rng), _medians(b, rng)))
    # Order statistics without interpolation: there is nothing between a time and never.
    low, high = (values[round(q * (_RESAMPLES - 1))] for q in (0.025, 0.975))
    return float(low), float(high)


def _log(value: float) -> float:
    return math.log(max(value, 1e-9))


def _apart(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether no trial of one run is nearer to the other run's than either's own are to each other."""
    if min(len(a), len(b)) >= _ENOUGH:
        return True
    gap = max(min(b) - max(a), min(a) - max(b))
    own = max(0.0 if min(v) == max(v) else max(v) - min(v) for v in (a, b))
    return gap > own


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _medians(values: Sequence[float], rng: np.random.Generator) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    drawn = np.sort(array[rng.integers(0, len(array), size=(_RESAMPLES, len(array)))], axis=1)
    low, high = drawn[:, (len(array) - 1) // 2], drawn[:, len(array) // 2]
    # Of an even number of trials one that never came back makes the middle never.
    return (low + high) / 2


def _ratio(a: Floats, b: Floats) -> Floats:
    """b / a; both infinite, or both 0, are equal."""
    ratio = np.ones_like(a)
    np.divide(b, a, out=ratio, where=(a > 0) & ~(np.isinf(a) & np.isinf(b)))
    ratio[(a <= 0) & (b > 0)] = math.inf
    return ratio


def wilson(some: float, whole: float) -> tuple[float, float]:
    """95 % interval of a share (Wilson, Journal of the American Statistical Association 22, 1927, 209-212)."""
    if whole <= 0:
        return 0.0, 1.0
    share, z2 = some / whole, _Z95**2
    centre = (share + z2 / (2 * whole)) / (1 + z2 / whole)
    half = _Z95 * math.sqrt(share * (1 - share) / whole + z2 / (4 * whole**2)) / (1 + z2 / whole)
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def design_effect(share: Share) -> float:
    """How many times more a share varies between trials than independent draws would; at least 1.

    Rao and Scott, Biometrics 48, 1992; 1 where nothing or everything is counted, as nothing varies.
    """
    value, counts = share.value, share.counts
    if value is None or value in (0.0, 1.0) or len(counts) < 2:
        return 1.0
    between = sum((some - whole * value) ** 2 for some, whole in counts)
    variance = len(counts) / (len(counts) - 1) * between / share.whole**2
    return max(1.0, variance * share.whole / (value * (1 - value)))


def _student(freedom: int) -> float:
    """Student's 97.5 % quantile (expansion 26.7.5 of Abramowitz and Stegun): an effect from few trials is a guess."""
    n, z = max(freedom, 1), _Z95
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)


def difference_of_shares(a: Share, b: Share) -> tuple[float, float]:
    """95 % interval of `b - a` (Newcombe 1998, method 10), the counts thinned by the larger design effect."""
    # A run that lost nothing shows no bursts; had it lost, it would have been in bursts like the other's.
    effect = max(design_effect(a), design_effect(b))
    if effect > 1:
        effect *= (_student(len(a.counts) + len(b.counts) - 2) / _Z95) ** 2
    (one, low_a, high_a), (two, low_b, high_b) = (
        (share.value or 0.0, *wilson(share.some / effect, share.whole / effect)) for share in (a, b)
    )
    change = two - one
    down = math.hypot(two - low_b, high_a - one)
    up = math.hypot(high_b - two, one - low_a)
    return max(-1.0, change - down), min(1.0, change + up)

"""Figures in words: formatting that the HTML report and the command line share."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from haops.cluster.spec import StoreName
from haops.drills.result import DrillResult, DrillVerdict, Latency, Spread, StoreResult, Trial

NONE: Final = "\u2013"
ARROW: Final = "\u2192"
PHASES: Final = ("before", "during", "after")

STORE_TITLES: Final = {
    StoreName.REDIS: "Redis",
    StoreName.ZOOKEEPER: "ZooKeeper",
    StoreName.CASSANDRA: "Cassandra",
}

# C0 and C1 controls, lone surrogates and non-characters: XML refuses them, terminals obey some.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")


_SHORT_WORDS: Final = {"never came back": "never", "not seen": "not seen"}


@dataclass(frozen=True, slots=True)
class Term:
    """A figure's heading and what it means, in one sentence.

    Args:
        key: The field of `SummaryRow` that holds it.
    """

    key: str
    heading: str
    meaning: str


GLOSSARY: Final = (
    Term(
        "write_outage",
        "Write outage",
        "The longest gap between two successful writes of any client, from the last success before the "
        "fault on.",
    ),
    Term("read_outage", "Read outage", "The same gap between successful reads."),
    Term("detected", "Detected", "From the fault to the first server's word that the node is gone."),
    Term(
        "promoted",
        "Promoted",
        "From the fault to the successor's own word that it has taken over; empty where no role moves.",
    ),
    Term("acked", "Acknowledged", "Writes that the store confirmed to a client."),
    Term("lost", "Lost", "Acknowledged writes that could not be found afterwards."),
    Term(
        "unknown",
        "Unknown / appeared",
        "Writes whose outcome the client could not tell, such as time-outs, and how many of them were found "
        "afterwards. They never count as lost.",
    ),
    Term(
        "p99",
        "Write p99",
        "99 of 100 successful writes took at most this long, measured from the moment the schedule wanted "
        "them sent, so waiting counts.",
    ),
    Term(
        "harness_lag",
        "Harness lag",
        "How late haops itself sent operations (p99). Above its limit the load was not what was asked for, "
        "and no verdict is given.",
    ),
)


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One store's line of the summary; every field is ready to be shown.

    Durations carry their unit.  With several trials they are `median (low-high)`,
    except for `harness_lag`, which is the worst trial's.  `p99` is `before -> during -> after`.
    """

    store: str
    verdict: str
    trials: str
    write_outage: str
    read_outage: str
    detected: str
    promoted: str
    acked: str
    lost: str
    unknown: str
    appeared: str
    p99: str
    harness_lag: str


def format_ms(ms: float | None) -> str:
    """A duration of `ms` milliseconds in the unit that people would choose: 28 ms, 5.02 s, 2 min 05 s."""
    if ms is None or not math.isfinite(ms):
        return NONE
    if ms < 0:
        return "\u2212" + format_ms(-ms)
    value, unit = _scaled(ms)
    return f"{value} {unit}"


def format_range(low_ms: float, high_ms: float) -> str:
    """Two durations in ms as a range; a unit that both share is written once."""
    low, high = _scaled(max(low_ms, 0.0)), _scaled(max(high_ms, 0.0))
    if low == high:
        return format_ms(low_ms)
    if low[1] == high[1] and " " not in low[0] + high[0]:
        return f"{low[0]}{NONE}{high[0]} {high[1]}"
    return f"{format_ms(low_ms)}{NONE}{format_ms(high_ms)}"


def format_spread(spread: Spread | None) -> str:
    """A spread of ms as `median (low-high)`; the range is left out where it says nothing."""
    if spread is None:
        return NONE
    median, span = format_ms(spread.median), format_range(spread.low, spread.high)
    return median if median == span else f"{median} ({span})"


def format_tick(ms: float) -> str:
    """A round duration of `ms` at an axis, without decimals that say nothing: 10 s, 0.5 s."""
    return "0" if ms == 0 else re.sub(r"\.0+(?= )|(?<=\.\d)0(?= )", "", format_ms(ms))


def format_count(count: float | None) -> str:
    """A number of things, with thousands separated: 12,345."""
    if count is None or not math.isfinite(count):
        return NONE
    return f"{count:,.0f}"


def format_rate(per_second: float) -> str:
    """Operations a second: 1,500/s; a decimal below 10."""
    if not math.isfinite(per_second):
        return NONE
    text = (
        f"{per_second:,.0f}" if per_second >= 9.95 or per_second == int(per_second) else f"{per_second:.1f}"
    )
    return f"{text}/s"


def format_at(seconds: float) -> str:
    """A moment of a trial in seconds, to the millisecond, so that events can be told apart."""
    return f"{seconds:,.3f} s"


def format_since(seconds: float) -> str:
    """The distance of `seconds` from the fault, with its sign: +5.02 s."""
    if seconds == 0:
        return format_ms(0.0)
    sign = "\u2212" if seconds < 0 else "+"
    return f"{sign}{format_ms(abs(seconds) * 1000)}"


def format_time(moment: datetime) -> str:
    """A date and time in UTC; a naive one is taken as UTC."""
    return as_utc(moment).strftime("%Y-%m-%d %H:%M:%S UTC")


def as_utc(moment: datetime) -> datetime:
    """The same moment in UTC; a naive one is taken as UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def missing(words: str) -> str:
    """A figure that does not exist, and why."""
    return f"{NONE} ({words})"


def printable(text: str) -> str:
    """`text` without what XML refuses or a terminal would obey; each such character becomes U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text)


def why_no_writes(trial: Trial) -> str:
    """Why a trial has no write outage."""
    seen = any(p.write.count for p in trial.phases) or any(trial.timeline.ok_writes) or trial.acked
    return "never came back" if seen else "no successful write"


def why_no_reads(trial: Trial) -> str:
    """Why a trial has no read outage."""
    seen = any(p.read.count for p in trial.phases) or any(trial.timeline.ok_reads)
    return "never came back" if seen else "no successful read"


def spread_of(values: Iterable[float | None]) -> Spread | None:
    """Median, lowest and highest of the values that exist."""
    known = [v for v in values if v is not None]
    if not known:
        return None
    return Spread(median=statistics.median(known), low=min(known), high=max(known))


def summary_rows(result: DrillResult) -> tuple[SummaryRow, ...]:
    """One row a store, in the order of the run."""
    return tuple(_row(store) for store in result.stores.values())


def verdict_words(verdict: DrillVerdict) -> str:
    """A verdict as it is shown."""
    return verdict.value.upper()


def _row(store: StoreResult) -> SummaryRow:
    trials = store.trials
    lag = max((t.harness_lag_ms for t in trials), default=None)
    return SummaryRow(
        store=STORE_TITLES[store.store],
        verdict=verdict_words(store.verdict),
        trials=format_count(len(trials)),
        write_outage=_outage(
            store.write_outage_ms, [t.write_outage_ms for t in trials], _why(trials, "write")
        ),
        read_outage=_outage(store.read_outage_ms, [t.read_outage_ms for t in trials], _why(trials, "read")),
        detected=_over_trials([t.detected_ms for t in trials], "not seen"),
        promoted=_over_trials([t.promoted_ms for t in trials], "no role moved"),
        acked=format_count(store.acked),
        lost=format_count(store.lost),
        unknown=format_count(sum(t.unknown for t in trials)),
        appeared=format_count(sum(t.appeared for t in trials)),
        p99=_p99(trials),
        harness_lag=format_ms(lag) if lag is not None else missing("no trial"),
    )


def _why(trials: Sequence[Trial], what: str) -> str:
    if what == "write":
        words = {why_no_writes(t) for t in trials if t.write_outage_ms is None}
    else:
        words = {why_no_reads(t) for t in trials if t.read_outage_ms is None}
    return words.pop() if len(words) == 1 else "never came back"


def _outage(spread: Spread | None, values: Sequence[float | None], words: str) -> str:
    # The store's own spread is the measured truth; the trials only say how many lack the figure.
    return _with_missing(spread or spread_of(values), values, words)


def _over_trials(values: Sequence[float | None], words: str) -> str:
    return _with_missing(spread_of(values), values, words)


def _with_missing(spread: Spread | None, values: Sequence[float | None], words: str) -> str:
    lacking = sum(v is None for v in values)
    if spread is None:
        return missing(words if values else "no trial")
    text = format_spread(spread)
    # Beside a figure there is little room, and the reason in full stands with the trial.
    short = _SHORT_WORDS.get(words, "without")
    return f"{text}, {lacking} of {len(values)} {short}" if lacking else text


def _p99(trials: Sequence[Trial]) -> str:
    if not trials:
        return missing("no trial")
    figures = []
    for name in PHASES:
        latencies: list[Latency] = [p.write for t in trials for p in t.phases if p.name == name]
        spread = spread_of(latency.p99_ms for latency in latencies)
        figures.append(format_ms(spread.median if spread else None))
    return f" {ARROW} ".join(figures)


def _scaled(ms: float) -> tuple[str, str]:
    # Limits lie half a last digit below the round number, so that 999.7 becomes "1.00 s", not "1000 ms".
    if ms == 0:
        return "0", "ms"
    if ms < 0.005:
        return "<0.01", "ms"
    if ms < 0.995:
        return f"{ms:.2f}", "ms"
    if ms < 9.95:
        return f"{ms:.1f}", "ms"
    if ms < 999.5:
        return f"{ms:.0f}", "ms"
    if ms < 9_995:
        return f"{ms / 1000:.2f}", "s"
    if ms < 59_950:
        return f"{ms / 1000:.1f}", "s"
    seconds = round(ms / 1000)
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02}", "s"
    return f"{seconds // 3600:,} h {seconds % 3600 // 60:02}", "min"

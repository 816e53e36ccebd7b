"""Which backups stay: by number, by age, and one a day, week, month and year (grandfather, father, son).

Decided here, done in `prune`. The rules are united: a backup that any of them keeps, stays. The newest of each
cluster always does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from haops.errors import BadInput


@dataclass(frozen=True, slots=True)
class Rules:
    """What to keep, for each cluster.

    Args:
        last: That many of the newest.
        within: Those younger than this.
        daily: The newest of each of the last so many days (UTC) that have a backup; likewise the others.
        weekly: ISO weeks, from Monday on.
    """

    last: int = 0
    within: timedelta | None = None
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0

    def __post_init__(self) -> None:
        counts = (self.last, self.daily, self.weekly, self.monthly, self.yearly)
        if min(counts) < 0 or (self.within is None and not any(counts)):
            raise BadInput(
                "no rule says what to keep",
                hint="such as --keep-last 3, --keep-within 30d, --keep-daily 7 --keep-weekly 4 --keep-monthly 12",
            )


@dataclass(frozen=True, slots=True)
class Point:
    """A complete backup, as far as the rules look at it.

    Args:
        series: Whose it is; each series is decided by itself.
        held: Why it stays, whatever the rules say; empty where nothing holds it.
    """

    id: str
    series: tuple[str, str]
    created: datetime
    held: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What stays, with the reasons, and what goes; the newest first."""

    keep: Mapping[str, tuple[str, ...]]
    forget: tuple[str, ...]


_PERIODS: Final[tuple[tuple[str, Callable[[datetime], tuple[int, ...]]], ...]] = (
    ("daily", lambda d: (d.year, d.month, d.day)),
    ("weekly", lambda d: d.isocalendar()[:2]),
    ("monthly", lambda d: (d.year, d.month)),
    ("yearly", lambda d: (d.year,)),
)


def decide(points: Iterable[Point], rules: Rules, now: datetime) -> Decision:
    """What the rules keep of these backups."""
    series: dict[tuple[str, str], list[Point]] = {}
    for point in sorted(points, key=lambda p: (p.created, p.id), reverse=True):
        series.setdefault(point.series, []).append(point)
    keep: dict[str, tuple[str, ...]] = {}
    for found in series.values():
        keep |= _keep(found, rules, now)
    forget = [p for found in series.values() for p in found if p.id not in keep]
    return Decision(keep, tuple(p.id for p in sorted(forget, key=lambda p: (p.created, p.id), reverse=True)))


def _keep(newest_first: Sequence[Point], rules: Rules, now: datetime) -> Mapping[str, tuple[str, ...]]:
    reasons: dict[str, list[str]] = {}

    def because(point: Point, reason: str) -> None:
        reasons.setdefault(point.id, []).append(reason)

    for point in newest_first:
        for reason in point.held:
            because(point, reason)
    because(newest_first[0], "newest")
    for point in newest_first[: rules.last]:
        because(point, "last")
    for point in newest_first:
        if rules.within is not None and now - point.created <= rules.within:
            because(point, "within")
    for name, period in _PERIODS:
        newest_of: dict[tuple[int, ...], Point] = {}
        for point in newest_first:
            newest_of.setdefault(period(point.created.astimezone(UTC)), point)
        for point in list(newest_of.values())[: getattr(rules, name)]:
            because(point, name)
    return {name: tuple(words) for name, words in reasons.items()}

"""What operators have told a guard: pauses and maintenance windows, in a file that it reads every second."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final

from haops.cluster.state import write_atomic
from haops.errors import BadInput, StateDamaged

_NAME: Final = "guard.json"
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WINDOW: Final = re.compile(r"(?:(\w{3})\s+)?(\d{2}):(\d{2})-(\d{2}):(\d{2})")
_EXAMPLE: Final = "write 'HH:MM-HH:MM' or 'Sun HH:MM-HH:MM', in UTC, for instance 'Sun 02:00-04:00'"


@dataclass(frozen=True, slots=True)
class Window:
    """A time of maintenance, every day or on one day of the week; it may pass midnight. UTC."""

    begin: time
    end: time
    day: int | None = None

    def covers(self, moment: datetime) -> bool:
        """Whether `moment` lies in it."""
        at = moment.astimezone(UTC)
        clock = at.time()
        if self.begin <= self.end:
            return self._on(at) and self.begin <= clock < self.end
        return (self._on(at) and clock >= self.begin) or (
            self._on(at - timedelta(days=1)) and clock < self.end
        )

    def _on(self, moment: datetime) -> bool:
        return self.day is None or moment.weekday() == self.day

    def __str__(self) -> str:
        span = f"{self.begin:%H:%M}-{self.end:%H:%M}"
        return span if self.day is None else f"{_DAYS[self.day]} {span}"


def parse_window(text: str) -> Window:
    """Read 'HH:MM-HH:MM' or 'Sun HH:MM-HH:MM', in UTC.

    Raises:
        BadInput: The text is no window.
    """
    match = _WINDOW.fullmatch(text.strip())
    if match is None:
        raise BadInput(f"{text!r} is not a maintenance window", hint=_EXAMPLE)
    day, *numbers = match.groups()
    hours = [int(n) for n in numbers]
    try:
        begin, end = time(hours[0], hours[1]), time(hours[2], hours[3])
        number = None if day is None else _DAYS.index(day.capitalize())
    except ValueError:
        raise BadInput(f"{text!r} is not a maintenance window", hint=_EXAMPLE) from None
    if begin == end:
        raise BadInput(f"the window {text!r} is empty", hint=_EXAMPLE)
    return Window(begin, end, number)


@dataclass(frozen=True, slots=True)
class Orders:
    """What a guard may do.

    Args:
        paused: Whether it must not act.
        until: When the pause ends by itself (UTC); None is only by `resume`.
        windows: Times at which it must not act.
    """

    paused: bool = False
    until: datetime | None = None
    windows: tuple[Window, ...] = ()

    def against(self, moment: datetime) -> str | None:
        """Why it must not act at `moment`; None if it may."""
        if self.paused and (self.until is None or moment < self.until):
            return "paused" + (f" until {self.until.isoformat(timespec='seconds')}" if self.until else "")
        for window in self.windows:
            if window.covers(moment):
                return f"maintenance window {window}"
        return None


class OrderFile:
    """One cluster's orders."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME

    def read(self) -> Orders:
        """The orders; none if there is no file.

        Raises:
            StateDamaged: The file cannot be read.
        """
        if not self._path.is_file():
            return Orders()
        try:
            document = json.loads(self._path.read_text(encoding="utf-8"))
            until = document["until"]
            return Orders(
                paused=bool(document["paused"]),
                until=datetime.fromisoformat(until) if until else None,
                windows=tuple(parse_window(w) for w in document["windows"]),
            )
        except json.JSONDecodeError as error:
            raise self._damaged(f"{error.lineno}:{error.colno}", error.msg) from error
        except (KeyError, TypeError, ValueError, BadInput, OSError) as error:
            raise self._damaged("1:1", str(error)) from error

    def _damaged(self, at: str, what: str) -> StateDamaged:
        return StateDamaged(f"{self._path}:{at}: {what}", hint=f"remove it: {self._path}")

    def pause(self, until: datetime | None) -> Orders:
        """Let guards of the cluster not act, until a moment or until `resume`."""
        return self._write(replace(self.read(), paused=True, until=until))

    def resume(self) -> Orders:
        """End a pause."""
        return self._write(replace(self.read(), paused=False, until=None))

    def windows(self, windows: tuple[Window, ...]) -> Orders:
        """Replace the maintenance windows."""
        return self._write(replace(self.read(), windows=windows))

    def _write(self, orders: Orders) -> Orders:
        document: dict[str, Any] = asdict(orders)
        document["until"] = orders.until.isoformat() if orders.until else None
        document["windows"] = [str(w) for w in orders.windows]
        write_atomic(self._path, json.dumps(document, indent=2) + "\n")
        return orders

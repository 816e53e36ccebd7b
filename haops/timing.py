"""Durations as people write them: 300ms, 5s, 2m, 1h30m, 2d."""

from __future__ import annotations

import re
from datetime import timedelta

from haops.errors import BadInput

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def parse_duration(text: str) -> timedelta:
    """Read a duration; a unit is required.

    Raises:
        BadInput: The text is not a duration greater than zero.
    """
    compact = text.strip().lower().replace(" ", "")
    parts = _PART.findall(compact)
    if parts and "".join(number + unit for number, unit in parts) == compact:
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        try:
            if duration := timedelta(seconds=seconds):
                return duration
        except OverflowError:
            pass
    raise BadInput(f"{text!r} is not a duration", hint="write for instance 300ms, 5s, 2m or 1h30m")

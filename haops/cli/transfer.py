"""What moves, shown while it moves: how much, how fast, how much longer; on stderr."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from haops.cli.output import plain

if TYPE_CHECKING:
    from haops.backup.restore import Progress
    from haops.compare.repair import Tally

# The log of an hour-long backup stays readable at one line in two seconds.
_LINE_S: Final = 2.0
_DRAW_S: Final = 0.1
_UNITS: Final = ("B", "KB", "MB", "GB", "TB")
_STEP: Final = 1024


class Display:
    """A bar on a terminal, a line now and then elsewhere; for one who moves one thing after the other."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Bars(TextColumn("{task.description}"), BarColumn(), console=console, transient=True)
        self._task: TaskID | None = None
        self._said_s = time.monotonic()

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def show(self, words: str, done: int, total: int | None) -> None:
        """Take a step forward."""
        now = time.monotonic()
        if now - self._said_s < (_DRAW_S if self._console.is_terminal else _LINE_S):
            return
        self._said_s = now
        if not self._console.is_terminal:
            self._console.print(words, markup=False, soft_wrap=True)
            return
        if self._task is None:
            self._task = self._bars.add_task("", total=None)
        self._bars.update(self._task, description=plain(words), completed=done, total=total)


class TransferDisplay(Display):
    """A backup's bytes."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._began_s = time.monotonic()

    def __enter__(self) -> TransferDisplay:
        super().__enter__()
        return self

    def step(self, part: str, done: int, total: int | None) -> None:
        """So many bytes of all have been read, the last of them of `part`."""
        self.show(transfer_words(part, done, total, time.monotonic() - self._began_s), done, total)


class StageDisplay(Display):
    """A restore's stages."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._began: dict[str, tuple[float, int]] = {}

    def __enter__(self) -> StageDisplay:
        super().__enter__()
        return self

    def __call__(self, progress: Progress) -> None:
        """Take a step forward; what an earlier process had done is no part of the rate."""
        now = time.monotonic()
        began_s, before = self._began.setdefault(progress.stage.name, (now, progress.done))
        self.show(stage_words(progress, now - began_s, before), progress.done, progress.stage.total)


class KeysDisplay(Display):
    """A repair's keys; it remembers how many are done."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.done = 0

    def __enter__(self) -> KeysDisplay:
        super().__enter__()
        return self

    def step(self, tally: Tally, of: int) -> None:
        """Take a step forward."""
        self.done = tally.done
        self.show(f"{tally.done:,} of {of:,} keys: {tally}", tally.done, of)


def size_words(size: float) -> str:
    """Bytes in a unit of their size, powers of 1024; pure."""
    number, unit = float(size), _UNITS[0]
    for unit in _UNITS:
        if number < _STEP or unit == _UNITS[-1]:
            break
        number /= _STEP
    return f"{number:.0f} {unit}" if unit == _UNITS[0] else f"{number:.1f} {unit}"


def transfer_words(part: str, done: int, total: int | None, seconds: float) -> str:
    """So many bytes after so many seconds, with what follows from that; pure."""
    words = f"{part}: {size_words(done)}" + (f" of {size_words(total)}" if total is not None else "")
    rate = done / seconds if seconds > 0 else 0.0
    if not rate:
        return words
    words = f"{words}, {size_words(rate)}/s"
    return f"{words}, {max(total - done, 0) / rate:.0f} s left" if total is not None else words


def stage_words(progress: Progress, seconds: float, before: int) -> str:
    """A stage after so many seconds; pure.

    Args:
        before: Units that were done when the seconds began.
    """
    stage = progress.stage
    in_bytes = stage.unit == "bytes"
    if in_bytes:
        words = f"{stage.text}: {size_words(progress.done)} of {size_words(stage.total)}"
    else:
        words = f"{stage.text}: {progress.done:,} of {stage.total:,} {stage.unit}"
    rate = (progress.done - before) / seconds if seconds > 0 else 0.0
    if not rate:
        return words
    speed = f"{size_words(rate)}/s" if in_bytes else f"{rate:,.0f}/s"
    return f"{words}, {speed}, {max(stage.total - progress.done, 0) / rate:.0f} s left"

from __future__ import annotations

import io

import pytest
from rich.console import Console

from haops.backup.restore import Progress
from haops.cli import transfer
from haops.cli.transfer import StageDisplay, TransferDisplay, stage_words
from haops.stores.backup import Stage

KEYS = Stage("load", "writes the keys", 1000, "keys")
BYTES = Stage("dump", "sends the [dump]", 4096, "bytes")


@pytest.mark.parametrize(
    ("progress", "seconds", "before", "words"),
    [
        (Progress(KEYS, 0), 0.0, 0, "writes the keys: 0 of 1,000 keys"),
        (Progress(KEYS, 500), 2.0, 0, "writes the keys: 500 of 1,000 keys, 250/s, 2 s left"),
        # What an earlier process had done is no part of the rate.
        (Progress(KEYS, 600), 1.0, 500, "writes the keys: 600 of 1,000 keys, 100/s, 4 s left"),
        (Progress(BYTES, 2048), 1.0, 0, "sends the [dump]: 2.0 KB of 4.0 KB, 2.0 KB/s, 1 s left"),
        (Progress(KEYS, 1200), 1.0, 0, "writes the keys: 1,200 of 1,000 keys, 1,200/s, 0 s left"),
    ],
)
def test_a_stage_tells_how_far_how_fast_and_how_much_longer(
    progress: Progress, seconds: float, before: int, words: str
) -> None:
    assert stage_words(progress, seconds, before) == words


def test_without_a_terminal_lines_are_few_and_without_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(transfer.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    with StageDisplay(Console(file=out)) as display:
        for step in range(100):
            now[0] = step / 10
            display(Progress(BYTES, step * 40))
    lines = out.getvalue().splitlines()
    assert len(lines) == 4
    assert all(line.startswith("sends the [dump]: ") and "\x1b" not in line for line in lines)


def test_on_a_terminal_a_bar_is_drawn_and_brackets_stay_what_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfer, "_DRAW_S", 0.0)
    out = io.StringIO()
    with TransferDisplay(Console(file=out, force_terminal=True, width=120)) as display:
        display.step("a[b]c", 1, None)
        display.step("a[b]c", 1024, 2048)
    assert "a[b]c: " in out.getvalue()

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.errors import EnvironmentTrouble
from haops.faults.ledger import Ledger, OpenFault

words = st.text(max_size=15)


def test_a_ledger_without_a_file_has_no_faults(tmp_path: Path) -> None:
    assert Ledger(tmp_path / "nowhere").open_faults() == ()


def test_a_registered_fault_is_open_until_it_is_struck(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "redis")
    first = ledger.register("redis-1", "kill", "start", "run-1")
    second = ledger.register("redis-2", "kill", "start", "run-1")
    assert Ledger(tmp_path / "redis").open_faults() == (first, second)
    ledger.strike(first)
    assert ledger.open_faults() == (second,)
    ledger.strike(second)
    assert ledger.open_faults() == ()
    assert not (tmp_path / "redis" / "ledger.jsonl").exists()


def test_striking_twice_and_clearing_twice_is_fine(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    fault = ledger.register("redis-1", "kill", "start", "run-1")
    ledger.strike(fault)
    ledger.strike(fault)
    ledger.register("redis-1", "kill", "start", "run-2")
    ledger.clear()
    ledger.clear()
    assert ledger.open_faults() == ()


@given(faults=st.lists(st.tuples(words, words, words, words), max_size=6))
def test_every_fault_is_read_back_as_it_was_registered(
    faults: list[tuple[str, str, str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("ledger"))
    registered = tuple(ledger.register(*fault) for fault in faults)
    assert ledger.open_faults() == registered
    assert [(f.node, f.kind, f.undo, f.run) for f in registered] == faults


@given(cut=st.integers(1, 60))
def test_a_cut_off_last_line_is_passed_over(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    ledger = Ledger(folder)
    whole = ledger.register("redis-1", "kill", "start", "run-1")
    ledger.register("redis-2", "kill", "start", "run-1")
    path = folder / "ledger.jsonl"
    path.write_bytes(path.read_bytes()[: -1 - cut])
    assert ledger.open_faults() == (whole,)


@pytest.mark.parametrize("line", ["", "5", "[]", "null", '{"node": "a"}', '{"odd": 1}', "\x00\x00"])
def test_a_line_that_is_no_fault_is_passed_over(tmp_path: Path, line: str) -> None:
    (tmp_path / "ledger.jsonl").write_text(line + "\n")
    assert Ledger(tmp_path).open_faults() == ()


def test_a_fault_registered_after_a_cut_off_line_is_open(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_text('{"node": "redis-1", "ki')
    ledger = Ledger(tmp_path)
    fault = ledger.register("redis-2", "kill", "start", "run-2")
    assert fault in ledger.open_faults()


def test_a_full_disk_is_trouble_of_the_environment_and_keeps_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path)
    before = ledger.register("redis-1", "kill", "start", "run-1")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentTrouble):
        ledger.register("redis-2", "kill", "start", "run-1")
    assert ledger.open_faults() == (before,)


def test_an_entry_says_all_that_healing_needs(tmp_path: Path) -> None:
    fault = Ledger(tmp_path).register("redis-1", "kill", "start", "run-1")
    assert fault == OpenFault("redis-1", "kill", "start", "run-1", fault.at)
    assert fault.at.endswith("+00:00")

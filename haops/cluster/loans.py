"""Loans: settings that haops changes in a server for a while, written down before they are changed.

If the process that borrowed is killed, the record still says what each server had;
`haops heal` gives it back.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from haops.cluster.state import write_atomic

_NAME = "loans.jsonl"


@dataclass(frozen=True, slots=True)
class Loan:
    """One borrowed setting.

    Args:
        node: The server it was changed in.
        setting: Its name, as the store's `give_back` understands it.
        was: What it must be set to again.
    """

    node: str
    setting: str
    was: str


class Loans:
    """One cluster's open loans, a JSON object a line."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME

    def open(self) -> tuple[Loan, ...]:
        """What is borrowed right now; a line that cannot be read is passed over."""
        if not self._path.is_file():
            return ()
        found = []
        for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(json.JSONDecodeError, TypeError):
                found.append(Loan(**json.loads(line)))
        return tuple(found)

    def take(self, loan: Loan) -> None:
        """Write a loan down before the setting is changed; what was borrowed first is what goes back."""
        with self._alone():
            known = self.open()
            if not any((k.node, k.setting) == (loan.node, loan.setting) for k in known):
                self._write([*known, loan])

    def strike(self, loan: Loan) -> None:
        """Forget a loan after it was given back."""
        with self._alone():
            self._write([k for k in self.open() if (k.node, k.setting) != (loan.node, loan.setting)])

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """A backup and a restore may borrow at the same time: neither may write over the other's loan."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _write(self, loans: Sequence[Loan]) -> None:
        if loans:
            write_atomic(self._path, "".join(json.dumps(asdict(k)) + "\n" for k in loans))
        else:
            self._path.unlink(missing_ok=True)

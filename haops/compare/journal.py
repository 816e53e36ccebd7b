"""A repair in the journal of the cluster that it changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from haops.cluster.spec import Cluster
from haops.control.execute import operator
from haops.control.journal import Journal, Outcome
from haops.control.lifecycle import Lifecycle
from haops.stores.plan import Operation, Plan, Step


@dataclass(frozen=True, slots=True)
class Work:
    """What a repair is to do.

    Args:
        cluster: The one that is changed.
        truth: Which side or node is right.
        text: What is done, in words.
        risk: What can be lost by it, in words.
        reason: The operator's.
    """

    cluster: Cluster
    truth: str
    text: str
    risk: str
    reason: str


@dataclass(slots=True)
class Note:
    """What came of it so far, in words."""

    words: str = ""


@contextmanager
def journaled(haops: Lifecycle, work: Work) -> Iterator[Note]:
    """Write a repair down when it has ended, however it has: of one that was cut off nothing is left to be finished."""
    note = Note()
    try:
        yield note
    except BaseException as error:
        trouble = (
            "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
        )
        _write(haops, work, "; ".join(filter(None, (note.words, trouble))), Outcome.FAILED)
        raise
    _write(haops, work, note.words, Outcome.DONE)


def _write(haops: Lifecycle, work: Work, note: str, outcome: Outcome) -> None:
    step = Step("repair", None, work.text)
    plan = Plan(work.cluster.name, Operation.REPAIR, work.truth, None, (step,), work.risk)
    entry = Journal(haops.state.cluster_dir(work.cluster.name)).begin(plan, operator(), work.reason)
    entry.end(outcome, note)

"""A disaster drill's result as JUnit XML: a suite with a case for each store.

As in `junit.py`, a store that failed is a `<failure>` and one that could not tell an `<error>`.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Final

from haops.drills.disaster_result import DisasterResult, DisasterTrial
from haops.drills.result import DrillVerdict, combine
from haops.report.junit import add_counts, add_outcome, add_properties, clean, document, timestamp

_FIGURES: Final = (
    "recovery_time_s", "destroy_s", "rebuild_s", "restore_s", "backup_s", "bytes", "p_loss", "p_recovered",
)  # fmt: skip
_SURVIVAL: Final = ("acked", "acked_before", "lost", "lost_before", "recovery_point_s", "unknown")


def render(result: DisasterResult) -> str:
    """The XML text; figures are properties (`*_s` in seconds).

    A store that was in trouble, an interruption and a run without any store have cases of their
    own, so that the build never turns green by having no cases.
    """
    root = ET.Element("testsuites", name=clean(result.title))
    for trial in result.stores:
        root.append(_suite(result, trial))
    doubts = list(_doubts(result))
    if doubts:
        suite = ET.SubElement(root, "testsuite", name="run", timestamp=timestamp(result.started))
        for name, verdict, words in doubts:
            add_outcome(_case(suite, f"haops.{result.playbook}", name, 0.0), verdict, (words,))
        add_counts(suite, 0.0, suite.iter("testcase"))
    return document(root, (result.finished - result.started).total_seconds())


def _suite(result: DisasterResult, trial: DisasterTrial) -> ET.Element:
    store = trial.store.value
    suite = ET.Element("testsuite", name=store, timestamp=timestamp(result.started))
    about = {
        "playbook": result.playbook,
        "run": result.run,
        "haops": result.haops,
        "seed": result.seed,
        "cluster": trial.cluster,
        "mode": trial.mode,
        "version": trial.version,
        "nodes": trial.nodes,
        "backup": trial.backup,
        "verdict": trial.verdict.value,
    }
    add_properties(suite, about.items())
    seconds = (trial.marks.restored - trial.marks.start) / 1e9
    case = _case(suite, f"haops.{result.playbook}.{store}", "restore after a disaster", seconds)
    add_properties(case, _figures(trial))
    add_outcome(case, trial.verdict, trial.reasons)
    add_counts(suite, seconds, suite.iter("testcase"))
    return suite


def _figures(trial: DisasterTrial) -> Iterator[tuple[str, object]]:
    for name in _FIGURES:
        # Shares are near 1 where it matters: three decimals would make 0.9999 a 1.
        value = getattr(trial, name)
        yield name, f"{value:.9g}" if name.startswith("p_") else value
    yield from ((name, getattr(trial.survival, name)) for name in _SURVIVAL)
    yield "compared_records", trial.proof.records
    yield "compared_differences", trial.proof.differences
    yield "compared_untold", trial.proof.untold


def _doubts(result: DisasterResult) -> Iterator[tuple[str, DrillVerdict, str]]:
    """Name, verdict and reason of what no store stands for."""
    for number, trouble in enumerate(result.troubles, start=1):
        yield f"trouble {number}", DrillVerdict.UNKNOWN, trouble
    if result.interrupted:
        words = "the run was interrupted; stores that were not run are missing"
        yield "interrupted", DrillVerdict.UNKNOWN, words
    if result.troubles or result.interrupted:
        return
    if not result.stores:
        yield "run", DrillVerdict.UNKNOWN, "no store was run"
    elif result.verdict is not combine([t.verdict for t in result.stores]):
        yield "run", result.verdict, f"the run's verdict is {result.verdict.value}"


def _case(suite: ET.Element, classname: str, name: str, seconds: float) -> ET.Element:
    case = ET.SubElement(suite, "testcase", classname=clean(classname), name=name)
    case.set("time", f"{seconds:.3f}")
    return case

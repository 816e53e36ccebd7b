"""A drill's result as JUnit XML, which every CI system shows.

A trial that failed is a `<failure>`.  One that could not tell is an `<error>`:
CI systems keep "the test says no" and "the test could not run" apart in just
that way, and a `<skipped>` would turn the build green although nothing was shown.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from datetime import datetime

from haops.drills.result import DrillResult, DrillVerdict, StoreResult, Trial, combine
from haops.report.text import as_utc, printable

_FIGURES = (
    "write_outage_ms",
    "read_outage_ms",
    "write_recovery_ms",
    "read_recovery_ms",
    "worst_client_outage_ms",
    "detected_ms",
    "promoted_ms",
    "acked",
    "lost",
    "unknown",
    "appeared",
    "failed",
    "stale_reads",
    "harness_lag_ms",
    "offered_ops",
    "sent_ops",
)


def render(result: DrillResult) -> str:
    """The XML text: a test suite a store, a test case a trial, figures as properties (`*_ms` in ms).

    What no trial stands for gets a case of its own, so that the build never
    turns green by having no cases: a store without trials or with a verdict of
    its own, and a run that was interrupted or had no store.
    """
    root = ET.Element("testsuites", name=clean(result.title))
    for store in result.stores.values():
        root.append(_suite(result, store))
    run = _run_suite(result)
    if run is not None:
        root.append(run)
    return document(root, (result.finished - result.started).total_seconds())


def _suite(result: DrillResult, store: StoreResult) -> ET.Element:
    suite = ET.Element("testsuite", name=store.store.value, timestamp=timestamp(result.started))
    about = {
        "playbook": result.playbook,
        "run": result.run,
        "haops": result.haops,
        "seed": result.seed,
        "rate": result.rate or "of the playbook",
        "cluster": store.cluster,
        "mode": store.mode,
        "version": store.version,
        "nodes": store.nodes,
        "verdict": store.verdict.value,
    }
    add_properties(suite, about.items())
    classname = f"haops.{result.playbook}.{store.store.value}"
    for trial in store.trials:
        case = ET.SubElement(suite, "testcase", classname=clean(classname), name=clean(_name(trial)))
        case.set("time", f"{duration_s(trial):.3f}")
        add_properties(case, ((name, getattr(trial, name)) for name in _FIGURES))
        add_outcome(case, trial.verdict, trial.reasons)
    if not store.trials or store.verdict != combine([t.verdict for t in store.trials]):
        case = ET.SubElement(suite, "testcase", classname=clean(classname), name="all trials", time="0.000")
        add_outcome(case, store.verdict, store.reasons or (("no trial was run",) if not store.trials else ()))
    add_counts(suite, sum(duration_s(t) for t in store.trials), suite.iter("testcase"))
    return suite


def _run_suite(result: DrillResult) -> ET.Element | None:
    """A suite for what concerns the run itself; None where the stores say it all."""
    if result.interrupted:
        verdict, reason = (
            DrillVerdict.UNKNOWN,
            "the run was interrupted; trials that were not run are missing",
        )
    elif not result.stores:
        verdict, reason = result.verdict, "no store was run"
    elif result.verdict != combine([s.verdict for s in result.stores.values()]):
        verdict, reason = result.verdict, f"the run's verdict is {result.verdict.value}"
    else:
        return None
    suite = ET.Element("testsuite", name="run", timestamp=timestamp(result.started))
    case = ET.SubElement(
        suite, "testcase", classname=clean(f"haops.{result.playbook}"), name="run", time="0.000"
    )
    add_outcome(case, verdict, (reason,))
    add_counts(suite, 0.0, suite.iter("testcase"))
    return suite


def duration_s(trial: Trial) -> float:
    """How long a trial's load ran, in seconds, by the latest moment that it has a figure for."""
    line = trial.timeline
    ends = [p.end_s for p in trial.phases] + [e.at_s for e in trial.events]
    return max([line.bucket_s * len(line.ok_writes), *ends, 0.0])


def _name(trial: Trial) -> str:
    return f"trial {trial.number}: fault on {trial.node}"


def document(root: ET.Element, seconds: float) -> str:
    """The whole XML text of `<testsuites>`, with its counts."""
    add_counts(root, seconds, root.iter("testcase"))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def add_outcome(case: ET.Element, verdict: DrillVerdict, reasons: tuple[str, ...]) -> None:
    """What a case that is no pass says of itself."""
    if verdict is DrillVerdict.PASS:
        return
    tag = "failure" if verdict is DrillVerdict.FAIL else "error"
    words = [clean(r) for r in reasons] or ["no reason was given"]
    ET.SubElement(case, tag, type=verdict.value, message="; ".join(words)).text = "\n".join(words)


def add_properties(parent: ET.Element, values: Iterable[tuple[str, object]]) -> None:
    """Figures and words by name; None is left out."""
    holder = ET.SubElement(parent, "properties")
    for name, value in values:
        # A figure that does not exist has no property: an empty or zero one would be drawn as 0.
        if value is not None:
            text = f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
            ET.SubElement(holder, "property", name=name, value=clean(text))


def add_counts(element: ET.Element, seconds: float, cases: Iterable[ET.Element]) -> None:
    """How many of the cases there are, failed and could not tell, and how long they took together."""
    tests = list(cases)
    element.set("tests", str(len(tests)))
    element.set("failures", str(sum(t.find("failure") is not None for t in tests)))
    element.set("errors", str(sum(t.find("error") is not None for t in tests)))
    element.set("skipped", "0")
    element.set("time", f"{seconds:.3f}")


def timestamp(moment: datetime) -> str:
    """A moment as JUnit has it: UTC without saying so, to the second."""
    return as_utc(moment).replace(tzinfo=None).isoformat(timespec="seconds")


def clean(text: str) -> str:
    """Words that XML can hold."""
    return printable(text)

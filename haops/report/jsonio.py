"""`result.json`: a drill's result as JSON text, and back.

The keys are the field names of `DrillResult` and its parts, in the order in
which `haops/drills/result.py` declares them:

- the run: version, run, playbook, title, description, started, finished, haops,
  seed, rate, interrupted, verdict, stores (by store name, in the order of the run);
- a store: store, cluster, mode, version, nodes, verdict, reasons, budget,
  write_outage_ms, read_outage_ms (each median, low, high), lost, acked, trials;
- a budget: write_outage_ms, read_outage_ms, lost, harness_lag_ms;
- a trial: number, node, verdict, reasons, the figures (`*_ms` in ms, `*_ops` a
  second, counts), lost_ids, phases, events, timeline, errors (by class, sorted);
- a phase: name, start_s, end_s, write, read (each count, p50_ms, p99_ms, p999_ms);
- an event: at_s, kind, node, source, text;
- a timeline: bucket_s, ok_writes, ok_reads, failed, p99_ms.

Times are ISO 8601 in UTC, verdicts and stores their lower-case names, a figure
that does not exist is null.  Unknown keys are ignored, so that a later haops
may add some without a new version.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from haops.drills.result import RESULT_VERSION, DrillResult, StoreResult, Trial
from haops.report.json_file import JsonFile
from haops.report.text import as_utc

_FILE: Final = JsonFile(
    DrillResult,
    RESULT_VERSION,
    "a drill's result",
    "give the result.json of a run, as `haops drill` wrote it",
)


def dump(result: DrillResult) -> str:
    """The text of `result.json`; the same result always gives the same text.

    Raises:
        ValueError: A figure is not a finite number, which is a bug of whoever measured it.
    """
    return _FILE.dump(_ordered(result))


def load(text: str, origin: str) -> DrillResult:
    """Read what `dump` wrote.

    Args:
        text: The file's content.
        origin: Its name, for error messages.

    Raises:
        BadInput: It is no JSON, of another version, or not a drill's result.
    """
    return _FILE.load(text, origin)


def _ordered(result: DrillResult) -> DrillResult:
    stores = {name: _ordered_store(store) for name, store in result.stores.items()}
    return replace(result, started=as_utc(result.started), finished=as_utc(result.finished), stores=stores)


def _ordered_store(store: StoreResult) -> StoreResult:
    def sort(trial: Trial) -> Trial:
        return replace(trial, errors=dict(sorted(trial.errors.items())))

    return replace(store, trials=tuple(sort(t) for t in store.trials))

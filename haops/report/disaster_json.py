"""A disaster drill's `result.json`: the result as JSON text, and back.

The keys are the field names of `DisasterResult` and its parts, in the order in
which `haops/drills/disaster_result.py` declares them:

- the run: version, run, playbook, title, started, finished, haops, seed, interrupted,
  verdict, stores (a list, in the order of the run), troubles;
- a store: store, cluster, mode, version, nodes, verdict, reasons, budget, backup (its id),
  bytes, the durations (`*_s` in seconds), survival, p_loss and p_recovered (0 to 1), proof, marks;
- a budget: recovery_time_s, recovery_point_s;
- a survival: acked, acked_before, lost, lost_before, lost_ids, recovery_point_s, unknown, during;
- a proof: records, differences, examples, trouble, untold, copies;
- marks: start, backup, backed_up, struck, destroyed, stands, restored, in ns of a clock whose
  zero means nothing.

Its `stores` are a list, those of other drills an object, so neither is taken for the other.
Times are ISO 8601 in UTC, a limit that does not exist is null. Unknown keys are ignored,
so that a later haops may add some without a new version.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from haops.drills.disaster_result import DISASTER_VERSION, DisasterResult
from haops.report.json_file import JsonFile
from haops.report.text import as_utc

_FILE: Final = JsonFile(
    DisasterResult,
    DISASTER_VERSION,
    "a disaster drill's result",
    "give the result.json of a run, as `haops drill run` of a disaster wrote it",
)


def dump(result: DisasterResult) -> str:
    """The text of `result.json`; the same result always gives the same text.

    Raises:
        ValueError: A figure is not a finite number, which is a bug of whoever measured it.
    """
    ordered = replace(result, started=as_utc(result.started), finished=as_utc(result.finished))
    return _FILE.dump(ordered)


def load(text: str, origin: str) -> DisasterResult:
    """Read what `dump` wrote.

    Args:
        text: The file's content.
        origin: Its name, for error messages.

    Raises:
        BadInput: It is no JSON, of another version, or not a disaster drill's result.
    """
    return _FILE.load(text, origin)
